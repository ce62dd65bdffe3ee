// Keeps: the dashboard's one picture of a run; every member may be called from any thread; nothing here grows without bound; texts of long
// trajectories stay in their file and are read when somebody asks.
using System.Text.Json;

namespace Mem1.Dashboard;

/// <summary>Where the picture comes from.</summary>
public enum RunSource
{
    /// <summary>A training in this process.</summary>
    Live,
    /// <summary>A run's folder.</summary>
    Folder,
    /// <summary>The recorded demonstration.</summary>
    Demo,
}

/// <summary>One trajectory in a list.</summary>
/// <param name="Index">Its number; later ones are higher.</param>
/// <param name="Update">The update it was trained in.</param>
/// <param name="EpisodeId">Its episode.</param>
/// <param name="Reward">Its reward.</param>
/// <param name="End">Why it ended.</param>
/// <param name="Turns">How many turns.</param>
/// <param name="Objectives">How many objectives.</param>
/// <param name="ExactMatch">Share of them answered exactly.</param>
/// <param name="PeakTokens">The longest prompt + context + generated.</param>
internal sealed record TrajectorySummary(
    long Index, long Update, string EpisodeId, double Reward, string End, int Turns, int Objectives, double ExactMatch, int PeakTokens)
{
    /// <summary>Whether it was played again on command, and not trained on; the update is then the last one done before.</summary>
    public bool Replay { get; init; }
}

/// <summary>An event with its number.</summary>
internal sealed record LoggedEvent(long Index, DateTimeOffset Time, string Level, string Kind, string Text, string Actor, string Episode)
{
    /// <summary>Of the episode; null where there is none or it is not known.</summary>
    public string? TraceId { get; init; }
}

/// <summary>Which events are asked for; an empty text asks for all.</summary>
/// <param name="Kind">Their type, exactly.</param>
/// <param name="Actor">In the name of the actor or worker they are about.</param>
/// <param name="Episode">In the name of the episode they are about.</param>
/// <param name="Text">In any of their texts.</param>
internal sealed record EventFilter(string Kind, string Actor, string Episode, string Text)
{
    public bool Takes(LoggedEvent e) =>
        (Kind.Length == 0 || e.Kind == Kind) && Has(e.Actor, Actor) && Has(e.Episode, Episode)
            && (Has(e.Text, Text) || Has(e.Actor, Text) || Has(e.Episode, Text) || Has(e.TraceId ?? "", Text));

    private static bool Has(string where, string what) => where.Contains(what, StringComparison.OrdinalIgnoreCase);
}

/// <summary>The picture of one run.</summary>
/// <param name="name">The run's name.</param>
/// <param name="source">Where it comes from.</param>
public sealed class RunModel(string name, RunSource source)
{
    // A screen shows dozens; this many go back hours.
    private const int MaxEvents = 5000, MaxTrajectories = 20_000;

    private readonly Lock _lock = new();
    private readonly MetricTable _metrics = new();
    private readonly LinkedList<LoggedEvent> _events = new();
    private readonly LinkedList<(TrajectorySummary Summary, Func<string?> Read)> _trajectories = new();
    private long _nextEvent, _nextTrajectory, _eventsDropped, _trajectoriesDropped;
    private LiveSnapshot? _live;
    private ProgressState _progress = new("", 0, "", DateTimeOffset.UtcNow);
    private DateTimeOffset? _lastUpdateAt;

    /// <summary>The run's name.</summary>
    public string Name { get; } = name;

    /// <summary>Where the picture comes from.</summary>
    public RunSource Source { get; } = source;

    internal DateTimeOffset Opened { get; } = DateTimeOffset.UtcNow;

    internal string Config { get; set; } = "";

    internal string? Evaluation { get; set; }

    internal string Folder { get; set; } = "";

    internal LiveSnapshot? Live
    {
        get => Volatile.Read(ref _live);
        set => Volatile.Write(ref _live, value);
    }

    internal ProgressState Progress
    {
        get => Volatile.Read(ref _progress);
        set => Volatile.Write(ref _progress, value);
    }

    /// <summary>When the newest row came while somebody was looking; null for rows that were there before.</summary>
    internal DateTimeOffset? LastUpdateAt
    {
        get
        {
            lock (_lock) return _lastUpdateAt;
        }
    }

    internal long Dropped
    {
        get
        {
            lock (_lock) return _metrics.Dropped + _eventsDropped + _trajectoriesDropped;
        }
    }

    internal IReadOnlyDictionary<string, double>? AddMetrics(string line, bool fresh)
    {
        lock (_lock)
        {
            var row = _metrics.Add(line);
            if (row is not null && fresh) _lastUpdateAt = DateTimeOffset.UtcNow;
            return row;
        }
    }

