// Keeps: one session per stream; what is written to a worker goes through one bounded queue, and a worker that does not read is cut off
// instead of holding memory; a silent worker is cut off after a limit. A cut-off worker reconnects and sends again what was not
// acknowledged. Nothing a worker does reaches the trainer's thread or another worker's session.
using System.Collections.Concurrent;
using System.Diagnostics;
using System.Threading.Channels;
using Google.Protobuf;
using Grpc.Core;
using Mem1.Protocol;
using Mem1.Protocol.V1;
using Microsoft.Extensions.Logging;

namespace Mem1.Learner;

/// <summary>The learner's gRPC surface (rollout.proto).</summary>
internal sealed class LearnerServiceImplementation(
    TaskLedger ledger, WeightPublisher publisher, LearnerServiceOptions options, ILogger<LearnerServiceImplementation> log)
    : LearnerService.LearnerServiceBase
{
    // Names end up in reasons and logs; host, process and a number fit many times over.
    private const int MaxWorkerIdLength = 200;

    // Enough for a sentence; it comes from a worker.
    private const int MaxLoggedReason = 500;

    // As many as there may be connections: who opens streams instead of connections gets no further.
    private const int MaxSessions = 4096;

    // Shorter than a worker's patience for its welcome: it should hear why it has to wait.
    private static readonly TimeSpan RecoveryPatience = TimeSpan.FromSeconds(5);

    private static readonly TimeSpan DrainPoll = TimeSpan.FromMilliseconds(20);

    // Acknowledgements queued when a worker leaves go out within this, or its next session asks for them again.
    private static readonly TimeSpan FarewellLimit = TimeSpan.FromSeconds(2);

    private static readonly WriteOptions s_moreFollows = new(WriteFlags.BufferHint);

    private readonly ConcurrentDictionary<WorkerSession, byte> _sessions = [];
    private volatile string? _draining;

    /// <summary>Every connected worker, in the order of their names.</summary>
    public IReadOnlyList<WorkerStatus> Workers =>
        [.. _sessions.Keys.Select(s => s.Status()).OrderBy(w => w.WorkerId, StringComparer.Ordinal)];

    /// <summary>Tells every worker that there is nothing left to do, and waits until they have left.</summary>
    /// <param name="reason">For people to read.</param>
    /// <param name="limit">How long they may take; they are cut off afterwards by whoever stops the server.</param>
    public async Task DrainAsync(string reason, TimeSpan limit)
    {
        _draining = reason; // a worker between two streams hears it when it is back
        foreach (var session in _sessions.Keys) session.TryWrite(new LearnerMessage { Drain = new Drain { Reason = reason } });
        var watch = Stopwatch.StartNew();
        while (!_sessions.IsEmpty && watch.Elapsed < limit) await Task.Delay(DrainPoll).ConfigureAwait(false);
    }

    /// <summary>Tells one worker to take no more leases, finish what it plays and leave; false when it is not connected.</summary>
    public bool Drain(string workerId, string reason) => Tell(workerId, new LearnerMessage { Drain = new Drain { Reason = reason } });

    /// <summary>Tells one worker to have one of its actors begin anew; false when it is not connected.</summary>
    public bool RestartActor(string workerId, string name, string reason) =>
        Tell(workerId, new LearnerMessage { RestartActor = new RestartActor { Name = name, Reason = reason } });

    private bool Tell(string workerId, LearnerMessage message) =>
        _sessions.Keys.FirstOrDefault(s => s.WorkerId == workerId) is { } session && session.TryWrite(message);

    public override async Task Connect(
        IAsyncStreamReader<WorkerMessage> requestStream, IServerStreamWriter<LearnerMessage> responseStream, ServerCallContext context)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(context.CancellationToken, options.Stopping);
        stop.CancelAfter(options.SilenceLimit);
        if (!await MoveNext(requestStream, stop.Token).ConfigureAwait(false)) return;
        if (requestStream.Current.BodyCase != WorkerMessage.BodyOneofCase.Hello)
            throw new RpcException(new Status(StatusCode.FailedPrecondition, "The first message of a worker must be Hello."));
        var hello = requestStream.Current.Hello;
        if (hello.WorkerId.Length is 0 or > MaxWorkerIdLength)
        {
            throw new RpcException(new Status(
                StatusCode.InvalidArgument, $"Hello.worker_id must have 1 to {MaxWorkerIdLength} characters."));
        }

        if (hello.ProtocolVersion != ProtocolVersion.Major) throw OtherProtocol(hello.WorkerId, hello.ProtocolVersion);
        if (Mismatch(hello) is { } mismatch)
        {
            log.LogWarning("Worker {Worker} is refused: {Reason}", hello.WorkerId, mismatch);
            throw new RpcException(new Status(StatusCode.FailedPrecondition, mismatch));
        }

        if (hello.MaxEpisodes < 1)
            throw new RpcException(new Status(StatusCode.InvalidArgument, "Hello.max_episodes must be at least 1."));

        if (_sessions.Count >= MaxSessions)
            throw new RpcException(new Status(StatusCode.ResourceExhausted, $"The learner serves {MaxSessions} workers already."));
        await RecoverAsync(stop.Token).ConfigureAwait(false);
        using var session = new WorkerSession(hello.WorkerId, hello.MaxEpisodes);
        using var joined = CancellationTokenSource.CreateLinkedTokenSource(stop.Token, session.Aborted);
        var welcomed = publisher.Version;
        session.TryWrite(new LearnerMessage
        {
            Welcome = new Welcome
            {
                PolicyVersion = welcomed,
                ModelFingerprint = options.ModelFingerprint,
                Cluster = options.Cluster(),
                Lineage = ledger.Lineage,
                DirectWeights = options.DirectWeights,
                ProtocolMinor = ProtocolVersion.Minor,
            },
        });
        void Announce(long version) => session.TryWrite(new LearnerMessage { Weights = new WeightsNotice { PolicyVersion = version } });
        var writing = WriteAsync(session, responseStream, joined.Token);
        var clean = false;
        _sessions.TryAdd(session, 0);
        if (_draining is { } farewell) session.TryWrite(new LearnerMessage { Drain = new Drain { Reason = farewell } });
        try
        {
            publisher.Published += Announce;
            if (publisher.Version is var newest && newest != welcomed) Announce(newest); // published between welcome and subscription
            ledger.Join(session, hello.Held.Select(h => (h.EpisodeId, h.Attempt)).ToHashSet());
            log.LogDebug(
                "Worker {Worker} joined; it speaks protocol {Major}.{Minor}", hello.WorkerId, hello.ProtocolVersion, hello.ProtocolMinor);
            while (true)
            {
                stop.CancelAfter(options.SilenceLimit);
                if (!await MoveNext(requestStream, joined.Token).ConfigureAwait(false)) break;
                Take(session, requestStream.Current);
            }

            clean = true;
        }
        catch (RpcException) when (session.IsSuperseded)
        {
            log.LogWarning("Worker {Worker} has opened another stream; the older one is ended. Two workers must not share a name.", hello.WorkerId);
            throw new RpcException(new Status(StatusCode.Aborted, "Another stream of this worker, or of one of the same name, has taken over."));
        }
        catch (RpcException) when (session.IsOverfull || options.Stopping.IsCancellationRequested)
        {
            throw options.Stopping.IsCancellationRequested
                ? new RpcException(new Status(StatusCode.Unavailable, "The learner is stopping."))
                : new RpcException(new Status(StatusCode.ResourceExhausted, "The worker does not read its stream."));
        }
        finally
        {
            publisher.Published -= Announce;
            session.Close();
            // A worker that half-closes its stream has left for good; one whose stream broke may come back with what it holds.
            ledger.Leave(session, forGood: clean, $"Worker {hello.WorkerId} left.");
            log.LogDebug("Worker {Worker} left ({How})", hello.WorkerId, clean ? "clean" : "broken stream");
            stop.CancelAfter(FarewellLimit); // what is queued may still go out, but not for ever
            await writing.ConfigureAwait(false);
            _sessions.TryRemove(session, out _);
        }
    }

    public override async Task PullWeights(
        PullWeightsRequest request, IServerStreamWriter<WeightsChunk> responseStream, ServerCallContext context)
    {
        var transfer = await WeightTransfer.OpenAsync(publisher, request, context.CancellationToken).ConfigureAwait(false);
        for (var at = request.Offset; at < transfer.Sent.Length;)
        {
            var slice = transfer.Sent.At(at, options.ChunkBytes);
            await responseStream.WriteAsync(transfer.Chunk(at, slice, first: at == request.Offset), context.CancellationToken).ConfigureAwait(false);
            at += slice.Length;
        }
    }

    public override async Task Describe(
        DescribeRequest request, IServerStreamWriter<RunFilePart> responseStream, ServerCallContext context)
    {
        if (request.ProtocolVersion != ProtocolVersion.Major) throw OtherProtocol(request.WorkerId, request.ProtocolVersion);
        var total = options.RunFiles.Values.Sum(f => (long)f.Length);
        foreach (var (name, content) in options.RunFiles)
        {
            for (var at = 0; at == 0 || at < content.Length; at += options.ChunkBytes)
            {
                var slice = content.Slice(at, Math.Min(options.ChunkBytes, content.Length - at));
                await responseStream.WriteAsync(
                    new RunFilePart { Name = name, Data = UnsafeByteOperations.UnsafeWrap(slice), TotalBytes = total, RunFingerprint = options.RunFingerprint },
                    context.CancellationToken).ConfigureAwait(false);
            }
        }
    }

    /// <summary>Why a worker that was started for something else cannot play here; null if it was not.</summary>
    private string? Mismatch(Hello hello) =>
        hello.HasModelFingerprint && hello.ModelFingerprint != options.ModelFingerprint
            ? $"Worker {hello.WorkerId} has a model of another shape ({hello.ModelFingerprint:x}; the run's is {options.ModelFingerprint:x}). "
                + "Start the worker again, so that it asks for the run as it is now."
        : hello.HasRunFingerprint && hello.RunFingerprint != options.RunFingerprint
            ? $"Worker {hello.WorkerId} has another tokenizer or environment ({hello.RunFingerprint:x}; the run's is {options.RunFingerprint:x}). "
                + "Start the worker again, so that it asks for the run as it is now."
        : null;

    private RpcException OtherProtocol(string worker, int version)
    {
        var reason = $"Worker {worker[..Math.Min(worker.Length, MaxWorkerIdLength)]} speaks protocol version {version}; this learner speaks "
            + $"{ProtocolVersion.Major}. Run the same release on both.";
        log.LogWarning("A worker is refused: {Reason}", reason);
        return new RpcException(new Status(StatusCode.FailedPrecondition, reason));
    }

    private void Take(WorkerSession session, WorkerMessage message)
    {
        session.Heard();
        switch (message.BodyCase)
        {
            case WorkerMessage.BodyOneofCase.SubTrajectory:
                var sub = message.SubTrajectory;
                if (log.IsEnabled(LogLevel.Debug))
                {
                    log.LogDebug(
                        "Turn {Turn} of episode {EpisodeId}, attempt {Attempt}, came from worker {Worker}; trace {TraceId}", sub.Turn,
                        sub.EpisodeId, sub.Attempt, session.WorkerId, TraceContext.TraceOf(ledger.Run, sub.EpisodeId));
                }

                // Perhaps much later, when the stream is another: the worker sends it again there, and is told again.
                ledger.Add(session.WorkerId, sub, () => session.TryWrite(new LearnerMessage
                {
                    Ack = new Acknowledgement { EpisodeId = sub.EpisodeId, Attempt = sub.Attempt, Turn = sub.Turn },
                }));
                break;
            case WorkerMessage.BodyOneofCase.Credit:
                session.AddCredit(message.Credit.Episodes);
                ledger.Wake();
                break;
            case WorkerMessage.BodyOneofCase.WeightsApplied:
                session.AppliedVersion = message.WeightsApplied.PolicyVersion;
                ledger.Wake();
                break;
            case WorkerMessage.BodyOneofCase.LeaseReturned:
                var returned = message.LeaseReturned;
                log.Log(
                    returned.Leaving ? LogLevel.Debug : LogLevel.Warning,
                    "Episode {EpisodeId}, attempt {Attempt}, was handed back by worker {Worker}: {Reason} Trace {TraceId}", returned.EpisodeId,
                    returned.Attempt, session.WorkerId, returned.Reason[..Math.Min(returned.Reason.Length, MaxLoggedReason)], TraceContext.TraceOf(ledger.Run, returned.EpisodeId));
                ledger.Return(session.WorkerId, returned.EpisodeId, returned.Attempt,
                    $"Worker {session.WorkerId} gave it back: {returned.Reason}", returned.Leaving);
                break;
            case WorkerMessage.BodyOneofCase.Heartbeat:
                session.Beat(message.Heartbeat);
                break;
            case WorkerMessage.BodyOneofCase.None:
                break; // of a later minor version: nothing that this learner cannot do without
            default:
                throw new RpcException(new Status(StatusCode.InvalidArgument, $"A worker may not send {message.BodyCase} here."));
        }
    }

    /// <summary>Waits until workers are let in.</summary>
    private async Task RecoverAsync(CancellationToken cancellationToken)
    {
        try
        {
            await ledger.Recovered.WaitAsync(RecoveryPatience, cancellationToken).ConfigureAwait(false);
        }
        catch (TimeoutException)
        {
            throw new RpcException(new Status(
                StatusCode.Unavailable, "The learner is doing the updates since its last checkpoint again and needs no worker yet."));
        }
        catch (OperationCanceledException)
        {
            throw new RpcException(new Status(StatusCode.Cancelled, "The worker left, or the learner is stopping."));
        }
    }

    private static async Task<bool> MoveNext(IAsyncStreamReader<WorkerMessage> stream, CancellationToken cancellationToken)
    {
        try
        {
            return await stream.MoveNext(cancellationToken).ConfigureAwait(false);
        }
        catch (Exception e) when (e is OperationCanceledException or IOException)
        {
            throw new RpcException(new Status(StatusCode.Cancelled, "The worker's stream broke or fell silent."));
        }
    }

    private async Task WriteAsync(
        WorkerSession session, IServerStreamWriter<LearnerMessage> stream, CancellationToken cancellationToken)
    {
        try
        {
            await foreach (var message in session.Outgoing.ReadAllAsync(cancellationToken).ConfigureAwait(false))
            {
                // Acknowledgements come in bursts: what has others behind it needs no packet of its own.
                stream.WriteOptions = session.Outgoing.TryPeek(out _) ? s_moreFollows : null;
                if (message.Lease is { } lease && log.IsEnabled(LogLevel.Debug))
                {
                    log.LogDebug(
                        "Episode {EpisodeId}, attempt {Attempt}, is leased to worker {Worker}; trace {TraceId}", lease.EpisodeId, lease.Attempt,
                        session.WorkerId, TraceContext.TraceIn(lease.Traceparent));
                }

                await stream.WriteAsync(message, cancellationToken).ConfigureAwait(false);
            }
        }
        catch (Exception e) when (e is OperationCanceledException or RpcException or InvalidOperationException or IOException)
        {
            // The stream is gone; the reading side ends the session.
            session.Abort();
        }
    }
}

