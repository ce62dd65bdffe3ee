using Google.Protobuf;
using Grpc.Core;
using Grpc.Net.Client;
using Mem1.Protocol.Security;
using Mem1.Protocol.V1;

namespace Mem1.Learner.Tests;

/// <summary>A worker written out by hand: it says what a test tells it to and reads one message at a time.</summary>
internal sealed class Peer : IDisposable
{
    private readonly GrpcChannel _channel;
    private readonly LearnerService.LearnerServiceClient _client;
    private readonly AsyncDuplexStreamingCall<WorkerMessage, LearnerMessage> _call;
    private readonly Queue<LearnerMessage> _unread = new();
    private readonly CancellationToken _limit;

    private readonly Func<byte[], string, byte[]>? _wire;

    /// <param name="host">Whom to join.</param>
    /// <param name="limit">Of the whole test.</param>
    /// <param name="security">What to show.</param>
    /// <param name="wire">Changes what goes over the wire in either direction: the bytes of a message, and its name.</param>
    public Peer(LearnerHost host, CancellationToken limit, ChannelSecurity? security = null, Func<byte[], string, byte[]>? wire = null)
    {
        (_limit, _wire) = (limit, wire);
        (_channel, var invoker) = LearnerChannel.Open(host.Address, security ?? ChannelSecurity.None, new GrpcChannelOptions());
        _client = new LearnerService.LearnerServiceClient(invoker);
        _call = _client.Connect(cancellationToken: limit);
    }

    public Welcome Welcome { get; private set; } = new();

    public static async Task<Peer> JoinAsync(
        LearnerHost host, string id, int maxEpisodes, CancellationToken limit, ChannelSecurity? security = null,
        Func<byte[], string, byte[]>? wire = null)
    {
        var peer = new Peer(host, limit, security, wire);
        await peer.SendAsync(new WorkerMessage { Hello = new Hello { WorkerId = id, ProtocolVersion = 1, MaxEpisodes = maxEpisodes } });
        peer.Welcome = (await peer.NextAsync(LearnerMessage.BodyOneofCase.Welcome)).Welcome;
        return peer;
    }

    public Task SendAsync(WorkerMessage message) => _call.RequestStream.WriteAsync(
        _wire is null ? message : WorkerMessage.Parser.ParseFrom(_wire(message.ToByteArray(), WorkerMessage.Descriptor.FullName)));

    private LearnerMessage Received => _wire is null ? _call.ResponseStream.Current
        : LearnerMessage.Parser.ParseFrom(_wire(_call.ResponseStream.Current.ToByteArray(), LearnerMessage.Descriptor.FullName));

    public async Task ReadyAsync(long version, int credit)
    {
        await SendAsync(new WorkerMessage { WeightsApplied = new WeightsApplied { PolicyVersion = version } });
        await SendAsync(new WorkerMessage { Credit = new LeaseCredit { Episodes = credit } });
    }

    public async Task<TaskLease> LeaseAsync() => (await NextAsync(LearnerMessage.BodyOneofCase.Lease)).Lease;

    /// <summary>The next message of a kind; others are kept for whoever asks for them.</summary>
    public async Task<LearnerMessage> NextAsync(LearnerMessage.BodyOneofCase kind)
    {
        for (var i = _unread.Count; i > 0; i--)
        {
            var kept = _unread.Dequeue();
            if (kept.BodyCase == kind) return kept;
            _unread.Enqueue(kept);
        }

        while (await _call.ResponseStream.MoveNext(_limit))
        {
            var message = Received;
            if (message.BodyCase == kind) return message;
            _unread.Enqueue(message);
        }

        throw new InvalidOperationException($"The stream ended before a {kind}.");
    }

