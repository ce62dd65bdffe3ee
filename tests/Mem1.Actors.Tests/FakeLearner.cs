// A learner that leases what it is told to and remembers everything it hears. Its memory outlives its server, as a learner's ledger
// outlives a stream, so that it can be stopped and started again on the same port.
using System.Collections.Concurrent;
using System.Net;
using System.Security.Cryptography;
using System.Threading.Channels;
using Google.Protobuf;
using Grpc.Core;
using Mem1.Protocol;
using Mem1.Protocol.V1;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Mem1.Actors.Tests;

internal sealed class FakeLearner : IAsyncDisposable
{
    private readonly Lock _gate = new();
    private readonly Queue<TaskLease> _leases = new();
    private readonly List<Session> _sessions = [];
    private WebApplication? _server;

    public int Port { get; private set; }
    public string Address => $"http://127.0.0.1:{Port}";

    // What it does.
    public string? RefuseWith { get; set; }
    public IReadOnlyList<RunFilePart> Files { get; set; } = [];
    public bool HoldAcknowledgements { get; set; }
    public bool HoldWelcome { get; set; }
    public Func<int, SubTrajectory, bool>? BreakOn { get; set; }
    public Func<WeightsChunk, WeightsChunk>? Tamper { get; set; }
    public bool Deltas { get; set; } = true;
    public bool Direct { get; set; } // says so, whether or not anything serves them
    public long? WrongBase { get; set; }
    public ConcurrentQueue<PullWeightsRequest> Requests { get; } = new();
    public long Fingerprint { get; set; } = 7;
    public long Version { get; set; } = 1;
    public HashSet<long> Gone { get; } = [];

    // What it heard.
    public ConcurrentQueue<SubTrajectory> Received { get; } = new();
    public ConcurrentQueue<LeaseReturned> Returned { get; } = new();
    public ConcurrentQueue<long> Applied { get; } = new();
    public ConcurrentQueue<Hello> Hellos { get; } = new();
    public ConcurrentQueue<Heartbeat> Heartbeats { get; } = new();
    public ConcurrentQueue<string> Violations { get; } = new();
    public int Pulls;
    public int CleanEnds;

    /// <summary>What came in, the first copy of each, in order of arrival.</summary>
    public List<SubTrajectory> Distinct => [.. Received.DistinctBy(TurnKey.Of)];

    public List<SubTrajectory> Of(string episode) => [.. Distinct.Where(t => t.EpisodeId == episode)];

