// Keeps: a case is a function of (size, turns, seed); a file holds all of it, so that another implementation computes the very same update.
using Mem1.Environments;
using Mem1.Learner;
using Mem1.Model;
using Mem1.Model.Checkpoints;
using Mem1.Model.Initialization;

namespace Mem1.Cli.Bench;

/// <summary>Shapes of models that are measured.</summary>
internal static class BenchModels
{
    public static readonly string[] Names = ["tiny", "1m", "4m", "15m", "152k"];

    // The longest context any bench asks for is a prompt of 64, a kept context of 48 and 32 generated tokens.
    private const int Positions = 256;

    /// <summary>
    /// Plain Qwen2: RoPE, grouped queries, SwiGLU, tied embeddings. The names are the numbers of parameters, 152k the vocabulary; tiny is for smoke tests.
    /// </summary>
    public static DecoderConfig Shape(string size)
    {
        var (vocabulary, hidden, layers) = size switch
        {
            "tiny" => (64, 32, 2),
            "1m" => (512, 128, 4),
            "4m" => (512, 256, 4),
            "15m" => (512, 512, 4),
            "152k" => (151_936, 16, 2), // Qwen2.5's vocabulary, and next to nothing else
            _ => throw new ArgumentOutOfRangeException(nameof(size), size, "no such size"),
        };
        return new DecoderConfig
        {
            VocabularySize = vocabulary,
            HiddenSize = hidden,
            IntermediateSize = 4 * hidden,
            Layers = layers,
            Heads = 4,
            KeyValueHeads = 2,
            HeadSize = hidden / 4,
            MaxPositions = Positions,
            TiedEmbeddings = true,
        };
    }

    /// <summary>Weights large enough that attention is far from uniform: a wrong mask must not hide in rounding.</summary>
    public static ModelWeights Weights(DecoderConfig shape, ulong seed)
    {
        var deviation = 1 / Math.Sqrt(shape.HiddenSize);
        var weights = ValueHead.Ensure(ModelInitializer.Normal(shape, seed, deviation), shape.HiddenSize, seed);
        var random = Seeds.Generator(seed, 0x4256); // 0x4256: "BV", this purpose's own number
        foreach (var name in new[] { "value_head.fc1.bias", "value_head.fc2.weight", "value_head.fc2.bias" })
        {
            // A new head predicts 0 everywhere, which would test nothing of the value loss.
            var data = weights.Tensors[name].Data;
            for (var i = 0; i < data.Length; i++) data[i] = (float)(deviation * ((2 * random.NextDouble()) - 1));
        }

        return weights;
    }
}

/// <summary>One PPO step on one trajectory: all that goes in.</summary>
/// <param name="Weights">Decoder and value head.</param>
/// <param name="Trajectory">K turns; its log-probs are the behaviour policy's.</param>
/// <param name="Advantages">One per generated token, in time order.</param>
/// <param name="Returns">One per generated token.</param>
/// <param name="OldValues">One per generated token.</param>
internal sealed record LearnerCase(ModelWeights Weights, Trajectory Trajectory, float[] Advantages, float[] Returns, float[] OldValues)
{
    public const int PromptTokens = 64, GeneratedPerTurn = 32, ObservationTokens = 16;

    /// <summary>What a turn keeps of the one before: all it generated and what was observed.</summary>
    public const int ContextTokens = GeneratedPerTurn + ObservationTokens;

    private const string Prefix = "case.";

    /// <summary>Tokens of the stitched sequence q, y0, x1, y1, ...: what tokens/s counts, whichever way an update is computed.</summary>
    public int StitchedTokens => Trajectory.Prompt.Length + Trajectory.Turns.Sum(t => t.Context.Length + t.Generated.Length);

