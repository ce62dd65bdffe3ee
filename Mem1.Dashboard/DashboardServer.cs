// Keeps: listens on loopback unless told otherwise and answers only requests that name it by an address or localhost, so that no web page
// can reach it through a name of its own; a failure in here never reaches the training.
using System.Net;
using System.Net.Sockets;
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
    /// <summary>The training in this process; null to show files only.</summary>
    public ILiveSource? Live { get; init; }
    /// <summary>What the training in this process says.</summary>
    public TelemetryQueue? Telemetry { get; init; }
    /// <summary>What commands act on; null for a dashboard that only looks.</summary>
    public ICommandTarget? Commands { get; init; }
    /// <summary>What commands need; null for a dashboard that only looks.</summary>
    public CommandToken? Token { get; init; }
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

    private readonly WebApplication _application;
    private readonly CancellationTokenSource _stopping;
    private readonly Task _feeding;

    private DashboardServer(WebApplication application, CancellationTokenSource stopping, Task feeding, RunModel model, Uri address) =>
        (_application, _stopping, _feeding, Model, Address) = (application, stopping, feeding, model, address);

    /// <summary>Where it listens.</summary>
    public Uri Address { get; }

    /// <summary>What it shows.</summary>
    public RunModel Model { get; }

    internal EventHub Hub { get; private init; } = null!;

    /// <summary>Starts to listen.</summary>
    /// <exception cref="DashboardException">The address cannot be bound, or the folder is not a run's.</exception>
    public static async Task<DashboardServer> StartAsync(DashboardOptions options, CancellationToken cancellationToken)
    {
        if (!IPAddress.TryParse(options.Address, out var bind))
            throw new DashboardException($"The dashboard cannot listen on \"{options.Address}\": that is not an IP address.");
        if (options.Folder is { } given && options.Live is null && !File.Exists(Path.Combine(given, "config.yaml")))
            throw new DashboardException($"There is no run in {given} (no config.yaml in it).");
        var model = options.Folder is { } folder
            ? new RunModel(Path.GetFileName(Path.TrimEndingDirectorySeparator(folder)),
                options.Live is null ? RunSource.Folder : RunSource.Live)
            {
                Folder = folder,
            }
            : new RunModel("demo", RunSource.Demo);
        var hub = new EventHub(options.EventCapacity);
        var stopping = new CancellationTokenSource();
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().ConfigureKestrel(kestrel =>
        {
            kestrel.Listen(bind, options.Port, listen => listen.Protocols = HttpProtocols.Http1);
            kestrel.AddServerHeader = false;
            kestrel.Limits.MaxRequestBodySize = DashboardWeb.MaxBody;
        });
        builder.Services.AddRoutingCore();
        builder.Services.AddLogging();
        var application = builder.Build();
        var desk = new CommandDesk(
            options.Commands, options.Token, options.Folder is { } run ? new AuditLog(run) : null, TimeProvider.System, stopping.Token);
        var api = new LocalBackend(model, hub, options.Telemetry, desk);
        new DashboardWeb(api, stopping.Token, KeepAlive).Map(application);
        try
        {
            await application.StartAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (Exception e)
        {
            await application.DisposeAsync().ConfigureAwait(false);
            stopping.Dispose();
            if (e is not (IOException or SocketException)) throw;
            throw new DashboardException(
                $"The dashboard cannot listen on {options.Address}:{options.Port} ({e.InnerException?.Message ?? e.Message}); "
                + "choose another port.", e);
        }

        var bound = application.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First();
        IRunFeed feed = options.Folder is { } path ? new FolderFeed(path) : new DemoFeed();
        var feeder = new Feeder(model, hub, feed, options.Live, options.Telemetry, api);
        var feeding = Task.Run(() => feeder.RunAsync(LookInterval, stopping.Token), CancellationToken.None);
        return new DashboardServer(application, stopping, feeding, model, new Uri(bound)) { Hub = hub };
    }

    /// <summary>Stops listening; browsers reconnect when it is started again.</summary>
    public async ValueTask DisposeAsync()
    {
        await _stopping.CancelAsync().ConfigureAwait(false);
        await _feeding.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(2));
        await _application.StopAsync(limit.Token).ConfigureAwait(false);
        await _application.DisposeAsync().ConfigureAwait(false);
        _stopping.Dispose();
    }
}
