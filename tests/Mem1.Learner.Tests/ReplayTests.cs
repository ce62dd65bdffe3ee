using Mem1.Model;
using Mem1.Model.Checkpoints;
using static TorchSharp.torch;

namespace Mem1.Learner.Tests;

public sealed class ReplayTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("mem1-test").FullName;
    private readonly DecoderConfig _shape = TestData.Shape(rope: true, convolution: 0);
    private static readonly PpoOptions s_options = new() { MiniBatches = 2, CriticOnlyUpdates = 0, WarmupUpdates = 0, MaxSkippedSteps = 3 };

    [Fact]
    public void A_step_that_is_not_finite_moves_nothing_and_is_counted()
    {
        using var trainer = NewTrainer(TestData.Weights(_shape, 3));
        var good = Batch();
        trainer.Update(good, 1, 0);
        var (values, moments) = (All(trainer.Model.Parameters.Values), All(trainer.Optimiser.FirstMoment));
        var bad = good.Select(t => t with { Reward = double.NaN }).ToList();
        Assert.Equal(2, trainer.Update(bad, 2, 1).Health.SkippedSteps);
        Assert.Equal(values, All(trainer.Model.Parameters.Values));
        Assert.Equal(moments, All(trainer.Optimiser.FirstMoment));
        Assert.Equal(2, trainer.State.SkippedInRow);

        // A good step starts the count again.
        Assert.Equal(0, trainer.Update(good, 3, 2).Health.SkippedSteps);
        Assert.Equal(0, trainer.State.SkippedInRow);
        Assert.NotEqual(values, All(trainer.Model.Parameters.Values));
    }

    [Fact]
    public void Too_many_of_them_in_a_row_end_the_run_with_the_step()
    {
        using var trainer = NewTrainer(TestData.Weights(_shape, 3));
        var bad = Batch().Select((t, i) => i == 1 ? t with { Reward = double.PositiveInfinity } : t).ToList(); // whitening spreads it
        trainer.Update(bad, 1, 0);
        var end = Assert.Throws<DivergedException>(() => trainer.Update(bad, 2, 1));
        Assert.Contains("4 steps in a row, the last of update 2", end.Message, StringComparison.Ordinal);
        var path = Path.Combine(_folder, "step.json");
        end.Step.Write(path);
        var read = SavedStep.Read(path);
        Assert.Equal(end.Step.Members, read.Members);
        Assert.Equal(end.Step.Advantages, read.Advantages);
        Assert.Equal(end.Step.Trajectories.Select(t => t.Turns[0].LogProbs), read.Trajectories.Select(t => t.Turns[0].LogProbs));
        Assert.Equal(double.PositiveInfinity, read.Trajectories[1].Reward);
        var found = StepReplay.Run(new Checkpoint(_shape, end.Weights, null), new SegmentsLayout(), read, s_options, 1);
        Assert.Contains(found[0].Split(':')[0], new[] { "advantages", "rewards", "returns" });
        Assert.Contains(found, f => f.StartsWith("policy loss: ", StringComparison.Ordinal));
    }

    [Fact]
    public void Replay_names_the_weight_the_block_and_the_token()
    {
        var step = SoundStep();
        string[] Find(Action<ModelWeights> harm)
        {
            var weights = TestData.Weights(_shape, 3);
            harm(weights);
            return [.. StepReplay.Run(new Checkpoint(_shape, weights, null), new SegmentsLayout(), step, s_options, 1)];
        }

        Assert.StartsWith("Every number is finite", Assert.Single(Find(_ => { })));
        var broken = Find(w => w.Tensors["model.layers.1.mlp.up_proj.weight"].Data[5] = float.NaN);
        Assert.Equal("weights: model.layers.1.mlp.up_proj.weight[5] is NaN", broken[0]);
        Assert.StartsWith("hidden states: not finite after block 2 of 2, first at episode e", broken[1]);
        // Finite weights whose products overflow in the first block.
        var large = Find(w => Array.Fill(w.Tensors["model.layers.0.mlp.down_proj.weight"].Data, 3e38f));
        Assert.StartsWith("hidden states: not finite after block 1 of 2", large[0]);
        var critic = Find(w => w.Tensors["value_head.fc2.bias"].Data[0] = float.PositiveInfinity);
        Assert.Contains(critic, f => f.StartsWith("values: not finite", StringComparison.Ordinal));
        Assert.Contains(critic, f => f.StartsWith("value loss", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("")]
    [InlineData("{}")]
    [InlineData("null")]
    [InlineData("""{"update":1,"members":"all"}""")]
    public void A_file_that_is_no_saved_step_is_refused(string text)
    {
        var path = Path.Combine(_folder, "step.json");
        File.WriteAllText(path, text);
        Assert.Contains(path, Assert.Throws<LearnerException>(() => SavedStep.Read(path)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_saved_step_whose_parts_do_not_fit_is_refused()
    {
        var path = Path.Combine(_folder, "step.json");
        foreach (var (step, words) in new[]
        {
            (SoundStep() with { Members = [9] }, "members"),
            (SoundStep() with { Advantages = [[1]] }, "advantages"),
            (SoundStep() with { Scores = [] }, "scores"),
        })
        {
            step.Write(path);
            Assert.Contains(words, Assert.Throws<LearnerException>(() => SavedStep.Read(path)).Message, StringComparison.Ordinal);
        }
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static List<Trajectory> Batch()
    {
        var random = new Random(2);
        return [.. Enumerable.Range(0, 4).Select(i => TestData.Trajectory(random, 31, 2, $"e{i}", reward: i))];
    }

    private static SavedStep SoundStep()
    {
        var batch = Batch();
        return new SavedStep
        {
            Update = 1,
            PolicyVersion = 0,
            KlFactor = 1,
            Members = [0, 2],
            Trajectories = batch,
            Reference = null,
            Scores = [.. batch.Select(t => new TokenScores(new float[t.GeneratedTokens], new float[t.GeneratedTokens]))],
            Advantages = [.. batch.Select(t => new double[t.GeneratedTokens])],
            Returns = [.. batch.Select(t => new double[t.GeneratedTokens])],
        };
    }

    private PpoTrainer NewTrainer(ModelWeights weights) =>
        new(new TorchDecoder(_shape, weights, CPU), null, new SegmentsLayout(), s_options, 1, seed: 1);

    private static float[] All(Tensor tensor) => tensor.data<float>().ToArray();
}
