using Mem1.Model;
using Mem1.Model.Checkpoints;
using TorchSharp;
using static TorchSharp.torch;

namespace Mem1.Learner.Tests;

public sealed class PpoTrainerTests
{
    private static readonly PpoOptions OneStep = new()
    {
        MiniBatches = 1,
        GradientClip = 0,
        CriticOnlyUpdates = 0,
        WarmupUpdates = 0,
        DecayUpdates = 0,
        Beta1 = 0,
        Lambda = 0.9,
        Gamma = 0.99,
        KlRewardCoefficient = 0.05,
        KlLossCoefficient = 0.1,
        EntropyCoefficient = 0.02,
        ValueClip = 0.05,
        LearningRate = 1e-2,
    };

    [Fact]
    public void The_gradient_of_an_update_is_that_of_the_written_out_objective()
    {
        var (shape, weights, batch) = Setup();
        using var trainer = NewTrainer(shape, weights, OneStep);
        using var plain = new TorchDecoder(shape, weights, CPU);
        using var reference = new TorchDecoder(shape, TestData.Weights(shape, 77), CPU);

        // The objective, turn by turn with a full causal forward each, no layout, no batching.
        var perTrajectory = batch.Select(t => Scored(plain, t)).ToList();
        var referenceScores = batch.Select(t => Scored(reference, t).LogProbs.detach()).ToList();
        var advantages = new List<double[]>();
        var returns = new List<double[]>();
        for (var i = 0; i < batch.Count; i++)
        {
            var old = batch[i].Turns.SelectMany(t => t.LogProbs).ToArray();
            var r = referenceScores[i].data<float>().ToArray();
            var rewards = old.Select((o, k) => -0.05 * (o - r[k])).ToArray();
            rewards[^1] += batch[i].Reward;
            var values = perTrajectory[i].Values.detach().data<float>().ToArray().Select(v => (double)v).ToArray();
            var (a, g) = Advantages.Gae(rewards, values, 0.99, 0.9);
            advantages.Add(a);
            returns.Add(g);
        }

        Advantages.Whiten(advantages);
        var total = torch.zeros([1]);
        var tokens = batch.Sum(t => t.GeneratedTokens);
        for (var i = 0; i < batch.Count; i++)
        {
            var (logProbs, all, values) = perTrajectory[i];
            var old = torch.tensor(batch[i].Turns.SelectMany(t => t.LogProbs).ToArray());
            var a = torch.tensor(advantages[i].Select(v => (float)v).ToArray());
            var g = torch.tensor(returns[i].Select(v => (float)v).ToArray());
            var ratio = torch.exp(logProbs - old);
            var policy = -torch.minimum(ratio * a, torch.clamp(ratio, 0.8, 1.2) * a).sum();
            var value = (values - g).square().sum() * 0.5; // at the first step values equal the old ones, so clipping is idle
            var d = referenceScores[i] - logProbs;
            var kl = (torch.exp(d) - d - 1).sum();
            var entropy = -(torch.exp(all) * all).sum();
            total = total + policy + value - (entropy * 0.02) + (kl * 0.1);
        }

        (total / (double)tokens).sum().backward();
        var want = plain.Parameters.Gradients.data<float>().ToArray();
        trainer.Update(batch, 1, 0);
        var got = trainer.Optimiser.FirstMoment.data<float>().ToArray(); // beta1 is 0
        var scale = want.Max(Math.Abs);
        Assert.True(scale > 1e-3);
        for (var k = 0; k < want.Length; k++) Assert.True(Math.Abs(want[k] - got[k]) <= 2e-5 * scale, $"{k}: want {want[k]}, got {got[k]}");
    }

