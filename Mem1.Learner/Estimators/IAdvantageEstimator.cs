// Keeps: an estimator is a pure function of the batch; every array is per trajectory and per generated token, in time order over turns.
namespace Mem1.Learner;

/// <summary>A batch as estimators see it.</summary>
/// <param name="Trajectories">Finished episodes.</param>
/// <param name="Rewards">Per trajectory, per generated token.</param>
/// <param name="Values">Per trajectory, the critic's value of the state before each generated token; null without a critic.</param>
public sealed record RewardedBatch(
    IReadOnlyList<Trajectory> Trajectories, IReadOnlyList<double[]> Rewards, IReadOnlyList<double[]>? Values);

/// <summary>What an estimator found.</summary>
/// <param name="Advantages">Per trajectory, per generated token, as the policy loss takes them.</param>
/// <param name="Returns">What the critic should have said; null without a critic.</param>
public sealed record AdvantageEstimate(IReadOnlyList<double[]> Advantages, IReadOnlyList<double[]>? Returns)
{
    /// <summary>Mean per token before whitening.</summary>
    public double Mean { get; private init; }

    /// <summary>Standard deviation over tokens before whitening.</summary>
    public double Deviation { get; private init; }

    /// <summary>Measures advantages, then whitens them in place if asked to.</summary>
    public static AdvantageEstimate Of(IReadOnlyList<double[]> advantages, IReadOnlyList<double[]>? returns, bool whiten)
    {
        long count = advantages.Sum(a => (long)a.Length);
        var mean = advantages.Sum(a => a.Sum()) / count;
        var deviation = Math.Sqrt(advantages.Sum(a => a.Sum(x => (x - mean) * (x - mean))) / count);
        if (whiten) Mem1.Learner.Advantages.Whiten(advantages);
        return new AdvantageEstimate(advantages, returns) { Mean = mean, Deviation = deviation };
    }
}

/// <summary>Turns the rewards of a batch into an advantage for each generated token.</summary>
public interface IAdvantageEstimator
{
    /// <summary>Whether it needs values, and so a critic that learns.</summary>
    bool NeedsCritic { get; }

    /// <summary>Advantages of a batch.</summary>
    /// <exception cref="ArgumentException">It needs values and the batch has none.</exception>
    AdvantageEstimate Estimate(RewardedBatch batch);
}
