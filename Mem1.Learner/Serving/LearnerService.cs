// Keeps: one session per stream; what is written to a worker goes through one bounded queue, and a worker that does not read is cut off
// instead of holding memory; a silent worker is cut off after a limit. A cut-off worker reconnects and sends again what was not acknowledged.
using System.Threading.Channels;
using Google.Protobuf;
using Grpc.Core;
using Mem1.Protocol.V1;
using Microsoft.Extensions.Logging;

namespace Mem1.Learner;

/// <summary>The learner's gRPC surface (rollout.proto).</summary>
internal sealed class LearnerServiceImplementation(
    TaskLedger ledger, WeightPublisher publisher, WorkerRegistry workers, LearnerServiceOptions options, ILogger<LearnerServiceImplementation> log)
    : LearnerService.LearnerServiceBase
{
    public const int ProtocolVersion = 1;

    public override async Task Connect(
        IAsyncStreamReader<WorkerMessage> requestStream, IServerStreamWriter<LearnerMessage> responseStream, ServerCallContext context)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(context.CancellationToken, options.Stopping);
        stop.CancelAfter(options.SilenceLimit);
        if (!await MoveNext(requestStream, stop.Token).ConfigureAwait(false)) return;
        if (requestStream.Current.BodyCase != WorkerMessage.BodyOneofCase.Hello)
            throw new RpcException(new Status(StatusCode.FailedPrecondition, "The first message of a worker must be Hello."));
        var hello = requestStream.Current.Hello;
        if (hello.ProtocolVersion != ProtocolVersion)
            throw new RpcException(new Status(StatusCode.FailedPrecondition,
                $"Worker {hello.WorkerId} speaks protocol version {hello.ProtocolVersion}; this learner speaks {ProtocolVersion}. Run the same release on both."));
        if (hello.WorkerId.Length is 0 or > 200)
            throw new RpcException(new Status(StatusCode.InvalidArgument, "Hello.worker_id must have 1 to 200 characters."));

        var session = new WorkerSession(hello.WorkerId);
        session.TryWrite(new LearnerMessage
        {
            Welcome = new Welcome { PolicyVersion = publisher.Version, ModelFingerprint = options.ModelFingerprint },
        });
        var writing = WriteAsync(session, responseStream, stop);
        void OnPublished(long version)
        {
            if (!session.TryWrite(new LearnerMessage { Weights = new WeightsNotice { PolicyVersion = version } })) stop.Cancel();
        }

        publisher.Published += OnPublished;
        workers.Add(session);
        ledger.Join(session, hello.Held.Select(h => (h.EpisodeId, h.Attempt)).ToHashSet());
        log.LogDebug("Worker {Worker} joined", hello.WorkerId);
        var clean = false;
        try
        {
            do
            {
                stop.CancelAfter(options.SilenceLimit);
                clean = !await MoveNext(requestStream, stop.Token).ConfigureAwait(false);
                if (!clean && !Take(session, requestStream.Current))
                    throw new RpcException(new Status(StatusCode.ResourceExhausted, "The worker does not read its stream."));
            }
            while (!clean);
        }
        finally
        {
            publisher.Published -= OnPublished;
            workers.Remove(session);
            session.Close();
            // A worker that half-closes its stream has left for good; one whose stream broke may come back with what it holds.
            ledger.Leave(session, forGood: clean, $"Worker {hello.WorkerId} left.");
            log.LogDebug("Worker {Worker} left ({How})", hello.WorkerId, clean ? "clean" : "broken stream");
            stop.CancelAfter(TimeSpan.FromSeconds(2)); // what is queued may still go out, but not for ever
            await writing.ConfigureAwait(false);
        }
    }

    public override async Task PullWeights(
        PullWeightsRequest request, IServerStreamWriter<WeightsChunk> responseStream, ServerCallContext context)
    {
        if (publisher.Find(request.PolicyVersion) is not { } blob)
            throw new RpcException(new Status(StatusCode.NotFound, $"Policy version {request.PolicyVersion} is not held (newest: {publisher.Version})."));
        for (var at = 0; at < blob.Data.Length; at += options.ChunkBytes)
        {
            var chunk = new WeightsChunk
            {
                PolicyVersion = blob.Version,
                TotalBytes = blob.Data.Length,
                Data = UnsafeByteOperations.UnsafeWrap(blob.Data.Slice(at, Math.Min(options.ChunkBytes, blob.Data.Length - at))), // never written to
            };
            if (at == 0) chunk.Sha256 = ByteString.CopyFrom(blob.Sha256);
            await responseStream.WriteAsync(chunk, context.CancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>False when the worker's queue is full.</summary>
    private bool Take(WorkerSession session, WorkerMessage message)
    {
        switch (message.BodyCase)
        {
            case WorkerMessage.BodyOneofCase.SubTrajectory:
                var sub = message.SubTrajectory;
                if (!ledger.Add(sub)) return true;
                return session.TryWrite(new LearnerMessage
                {
                    Ack = new Acknowledgement { EpisodeId = sub.EpisodeId, Attempt = sub.Attempt, Turn = sub.Turn },
                });
            case WorkerMessage.BodyOneofCase.Credit:
                session.AddCredit(message.Credit.Episodes);
                ledger.Wake();
                return true;
            case WorkerMessage.BodyOneofCase.WeightsApplied:
                session.AppliedVersion = message.WeightsApplied.PolicyVersion;
                ledger.Wake();
                return true;
            case WorkerMessage.BodyOneofCase.LeaseReturned:
                ledger.Return(message.LeaseReturned.EpisodeId, message.LeaseReturned.Attempt,
                    $"Worker {session.WorkerId} gave it back: {message.LeaseReturned.Reason}");
                return true;
            case WorkerMessage.BodyOneofCase.Heartbeat:
                session.LastHeartbeat = message.Heartbeat;
                return true;
            default:
                throw new RpcException(new Status(StatusCode.InvalidArgument, $"A worker may not send {message.BodyCase} here."));
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

    private static async Task WriteAsync(WorkerSession session, IServerStreamWriter<LearnerMessage> stream, CancellationTokenSource stop)
    {
        try
        {
            await foreach (var message in session.Outgoing.ReadAllAsync(stop.Token).ConfigureAwait(false))
                await stream.WriteAsync(message, stop.Token).ConfigureAwait(false);
        }
        catch (Exception e) when (e is OperationCanceledException or RpcException or InvalidOperationException or IOException)
        {
            // The stream is gone; the reading side ends the session.
            await stop.CancelAsync().ConfigureAwait(false);
        }
    }
}

/// <summary>Limits of the service.</summary>
/// <param name="ModelFingerprint">Of the decoder's shape.</param>
/// <param name="SilenceLimit">How long a worker may send nothing; workers send heartbeats well within it.</param>
/// <param name="ChunkBytes">Size of weight chunks; 64 KiB stays off the large-object heap while a frame's overhead is small.</param>
/// <param name="Stopping">Ends all sessions.</param>
internal sealed record LearnerServiceOptions(
    long ModelFingerprint, TimeSpan SilenceLimit, CancellationToken Stopping, int ChunkBytes = 64 * 1024);

/// <summary>One connected worker.</summary>
internal sealed class WorkerSession(string workerId) : ILeaseTarget
{
    // Leases in flight are bounded by credit; acknowledgements and notices are small. A worker this far behind is not reading.
    private const int QueueLimit = 8192;

    private readonly Channel<LearnerMessage> _outgoing = Channel.CreateBounded<LearnerMessage>(
        new BoundedChannelOptions(QueueLimit) { SingleReader = true, FullMode = BoundedChannelFullMode.Wait });

    private int _credit;
    private long _appliedVersion = -1;

    public string WorkerId { get; } = workerId;

    public ChannelReader<LearnerMessage> Outgoing => _outgoing.Reader;

    public Heartbeat? LastHeartbeat { get; set; }

    public long AppliedVersion
    {
        get => Volatile.Read(ref _appliedVersion);
        set => Volatile.Write(ref _appliedVersion, value);
    }

    public int Credit => Volatile.Read(ref _credit);

    public void AddCredit(int episodes)
    {
        if (episodes > 0) Interlocked.Add(ref _credit, episodes);
    }

    public bool TryWrite(LearnerMessage message) => _outgoing.Writer.TryWrite(message);

    public bool TrySend(TaskLease lease)
    {
        if (!TryWrite(new LearnerMessage { Lease = lease })) return false;
        Interlocked.Decrement(ref _credit);
        return true;
    }

    public void Close() => _outgoing.Writer.TryComplete();
}

/// <summary>The sessions of now, for metrics.</summary>
internal sealed class WorkerRegistry
{
    private readonly Lock _lock = new();
    private readonly List<WorkerSession> _sessions = [];

    public int Count
    {
        get
        {
            lock (_lock) return _sessions.Count;
        }
    }

    public void Add(WorkerSession session)
    {
        lock (_lock) _sessions.Add(session);
    }

    public void Remove(WorkerSession session)
    {
        lock (_lock) _sessions.Remove(session);
    }
}