    [Fact]
    public void Micro_batches_do_not_change_an_update()
    {
        var (shape, weights, batch) = Setup();
        using var whole = NewTrainer(shape, weights, OneStep with { MicroBatchTokens = 1_000_000 });
        using var cut = NewTrainer(shape, weights, OneStep with { MicroBatchTokens = 30 });
        var a = whole.Update(batch, 1, 0);
        var b = cut.Update(batch, 1, 0);
        var (want, got) = (whole.Optimiser.FirstMoment.data<float>().ToArray(), cut.Optimiser.FirstMoment.data<float>().ToArray());
        var scale = want.Max(Math.Abs);
        for (var k = 0; k < want.Length; k++) Assert.True(Math.Abs(want[k] - got[k]) <= 2e-5 * scale);
        Assert.Equal(a.PolicyLoss, b.PolicyLoss, 1e-5);
        Assert.Equal(a.Entropy, b.Entropy, 1e-5);
        Assert.Equal(a.Tokens, b.Tokens);
    }

    [Fact]
    public void Parity_is_the_largest_gap_over_tokens_of_the_current_version()
    {
        var (shape, weights, batch) = Setup();
        using var trainer = NewTrainer(shape, weights, OneStep);
        var scores = Scoring.Score(trainer.Model, new SegmentsLayout(), batch, 1.0, 10_000, values: false);
        // What the learner computes, but one token 0.25 off and one of an older version 9 off.
        var exact = batch.Select((t, i) =>
        {
            var at = 0;
            return t with
            {
                Turns = [.. t.Turns.Select(turn => turn with { LogProbs = scores[i].LogProbs[at..(at += turn.Generated.Length)] })],
            };
        }).ToList();
        exact[1].Turns[0].LogProbs[0] += 0.25f;
        exact[2].Turns[0].LogProbs[0] += 9;
        exact[2].Turns[0].PolicyVersions[0] = -3;
        var statistics = trainer.Update(exact, 1, policyVersion: 0);
        Assert.Equal(0.25, statistics.ParityMaxAbs!.Value, 1e-5);
        Assert.Equal(3, statistics.StalenessMax);
    }

    [Fact]
    public void Only_the_critic_learns_in_the_first_updates()
    {
        var (shape, weights, batch) = Setup();
        using var trainer = NewTrainer(shape, weights, OneStep with { CriticOnlyUpdates = 1 });
        trainer.Update(batch, 1, 0);
        var after = trainer.Model.Parameters.Snapshot(policyOnly: false).Tensors;
        foreach (var (name, tensor) in weights.Tensors)
        {
            if (!name.StartsWith("value_head", StringComparison.Ordinal)) Assert.Equal(tensor.Data, after[name].Data);
        }

        Assert.NotEqual(weights.Tensors["value_head.fc2.weight"].Data, after["value_head.fc2.weight"].Data);
    }

    [Theory]
    [InlineData(AdvantageKind.Grpo)]
    [InlineData(AdvantageKind.Rloo)]
    [InlineData(AdvantageKind.ReinforcePlusPlus)]
    public void Estimators_without_a_critic_train_the_policy_alone(AdvantageKind estimator)
    {
        var (shape, weights, batch) = Setup();
        var grouped = batch.Select((t, i) => t with { Group = $"{i / 2}" }).ToList();
        using var trainer = NewTrainer(shape, weights, new PpoOptions { Estimator = estimator, MiniBatches = 2, WarmupUpdates = 0 });
        var statistics = trainer.Update(grouped, 1, 0); // critic_only_updates of 1 is the default and does not hold it up
        Assert.True(double.IsNaN(statistics.ValueLoss) && double.IsNaN(statistics.ExplainedVariance));
        var after = trainer.Model.Parameters.Snapshot(policyOnly: false).Tensors;
        foreach (var (name, tensor) in weights.Tensors)
            Assert.Equal(name.StartsWith("value_head", StringComparison.Ordinal), tensor.Data.SequenceEqual(after[name].Data));
    }

