// Keeps:
//  * a sub-trajectory is taken once however often it arrives: (episode, attempt, turn) decides;
//  * turns of an episode may arrive in any order; the trajectory is complete when the turn that ends it and all before it are there;
//  * what is assembled is consistent to the token, or it is refused with the reason: context(j) = generated(j-1) ++ observation(j-1),
//    less the tokens at the start of generated(j-1) that the environment's format discards; in the layout full nothing is discarded and
//    context(j-1) comes before it;
//  * what is assembled is within the limits: no message, whatever is in it, makes Add throw or lets an update fail later.
using Mem1.Environments;
using Mem1.Protocol.V1;
using static Mem1.Learner.RefusalCause;
using Flaw = (Mem1.Learner.RefusalCause Cause, string What);

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
/// <param name="Cause">Set when rejected or a duplicate.</param>
public readonly record struct AssemblyResult(
    AssemblyOutcome Outcome, Trajectory? Trajectory = null, string? Reason = null, RefusalCause? Cause = null);

/// <summary>Puts sub-trajectories together by episode. Not thread-safe: the ledger's lock guards it.</summary>
/// <param name="limits">What is refused whatever its episode says.</param>
/// <param name="discarded">
/// How many tokens at the start of a response the next turn's context drops (<see cref="Mem1.Model.ResponseParts.Discarded"/>); null for
/// none. Asked only about tokens within the limits.
/// </param>
public sealed class TrajectoryAssembler(TrajectoryLimits limits, Func<int[], int>? discarded = null)
{
    private readonly Dictionary<(string Episode, int Attempt), OpenEpisode> _open = [];

    /// <summary>Episodes begun and not complete.</summary>
    public int OpenEpisodes => _open.Count;

    /// <summary>Takes one turn.</summary>
    /// <param name="sub">Whatever a worker sent.</param>
    /// <param name="newestVersion">The newest policy version there is; no token can have been sampled under a newer one.</param>
    public AssemblyResult Add(SubTrajectory sub, long newestVersion)
    {
        var key = (sub.EpisodeId, sub.Attempt);
        if (Contradiction(sub, newestVersion) is { } flaw)
        {
            _open.Remove(key);
            return new AssemblyResult(
                AssemblyOutcome.Rejected, Reason: $"Sub-trajectory {sub.EpisodeId}/{sub.Turn} {flaw.What}.", Cause: flaw.Cause);
        }

        if (!_open.TryGetValue(key, out var episode)) _open.Add(key, episode = new OpenEpisode());
        if (!episode.Turns.TryAdd(sub.Turn, sub)) return new AssemblyResult(AssemblyOutcome.Duplicate, Cause: Duplicate);
        if (sub.End != EndReason.Unspecified) episode.Last = Math.Min(episode.Last, sub.Turn);
        if (episode.Turns.Count <= episode.Last) return new AssemblyResult(AssemblyOutcome.Buffered);

        _open.Remove(key);
        // As many turns as there are up to the last one, so any turn after it means that one before it is missing.
        if (episode.Turns.Keys.Last() != episode.Last)
        {
            return new AssemblyResult(
                AssemblyOutcome.Rejected, Reason: $"Episode {sub.EpisodeId} has turns after the one that ended it.", Cause: Order);
        }

        return Assemble([.. episode.Turns.Values]);
    }

    /// <summary>Forgets an episode whose lease died.</summary>
    public void Forget(string episodeId, int attempt) => _open.Remove((episodeId, attempt));

    /// <summary>What is wrong with a turn by itself, as the rest of a sentence; null when nothing is.</summary>
    private Flaw? Contradiction(SubTrajectory sub, long newestVersion)
    {
        if (sub.Turn is < 0 or >= TrajectoryLimits.MaxTurns) return (Order, $"is not one of turns 0 to {TrajectoryLimits.MaxTurns - 1}");
        return SegmentsContradiction(sub) ?? SamplingContradiction(sub, newestVersion) ?? EndContradiction(sub);
    }

    private Flaw? SegmentsContradiction(SubTrajectory sub)
    {
        if (sub.Segments.Count == 0 || sub.Segments[0].Kind != SegmentKind.Prompt || sub.Segments[0].Tokens.Count == 0)
            return (Segments, "does not begin with a prompt");
        long length = 0;
        bool generating = false, acting = false;
        for (var i = 0; i < sub.Segments.Count; i++)
        {
            var segment = sub.Segments[i];
            length += segment.Tokens.Count;
            if (OutOfVocabulary(segment.Tokens)) return (Tokens, $"has tokens outside the vocabulary of {limits.VocabularySize}");
            if (i > 0 && segment.Kind is not (SegmentKind.InternalState or SegmentKind.Action or SegmentKind.Information))
                return (Segments, "has a segment of no known kind, or a second prompt");
            if (!segment.Generated)
            {
                if (generating) return (Segments, "has context after what was generated");
                continue;
            }

            generating = true;
            if (segment.Kind is not (SegmentKind.InternalState or SegmentKind.Action))
                return (Segments, "has a generated segment that is neither internal state nor action");
            if (acting && segment.Kind == SegmentKind.InternalState) return (Segments, "generated internal state after its action");
            acting |= segment.Kind == SegmentKind.Action;
        }

        if (length > limits.MaxPositions) return (Lengths, $"has {length} tokens where the model's context holds {limits.MaxPositions}");
        if (sub.Observation.Count > limits.MaxPositions)
            return (Lengths, $"has an observation of {sub.Observation.Count} tokens where the model's context holds {limits.MaxPositions}");
        return OutOfVocabulary(sub.Observation)
            ? (Tokens, $"has an observation with tokens outside the vocabulary of {limits.VocabularySize}")
            : null;
    }

