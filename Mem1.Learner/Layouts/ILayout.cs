// Keeps: a layout only says where tokens go and what they see; losses never know which layout was used.
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

/// <summary>The layouts there are.</summary>
public enum LayoutKind
{
    /// <summary>Every turn re-reads its context: <see cref="SegmentsLayout"/>.</summary>
    Segments,
    /// <summary>Every token once, as a sampler computes it that evicts what is pruned: <see cref="CarryLayout"/>.</summary>
    Carry,
    /// <summary>Every token once under the rule of the method's first release, for comparison: <see cref="PaperLayout"/>.</summary>
    Paper,
    /// <summary>Every token once and nothing forgotten, for agents that keep their whole history: <see cref="FullLayout"/>.</summary>
    Full,
}

/// <summary>
/// How trajectories become forward passes. An implementation is exact when the log-probs it yields are those of the sampler it is meant
/// for.
/// </summary>
public interface ILayout
{
    /// <summary>Which one.</summary>
    LayoutKind Kind { get; }

    /// <summary>
    /// The layout of one trajectory token by token: the definition that <see cref="Split"/> computes without ever writing it out.
    /// </summary>
    LayoutSequence Describe(Trajectory trajectory);

    /// <summary>
    /// Splits turns into forward passes of at most <paramref name="tokenBudget"/> padded tokens (what cannot be cut travels alone: a turn,
    /// or in the single-copy layouts a trajectory).
    /// </summary>
    IReadOnlyList<LayoutBatch> Split(IReadOnlyList<Trajectory> batch, IEnumerable<TurnReference> turns, int tokenBudget);

    /// <summary>The layout of a kind.</summary>
    static ILayout Of(LayoutKind kind) => kind switch
    {
        LayoutKind.Segments => new SegmentsLayout(),
        LayoutKind.Carry => new CarryLayout(),
        LayoutKind.Paper => new PaperLayout(),
        LayoutKind.Full => new FullLayout(),
        _ => throw new ArgumentOutOfRangeException(nameof(kind), kind, "Not a layout."),
    };
}
