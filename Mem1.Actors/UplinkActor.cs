// Invariants:
//  * One stream at a time; whatever an older one still says is ignored. A lost stream is opened again with back-off and jitter for as long
//    as the worker lives, and everything unsettled is said again, in order.
//  * Leases held + credit outstanding <= MaxEpisodes, and no credit is granted while the outbox is full or the worker drains.
//  * WeightsApplied(v) is said only after the policy has v in place, and again on every new stream.
//  * The learner's last word on the version counts, also when it is lower than before: a learner resumed from a checkpoint goes back.
//  * Weights that were pulled, or in the middle of a swap, under another lineage count for nothing, whatever their version.
//  * UplinkMemory outlives a crash: turns, returned leases and held leases are not lost with the actor.
using Akka.Actor;
using Grpc.Core;
using Mem1.Model;
using Mem1.Protocol;
using Mem1.Protocol.V1;
using Microsoft.Extensions.Logging;
using Status = Grpc.Core.Status;

namespace Mem1.Actors;

/// <summary>What an uplink works with.</summary>
internal sealed record UplinkServices(
    RolloutWorkerOptions Options,
    LearnerService.LearnerServiceClient Client,
    OpenDirect OpenDirect,
    Func<Stream, ModelWeights> ParseWeights,
    RolloutTelemetry Telemetry,
    TimeProvider Time,
    Random Jitter,
    ILoggerFactory Loggers,
    ClusterNode? Cluster = null);

/// <summary>The worker's side of the stream to the learner.</summary>
internal sealed partial class UplinkActor : CountedActor, IWithTimers
{
    // After this worker has ended its side the learner has this long to end the other; it has nothing left to say but acknowledgements.
    private static readonly TimeSpan LeavePatience = TimeSpan.FromSeconds(2);

    private readonly UplinkMemory _memory;
    private readonly UplinkServices _services;
    private readonly RolloutWorkerOptions _options;
    private readonly IActorRef _policy;
    private readonly ILogger _log;
    private readonly Backoff _reconnect;
    private readonly Backoff _repull;
    private readonly CancellationTokenSource _stop = new();

    private LearnerLink? _link;
    private bool _welcomed;
    private int _credit;
    private long? _wanted;
    private long? _pulling;
    private long? _swapping;
    private long? _pullingLineage;
    private long _pullBegan;
    private int _voidSwaps;
    private bool _direct;

    public UplinkActor(UplinkMemory memory, UplinkServices services, IActorRef policy)
        : base(services.Telemetry.Board)
    {
        _memory = memory;
        _services = services;
        _options = services.Options;
        _policy = policy;
        _log = services.Loggers.CreateLogger<UplinkActor>();
        _reconnect = new Backoff(_options.ReconnectDelay, _options.MaxReconnectDelay, services.Jitter.NextDouble);
        _repull = new Backoff(_options.ReconnectDelay, _options.MaxReconnectDelay, services.Jitter.NextDouble);

        Receive<TurnPlayed>(played => OnTurnPlayed(played.Turn));
        Receive<LeaseReleased>(OnLeaseReleased);
        Receive<LinkReceived>(received => OnLearnerMessage(received.Message), received => received.Link == _link?.Number);
        Receive<LinkEnded>(ended => OnLinkEnded(ended.Status), ended => ended.Link == _link?.Number);
        Receive<LinkReceived>(_ => { });
        Receive<LinkEnded>(_ => { });
        Receive<WeightsPulled>(OnWeightsPulled);
        Receive<WeightsPullFailed>(OnWeightsPullFailed);
        Receive<WeightsSwapped>(OnWeightsSwapped);
        Receive<StopLeasing>(_ => _memory.Leaving = true);
        Receive<LeaveLearner>(OnLeave);
        Receive<UplinkTick>(OnTick);
        Receive<BeginAnew>(anew => throw new RestartRequestedException(anew.Reason));
    }

    public ITimerScheduler Timers { get; set; } = null!;

    protected override void PreStart()
    {
        Timers.StartPeriodicTimer(UplinkTimer.Heartbeat, UplinkTick.Heartbeat, _options.HeartbeatInterval);
        Connect();
    }

    // --- The stream.

    private void Connect()
    {
        var hello = new Hello
        {
            WorkerId = _options.WorkerId,
            ProtocolVersion = ProtocolVersion.Major,
            ProtocolMinor = ProtocolVersion.Minor,
            MaxEpisodes = _options.MaxEpisodes,
        };
        if (_options.ModelFingerprint is { } shape)
            hello.ModelFingerprint = shape;
        if (_options.RunFingerprint is { } run)
            hello.RunFingerprint = run;
        foreach (var (episode, attempt) in _memory.Held.Union(_memory.Outbox.Leases))
            hello.Held.Add(new HeldLease { EpisodeId = episode, Attempt = attempt });
        _link = LearnerLink.Open(_services.Client, ++_memory.Links, hello, Self);
        Timers.StartSingleTimer(UplinkTimer.Welcome, UplinkTick.Welcome, _options.ConnectTimeout);
    }

