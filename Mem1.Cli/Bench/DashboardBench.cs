// Keeps: with and without are updates of one and the same run, in blocks that take turns (with, without, without, with), so that neither
// the policy's progress nor a busy minute of the machine falls on one of them; "without" is what --no-dashboard is; the browser that looks is a
// process of its own, as it is in life. Ratios are of medians, with an interval from resampling.
using System.Diagnostics;
using System.Globalization;
using Mem1.Cli.Commands;
using Mem1.Cli.Configuration;
using Mem1.Cli.Output;
using Mem1.Cli.Training;
using Mem1.Dashboard;
using Mem1.Learner;

namespace Mem1.Cli.Bench;

/// <summary>An update that was measured.</summary>
/// <param name="Update">Which.</param>
/// <param name="Dashboard">Whether the dashboard was up and looked at.</param>
/// <param name="Seconds">It took, by the wall clock.</param>
/// <param name="CpuSeconds">Of processor time it took in this process, all threads.</param>
internal sealed record DashboardRow(long Update, bool Dashboard, double Seconds, double CpuSeconds);

/// <summary>A share with the middle 95% of its resampled values.</summary>
/// <param name="Value">Of the medians.</param>
/// <param name="Low">2.5% lie below.</param>
/// <param name="High">2.5% lie above.</param>
internal sealed record Share(double Value, double Low, double High);

/// <summary>What <c>mem1 bench dashboard</c> reports.</summary>
/// <param name="Machine">Measured on.</param>
/// <param name="UpdatesPerSecondWith">Median, with the dashboard up and one browser looking.</param>
/// <param name="UpdatesPerSecondWithout">Median, without.</param>
/// <param name="LostUpdates">Share of updates/s that the dashboard costs; negative where it seems to gain.</param>
/// <param name="AddedCpu">Share of processor time that the dashboard adds to an update.</param>
/// <param name="LookMilliseconds">The fastest look at the training, which no other process disturbed.</param>
/// <param name="LookShareOfCore">Share of one core that looks of that length take: a bound on a busy machine as on a quiet one.</param>
/// <param name="EventsSeen">Server-sent events that the browser was told.</param>
/// <param name="Rows">Every update that counts.</param>
internal sealed record DashboardReport(
    MachineInfo Machine, double UpdatesPerSecondWith, double UpdatesPerSecondWithout, Share LostUpdates, Share AddedCpu,
    double LookMilliseconds, double LookShareOfCore, long EventsSeen, IReadOnlyList<DashboardRow> Rows)
{
    private int With => Rows.Count(r => r.Dashboard);

    public string Table() => string.Create(
        CultureInfo.InvariantCulture,
        $"""
        {Machine}
        {With} updates with and {Rows.Count - With} without the dashboard, in one run; {EventsSeen} events seen by a browser
        updates/s   with {UpdatesPerSecondWith:0.000}   without {UpdatesPerSecondWithout:0.000}   lost {Text(LostUpdates)}
        processor time of an update: added {Text(AddedCpu)}
        a look: {LookMilliseconds:0.00} ms at the fastest, {100 * LookShareOfCore:0.00}% of one core
        """);

    private static string Text(Share s) => string.Create(
        CultureInfo.InvariantCulture, $"{100 * s.Value:0.0}% (95%: {100 * s.Low:0.0}% to {100 * s.High:0.0}%)");
}

/// <summary>Measures what the dashboard costs a training.</summary>
internal static class DashboardBench
{
    /// <summary>Name of the hidden command that looks as a browser does.</summary>
    public const string ViewerCommand = "dashboard-viewer";

    // The first update of a block pays for the turn before it: a server that starts or stops.
    private const int Discarded = 1;

    private const int Resamples = 2000;

