// What is answered under which path; docs/dashboard.md describes it. Keeps: answers are bounded in size, whatever is asked for.
using System.Globalization;
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace Mem1.Dashboard;

/// <summary>The paths of the dashboard.</summary>
internal sealed class DashboardApi(RunModel model, EventHub hub, TelemetryQueue? telemetry, CancellationToken stopping, TimeSpan keepAlive)
{
    // A page of a list; a table that a person reads is shorter.
    private const int MaxListed = 1000;

    // Actors and episodes of one answer: more than a page draws.
    private const int MaxActors = 20_000;

    private readonly string _instance = Guid.NewGuid().ToString("N");

    /// <summary>Whether what was in the files has been read.</summary>
    public bool Loaded { get; set; }

    public void Map(IEndpointRouteBuilder routes)
    {
        routes.MapGet("/health", context => Text(context, "ok\n"));
        routes.MapGet("/ready", context =>
        {
            if (!Loaded) context.Response.StatusCode = StatusCodes.Status503ServiceUnavailable;
            return Text(context, Loaded ? "ready\n" : "reading the run\n");
        });
        routes.MapGet("/metrics", context =>
        {
            context.Response.ContentType = PrometheusText.ContentType;
            return context.Response.WriteAsync(PrometheusText.Write(model, hub, telemetry?.Dropped ?? 0), context.RequestAborted);
        });
        routes.MapGet("/events", EventsAsync);
        routes.MapGet("/api/run", context => Answer(context, new
        {
            model.Name,
            model.Source,
            model.Folder,
            model.Config,
            Evaluation = model.Evaluation is { } text ? TryParse(text) : null,
            Instance = _instance,
            model.Opened,
            Page = Page.IsBuilt,
        }));
        routes.MapGet("/api/state", context => Answer(context, State()));
        routes.MapGet("/api/metrics", context =>
        {
            var after = Number(context, "after", 0);
            return Answer(context, model.Metrics(m =>
            {
                var from = m.After(after);
                return new
                {
                    Updates = m.Updates.Skip(from).ToArray(),
                    Series = m.Names.ToDictionary(n => n, n => m[n]!.Skip(from).ToArray(), StringComparer.Ordinal),
                };
            }));
        });
        routes.MapGet("/api/advisories", context => Answer(context, Advisor.Evaluate(model, DateTimeOffset.UtcNow)));
        routes.MapGet("/api/events", context => Answer(context, model.Events(
            Number(context, "after", -1), Query(context, "kind"), Query(context, "text"), Limit(context, MaxListed))));
        routes.MapGet("/api/trajectories", context => Answer(
            context, model.Trajectories(Limit(context, MaxListed), Query(context, "episode"))));
        routes.MapGet("/api/trajectories/{index:long}", context =>
        {
            var index = long.Parse((string)context.Request.RouteValues["index"]!, CultureInfo.InvariantCulture);
            if (model.Trajectory(index) is { } line)
            {
                context.Response.ContentType = "application/json; charset=utf-8";
                return context.Response.WriteAsync(line, context.RequestAborted);
            }

            return Missing(context, $"There is no trajectory {index}.");
        });
        routes.MapGet("/api/actors", context =>
        {
            var text = Query(context, "text");
            var actors = model.Live?.Actors ?? [];
            return Answer(context, new
            {
                Total = actors.Count,
                Actors = actors.Where(a => Has(a.Path, text) || Has(a.State, text) || Has(a.Detail, text)).Take(Limit(context, MaxActors)),
            });
        });
        routes.MapGet("/api/episodes", context => Answer(context, new
        {
            Total = model.Live?.Episodes.Count ?? 0,
            Episodes = (model.Live?.Episodes ?? []).Where(e => Has(e.Id, Query(context, "text"))).Take(Limit(context, 200)),
        }));
        routes.MapGet("/api/quarantined", context => Answer(context, model.Live?.Quarantined ?? []));
        routes.MapGet("/{**path}", context =>
        {
            if (!Page.TryGet(context.Request.RouteValues["path"] as string ?? "", out var content, out var type))
                return Missing(context, "There is nothing here; docs/dashboard.md lists the paths.");
            context.Response.ContentType = type;
            return context.Response.Body.WriteAsync(content, context.RequestAborted).AsTask();
        });
    }

