// Keeps: an episode is compared with the other episodes of its task in the batch and with nothing else; its advantage is the same at every
// token of every turn; an episode without companions has nothing to be compared with and teaches nothing.
namespace Mem1.Learner;

/// <summary>
/// Multi-context GRPO (Shao et al., arXiv 2402.03300; every context of an episode gets the episode's advantage as in Yuan et al., arXiv
/// 2511.02805): (score - mean of the group) / standard deviation of the group. A score is the sum of all rewards of an episode.
/// </summary>
/// <param name="scale">
/// Whether to divide by the standard deviation; without, hard and easy tasks weigh by their spread (Liu et al., arXiv 2503.20783).
/// </param>
public sealed class GrpoEstimator(bool scale) : IAdvantageEstimator
{
    // Of the deviation; only matters for a group whose scores hardly differ.
    private const double Epsilon = 1e-6;

    /// <inheritdoc/>
    public bool NeedsCritic => false;

    /// <inheritdoc/>
    public AdvantageEstimate Estimate(RewardedBatch batch) => Groups.Estimate(batch, scores =>
    {
        var mean = scores.Average();
        var deviation = Math.Sqrt(scores.Sum(s => (s - mean) * (s - mean)) / (scores.Length - 1));
        return Array.ConvertAll(scores, s => scale ? (s - mean) / (deviation + Epsilon) : s - mean);
    });
}

/// <summary>
/// RLOO (Ahmadian et al., arXiv 2402.14740): score minus the mean score of the other episodes of the group, a baseline that does not depend
/// on the episode itself, so the estimate is unbiased.
/// </summary>
public sealed class RlooEstimator : IAdvantageEstimator
{
    /// <inheritdoc/>
    public bool NeedsCritic => false;

    /// <inheritdoc/>
    public AdvantageEstimate Estimate(RewardedBatch batch) => Groups.Estimate(batch, scores =>
    {
        var sum = scores.Sum();
        return Array.ConvertAll(scores, s => s - ((sum - s) / (scores.Length - 1)));
    });
}

/// <summary>What estimators over groups share.</summary>
internal static class Groups
{
    /// <param name="batch">Rewards; groups are told by <see cref="Trajectory.Group"/>.</param>
    /// <param name="advantages">From the scores of a group of at least two to their advantages.</param>
    public static AdvantageEstimate Estimate(RewardedBatch batch, Func<double[], double[]> advantages)
    {
        var result = batch.Rewards.Select(r => new double[r.Length]).ToList();
        foreach (var group in Enumerable.Range(0, result.Count).GroupBy(i => batch.Trajectories[i].Group, StringComparer.Ordinal))
        {
            int[] members = [.. group];
            if (members.Length < 2) continue;
            var found = advantages(Array.ConvertAll(members, i => batch.Rewards[i].Sum()));
            for (var k = 0; k < members.Length; k++) Array.Fill(result[members[k]], found[k]);
        }

        return AdvantageEstimate.Of(result, returns: null, whiten: false);
    }
}
