// Keeps: listens from the end of StartAsync to DisposeAsync; what it fails with at the start is one sentence and leaves nothing open; no
// message of a worker is larger than the bound.
using System.Net;
using System.Net.Sockets;
using Mem1.Protocol;
using Mem1.Protocol.Security;
using Mem1.Protocol.V1;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Routing;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Https;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace Mem1.Learner;

/// <summary>An expected failure of the learner, in one sentence for the user.</summary>
public sealed class LearnerException(string message, Exception? inner = null) : Exception(message, inner);

/// <summary>Where and how the learner listens.</summary>
public sealed record LearnerHostOptions
{
    /// <summary>What sub-trajectories may hold: of the model that is trained.</summary>
    public required TrajectoryLimits Limits { get; init; }
    /// <summary>
    /// How many tokens at the start of a response the next turn's context drops, as the environment's format has it
    /// (<see cref="Mem1.Model.ResponseParts.Discarded"/>); null for none. Called from several threads.
    /// </summary>
    public Func<int[], int>? Discarded { get; init; }
    /// <summary>Address to bind; loopback unless told otherwise.</summary>
    public string Address { get; init; } = "127.0.0.1";
    /// <summary>Port; 0 takes a free one.</summary>
    public int Port { get; init; }
    /// <summary>How long a worker may send nothing before its stream is cut.</summary>
    public TimeSpan SilenceLimit { get; init; } = TimeSpan.FromSeconds(60);
    /// <summary>Age at which a lease dies.</summary>
    public TimeSpan LeaseLimit { get; init; } = TimeSpan.FromMinutes(10);
    /// <summary>How long the leases of a worker whose stream broke wait for it.</summary>
    public TimeSpan AbsenceLimit { get; init; } = TimeSpan.FromSeconds(30);
    /// <summary>What workers that start with nothing but an address are sent: contents by plain file name.</summary>
    public IReadOnlyDictionary<string, ReadOnlyMemory<byte>> RunFiles { get; init; } = new Dictionary<string, ReadOnlyMemory<byte>>();
    /// <summary>Of tokenizer and environment; a worker that was started for others is refused.</summary>
    public long RunFingerprint { get; init; }
    /// <summary>What tells this run's traces from those of others; give the same in every life of its learner.</summary>
    public string Run { get; init; } = Guid.NewGuid().ToString("N");
    /// <summary>How many versions older than the weights it trains the oldest token of a trajectory may be.</summary>
    public int Staleness { get; init; }
    /// <summary>What workers must show; null lets anybody be one who reaches the port.</summary>
    public BearerToken? Token { get; init; }
    /// <summary>What callers of <see cref="Endpoints"/> must show; null for the same as workers.</summary>
    public BearerToken? ViewerToken { get; init; }
    /// <summary>The certificate to serve with and, where it names an authority, whose callers to let in; null serves without TLS.</summary>
    public TlsFiles? Tls { get; init; }
    /// <summary>
    /// Whether workers may fetch weights on connections of their own at the same port, beside HTTP/2 (<see cref="DirectWeights"/>); where
    /// something in between lets HTTP/2 alone through, they fall back to gRPC by themselves.
    /// </summary>
    public bool DirectWeights { get; init; } = true;
    /// <summary>Adds what <see cref="Endpoints"/> need to the server's services; null for nothing.</summary>
    public Action<IServiceCollection>? Services { get; init; }
    /// <summary>Maps further gRPC services, for callers that only look. Null for none.</summary>
    public Action<IEndpointRouteBuilder>? Endpoints { get; init; }
    /// <summary>Where workers join the cluster, asked whenever one is welcomed; null where there is none.</summary>
    public Func<ClusterSeed?> Cluster { get; init; } = static () => null;
    /// <summary>Where the ledger writes what happens before workers are told of it; null keeps it in memory until a checkpoint.</summary>
    public TurnSpool? Spool { get; init; }
    /// <summary>What the run goes on from: of a checkpoint, with the spool's records applied; null for a run that begins.</summary>
    public LedgerRecord? Restored { get; init; }
    /// <summary>Whether leases that were out when the learner stopped wait for their workers.</summary>
    public bool AdoptLeases { get; init; }
    /// <summary>How long nothing may come of a batch before <see cref="Stalled"/> is told.</summary>
    public TimeSpan StallLimit { get; init; } = TimeSpan.FromSeconds(60);
    /// <summary>Told in a sentence what a batch waits for.</summary>
    public Action<string>? Stalled { get; init; }
}