    private void OnLearnerMessage(LearnerMessage message)
    {
        switch (message.BodyCase)
        {
            case LearnerMessage.BodyOneofCase.Welcome:
                OnWelcome(message.Welcome);
                break;
            case LearnerMessage.BodyOneofCase.Lease:
                OnLease(message.Lease);
                break;
            case LearnerMessage.BodyOneofCase.Ack:
                _memory.Outbox.Acknowledge(TurnKey.Of(message.Ack));
                AdmitWaiting();
                break;
            case LearnerMessage.BodyOneofCase.Weights:
                Want(message.Weights.PolicyVersion);
                break;
            case LearnerMessage.BodyOneofCase.Drain:
                Context.Parent.Tell(new Drain(message.Drain.Reason));
                break;
            case LearnerMessage.BodyOneofCase.RestartActor:
                Context.Parent.Tell(new RestartChild(message.RestartActor.Name, message.RestartActor.Reason));
                break;
        }
    }

    private void OnWelcome(Welcome welcome)
    {
        Timers.Cancel(UplinkTimer.Welcome);
        if (_options.ModelFingerprint is { } own && own != welcome.ModelFingerprint)
        {
            Refuse($"The learner at {_options.LearnerAddress} trains a model of another shape (fingerprint {welcome.ModelFingerprint:x}, " +
                $"this worker's is {own:x}); start this worker with the learner's model configuration.");
            return;
        }
        _welcomed = true;
        _credit = 0;
        _direct = welcome.DirectWeights;
        _reconnect.Reset();
        _services.Telemetry.Connected();
        LogWelcomed(_log, _options.LearnerAddress, welcome.PolicyVersion, _memory.Outbox.Unacknowledged);
        if (welcome.Cluster is { } seed)
            _services.Cluster?.Follow(seed);

        if (_memory.Lineage != welcome.Lineage)
        {
            if (_swapping is not null)
                _voidSwaps++;
            _swapping = null;
            (_memory.Lineage, _memory.Applied, _memory.Weights) = (welcome.Lineage, null, null);
        }

        // A version above the learner's newest comes from a run that is over: it counts for nothing until the learner's own is in place.
        if (_memory.Applied is { } applied && applied <= welcome.PolicyVersion)
            Say(new WorkerMessage { WeightsApplied = new WeightsApplied { PolicyVersion = applied } });
        foreach (var message in _memory.Outbox.Unsettled)
            Say(message);
        Want(welcome.PolicyVersion);
        GrantCredit();
        CloseIfDone();
    }

    private void OnLinkEnded(Status status)
    {
        DropLink();
        if (_memory.Leave is not null && !MustWait())
        {
            ReportClosed();
            return;
        }
        if (IsRefusal(status.StatusCode))
        {
            Refuse($"The learner at {_options.LearnerAddress} refused this worker: {status.Detail}");
            return;
        }
        var wait = _reconnect.Next();
        LogDisconnected(_log, _options.LearnerAddress, status.StatusCode, status.Detail, wait.TotalSeconds);
        Timers.StartSingleTimer(UplinkTimer.Connect, UplinkTick.Connect, wait);
    }

    // The learner understood and said no; saying the same again would bring the same answer.
    private static bool IsRefusal(StatusCode code) => code is
        StatusCode.FailedPrecondition or StatusCode.InvalidArgument or StatusCode.PermissionDenied or StatusCode.Unauthenticated;

    private void OnTick(UplinkTick tick)
    {
        switch (tick.Timer)
        {
            case UplinkTimer.Connect when _link is null:
                Connect();
                break;
            case UplinkTimer.Welcome when !_welcomed && _link is not null:
                OnLinkEnded(new Status(StatusCode.DeadlineExceeded, $"No welcome within {_options.ConnectTimeout}."));
                break;
            case UplinkTimer.Heartbeat:
                Beat();
                break;
            case UplinkTimer.Pull:
                Pull();
                break;
            case UplinkTimer.Leave:
                DropLink();
                ReportClosed();
                break;
        }
    }

    private void Beat() => Say(new WorkerMessage
    {
        Heartbeat = _services.Telemetry.Heartbeat(_memory.Applied ?? -1, _memory.Outbox.Unacknowledged, _memory.PullTime),
    });