/// <summary>Limits of the service.</summary>
/// <param name="ModelFingerprint">Of the decoder's shape.</param>
/// <param name="SilenceLimit">How long a worker may send nothing; workers send heartbeats well within it.</param>
/// <param name="ChunkBytes">Size of weight chunks; 64 KiB stays off the large-object heap while a frame's overhead is small.</param>
/// <param name="Stopping">Ends all sessions.</param>
/// <param name="RunFiles">What <c>Describe</c> sends.</param>
/// <param name="RunFingerprint">Of tokenizer and environment.</param>
internal sealed record LearnerServiceOptions(
    long ModelFingerprint, TimeSpan SilenceLimit, CancellationToken Stopping, IReadOnlyDictionary<string, ReadOnlyMemory<byte>> RunFiles,
    long RunFingerprint, int ChunkBytes = LearnerServiceOptions.StandardChunkBytes)
{
    public const int StandardChunkBytes = 64 * 1024;

    /// <summary>Where workers join the cluster; null where there is none.</summary>
    public Func<ClusterSeed?> Cluster { get; init; } = static () => null;

    /// <summary>Whether <see cref="DirectWeightsServer"/> serves too.</summary>
    public bool DirectWeights { get; init; }
}

/// <summary>One connected worker. Thread-safe: the session's own tasks, the ledger and the trainer use it at once.</summary>
internal sealed class WorkerSession(string workerId, int maxEpisodes) : ILeaseTarget, IDisposable
{
    // Leases in flight are bounded by credit; acknowledgements and notices are small. A worker this far behind is not reading.
    private const int QueueLimit = 8192;

