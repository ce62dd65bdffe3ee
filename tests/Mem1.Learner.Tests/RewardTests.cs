using Mem1.Environments;
using Mem1.Model;
using static TorchSharp.torch;

namespace Mem1.Learner.Tests;

public sealed class RewardTests
{
    [Fact]
    public void Rewards_of_turns_come_at_their_last_tokens_and_the_rest_at_the_end()
    {
        var template = TestData.Trajectory(new Random(1), 31, 1, reward: 1);
        Turn Of(int length, double reward) => new([], new int[length], 0, new float[length], new long[length], []) { Reward = reward };
        var rewards = new TokenRewards([template with { Turns = [Of(2, 0.25), Of(3, -0.5), Of(2, 0)], FormatReward = 0.1 }]);
        Assert.Equal([0, 0.25, 0, 0, -0.5, 0, 1.25], rewards.PerToken[0]);
        Assert.Equal(-0.25, rewards.Parts["turns"], 1e-12);
        Assert.Equal(0.1, rewards.Parts["format"], 1e-12);
        Assert.Equal(1.15, rewards.Parts["outcome"], 1e-12);
        rewards.AddAtEnd("overlong", [-3]);
        rewards.Add("kl", [[1, 1, 1, 1, 1, 1, 1]]);
        Assert.Equal([1, 1.25, 1, 1, 0.5, 1, -0.75], rewards.PerToken[0]);
        Assert.Equal((-3.0, 7.0), (rewards.Parts["overlong"], rewards.Parts["kl"]));
    }

    [Fact]
    public void A_state_pays_for_its_tokens_beyond_the_free_ones()
    {
        var trajectory = TestData.Trajectory(new Random(1), 31, 1) with
        {
            Turns = [.. new[] { 3, 1, 0 }.Select(s => new Turn([], new int[4], s, new float[4], new long[4], []))],
        };
        var rewards = new StateCostShaper(0.5, free: 1).Shape([trajectory], _ => throw new InvalidOperationException("no scoring"))[0];
        Assert.Equal([0, 0, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0], rewards);
    }

    [Fact]
    public void A_state_earns_what_it_adds_to_the_likelihood_of_the_right_answer()
    {
        var trajectory = TestData.Trajectory(new Random(1), 31, 1) with
        {
            RightAnswer = [7, 8],
            Turns = [.. new[] { 2, 0, 1 }.Select((s, j) => new Turn([20 + j], [1, 2, 3], s, new float[3], new long[3], []))],
        };
        IReadOnlyList<Trajectory> asked = [];
        var rewards = new AnswerGainShaper(10, maxPositions: 128).Shape([trajectory with { RightAnswer = [] }, trajectory], made =>
        {
            asked = made;
            return [[-4, -2, -1, -1, -9, -9, -0.5f, -0.5f]]; // after the prompt, then after each state
        });
        Assert.All(rewards[0], r => Assert.Equal(0, r)); // nobody knows its answer
        var tooLong = new AnswerGainShaper(10, trajectory.Prompt.Length + 3)
            .Shape([trajectory], _ => throw new InvalidOperationException());
        Assert.All(tooLong[0], r => Assert.Equal(0, r));
        // Means -3, -1, (-9: no state, so no gain), -0.5.
        Assert.Equal([0, 20, 0, 0, 0, 0, 5, 0, 0], rewards[1]);
        Assert.Equal([[], [20, 1, 2], [21], [22, 1]], Assert.Single(asked).Turns.Select(t => t.Context));
        Assert.All(asked[0].Turns, t => Assert.Equal([7, 8], t.Generated));
    }

