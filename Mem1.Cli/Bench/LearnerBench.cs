// Keeps: all ways compute one and the same update (checked on log-probs, losses and gradient norm before a number is reported); tokens/s
// of all of them count the tokens of the stitched sequence; a ratio compares numbers of one run.
using System.Diagnostics;
using Mem1.Learner;
using TorchSharp;

namespace Mem1.Cli.Bench;

/// <summary>Measures PPO updates.</summary>
internal static class LearnerBench
{
    /// <summary>Different orders of summation leave log-probs of these models apart by about 1e-6, a wrong mask by 0.1 and more.</summary>
    public const double LogProbTolerance = 1e-4;

    public const string Segments = "segments", Dense = "dense", Peer = "python3-torch";

    /// <summary>Name of the hidden command that measures one way in a process of its own.</summary>
    public const string PassCommand = "learner-pass";

    // Losses and norms are sums over all tokens and weights.
    private const double RelativeTolerance = 1e-3;

    private const ulong Seed = 1;

    // A few fast passes alone would be at the mercy of whatever else the machine does in that moment.
    private static readonly TimeSpan TimedAtLeast = TimeSpan.FromSeconds(2);

    /// <summary>Runs all ways at all numbers of turns.</summary>
    /// <param name="size">One of <see cref="BenchModels.Names"/>.</param>
    /// <param name="turns">Numbers of turns.</param>
    /// <param name="microBatches">Budgets of segments, in tokens of one forward and backward pass; the other ways cannot be cut.</param>
    /// <param name="repeat">Passes timed at least in each process.</param>
    /// <param name="rounds">Processes of each way; the best counts.</param>
    /// <param name="checkpointing">Whether segments computes blocks again in backward instead of keeping them.</param>
    /// <param name="progress">Told what is being measured.</param>
    /// <param name="cancellationToken">Ends the running process.</param>
    /// <exception cref="UserErrorException">A process failed, or two ways do not compute the same.</exception>
    public static async Task<LearnerBenchReport> Run(
        string size, IReadOnlyList<int> turns, IReadOnlyList<int> microBatches, int repeat, int rounds, bool checkpointing,
        Action<string> progress, CancellationToken cancellationToken)
    {
        var shape = BenchModels.Shape(size);
        var machine = MachineInfo.Describe();
        var script = PythonPeer.Script();
        var missing = script is null ? "bench/peers/dense_ppo.py is not beside this program" : null;
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
                var best = new Dictionary<(string Way, int? MicroBatch), PassReport>();

                // The ways take turns in every round, so that a busy minute does not fall on one of them only.
                for (var round = 1; round <= rounds; round++)
                {
                    void Announce(string way) => progress($"{k} turns, {way}{(rounds == 1 ? "" : $", round {round} of {rounds}")}");
                    foreach (var microBatch in microBatches)
                    {
                        Announce($"{Segments} in micro-batches of {microBatch}");
                        Keep(best, (Segments, microBatch), await Child(file, UpdateWay.Segments, microBatch).ConfigureAwait(false));
                    }

                    Announce(Dense);
                    Keep(best, (Dense, null), await Child(file, UpdateWay.Dense, microBatches[0]).ConfigureAwait(false));
                    if (missing is not null) continue;
                    Announce(Peer);
                    var options = UpdateStep.Options(microBatches[0]);
                    var peer = await PythonPeer.Measure(script!, shape, file, options, repeat, TimedAtLeast, cancellationToken)
                        .ConfigureAwait(false);
                    if (peer is null) missing = PythonPeer.Missing;
                    else Keep(best, (Peer, null), peer);
                }

                engine ??= best.GetValueOrDefault((Peer, null))?.Engine;
                var reference = best[(Segments, microBatches[0])];
                foreach (var ((way, microBatch), report) in best)
                {
                    var delta = RequireSame(reference, report, $"{way} at {k} turns");
                    rows.Add(new LearnerRow(
                        k, problem.StitchedTokens, way, microBatch, problem.StitchedTokens / report.Seconds,
                        problem.StitchedTokens / report.CpuSeconds, report.Seconds, report.CpuSeconds, report.PeakBytes / Math.Pow(2, 20),
                        report.Passes)
                    { Busy = report.Busy });
                    if (way == Segments) continue;
                    foreach (var ours in microBatches)
                    {
                        var we = best[(Segments, ours)];
                        ratios.Add(new LearnerRatio(
                            k, ours, way, report.Seconds / we.Seconds, report.CpuSeconds / we.CpuSeconds,
                            (double)report.PeakBytes / we.PeakBytes, delta));
                    }
                }
            }
        }
        finally
        {
            folder.Delete(recursive: true);
        }

        return new LearnerBenchReport(
            "learner", size, parameters, LearnerCase.PromptTokens, LearnerCase.ContextTokens, LearnerCase.GeneratedPerTurn,
            "tokens of the stitched sequence (prompt, kept contexts, generated) per second, the same count for every way",
            "peak resident set minus the resident set before the model existed (parameters, gradients, optimiser state, activations)",
            machine, engine, missing, rows, ratios);

        async Task<PassReport> Child(string file, UpdateWay way, int microBatch)
        {
            var start = BenchProcess.Self(
                "bench", PassCommand, "--case", file, "--size", size, "--way", way.ToString(), "--repeat", $"{repeat}",
                "--micro-batch-tokens", $"{microBatch}", "--gradient-checkpointing",
                checkpointing && way == UpdateWay.Segments ? "true" : "false");
            var ended = await BenchProcess.Run(start, cancellationToken).ConfigureAwait(false)
                ?? throw new UserErrorException("dotnet, which runs this program, is not on the PATH; start it with ./mem1.");
            return BenchProcess.Report(ended, way.ToString());
        }
    }

    /// <summary>Measures in this process.</summary>
    public static PassReport MeasureHere(string size, string caseFile, UpdateWay way, int microBatchTokens, int repeat, bool checkpointing)
    {
        torch.set_num_threads(1);
        var problem = LearnerCase.Read(caseFile);
        WarmBlas();
        GC.Collect();
        ResidentSet.ResetPeak();
        var before = ResidentSet.Now();
        var shape = BenchModels.Shape(size);
        // In the single-copy layouts positions run on over the episode.
        if (way is UpdateWay.Carry or UpdateWay.Paper) shape = shape with { MaxPositions = problem.StitchedTokens };
        using var step = new UpdateStep(shape, problem, way, UpdateStep.Options(microBatchTokens),
            new ComputeOptions { GradientCheckpointing = checkpointing });
        var first = step.Run();
        var losses = new List<double> { first.Loss };
        double best = double.MaxValue, cpu = double.MaxValue, busy = 0;
        var passes = 0;
        for (var all = Stopwatch.StartNew(); passes < repeat || all.Elapsed < TimedAtLeast; passes++)
        {
            var used = Environment.CpuUsage.TotalTime;
            var watch = Stopwatch.StartNew();
            var result = step.Run();
            best = Math.Min(best, watch.Elapsed.TotalSeconds);
            cpu = Math.Min(cpu, (Environment.CpuUsage.TotalTime - used).TotalSeconds);
            busy += step.Busy;
            if (losses.Count < 3) losses.Add(result.Loss);
        }

        // A run of a single pass has fewer losses than the others; what is there is compared.
        return new PassReport(
            best, cpu, passes, ResidentSet.Peak() - before, first.LogProbs, [.. losses], first.GradientNorm,
            $".NET {Environment.Version}, libtorch {torch.__version__}")
        {
            Busy = way == UpdateWay.Dense ? null : busy / passes,
        };
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
        foreach (var (a, b) in ours.Losses.Zip(other.Losses).Append((ours.GradientNorm, other.GradientNorm)))
        {
            if (Math.Abs(a - b) <= RelativeTolerance * Math.Max(Math.Abs(a), 1)) continue;
            throw new UserErrorException($"{what} does not compute what segments computes: a loss or gradient norm is {b:R}, not {a:R}.");
        }

        return delta;
    }

    private static void Keep(Dictionary<(string, int?), PassReport> best, (string, int?) way, PassReport report) =>
        best[way] = best.TryGetValue(way, out var old)
            ? old with
            {
                Seconds = Math.Min(old.Seconds, report.Seconds),
                CpuSeconds = Math.Min(old.CpuSeconds, report.CpuSeconds),
                PeakBytes = Math.Min(old.PeakBytes, report.PeakBytes),
                Passes = old.Passes + report.Passes,
                Busy = Math.Max(old.Busy ?? 0, report.Busy ?? 0) is > 0 and var busy ? busy : null,
            }
            : report;

    private static void WarmBlas()
    {
        using var scope = torch.NewDisposeScope();
        var ones = torch.ones([256, 256]).requires_grad_(true);
        torch.matmul(ones, ones).sum().backward(); // the BLAS makes its buffers now
    }
}
