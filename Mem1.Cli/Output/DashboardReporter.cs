// Keeps: everything goes on to the reporter it wraps, whatever becomes of the dashboard; nothing here waits.
using System.Globalization;
using System.Text.Json;
using Mem1.Cli.Training;
using Mem1.Dashboard;
using Mem1.Learner;
using Mem1.Protocol;
using Mem1.Protocol.Security;

namespace Mem1.Cli.Output;

/// <summary>Tells the dashboard what a run tells its user, and shows it the learner and the worker of this process.</summary>
/// <param name="inner">The reporter of the terminal.</param>
internal sealed class DashboardReporter(IRunReporter inner) : IRunReporter, ILiveSource
{
    // The counters of ended episodes stay on the actors' board a while; a page draws this many lanes.
    private const int MaxEpisodes = 256, MaxQuarantined = 100;

    private volatile RunSession? _session;
    private RunCommands? _commands;

    /// <summary>What the dashboard reads.</summary>
    public TelemetryQueue Telemetry { get; } = new();

    /// <summary>Where other nodes' actors are reported; they are shown with those of this process.</summary>
    public NodeActors Nodes { get; } = new();

    /// <summary>What the dashboard's commands act on.</summary>
    public ICommandTarget Commands => _commands ??= new RunCommands(() => _session, Snapshot, Telemetry.Log);

    public bool IsForMachines => inner.IsForMachines;

    public void Phase(string what)
    {
        Telemetry.Phase(what);
        inner.Phase(what);
    }

    /// <summary>The dashboard of this run, which answers those of other processes too; null without one.</summary>
    public DashboardServer? Dashboard { get; set; }

    /// <summary>What those must show that look; null for nothing.</summary>
    public BearerToken? Viewer { get; set; }

    public LearnerHostOptions Hosting(LearnerHostOptions options) => Dashboard is not { } dashboard ? options : options with
    {
        Services = services => ObserverEndpoint.AddTo(services, dashboard),
        Endpoints = ObserverEndpoint.Map,
        ViewerToken = Viewer,
    };

    public void Serving(RunSession session)
    {
        _session = session;
        if (session.Cluster is { } cluster)
        {
            cluster.Changed += Tell;
            cluster.Reported += (worker, actors) => Nodes.Report(
                worker, [.. actors.Select(a => State(worker, a))],
                [.. actors.Where(a => a.Kind == "episode").Select(a => Played(worker, a))]);
        }

        inner.Serving(session);
    }

    public void Progress(double share, string detail)
    {
        Telemetry.Progress(share, detail);
        inner.Progress(share, detail);
    }

    public void Note(string sentence)
    {
        Telemetry.Log(new TelemetryEvent(EventLevel.Info, "note", sentence));
        inner.Note(sentence);
    }

    public void Sampling(long update, int done, int of)
    {
        Telemetry.Progress(
            of == 0 ? 0 : (double)done / of,
            string.Create(CultureInfo.InvariantCulture, $"update {update}: {done} of {of} episodes sampled"));
        inner.Sampling(update, done, of);
    }

    public void Updated(UpdateMetrics metrics, int last)
    {
        Telemetry.Log(new TelemetryEvent(EventLevel.Info, "update", string.Create(
            CultureInfo.InvariantCulture,
            $"Update {metrics.Update} of {last}: reward {metrics.RewardMean:0.000}, {metrics.Seconds:0.0} s.")));
        inner.Updated(metrics, last);
    }

    public void Closing(RunSummary summary)
    {
        Telemetry.Phase(summary.GoOnWith is null ? "finished" : "interrupted");
        inner.Closing(summary);
    }

    public void Dispose() => inner.Dispose();

    /// <inheritdoc/>
    public LiveSnapshot? Snapshot()
    {
        if (_session is not { } session) return null;
        var counts = session.Ledger.Counts;
        var leases = session.Ledger.Leases;
        var perWorker = leases.GroupBy(l => l.WorkerId).ToDictionary(g => g.Key, g => g.Count(), StringComparer.Ordinal);
        var local = session.LocalWorker;
        var actors = local?.Actors ?? [];
        var admission = session.Ledger.Admission;
        foreach (var worker in session.Ledger.Absent) Nodes.Lost(worker);
        return new LiveSnapshot
        {
            Run = session.Ledger.Run,
            PolicyVersion = session.PolicyVersion,
            StalenessBound = session.Ledger.Staleness,
            Paused = session.Control.Paused,
            ConcurrencyLimit = session.Ledger.ConcurrencyLimit,
            Admission = new AdmissionState(
                admission.Pending, admission.Parked, admission.Leased, admission.Workers, admission.FreshWorkers, admission.FreePlaces,
                admission.NeedsVersion, JsonNamingPolicy.SnakeCaseLower.ConvertName(admission.Binds.ToString())),
            WaitingSeconds = session.Ledger.Waiting is { } waiting ? Round(waiting) : null,
            LearnerAddress = session.Address.Authority,
            Ledger = new LedgerState
            {
                Pending = counts.Pending,
                Leased = counts.Leased,
                Buffered = counts.Buffered,
                Consumed = counts.Consumed,
                Quarantined = counts.Quarantined,
                Total = counts.Total,
            },
            Workers =
            [
                .. session.Workers.Select(w => new WorkerState(
                    w.WorkerId, w.AppliedVersion, w.Credit, perWorker.GetValueOrDefault(w.WorkerId), Round(w.Connected), Round(w.Silent),
                    w.RunningEpisodes, w.GeneratedTokens, w.TokensPerSecond is { } t ? Math.Round(t, 1) : null, w.Unacknowledged)
                {
                    ResidentBytes = w.ResidentBytes,
                    PullSeconds = w.PullTime is { } pull ? Math.Round(pull.TotalSeconds, 3) : null,
                    Budget = w.Spent is { } spent
                        ? new TimeBudget(Round(spent.Generating), Round(spent.Environment), Round(spent.Waiting)) : null,
                }),
            ],
            Nodes = [.. (session.Cluster?.Members ?? []).Select(State)],
            Actors =
            [
                .. actors.OrderBy(a => a.Kind != "episode" ? 0 : a.State == "failed" ? 1 : 2).Select(a => State(local!.WorkerId, a)),
                .. Nodes.Snapshot(),
            ],
            Episodes = Episodes(session.Ledger.Run, local?.WorkerId, actors, leases),
            Worker = local is null ? new Dictionary<string, double>() : Numbers(local.Counters),
            Quarantined = [.. session.Ledger.Quarantined.TakeLast(MaxQuarantined).Select(q => new QuarantineState(q.TaskId, q.Reasons))],
        };
    }

