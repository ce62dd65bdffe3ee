// Keeps: listens on loopback unless told otherwise and answers only requests that name it by an address or localhost, so that no web page
// can reach it through a name of its own; a failure in here never reaches the training.
using System.Net;
using System.Net.Sockets;
using Grpc.Net.Client;
using Mem1.Protocol.Security;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace Mem1.Dashboard;

/// <summary>What a dashboard shows, and where.</summary>
public sealed record DashboardOptions
{
    /// <summary>The port it listens on when nobody says otherwise.</summary>
    public const int StandardPort = 5080;

    /// <summary>Address to bind; loopback unless told otherwise.</summary>
    public string Address { get; init; } = "127.0.0.1";
    /// <summary>Port; 0 takes a free one.</summary>
    public int Port { get; init; } = StandardPort;
    /// <summary>The run's folder; null for the demonstration.</summary>
    public string? Folder { get; init; }
    /// <summary>
    /// The learner in another process that is followed, by the address its workers use; null to show what this process has.
    /// </summary>
    public Uri? Learner { get; init; }
    /// <summary>What is shown to that learner, and whom it must be.</summary>
    public ChannelSecurity Security { get; init; } = ChannelSecurity.None;
    /// <summary>The training in this process; null to show files only.</summary>
    public ILiveSource? Live { get; init; }
    /// <summary>What the training in this process says.</summary>
    public TelemetryQueue? Telemetry { get; init; }
    /// <summary>What commands act on; null for a dashboard that only looks.</summary>
    public ICommandTarget? Commands { get; init; }
    /// <summary>What commands need; null for a dashboard that only looks.</summary>
    public CommandToken? Token { get; init; }
    /// <summary>What those must show that look; null lets anybody look who reaches it.</summary>
    public BearerToken? Viewer { get; init; }
    /// <summary>How many events wait for one browser.</summary>
    internal int EventCapacity { get; init; } = EventHub.StandardCapacity;
}

/// <summary>The dashboard's web server and the task that feeds it.</summary>
public sealed class DashboardServer : IAsyncDisposable
{
    /// <summary>What a browser may load and do: this server's own files and nothing else.</summary>
    public const string ContentSecurityPolicy =
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'";

    // Twice a second is live to a person, and a look costs a fraction of a millisecond.
    private static readonly TimeSpan LookInterval = TimeSpan.FromMilliseconds(500);

    // Proxies and browsers drop streams that say nothing for a minute.
    private static readonly TimeSpan KeepAlive = TimeSpan.FromSeconds(15);

    // All metrics of a run of a hundred thousand updates.
    private const int MaxAnswerBytes = 256 << 20;

    private static readonly TimeSpan ConnectLimit = TimeSpan.FromSeconds(5);

    // Every browser that listens holds one, and opens a few more for its requests.
    private const int MaxConnections = 4 * EventHub.MaxClients;

    // Cookies of other pages of this host, and a token.
    private const int MaxHeaderBytes = 16 * 1024;

    // A caller that has not said what it wants by then is cut off.
    private static readonly TimeSpan HeadersLimit = TimeSpan.FromSeconds(10);

    private readonly WebApplication _application;
    private IDisposable? _channel;
    private Feeder? _feeder;
    private readonly CancellationTokenSource _stopping;
    private readonly Task _feeding;

    private DashboardServer(
        WebApplication application, CancellationTokenSource stopping, Task feeding, IDashboardBackend backend, Uri address)
    {
        (_application, _stopping, _feeding) = (application, stopping, feeding);
        (Stopping, Backend, Address) = (stopping.Token, backend, address);
    }

    /// <summary>Where it listens.</summary>
    public Uri Address { get; }

    /// <summary>
    /// The fastest look at a training so far, by the wall clock: what a look costs where nothing else wants the processor. Zero where there
    /// is none.
    /// </summary>
    public TimeSpan FastestLook => _feeder?.FastestLook ?? TimeSpan.Zero;

    /// <summary>How often it looks.</summary>
    public static TimeSpan LookEvery => LookInterval;

    internal IDashboardBackend Backend { get; }

    internal EventHub Hub => Backend.Hub;

    /// <summary>Cancelled when it stops.</summary>
    internal CancellationToken Stopping { get; }

