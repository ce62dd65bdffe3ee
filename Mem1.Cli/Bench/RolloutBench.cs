// Keeps: all ways draw from the same weights, contexts and uniform numbers, and their log-probs are compared before a ratio is reported;
// each way has processes of its own, with as many threads of BLAS as of the way; ratios are of one run.
using System.Globalization;
using System.Text.Json;
using Mem1.Learner;
using Mem1.Model;

namespace Mem1.Cli.Bench;

/// <summary>Measures sampling: the managed decoder, libtorch, and bench/peers/decode.py on python3-torch.</summary>
internal static class RolloutBench
{
    public const string Managed = "managed", Libtorch = "libtorch", Peer = "python3-torch";

    /// <summary>Name of the hidden command that measures one way in a process of its own.</summary>
    public const string PassCommand = "rollout-pass";

    // As in training: a draw on the other side of an edge makes another sequence, so not all tokens can be asked to be the same.
    private const double LogProbTolerance = 1e-4, SameTokensAtLeast = 0.9;

    /// <summary>Enough for tiered compilation to have settled; at batch 1 a round takes a few milliseconds.</summary>
    public static readonly TimeSpan TimedAtLeast = TimeSpan.FromSeconds(2);

    /// <summary>Measures every way at every batch size on every number of threads.</summary>
    /// <param name="sizes">Of <see cref="BenchModels.Names"/>.</param>
    /// <param name="batches">Batch sizes.</param>
    /// <param name="threads">Numbers of threads.</param>
    /// <param name="repeat">Rounds timed at least.</param>
    /// <param name="timedAtLeast">Goes on timing for so long, after half as long a warm-up.</param>
    /// <param name="worlds">Whether whole episodes are measured too.</param>
    /// <param name="progress">Told what is being measured.</param>
    /// <param name="cancellationToken">Ends the running process.</param>
    /// <exception cref="UserErrorException">A process failed, or two ways do not compute the same.</exception>
    public static async Task<RolloutBenchReport> Run(
        IReadOnlyList<string> sizes, IReadOnlyList<int> batches, IReadOnlyList<int> threads, int repeat, TimeSpan timedAtLeast, bool worlds,
        Action<string> progress, CancellationToken cancellationToken)
    {
        var machine = MachineInfo.Describe();
        var script = PythonPeer.Script("decode.py");
        var missing = script is null ? "bench/peers/decode.py is not beside this program" : null;
        string? peer = null;
        var parameters = new Dictionary<string, long>();
        List<RolloutRow> rows = [];
        List<RolloutRatio> ratios = [];
        List<RolloutAgreement> agreements = [];
        var folder = Directory.CreateTempSubdirectory("mem1-bench-");
        try
        {
            foreach (var size in sizes)
            {
                var shape = BenchModels.Shape(size);
                var file = Path.Combine(folder.FullName, $"{size}.safetensors");
                RolloutPass.WriteCase(file, shape, batches.Max());
                parameters.Add(size, BenchModels.Weights(shape, 1).Tensors.Values.Sum(t => t.Data.LongLength));
                var of = new List<(string Way, int Threads, RolloutPassReport Report)>();
                foreach (var count in threads)
                {
                    foreach (var way in Enum.GetValues<RolloutWay>())
                    {
                        var name = way == RolloutWay.Managed ? Managed : Libtorch;
                        progress($"{size}, {name}, {count} thread{(count == 1 ? "" : "s")}");
                        of.Add((name, count, await Own(size, way, count).ConfigureAwait(false)));
                    }

                    if (missing is not null) continue;
                    progress($"{size}, {Peer}, {count} thread{(count == 1 ? "" : "s")}");
                    if (await Python(shape, file, count).ConfigureAwait(false) is { } measured) of.Add((Peer, count, measured));
                    else missing = PythonPeer.Missing;
                }

                peer ??= of.Find(o => o.Way == Peer).Report?.Engine;
                rows.AddRange(of.SelectMany(o => o.Report.Rows.Select(r => Row(size, o.Way, o.Threads, r))));
                foreach (var other in of.Where(o => o.Way != Managed).GroupBy(o => o.Way))
                    agreements.Add(Compare(size, other.Key, of[0].Report, [.. other.Select(o => o.Report)]));
                ratios.AddRange(Ratios(size, [.. rows.Where(r => r.Size == size)]));
            }
        }
        finally
        {
            folder.Delete(recursive: true);
        }

        var episodes = new List<WorldsRow>();
        foreach (var count in worlds ? threads : [])
        {
            progress($"episodes of the built-in task, {count} thread{(count == 1 ? "" : "s")}");
            episodes.Add(WorldsBench.Run(count, timedAtLeast, cancellationToken));
        }

        return new RolloutBenchReport(
            "rollout", parameters, RolloutPass.ContextTokens, RolloutPass.GeneratedTokens, machine, peer, missing, rows, ratios, agreements,
            episodes);

        async Task<RolloutPassReport> Own(string size, RolloutWay way, int count)
        {
            var ended = await Child(
                count,
                BenchProcess.Self(
                    "bench", PassCommand, "--size", size, "--way", way.ToString(), "--threads", $"{count}", "--batch",
                    string.Join(',', batches), "--repeat", $"{repeat}", "--seconds", Seconds())).ConfigureAwait(false)
                ?? throw new UserErrorException("dotnet, which runs this program, is not on the PATH; start it with ./mem1.");
            return Read(ended, way.ToString());
        }

        async Task<RolloutPassReport?> Python(DecoderConfig shape, string file, int count)
        {
            var settings = new (string Name, string Value)[]
            {
                ("case", file), ("layers", $"{shape.Layers}"), ("heads", $"{shape.Heads}"), ("kv-heads", $"{shape.KeyValueHeads}"),
                ("rope-theta", shape.RopeTheta.ToString("R", CultureInfo.InvariantCulture)),
                ("norm-epsilon", shape.NormEpsilon.ToString("R", CultureInfo.InvariantCulture)), ("threads", $"{count}"),
                ("batch", string.Join(',', batches)), ("repeat", $"{repeat}"), ("seconds", Seconds()),
            };
            var ended = await Child(
                count, BenchProcess.Start(PythonPeer.Program, [script!, .. settings.SelectMany(s => new[] { "--" + s.Name, s.Value })]))
                .ConfigureAwait(false);
            if (ended is null || ended.Value.Errors.Contains("No module named 'torch'", StringComparison.Ordinal)) return null;
            return Read(ended.Value, "the python peer");
        }

        Task<(int Code, string Output, string Errors)?> Child(int count, System.Diagnostics.ProcessStartInfo start)
        {
            foreach (var name in BenchProcess.ThreadVariables) start.Environment[name] = $"{count}";
            return BenchProcess.Run(start, cancellationToken);
        }

        string Seconds() => timedAtLeast.TotalSeconds.ToString("R", CultureInfo.InvariantCulture);
    }