    [Fact]
    public void Stopping_and_resuming_is_bit_for_bit_going_on()
    {
        var (shape, weights, batch) = Setup();
        var options = OneStep with { MiniBatches = 2, Beta1 = 0.9, GradientClip = 0.5, WeightDecay = 0.1 };
        var root = Directory.CreateTempSubdirectory("mem1-test").FullName;
        try
        {
            using var straight = NewTrainer(shape, weights, options);
            for (var u = 1; u <= 4; u++) straight.Update(batch, u, u - 1);

            using (var first = NewTrainer(shape, weights, options))
            {
                for (var u = 1; u <= 2; u++) first.Update(batch, u, u - 1);
                TrainingCheckpoint.Save(
                    root, new Checkpoint(shape, first.Model.Parameters.Snapshot(policyOnly: false), null), first.Optimiser,
                    new TrainingState { Update = 2, PolicyVersion = 2, OptimiserSteps = [.. first.Optimiser.Steps] },
                    new CheckpointRetention(2));
            }

            var folder = TrainingCheckpoint.OpenNewest(root, Assert.Fail)!;
            var loaded = Checkpoint.Load(folder);
            using var second = NewTrainer(loaded.Config, loaded.Weights, options);
            var state = TrainingCheckpoint.LoadState(folder);
            TrainingCheckpoint.RestoreOptimiser(folder, second.Optimiser, state);
            for (var u = 3; u <= 4; u++) second.Update(batch, u, u - 1);

            Assert.Equal(straight.Model.Parameters.Values.data<float>().ToArray(), second.Model.Parameters.Values.data<float>().ToArray());
            Assert.Equal(straight.Optimiser.SecondMoment.data<float>().ToArray(), second.Optimiser.SecondMoment.data<float>().ToArray());
        }
        finally
        {
            Directory.Delete(root, recursive: true);
        }
    }

    [Fact]
    public void Updates_leave_no_tensors_behind()
    {
        var (shape, weights, batch) = Setup();
        using var trainer = NewTrainer(shape, weights, OneStep);
        trainer.Update(batch, 1, 0);
        var live = DisposeScopeManager.Statistics.ThreadTotalLiveCount;
        for (var u = 2; u < 20; u++) trainer.Update(batch, u, u - 1);
        Assert.Equal(live, DisposeScopeManager.Statistics.ThreadTotalLiveCount);
    }

    private static (DecoderConfig, ModelWeights, List<Trajectory>) Setup()
    {
        var shape = TestData.Shape(rope: false, convolution: 3, AttentionScale.LogN);
        var random = new Random(11);
        var weights = TestData.Weights(shape, 12);
        // A value head that says something: its last layer is zero at first.
        var head = new Random(13);
        for (var i = 0; i < shape.HiddenSize; i++) weights.Tensors["value_head.fc2.weight"].Data[i] = (float)head.NextDouble() - 0.5f;
        var batch = Enumerable.Range(0, 5).Select(i => TestData.Trajectory(random, 31, random.Next(1, 5), $"e{i}", random.NextDouble())).ToList();
        return (shape, weights, batch);
    }

    private static PpoTrainer NewTrainer(DecoderConfig shape, ModelWeights weights, PpoOptions options) => new(
        new TorchDecoder(shape, weights, CPU), new TorchDecoder(shape, TestData.Weights(shape, 77), CPU), new SegmentsLayout(), options, 1.0, seed: 5);

    private static (Tensor LogProbs, Tensor All, Tensor Values) Scored(TorchDecoder model, Trajectory trajectory)
    {
        var (logProbs, all, values) = (new List<Tensor>(), new List<Tensor>(), new List<Tensor>());
        foreach (var turn in trajectory.Turns)
        {
            int[] sequence = [.. trajectory.Prompt, .. turn.Context, .. turn.Generated];
            var hidden = model.Forward(new TurnBatch([[]], [sequence], [0]))
                .narrow(0, trajectory.Prompt.Length + turn.Context.Length - 1, turn.Generated.Length);
            var p = nn.functional.log_softmax(model.Logits(hidden), -1);
            all.Add(p);
            logProbs.Add(p.gather(1, torch.tensor(turn.Generated.Select(t => (long)t).ToArray()).unsqueeze(1)).squeeze(1));
            values.Add(model.Values(hidden));
        }

        return (torch.cat([.. logProbs]), torch.cat([.. all]), torch.cat([.. values]));
    }
}