    private static Flaw? SamplingContradiction(SubTrajectory sub, long newestVersion)
    {
        var generated = sub.Segments.Where(s => s.Generated).Sum(s => s.Tokens.Count);
        if (generated == 0) return (LogProbs, "generated nothing");
        if (sub.LogProbs.Count != generated || sub.PolicyVersions.Count != generated)
        {
            return (
                sub.LogProbs.Count != generated ? Lengths : Versions,
                $"has {generated} generated tokens, {sub.LogProbs.Count} log-probs and {sub.PolicyVersions.Count} versions");
        }

        if (sub.LogProbs.Any(p => !float.IsFinite(p))) return (LogProbs, "has a log-prob that is not finite");
        if (sub.LogProbs.Any(p => p > TrajectoryLimits.MaxLogProb)) return (LogProbs, "has a log-prob above 0");
        if (sub.PolicyVersions.Where(v => v < 0 || v > newestVersion).Cast<long?>().FirstOrDefault() is { } unknown)
            return (Versions, $"names policy version {unknown}; there are 0 to {newestVersion}");
        return null;
    }

    private static Flaw? EndContradiction(SubTrajectory sub)
    {
        if (!float.IsFinite(sub.TurnReward) || Math.Abs(sub.TurnReward) > TrajectoryLimits.MaxReward)
            return (Scores, $"has a turn reward of {sub.TurnReward}; it must be a number within {TrajectoryLimits.MaxReward:0} of 0");
        if (sub.End == EndReason.Unspecified) return sub.Outcome is null ? null : (Scores, "has an outcome but does not end its episode");
        if (!Enum.IsDefined(sub.End)) return (Scores, $"ends for an unknown reason ({(int)sub.End})");
        if (sub.Outcome is not { } outcome) return (Scores, "ends its episode without an outcome");
        if (!double.IsFinite(outcome.Reward) || Math.Abs(outcome.Reward) > TrajectoryLimits.MaxReward)
            return (Scores, $"has a reward of {outcome.Reward}; it must be a number within {TrajectoryLimits.MaxReward:0} of 0");
        if (!double.IsFinite(outcome.FormatReward) || Math.Abs(outcome.FormatReward) > TrajectoryLimits.MaxReward)
            return (Scores, $"has a format reward of {outcome.FormatReward}; it must be a number within {TrajectoryLimits.MaxReward:0} of 0");
        if (outcome.ExactMatch.Count == 0 || outcome.ExactMatch.Count != outcome.F1.Count)
        {
            return (
                Scores, $"has {outcome.ExactMatch.Count} exact matches and {outcome.F1.Count} F1 scores; it must have one of each per objective");
        }

        if (outcome.ExactMatch.Concat(outcome.F1).Any(x => x is not (>= 0 and <= 1))) return (Scores, "has a score outside 0 to 1");
        return null;
    }

    private bool OutOfVocabulary(IEnumerable<int> tokens) => tokens.Any(t => (uint)t >= (uint)limits.VocabularySize);

    private AssemblyResult Assemble(SubTrajectory[] subs)
    {
        var prompt = subs[0].Segments[0].Tokens.ToArray();
        var turns = new List<Turn>(subs.Length);
        foreach (var sub in subs)
        {
            if (!sub.Segments[0].Tokens.SequenceEqual(prompt))
                return Reject(sub, "has another prompt than the episode's first turn");
            var context = sub.Segments.Skip(1).Where(s => !s.Generated).SelectMany(s => s.Tokens).ToArray();
            int[] expected = turns is not [.., var before]
                ? []
                : limits.Layout == LayoutKind.Full
                    ? [.. before.Context, .. before.Generated, .. before.Observation]
                    : [.. before.Generated[(discarded?.Invoke(before.Generated) ?? 0)..], .. before.Observation];
            if (!context.SequenceEqual(expected))
            {
                return Reject(
                    sub, $"was served a context of {context.Length} tokens that is not what is kept of the turn before ({expected.Length} tokens)");
            }

            turns.Add(new Turn(
                context,
                [.. sub.Segments.Where(s => s.Generated).SelectMany(s => s.Tokens)],
                sub.Segments.Where(s => s.Generated && s.Kind == SegmentKind.InternalState).Sum(s => s.Tokens.Count),
                [.. sub.LogProbs],
                [.. sub.PolicyVersions],
                [.. sub.Observation])
            {
                // The last turn gets what is left of the episode's reward.
                Reward = sub.End == EndReason.Unspecified ? sub.TurnReward : 0,
            });
        }

        var last = subs[^1];
        if (limits.Misfit(prompt.Length, turns) is { } misfit)
            return new AssemblyResult(AssemblyOutcome.Rejected, Reason: $"Episode {last.EpisodeId} {misfit}.", Cause: Lengths);
        return new AssemblyResult(AssemblyOutcome.Completed, new Trajectory(
            last.EpisodeId, last.TaskId, prompt, turns, last.Outcome.Reward, ToEnd(last.End),
            [.. last.Outcome.ExactMatch], [.. last.Outcome.F1], last.Outcome.Answer, last.Evaluation)
        {
            EnvironmentFailures = Math.Max(0, last.Outcome.EnvironmentFailures),
            FormatReward = last.Outcome.FormatReward,
        });

        static AssemblyResult Reject(SubTrajectory sub, string what) =>
            new(AssemblyOutcome.Rejected, Reason: $"Sub-trajectory {sub.EpisodeId}/{sub.Turn} {what}.", Cause: Context);
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

    private sealed class OpenEpisode
    {
        public SortedDictionary<int, SubTrajectory> Turns { get; } = [];

        /// <summary>The turn that ended the episode; beyond every turn as long as it has not come.</summary>
        public int Last { get; set; } = int.MaxValue;
    }
}
