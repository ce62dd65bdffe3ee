// Keeps: a secret is given by file or environment variable, never on the command line, where everybody on the machine can read it.
using System.CommandLine;
using Mem1.Protocol.Security;

namespace Mem1.Cli.Commands;

/// <summary>The option for the file of a token; a variable of its own names the file, another one holds the token itself.</summary>
/// <param name="option">As in --token-file.</param>
/// <param name="variable">Holds the token; with _FILE at its end, the file's name.</param>
/// <param name="description">What the token is for; no full stop.</param>
internal sealed class TokenArgument(string option, string variable, string description)
{
    /// <summary>To add to a command.</summary>
    public Option<string?> Option { get; } = new(option)
    {
        Description = $"{description} ({variable}_FILE; {variable} holds the token itself)",
        HelpName = "FILE",
    };

    /// <summary>The token that is given; null for none.</summary>
    /// <exception cref="SecurityException">It is unfit, or cannot be read.</exception>
    public BearerToken? Read(ParseResult parse) => Of(parse.GetValue(Option), variable);

    /// <summary>The token of a file, or else of a variable; null for none.</summary>
    /// <param name="file">Null to ask the variable that names one.</param>
    /// <param name="variable">Holds the token; with _FILE at its end, the file's name.</param>
    /// <exception cref="SecurityException">It is unfit, or cannot be read.</exception>
    public static BearerToken? Of(string? file, string variable)
    {
        if ((file ?? Value($"{variable}_FILE")) is { } path) return BearerToken.FromFile(path);
        return Value(variable) is { } token ? BearerToken.Parse(token, $"the variable {variable}") : null;
    }

    private static string? Value(string name) => Environment.GetEnvironmentVariable(name) is { Length: > 0 } value ? value : null;
}