    public async Task StartAsync()
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.ConfigureKestrel(o => o.Listen(IPAddress.Loopback, Port, l => l.Protocols = HttpProtocols.Http2));
        builder.Services.AddGrpc();
        builder.Services.AddSingleton(new Service(this));
        builder.Services.Configure<HostOptions>(o => o.ShutdownTimeout = TimeSpan.FromMilliseconds(50));
        _server = builder.Build();
        _server.MapGrpcService<Service>();
        await _server.StartAsync();
        Port = new Uri(_server.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First()).Port;
    }

    public async Task StopAsync()
    {
        if (_server is not { } server)
            return;
        _server = null;
        await server.StopAsync();
        await server.DisposeAsync();
    }

    public async ValueTask DisposeAsync() => await StopAsync();

    public void Lease(params IEnumerable<TaskLease> leases)
    {
        lock (_gate)
        {
            foreach (var lease in leases)
                _leases.Enqueue(lease);
            Distribute();
        }
    }

    public void Publish(long version)
    {
        lock (_gate)
        {
            Version = version;
            Tell(new LearnerMessage { Weights = new WeightsNotice { PolicyVersion = version } });
        }
    }

    public void Drain()
    {
        lock (_gate)
            Tell(new LearnerMessage { Drain = new Protocol.V1.Drain { Reason = "The run is over." } });
    }

    public void RestartActor(string name)
    {
        lock (_gate)
            Tell(new LearnerMessage { RestartActor = new Protocol.V1.RestartActor { Name = name, Reason = "somebody asked for it" } });
    }

    public void AcknowledgeAll()
    {
        lock (_gate)
        {
            HoldAcknowledgements = false;
            foreach (var turn in Received)
                Tell(Ack(turn));
        }
    }

    // As a policy is from one version to the next: all but the lower bytes stay.
    public static byte[] Blob(long version) =>
        [.. Enumerable.Range(0, 1000).Select(i => (byte)(i % 4 == 0 ? i * (version + 1) : i))];

    public static TaskLease NewLease(
        string episode, int turns, int attempt = 1, ulong seed = 5, int maxNewTokens = 100, string extra = "") => new()
        {
            TaskId = $"task-{episode}",
            EpisodeId = episode,
            Attempt = attempt,
            Seed = seed,
            Task = new TaskBody
            {
                Objectives = { new ObjectiveBody { Id = "o", Question = $"{extra}{episode} turns={turns}", GoldenAnswers = { "a" } } },
            },
            Sampling = new SamplingParameters { Temperature = 1, TopP = 1, MaxNewTokens = maxNewTokens },
        };

    private static LearnerMessage Ack(SubTrajectory turn) => new()
    {
        Ack = new Acknowledgement { EpisodeId = turn.EpisodeId, Attempt = turn.Attempt, Turn = turn.Turn },
    };

    private void Tell(LearnerMessage message)
    {
        foreach (var session in _sessions)
            session.Out.Writer.TryWrite(message);
    }

    private void Distribute()
    {
        foreach (var session in _sessions)
        {
            while (!session.Broken && session.Credit > 0 && session.Applied >= Version && Version >= 0 && _leases.TryDequeue(out var lease))
            {
                session.Credit--;
                session.Out.Writer.TryWrite(new LearnerMessage { Lease = lease });
            }
        }
    }

    private void Hear(Session session, WorkerMessage message)
    {
        lock (_gate)
        {
            // What was on its way when the stream broke is lost.
            if (session.Broken)
                return;
            switch (message.BodyCase)
            {
                case WorkerMessage.BodyOneofCase.Credit:
                    session.Credit += message.Credit.Episodes;
                    if (session.Credit > session.MaxEpisodes)
                        Violations.Enqueue($"Credit of {session.Credit} for {session.MaxEpisodes} episodes.");
                    break;
                case WorkerMessage.BodyOneofCase.SubTrajectory:
                    Received.Enqueue(message.SubTrajectory);
                    if (BreakOn?.Invoke(Received.Count, message.SubTrajectory) == true)
                    {
                        session.Broken = true;
                        session.Out.Writer.TryComplete(new RpcException(new Status(StatusCode.Unavailable, "broken on purpose")));
                    }
                    else if (!HoldAcknowledgements)
                    {
                        session.Out.Writer.TryWrite(Ack(message.SubTrajectory));
                    }
                    break;
                case WorkerMessage.BodyOneofCase.WeightsApplied:
                    session.Applied = message.WeightsApplied.PolicyVersion;
                    Applied.Enqueue(session.Applied);
                    break;
                case WorkerMessage.BodyOneofCase.Heartbeat:
                    Heartbeats.Enqueue(message.Heartbeat);
                    break;
                case WorkerMessage.BodyOneofCase.LeaseReturned:
                    Returned.Enqueue(message.LeaseReturned);
                    break;
                default:
                    Violations.Enqueue($"{message.BodyCase} in the middle of a stream.");
                    break;
            }
            Distribute();
        }
    }

    private sealed class Session
    {
        public Channel<LearnerMessage> Out { get; } = Channel.CreateUnbounded<LearnerMessage>();
        public bool Broken { get; set; }
        public int Credit { get; set; }
        public int MaxEpisodes { get; init; }
        public long Applied { get; set; } = -1;
    }

    private sealed class Service(FakeLearner learner) : LearnerService.LearnerServiceBase
    {
        public override async Task Connect(
            IAsyncStreamReader<WorkerMessage> requests, IServerStreamWriter<LearnerMessage> responses, ServerCallContext context)
        {
            Assert.True(await requests.MoveNext(context.CancellationToken));
            var hello = requests.Current.Hello;
            learner.Hellos.Enqueue(hello);
            if (learner.RefuseWith is { } sentence)
                throw new RpcException(new Status(StatusCode.FailedPrecondition, sentence));
            if (learner.HoldWelcome)
                await Task.Delay(Timeout.Infinite, context.CancellationToken);

            var session = new Session { MaxEpisodes = hello.MaxEpisodes };
            lock (learner._gate)
            {
                session.Out.Writer.TryWrite(new LearnerMessage
                {
                    Welcome = new Welcome { PolicyVersion = learner.Version, ModelFingerprint = learner.Fingerprint, DirectWeights = learner.Direct },
                });
                learner._sessions.Add(session);
            }
            try
            {
                var reading = ReadAsync(session, requests);
                await foreach (var message in session.Out.Reader.ReadAllAsync(context.CancellationToken))
                    await responses.WriteAsync(message);
                await reading;
            }
            finally
            {
                lock (learner._gate)
                    learner._sessions.Remove(session);
            }
        }

        private async Task ReadAsync(Session session, IAsyncStreamReader<WorkerMessage> requests)
        {
            try
            {
                await foreach (var message in requests.ReadAllAsync())
                    learner.Hear(session, message);
                Interlocked.Increment(ref learner.CleanEnds);
                session.Out.Writer.TryComplete();
            }
            catch (Exception failure)
            {
                session.Out.Writer.TryComplete(failure);
            }
        }

        public override async Task Describe(
            DescribeRequest request, IServerStreamWriter<RunFilePart> responses, ServerCallContext context)
        {
            if (learner.RefuseWith is { } sentence)
                throw new RpcException(new Status(StatusCode.FailedPrecondition, sentence));
            foreach (var part in learner.Files)
                await responses.WriteAsync(part);
        }

        public override async Task PullWeights(
            PullWeightsRequest request, IServerStreamWriter<WeightsChunk> responses, ServerCallContext context)
        {
            Interlocked.Increment(ref learner.Pulls);
            if (learner.Gone.Contains(request.PolicyVersion))
                throw new RpcException(new Status(StatusCode.NotFound, $"Version {request.PolicyVersion} is no longer held."));
            var blob = Blob(request.PolicyVersion);
            var sent = request.HasHaveVersion && learner.Deltas
                ? WeightDeltaTests.Encode(Blob(learner.WrongBase ?? request.HaveVersion), blob)
                : blob;
            learner.Requests.Enqueue(request);
            for (var at = (int)request.Offset; at < sent.Length; at += 300)
            {
                var chunk = new WeightsChunk
                {
                    PolicyVersion = request.PolicyVersion,
                    Data = ByteString.CopyFrom(sent.AsSpan(at, Math.Min(300, sent.Length - at))),
                    TotalBytes = sent.Length,
                    Offset = at,
                    Encoding = sent == blob ? WeightEncoding.Plain : WeightEncoding.Delta,
                    Sha256 = at == request.Offset ? ByteString.CopyFrom(SHA256.HashData(blob)) : ByteString.Empty,
                };
                await responses.WriteAsync(learner.Tamper?.Invoke(chunk) ?? chunk);
            }
        }
    }
}
