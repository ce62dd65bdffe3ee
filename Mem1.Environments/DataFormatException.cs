namespace Mem1.Environments;

/// <summary>
/// The user's data is missing or malformed. The message is one sentence that names the file, the place in it and what is wrong, so
/// that a command can print it as it stands.
/// </summary>
public sealed class DataFormatException : Exception
{
    /// <summary>Reports a fault of a file.</summary>
    /// <param name="file">Path of the file as the user gave it.</param>
    /// <param name="problem">What is wrong and what is expected; a clause without a full stop.</param>
    /// <param name="line">Line number from 1, or null when the fault belongs to no line.</param>
    /// <param name="field">Field or JSON path at fault, or null.</param>
    /// <param name="inner">The error below, if there was one.</param>
    public DataFormatException(string file, string problem, long? line = null, string? field = null, Exception? inner = null)
        : base(Compose(file, problem, line, field), inner)
    {
        File = file;
        Line = line;
        Field = field;
    }

    /// <summary>Path of the file.</summary>
    public string File { get; }

    /// <summary>Line number from 1, or null.</summary>
    public long? Line { get; }

    /// <summary>Field or JSON path, or null.</summary>
    public string? Field { get; }

    private static string Compose(string file, string problem, long? line, string? field)
    {
        string place = line is null ? file : $"{file}, line {line}";
        return field is null ? $"{place}: {problem}." : $"{place}, field {field}: {problem}.";
    }
}
