// Keeps: the three questions mean different things. /health: the parts of this process that must answer do, within a second, or it should be
// started again; /started: the model is loaded and the work has begun; /ready: what others want of this process can be had now. Whoever
// asks learns nothing else.
using System.Net;
using System.Net.Sockets;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;

namespace Mem1.Cli.Serve;

/// <summary>What a process answers to those who watch over it. Asked from any thread; must not block for long.</summary>
internal interface IHealth
{
    /// <summary>Whether the model is loaded and the work has begun.</summary>
    bool Started { get; }

    /// <summary>Null when ready, else why not.</summary>
    string? NotReady { get; }

    /// <summary>Numbers for Prometheus: name, help and value.</summary>
    IEnumerable<(string Name, string Help, double Value)> Metrics { get; }

    /// <summary>Whether the parts that must answer do; a task that does not end counts as no.</summary>
    Task<bool> AnswersAsync(CancellationToken cancellationToken);
}

/// <summary><c>GET /health</c>, <c>/started</c>, <c>/ready</c> and <c>/metrics</c> on a port of their own.</summary>
internal sealed class HealthServer : IAsyncDisposable, IDisposable
{
    /// <summary>The variable that says where, when the command line does not.</summary>
    public const string Variable = "MEM1_HEALTH";

    // Below the timeout of the probes in deploy/k8s, so that the answer is a sentence rather than silence.
    private static readonly TimeSpan s_answerLimit = TimeSpan.FromSeconds(1);

    private readonly WebApplication _application;

    private HealthServer(WebApplication application, Uri address) => (_application, Address) = (application, address);

    /// <summary>Where it listens.</summary>
    public Uri Address { get; }

    /// <summary>Starts to listen; null when <paramref name="where"/> and the variable are empty.</summary>
    /// <param name="where">ADDRESS:PORT as the command line has it.</param>
    /// <param name="health">What is asked.</param>
    /// <exception cref="UserErrorException">The address is none, or cannot be bound.</exception>
    public static async Task<HealthServer?> StartAsync(string? where, IHealth health)
    {
        where = string.IsNullOrEmpty(where) ? Environment.GetEnvironmentVariable(Variable) : where;
        if (string.IsNullOrEmpty(where)) return null;
        if (!IPEndPoint.TryParse(where, out var at) || !where.Contains(':', StringComparison.Ordinal))
            throw new UserErrorException($"--health is \"{where}\"; it must be an IP address and a port, as in 127.0.0.1:8081.");
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().ConfigureKestrel(kestrel =>
        {
            kestrel.Listen(at);
            kestrel.AddServerHeader = false;
            kestrel.Limits.MaxConcurrentConnections = 64; // probes and a scraper; a flood must not cost the run its threads
            kestrel.Limits.MaxRequestBodySize = 0;
        });
        builder.Services.AddRoutingCore();
        builder.Services.AddLogging();
        var application = builder.Build();
        application.UseRouting();
        application.MapGet("/health", async (HttpContext context) =>
        {
            var answers = await AnswersAsync(health, context.RequestAborted).ConfigureAwait(false);
            await Answer(context, answers ? null : "a part of this process does not answer").ConfigureAwait(false);
        });
        application.MapGet("/started", (HttpContext context) => Answer(context, health.Started ? null : "starting"));
        application.MapGet("/ready", (HttpContext context) => Answer(context, health.NotReady));
        application.MapGet("/metrics", (HttpContext context) =>
        {
            context.Response.ContentType = "text/plain; version=0.0.4; charset=utf-8";
            return context.Response.WriteAsync(string.Concat(health.Metrics.Select(m => string.Create(
                System.Globalization.CultureInfo.InvariantCulture,
                $"# HELP {m.Name} {m.Help}\n# TYPE {m.Name} gauge\n{m.Name} {m.Value:R}\n"))), context.RequestAborted);
        });
        try
        {
            await application.StartAsync().ConfigureAwait(false);
        }
        catch (Exception e) when (e is IOException or SocketException)
        {
            await application.DisposeAsync().ConfigureAwait(false);
            throw new UserErrorException(
                $"the health port cannot listen on {where} ({e.InnerException?.Message ?? e.Message}); "
                + "free the port or choose another with --health.");
        }

        var bound = application.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First();
        return new HealthServer(application, new Uri(bound));
    }

    /// <summary>Stops listening.</summary>
    public async ValueTask DisposeAsync()
    {
        using var now = new CancellationTokenSource(TimeSpan.FromSeconds(1));
        await _application.StopAsync(now.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await _application.DisposeAsync().ConfigureAwait(false);
    }

    /// <summary>Stops listening.</summary>
    public void Dispose() => DisposeAsync().AsTask().GetAwaiter().GetResult();

    private static async Task<bool> AnswersAsync(IHealth health, CancellationToken cancellationToken)
    {
        try
        {
            return await health.AnswersAsync(cancellationToken).WaitAsync(s_answerLimit, cancellationToken).ConfigureAwait(false);
        }
        catch (TimeoutException)
        {
            return false;
        }
    }

    private static Task Answer(HttpContext context, string? trouble)
    {
        context.Response.StatusCode = trouble is null ? StatusCodes.Status200OK : StatusCodes.Status503ServiceUnavailable;
        return context.Response.WriteAsync((trouble ?? "ok") + "\n", context.RequestAborted);
    }
}