    /// <summary>Takes whatever comes until the stream ends: applies every version and plays every lease, some of them badly.</summary>
    public async Task ObeyAsync(Random random)
    {
        await ReadyAsync(Welcome.PolicyVersion, credit: 100);
        while (await _call.ResponseStream.MoveNext(_limit))
        {
            var message = _call.ResponseStream.Current;
            if (message.BodyCase == LearnerMessage.BodyOneofCase.Weights) await ReadyAsync(message.Weights.PolicyVersion, credit: 0);
            if (message.BodyCase != LearnerMessage.BodyOneofCase.Lease) continue;
            var turns = TurnsOf(message.Lease);
            if (random.Next(20) == 0) turns[0].LogProbs.Clear();
            foreach (var turn in turns) await SendAsync(new WorkerMessage { SubTrajectory = turn });
            await SendAsync(new WorkerMessage { Credit = new LeaseCredit { Episodes = 1 } });
        }
    }

    /// <summary>Plays a lease with made-up turns and waits for their acknowledgements.</summary>
    /// <param name="lease">What to play.</param>
    /// <param name="lie">What to change in the last turn.</param>
    public async Task PlayAsync(TaskLease lease, Action<SubTrajectory>? lie = null)
    {
        var turns = TurnsOf(lease);
        lie?.Invoke(turns[^1]);
        foreach (var turn in turns)
        {
            await SendAsync(new WorkerMessage { SubTrajectory = turn });
            var ack = (await NextAsync(LearnerMessage.BodyOneofCase.Ack)).Ack;
            Assert.Equal((turn.EpisodeId, turn.Attempt, turn.Turn), (ack.EpisodeId, ack.Attempt, ack.Turn));
        }
    }

    private static List<SubTrajectory> TurnsOf(TaskLease lease) => TrajectoryAssemblerTests.ToMessages(
        TestData.Trajectory(new Random((int)lease.Seed), 31, 2, lease.EpisodeId) with { TaskId = lease.TaskId }, lease.Attempt);

    public async Task<(byte[] Bytes, int Chunks, byte[] Sha256)> PullAsync(
        long version, long? have = null, long offset = 0, WeightEncoding encoding = WeightEncoding.Plain)
    {
        var request = new PullWeightsRequest { PolicyVersion = version, Offset = offset };
        if (have is { } held) request.HaveVersion = held;
        using var pull = _client.PullWeights(request, cancellationToken: _limit);
        var bytes = new MemoryStream();
        byte[] hash = [];
        var chunks = 0;
        long total = 0;
        while (await pull.ResponseStream.MoveNext(_limit))
        {
            var chunk = pull.ResponseStream.Current;
            Assert.Equal((version, encoding, offset + bytes.Length), (chunk.PolicyVersion, chunk.Encoding, chunk.Offset));
            if (chunks++ == 0) (hash, total) = (chunk.Sha256.ToByteArray(), chunk.TotalBytes);
            chunk.Data.WriteTo(bytes);
        }

        Assert.Equal(total, offset + bytes.Length);
        return (bytes.ToArray(), chunks, hash);
    }

    /// <summary>Sends a message that ends the stream, and tells how it ended.</summary>
    public async Task<RpcException> RefusedAsync(WorkerMessage message)
    {
        try
        {
            await SendAsync(message);
        }
        catch (RpcException)
        {
            // The learner may end the stream while the message is still on its way; reading tells why.
        }

        return await EndAsync();
    }

    /// <summary>Reads until the learner breaks the stream off.</summary>
    public Task<RpcException> EndAsync() => Assert.ThrowsAsync<RpcException>(async () =>
    {
        while (await _call.ResponseStream.MoveNext(_limit)) _unread.Enqueue(_call.ResponseStream.Current);
    });

    /// <summary>Ends this side and waits for the learner to end the other.</summary>
    public async Task LeaveAsync()
    {
        await _call.RequestStream.CompleteAsync();
        while (await _call.ResponseStream.MoveNext(_limit)) _unread.Enqueue(_call.ResponseStream.Current);
    }

    /// <summary>Ends this side; what happens then is nobody's concern.</summary>
    public async Task HangUpAsync()
    {
        try
        {
            await _call.RequestStream.CompleteAsync();
        }
        catch (Exception e) when (e is RpcException or InvalidOperationException)
        {
            // A write was under way, or the stream had ended.
        }
    }

    public void Dispose()
    {
        _call.Dispose();
        _channel.Dispose();
    }
}
