// Keeps: the name of an episode that is played again says which one it repeats, and is never given twice.
using System.Globalization;
using System.Text.RegularExpressions;

namespace Mem1.Cli.Training;

/// <summary>Names of training episodes: <c>u12-3/TASK</c>, and <c>again-N of u12-3/TASK</c> for one that is played again.</summary>
internal static partial class RecordedEpisode
{
    private static long s_last;

    /// <summary>The name of the episode that one repeats; its own for any other.</summary>
    public static string Original(string episode) => Repeated().Replace(episode, "", 1);

    /// <summary>The update a training episode was drawn for; null for one that is no training episode.</summary>
    public static long? Update(string episode) =>
        Drawn().Match(episode) is { Success: true } match && long.TryParse(match.Groups[1].Value, CultureInfo.InvariantCulture, out var update)
            ? update : null;

    /// <summary>A new name for an episode that is played again.</summary>
    public static string Again(string episode)
    {
        // The clock, so that a run that goes on after a stop does not begin from 1 again; and never twice in one process.
        long now, last;
        do
        {
            last = Interlocked.Read(ref s_last);
            now = Math.Max(last + 1, DateTimeOffset.UtcNow.ToUnixTimeMilliseconds());
        }
        while (Interlocked.CompareExchange(ref s_last, now, last) != last);
        return string.Create(CultureInfo.InvariantCulture, $"again-{now} of {Original(episode)}");
    }

    [GeneratedRegex("^again-[0-9]+ of ")]
    private static partial Regex Repeated();

    [GeneratedRegex("^u([0-9]+)-[0-9]+/")]
    private static partial Regex Drawn();
}
