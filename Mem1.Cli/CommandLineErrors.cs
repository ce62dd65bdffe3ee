using System.CommandLine;
using System.Text.RegularExpressions;

namespace Mem1.Cli;

/// <summary>What is wrong with a command line, in one sentence.</summary>
internal static partial class CommandLineErrors
{
    // A typing error changes a letter or two; further away a guess is noise.
    private const int LargestGuess = 3;

    /// <summary>The first mistake, with the nearest thing that exists and where help is.</summary>
    public static string Sentence(ParseResult parsed)
    {
        var command = parsed.CommandResult.Command;
        var help = $"see ./mem1 {string.Concat(Path(command).Select(name => name + " "))}--help";
        if (parsed.UnmatchedTokens is [var unknown, ..])
        {
            var isOption = unknown.StartsWith('-');
            var known = isOption ? command.Options.Select(o => o.Name) : command.Subcommands.Select(c => c.Name);
            var nearest = known.Select(name => (Name: name, Distance: EditDistance.Of(name, unknown)))
                .DefaultIfEmpty().MinBy(k => k.Distance);
            var guess = nearest.Name is not null && nearest.Distance <= LargestGuess ? $", did you mean \"{nearest.Name}\"?" : ";";
            var kind = isOption ? "option" : command.Subcommands.Count > 0 ? "command" : "argument";
            return $"there is no {kind} \"{unknown}\"{guess} {help}";
        }

        return $"{string.Join(", ", parsed.Errors.Select(e => Clause(e.Message)))}; {help}";
    }

    /// <summary>Names of the commands from below the root down to this one.</summary>
    public static IEnumerable<string> Path(Command command) =>
        command is RootCommand ? [] : command.Parents.OfType<Command>().SelectMany(Path).Append(command.Name);

    private static string Expected(Match type) => type.Value.Contains("Int", StringComparison.Ordinal) ? " as a whole number" : "";

    /// <summary>The parser's message as a part of one sentence: no type names, no line breaks, no second sentence.</summary>
    private static string Clause(string message)
    {
        var flat = Space().Replace(TypeName().Replace(message, Expected), " ").Trim().TrimEnd('.')
            .Replace(". Must", ": must", StringComparison.Ordinal);
        return flat.Length == 0 ? flat : char.ToLowerInvariant(flat[0]) + flat[1..];
    }

    [GeneratedRegex(" as expected type '[^']*'")]
    private static partial Regex TypeName();

    [GeneratedRegex(@"\s+")]
    private static partial Regex Space();
}
