// Keeps: every request has the same lengths and nothing ends early, so all sequences are in every step and tokens/s needs no averaging.
using System.Diagnostics;
using System.Globalization;
using Mem1.Learner;
using Mem1.Model;
using Mem1.Model.Generation;

namespace Mem1.Cli.Bench;

/// <summary>One batch size on one number of threads.</summary>
/// <param name="Batch">Sequences decoded together.</param>
/// <param name="Threads">Of the engine.</param>
/// <param name="TokensPerSecond">Generated tokens by the time of a whole round, reading the contexts included.</param>
/// <param name="DecodeTokensPerSecond">Generated tokens after the first by the time of their steps.</param>
/// <param name="PrefillTokensPerSecond">Context tokens by the time of the first step.</param>
/// <param name="Rounds">Timed; the fastest counts.</param>
internal sealed record RolloutRow(
    int Batch, int Threads, double TokensPerSecond, double DecodeTokensPerSecond, double PrefillTokensPerSecond, int Rounds);

/// <summary>All of <c>mem1 bench rollout</c>.</summary>
/// <param name="Bench">rollout.</param>
/// <param name="Size">Of the model.</param>
/// <param name="Parameters">Value head included, which sampling does not use.</param>
/// <param name="ContextTokens">Read before the first token is drawn.</param>
/// <param name="GeneratedTokens">Of each sequence.</param>
/// <param name="Machine">Where.</param>
/// <param name="Rows">The engine by itself.</param>
/// <param name="Worlds">Whole episodes of the built-in task with the built-in model.</param>
internal sealed record RolloutBenchReport(
    string Bench, string Size, long Parameters, int ContextTokens, int GeneratedTokens, MachineInfo Machine, IReadOnlyList<RolloutRow> Rows,
    IReadOnlyList<WorldsRow> Worlds)
{
    /// <summary>The table for people.</summary>
    public string Table()
    {
        var text = new StringWriter(CultureInfo.InvariantCulture);
        void Line(FormattableString line) => text.WriteLine(line.ToString(CultureInfo.InvariantCulture));
        Line($"{Machine}");
        Line($"Sampling from a {Parameters:N0}-parameter model: context {ContextTokens}, {GeneratedTokens} generated.");
        Line($"tok/s: generated tokens per second of a whole round, reading the contexts included.");
        Line($"");
        Line($"batch  threads     tok/s  decode only  prefill");
        foreach (var row in Rows)
        {
            var rates = $"{row.TokensPerSecond,8:0}  {row.DecodeTokensPerSecond,11:0}  {row.PrefillTokensPerSecond,7:0}";
            Line($"{row.Batch,5}  {row.Threads,7}  {rates}");
        }

        Line($"");
        Line($"Whole episodes of the built-in task and model, over actors and gRPC on loopback, {Worlds[0].EpisodesAtOnce} at once:");
        Line($"threads     tok/s  episodes/s  x without prompt cache  context tokens not read");
        foreach (var row in Worlds)
        {
            Line($"{row.Threads,7}  {row.TokensPerSecond,8:0}  {row.EpisodesPerSecond,10:0.0}  {row.TimesWithoutPromptCache,22:0.00}  {row.PrefillSaved,23:0.0%}");
        }

        return text.ToString();
    }
}

/// <summary>Measures the managed generation engine.</summary>
internal static class RolloutBench
{
    public const int ContextTokens = 96, GeneratedTokens = 32;

    private const ulong Seed = 1;

    /// <summary>Enough for tiered compilation to have settled; at batch 1 a round takes a few milliseconds.</summary>
    public static readonly TimeSpan TimedAtLeast = TimeSpan.FromSeconds(2);

    /// <summary>Measures every batch size on every number of threads.</summary>
    /// <param name="size">One of <see cref="BenchModels.Names"/>.</param>
    /// <param name="batches">Batch sizes.</param>
    /// <param name="threads">Numbers of threads.</param>
    /// <param name="repeat">Rounds timed at least.</param>
    /// <param name="timedAtLeast">Goes on timing for so long, after half as long a warm-up.</param>
    /// <param name="progress">Told what is being measured.</param>
    /// <param name="cancellationToken">Stops between rounds.</param>
    public static RolloutBenchReport Run(
        string size, IReadOnlyList<int> batches, IReadOnlyList<int> threads, int repeat, TimeSpan timedAtLeast, Action<string> progress,
        CancellationToken cancellationToken)
    {
        var shape = BenchModels.Shape(size);
        var machine = MachineInfo.Describe();
        var weights = BenchModels.Weights(shape, Seed);
        var rows = new List<RolloutRow>();
        foreach (var batch in batches)
        {
            foreach (var count in threads)
            {
                progress($"batch {batch}, {count} thread{(count == 1 ? "" : "s")}");
                using var engine = new CpuGenerationEngine(shape, weights, 0, new SilentTokenizer(shape.VocabularySize), count);
                for (var warm = Stopwatch.StartNew(); warm.Elapsed < timedAtLeast / 2;) Round(engine, shape, batch);
                double total = double.MaxValue, first = double.MaxValue, rest = double.MaxValue;
                var rounds = 0;
                for (var all = Stopwatch.StartNew(); rounds < repeat || all.Elapsed < timedAtLeast; rounds++)
                {
                    cancellationToken.ThrowIfCancellationRequested();
                    var (prefill, decode) = Round(engine, shape, batch);
                    (total, first, rest) = (Math.Min(total, prefill + decode), Math.Min(first, prefill), Math.Min(rest, decode));
                }

                rows.Add(new RolloutRow(
                    batch, count, batch * GeneratedTokens / total, batch * (GeneratedTokens - 1) / rest, batch * ContextTokens / first,
                    rounds));
            }
        }

        var worlds = new List<WorldsRow>();
        foreach (var count in threads)
        {
            progress($"episodes of the built-in task, {count} thread{(count == 1 ? "" : "s")}");
            worlds.Add(WorldsBench.Run(count, timedAtLeast, cancellationToken));
        }

        return new RolloutBenchReport(
            "rollout", size, weights.Tensors.Values.Sum(t => t.Data.LongLength), ContextTokens, GeneratedTokens, machine, rows, worlds);
    }

    /// <summary>Seconds of the first step, which reads the contexts, and of all others.</summary>
    private static (double Prefill, double Decode) Round(CpuGenerationEngine engine, DecoderConfig shape, int batch)
    {
        var sampling = new SamplingOptions(1, 1, GeneratedTokens);
        for (var i = 0; i < batch; i++)
        {
            var random = Seeds.Generator(Seed, 0x4252, (ulong)i); // 0x4252: "BR", this purpose's own number
            int[] context = [.. Enumerable.Range(0, ContextTokens).Select(_ => random.Next(shape.VocabularySize))];
            engine.Submit(new GenerationRequest(i, context, sampling, [], Seeds.Mix(Seed, (ulong)i)));
        }

        var watch = Stopwatch.StartNew();
        engine.Step();
        var prefill = watch.Elapsed.TotalSeconds;
        while (engine.Active > 0) engine.Step();
        return (prefill, watch.Elapsed.TotalSeconds - prefill);
    }

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