    /// <summary>Runs it.</summary>
    /// <param name="blocks">Pairs of blocks.</param>
    /// <param name="updates">Updates of a block, the discarded one among them.</param>
    /// <param name="small">A training of the smallest size, to try the bench itself.</param>
    /// <param name="progress">Told what happens.</param>
    /// <param name="cancellationToken">Gives up.</param>
    public static DashboardReport Run(int blocks, int updates, bool small, Action<string> progress, CancellationToken cancellationToken)
    {
        var machine = MachineInfo.Describe();
        var folder = Directory.CreateTempSubdirectory("mem1-bench-");
        try
        {
            var config = Presets.For(null, null, quick: small, fromScratch: false);
            config = config with
            {
                Name = "bench",
                Updates = (blocks * 2 * updates) + updates, // the first block warms up
                Evaluation = config.Evaluation with { Episodes = 0 },
                Checkpoint = config.Checkpoint with { Every = int.MaxValue },
            };
            TrainCommand.Require(config);
            using var run = RunFolder.Create(folder.FullName, "bench", chosen: true);
            run.WriteConfig(config);
            using var reporter = new Turns(run.FullPath, updates, progress);
            new TrainRun(config, new HashSet<string>(), run, reporter, resume: false, cloneOnly: false).Run(cancellationToken);
            cancellationToken.ThrowIfCancellationRequested();
            return Report(machine, reporter.Rows, reporter.FastestLook, reporter.EventsSeen);
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    /// <summary>Looks at a dashboard as a page on its Actors view does, until the input ends.</summary>
    /// <returns>How many events it was told.</returns>
    public static async Task<long> View(Uri address, CancellationToken cancellationToken)
    {
        using var http = new HttpClient { BaseAddress = address };
        using var over = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        _ = Task.Run(
            async () =>
            {
                await Console.In.ReadToEndAsync(CancellationToken.None).ConfigureAwait(false);
                await over.CancelAsync().ConfigureAwait(false);
            },
            CancellationToken.None);
        var polling = Task.Run(
            async () =>
            {
                for (var second = 0; !over.IsCancellationRequested; second++)
                {
                    await http.GetByteArrayAsync("/api/actors", over.Token).ConfigureAwait(false);
                    if (second % 2 == 0) await http.GetByteArrayAsync("/api/advisories", over.Token).ConfigureAwait(false);
                    await Task.Delay(TimeSpan.FromSeconds(1), over.Token).ConfigureAwait(false);
                }
            },
            CancellationToken.None);
        long events = 0;
        try
        {
            foreach (var path in new[] { "/api/run", "/api/state", "/api/metrics", "/api/events", "/api/trajectories" })
                await http.GetByteArrayAsync(path, over.Token).ConfigureAwait(false);
            using var stream = new StreamReader(await http.GetStreamAsync("/events", over.Token).ConfigureAwait(false));
            while (await stream.ReadLineAsync(over.Token).ConfigureAwait(false) is { } line)
                if (line.StartsWith("event:", StringComparison.Ordinal)) events++;
        }
        catch (Exception e) when (e is OperationCanceledException or IOException or HttpRequestException)
        {
            // The block is over, or the server stopped first.
        }

        await over.CancelAsync().ConfigureAwait(false);
        await polling.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        return events;
    }

    internal static DashboardReport Report(MachineInfo machine, IReadOnlyList<DashboardRow> rows, TimeSpan look, long eventsSeen)
    {
        double[] Of(bool with, Func<DashboardRow, double> value) => [.. rows.Where(r => r.Dashboard == with).Select(value)];
        var (with, without) = (Of(true, r => r.Seconds), Of(false, r => r.Seconds));
        return new DashboardReport(
            machine, 1 / Median(with), 1 / Median(without),
            Resampled(with, without, (a, b) => 1 - (b / a)),
            Resampled(Of(true, r => r.CpuSeconds), Of(false, r => r.CpuSeconds), (a, b) => (a / b) - 1),
            Math.Round(look.TotalMilliseconds, 3), look / DashboardServer.LookEvery, eventsSeen, rows);
    }

    private static Share Resampled(double[] with, double[] without, Func<double, double, double> share)
    {
        var random = new Random(1);
        double Drawn(double[] of) => Median([.. of.Select(_ => of[random.Next(of.Length)])]);
        var drawn = Enumerable.Range(0, Resamples).Select(_ => share(Drawn(with), Drawn(without))).Order().ToArray();
        return new Share(share(Median(with), Median(without)), drawn[Resamples / 40], drawn[Resamples - 1 - (Resamples / 40)]);
    }

    private static double Median(double[] values)
    {
        var sorted = values.Order().ToArray();
        return (sorted[(sorted.Length - 1) / 2] + sorted[sorted.Length / 2]) / 2;
    }

    /// <summary>Measures updates, and has the dashboard up in every other block.</summary>
    private sealed class Turns : IRunReporter
    {
        private readonly string _folder;
        private readonly int _updates;
        private readonly Action<string> _progress;
        private readonly DashboardReporter _watched;
        private IDisposable? _page;
        private Process? _viewer;
        private TimeSpan _cpu = Cpu();

        public Turns(string folder, int updates, Action<string> progress)
        {
            (_folder, _updates, _progress) = (folder, updates, progress);
            _watched = new DashboardReporter(new Silent());
        }

        public List<DashboardRow> Rows { get; } = [];

        public long EventsSeen { get; private set; }

        public TimeSpan FastestLook { get; private set; }

        public bool IsForMachines => true;

        public void Phase(string what) => _watched.Phase(what);

        public void Serving(RunSession session) => _watched.Serving(session);

        public void Progress(double share, string detail) => _watched.Progress(share, detail);

        public void Note(string sentence) => _watched.Note(sentence);

        public void Sampling(long update, int done, int of) => _watched.Sampling(update, done, of);

        public void Updated(UpdateMetrics metrics, int last)
        {
            _watched.Updated(metrics, last);
            var cpu = Cpu();
            var (block, within) = Math.DivRem((int)metrics.Update - 1, _updates);
            if (block > 0 && within >= Discarded)
                Rows.Add(new DashboardRow(metrics.Update, _page is not null, metrics.Seconds, (cpu - _cpu).TotalSeconds));
            if (within == _updates - 1)
            {
                // with, without, without, with: a drift over four blocks weighs on both alike
                var next = (block % 4) is 0 or 3;
                var turned = metrics.Update == last ? "" : next ? ", dashboard up" : ", dashboard down";
                _progress($"block {block + 1} of {last / _updates}{turned}");
                Turn(next && metrics.Update < last);
            }

            _cpu = Cpu();
        }

        public void Closing(RunSummary summary) => _watched.Closing(summary);

        public void Dispose()
        {
            Turn(up: false);
            _watched.Dispose();
        }

        private void Turn(bool up)
        {
            if (up == _page is not null) return;
            if (up)
            {
                _page = DashboardCommand.Inside(_watched, _folder, ("127.0.0.1", 0), tokenFile: null)
                    ?? throw new UserErrorException("The dashboard could not be started.");
                var start = BenchProcess.Self("bench", ViewerCommand, "--at", _watched.Dashboard!.Address.ToString());
                start.RedirectStandardInput = true;
                _viewer = Process.Start(start)!;
                return;
            }

            _viewer!.StandardInput.Close();
            if (long.TryParse(_viewer.StandardOutput.ReadToEnd(), CultureInfo.InvariantCulture, out var seen)) EventsSeen += seen;
            _viewer.WaitForExit();
            _viewer.Dispose();
            _viewer = null;
            var look = _watched.Dashboard!.FastestLook;
            if (look > TimeSpan.Zero && (FastestLook == TimeSpan.Zero || look < FastestLook)) FastestLook = look;
            _page!.Dispose();
            _page = null;
        }

        private static TimeSpan Cpu() => Environment.CpuUsage.TotalTime;
    }

    /// <summary>Says nothing.</summary>
    private sealed class Silent : IRunReporter
    {
        public bool IsForMachines => true;

        public void Phase(string what)
        {
        }

        public void Progress(double share, string detail)
        {
        }

        public void Note(string sentence)
        {
        }

        public void Sampling(long update, int done, int of)
        {
        }

        public void Updated(UpdateMetrics metrics, int last)
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