/// <summary>The learner's gRPC server: ledger and weights behind Kestrel's HTTP/2.</summary>
public sealed class LearnerHost : IAsyncDisposable
{
    /// <summary>Size of the chunks in which weights travel.</summary>
    public const int WeightChunkBytes = LearnerServiceOptions.StandardChunkBytes;

    // A sub-trajectory takes about 3 bytes per context token and 8 per generated one, so this holds a context of millions of tokens while a
    // worker that sends rubbish cannot make the learner take in more.
    private const int MaxMessageBytes = 16 * 1024 * 1024;

    // Workers hold one connection each, and a thousand workers are many; the bound is there for those that open them for nothing.
    private const int MaxConnections = 4096;

    // A host that opens connections for nothing leaves the other half to everybody else.
    private const int MaxConnectionsOfAddress = MaxConnections / 2;

    // A worker has its stream and one download at a time.
    private const int MaxStreams = 16;

    // Method, token and a few names; Kestrel's own bound is four times that.
    private const int MaxHeaderBytes = 8 * 1024;

    // A caller that has not said who it is by then is cut off.
    private static readonly TimeSpan HandshakeLimit = TimeSpan.FromSeconds(10);

    // Often enough that a lease outlives its limit by little; a pass over the open leases is cheap.
    private static readonly TimeSpan LongestExpiryInterval = TimeSpan.FromSeconds(5);

    // Idle workers leave within a round trip; one that is stuck must not hold up the end of a run.
    private static readonly TimeSpan DrainLimit = TimeSpan.FromSeconds(5);

    private readonly WebApplication _application;
    private readonly CancellationTokenSource _stopping;
    private readonly ITimer _expiry;
    private readonly Action _unsubscribe;
    private readonly LearnerServiceImplementation _service; // outlives the application's services: who looks may be late

    private LearnerHost(
        WebApplication application, CancellationTokenSource stopping, ITimer expiry, TaskLedger ledger, Uri address, Action unsubscribe)
    {
        (_application, _stopping, _expiry, Ledger, Address, _unsubscribe) = (application, stopping, expiry, ledger, address, unsubscribe);
        _service = application.Services.GetRequiredService<LearnerServiceImplementation>();
    }

    /// <summary>Where it listens.</summary>
    public Uri Address { get; }

    /// <summary>The tasks.</summary>
    public TaskLedger Ledger { get; }

    /// <summary>The connected workers now. May be asked at any time, also after the end.</summary>
    public IReadOnlyList<WorkerStatus> Workers => _service.Workers;

