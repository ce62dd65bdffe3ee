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
    // Far beyond the longest horizon of any environment here; without a bound a worker that never ends an episode would fill the memory.
    internal const int MaxTurns = 4096;

    // Rewards are shares or counts of objectives; squared in single precision in the value loss, one above 1e19 would already be infinite.
    internal const double MaxReward = 1e6;

    // Sums of rounding in a softmax leave a certain token a hair above probability 1, not more.
    internal const float MaxLogProb = 1e-3f;
}
