// Invariants:
//  * Segments are in the order they were served, the prompt first; generated segments come last and hold exactly the sampled tokens.
//  * Outcome and end reason are set together, on the last turn only.
using Mem1.Environments;
using Mem1.Model;
using Mem1.Protocol.V1;

namespace Mem1.Actors;

/// <summary>Writes one turn as the message the learner takes.</summary>
internal static class SubTrajectoryWriter
{
    public static SubTrajectory Write(
        TaskLease lease,
        IEpisodeContext context,
        GenerationResult response,
        int[] state,
        int[] action,
        int[] observation,
        TurnResult result,
        int environmentFailures,
        TimeSpan generation,
        TimeSpan environment)
    {
        var turn = new SubTrajectory
        {
            EpisodeId = lease.EpisodeId,
            TaskId = lease.TaskId,
            Attempt = lease.Attempt,
            Turn = context.Turn,
            Evaluation = lease.Evaluation,
            LogProbs = { response.LogProbs },
            PolicyVersions = { response.PolicyVersions },
            Observation = { observation },
            End = Reason(result.End),
            ResponseEnd = response.Finish switch
            {
                FinishReason.Stop => ResponseEnd.Stop,
                FinishReason.EndOfText => ResponseEnd.EndOfText,
                _ => ResponseEnd.Length,
            },
            GenerationMicros = (long)generation.TotalMicroseconds,
            EnvironmentMicros = (long)environment.TotalMicroseconds,
        };
        foreach (var (kind, tokens) in context.Segments)
            turn.Segments.Add(new Segment { Kind = kind, Tokens = { tokens }, Generated = false });
        if (state.Length > 0)
            turn.Segments.Add(new Segment { Kind = SegmentKind.InternalState, Tokens = { state }, Generated = true });
        if (action.Length > 0)
            turn.Segments.Add(new Segment { Kind = SegmentKind.Action, Tokens = { action }, Generated = true });

        if (result.End != EpisodeEnd.None)
        {
            var score = result.Score ?? throw new InvalidOperationException("The environment ended the episode without a score.");
            turn.TurnReward = (float)score.Reward;
            turn.Outcome = new EpisodeOutcome
            {
                Reward = score.Reward,
                ExactMatch = { score.ExactMatch },
                F1 = { score.F1 },
                Answer = score.Answer,
                EnvironmentFailures = environmentFailures,
                FormatReward = score.FormatReward,
            };
        }
        else
        {
            turn.TurnReward = (float)result.Reward;
        }
        return turn;
    }

    private static EndReason Reason(EpisodeEnd end) => end switch
    {
        EpisodeEnd.None => EndReason.Unspecified,
        EpisodeEnd.Answered => EndReason.Answered,
        EpisodeEnd.TurnLimit => EndReason.TurnLimit,
        EpisodeEnd.InvalidFormat => EndReason.InvalidFormat,
        EpisodeEnd.Length => EndReason.Length,
        EpisodeEnd.ContextFull => EndReason.ContextFull,
        _ => throw new ArgumentOutOfRangeException(nameof(end), end, "Not an end of an episode."),
    };
}