    // A message that cannot be said now is either in the outbox, and said on the next stream, or is of no use there.
    private void Say(WorkerMessage message)
    {
        if (!_welcomed || _link is null)
            return;
        if (message.BodyCase == WorkerMessage.BodyOneofCase.SubTrajectory)
            _services.Telemetry.Sent();
        _link.Send(message);
    }

    private void DropLink()
    {
        Timers.Cancel(UplinkTimer.Welcome);
        _link?.Dispose();
        _link = null;
        _welcomed = false;
        _credit = 0;
    }

    private void Refuse(string sentence)
    {
        DropLink();
        Timers.CancelAll();
        Context.Parent.Tell(new LearnerRefused(sentence));
    }

    // --- Leases.

    private void OnLease(TaskLease lease)
    {
        _credit = Math.Max(0, _credit - 1);
        // A learner that lost sight of this worker may lease the same try again; it is still being played.
        if (_memory.Held.Add(LeaseKey.Of(lease)))
            Context.Parent.Tell(new LeaseArrived(lease));
        else
            GrantCredit();
    }

    private void OnLeaseReleased(LeaseReleased released)
    {
        _memory.Held.Remove(released.Lease);
        if (released.ReturnReason is { } reason)
        {
            Say(_memory.Outbox.Return(released.Lease, reason, released.Leaving));
            AdmitWaiting();
        }
        GrantCredit();
        CloseIfDone();
    }

    private void GrantCredit()
    {
        var free = _options.MaxEpisodes - _memory.Held.Count - _credit;
        if (free <= 0 || !_welcomed || _memory.Leaving || _memory.Outbox.IsFull)
            return;
        _credit += free;
        Say(new WorkerMessage { Credit = new LeaseCredit { Episodes = free } });
    }

    // --- Turns.

    private void OnTurnPlayed(SubTrajectory turn)
    {
        var message = _memory.Outbox.Add(turn, Sender);
        if (message is not null)
            Say(message);
        if (_memory.Outbox.Holds(TurnKey.Of(turn)))
            Sender.Tell(new TurnAccepted(turn.Turn));
        OutboxChanged();
    }

    private void AdmitWaiting()
    {
        while (_memory.Outbox.Admit() is var (message, episode))
        {
            Say(message);
            episode.Tell(new TurnAccepted(message.SubTrajectory.Turn));
        }
        OutboxChanged();
        GrantCredit();
        CloseIfDone();
    }

    private void OutboxChanged()
    {
        _services.Telemetry.Outstanding(_memory.Outbox.Unacknowledged);
        if (_memory.Outbox.IsFull == _memory.Paused)
            return;
        _memory.Paused = _memory.Outbox.IsFull;
        Context.Parent.Tell(_memory.Paused ? PauseEpisodes.Instance : ResumeEpisodes.Instance);
    }

    // --- Weights.

    private void Want(long version)
    {
        // A learner that has published nothing yet says so with a negative version; its first notice follows.
        if (version < 0)
            return;
        _wanted = version;
        _services.Telemetry.Wanted(version);
        _repull.Reset();
        Pull();
    }

    private void Pull()
    {
        if (_wanted is not { } version || _pulling is not null || _swapping == version)
            return;
        if (_memory.Applied == version && _swapping is null)
            return;
        Timers.Cancel(UplinkTimer.Pull);
        (_pulling, _pullingLineage, _pullBegan) = (version, _memory.Lineage, _services.Time.GetTimestamp());
        var held = _options.WeightsDelta ? _memory.Weights : null;
        PullAsync(_services, _direct, version, held, _stop.Token).PipeTo(
            Self, success: pulled => pulled, failure: cause => new WeightsPullFailed(version, cause));
    }