    private void Tell(Actors.MembershipEvent e)
    {
        // One that was given up stays in sight for a while, as unreachable.
        if (e is { Change: Actors.NodeChange.Left, WorkerId: { } worker }) Nodes.Forget(worker);
        var level = e.Change is Actors.NodeChange.Unreachable or Actors.NodeChange.Downed ? EventLevel.Warning : EventLevel.Info;
        Telemetry.Log(new TelemetryEvent(level, "cluster", $"The {e}.")
        {
            Actor = e.WorkerId ?? "",
        });
    }

    private static NodeMember State(Actors.ClusterMember m) => new(
        $"{m.Id.Host}:{m.Id.Port}", m.Id.Incarnation.ToString("x8", CultureInfo.InvariantCulture), m.Roles, m.WorkerId,
        JsonNamingPolicy.SnakeCaseLower.ConvertName(m.State.ToString()), m.Reachable, m.ReportAge is { } age ? Round(age) : null);

    private static ActorState State(string worker, Actors.ActorStatus a) => new(
        a.Name.Length == 0 ? worker : $"{worker}/{a.Name}", a.Name.Length == 0 ? "" : worker, a.Kind, a.State,
        a.Kind == "episode" ? a.EpisodeId : "", Round(a.InState), Round(a.Age), a.Restarts, a.LastFailure)
    {
        Mailbox = a.Mailbox,
        OldestSeconds = a.Oldest is { } oldest ? Math.Round(oldest.TotalSeconds, 3) : null,
        MessagesPerSecond = a.MessagesPerSecond is { } rate ? Math.Round(rate, 1) : null,
    };

    /// <summary>Those of workers that say what their episodes did, then those of which only the lease is known.</summary>
    private List<EpisodeState> Episodes(
        string run, string? local, IReadOnlyList<Actors.ActorStatus> actors, IReadOnlyList<LeaseStatus> leases)
    {
        var told = actors.Where(a => a.Kind == "episode").Select(a => Played(local!, a)).Concat(Nodes.Episodes())
            .OrderBy(e => e.State is "finished" or "returned" or "failed").ThenBy(e => e.AgeSeconds).ToList();
        var known = told.Select(e => (e.Worker, e.Id, e.Attempt)).ToHashSet();
        // What has ended lately makes room for what is being played.
        var unknown = leases.Where(l => l.WorkerId != local && !known.Contains((l.WorkerId, l.EpisodeId, l.Attempt)))
            .Select(l => new EpisodeState(l.EpisodeId, l.WorkerId, l.Attempt, Turn: null, "leased", Round(l.Age), [])).ToList();
        var running = told.TakeWhile(e => e.State is not ("finished" or "returned" or "failed")).Take(MaxEpisodes).ToList();
        var room = Math.Max(0, MaxEpisodes - running.Count - unknown.Count);
        return
        [
            .. running.Concat(unknown).Take(MaxEpisodes).Concat(told.Skip(running.Count).Take(room))
                .Select(e => e with { TraceId = TraceContext.TraceOf(run, e.Id) }),
        ];
    }

    private static EpisodeState Played(string worker, Actors.ActorStatus a) => new(
        a.EpisodeId, worker, a.Attempt, a.Turn, a.State, Round(a.Age),
        [.. a.Spans.Select(s => new EpisodeSpan(s.Kind, s.Turn, s.Ago.TotalSeconds, s.Length.TotalSeconds, s.PolicyVersion))]);

    private static Dictionary<string, double> Numbers(Actors.RolloutCounters c) => new()
    {
        ["episodes_running"] = c.EpisodesRunning,
        ["episodes_finished"] = c.EpisodesFinished,
        ["episodes_returned"] = c.EpisodesReturned,
        ["turns"] = c.Turns,
        ["generated_tokens"] = c.GeneratedTokens,
        ["decode_tokens_per_s"] = Math.Round(c.TokensPerSecond, 1),
        ["batch_occupancy"] = Math.Round(c.BatchOccupancy, 2),
        ["environment_failures"] = c.EnvironmentFailures,
        ["episode_crashes"] = c.EpisodeCrashes,
        ["policy_crashes"] = c.PolicyCrashes,
        ["uplink_crashes"] = c.UplinkCrashes,
        ["unacknowledged"] = c.Unacknowledged,
        ["weight_swaps"] = c.WeightSwaps,
    };

    private static double Round(TimeSpan time) => Math.Round(time.TotalSeconds, 1);
}
