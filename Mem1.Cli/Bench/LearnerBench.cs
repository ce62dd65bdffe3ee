// Keeps: three ways compute one and the same update (checked on log-probs, losses and gradient norm before a number is reported); tokens/s
// of all three count the tokens of the stitched sequence; a ratio compares numbers of one run.
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Mem1.Learner;
using TorchSharp;

namespace Mem1.Cli.Bench;

/// <summary>One way at one number of turns.</summary>
/// <param name="Turns">K.</param>
/// <param name="Tokens">Of the stitched sequence: prompt, kept contexts and generated tokens.</param>
/// <param name="Way">segments, dense or python3-torch.</param>
/// <param name="TokensPerSecond">Tokens by the wall time of the fastest pass.</param>
/// <param name="TokensPerCpuSecond">Tokens by the processor time of the cheapest pass: steadier on a busy machine.</param>
/// <param name="Seconds">Wall time of the fastest pass.</param>
/// <param name="CpuSeconds">Processor time of the cheapest pass.</param>
/// <param name="PeakMib">Peak resident memory above what was resident before the model existed.</param>
/// <param name="Passes">Timed.</param>
internal sealed record LearnerRow(
    int Turns, int Tokens, string Way, double TokensPerSecond, double TokensPerCpuSecond, double Seconds, double CpuSeconds, double PeakMib, int Passes);

/// <summary>The product against another way, both of this run.</summary>
/// <param name="Turns">K.</param>
/// <param name="Against">dense or python3-torch.</param>
/// <param name="Speed">How many times its tokens/s.</param>
/// <param name="CpuSpeed">The same by processor time.</param>
/// <param name="Memory">How many times less peak memory.</param>
/// <param name="LogProbMaxDelta">Largest difference of any generated token's log-prob.</param>
internal sealed record LearnerRatio(int Turns, string Against, double Speed, double CpuSpeed, double Memory, double LogProbMaxDelta);

/// <summary>All of <c>mem1 bench learner</c>.</summary>
internal sealed record LearnerBenchReport(
    string Bench, string Size, long Parameters, int PromptTokens, int ContextTokens, int GeneratedPerTurn, int MicroBatchTokens, string TokensCounted, string MemoryCounted,
    MachineInfo Machine, string? Peer, string? PeerMissing, IReadOnlyList<LearnerRow> Rows, IReadOnlyList<LearnerRatio> Ratios);

/// <summary>Measures PPO updates.</summary>
internal static class LearnerBench
{
    /// <summary>Different orders of summation leave log-probs of these models apart by about 1e-6; a wrong mask leaves them apart by 0.1 and more.</summary>
    public const double LogProbTolerance = 1e-4;

    public const string Segments = "segments", Dense = "dense", Peer = "python3-torch";

    // Losses and norms are sums over all tokens and weights.
    private const double RelativeTolerance = 1e-3;

    private const ulong Seed = 1;

    // A few fast passes alone would be at the mercy of whatever else the machine does in that moment.
    private static readonly TimeSpan TimedAtLeast = TimeSpan.FromSeconds(2);

