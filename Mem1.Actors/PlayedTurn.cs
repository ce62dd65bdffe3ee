// Invariants:
//  * What is read back is what SubTrajectoryWriter wrote: the same ids, log-probs, versions and end of the response.
using Mem1.Model;
using Mem1.Protocol.V1;

namespace Mem1.Actors;

/// <summary>Reads a turn that was played before (TaskLease.prefix).</summary>
internal static class PlayedTurn
{
    /// <summary>What is wrong with the turns a lease goes on from, as one sentence; null when nothing is.</summary>
    public static string? Problem(TaskLease lease)
    {
        for (var i = 0; i < lease.Prefix.Count; i++)
        {
            var turn = lease.Prefix[i];
            if (turn.Turn != i)
                return $"prefix has turn {turn.Turn} where turn {i} belongs.";
            if (turn.End != EndReason.Unspecified)
                return $"prefix turn {i} ends the episode.";
            if (turn.ResponseEnd == ResponseEnd.Unspecified)
                return $"prefix turn {i} does not say why its response ended.";
            var generated = turn.Segments.Where(s => s.Generated).Sum(s => s.Tokens.Count);
            if (generated == 0 || turn.LogProbs.Count != generated || turn.PolicyVersions.Count != generated)
                return $"prefix turn {i} has {generated} tokens, {turn.LogProbs.Count} log-probs and {turn.PolicyVersions.Count} versions.";
        }
        return null;
    }

    /// <summary>The prompt's tokens.</summary>
    public static IEnumerable<int> Prompt(SubTrajectory turn) =>
        turn.Segments.Where(s => s.Kind == SegmentKind.Prompt).SelectMany(s => s.Tokens);

    /// <summary>The response as the engine gave it.</summary>
    public static GenerationResult Response(SubTrajectory turn) => new(
        0,
        [.. turn.Segments.Where(s => s.Generated).SelectMany(s => s.Tokens)],
        [.. turn.LogProbs],
        [.. turn.PolicyVersions],
        turn.ResponseEnd switch
        {
            ResponseEnd.Stop => FinishReason.Stop,
            ResponseEnd.EndOfText => FinishReason.EndOfText,
            _ => FinishReason.Length,
        });
}
