// Keeps: the learner measured is the product's (service, ledger, assembly), alone in its process; the workers are in another.
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Mem1.Environments;
using Mem1.Learner;
using Mem1.Model;
using Mem1.Protocol;

namespace Mem1.Cli.Bench;

/// <summary>What <c>mem1 bench fleet</c> reports.</summary>
/// <param name="Machine">Measured on.</param>
/// <param name="Workers">Simulated, each with a connection of its own.</param>
/// <param name="Tasks">Asked for.</param>
/// <param name="Consumed">That came back; each was compared with what was asked for.</param>
/// <param name="Duplicated">That came back more than once.</param>
/// <param name="Lost">That did not come back.</param>
/// <param name="Quarantined">Given up.</param>
/// <param name="Reconnects">Streams broken off on purpose in the middle of episodes.</param>
/// <param name="EpisodesPerSecond">Over the whole run.</param>
/// <param name="LeaseLatencyMilliseconds">From a worker's credit to its lease: median, 90th, 99th, 99.9th percentile.</param>
/// <param name="LearnerMebibytes">Resident in the learner's process after each tenth of the tasks, trajectories dropped.</param>
/// <param name="LearnerPeakMebibytes">Most resident at once.</param>
/// <param name="LearnerCpuSeconds">Of the learner's process.</param>
internal sealed record FleetReport(
    MachineInfo Machine, int Workers, int Tasks, int Consumed, int Duplicated, int Lost, int Quarantined, long Reconnects,
    double EpisodesPerSecond, double[] LeaseLatencyMilliseconds, double[] LearnerMebibytes, double LearnerPeakMebibytes,
    double LearnerCpuSeconds)
{
    public string Table()
    {
        var c = CultureInfo.InvariantCulture;
        var l = LeaseLatencyMilliseconds;
        return string.Create(c, $"{Machine}\n")
            + string.Create(c, $"{Workers} workers played {Consumed} of {Tasks} tasks: {Lost} lost, {Duplicated} twice, {Quarantined} given up; ")
            + string.Create(c, $"{Reconnects} streams were broken off\n{EpisodesPerSecond:0} episodes/s; lease latency in ms: ")
            + string.Create(c, $"median {l[0]:0.0}, p90 {l[1]:0.0}, p99 {l[2]:0.0}, p99.9 {l[3]:0.0}\n")
            + string.Create(c, $"learner's memory in MiB: {string.Join(' ', LearnerMebibytes.Select(m => m.ToString("0", c)))}, ")
            + string.Create(c, $"peak {LearnerPeakMebibytes:0}; {LearnerCpuSeconds:0.0} s of processor time\n");
    }
}

/// <summary>Many workers, one learner, one machine.</summary>
internal static class FleetBench
{
    /// <summary>What the workers' process is started with.</summary>
    public const string WorkersCommand = "fleet-workers";

    /// <summary>Turns between two breaks of a worker's stream, in the mean.</summary>
    // As if a stream lived for a handful of episodes: far more often than in any cluster.
    public const int BreakEvery = 20;

    private const int Rounds = 10;

    /// <summary>Runs it.</summary>
    /// <param name="workers">How many.</param>
    /// <param name="tasks">In all.</param>
    /// <param name="progress">Told what happens.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="UserErrorException">The workers' process failed.</exception>
    public static async Task<FleetReport> Run(int workers, int tasks, Action<string> progress, CancellationToken cancellationToken)
    {
        var machine = MachineInfo.Describe();
        var publisher = new WeightPublisher(_ => ByteBlob.Of(new byte[1]));
        publisher.Publish(new ModelWeights(new Dictionary<string, WeightTensor>()), 0);
        var host = await LearnerHost.StartAsync(
            new LearnerHostOptions { Limits = new TrajectoryLimits(FleetWire.Vocabulary, FleetWire.Positions) }, publisher,
            modelFingerprint: 1, loggers: null, cancellationToken).ConfigureAwait(false);
        await using var _ = host.ConfigureAwait(false);
        using var process = Process.GetCurrentProcess();
        progress($"{workers} workers");
        var playing = BenchProcess.Run(
            BenchProcess.Self(
                "bench", WorkersCommand, "--learner", host.Address.ToString(), "--workers", workers.ToString(CultureInfo.InvariantCulture)),
            cancellationToken);
        int consumed = 0, duplicated = 0, lost = 0;
        var memory = new List<double>();
        ResidentSet.ResetPeak();
        var (watch, cpu) = (new Stopwatch(), TimeSpan.Zero);
        for (var round = 0; round < Rounds; round++)
        {
            var size = (tasks / Rounds) + (round < tasks % Rounds ? 1 : 0);
            var requests = Enumerable.Range(0, size).Select(i => new TaskRequest(
                new EnvironmentTask($"r{round}-{i}", [new Objective("o", "what?", ["that"])]), (ulong)((round * 7919) + i), 1, 1, 64, false))
                .ToList();
            var waiting = host.Ledger.RunAsync(requests, null, cancellationToken);
            if (await Task.WhenAny(waiting, playing).ConfigureAwait(false) == playing) await Reported(playing).ConfigureAwait(false);
            var batch = await waiting.ConfigureAwait(false);
            // The first round holds the start of the workers' process.
            if (round == 0) (watch, cpu) = (Stopwatch.StartNew(), process.TotalProcessorTime);
            var distinct = batch.Select(t => t.TaskId).ToHashSet(StringComparer.Ordinal);
            consumed += batch.Count;
            duplicated += batch.Count - distinct.Count;
            lost += requests.Count(r => !distinct.Contains(r.Task.Id));
            memory.Add(Math.Round(ResidentSet.Now() / 1048576.0, 1));
            progress($"{consumed} of {tasks} tasks");
        }

        var seconds = watch.Elapsed.TotalSeconds;
        process.Refresh();
        var used = (process.TotalProcessorTime - cpu).TotalSeconds;
        await host.DrainAsync("The bench is over.").ConfigureAwait(false);
        var report = await Reported(playing).ConfigureAwait(false);
        return new FleetReport(
            machine, workers, tasks, consumed, duplicated, lost, host.Ledger.Counts.Quarantined, report.Reconnects,
            (consumed - (tasks / Rounds)) / seconds, report.LatencyMilliseconds, [.. memory], Math.Round(ResidentSet.Peak() / 1048576.0, 1),
            Math.Round(used, 2));
    }

    private static async Task<FleetWorkersReport> Reported(Task<(int Code, string Output, string Errors)?> playing)
    {
        var ended = await playing.ConfigureAwait(false);
        if (ended is { Code: 0 } well) return JsonSerializer.Deserialize<FleetWorkersReport>(well.Output, BenchProcess.Json)!;
        throw new UserErrorException(
            $"The process of the simulated workers ended with status {ended?.Code}: "
            + ended?.Errors.Split('\n', StringSplitOptions.RemoveEmptyEntries).LastOrDefault());
    }
}
