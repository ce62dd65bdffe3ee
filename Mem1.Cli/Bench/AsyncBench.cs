// Keeps: what is timed is the body of `mem1 train` under the default config but for staleness, evaluation and checkpoints, in a process of its
// own; the ways take turns and the fastest run of each counts; times lie between the ends of two updates, so start and warm-up are outside.
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Mem1.Cli.Configuration;
using Mem1.Cli.Output;
using Mem1.Cli.Training;
using Mem1.Learner;

namespace Mem1.Cli.Bench;

/// <summary>Training with one bound of staleness.</summary>
/// <param name="Way">synchronous or asynchronous.</param>
/// <param name="Staleness">The bound, in versions.</param>
/// <param name="Updates">Timed.</param>
/// <param name="UpdatesPerHour">At the pace of the timed ones.</param>
/// <param name="LearnerIdle">Share of that time in which the learner waited for a batch.</param>
/// <param name="SamplerIdle">Share of that time in which the sampler computed no step: nothing was leased to it, or episodes were elsewhere.</param>
/// <param name="TokensPerSecond">Generated, over all of that time.</param>
/// <param name="StalenessMax">Of the oldest token that was trained on.</param>
internal sealed record AsyncRow(
    string Way, int Staleness, int Updates, double UpdatesPerHour, double LearnerIdle, double SamplerIdle, double TokensPerSecond,
    long StalenessMax);

/// <summary>All of <c>mem1 bench async</c>.</summary>
/// <param name="Bench">async.</param>
/// <param name="Machine">Where.</param>
/// <param name="Rounds">Runs of each way; the fastest counts.</param>
/// <param name="Rows">Both ways.</param>
/// <param name="TimesSynchronous">Updates per hour of the asynchronous way by those of the synchronous.</param>
internal sealed record AsyncBenchReport(string Bench, MachineInfo Machine, int Rounds, IReadOnlyList<AsyncRow> Rows, double TimesSynchronous)
{
    /// <summary>The table for people.</summary>
    public string Table()
    {
        var text = new StringWriter(CultureInfo.InvariantCulture);
        void Line(FormattableString line) => text.WriteLine(line.ToString(CultureInfo.InvariantCulture));
        Line($"{Machine}");
        Line($"The default run, whole updates; the fastest of {Rounds} runs each.");
        Line($"");
        Line($"way           staleness  updates/h  learner idle  sampler idle  generated tok/s  oldest token");
        foreach (var row in Rows)
        {
            var idle = $"{row.LearnerIdle,12:0.0%}  {row.SamplerIdle,12:0.0%}";
            Line($"{row.Way,-12}  {row.Staleness,9}  {row.UpdatesPerHour,9:0}  {idle}  {row.TokensPerSecond,15:0}  {row.StalenessMax,12}");
        }

        Line($"");
        Line($"asynchronous does {TimesSynchronous:0.00} times the updates per hour");
        return text.ToString();
    }
}

/// <summary>Times training with and without sampling ahead.</summary>
internal static class AsyncBench
{
    /// <summary>Name of the hidden command that measures one way in a process of its own.</summary>
    public const string PassCommand = "async-pass";

    // Compilation and the allocator have settled after some updates.
    private const int WarmUp = 5;

