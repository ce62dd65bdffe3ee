using System.CommandLine;
using Mem1.Cli.Output;
using Microsoft.Extensions.Logging;

namespace Mem1.Cli.Commands;

/// <summary>The options that say how a process logs; both have an environment variable for manifests.</summary>
internal sealed class LogArguments
{
    private const string FormatVariable = "MEM1_LOG_FORMAT", LevelVariable = "MEM1_LOG_LEVEL";

    private static readonly string[] s_formats = ["text", "json"], s_levels = ["debug", "information", "warning", "error"];

    private readonly Option<string?> _format = new("--log-format")
    {
        Description =
            $"Lines on standard error: text for people, json for machines ({FormatVariable}); json with --json if nothing is said",
        HelpName = "FORMAT",
    };

    private readonly Option<string?> _level = new("--log-level")
    {
        Description = $"The least that is logged: debug (every turn of every episode), information, warning or error ({LevelVariable})",
        HelpName = "LEVEL",
    };

    /// <summary>Adds the options to a command.</summary>
    public void AddTo(Command command)
    {
        command.Add(_format);
        command.Add(_level);
    }

    /// <summary>What was said.</summary>
    /// <exception cref="UserErrorException">Something there is not.</exception>
    public LogSettings Read(ParseResult parse)
    {
        var format = Chosen(parse.GetValue(_format), _format.Name, FormatVariable, s_formats);
        var level = Chosen(parse.GetValue(_level), _level.Name, LevelVariable, s_levels);
        return new LogSettings(
            format is null ? null : format == "json", level is null ? null : Enum.Parse<LogLevel>(level, ignoreCase: true));
    }

    private static string? Chosen(string? given, string option, string variable, string[] known)
    {
        var value = given ?? (Environment.GetEnvironmentVariable(variable) is { Length: > 0 } said ? said : null);
        if (value is null || known.Contains(value, StringComparer.Ordinal)) return value;
        throw new UserErrorException(
            $"{(given is null ? variable : option)} is \"{value}\"; it must be {string.Join(", ", known[..^1])} or {known[^1]}.");
    }
}