    // Leases of a whole credit fit the queue with room for everything else.
    private const int MaxCredit = QueueLimit / 2;

    // What a person takes for "now"; heartbeats come every few seconds at most.
    private static readonly TimeSpan s_lately = TimeSpan.FromSeconds(30);

    // A worker that beats without a pause must not fill the memory.
    private const int MaxLately = 64;

    private readonly Lock _lock = new();
    private readonly CancellationTokenSource _aborted = new();
    private readonly Channel<LearnerMessage> _outgoing = Channel.CreateBounded<LearnerMessage>(
        new BoundedChannelOptions(QueueLimit) { SingleReader = true, FullMode = BoundedChannelFullMode.Wait });

    private readonly int _creditLimit = Math.Min(maxEpisodes, MaxCredit);
    private readonly long _connected = Stopwatch.GetTimestamp();
    private int _credit;
    private long _appliedVersion = -1;
    private bool _closed, _overfull, _superseded;
    private long _heard = Stopwatch.GetTimestamp();
    private Heartbeat? _heartbeat;
    private long _heartbeatAt;
    private double? _tokensPerSecond;
    private readonly Queue<(long At, Heartbeat Said)> _lately = new(); // of the last half minute, and one before it

    public string WorkerId { get; } = workerId;

    public ChannelReader<LearnerMessage> Outgoing => _outgoing.Reader;