    /// <summary>Runs both ways in turns.</summary>
    /// <param name="updates">Timed in each run.</param>
    /// <param name="rounds">Runs of each way.</param>
    /// <param name="staleness">Of the asynchronous way.</param>
    /// <param name="quick">The preset of --quick instead of the default run: smaller batches, for tests.</param>
    /// <param name="progress">Told what is being measured.</param>
    /// <param name="cancellationToken">Ends the running process.</param>
    /// <exception cref="UserErrorException">A run failed.</exception>
    public static async Task<AsyncBenchReport> Run(
        int updates, int rounds, int staleness, bool quick, Action<string> progress, CancellationToken cancellationToken)
    {
        var machine = MachineInfo.Describe();
        var best = new Dictionary<int, AsyncRow>();
        for (var round = 1; round <= rounds; round++)
        {
            foreach (var bound in new[] { 0, staleness })
            {
                progress($"staleness {bound}, run {round} of {rounds}");
                var ended = await BenchProcess.Run(
                    BenchProcess.Self("bench", PassCommand, "--updates", $"{updates}", "--staleness", $"{bound}", "--quick", $"{quick}"),
                    cancellationToken)
                    .ConfigureAwait(false)
                    ?? throw new UserErrorException("dotnet, which runs this program, is not on the PATH; start it with ./mem1.");
                var row = JsonSerializer.Deserialize<AsyncRow>(BenchProcess.Succeeded(ended, $"staleness {bound}"), BenchProcess.Json)!;
                if (!best.TryGetValue(bound, out var before) || row.UpdatesPerHour > before.UpdatesPerHour) best[bound] = row;
            }
        }

        return new AsyncBenchReport(
            "async", machine, rounds, [best[0], best[staleness]], best[staleness].UpdatesPerHour / best[0].UpdatesPerHour);
    }

    /// <summary>Measures in this process.</summary>
    public static AsyncRow MeasureHere(int updates, int staleness, bool quick, CancellationToken cancellationToken)
    {
        var all = updates + WarmUp;
        var standard = Presets.For(corpus: null, tasks: null, quick, fromScratch: false);
        var config = standard with
        {
            Updates = all,
            Rollout = standard.Rollout with { Staleness = staleness },
            Evaluation = standard.Evaluation with { Episodes = 0 },
            // None but the last, which is outside the time.
            Checkpoint = standard.Checkpoint with { Every = all },
        };
        var temp = Directory.CreateTempSubdirectory("mem1-bench-");
        try
        {
            using var folder = RunFolder.Create(temp.FullName, config.Name, chosen: false);
            using var watching = new Watching();
            new TrainRun(config, new HashSet<string>(), folder, watching, resume: false, cloneOnly: false).Run(cancellationToken);
            cancellationToken.ThrowIfCancellationRequested();
            var (first, last) = (watching.Moments[WarmUp - 1], watching.Moments[^1]);
            var timed = watching.Moments[WarmUp..];
            var seconds = (last.At - first.At).TotalSeconds;
            return new AsyncRow(
                staleness == 0 ? "synchronous" : "asynchronous", staleness, timed.Count, timed.Count / seconds * 3600,
                timed.Sum(m => m.Metrics.WaitSeconds) / seconds, 1 - ((last.Decoding - first.Decoding).TotalSeconds / seconds),
                (last.Tokens - first.Tokens) / seconds, timed.Max(m => m.Metrics.Statistics.StalenessMax));
        }
        finally
        {
            temp.Delete(recursive: true);
        }
    }

    /// <summary>Notes the time, and what the sampler has done, at the end of every update.</summary>
    private sealed class Watching : IRunReporter
    {
        private readonly Stopwatch _watch = Stopwatch.StartNew();
        private RunSession? _session;

        public List<(TimeSpan At, TimeSpan Decoding, long Tokens, UpdateMetrics Metrics)> Moments { get; } = [];

        public bool IsForMachines => true;

        public void Serving(RunSession session) => _session = session;

        public void Updated(UpdateMetrics metrics, int last)
        {
            var counters = _session!.LocalWorker!.Counters;
            Moments.Add((_watch.Elapsed, counters.DecodeTime, counters.GeneratedTokens, metrics));
        }

        public void Phase(string what)
        {
        }

        public void Progress(double share, string detail)
        {
        }

        public void Note(string sentence) => Console.Error.WriteLine(sentence);

        public void Sampling(long update, int done, int of)
        {
        }

        public void Closing(RunSummary summary)
        {
        }

        public void Dispose()
        {
        }
    }
}
