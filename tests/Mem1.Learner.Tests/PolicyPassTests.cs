using Mem1.Model;
using TorchSharp;
using static TorchSharp.torch;

namespace Mem1.Learner.Tests;

public sealed class PolicyPassTests
{
    public static TheoryData<bool, int> Ways => new() { { true, 0 }, { false, 1 }, { false, 7 }, { true, 7 }, { true, 1000 } };

    [Theory]
    [MemberData(nameof(Ways))]
    public void Recomputing_and_chunking_change_neither_results_nor_gradients(bool checkpointing, int chunk)
    {
        foreach (var (rope, convolution, temperature) in new[] { (true, 0, 1.0), (false, 3, 0.7) })
        {
            var shape = TestData.Shape(rope, convolution);
            using var plain = Model(shape);
            using var other = Model(shape);
            var want = Run(plain, temperature, new ComputeOptions());
            var got = Run(other, temperature, new ComputeOptions { GradientCheckpointing = checkpointing, VocabularyChunkTokens = chunk });
            Same(want.LogProbs, got.LogProbs);
            Same(want.Entropies, got.Entropies);
            Same(want.Values, got.Values);
            Same(want.Gradient, got.Gradient);
            Assert.True(want.Gradient.Max(Math.Abs) > 0.01);
        }
    }

    [Fact]
    public void Gradients_of_a_second_pass_are_added_to_those_of_the_first()
    {
        var shape = TestData.Shape(rope: true, convolution: 0);
        using var model = Model(shape);
        var options = new ComputeOptions { GradientCheckpointing = true, VocabularyChunkTokens = 3 };
        var once = Run(model, 1, options).Gradient;
        Same([.. once.Select(g => 2 * g)], Run(model, 1, options).Gradient);
    }

    [Fact]
    public void A_loss_of_values_alone_moves_the_value_head_alone()
    {
        var shape = TestData.Shape(rope: true, convolution: 0);
        using var model = Model(shape);
        using (var scope = NewDisposeScope())
        {
            using var pass = new PolicyPass(model, Pass(), 1, new ComputeOptions { VocabularyChunkTokens = 3 });
            pass.Backward(pass.Values!.square().sum());
        }

        var spans = model.Parameters.Spans;
        Assert.All(spans, s => Assert.Equal(
            s.Group == ParameterGroup.Value,
            model.Parameters.Gradients.narrow(0, s.Start, s.Length).abs().sum().item<float>() > 0));
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public void Nothing_is_left_behind(bool checkpointing, int chunk)
    {
        var shape = TestData.Shape(rope: true, convolution: 0);
        using var model = Model(shape);
        var options = new ComputeOptions { GradientCheckpointing = checkpointing, VocabularyChunkTokens = chunk };
        Run(model, 1, options);
        var live = DisposeScopeManager.Statistics.ThreadTotalLiveCount;
        Run(model, 1, options);
        Assert.Equal(live, DisposeScopeManager.Statistics.ThreadTotalLiveCount);
    }

    [Fact]
    public void Scores_do_not_depend_on_chunks()
    {
        var shape = TestData.Shape(rope: true, convolution: 0);
        using var model = Model(shape);
        using var scope = NewDisposeScope();
        using var guard = no_grad();
        var selected = Scoring.Select(model, Pass());
        float[] Score(int chunk) => PolicyPass.ScoreLogProbs(
            model, selected, Pass(), 0.8, new ComputeOptions { VocabularyChunkTokens = chunk }).data<float>().ToArray();
        Same(Score(0), Score(2));
    }

    [Fact]
    public void Small_vocabularies_go_in_one_piece_and_large_ones_in_bounded_chunks()
    {
        Assert.Equal(int.MaxValue, new ComputeOptions().ChunkOf(ComputeOptions.ChunkedVocabulary - 1));
        Assert.InRange((long)new ComputeOptions().ChunkOf(32_768) * 32_768, 1, 1 << 24);
        Assert.Equal(110, new ComputeOptions().ChunkOf(151_936));
        Assert.Equal(5, new ComputeOptions { VocabularyChunkTokens = 5 }.ChunkOf(100));
    }

    [Theory]
    [InlineData(true, 0)]
    [InlineData(false, 3)]
    public void In_bf16_parameters_and_gradients_stay_float32_and_results_stay_near(bool rope, int convolution)
    {
        var shape = TestData.Shape(rope, convolution);
        using var plain = Model(shape);
        using var narrow = Model(shape, ComputePrecision.Bf16);
        var want = Run(plain, 1, new ComputeOptions());
        var got = Run(narrow, 1, new ComputeOptions());
        Assert.Equal(ScalarType.Float32, narrow.Parameters.Values.dtype);
        Assert.Equal(ScalarType.Float32, narrow.Parameters.Gradients.dtype);
        // bfloat16 keeps 8 bits: products are off by up to 1/256 each, and a log-prob adds up a few of them.
        var gap = want.LogProbs.Zip(got.LogProbs, (a, b) => Math.Abs(a - b)).Max();
        Assert.InRange(gap, 1e-5, 0.15);
        Assert.True(Cosine(want.Gradient, got.Gradient) > 0.99);

        // What is recomputed rounds as it did the first time.
        using var recomputed = Model(shape, ComputePrecision.Bf16);
        var again = Run(recomputed, 1, new ComputeOptions { GradientCheckpointing = true });
        Assert.Equal(got.LogProbs, again.LogProbs);
        Same(got.Gradient, again.Gradient);

        static double Cosine(float[] a, float[] b) =>
            a.Zip(b, (x, y) => (double)x * y).Sum() / Math.Sqrt(a.Sum(x => (double)x * x) * b.Sum(y => (double)y * y));
    }

    private static TorchDecoder Model(DecoderConfig shape, ComputePrecision precision = ComputePrecision.Float32)
    {
        var weights = TestData.Weights(shape, 12);
        var head = new Random(13);
        for (var i = 0; i < shape.HiddenSize; i++) weights.Tensors["value_head.fc2.weight"].Data[i] = (float)head.NextDouble() - 0.5f;
        return new TorchDecoder(shape, weights, CPU, precision);
    }

    private static LayoutBatch Pass()
    {
        var random = new Random(3);
        List<Trajectory> batch = [TestData.Trajectory(random, 31, 4), TestData.Trajectory(random, 31, 3)];
        return SegmentsLayout.Build(batch, [.. Scoring.AllTurns(batch)]);
    }

    private static (float[] LogProbs, float[] Entropies, float[] Values, float[] Gradient) Run(
        TorchDecoder model, double temperature, ComputeOptions options)
    {
        using var scope = NewDisposeScope();
        using var pass = new PolicyPass(model, Pass(), temperature, options);
        var n = pass.LogProbs.size(0);
        var weight = torch.arange(n, dtype: ScalarType.Float32) / (double)n;
        pass.Backward((pass.LogProbs.exp() * weight).sum() + (pass.Entropies * weight).sum() * 0.3 + pass.Values!.square().sum());
        return (
            pass.LogProbs.detach().data<float>().ToArray(), pass.Entropies.detach().data<float>().ToArray(),
            pass.Values.detach().data<float>().ToArray(), model.Parameters.Gradients.data<float>().ToArray());
    }

    private static void Same(float[] want, float[] got)
    {
        Assert.Equal(want.Length, got.Length);
        var scale = Math.Max(1, want.Max(Math.Abs));
        for (var i = 0; i < want.Length; i++)
            Assert.True(Math.Abs(want[i] - got[i]) <= 1e-6 * scale, $"{i}: want {want[i]}, got {got[i]}");
    }
}
