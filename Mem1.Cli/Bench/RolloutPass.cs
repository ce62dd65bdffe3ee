// Keeps: every request has the same lengths and nothing ends early, so all sequences are in every step and tokens/s needs no averaging.
using System.Diagnostics;
using Mem1.Learner;
using Mem1.Model;
using Mem1.Model.Checkpoints;
using Mem1.Model.Generation;
using TorchSharp;

namespace Mem1.Cli.Bench;

/// <summary>Rounds of one batch size, and what the first sequences drew.</summary>
/// <param name="Batch">Sequences decoded together.</param>
/// <param name="Rounds">Timed.</param>
/// <param name="Seconds">Of the fastest round.</param>
/// <param name="CpuSeconds">Processor time of the cheapest round, all threads.</param>
/// <param name="PrefillSeconds">Of the fastest first step, which reads the contexts.</param>
/// <param name="DecodeSeconds">Of the fastest other steps.</param>
/// <param name="Tokens">[sequence][token] of the first sequences.</param>
/// <param name="LogProbs">Of these tokens.</param>
internal sealed record RolloutRound(
    int Batch, int Rounds, double Seconds, double CpuSeconds, double PrefillSeconds, double DecodeSeconds, int[][] Tokens,
    float[][] LogProbs);

/// <summary>What a measuring process reports.</summary>
/// <param name="Engine">What computed, with versions.</param>
/// <param name="Rows">One for each batch size.</param>
internal sealed record RolloutPassReport(string Engine, IReadOnlyList<RolloutRound> Rows);

/// <summary>Ways to sample that this program has.</summary>
internal enum RolloutWay
{
    /// <summary><see cref="CpuGenerationEngine"/>.</summary>
    Managed,
    /// <summary><see cref="TorchGenerationEngine"/> on the CPU.</summary>
    Libtorch,
}

/// <summary>Contexts, and the uniform numbers by which every way draws the same tokens.</summary>
internal static class RolloutPass
{
    public const int ContextTokens = 96, GeneratedTokens = 32;

    // Sequences whose draws are compared.
    private const int Compared = 16;

    private const ulong Seed = 1;

    /// <summary>Writes weights, contexts [batch, context] and uniforms [batch, generated]; ids as float32, which holds them exactly.</summary>
    public static void WriteCase(string path, DecoderConfig shape, int batch)
    {
        var weights = BenchModels.Weights(shape, Seed);
        var all = new SortedDictionary<string, WeightTensor>(weights.Tensors.ToDictionary(), StringComparer.Ordinal)
        {
            ["case.contexts"] = new(
                [batch, ContextTokens], [.. Enumerable.Range(0, batch).SelectMany(i => Context(shape, i)).Select(t => (float)t)]),
            ["case.uniforms"] = new(
                [batch, GeneratedTokens],
                [
                    .. Enumerable.Range(0, batch).SelectMany(i =>
                        Enumerable.Range(0, GeneratedTokens).Select(t => (float)RandomStream.Uniform(SeedOf(i), (ulong)t))),
                ]),
        };
        Safetensors.Write(path, new ModelWeights(all));
    }

    /// <summary>Measures in this process.</summary>
    public static RolloutPassReport MeasureHere(
        string size, RolloutWay way, int threads, IReadOnlyList<int> batches, int repeat, TimeSpan timedAtLeast)
    {
        var shape = BenchModels.Shape(size);
        var weights = BenchModels.Weights(shape, Seed);
        var silent = new SilentTokenizer(shape.VocabularySize);
        if (way == RolloutWay.Libtorch) torch.set_num_threads(threads);
        var rows = new List<RolloutRound>();
        foreach (var batch in batches)
        {
            using IGenerationEngine engine = way == RolloutWay.Managed
                ? new CpuGenerationEngine(shape, weights, 0, silent, threads)
                : new TorchGenerationEngine(shape, weights, 0, silent, torch.CPU);
            var drawn = new GenerationResult[Math.Min(batch, Compared)];
            var warm = Stopwatch.StartNew();
            do Round(engine, shape, batch, drawn);
            while (warm.Elapsed < timedAtLeast / 2);
            double total = double.MaxValue, cpu = double.MaxValue, first = double.MaxValue, rest = double.MaxValue;
            var rounds = 0;
            for (var all = Stopwatch.StartNew(); rounds < repeat || all.Elapsed < timedAtLeast; rounds++)
            {
                var used = Environment.CpuUsage.TotalTime;
                var (prefill, decode) = Round(engine, shape, batch, drawn);
                cpu = Math.Min(cpu, (Environment.CpuUsage.TotalTime - used).TotalSeconds);
                (total, first, rest) = (Math.Min(total, prefill + decode), Math.Min(first, prefill), Math.Min(rest, decode));
            }

            rows.Add(new RolloutRound(
                batch, rounds, total, cpu, first, rest, [.. drawn.Select(d => d.Tokens)], [.. drawn.Select(d => d.LogProbs)]));
        }

        return new RolloutPassReport(
            way == RolloutWay.Managed ? $".NET {Environment.Version}" : $"libtorch {torch.__version__}", rows);
    }

    /// <summary>Seconds of the first step, which reads the contexts, and of all others.</summary>
    private static (double Prefill, double Decode) Round(IGenerationEngine engine, DecoderConfig shape, int batch, GenerationResult[] drawn)
    {
        var sampling = new SamplingOptions(1, 1, GeneratedTokens);
        for (var i = 0; i < batch; i++) engine.Submit(new GenerationRequest(i, Context(shape, i), sampling, [], SeedOf(i)));

        var watch = Stopwatch.StartNew();
        engine.Step();
        var prefill = watch.Elapsed.TotalSeconds;
        while (engine.Active > 0)
        {
            foreach (var result in engine.Step())
                if (result.Id < drawn.Length) drawn[result.Id] = result;
        }

        return (prefill, watch.Elapsed.TotalSeconds - prefill);
    }

    private static int[] Context(DecoderConfig shape, int sequence)
    {
        var random = Seeds.Generator(Seed, 0x4252, (ulong)sequence); // 0x4252: "BR", this purpose's own number
        return [.. Enumerable.Range(0, ContextTokens).Select(_ => random.Next(shape.VocabularySize))];
    }

    private static ulong SeedOf(int sequence) => Seeds.Mix(Seed, (ulong)sequence);

    /// <summary>Ids without text: no stop string and no end of text can end a sequence early.</summary>
    private sealed class SilentTokenizer(int vocabularySize) : ITokenizer
    {
        public int VocabularySize => vocabularySize;

        public int? EndOfText => null;

        public int[] Encode(string text) => [];

        public int[] EncodePrompt(string userPrompt) => [];

        public string Decode(ReadOnlySpan<int> tokens) => "";

        public void Save(string folder) => throw new NotSupportedException("these ids have no text to save");
    }
}
