namespace Mem1.Learner;

/// <summary>
/// PPO's estimator: GAE along the chain of generated tokens of all turns (<see cref="Advantages.Gae"/>), then whitening over the batch.
/// What the environment said in between takes no part: the next value after the last token of a turn is that of the next turn's first.
/// </summary>
/// <param name="gamma">Discount.</param>
/// <param name="lambda">Trace decay.</param>
/// <param name="time">What they count: tokens, or turns (Li et al., arXiv 2512.17008, a turn as one action of a critic on tokens).</param>
public sealed class GaeEstimator(double gamma, double lambda, CreditTime time = CreditTime.Token) : IAdvantageEstimator
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
            var (a, r) = Advantages.Gae(batch.Rewards[i], values[i], gamma, lambda, Clock.Ticks(batch.Trajectories[i], time));
            advantages.Add(a);
            returns.Add(r);
        }

        return AdvantageEstimate.Of(advantages, returns, whiten: true);
    }
}