    /// <param name="line">A line of trajectories.jsonl.</param>
    /// <param name="read">Reads the line again; null when it is gone.</param>
    /// <param name="replay">Whether it is a line of replays.jsonl.</param>
    internal TrajectorySummary? AddTrajectory(string line, Func<string?> read, bool replay = false)
    {
        if (Summarise(line) is not { } summary) return null;
        summary = summary with { Replay = replay };
        lock (_lock)
        {
            // Done again after a resume from an earlier checkpoint. Replays belong to no update.
            for (var node = _trajectories.Last;
                !replay && node is not null && (node.Value.Summary.Replay || node.Value.Summary.Update > summary.Update);)
            {
                var before = node.Previous;
                if (!node.Value.Summary.Replay) _trajectories.Remove(node);
                node = before;
            }

            if (_trajectories.Count == MaxTrajectories)
            {
                _trajectories.RemoveFirst();
                _trajectoriesDropped++;
            }

            summary = summary with { Index = _nextTrajectory++ };
            _trajectories.AddLast((summary, read));
            return summary;
        }
    }

    internal LoggedEvent Log(TelemetryEvent happened)
    {
        lock (_lock)
        {
            if (_events.Count == MaxEvents)
            {
                _events.RemoveFirst();
                _eventsDropped++;
            }

            var logged = new LoggedEvent(
                _nextEvent++, happened.Time, happened.Level.ToString().ToLowerInvariant(), happened.Kind, happened.Text, happened.Actor,
                happened.Episode)
            {
                TraceId = happened.TraceId.Length > 0 ? happened.TraceId : null,
            };
            _events.AddLast(logged);
            return logged;
        }
    }

    /// <summary>Forgets metrics and trajectories: their files begin anew.</summary>
    internal void Restart(bool metrics, bool trajectories)
    {
        lock (_lock)
        {
            if (metrics) _metrics.Clear();
            if (trajectories) _trajectories.Clear();
        }
    }

    /// <summary>Looks at the metrics under the lock: <paramref name="look"/> copies what it needs.</summary>
    internal T Metrics<T>(Func<MetricTable, T> look)
    {
        lock (_lock) return look(_metrics);
    }

    /// <summary>Events, the newest last.</summary>
    internal IReadOnlyList<LoggedEvent> Events(long after, EventFilter filter, int limit)
    {
        lock (_lock)
        {
            var found = new List<LoggedEvent>();
            for (var node = _events.Last; node is not null && found.Count < limit && node.Value.Index > after; node = node.Previous)
            {
                var e = node.Value;
                if (filter.Takes(e)) found.Add(e);
            }

            found.Reverse();
            return found;
        }
    }

    /// <summary>Trajectories, the newest first.</summary>
    internal IReadOnlyList<TrajectorySummary> Trajectories(int limit, string episode)
    {
        lock (_lock)
        {
            var found = new List<TrajectorySummary>();
            for (var node = _trajectories.Last; node is not null && found.Count < limit; node = node.Previous)
            {
                if (episode.Length == 0 || node.Value.Summary.EpisodeId.Contains(episode, StringComparison.OrdinalIgnoreCase))
                    found.Add(node.Value.Summary);
            }

            return found;
        }
    }

    /// <summary>The line of one trajectory, or null.</summary>
    internal string? Trajectory(long index)
    {
        Func<string?>? read = null;
        lock (_lock)
        {
            for (var node = _trajectories.Last; node is not null && read is null; node = node.Previous)
            {
                if (node.Value.Summary.Index == index) read = node.Value.Read;
            }
        }

        return read?.Invoke();
    }

    private static TrajectorySummary? Summarise(string line)
    {
        try
        {
            using var json = JsonDocument.Parse(line);
            var root = json.RootElement;
            if (root.ValueKind != JsonValueKind.Object || !root.TryGetProperty("update", out var update)
                || update.ValueKind != JsonValueKind.Number || !update.TryGetInt64(out var number))
                return null;
            var prompt = Int(root, "prompt_tokens");
            int turns = 0, peak = 0;
            if (root.TryGetProperty("turns", out var of) && of.ValueKind == JsonValueKind.Array)
            {
                foreach (var turn in of.EnumerateArray())
                {
                    turns++;
                    peak = Math.Max(peak, prompt + Int(turn, "context_tokens") + Int(turn, "generated_tokens"));
                }
            }

            double[] exact = root.TryGetProperty("exact_match", out var em) && em.ValueKind == JsonValueKind.Array
                ? [.. em.EnumerateArray().Select(e => e.ValueKind == JsonValueKind.Number ? e.GetDouble() : 0)] : [];
            return new TrajectorySummary(
                0, number, Text(root, "episode_id"),
                root.TryGetProperty("reward", out var r) && r.ValueKind == JsonValueKind.Number ? r.GetDouble() : 0,
                Text(root, "end"), turns, exact.Length, exact.Length == 0 ? 0 : exact.Average(), peak);
        }
        catch (JsonException)
        {
            return null; // a line cut off by a crash
        }
    }

    private static int Int(JsonElement of, string name) =>
        of.ValueKind == JsonValueKind.Object && of.TryGetProperty(name, out var v) && v.ValueKind == JsonValueKind.Number
            && v.TryGetInt32(out var n) ? n : 0;

    private static string Text(JsonElement of, string name) =>
        of.TryGetProperty(name, out var v) && v.ValueKind == JsonValueKind.String ? v.GetString()! : "";
}
