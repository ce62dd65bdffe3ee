// Keeps: learners of one group hold the same weights bit for bit, because each adds the same bits to them.
namespace Mem1.Learner;

/// <summary>Sums over the learners of a group that share the work of an update (data parallelism).</summary>
/// <remarks>
/// Every learner must make the same calls in the same order. A call returns when all have made it, with the same bits everywhere, or fails
/// on every learner that is still there.
/// </remarks>
public interface IGradientReducer
{
    /// <summary>This learner's number, from 0.</summary>
    int Rank { get; }

    /// <summary>How many learners there are.</summary>
    int World { get; }

    /// <summary>Replaces the values by their sums over all learners.</summary>
    /// <exception cref="LearnerException">A learner is lost.</exception>
    void Sum(Span<float> values);

    /// <summary>Replaces the values by their sums over all learners.</summary>
    /// <exception cref="LearnerException">A learner is lost.</exception>
    void Sum(Span<double> values);
}

/// <summary>A learner on its own.</summary>
public sealed class SingleLearner : IGradientReducer
{
    /// <summary>The only one there need be.</summary>
    public static SingleLearner Instance { get; } = new();

    /// <inheritdoc/>
    public int Rank => 0;

    /// <inheritdoc/>
    public int World => 1;

    /// <inheritdoc/>
    public void Sum(Span<float> values)
    {
    }

    /// <inheritdoc/>
    public void Sum(Span<double> values)
    {
    }
}
