// Invariants:
//  * Trouble here never reaches the data path: no call waits for the network (except leaving, which is bounded), none throws for it, and
//    whatever ends the node's actor system only makes it begin another one and join again.
//  * A node follows the seed it was last told of. A seed of another incarnation is another cluster: the node leaves the old one without a
//    word, since nobody of it who mattered is left, and joins the new one.
//  * The port stays the same for the life of the process (but behind a mapping of ports, where it must be given anyway).
using Mem1.Protocol.V1;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace Mem1.Actors;

/// <summary>
/// This process as a node of the cluster of a run: who is there, in which role and state, reachable or not. For people and schedulers to
/// look at; tasks, turns and weights go another way (<see cref="RolloutWorker"/>) and need no cluster.
/// </summary>
public sealed partial class ClusterNode : IAsyncDisposable
{
    // What a page shows of the recent past.
    private const int MaxEvents = 100;

    // A join takes seconds; after this it is worth a word.
    private static readonly TimeSpan JoinPatience = TimeSpan.FromSeconds(30);

    // An actor system without obligations ends within milliseconds; one that does not is left behind.
    private static readonly TimeSpan AbandonLimit = TimeSpan.FromSeconds(10);

    private static readonly TimeSpan FirstWait = TimeSpan.FromSeconds(1), LongestWait = TimeSpan.FromSeconds(30);

    private readonly ClusterNodeOptions _options;
    private readonly ILogger _log;
    private readonly TimeProvider _time;
    private readonly Lock _lock = new();
    private readonly NodeReports _reports;
    private readonly Queue<MembershipEvent> _events = new();
    private readonly CancellationTokenSource _stop = new();
    private readonly TaskCompletionSource _stopped = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Task _running;
    private volatile NodeLife? _life;
    private NodeId? _seed;
    private TaskCompletionSource _told = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private Func<(string WorkerId, IReadOnlyList<ActorStatus> Actors)?> _source = static () => null;
    private int _port;

    private ClusterNode(ClusterNodeOptions options, ILoggerFactory? loggers, TimeProvider? time)
    {
        _options = options;
        _log = (loggers ?? NullLoggerFactory.Instance).CreateLogger<ClusterNode>();
        _time = time ?? TimeProvider.System;
        _port = options.Port;
        _reports = new NodeReports((worker, actors) => Reported?.Invoke(worker, actors));
        _running = RunAsync();
    }

    /// <summary>Told every change of the membership, on some thread; must not block.</summary>
    public event Action<MembershipEvent>? Changed;

    /// <summary>
    /// Told what another node said of its worker's actors, where this node founded the cluster; on a thread of the actors, must not block.
    /// The arguments are the worker's name and its actors, clipped to a few hundred.
    /// </summary>
    public event Action<string, IReadOnlyList<ActorStatus>>? Reported;

    /// <summary>This node now; null while it has no place in a cluster.</summary>
    public NodeId? Self => _life?.Self;

    /// <summary>Whether it is a full member now.</summary>
    public bool IsUp => Members.Any(m => m is { IsSelf: true, State: NodeState.Up });

    /// <summary>The members as this node sees them, with their workers' names where this node founded the cluster.</summary>
    public IReadOnlyList<ClusterMember> Members => _life is { } life ? [.. life.Members().Select(_reports.With)] : [];

    /// <summary>What has happened lately, the oldest first.</summary>
    public IReadOnlyList<MembershipEvent> Events
    {
        get
        {
            lock (_lock) return [.. _events];
        }
    }

    /// <summary>What workers are told so that their nodes find this one; null while it is not up to be found.</summary>
    public ClusterSeed? Seed =>
        Self is { } self ? new ClusterSeed { Host = self.Host, Port = self.Port, Incarnation = self.Incarnation } : null;

    /// <summary>Starts a node. One that founds a cluster has its port when this returns, unless it cannot be bound, which is logged and
    /// tried again; another one waits for <see cref="Follow"/>.</summary>
    /// <param name="options">Settings.</param>
    /// <param name="loggers">Where to log; nowhere if null.</param>
    /// <param name="time">The clock; the system's if null.</param>
    /// <exception cref="ArgumentException">The options contradict themselves.</exception>
    public static ClusterNode Start(ClusterNodeOptions options, ILoggerFactory? loggers = null, TimeProvider? time = null)
    {
        var problems = options.Validate();
        if (problems.Count > 0) throw new ArgumentException(string.Join(Environment.NewLine, problems), nameof(options));
        return new ClusterNode(options, loggers, time);
    }

    /// <summary>Joins the cluster of a node, now or as soon as it can be reached. Returns at once; the same seed again changes nothing.</summary>
    /// <param name="seed">As the learner told it.</param>
    public void Follow(ClusterSeed seed)
    {
        if (_options.Founds || !ClusterNodeOptions.IsHost(seed.Host) || seed.Port is < 1 or > 65535) return;
        var id = new NodeId(seed.Host, seed.Port, seed.Incarnation);
        lock (_lock)
        {
            if (id == _seed) return;
            _seed = id;
            _told.TrySetResult();
        }
    }