    /// <summary>Runs all ways at all numbers of turns.</summary>
    /// <param name="size">One of <see cref="BenchModels.Names"/>.</param>
    /// <param name="turns">Numbers of turns.</param>
    /// <param name="microBatchTokens">Largest number of tokens in one forward and backward pass of segments; dense cannot be cut.</param>
    /// <param name="repeat">Passes timed at least in each process.</param>
    /// <param name="rounds">Processes of each way; the best counts.</param>
    /// <param name="progress">Told what is being measured.</param>
    /// <param name="cancellationToken">Ends the running process.</param>
    /// <exception cref="UserErrorException">A process failed, or two ways do not compute the same.</exception>
    public static async Task<LearnerBenchReport> Run(
        string size, IReadOnlyList<int> turns, int microBatchTokens, int repeat, int rounds, Action<string> progress, CancellationToken cancellationToken)
    {
        var shape = BenchModels.Shape(size);
        var machine = MachineInfo.Describe();
        var script = PythonPeer.Script();
        var missing = script is null ? "bench/peers/dense_ppo.py is not beside this program, so there is no peer to compare with" : null;
        string? engine = null;
        long parameters = 0;
        var rows = new List<LearnerRow>();
        var ratios = new List<LearnerRatio>();
        var folder = Directory.CreateTempSubdirectory("mem1-bench-");
        try
        {
            foreach (var k in turns)
            {
                var problem = LearnerCase.Create(shape, k, Seed);
                parameters = problem.Weights.Tensors.Values.Sum(t => t.Data.LongLength);
                var file = Path.Combine(folder.FullName, $"case-{k}.safetensors");
                problem.Write(file);
                var best = new Dictionary<string, PassReport>(StringComparer.Ordinal);
                void Keep(string way, PassReport report) => best[way] = best.TryGetValue(way, out var old)
                    ? old with
                    {
                        Seconds = Math.Min(old.Seconds, report.Seconds),
                        CpuSeconds = Math.Min(old.CpuSeconds, report.CpuSeconds),
                        PeakBytes = Math.Min(old.PeakBytes, report.PeakBytes),
                        Passes = old.Passes + report.Passes,
                    }
                    : report;

                for (var round = 1; round <= rounds; round++)
                {
                    var which = rounds == 1 ? "" : $", round {round} of {rounds}";
                    foreach (var way in new[] { Segments, Dense })
                    {
                        progress($"{k} turns, {way}{which}");
                        var ended = await BenchProcess.Run(
                            BenchProcess.Self(
                                "bench", PassCommand, "--case", file, "--size", size, "--way", way, "--repeat", $"{repeat}",
                                "--micro-batch-tokens", $"{microBatchTokens}"),
                            cancellationToken).ConfigureAwait(false)
                            ?? throw new UserErrorException("dotnet, which runs this program, is not on the PATH; start it with ./mem1.");
                        Keep(way, BenchProcess.Report(ended, way));
                    }

                    if (missing is not null) continue;
                    progress($"{k} turns, {Peer}{which}");
                    var peer = await PythonPeer.Measure(script!, shape, file, UpdateStep.Options(microBatchTokens), repeat, TimedAtLeast, cancellationToken)
                        .ConfigureAwait(false);
                    if (peer is null) missing = PythonPeer.Missing;
                    else Keep(Peer, peer);
                }

                engine = best.GetValueOrDefault(Peer)?.Engine;
                foreach (var (way, report) in best)
                {
                    rows.Add(new LearnerRow(
                        k, problem.StitchedTokens, way, problem.StitchedTokens / report.Seconds, problem.StitchedTokens / report.CpuSeconds,
                        report.Seconds, report.CpuSeconds, report.PeakBytes / Math.Pow(2, 20), report.Passes));
                    if (way == Segments) continue;
                    var ours = best[Segments];
                    ratios.Add(new LearnerRatio(
                        k, way, report.Seconds / ours.Seconds, report.CpuSeconds / ours.CpuSeconds, (double)report.PeakBytes / ours.PeakBytes,
                        RequireSame(ours, report, $"{way} at {k} turns")));
                }
            }
        }
        finally
        {
            folder.Delete(recursive: true);
        }

        return new LearnerBenchReport(
            "learner", size, parameters, LearnerCase.PromptTokens, LearnerCase.ContextTokens, LearnerCase.GeneratedPerTurn, microBatchTokens,
            "tokens of the stitched sequence (prompt, kept contexts, generated) per second, the same count for every way",
            "peak resident set minus the resident set before the model existed: parameters, gradients, optimiser state and activations",
            machine, engine, missing, rows, ratios);
    }

    /// <summary>Name of the hidden command that measures one way in a process of its own.</summary>
    public const string PassCommand = "learner-pass";

