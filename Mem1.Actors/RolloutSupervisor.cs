// Invariants:
//  * Every lease that arrives is released exactly once: when its episode has ended, crashed, been given up or been stopped.
//  * The worker outlives its episodes' failures, and a bounded number of its policy's and uplink's; anything else ends it with a sentence.
//  * While draining no episode starts; the worker leaves when the last one has ended.
using Akka.Actor;
using Mem1.Model;
using Mem1.Protocol;
using Mem1.Protocol.V1;
using Microsoft.Extensions.Logging;

namespace Mem1.Actors;

/// <summary>What a supervisor needs to make its children.</summary>
internal sealed record SupervisorServices(
    EpisodeServices Episodes,
    UplinkServices Uplink,
    Func<ModelWeights, long, IGenerationEngine> MakeEngine,
    string? SharedDispatcher,
    string? PolicyDispatcher,
    TaskCompletionSource Completion);

/// <summary>The root of a worker.</summary>
internal sealed partial class RolloutSupervisor : CountedActor, IWithTimers
{
    // A worker that is told to stop at once still says what it hands back; after this long it leaves without having said it.
    private static readonly TimeSpan StopPatience = TimeSpan.FromSeconds(5);

    private readonly SupervisorServices _services;
    private readonly RolloutWorkerOptions _options;
    private readonly RolloutTelemetry _telemetry;
    private readonly ILogger _log;
    private readonly Dictionary<IActorRef, Episode> _episodes = [];
    private readonly Queue<TaskLease> _paused = new();
    private readonly Dictionary<ChildRole, Exception> _lastFailure = [];

    private IActorRef _policy = ActorRefs.Nobody;
    private IActorRef _uplink = ActorRefs.Nobody;
    private long _nextEpisode;
    private bool _pausing;
    private string? _leaving;
    private bool _awaitAcknowledgements;
    private bool _left;

    public RolloutSupervisor(SupervisorServices services)
        : base(services.Uplink.Telemetry.Board, "", "supervisor")
    {
        _services = services;
        _options = services.Uplink.Options;
        _telemetry = services.Uplink.Telemetry;
        _log = services.Uplink.Loggers.CreateLogger<RolloutSupervisor>();

        Receive<LeaseArrived>(arrived => OnLease(arrived.Lease));
        Receive<EpisodeFinished>(_ => _episodes[Sender].Finished = true);
        Receive<EpisodeGivenUp>(givenUp => _episodes[Sender].ReturnReason = givenUp.Reason);
        Receive<Terminated>(terminated => OnTerminated(terminated.ActorRef));

        Receive<PauseEpisodes>(_ => _pausing = true);
        Receive<ResumeEpisodes>(_ => OnResume());

        Receive<RestartChild>(OnRestart);
        Receive<Drain>(drain => OnLeave(drain.Reason, stopEpisodes: false));
        Receive<HandBack>(leave =>
        {
            OnLeave(leave.Reason, stopEpisodes: false);
            foreach (var episode in _episodes.Keys)
                episode.Tell(new FinishTurn(_leaving!));
        });
        Receive<StopNow>(stop => OnLeave(stop.Reason, stopEpisodes: true));
        Receive<PatienceOver>(_ => OnPatienceOver());
        Receive<UplinkClosed>(closed => OnUplinkClosed(closed.Unacknowledged));
        Receive<LearnerRefused>(refused => Fail(new RolloutWorkerException(refused.Sentence)));
    }

    public ITimerScheduler Timers { get; set; } = null!;

    protected override SupervisorStrategy SupervisorStrategy() =>
        new RolloutSupervision(_options.MaxRestarts, _options.RestartWindow, OnFailure);

    protected override void PreStart()
    {
        if (_services.Completion.Task.IsCompleted)
        {
            // The second life of a failed supervisor: the worker is over.
            Context.Stop(Self);
            return;
        }

        var policyMemory = new PolicyMemory();
        var uplinkMemory = new UplinkMemory(_options.MaxUnacknowledged);
        var (makeEngine, telemetry, time, loggers) =
            (_services.MakeEngine, _telemetry, _services.Uplink.Time, _services.Uplink.Loggers);
        var uplinkServices = _services.Uplink;

        // On the board before they live, so that their mail is counted from the first message on.
        _telemetry.Board.Started(ChildNames.Policy, "policy");
        _telemetry.Board.Started(ChildNames.Uplink, "uplink");
        _policy = Context.ActorOf(
            On(_services.PolicyDispatcher, Props.Create(() => new PolicyActor(policyMemory, makeEngine, telemetry, time, loggers))),
            ChildNames.Policy);
        var policy = _policy;
        _uplink = Context.ActorOf(
            On(_services.SharedDispatcher, Props.Create(() => new UplinkActor(uplinkMemory, uplinkServices, policy))),
            ChildNames.Uplink);
        Context.Watch(_policy);
        Context.Watch(_uplink);
    }

