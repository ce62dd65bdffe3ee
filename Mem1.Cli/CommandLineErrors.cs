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
            var nearest = known.Select(name => (Name: name, Distance: EditDistance.Of(name, unknown))).OrderBy(k => k.Distance).FirstOrDefault();
            var guess = nearest.Name is not null && nearest.Distance <= LargestGuess ? $", did you mean \"{nearest.Name}\"?" : ";";
            return $"there is no {(isOption ? "option" : command.Subcommands.Count > 0 ? "command" : "argument")} \"{unknown}\"{guess} {help}";
        }

        var mistakes = parsed.Errors.Select(e =>
            Lowered(Space().Replace(TypeName().Replace(e.Message, Expected), " ").TrimEnd('.').Replace(". Must", ": must", StringComparison.Ordinal)));
        return $"{string.Join(", ", mistakes)}; {help}";
    }

    /// <summary>Names of the commands from below the root down to this one.</summary>
    public static IEnumerable<string> Path(Command command) =>
        command is RootCommand ? [] : command.Parents.OfType<Command>().SelectMany(Path).Append(command.Name);

    private static string Expected(Match type) => type.Value.Contains("Int", StringComparison.Ordinal) ? " as a whole number" : "";

    private static string Lowered(string sentence) => sentence.Length == 0 ? sentence : char.ToLowerInvariant(sentence[0]) + sentence[1..];

    [GeneratedRegex(" as expected type '[^']*'")]
    private static partial Regex TypeName();

    [GeneratedRegex(@"\s+")]
    private static partial Regex Space();
}
