namespace Mem1.Learner;

/// <summary>
/// REINFORCE++ (Hu et al., arXiv 2501.03262): the discounted sum of the rewards from a token on, divergence from the reference among them
/// where it is in the reward, whitened over all tokens of the batch. No critic and no groups.
/// </summary>
/// <param name="gamma">Discount.</param>
/// <param name="time">What it counts.</param>
public sealed class ReinforcePlusPlusEstimator(double gamma, CreditTime time = CreditTime.Token) : IAdvantageEstimator
{
    /// <inheritdoc/>
    public bool NeedsCritic => false;

    /// <inheritdoc/>
    public AdvantageEstimate Estimate(RewardedBatch batch)
    {
        // GAE with lambda 1 and a critic that says 0 everywhere is the plain return.
        var returns = batch.Rewards.Select((r, i) =>
            Advantages.Gae(r, new double[r.Length], gamma, lambda: 1, Clock.Ticks(batch.Trajectories[i], time)).Returns).ToList();
        return AdvantageEstimate.Of(returns, returns: null, whiten: true);
    }
}