    private static RolloutPassReport Read((int Code, string Output, string Errors) ended, string what) =>
        JsonSerializer.Deserialize<RolloutPassReport>(BenchProcess.Succeeded(ended, what), BenchProcess.Json)
            ?? throw new UserErrorException($"Measuring {what} reported nothing.");

    private static RolloutRow Row(string size, string way, int threads, RolloutRound r) => new(
        size, way, threads, r.Batch, r.Batch * RolloutPass.GeneratedTokens / r.Seconds,
        r.Batch * (RolloutPass.GeneratedTokens - 1) / r.DecodeSeconds, r.Batch * RolloutPass.ContextTokens / r.PrefillSeconds,
        r.Batch * RolloutPass.GeneratedTokens / r.CpuSeconds, r.Rounds);

    private static IEnumerable<RolloutRatio> Ratios(string size, IReadOnlyList<RolloutRow> rows)
    {
        foreach (var against in rows.Select(r => r.Way).Where(w => w != Managed).Distinct())
        {
            foreach (var batch in rows.Select(r => r.Batch).Distinct())
            {
                double Times(Func<RolloutRow, double> rate) =>
                    Best(Managed, rate) / Best(against, rate);
                double Best(string way, Func<RolloutRow, double> rate) =>
                    rows.Where(r => r.Way == way && r.Batch == batch).Max(rate);
                yield return new RolloutRatio(
                    size, batch, against, Times(r => r.TokensPerSecond), Times(r => r.DecodeTokensPerSecond),
                    Times(r => r.PrefillTokensPerSecond), Times(r => r.TokensPerCpuSecond));
            }
        }
    }

    /// <summary>How far others' draws are from ours, over all batch sizes.</summary>
    /// <exception cref="UserErrorException">Too far for rounding.</exception>
    private static RolloutAgreement Compare(string size, string way, RolloutPassReport ours, IReadOnlyList<RolloutPassReport> others)
    {
        long tokens = 0, same = 0;
        double worst = 0;
        foreach (var (mine, theirs) in others.SelectMany(o => o.Rows.Zip(ours.Rows, (theirs, mine) => (mine, theirs))))
        {
            for (var s = 0; s < mine.Tokens.Length; s++)
            {
                tokens += mine.Tokens[s].Length;
                for (var t = 0; t < mine.Tokens[s].Length && mine.Tokens[s][t] == theirs.Tokens[s][t]; t++, same++)
                    worst = Math.Max(worst, Math.Abs(mine.LogProbs[s][t] - theirs.LogProbs[s][t]));
            }
        }

        var agreement = new RolloutAgreement(size, way, (double)same / tokens, worst);
        return agreement.SameTokens >= SameTokensAtLeast && worst <= LogProbTolerance ? agreement
            : throw new UserErrorException(string.Create(
                CultureInfo.InvariantCulture,
                $"{way} does not draw what the managed decoder draws ({size}): {agreement.SameTokens:0.0%} of tokens are the same, their "
                + $"log-probs differ by up to {worst:0.0e+0}."));
    }
}
