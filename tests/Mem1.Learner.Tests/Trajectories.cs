using Mem1.Environments;
using Mem1.Model;

namespace Mem1.Learner.Tests;

/// <summary>Random but consistent trajectories and small models.</summary>
internal static class TestData
{
    public static TrajectoryLimits Limits { get; } = new(VocabularySize: 31, MaxPositions: 128);

    public static DecoderConfig Shape(bool rope, int convolution, AttentionScale scale = AttentionScale.Standard, int kvHeads = 2) => new()
    {
        VocabularySize = 31,
        HiddenSize = 16,
        IntermediateSize = 24,
        Layers = 2,
        Heads = 4,
        KeyValueHeads = kvHeads,
        HeadSize = 4,
        MaxPositions = 128,
        Position = rope ? PositionEncoding.Rope : PositionEncoding.None,
        ConvKernel = convolution,
        EmbeddingConvKernel = convolution,
        AttentionScale = scale,
        TiedEmbeddings = true,
        QkvBias = rope,
    };

    /// <summary>Weights of every tensor a decoder needs, normal with deviation 0.3, and a value head.</summary>
    public static ModelWeights Weights(DecoderConfig c, int seed)
    {
        var random = new Random(seed);
        var tensors = new SortedDictionary<string, WeightTensor>(StringComparer.Ordinal);
        foreach (var (name, shape) in Mem1.Model.Checkpoints.WeightLayout.Expected(c))
        {
            var data = new float[shape.Aggregate(1L, (a, b) => a * b)];
            for (var i = 0; i < data.Length; i++) data[i] = (float)(0.3 * Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(6.2831853 * random.NextDouble()));
            if (name.EndsWith("norm.weight", StringComparison.Ordinal)) for (var i = 0; i < data.Length; i++) data[i] += 1;
            tensors.Add(name, new WeightTensor(shape, data));
        }

        return ValueHead.Ensure(new ModelWeights(tensors), c.HiddenSize, (ulong)seed);
    }

    public static Trajectory Trajectory(Random random, int vocabulary, int turns, string id = "e", double reward = 1, int maxLength = 6, bool discards = false)
    {
        int[] Tokens(int least) => [.. Enumerable.Range(0, random.Next(least, maxLength)).Select(_ => random.Next(vocabulary))];
        var list = new List<Turn>();
        int[] context = [];
        for (var j = 0; j < turns; j++)
        {
            var generated = Tokens(1);
            int[] seen = j == turns - 1 ? [] : Tokens(1);
            list.Add(new Turn(
                context, generated, random.Next(generated.Length), [.. generated.Select(_ => -(float)random.NextDouble() * 3)],
                [.. generated.Select(_ => 0L)], seen));
            // With discards, a format that drops the start of a response.
            var discarded = discards ? random.Next(generated.Length + 1) : 0;
            context = [.. generated[discarded..], .. seen];
        }

        return new Trajectory(id, id, Tokens(1), list, reward, EpisodeEnd.Answered, [reward], [reward], "", false);
    }
}