    // --- Episodes.

    private void OnLease(TaskLease lease)
    {
        if (_leaving is not null)
            Refuse(lease, _leaving);
        else if (_pausing)
            _paused.Enqueue(lease);
        else
            StartEpisode(lease);
    }

    private void OnResume()
    {
        _pausing = false;
        while (_paused.TryDequeue(out var lease))
            StartEpisode(lease);
    }

    private void StartEpisode(TaskLease lease)
    {
        // A newer try of an episode that is still played here: the learner has given the older one up.
        foreach (var (older, episode) in _episodes)
        {
            if (episode.Lease.EpisodeId == lease.EpisodeId && episode.Lease.Attempt < lease.Attempt)
                StopEpisode(older, episode, $"Attempt {lease.Attempt} has taken its place.");
        }

        var (services, policy, uplink) = (_services.Episodes, _policy, _uplink);
        var name = $"episode-{_nextEpisode++}";
        _telemetry.Board.Started(name, "episode", lease.EpisodeId, lease.Attempt);
        var actor = Context.ActorOf(
            On(_services.SharedDispatcher, Props.Create(() => new EpisodeActor(lease, services, policy, uplink))), name);
        Context.Watch(actor);
        var trace = TraceContext.TraceIn(lease.Traceparent);
        _episodes.Add(actor, new Episode(LeaseKey.Of(lease), trace));
        LogStarted(_log, lease.EpisodeId, lease.Attempt, trace);
        _telemetry.EpisodeStarted();
    }

    private static void StopEpisode(IActorRef actor, Episode episode, string reason)
    {
        episode.ReturnReason ??= reason;
        Context.Stop(actor);
    }

    private void Refuse(TaskLease lease, string reason)
    {
        _telemetry.LeaseRefused();
        _uplink.Tell(new LeaseReleased(LeaseKey.Of(lease), reason, Leaving: true));
    }

    private void OnTerminated(IActorRef child)
    {
        if (_episodes.Remove(child, out var episode))
        {
            var reason = episode.Finished ? null : episode.ReturnReason ?? "The episode stopped without a result.";
            if (reason is not null)
                LogReturned(_log, episode.Lease.EpisodeId, episode.Lease.Attempt, reason, episode.Trace);
            else
                LogFinished(_log, episode.Lease.EpisodeId, episode.Lease.Attempt, episode.Trace);
            _telemetry.EpisodeEnded(returned: reason is not null);
            _telemetry.Board.Stopped(child.Path.Name, reason is null ? "finished" : "returned");
            _uplink.Tell(new LeaseReleased(episode.Lease, reason, Leaving: reason is not null && reason == _leaving));
            LeaveIfDone();
        }
        else if (child.Equals(_policy) || child.Equals(_uplink))
        {
            var role = ChildNames.RoleOf(child);
            var cause = _lastFailure.GetValueOrDefault(role);
            Fail(cause as RolloutWorkerException ?? new RolloutWorkerException(
                $"The {role.ToString().ToLowerInvariant()} of the worker failed too often (more than {_options.MaxRestarts} times within " +
                $"{_options.RestartWindow}), last with: {Innermost(cause)}", cause));
        }
    }

    private void OnFailure(IActorRef child, ChildRole role, Exception cause)
    {
        _telemetry.Crashed(role);
        _telemetry.Board.Failed(child.Path.Name, cause, restarts: RolloutSupervision.Decide(role, cause) == Directive.Restart);
        _lastFailure[role] = cause;
        LogCrashed(_log, cause, role, child.Path.Name);
        if (_episodes.TryGetValue(child, out var episode))
            episode.ReturnReason ??= $"The episode crashed with {Innermost(cause)}";
    }

    private void OnRestart(RestartChild asked)
    {
        var child = Context.Child(asked.Name);
        if (child.IsNobody())
            return;
        if (_episodes.TryGetValue(child, out var episode))
            StopEpisode(child, episode, asked.Reason);
        else if (child.Equals(_policy) || child.Equals(_uplink))
            child.Tell(new BeginAnew(asked.Reason));
    }