    /// <summary>A random trajectory of <paramref name="turns"/> turns.</summary>
    public static LearnerCase Create(DecoderConfig shape, int turns, ulong seed)
    {
        var random = Seeds.Generator(seed, 0x4243, (ulong)turns); // 0x4243: "BC", this purpose's own number
        int[] Tokens(int count) => [.. Enumerable.Range(0, count).Select(_ => random.Next(shape.VocabularySize))];
        float[] Noise(int count, double centre, double width) =>
            [.. Enumerable.Range(0, count).Select(_ => (float)(centre + (width * ((2 * random.NextDouble()) - 1))))];
        var all = turns * GeneratedPerTurn;
        return new LearnerCase(
            BenchModels.Weights(shape, seed),
            Assemble(
                Tokens(PromptTokens), [.. Enumerable.Range(0, turns).Select(_ => Tokens(GeneratedPerTurn))],
                [.. Enumerable.Range(0, turns).Select(_ => Tokens(ObservationTokens))],
                Noise(all, -Math.Log(shape.VocabularySize), 0.5)), // near the model's own, so that some ratios are clipped and some are not
            Noise(all, 0, 1.5), Noise(all, 0, 1), Noise(all, 0, 1));
    }

    /// <summary>Writes everything into one safetensors file; token ids as float32, which holds them exactly below 2^24.</summary>
    public void Write(string path)
    {
        static float[] Floats(IEnumerable<int> tokens) => [.. tokens.Select(t => (float)t)];
        var turns = Trajectory.Turns;
        // The last turn observes nothing; its line of zeros keeps the tensor rectangular and is never read.
        var observed = turns.SelectMany(t => t.Observation.Length == 0 ? new int[ObservationTokens] : t.Observation);
        var all = new SortedDictionary<string, WeightTensor>(Weights.Tensors.ToDictionary(), StringComparer.Ordinal)
        {
            [Prefix + "prompt"] = new([Trajectory.Prompt.Length], Floats(Trajectory.Prompt)),
            [Prefix + "generated"] = new([turns.Count, GeneratedPerTurn], Floats(turns.SelectMany(t => t.Generated))),
            [Prefix + "observation"] = new([turns.Count, ObservationTokens], Floats(observed)),
            [Prefix + "old_log_probs"] = new([Advantages.Length], [.. turns.SelectMany(t => t.LogProbs)]),
            [Prefix + "advantages"] = new([Advantages.Length], Advantages),
            [Prefix + "returns"] = new([Returns.Length], Returns),
            [Prefix + "old_values"] = new([OldValues.Length], OldValues),
        };
        Safetensors.Write(path, new ModelWeights(all));
    }

    /// <summary>Reads what <see cref="Write"/> wrote.</summary>
    public static LearnerCase Read(string path)
    {
        var all = Safetensors.Read(path).Tensors;
        float[] Data(string name) => all[Prefix + name].Data;
        int[][] Lines(string name) =>
            [.. Data(name).Select(v => (int)v).Chunk(checked((int)all[Prefix + name].Shape[1]))];
        var weights = all.Where(t => !t.Key.StartsWith(Prefix, StringComparison.Ordinal));
        return new LearnerCase(
            new ModelWeights(new SortedDictionary<string, WeightTensor>(weights.ToDictionary(), StringComparer.Ordinal)),
            Assemble([.. Data("prompt").Select(v => (int)v)], Lines("generated"), Lines("observation"), Data("old_log_probs")),
            Data("advantages"), Data("returns"), Data("old_values"));
    }

    private static Trajectory Assemble(int[] prompt, int[][] generated, int[][] observation, float[] logProbs)
    {
        var turns = new List<Turn>(generated.Length);
        for (var j = 0; j < generated.Length; j++)
        {
            turns.Add(new Turn(
                j == 0 ? [] : [.. generated[j - 1], .. observation[j - 1]], generated[j], generated[j].Length / 2,
                logProbs[(j * GeneratedPerTurn)..((j + 1) * GeneratedPerTurn)], new long[generated[j].Length],
                j == generated.Length - 1 ? [] : observation[j]));
        }

        return new Trajectory("bench", "bench", prompt, turns, 1, EpisodeEnd.Answered, [1], [1], "", false);
    }
}