    /// <summary>Starts to listen.</summary>
    /// <exception cref="LearnerException">The address cannot be bound.</exception>
    public static async Task<LearnerHost> StartAsync(
        LearnerHostOptions options, WeightPublisher publisher, long modelFingerprint, ILoggerFactory? loggers,
        CancellationToken cancellationToken)
    {
        if (!IPAddress.TryParse(options.Address, out var bind))
            throw new LearnerException($"The learner cannot listen on \"{options.Address}\": that is not an IP address.");
        var stopping = new CancellationTokenSource();
        var ledger = new TaskLedger(
            () => publisher.Version, options.LeaseLimit, options.Limits, TimeProvider.System, options.Discarded, options.Staleness)
        {
            AbsenceLimit = options.AbsenceLimit,
            Run = options.Run,
            Spool = options.Spool,
            AdoptLeases = options.AdoptLeases,
            StallLimit = options.StallLimit,
            Stalled = options.Stalled,
        };
        if (options.Restored is { } restored) ledger.Restore(restored);
        // Before any session: what a version is worth must be known before a worker can say that it has it.
        void Publish(long version) => ledger.Published(version, publisher.Find(version)!.Sha256);
        if (publisher.Version >= 0) Publish(publisher.Version);
        publisher.Published += Publish;
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().ConfigureKestrel(kestrel =>
        {
            kestrel.Listen(bind, options.Port, listen =>
            {
                listen.Protocols = HttpProtocols.Http2;
                listen.Use(new ConnectionGate(MaxConnectionsOfAddress).Middleware);
                if (options.Tls is { } tls)
                {
                    listen.UseHttps(new TlsHandshakeCallbackOptions
                    {
                        OnConnection = _ => ValueTask.FromResult(tls.ServerOptions()),
                        HandshakeTimeout = HandshakeLimit,
                    });
                }

                if (options.DirectWeights)
                {
                    var log = (loggers ?? NullLoggerFactory.Instance).CreateLogger<DirectWeightsServer>();
                    var direct = new DirectWeightsServer(
                        publisher, options.Token, HandshakeLimit, options.SilenceLimit, stopping.Token, log);
                    listen.Use(direct.Before);
                }
            });
            kestrel.AddServerHeader = false;
            kestrel.Limits.MaxConcurrentConnections = MaxConnections;
            kestrel.Limits.Http2.MaxStreamsPerConnection = MaxStreams;
            kestrel.Limits.MaxRequestHeadersTotalSize = MaxHeaderBytes;
            kestrel.Limits.RequestHeadersTimeout = HandshakeLimit;
            kestrel.Limits.KeepAliveTimeout = HandshakeLimit; // one that is silent before its first call; workers always have one open
        });
        builder.Services.AddRoutingCore();
        if (loggers is not null) builder.Services.AddSingleton(loggers);
        builder.Services.AddLogging();
        builder.Services.AddGrpc(grpc =>
        {
            grpc.MaxReceiveMessageSize = MaxMessageBytes;
        });
        builder.Services.AddSingleton(ledger).AddSingleton(publisher)
            .AddSingleton(new LearnerServiceOptions(modelFingerprint, options.SilenceLimit, stopping.Token, options.RunFiles, options.RunFingerprint)
            {
                Cluster = options.Cluster,
                DirectWeights = options.DirectWeights,
            })
            .AddSingleton<LearnerServiceImplementation>().AddSingleton<MembershipServiceImplementation>();
        options.Services?.Invoke(builder.Services);
        var application = builder.Build();
        application.UseRouting();
        if (options.Token is not null || options.ViewerToken is not null)
        {
            application.Use(new AccessGuard(
                options.Token, options.ViewerToken, application.Services.GetRequiredService<ILogger<AccessGuard>>(), TimeProvider.System)
                .InvokeAsync);
        }

        application.MapGrpcService<LearnerServiceImplementation>().WithMetadata(AccessGuard.Joining);
        application.MapGrpcService<MembershipServiceImplementation>(); // of dashboards and retrievers, which look
        options.Endpoints?.Invoke(application);
        try
        {
            await application.StartAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (Exception e)
        {
            publisher.Published -= Publish;
            await application.DisposeAsync().ConfigureAwait(false);
            stopping.Dispose();
            // Kestrel says "in use" with an IOException and everything else (no right to the port, no such address) with the socket's own.
            if (e is not (IOException or SocketException)) throw;
            throw new LearnerException(
                $"The learner cannot listen on {options.Address}:{options.Port} ({e.InnerException?.Message ?? e.Message}); "
                + "free the port or choose another with learner.port.", e);
        }

        var bound = application.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First();
        var limit = options.LeaseLimit < options.AbsenceLimit ? options.LeaseLimit : options.AbsenceLimit;
        var interval = limit / 4 < LongestExpiryInterval ? limit / 4 : LongestExpiryInterval;
        var expiry = TimeProvider.System.CreateTimer(_ => ledger.ExpireLeases(), null, interval, interval);
        return new LearnerHost(application, stopping, expiry, ledger, new Uri(bound), () => publisher.Published -= Publish);
    }

    /// <summary>Tells every worker that there is nothing left to do, and waits a little for them to leave.</summary>
    /// <param name="reason">For people to read.</param>
    public Task DrainAsync(string reason) =>
        _service.DrainAsync(reason, DrainLimit);

    /// <summary>Tells one worker to take no more leases, finish what it plays and leave.</summary>
    /// <param name="workerId">Its name.</param>
    /// <param name="reason">For people to read.</param>
    /// <returns>False when no worker of that name is connected.</returns>
    public bool Drain(string workerId, string reason) => _service.Drain(workerId, reason);

    /// <summary>
    /// Tells one worker to have one of its actors begin anew: its policy or uplink is restarted, an episode is stopped and handed back.
    /// </summary>
    /// <param name="workerId">Name of the worker.</param>
    /// <param name="name">Name of the actor under the worker's root.</param>
    /// <param name="reason">For people to read.</param>
    /// <returns>False when no worker of that name is connected.</returns>
    public bool RestartActor(string workerId, string name, string reason) => _service.RestartActor(workerId, name, reason);

    /// <summary>Ends all sessions and stops listening.</summary>
    public async ValueTask DisposeAsync()
    {
        _unsubscribe();
        await _stopping.CancelAsync().ConfigureAwait(false);
        await _expiry.DisposeAsync().ConfigureAwait(false);
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(5));
        await _application.StopAsync(limit.Token).ConfigureAwait(false);
        await _application.DisposeAsync().ConfigureAwait(false);
        _stopping.Dispose();
    }
}