    private static async Task<WeightsPulled> PullAsync(
        UplinkServices services, bool direct, long version, HeldWeights? held, CancellationToken cancellationToken)
    {
        // gRPC measures deadlines on the wall clock, which may jump; the token has the last word.
        using var limit = new CancellationTokenSource(services.Options.WeightsDeadline, services.Time);
        using var both = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, limit.Token);
        var deadline = services.Time.GetUtcNow().UtcDateTime + services.Options.WeightsDeadline;
        var download = new WeightsDownload(services.Client, direct ? services.OpenDirect : null, services.Options.MaxWeightsBytes);
        var (blob, failure) = await download.PullAsync(version, held, deadline, both.Token).ConfigureAwait(false);
        // On the thread pool: parsing takes long, and the stream must go on being served. What is not kept makes room for what is read of it.
        var weights = await Task.Run(
            () =>
            {
                using var stream = services.Options.WeightsDelta ? blob.OpenRead() : blob.Consume();
                return services.ParseWeights(stream);
            },
            cancellationToken).ConfigureAwait(false);
        return new WeightsPulled(version, weights, services.Options.WeightsDelta ? blob : null, failure);
    }

    private void OnWeightsPulled(WeightsPulled pulled)
    {
        _pulling = null;
        _memory.PullTime = _services.Time.GetElapsedTime(_pullBegan);
        if (pulled.DirectFailure is { } failure)
            UseGrpc(failure);
        if (pulled.Version == _wanted && _pullingLineage == _memory.Lineage)
        {
            _repull.Reset();
            _swapping = pulled.Version;
            _memory.Weights = pulled.Blob is { } blob ? new HeldWeights(pulled.Version, blob) : null;
            _policy.Tell(new SwapWeights(pulled.Weights, pulled.Version));
        }
        Pull();
    }

    private void OnWeightsPullFailed(WeightsPullFailed failed)
    {
        _pulling = null;
        _memory.Weights = null; // perhaps the base is to blame: the next attempt asks for the whole blob
        _services.Telemetry.WeightsFailed();
        LogPullFailed(_log, failed.Cause, failed.Version, _repull.Failures + 1);
        if (failed.Cause is not RpcException)
            UseGrpc(failed.Cause); // perhaps the way is to blame
        if (failed.Version != _wanted)
        {
            Pull();
        }
        else if (_repull.Failures < _options.WeightsRetries)
        {
            Timers.StartSingleTimer(UplinkTimer.Pull, UplinkTick.Pull, _repull.Next());
        }
        else
        {
            // Perhaps the version is no longer held and the notice of the next one was lost: a new welcome names the newest.
            _wanted = null;
            _repull.Reset();
            if (_link is not null)
                OnLinkEnded(new Status(StatusCode.Aborted, $"The weights of version {failed.Version} cannot be pulled."));
        }
    }

    // Until the next welcome: something between learner and worker may let HTTP/2 alone through.
    private void UseGrpc(Exception cause)
    {
        if (_direct)
            LogOverGrpc(_log, cause);
        _direct = false;
    }

    private void OnWeightsSwapped(WeightsSwapped swapped)
    {
        if (_voidSwaps > 0)
        {
            _voidSwaps--;
            return;
        }
        if (_swapping == swapped.Version)
            _swapping = null;
        _memory.Applied = swapped.Version;
        Say(new WorkerMessage { WeightsApplied = new WeightsApplied { PolicyVersion = swapped.Version } });
        Pull();
    }

    // --- Leaving.

    private void OnLeave(LeaveLearner leave)
    {
        _memory.Leaving = true;
        _memory.Leave = leave;
        if (_link is null && !MustWait())
            ReportClosed();
        else
            CloseIfDone();
    }

    // Whether there is still something whose arrival has to be awaited.
    private bool MustWait() =>
        _memory.Leave is { AwaitAcknowledgements: true } && _memory.Outbox.Unacknowledged + _memory.Outbox.Waiting > 0;

    private void CloseIfDone()
    {
        if (_memory.Leave is null || MustWait() || _link is null)
            return;
        _link.CompleteSending();
        Timers.StartSingleTimer(UplinkTimer.Leave, UplinkTick.Leave, LeavePatience);
    }

    private void ReportClosed()
    {
        Timers.CancelAll();
        Context.Parent.Tell(new UplinkClosed(_memory.Outbox.Unacknowledged + _memory.Outbox.Waiting));
    }

    // --- Crashes.

    protected override void PreRestart(Exception reason, object message)
    {
        // The failing message is lost with the old incarnation; these two may not be, and hearing them twice is harmless.
        if (message is TurnPlayed or LeaseReleased)
            Self.Tell(message, Sender);
        base.PreRestart(reason, message);
    }

    protected override void PostStop()
    {
        DropLink();
        _stop.Cancel();
    }

    [LoggerMessage(Level = LogLevel.Information,
        Message = "Connected to the learner at {Address}: policy version {Version}, {Unacknowledged} sub-trajectories to send again.")]
    private static partial void LogWelcomed(ILogger logger, string address, long version, int unacknowledged);

    [LoggerMessage(Level = LogLevel.Warning,
        Message = "The learner at {Address} is away ({Status}: {Detail}); next attempt in {Seconds:0.0} s.")]
    private static partial void LogDisconnected(ILogger logger, string address, StatusCode status, string detail, double seconds);

    [LoggerMessage(Level = LogLevel.Warning,
        Message = "A connection for weights of its own brought none; they come over gRPC, which is slower.")]
    private static partial void LogOverGrpc(ILogger logger, Exception cause);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Weights of version {Version} could not be pulled (try {Try}).")]
    private static partial void LogPullFailed(ILogger logger, Exception cause, long version, int @try);
}