    /// <summary>What browsers are told whenever it changes.</summary>
    public object State()
    {
        var live = model.Live;
        var progress = model.Progress;
        return new
        {
            model.Source,
            progress.Phase,
            Share = Math.Round(progress.Share, 4),
            progress.Detail,
            PhaseSince = progress.Since,
            Update = model.Metrics(m => m.Last),
            PolicyVersion = live?.PolicyVersion,
            StalenessBound = live?.StalenessBound,
            LearnerAddress = live?.LearnerAddress,
            Ledger = live?.Ledger,
            Workers = live?.Workers.Take(MaxListed),
            Worker = live?.Worker,
            ActorsByState = live?.Actors.GroupBy(a => a.State).ToDictionary(g => g.Key, g => g.Count()),
            Dropped = new { Browser = hub.Dropped, Telemetry = telemetry?.Dropped ?? 0, History = model.Dropped },
        };
    }

    private async Task EventsAsync(HttpContext context)
    {
        using var client = hub.Connect();
        if (client is null)
        {
            context.Response.StatusCode = StatusCodes.Status503ServiceUnavailable;
            await Text(context, $"More than {EventHub.MaxClients} browsers listen already.\n").ConfigureAwait(false);
            return;
        }

        using var ended = CancellationTokenSource.CreateLinkedTokenSource(context.RequestAborted, stopping);
        context.Response.ContentType = "text/event-stream";
        try
        {
            // The instance tells a page that reconnects whether what it has is of this server's life.
            var hello = Json.Write(new { Instance = _instance, State = State() });
            await WriteAsync(context, new ServerEvent("hello", hello), ended.Token).ConfigureAwait(false);
            long told = 0;
            while (!ended.IsCancellationRequested)
            {
                using var patience = CancellationTokenSource.CreateLinkedTokenSource(ended.Token);
                patience.CancelAfter(keepAlive);
                bool open;
                try
                {
                    open = await client.Queue.WaitToReadAsync(patience.Token).ConfigureAwait(false);
                }
                catch (OperationCanceledException) when (!ended.IsCancellationRequested)
                {
                    await context.Response.WriteAsync(": still here\n\n", ended.Token).ConfigureAwait(false);
                    await context.Response.Body.FlushAsync(ended.Token).ConfigureAwait(false);
                    continue;
                }

                if (!open) return;
                while (client.Queue.TryRead(out var e)) await WriteAsync(context, e, ended.Token).ConfigureAwait(false);
                if (client.Dropped is var lost && lost > told)
                {
                    told = lost;
                    await WriteAsync(context, new ServerEvent("dropped", Json.Write(new { Count = lost })), ended.Token)
                        .ConfigureAwait(false);
                }
            }
        }
        catch (Exception e) when (e is OperationCanceledException or IOException)
        {
            // The browser is gone, or the server stops.
        }
    }

    private static async Task WriteAsync(HttpContext context, ServerEvent e, CancellationToken cancellationToken)
    {
        // Our JSON has no line breaks.
        await context.Response.WriteAsync($"event: {e.Name}\ndata: {e.Data}\n\n", Encoding.UTF8, cancellationToken).ConfigureAwait(false);
        await context.Response.Body.FlushAsync(cancellationToken).ConfigureAwait(false);
    }

    private static Task Answer<T>(HttpContext context, T value)
    {
        context.Response.ContentType = "application/json; charset=utf-8";
        return context.Response.WriteAsync(Json.Write(value), context.RequestAborted);
    }

    private static Task Text(HttpContext context, string text)
    {
        context.Response.ContentType = "text/plain; charset=utf-8";
        return context.Response.WriteAsync(text, context.RequestAborted);
    }

    private static Task Missing(HttpContext context, string why)
    {
        context.Response.StatusCode = StatusCodes.Status404NotFound;
        return Answer(context, new { Error = why });
    }

    private static object? TryParse(string json)
    {
        try
        {
            return System.Text.Json.JsonSerializer.Deserialize<System.Text.Json.JsonElement>(json);
        }
        catch (System.Text.Json.JsonException)
        {
            return null;
        }
    }

    private static string Query(HttpContext context, string name) => context.Request.Query[name].ToString();

    private static bool Has(string where, string text) => text.Length == 0 || where.Contains(text, StringComparison.OrdinalIgnoreCase);

    private static long Number(HttpContext context, string name, long otherwise) =>
        long.TryParse(Query(context, name), CultureInfo.InvariantCulture, out var n) ? n : otherwise;

    private static int Limit(HttpContext context, int most) => (int)Math.Clamp(Number(context, "limit", most), 0, most);
}
