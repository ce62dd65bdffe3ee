using Mem1.Model.Checkpoints;
using Mem1.Model.Generation;
using Mem1.Model.Tokenizers;

namespace Mem1.Model.Tests;

/// <summary>Small random models and the like.</summary>
internal static class Support
{
    public static string Data(string name) => Path.Combine(AppContext.BaseDirectory, "data", name);

    /// <summary>A shape that exercises every option: odd sizes, grouped heads, all convolutions.</summary>
    public static DecoderConfig FullConfig(PositionEncoding position = PositionEncoding.Rope) => new()
    {
        VocabularySize = 61,
        HiddenSize = 40,
        IntermediateSize = 52,
        Layers = 2,
        Heads = 4,
        KeyValueHeads = 2,
        HeadSize = 10,
        MaxPositions = 512,
        TiedEmbeddings = true,
        Position = position,
        ConvKernel = 5,
        EmbeddingConvKernel = 4,
        AttentionScale = AttentionScale.LogN,
    };

    public static DecoderConfig PlainConfig() => new()
    {
        VocabularySize = 83,
        HiddenSize = 64,
        IntermediateSize = 96,
        Layers = 2,
        Heads = 4,
        KeyValueHeads = 2,
        HeadSize = 16,
        MaxPositions = 256,
    };

    /// <summary>Every tensor random; norms near one, so that logits spread.</summary>
    public static ModelWeights RandomWeights(DecoderConfig config, ulong seed)
    {
        var tensors = new SortedDictionary<string, WeightTensor>(StringComparer.Ordinal);
        ulong stream = seed;
        foreach ((string name, long[] shape) in WeightLayout.Expected(config))
        {
            var data = new float[shape.Aggregate(1L, (a, b) => a * b)];
            double mean = name.EndsWith("norm.weight", StringComparison.Ordinal) ? 1 : 0;
            double deviation = mean == 1 ? 0.1 : name.Contains("embed_tokens") ? 1 : 1.5 / Math.Sqrt(shape[^1]);
            stream = RandomStream.Bits(stream, 7);
            for (int i = 0; i < data.Length; i++)
                data[i] = (float)(mean + deviation * RandomStream.Normals(stream, (ulong)i).First);
            tensors[name] = new WeightTensor(shape, data);
        }
        return new ModelWeights(tensors);
    }

    public static int[] RandomTokens(int count, int vocabulary, ulong seed) =>
        [.. Enumerable.Range(0, count).Select(i => (int)(RandomStream.Bits(seed, (ulong)i) % (ulong)vocabulary))];

    /// <summary>Words w0, w1, ...; as many as the model has ids.</summary>
    public static ITokenizer Words(int count) => new WordLevelTokenizer([.. Enumerable.Range(0, count).Select(i => $"w{i}")]);

    /// <summary>Steps until nothing is active; results by id.</summary>
    public static Dictionary<long, GenerationResult> Drain(IGenerationEngine engine)
    {
        var results = new Dictionary<long, GenerationResult>();
        while (engine.Active > 0)
        {
            foreach (GenerationResult result in engine.Step())
                results.Add(result.Id, result);
        }
        return results;
    }

    /// <summary>A folder that goes away with the test.</summary>
    public sealed class TempFolder : IDisposable
    {
        public string Path { get; } = Directory.CreateTempSubdirectory("mem1-model-").FullName;

        public string File(string name) => System.IO.Path.Combine(Path, name);

        public void Dispose() => Directory.Delete(Path, recursive: true);
    }
}