    /// <summary>Measures in this process.</summary>
    public static PassReport MeasureHere(string size, string caseFile, UpdateWay way, int microBatchTokens, int repeat)
    {
        torch.set_num_threads(1);
        var problem = LearnerCase.Read(caseFile);
        WarmBlas();
        GC.Collect();
        ResidentSet.ResetPeak();
        var before = ResidentSet.Now();
        using var step = new UpdateStep(BenchModels.Shape(size), problem, way, UpdateStep.Options(microBatchTokens));
        var first = step.Run();
        var losses = new List<double> { first.Loss };
        double best = double.MaxValue, cpu = double.MaxValue;
        var passes = 0;
        for (var all = Stopwatch.StartNew(); passes < repeat || all.Elapsed < TimedAtLeast; passes++)
        {
            var used = Environment.CpuUsage.TotalTime;
            var watch = Stopwatch.StartNew();
            var result = step.Run();
            best = Math.Min(best, watch.Elapsed.TotalSeconds);
            cpu = Math.Min(cpu, (Environment.CpuUsage.TotalTime - used).TotalSeconds);
            if (losses.Count < 3) losses.Add(result.Loss);
        }

        return new PassReport(
            best, cpu, passes, ResidentSet.Peak() - before, first.LogProbs, [.. losses], first.GradientNorm,
            $".NET {Environment.Version}, libtorch {torch.__version__}");
    }

    /// <summary>The largest difference of log-probs of two reports.</summary>
    /// <exception cref="UserErrorException">They are not of the same computation.</exception>
    public static double RequireSame(PassReport ours, PassReport other, string what)
    {
        if (ours.LogProbs.Length != other.LogProbs.Length)
            throw new UserErrorException($"{what} gave {other.LogProbs.Length} log-probs, segments {ours.LogProbs.Length}.");
        var delta = ours.LogProbs.Zip(other.LogProbs, (a, b) => (double)Math.Abs(a - b)).Max();
        if (!(delta < LogProbTolerance))
            throw new UserErrorException($"{what} does not compute what segments computes: a log-prob differs by {delta:0.0e+0}.");
        var numbers = ours.Losses.Zip(other.Losses).Append((ours.GradientNorm, other.GradientNorm));
        foreach (var (a, b) in numbers)
        {
            if (!(Math.Abs(a - b) <= RelativeTolerance * Math.Max(Math.Abs(a), 1)))
                throw new UserErrorException($"{what} does not compute what segments computes: a loss or gradient norm is {b:R}, not {a:R}.");
        }

        return delta;
    }

    /// <summary>The table for people.</summary>
    public static string Table(LearnerBenchReport report)
    {
        var text = new StringWriter(CultureInfo.InvariantCulture);
        text.WriteLine($"{report.Machine}");
        text.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"One PPO update (forward, backward, optimiser) of a {report.Parameters:N0}-parameter model on one trajectory: prompt {report.PromptTokens}, kept context {report.ContextTokens}, generated {report.GeneratedPerTurn} a turn; one thread; segments in micro-batches of at most {report.MicroBatchTokens} tokens."));
        text.WriteLine($"tok/s: {report.TokensCounted}.");
        text.WriteLine($"MiB: {report.MemoryCounted}.");
        text.WriteLine();
        text.WriteLine("turns  tokens  way              tok/s  tok/CPU-s    peak MiB   segments is");
        foreach (var row in report.Rows)
        {
            var ratio = report.Ratios.FirstOrDefault(r => r.Turns == row.Turns && r.Against == row.Way);
            var words = ratio is null ? "" : string.Create(
                CultureInfo.InvariantCulture, $"   {ratio.Speed:0.00}x as fast ({ratio.CpuSpeed:0.00}x by CPU time), 1/{ratio.Memory:0.0} of the memory");
            text.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"{row.Turns,5}  {row.Tokens,6}  {row.Way,-13}  {row.TokensPerSecond,8:0}  {row.TokensPerCpuSecond,9:0}  {row.PeakMib,10:0.0}{words}"));
        }

        if (report.PeerMissing is { } missing) text.WriteLine($"No row of {Peer}: {missing}.");
        if (report.Peer is { } peer) text.WriteLine($"The peer: {peer}.");
        if (report.Ratios.Count > 0)
        {
            text.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"Log-probs of all ways agree to {report.Ratios.Max(r => r.LogProbMaxDelta):0.0e+0}; losses of the first three steps and gradient norms agree too."));
        }

        return text.ToString();
    }

    private static void WarmBlas()
    {
        using var scope = torch.NewDisposeScope();
        var ones = torch.ones([256, 256]).requires_grad_(true);
        torch.matmul(ones, ones).sum().backward(); // the BLAS makes its buffers now
    }
}