    [Fact]
    public void Gains_are_scored_by_the_model_in_training()
    {
        var shape = TestData.Shape(rope: true, convolution: 0);
        var weights = TestData.Weights(shape, 3);
        var random = new Random(2);
        var batch = Enumerable.Range(0, 3)
            .Select(i => TestData.Trajectory(random, 31, 3, $"e{i}") with { RightAnswer = [4, 5, 6] }).ToList();
        using var trainer = new PpoTrainer(
            new TorchDecoder(shape, weights, CPU), null, new SegmentsLayout(),
            new PpoOptions { Shaping = new ShapingOptions { AnswerGain = 1, StateCost = 0.1 } }, 1, seed: 1);
        using var plain = new TorchDecoder(shape, weights, CPU);
        var parts = trainer.Update(batch, 1, 0).Health.Rewards;
        // Potentials telescope: the sum of an episode's gains is that of its last turn with a state minus that of the prompt.
        double Potential(Trajectory t, int[] context)
        {
            using var scope = NewDisposeScope();
            int[] sequence = [.. t.Prompt, .. context, .. t.RightAnswer];
            var hidden = plain.Forward(new TurnBatch([[]], [sequence], [0])).narrow(0, sequence.Length - 4, 3);
            var all = nn.functional.log_softmax(plain.Logits(hidden), -1);
            return all.gather(1, tensor(new long[] { 4, 5, 6 }).unsqueeze(1)).mean().item<float>();
        }

        var want = batch.Average(t => t.Turns.LastOrDefault(turn => turn.StateLength > 0) is { } last
            ? Potential(t, [.. last.Context, .. last.Generated[..last.StateLength]]) - Potential(t, []) : 0);
        Assert.Equal(want, parts["answer_gain"], 1e-5);
        Assert.Equal(-0.1 * batch.Average(t => t.Turns.Sum(turn => turn.StateLength)), parts["state_cost"], 1e-9);
    }

    [Theory]
    [InlineData(OverlongEpisodes.Train, 0, 3)]
    [InlineData(OverlongEpisodes.Mask, 0, 1)]
    [InlineData(OverlongEpisodes.Penalise, 0.5, 3)]
    public void Episodes_that_a_limit_ended(OverlongEpisodes what, double penalty, int trained)
    {
        var shape = TestData.Shape(rope: true, convolution: 0);
        var random = new Random(2);
        EpisodeEnd[] ends = [EpisodeEnd.Answered, EpisodeEnd.TurnLimit, EpisodeEnd.ContextFull];
        var batch = ends.Select((end, i) => TestData.Trajectory(random, 31, 2, $"e{i}") with { End = end }).ToList();
        using var trainer = new PpoTrainer(
            new TorchDecoder(shape, TestData.Weights(shape, 3), CPU), null, new SegmentsLayout(),
            new PpoOptions { Overlong = what, OverlongPenalty = penalty, MiniBatches = 1 }, 1, seed: 1);
        var statistics = trainer.Update(batch, 1, 0);
        Assert.Equal(batch.Take(trained).Sum(t => t.GeneratedTokens), statistics.Tokens);
        Assert.Equal(3 - trained, statistics.Health.MaskedEpisodes);
        if (penalty > 0) Assert.Equal(-penalty * 2 / 3, statistics.Health.Rewards["overlong"], 1e-12);

        // Nothing but such episodes: nothing to learn, and no failure.
        var none = trainer.Update([batch[1]], 2, 1);
        Assert.Equal(what == OverlongEpisodes.Mask ? 0 : batch[1].GeneratedTokens, none.Tokens);
    }

    [Fact]
    public void Divergence_in_the_reward_may_be_clamped_at_0()
    {
        var shape = TestData.Shape(rope: true, convolution: 0);
        var random = new Random(2);
        var batch = Enumerable.Range(0, 3).Select(i => TestData.Trajectory(random, 31, 2, $"e{i}")).ToList();
        batch[0].Turns[0].LogProbs[0] = -20; // far less likely than the reference finds it
        using var reference = new TorchDecoder(shape, TestData.Weights(shape, 9), CPU);
        var scores = Scoring.Score(reference, new SegmentsLayout(), batch, 1, 10_000, values: false);
        var gaps = batch.SelectMany((t, i) =>
            t.Turns.SelectMany(turn => turn.LogProbs).Zip(scores[i].LogProbs, (b, r) => (double)(b - r))).ToList();
        Assert.Contains(gaps, g => g < 0);
        foreach (var clamp in new[] { false, true })
        {
            using var trainer = new PpoTrainer(
                new TorchDecoder(shape, TestData.Weights(shape, 3), CPU), new TorchDecoder(shape, TestData.Weights(shape, 9), CPU),
                new SegmentsLayout(),
                new PpoOptions { KlRewardCoefficient = 0.1, KlRewardClamp = clamp, KlTarget = 1, KlHorizon = 30 }, 1, seed: 1);
            var health = trainer.Update(batch, 1, 0).Health;
            Assert.Equal(-0.1 * gaps.Sum(g => clamp ? Math.Max(0, g) : g) / 3, health.Rewards["kl"], 1e-6);
            var moved = 1 + (Math.Clamp(gaps.Average() - 1, -0.2, 0.2) * 3 / 30);
            Assert.Equal(moved, health.KlFactor!.Value, 1e-6);
            Assert.Equal(new TrainerState(health.KlFactor.Value, 0), trainer.State);
        }
    }
}
