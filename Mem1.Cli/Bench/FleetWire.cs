// Keeps: what is sent is what a rollout worker sends, so that the learner checks, assembles and holds it as it does in a run.
using Mem1.Protocol.V1;

namespace Mem1.Cli.Bench;

/// <summary>Made-up episodes on the wire.</summary>
internal static class FleetWire
{
    /// <summary>Of the made-up model.</summary>
    public const int Vocabulary = 32_000;

    // About what a turn of the built-in task has.
    private const int Prompt = 60, State = 40, Action = 20, Information = 80;

    /// <summary>Tokens of the longest context and response.</summary>
    public const int Positions = 1024;

    /// <summary>How many turns the episode of a lease has: 1 to 4, the same in every try.</summary>
    public static int Turns(TaskLease lease) => 1 + (int)(lease.Seed % 4);

    /// <summary>One turn of the episode of a lease, as it would be played under a version.</summary>
    public static SubTrajectory Turn(TaskLease lease, int turn, long version)
    {
        var sub = new SubTrajectory
        {
            EpisodeId = lease.EpisodeId,
            TaskId = lease.TaskId,
            Attempt = lease.Attempt,
            Turn = turn,
            Evaluation = lease.Evaluation,
            GenerationMicros = 1000,
            EnvironmentMicros = 100,
        };
        sub.Segments.Add(Segment(SegmentKind.Prompt, Prompt, lease.Seed, generated: false));
        if (turn > 0)
        {
            sub.Segments.Add(Segment(SegmentKind.InternalState, State, lease.Seed + (ulong)turn - 1, generated: false));
            sub.Segments.Add(Segment(SegmentKind.Action, Action, lease.Seed + (ulong)turn, generated: false));
            sub.Segments.Add(Segment(SegmentKind.Information, Information, lease.Seed + (ulong)turn, generated: false));
        }

        sub.Segments.Add(Segment(SegmentKind.InternalState, State, lease.Seed + (ulong)turn, generated: true));
        sub.Segments.Add(Segment(SegmentKind.Action, Action, lease.Seed + (ulong)turn + 1, generated: true));
        for (var i = 0; i < State + Action; i++)
        {
            sub.LogProbs.Add(-0.5f - (i * 0.01f));
            sub.PolicyVersions.Add(version);
        }

        if (turn + 1 < Turns(lease))
        {
            sub.Observation.AddRange(Segment(SegmentKind.Information, Information, lease.Seed + (ulong)turn + 1, generated: false).Tokens);
            return sub;
        }

        sub.End = EndReason.Answered;
        sub.TurnReward = 1;
        sub.Outcome = new EpisodeOutcome { Reward = 1, Answer = "that" };
        foreach (var _ in lease.Task.Objectives)
        {
            sub.Outcome.ExactMatch.Add(1);
            sub.Outcome.F1.Add(1);
        }

        return sub;
    }

    private static Segment Segment(SegmentKind kind, int count, ulong seed, bool generated)
    {
        var segment = new Segment { Kind = kind, Generated = generated };
        for (var i = 0; i < count; i++) segment.Tokens.Add((int)((seed * 31 + (ulong)(i * 7) + (ulong)kind) % Vocabulary));
        return segment;
    }
}
