// Keeps: bounds only; what they are for is said where they are checked (TrajectoryAssembler).
namespace Mem1.Learner;

/// <summary>
/// What a sub-trajectory may hold, so that nothing a worker sends can break the decoder or poison an update: a token id beyond the
/// vocabulary or a turn beyond the context would throw in the middle of an update, a reward that is no number would reach the weights.
/// </summary>
/// <param name="VocabularySize">Token ids are in [0, VocabularySize).</param>
/// <param name="MaxPositions">Largest prompt + context + generated of a turn, in tokens; observations are bounded by it too.</param>
public sealed record TrajectoryLimits(int VocabularySize, int MaxPositions)
{
    /// <summary>The layout trajectories are trained under; it decides what must fit.</summary>
    public LayoutKind Layout { get; init; } = LayoutKind.Segments;

    /// <summary>Whether the model counts positions (rotary): in the single-copy layouts an episode then has no more than there are.</summary>
    public bool PositionsCount { get; init; } = true;

    /// <summary>Why a trajectory does not fit the model under its layout, as the rest of a sentence; null when it does.</summary>
    internal string? Misfit(int prompt, IReadOnlyList<Turn> turns)
    {
        if (Layout is LayoutKind.Segments or LayoutKind.Full) return null; // every turn was looked at as it came
        long all = prompt, before = 0;
        for (var j = 0; j < turns.Count; j++)
        {
            long length = turns[j].Generated.Length + turns[j].Observation.Length;
            if (prompt + before + length > MaxPositions)
                return $"reads {prompt + before + length} tokens in turn {j} where the model's context holds {MaxPositions}";
            (all, before) = (all + length, length);
        }

        return PositionsCount && all > MaxPositions ? $"has {all} tokens where the model has {MaxPositions} positions" : null;
    }

    // Far beyond the longest horizon of any environment here; without a bound a worker that never ends an episode would fill the memory.
    internal const int MaxTurns = 4096;

    // Rewards are shares or counts of objectives; squared in single precision in the value loss, one above 1e19 would already be infinite.
    internal const double MaxReward = 1e6;

    // Sums of rounding in a softmax leave a certain token a hair above probability 1, not more.
    internal const float MaxLogProb = 1e-3f;
}