    /// <summary>Cancelled when the session has to end: its worker does not read, or its stream is gone.</summary>
    public CancellationToken Aborted => _aborted.Token;

    public long AppliedVersion
    {
        get => Volatile.Read(ref _appliedVersion);
        set => Volatile.Write(ref _appliedVersion, value);
    }

    /// <summary>Whether it was ended because its worker does not read.</summary>
    public bool IsOverfull
    {
        get
        {
            lock (_lock) return _overfull;
        }
    }

    /// <summary>Whether it was ended because its worker, or another of the same name, has opened a new one.</summary>
    public bool IsSuperseded
    {
        get
        {
            lock (_lock) return _superseded;
        }
    }

    public int Credit => Volatile.Read(ref _credit);

    /// <summary>Grants credit; never more in all than the worker said it can play.</summary>
    public void AddCredit(int episodes)
    {
        lock (_lock) _credit = (int)Math.Clamp((long)_credit + Math.Max(0, episodes), 0, _creditLimit);
    }

    /// <summary>Something came from the worker.</summary>
    public void Heard() => Volatile.Write(ref _heard, Stopwatch.GetTimestamp());

    /// <summary>Takes what the worker says of itself.</summary>
    public void Beat(Heartbeat heartbeat)
    {
        lock (_lock)
        {
            var now = Stopwatch.GetTimestamp();
            if (_heartbeat is { } last && heartbeat.GeneratedTokens >= last.GeneratedTokens && now > _heartbeatAt)
            {
                _tokensPerSecond = (heartbeat.GeneratedTokens - last.GeneratedTokens)
                    / Stopwatch.GetElapsedTime(_heartbeatAt, now).TotalSeconds;
            }

            (_heartbeat, _heartbeatAt) = (heartbeat, now);
            _lately.Enqueue((now, heartbeat));
            while (_lately.Count > MaxLately || (_lately.Count > 2 && Stopwatch.GetElapsedTime(_lately.ElementAt(1).At, now) > s_lately))
                _lately.Dequeue();
        }
    }

