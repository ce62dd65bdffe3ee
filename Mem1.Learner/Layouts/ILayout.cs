// Keeps: a layout only says where tokens go; what they see is TurnBatch's rule, and losses never know which layout was used.
using Mem1.Model;

namespace Mem1.Learner;

/// <summary>One turn of one trajectory of a batch.</summary>
/// <param name="Trajectory">Index into the batch.</param>
/// <param name="Turn">Index of the turn.</param>
public readonly record struct TurnReference(int Trajectory, int Turn);

/// <summary>
/// A forward pass's worth of turns. Predictions are in the order of <paramref name="Turns"/>, and within a turn in generation order.
/// </summary>
/// <param name="Batch">What the decoder computes.</param>
/// <param name="Turns">Which turns are in it.</param>
/// <param name="PredictionIndex">For each generated token the flat index of the position that predicts it.</param>
/// <param name="Targets">For each generated token its id.</param>
public sealed record LayoutBatch(TurnBatch Batch, IReadOnlyList<TurnReference> Turns, long[] PredictionIndex, long[] Targets)
{
    /// <summary>Padded tokens the decoder computes: what a micro-batch's budget counts.</summary>
    public long PaddedTokens => ((long)Batch.Trunks.Count * Batch.TrunkWidth) + ((long)Batch.Rows.Count * Batch.RowWidth);
}

/// <summary>
/// How trajectories become forward passes. An implementation is exact when the log-probs it yields are those of the sampler.
/// </summary>
public interface ILayout
{
    /// <summary>
    /// Splits turns into forward passes of at most <paramref name="tokenBudget"/> padded tokens (a longer turn travels alone).
    /// </summary>
    IReadOnlyList<LayoutBatch> Split(IReadOnlyList<Trajectory> batch, IEnumerable<TurnReference> turns, int tokenBudget);
}
