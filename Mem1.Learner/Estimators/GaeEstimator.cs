namespace Mem1.Learner;

/// <summary>
/// PPO's estimator: GAE along the chain of generated tokens of all turns (<see cref="Advantages.Gae"/>), then whitening over the batch.
/// </summary>
/// <param name="gamma">Discount.</param>
/// <param name="lambda">Trace decay.</param>
public sealed class GaeEstimator(double gamma, double lambda) : IAdvantageEstimator
{
    /// <inheritdoc/>
    public bool NeedsCritic => true;

    /// <inheritdoc/>
    public AdvantageEstimate Estimate(RewardedBatch batch)
    {
        var values = batch.Values ?? throw new ArgumentException("GAE needs the critic's values.", nameof(batch));
        var (advantages, returns) = (new List<double[]>(), new List<double[]>());
        for (var i = 0; i < batch.Rewards.Count; i++)
        {
            var (a, r) = Advantages.Gae(batch.Rewards[i], values[i], gamma, lambda);
            advantages.Add(a);
            returns.Add(r);
        }

        Advantages.Whiten(advantages);
        return new AdvantageEstimate(advantages, returns);
    }
}
