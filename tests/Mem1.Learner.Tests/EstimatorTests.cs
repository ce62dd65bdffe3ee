// Estimators against their definitions, written out as sums without recursion, and against numbers reckoned by hand.
namespace Mem1.Learner.Tests;

public sealed class EstimatorTests
{
    [Theory]
    [InlineData(CreditTime.Token)]
    [InlineData(CreditTime.Turn)]
    public void Gae_is_the_sum_of_its_definition(CreditTime time)
    {
        const double Gamma = 0.9, Lambda = 0.7;
        var random = new Random(3);
        var (trajectories, rewards, values) = Batch(random, 6);
        var got = new GaeEstimator(Gamma, Lambda, time).Estimate(new RewardedBatch(trajectories, rewards, values));
        var want = new List<double[]>();
        for (var i = 0; i < trajectories.Count; i++)
        {
            var (r, v) = (rewards[i], values[i]);
            var turnOf = trajectories[i].Turns.SelectMany((t, j) => t.Generated.Select(_ => j)).ToArray();
            // Steps of time between two tokens: their distance, or how many turns lie between them.
            int Turn(int t) => t < r.Length ? turnOf[t] : turnOf[^1] + 1;
            int Steps(int from, int to) => time == CreditTime.Token ? to - from : Turn(to) - Turn(from);
            double Delta(int t) => r[t] + (Math.Pow(Gamma, Steps(t, t + 1)) * (t + 1 < r.Length ? v[t + 1] : 0)) - v[t];
            want.Add([.. r.Select((_, t) => Enumerable.Range(t, r.Length - t).Sum(k => Math.Pow(Gamma * Lambda, Steps(t, k)) * Delta(k)))]);
            for (var t = 0; t < r.Length; t++) Assert.Equal(want[i][t] + v[t], got.Returns![i][t], 1e-12);
        }

        var all = want.SelectMany(a => a).ToArray();
        var mean = all.Average();
        var deviation = Math.Sqrt(all.Sum(a => (a - mean) * (a - mean)) / (all.Length - 1));
        for (var i = 0; i < want.Count; i++)
            for (var t = 0; t < want[i].Length; t++)
                Assert.Equal((want[i][t] - mean) / deviation, got.Advantages[i][t], 1e-6);
    }

    [Fact]
    public void In_turn_time_with_lambda_0_a_token_is_judged_by_the_value_at_the_next_turn()
    {
        // Two turns of two tokens: A = (reward of the rest of the turn + gamma V(next turn)) - V(token).
        var trajectory = Turns(2, 2);
        var (a, _) = Advantages.Gae([1, 2, 4, 8], [0.1, 0.2, 0.3, 0.4], 0.5, 0, Clock.Ticks(trajectory, CreditTime.Turn));
        Assert.Equal([3 + 0.15 - 0.1, 2 + 0.15 - 0.2, 12 - 0.3, 8 - 0.4], a.Select(x => Math.Round(x, 12)));
    }

    [Fact]
    public void Grpo_compares_within_the_group_and_spreads_over_every_turn()
    {
        var batch = Grouped([("a", 1), ("b", 5), ("a", 3), ("b", 5), ("alone", 9)]);
        var scaled = new GrpoEstimator(scale: true).Estimate(batch).Advantages;
        // Group a: mean 2, deviation sqrt(2); group b has no spread; an episode without companions teaches nothing.
        var want = new[] { -1 / Math.Sqrt(2), 0, 1 / Math.Sqrt(2), 0, 0 };
        Assert.All(want, (w, i) => Assert.All(scaled[i], x => Assert.Equal(w, x, 1e-5)));
        Assert.All(scaled, (a, i) => Assert.Equal(batch.Trajectories[i].GeneratedTokens, a.Length));
        var plain = new GrpoEstimator(scale: false).Estimate(batch).Advantages;
        Assert.All(new double[] { -1, 0, 1, 0, 0 }, (w, i) => Assert.All(plain[i], x => Assert.Equal(w, x, 1e-12)));
    }

    [Fact]
    public void Rloo_leaves_the_episode_itself_out_of_its_baseline()
    {
        var got = new RlooEstimator().Estimate(Grouped([("a", 1), ("a", 3), ("a", 8), ("b", 2), ("b", 2)])).Advantages;
        Assert.All(new double[] { 1 - 5.5, 3 - 4.5, 8 - 2, 0, 0 }, (w, i) => Assert.All(got[i], x => Assert.Equal(w, x, 1e-12)));
    }

    [Fact]
    public void Reinforce_plus_plus_whitens_rewards_to_go_over_the_whole_batch()
    {
        // Rewards to go: 6 5 3 and 10 9; mean 6.6, unbiased variance 33.2 / 4.
        var batch = new RewardedBatch([Turns(2, 1), Turns(1, 1)], [[1, 2, 3], [1, 9]], Values: null);
        var got = new ReinforcePlusPlusEstimator(gamma: 1).Estimate(batch).Advantages;
        double[] want = [6, 5, 3, 10, 9];
        Assert.All(want, (w, k) => Assert.Equal((w - 6.6) / Math.Sqrt(33.2 / 4), got.SelectMany(a => a).ElementAt(k), 1e-6));
        // Discounted by turns: the first turn's tokens see the second turn's reward once discounted.
        var discounted = new ReinforcePlusPlusEstimator(0.5, CreditTime.Turn).Estimate(batch).Advantages;
        double[] toGo = [1 + 2 + 1.5, 2 + 1.5, 3, 1 + 4.5, 9];
        var (mean, variance) = (toGo.Average(), toGo.Sum(x => Math.Pow(x - toGo.Average(), 2)) / 4);
        Assert.All(toGo, (w, k) => Assert.Equal((w - mean) / Math.Sqrt(variance), discounted.SelectMany(a => a).ElementAt(k), 1e-6));
    }

    [Fact]
    public void Gae_without_a_critic_is_refused() => Assert.Throws<ArgumentException>(
        () => new GaeEstimator(1, 1).Estimate(new RewardedBatch([Turns(1)], [[1]], Values: null)));

    private static RewardedBatch Grouped((string Group, double Score)[] episodes)
    {
        var random = new Random(5);
        var trajectories = episodes.Select(e => TestData.Trajectory(random, 31, random.Next(1, 4)) with { Group = e.Group }).ToList();
        // The score is a sum of rewards at several tokens.
        return new RewardedBatch(
            trajectories,
            [.. trajectories.Select((t, i) => Enumerable.Repeat(episodes[i].Score / t.GeneratedTokens, t.GeneratedTokens).ToArray())],
            Values: null);
    }

    private static Trajectory Turns(params int[] lengths)
    {
        var template = TestData.Trajectory(new Random(1), 31, 1);
        return template with { Turns = [.. lengths.Select(n => new Turn([], new int[n], 0, new float[n], new long[n], []))] };
    }

    private static (List<Trajectory> Trajectories, List<double[]> Rewards, List<double[]> Values) Batch(Random random, int count)
    {
        var trajectories = Enumerable.Range(0, count).Select(_ => TestData.Trajectory(random, 31, random.Next(1, 5))).ToList();
        double[] Numbers(Trajectory t) => [.. Enumerable.Range(0, t.GeneratedTokens).Select(_ => random.NextDouble() - 0.5)];
        return (trajectories, [.. trajectories.Select(Numbers)], [.. trajectories.Select(Numbers)]);
    }
}
