// Invariants: the key appears in no text but that of its request header; a key that cannot stand in a header is refused when it is read.

namespace Mem1.Environments.Web;

/// <summary>A secret from an environment variable. It prints as the variable's name.</summary>
public sealed class ApiKey
{
    private ApiKey(string variable, string value)
    {
        Variable = variable;
        Value = value;
    }

    /// <summary>Name of the environment variable it came from.</summary>
    public string Variable { get; }

    /// <summary>The secret itself.</summary>
    internal string Value { get; }

    /// <summary>Reads a key.</summary>
    /// <param name="variable">Name of the environment variable.</param>
    /// <param name="problem">What is wrong when null is returned: one sentence that names the variable.</param>
    public static ApiKey? Read(string variable, out string? problem)
    {
        string value = Environment.GetEnvironmentVariable(variable)?.Trim() ?? "";
        problem = value.Length == 0
            ? $"The environment variable {variable} is empty; put the key of the search service there."
            : value.All(c => c is > ' ' and <= '~')
                ? null
                : $"The environment variable {variable} holds characters that no key has; put the key of the search service there.";
        return problem is null ? new ApiKey(variable, value) : null;
    }

    /// <summary>The variable's name, never the key.</summary>
    public override string ToString() => $"${Variable}";
}