    /// <summary>From now on the node reports these actors to the node that founded the cluster, every few seconds.</summary>
    /// <param name="workerId">Whose.</param>
    /// <param name="actors">Asked before each report, on some thread; must not block.</param>
    public void Report(string workerId, Func<IReadOnlyList<ActorStatus>> actors) => Volatile.Write(ref _source, () => (workerId, actors()));

    /// <summary>Reports within half a second rather than at the next interval. Does not block.</summary>
    public void ReportSoon() => _life?.ReportSoon();

    /// <summary>Leaves the cluster and ends; takes no longer than the limit of the options allows.</summary>
    public async ValueTask DisposeAsync()
    {
        _stopped.TrySetResult();
        await _stop.CancelAsync().ConfigureAwait(false);
        await _running.ConfigureAwait(false);
    }

    private async Task RunAsync()
    {
        var waits = new Backoff(FirstWait, LongestWait, new Random().NextDouble);
        while (!_stop.IsCancellationRequested)
        {
            var (seed, told) = Target();
            if (seed is null && !_options.Founds)
            {
                await Task.WhenAny(told, _stopped.Task).ConfigureAwait(false);
                continue;
            }

            if (Begin(seed) is not { } life)
            {
                await PauseAsync(waits.Next()).ConfigureAwait(false);
                continue;
            }

            await LiveAsync(life, seed, told).ConfigureAwait(false);
            if (_stop.IsCancellationRequested) return;
            var ended = life.Ended.IsCompleted;
            await life.AbandonAsync(AbandonLimit).ConfigureAwait(false);
            _life = null;
            _reports.Clear();
            if (life.WasUp) waits.Reset();
            if (!ended) continue;
            LogCutOff(_log, life.Self, life.WasDowned ? "it was cut off from the learner" : "its part of the cluster ended");
            await PauseAsync(waits.Next()).ConfigureAwait(false);
        }
    }

    /// <summary>Until the life ends, another seed is to be followed, or the node is to leave, which it then does.</summary>
    private async Task LiveAsync(NodeLife life, NodeId? seed, Task told)
    {
        var over = Task.WhenAny(life.Ended, told, _stopped.Task);
        if (await Task.WhenAny(over, Task.Delay(JoinPatience, _time, _stop.Token)).ConfigureAwait(false) != over && !life.WasUp
            && !_stop.IsCancellationRequested)
        {
            LogNotLetIn(_log, life.Self, seed?.ToString() ?? "a cluster of its own", JoinPatience.TotalSeconds);
        }

        await over.ConfigureAwait(false);
        if (_stop.IsCancellationRequested) await life.LeaveAsync(_options.LeaveLimit).ConfigureAwait(false);
    }

    private (NodeId? Seed, Task Told) Target()
    {
        lock (_lock)
        {
            if (_told.Task.IsCompleted) _told = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            return (_seed, _told.Task);
        }
    }

    private NodeLife? Begin(NodeId? seed)
    {
        try
        {
            var life = NodeLife.Start(_options, _port, seed, _reports, () => Volatile.Read(ref _source)(), Happened, _time);
            if (_options.PublicPort is null) _port = life.Self.Port;
            _life = life;
            return life;
        }
        catch (Exception e)
        {
            // What the library throws for a port in use differs from release to release, and no failure here may end the worker.
            LogCannotBegin(_log, _port, e.GetBaseException().Message);
            return null;
        }
    }

    private async Task PauseAsync(TimeSpan wait)
    {
        await Task.WhenAny(Task.Delay(wait, _time, _stop.Token), _stopped.Task).ConfigureAwait(false);
    }

    private void Happened(MembershipEvent e)
    {
        if (_stop.IsCancellationRequested) return; // a node that leaves loses sight of the others, which is no news of theirs
        e = e with { WorkerId = _reports.WorkerOn(e.Node) };
        if (e.Change is NodeChange.Left or NodeChange.Removed) _reports.Forget(e.Node);
        lock (_lock)
        {
            _events.Enqueue(e);
            if (_events.Count > MaxEvents) _events.Dequeue();
        }

        var level = e.Change is NodeChange.Unreachable or NodeChange.Downed ? LogLevel.Warning
            : e.Node == Self || e.Change == NodeChange.Reachable ? LogLevel.Information
            : LogLevel.Debug; // with a thousand nodes each hears of the coming and going of all
        LogHappened(_log, level, e);
        Changed?.Invoke(e);
    }

    [LoggerMessage(Message = "Cluster: {Event}")]
    private static partial void LogHappened(ILogger logger, LogLevel level, MembershipEvent @event);

    [LoggerMessage(Level = LogLevel.Warning, Message =
        "No cluster for now: its port {Port} could not be opened ({Reason}); trying again. Tasks and weights do not need it.")]
    private static partial void LogCannotBegin(ILogger logger, int port, string reason);

    [LoggerMessage(Level = LogLevel.Warning, Message =
        "This node, {Node}, has not been let into the cluster of {Seed} within {Seconds} s; it goes on trying. Both ports must be reachable from "
        + "the other side. Tasks and weights do not need it.")]
    private static partial void LogNotLetIn(ILogger logger, NodeId node, string seed, double seconds);

    [LoggerMessage(Level = LogLevel.Warning, Message = "This node, {Node}, is out of the cluster: {Reason}. It joins again. Tasks and weights do not need it.")]
    private static partial void LogCutOff(ILogger logger, NodeId node, string reason);
}
