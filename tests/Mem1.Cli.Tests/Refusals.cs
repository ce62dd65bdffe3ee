namespace Mem1.Cli.Tests;

/// <summary>How a mistake of the user must end.</summary>
internal static class Refusals
{
    /// <summary>Exit code 2 and one sentence on standard error that holds all of these words.</summary>
    public static string Refused(IEnumerable<string> arguments, params string[] words) => Refused(Cli.Run(arguments), words);

    public static string Refused(Outcome outcome, params string[] words)
    {
        Assert.True(outcome.ExitCode == 2, $"exit code {outcome.ExitCode}\n{outcome.Out}\n{outcome.Error}");
        var line = Assert.Single(outcome.ErrorLines);
        Assert.StartsWith("mem1: ", line);
        foreach (var word in words) Assert.Contains(word, line);
        return line;
    }
}