    /// <summary>The worker as it is known here now.</summary>
    public WorkerStatus Status()
    {
        lock (_lock)
        {
            return new WorkerStatus(
                WorkerId, AppliedVersion, _credit, Stopwatch.GetElapsedTime(_connected), Stopwatch.GetElapsedTime(Volatile.Read(ref _heard)))
            {
                RunningEpisodes = _heartbeat?.RunningEpisodes,
                GeneratedTokens = _heartbeat?.GeneratedTokens,
                Unacknowledged = _heartbeat?.Unacknowledged,
                TokensPerSecond = _tokensPerSecond,
                ResidentBytes = _heartbeat?.ResidentBytes is > 0 and var bytes ? bytes : null,
                PullTime = _heartbeat?.PullSeconds is > 0 and var pull ? Seconds(pull) : null,
                Spent = _lately.Count < 2 ? null : new EpisodeTimes(
                    Since(h => h.GeneratingSeconds), Since(h => h.EnvironmentSeconds), Since(h => h.WaitingSeconds)),
            };
        }

        TimeSpan Since(Func<Heartbeat, double> of) => Seconds(of(_heartbeat!) - of(_lately.Peek().Said));

        // What another process says may be any number; a year is longer than any worker lives.
        static TimeSpan Seconds(double seconds) => TimeSpan.FromSeconds(double.IsNaN(seconds) ? 0 : Math.Clamp(seconds, 0, 365 * 86_400.0));
    }

