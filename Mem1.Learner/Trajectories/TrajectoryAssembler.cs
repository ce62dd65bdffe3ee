// Keeps:
//  * a sub-trajectory is taken once however often it arrives: (episode, attempt, turn) decides;
//  * turns of an episode may arrive in any order; the trajectory is complete when the turn that ends it and all before it are there;
//  * what is assembled is consistent to the token, or it is refused with the reason: context(j) = generated(j-1) ++ observation(j-1).
using Mem1.Environments;
using Mem1.Protocol.V1;

namespace Mem1.Learner;

/// <summary>What became of a sub-trajectory.</summary>
public enum AssemblyOutcome
{
    /// <summary>Held; its episode goes on.</summary>
    Buffered,
    /// <summary>It was here before; nothing changed.</summary>
    Duplicate,
    /// <summary>With it the episode is complete.</summary>
    Completed,
    /// <summary>It contradicts itself or its episode; the episode is dropped.</summary>
    Rejected,
}

/// <summary>Result of <see cref="TrajectoryAssembler.Add"/>.</summary>
/// <param name="Outcome">What happened.</param>
/// <param name="Trajectory">Set when completed.</param>
/// <param name="Reason">Set when rejected: one sentence.</param>
public readonly record struct AssemblyResult(AssemblyOutcome Outcome, Trajectory? Trajectory = null, string? Reason = null);

/// <summary>Puts sub-trajectories together by episode. Not thread-safe: the ledger's lock guards it.</summary>
public sealed class TrajectoryAssembler
{
    private readonly Dictionary<(string Episode, int Attempt), SortedDictionary<int, SubTrajectory>> _open = [];

    /// <summary>Episodes begun and not complete.</summary>
    public int OpenEpisodes => _open.Count;

    /// <summary>Takes one turn.</summary>
    public AssemblyResult Add(SubTrajectory sub)
    {
        var key = (sub.EpisodeId, sub.Attempt);
        if (Contradiction(sub) is { } reason)
        {
            _open.Remove(key);
            return new AssemblyResult(AssemblyOutcome.Rejected, Reason: reason);
        }

        if (!_open.TryGetValue(key, out var turns)) _open.Add(key, turns = []);
        if (!turns.TryAdd(sub.Turn, sub)) return new AssemblyResult(AssemblyOutcome.Duplicate);
        var last = turns.Values.FirstOrDefault(t => t.End != EndReason.Unspecified);
        if (last is null || turns.Count <= last.Turn) return new AssemblyResult(AssemblyOutcome.Buffered);

        _open.Remove(key);
        if (turns.Count != last.Turn + 1)
            return new AssemblyResult(AssemblyOutcome.Rejected, Reason: $"Episode {sub.EpisodeId} has turns after the one that ended it.");
        return Assemble([.. turns.Values]);
    }

    /// <summary>Forgets an episode whose lease died.</summary>
    public void Forget(string episodeId, int attempt) => _open.Remove((episodeId, attempt));

    private static string? Contradiction(SubTrajectory sub)
    {
        var where = $"Sub-trajectory {sub.EpisodeId}/{sub.Turn}";
        if (sub.Turn < 0) return $"{where} has a negative turn.";
        var generated = sub.Segments.Where(s => s.Generated).Sum(s => s.Tokens.Count);
        if (generated == 0) return $"{where} generated nothing.";
        if (sub.LogProbs.Count != generated || sub.PolicyVersions.Count != generated)
            return $"{where} has {generated} generated tokens, {sub.LogProbs.Count} log-probs and {sub.PolicyVersions.Count} versions.";
        if (sub.LogProbs.Any(p => !float.IsFinite(p))) return $"{where} has a log-prob that is not finite.";
        if (sub.Segments.Count == 0 || sub.Segments[0].Kind != SegmentKind.Prompt || sub.Segments[0].Tokens.Count == 0)
            return $"{where} does not begin with a prompt.";
        if (sub.Segments.Skip(1).Any(s => s.Kind is SegmentKind.Prompt or SegmentKind.Unspecified))
            return $"{where} has a segment of no kind, or a second prompt.";
        if (sub.Segments.Any(s => s.Generated && s.Kind is not (SegmentKind.InternalState or SegmentKind.Action)))
            return $"{where} has a generated segment that is neither internal state nor action.";
        if (sub.Segments.SkipWhile(s => !s.Generated).Any(s => !s.Generated)) return $"{where} has context after what was generated.";
        if (sub.End != EndReason.Unspecified && sub.Outcome is null) return $"{where} ends its episode without an outcome.";
        return null;
    }

    private static AssemblyResult Assemble(SubTrajectory[] subs)
    {
        var prompt = subs[0].Segments[0].Tokens.ToArray();
        var turns = new List<Turn>(subs.Length);
        foreach (var sub in subs)
        {
            if (!sub.Segments[0].Tokens.SequenceEqual(prompt))
                return Reject(sub, "has another prompt than the episode's first turn");
            var context = sub.Segments.Skip(1).Where(s => !s.Generated).SelectMany(s => s.Tokens).ToArray();
            int[] expected = turns.Count == 0 ? [] : [.. turns[^1].Generated, .. turns[^1].Observation];
            if (!context.SequenceEqual(expected))
                return Reject(sub, $"was served a context of {context.Length} tokens that is not the turn before ({expected.Length} tokens)");
            turns.Add(new Turn(
                context,
                [.. sub.Segments.Where(s => s.Generated).SelectMany(s => s.Tokens)],
                sub.Segments.Where(s => s.Generated && s.Kind == SegmentKind.InternalState).Sum(s => s.Tokens.Count),
                [.. sub.LogProbs],
                [.. sub.PolicyVersions],
                [.. sub.Observation]));
        }

        var last = subs[^1];
        return new AssemblyResult(AssemblyOutcome.Completed, new Trajectory(
            last.EpisodeId, last.TaskId, prompt, turns, last.Outcome.Reward, ToEnd(last.End),
            [.. last.Outcome.ExactMatch], [.. last.Outcome.F1], last.Outcome.Answer, last.Evaluation));

        static AssemblyResult Reject(SubTrajectory sub, string what) =>
            new(AssemblyOutcome.Rejected, Reason: $"Sub-trajectory {sub.EpisodeId}/{sub.Turn} {what}.");
    }

    private static EpisodeEnd ToEnd(EndReason reason) => reason switch
    {
        EndReason.Answered => EpisodeEnd.Answered,
        EndReason.TurnLimit => EpisodeEnd.TurnLimit,
        EndReason.InvalidFormat => EpisodeEnd.InvalidFormat,
        EndReason.Length => EpisodeEnd.Length,
        EndReason.ContextFull => EpisodeEnd.ContextFull,
        _ => EpisodeEnd.None,
    };
}