    private static string Innermost(Exception? cause)
    {
        while (cause is ActorInitializationException { InnerException: { } inner })
            cause = inner;
        return cause is null ? "no exception" : $"{cause.GetType().Name}: {cause.Message}";
    }

    // --- The end.

    private void OnLeave(string reason, bool stopEpisodes)
    {
        if (_leaving is null)
        {
            LogLeaving(_log, reason, _episodes.Count);
            _uplink.Tell(StopLeasing.Instance);
            _awaitAcknowledgements = true;
            Timers.StartSingleTimer(nameof(PatienceOver), PatienceOver.Instance, _options.DrainTimeout);
        }
        _leaving ??= $"The worker leaves: {reason}";
        while (_paused.TryDequeue(out var lease))
            Refuse(lease, _leaving);

        if (stopEpisodes)
        {
            _awaitAcknowledgements = false;
            _left = false;
            Timers.StartSingleTimer(nameof(PatienceOver), PatienceOver.Instance, StopPatience);
            foreach (var (actor, episode) in _episodes)
                StopEpisode(actor, episode, _leaving);
        }
        LeaveIfDone();
    }

    private void LeaveIfDone()
    {
        if (_leaving is null || _left || _episodes.Count > 0)
            return;
        _left = true;
        _uplink.Tell(new LeaveLearner(_awaitAcknowledgements));
    }

    private void OnPatienceOver()
    {
        if (_awaitAcknowledgements)
        {
            LogPatienceOver(_log, _options.DrainTimeout, _episodes.Count);
            OnLeave("The drain took too long.", stopEpisodes: true);
        }
        else
        {
            OnUplinkClosed(_telemetry.Snapshot().Unacknowledged);
        }
    }

    private void OnUplinkClosed(int unacknowledged)
    {
        if (unacknowledged > 0)
            LogLost(_log, unacknowledged);
        _services.Completion.TrySetResult();
        Context.Stop(Self);
    }

    private void Fail(RolloutWorkerException failure)
    {
        _services.Completion.TrySetException(failure);
        Context.Stop(Self);
    }

    protected override void PreRestart(Exception reason, object message)
    {
        // A supervisor that fails has lost count of its leases: it ends the worker rather than go on with a wrong one.
        _services.Completion.TrySetException(
            new RolloutWorkerException($"The supervisor of the worker failed with {Innermost(reason)}", reason));
        base.PreRestart(reason, message);
    }

    protected override void PostStop() => _services.Completion.TrySetException(
        new RolloutWorkerException("The actor system of the worker was stopped from outside."));

    private static Props On(string? dispatcher, Props props) => dispatcher is null ? props : props.WithDispatcher(dispatcher);

    private sealed class Episode(LeaseKey lease, string trace)
    {
        public LeaseKey Lease { get; } = lease;
        public string Trace { get; } = trace;
        public bool Finished { get; set; }
        public string? ReturnReason { get; set; }
    }

    [LoggerMessage(Level = LogLevel.Debug, Message = "Episode {EpisodeId}, attempt {Attempt}, begins; trace {TraceId}")]
    private static partial void LogStarted(ILogger logger, string episodeId, int attempt, string traceId);

    [LoggerMessage(Level = LogLevel.Debug, Message = "Episode {EpisodeId}, attempt {Attempt}, is finished; trace {TraceId}")]
    private static partial void LogFinished(ILogger logger, string episodeId, int attempt, string traceId);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Episode {EpisodeId}, attempt {Attempt}, is handed back: {Reason} Trace {TraceId}")]
    private static partial void LogReturned(ILogger logger, string episodeId, int attempt, string reason, string traceId);

    [LoggerMessage(Level = LogLevel.Error, Message = "{Role} {Name} crashed.")]
    private static partial void LogCrashed(ILogger logger, Exception cause, ChildRole role, string name);

    [LoggerMessage(Level = LogLevel.Information, Message = "The worker leaves: {Reason} {Episodes} episodes are still played.")]
    private static partial void LogLeaving(ILogger logger, string reason, int episodes);

    [LoggerMessage(Level = LogLevel.Warning, Message = "The worker did not drain within {Timeout}; {Episodes} episodes are handed back.")]
    private static partial void LogPatienceOver(ILogger logger, TimeSpan timeout, int episodes);

    [LoggerMessage(Level = LogLevel.Warning, Message = "The worker leaves with {Count} sub-trajectories unacknowledged.")]
    private static partial void LogLost(ILogger logger, int count);
}
