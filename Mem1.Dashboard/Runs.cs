// Keeps: opening a run reads nothing but its folder, and never writes there; a folder of a run that goes on is followed.
using System.Globalization;
using System.Reflection;
using System.Text.RegularExpressions;

namespace Mem1.Dashboard;

/// <summary>Fills a <see cref="RunModel"/> from files. For one thread.</summary>
internal interface IRunFeed
{
    /// <summary>Takes what is new and tells about it.</summary>
    /// <returns>Whether everything there was has been read.</returns>
    bool Poll(
        RunModel model, Action<IReadOnlyDictionary<string, double>> metrics, Action<TrajectorySummary> trajectory, Action restarted,
        Action<TelemetryEvent> log);
}

/// <summary>A run's folder.</summary>
internal sealed partial class FolderFeed(string folder) : IRunFeed
{
    /// <summary>Phase of a run whose process was killed or crashed.</summary>
    public const string Killed = "killed";

    // A person waits no longer for it, and a run that is being started is hardly met.
    private static readonly TimeSpan s_apart = TimeSpan.FromSeconds(2);

    // Episodes that were played again on command: lines like those of trajectories.jsonl.
    private const string ReplaysName = "replays.jsonl";

    private readonly string _trajectories = Path.Combine(folder, "trajectories.jsonl");
    private readonly string _replays = Path.Combine(folder, ReplaysName);
    private readonly LineFollower _metricsFile = new(Path.Combine(folder, "metrics.jsonl"));
    private readonly LineFollower _trajectoriesFile = new(Path.Combine(folder, "trajectories.jsonl"));
    private readonly LineFollower _replaysFile = new(Path.Combine(folder, ReplaysName));
    private readonly LineFollower _auditFile = new(Path.Combine(folder, AuditLog.FileName));
    private bool _first = true;
    private long _askedAgainAt;

    public bool Poll(
        RunModel model, Action<IReadOnlyDictionary<string, double>> metrics, Action<TrajectorySummary> trajectory, Action restarted,
        Action<TelemetryEvent> log)
    {
        model.Config = ReadText("config.yaml") ?? model.Config;
        model.Evaluation = ReadText("evaluation.json");
        var more = _metricsFile.Poll(
            () =>
            {
                model.Restart(metrics: true, trajectories: false);
                restarted();
            },
            (line, _, _) =>
            {
                if (model.AddMetrics(line, fresh: !_first) is { } row) metrics(row);
            });
        more |= _trajectoriesFile.Poll(
            () =>
            {
                model.Restart(metrics: false, trajectories: true);
                restarted();
            },
            (line, offset, length) =>
            {
                if (model.AddTrajectory(line, () => LineFollower.Read(_trajectories, offset, length)) is { } summary) trajectory(summary);
            });
        // These two are only ever appended to.
        more |= _replaysFile.Poll(
            static () => { },
            (line, offset, length) =>
            {
                var summary = model.AddTrajectory(line, () => LineFollower.Read(_replays, offset, length), replay: true);
                if (summary is not null) trajectory(summary);
            });
        more |= _auditFile.Poll(
            static () => { },
            (line, _, _) =>
            {
                if (AuditLog.Parse(line) is { } record) log(record.ToEvent());
            });
        if (!more) _first = false;
        if (!more && model.Source == RunSource.Folder && Environment.TickCount64 >= _askedAgainAt)
        {
            _askedAgainAt = Environment.TickCount64 + (long)s_apart.TotalMilliseconds;
            var phase = Phase(model);
            if (phase != model.Progress.Phase) model.Progress = new ProgressState(phase, 0, "", DateTimeOffset.UtcNow);
        }

        return !more;
    }

    /// <summary>
    /// What became of the run, by its lock: held while it goes on, left behind when its process was killed, gone when it ended.
    /// </summary>
    private string Phase(RunModel model)
    {
        try
        {
            // Shared with others that look, refused while the run holds it for itself; let go of at once.
            using var held = new FileStream(
                Path.Combine(folder, ".lock"), FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete);
            return Killed;
        }
        catch (FileNotFoundException)
        {
            return Updates().Match(model.Config) is { Success: true } wanted
                && model.Metrics(m => m.Last) >= long.Parse(wanted.Groups[1].Value, CultureInfo.InvariantCulture) ? "finished" : "stopped";
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return "going on in another process";
        }
    }

    [GeneratedRegex(@"^updates: (\d{1,18})\s*$", RegexOptions.Multiline)]
    private static partial Regex Updates();

    private string? ReadText(string name)
    {
        try
        {
            var path = Path.Combine(folder, name);
            return File.Exists(path) ? File.ReadAllText(path) : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null; // being replaced
        }
    }
}

/// <summary>The recorded demonstration, from this assembly.</summary>
internal sealed class DemoFeed : IRunFeed
{
    private bool _done;

    public bool Poll(
        RunModel model, Action<IReadOnlyDictionary<string, double>> metrics, Action<TrajectorySummary> trajectory, Action restarted,
        Action<TelemetryEvent> log)
    {
        if (_done) return true;
        _done = true;
        model.Config = Text("config.yaml") ?? "";
        model.Evaluation = Text("evaluation.json");
        foreach (var line in Lines("metrics.jsonl")) model.AddMetrics(line, fresh: false);
        foreach (var line in Lines("trajectories.jsonl")) model.AddTrajectory(line, () => line);
        if (Text("live.json") is { } live) model.Live = Json.Read<LiveSnapshot>(live);
        foreach (var line in Lines("events.jsonl")) log(Json.Read<TelemetryEvent>(line)!);
        model.Progress = new ProgressState("finished", 1, "", DateTimeOffset.UtcNow);
        return true;
    }

    private static IEnumerable<string> Lines(string name) => (Text(name) ?? "").Split('\n', StringSplitOptions.RemoveEmptyEntries);

    private static string? Text(string name)
    {
        using var stream = Assembly.GetExecutingAssembly().GetManifestResourceStream("demo/" + name);
        if (stream is null) return null;
        using var reader = new StreamReader(stream);
        return reader.ReadToEnd();
    }
}