    /// <summary>Queues a message, or ends the session when the queue is full. False when nothing will be sent any more.</summary>
    public bool TryWrite(LearnerMessage message)
    {
        if (_outgoing.Writer.TryWrite(message)) return true;
        lock (_lock) _overfull |= !_closed;
        Abort();
        return false;
    }

    public bool TrySend(TaskLease lease)
    {
        // Taken before the lease goes out: its worker may have played it and given new credit before this thread runs again.
        lock (_lock) _credit--;
        return TryWrite(new LearnerMessage { Lease = lease }); // a session that nothing can be written to has no use for its credit
    }

    /// <summary>Nothing more is queued; what is may still go out.</summary>
    public void Close()
    {
        lock (_lock) _closed = true;
        _outgoing.Writer.TryComplete();
    }

    public void End()
    {
        lock (_lock) _superseded = true;
        Abort();
    }

    /// <summary>
    /// Ends the session, from whatever thread noticed that it must end; that thread never waits for the session's own work.
    /// </summary>
    public void Abort()
    {
        lock (_lock)
        {
            // Under the lock, so that it is never disposed of meanwhile; asynchronous, so that no callback runs under it.
            if (!_closed) _ = _aborted.CancelAsync();
        }
    }

    public void Dispose()
    {
        Close();
        _aborted.Dispose();
    }
}
