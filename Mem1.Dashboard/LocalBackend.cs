// What is answered under which path; docs/dashboard.md describes it. Keeps: answers are bounded in size, whatever is asked for.
using System.Globalization;
using System.Text;

namespace Mem1.Dashboard;

/// <summary>Answers from the picture of a run in this process.</summary>
internal sealed class LocalBackend(RunModel model, EventHub hub, TelemetryQueue? telemetry, CommandDesk desk) : IDashboardBackend
{
    // A page of a list; a table that a person reads is shorter.
    private const int MaxListed = 1000;

    // Actors and episodes of one answer: more than a page draws.
    private const int MaxActors = 20_000;

    private readonly string _instance = Guid.NewGuid().ToString("N");

    /// <summary>Whether what was in the files has been read.</summary>
    public bool Loaded { get; set; }

    /// <inheritdoc/>
    public EventHub Hub => hub;

    /// <inheritdoc/>
    public string? NotReady => Loaded ? null : "reading the run";

    /// <inheritdoc/>
    // The instance tells a page that reconnects whether what it has is of this server's life.
    public string Hello() => Json.Write(new { Instance = _instance, State = State() });

    /// <inheritdoc/>
    public Task<ApiAnswer> GetAsync(ApiRequest request, CancellationToken cancellationToken) => Task.FromResult(Get(request));

    /// <inheritdoc/>
    public Task<ApiAnswer> CommandAsync(string body, string? token, string from, CancellationToken cancellationToken) =>
        desk.ExecuteAsync(body, token, from);

    /// <inheritdoc/>
    public ApiAnswer? Refusal(string? token, string from) => desk.Refusal(token, from);

    private ApiAnswer Get(ApiRequest request) => request.Path switch
    {
        "/metrics" => ApiAnswer.Text(PrometheusText.Write(model, hub, telemetry?.Dropped ?? 0), PrometheusText.ContentType),
        "/api/run" => ApiAnswer.Of(new
        {
            model.Name,
            model.Source,
            model.Folder,
            model.Config,
            Evaluation = model.Evaluation is { } text ? TryParse(text) : null,
            Instance = _instance,
            model.Opened,
            Page = Page.IsBuilt,
            Commands = desk.IsOpen ? CommandNames.All : [],
        }),
        "/api/state" => ApiAnswer.Of(State()),
        "/api/metrics" => ApiAnswer.Of(model.Metrics(m =>
        {
            var from = m.After(request.Number("after", 0));
            return new
            {
                Updates = m.Updates.Skip(from).ToArray(),
                Series = m.Names.ToDictionary(n => n, n => m[n]!.Skip(from).ToArray(), StringComparer.Ordinal),
            };
        })),
        "/api/advisories" => ApiAnswer.Of(Advisor.Evaluate(model, DateTimeOffset.UtcNow)),
        "/api/events" => ApiAnswer.Of(model.Events(
            request.Number("after", -1), new EventFilter(request["kind"], request["actor"], request["episode"], request["text"]),
            request.Limit(MaxListed))),
        "/api/trajectories" => ApiAnswer.Of(model.Trajectories(request.Limit(MaxListed), request["episode"])),
        "/api/actors" => Actors(request),
        "/api/episodes" => ApiAnswer.Of(new
        {
            Total = model.Live?.Episodes.Count ?? 0,
            Episodes = (model.Live?.Episodes ?? []).Where(e => Has(e.Id, request["text"]) || Has(e.Worker, request["text"]))
                .Take(request.Limit(200)),
        }),
        "/api/quarantined" => ApiAnswer.Of(model.Live?.Quarantined ?? []),
        _ => Trajectory(request.Path) ?? ApiAnswer.Missing("There is nothing here; docs/dashboard.md lists the paths."),
    };

    private ApiAnswer Actors(ApiRequest request)
    {
        var text = request["text"];
        var actors = model.Live?.Actors ?? [];
        return ApiAnswer.Of(new
        {
            Total = actors.Count,
            Actors = actors.Where(a => Has(a.Path, text) || Has(a.State, text) || Has(a.Detail, text)).Take(request.Limit(MaxActors)),
        });
    }

    private ApiAnswer? Trajectory(string path)
    {
        const string Prefix = "/api/trajectories/";
        if (!path.StartsWith(Prefix, StringComparison.Ordinal)
            || !long.TryParse(path.AsSpan(Prefix.Length), NumberStyles.None, CultureInfo.InvariantCulture, out var index))
            return null;
        return model.Trajectory(index) is { } line
            ? new ApiAnswer(200, ApiAnswer.JsonType, Encoding.UTF8.GetBytes(line)) : ApiAnswer.Missing($"There is no trajectory {index}.");
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
            Paused = live?.Paused ?? false,
            ConcurrencyLimit = live?.ConcurrencyLimit,
            Admission = live?.Admission,
            WaitingSeconds = live?.WaitingSeconds,
            LearnerAddress = live?.LearnerAddress,
            Ledger = live?.Ledger,
            Workers = live?.Workers.Take(MaxListed),
            Nodes = live?.Nodes.Take(MaxListed),
            Worker = live?.Worker,
            ActorsByState = live?.Actors.GroupBy(a => a.State).ToDictionary(g => g.Key, g => g.Count()),
            Dropped = new { Browser = hub.Dropped, Telemetry = telemetry?.Dropped ?? 0, History = model.Dropped },
        };
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

    private static bool Has(string where, string text) => text.Length == 0 || where.Contains(text, StringComparison.OrdinalIgnoreCase);
}