    /// <summary>Starts to listen.</summary>
    /// <exception cref="DashboardException">The address cannot be bound, or the folder is not a run's.</exception>
    public static async Task<DashboardServer> StartAsync(DashboardOptions options, CancellationToken cancellationToken)
    {
        if (!IPAddress.TryParse(options.Address, out var bind))
            throw new DashboardException($"The dashboard cannot listen on \"{options.Address}\": that is not an IP address.");
        if (options.Folder is { } given && options.Live is null && !File.Exists(Path.Combine(given, "config.yaml")))
            throw new DashboardException($"There is no run in {given} (no config.yaml in it).");
        var stopping = new CancellationTokenSource();
        Feeder? feeder = null;
        var (backend, feed, channel) = options.Learner is null
            ? Local(options, stopping.Token, out feeder) : Remote(options, options.Learner, stopping.Token);
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().ConfigureKestrel(kestrel =>
        {
            kestrel.Listen(bind, options.Port, listen => listen.Protocols = HttpProtocols.Http1);
            kestrel.AddServerHeader = false;
            kestrel.Limits.MaxRequestBodySize = DashboardWeb.MaxBody;
            kestrel.Limits.MaxConcurrentConnections = MaxConnections;
            kestrel.Limits.MaxRequestHeadersTotalSize = MaxHeaderBytes;
            kestrel.Limits.RequestHeadersTimeout = HeadersLimit;
        });
        builder.Services.AddRoutingCore();
        builder.Services.AddLogging();
        var application = builder.Build();
        new DashboardWeb(backend, options.Viewer, stopping.Token, KeepAlive).Map(application);
        try
        {
            await application.StartAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (Exception e)
        {
            await application.DisposeAsync().ConfigureAwait(false);
            channel?.Dispose();
            stopping.Dispose();
            if (e is not (IOException or SocketException)) throw;
            throw new DashboardException(
                $"The dashboard cannot listen on {options.Address}:{options.Port} ({e.InnerException?.Message ?? e.Message}); "
                + "choose another port.", e);
        }

        var bound = application.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First();
        var feeding = Task.Run(feed, CancellationToken.None);
        return new DashboardServer(application, stopping, feeding, backend, new Uri(bound)) { _channel = channel, _feeder = feeder };
    }

    /// <summary>Stops listening; browsers reconnect when it is started again.</summary>
    public async ValueTask DisposeAsync()
    {
        await _stopping.CancelAsync().ConfigureAwait(false);
        await _feeding.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(2));
        await _application.StopAsync(limit.Token).ConfigureAwait(false);
        await _application.DisposeAsync().ConfigureAwait(false);
        _channel?.Dispose();
        _stopping.Dispose();
    }

    /// <summary>What this process has: a run's folder, or the demonstration.</summary>
    private static (IDashboardBackend Backend, Func<Task> Feed, IDisposable? Channel) Local(
        DashboardOptions options, CancellationToken stopping, out Feeder feeder)
    {
        var model = options.Folder is { } folder
            ? new RunModel(
                Path.GetFileName(Path.TrimEndingDirectorySeparator(folder)), options.Live is null ? RunSource.Folder : RunSource.Live)
            {
                Folder = folder,
            }
            : new RunModel("demo", RunSource.Demo);
        var hub = new EventHub(options.EventCapacity);
        var desk = new CommandDesk(
            options.Commands, options.Token, options.Folder is { } run ? new AuditLog(run) : null, TimeProvider.System, stopping);
        var backend = new LocalBackend(model, hub, options.Telemetry, desk);
        IRunFeed feed = options.Folder is { } path ? new FolderFeed(path) : new DemoFeed();
        var looking = feeder = new Feeder(model, hub, feed, options.Live, options.Telemetry, backend);
        return (backend, () => looking.RunAsync(LookInterval, stopping), null);
    }

    /// <summary>A learner in another process.</summary>
    private static (IDashboardBackend Backend, Func<Task> Feed, IDisposable? Channel) Remote(
        DashboardOptions options, Uri learner, CancellationToken stopping)
    {
        var (channel, invoker) = LearnerChannel.Open(
            learner, options.Security, new GrpcChannelOptions { MaxReceiveMessageSize = MaxAnswerBytes },
            new SocketsHttpHandler
            {
                EnableMultipleHttp2Connections = true,
                ConnectTimeout = ConnectLimit,
                KeepAlivePingDelay = KeepAlive,
                KeepAlivePingTimeout = ConnectLimit,
            });
        var random = new Random();
        var backend = new RemoteBackend(
            new Protocol.V1.ObserverService.ObserverServiceClient(invoker), learner.Authority, TimeProvider.System, random.NextDouble);
        return (backend, () => backend.RunAsync(stopping), channel);
    }
}
