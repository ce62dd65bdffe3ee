// Keeps: runs/NAME/ belongs to one process at a time (a lock file held open); metrics.jsonl, trajectories.jsonl and traces.jsonl hold each
// update once, also after a resume from an earlier checkpoint (later lines are cut off first).
using System.Text.Encodings.Web;
using System.Text.Json;
using Mem1.Cli.Configuration;
using Mem1.Cli.Output;
using Mem1.Learner;
using Mem1.Model.Checkpoints;

namespace Mem1.Cli.Training;

/// <summary>Files of one run.</summary>
internal sealed class RunFolder : IDisposable
{
    private const string LockName = ".lock";

    private static readonly JsonSerializerOptions Readable = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    // What .NET puts into IOException.HResult when another process holds the lock: EAGAIN, or a sharing violation.
    private const int LockedOnUnix = 11, LockedOnWindows = unchecked((int)0x80070020);

    private readonly FileStream _lock;
    private readonly bool _madeRuns;
    private readonly Lock _replays = new();

    private RunFolder(string path, FileStream @lock, bool madeRuns) => (FullPath, _lock, _madeRuns) = (path, @lock, madeRuns);

    public string FullPath { get; }

    public string Checkpoints => Path.Combine(FullPath, "checkpoints");

    /// <summary>What happened to tasks since the last checkpoint.</summary>
    public string Spool => Path.Combine(FullPath, "spool");

    public string ConfigPath => Path.Combine(FullPath, "config.yaml");

    /// <summary>What to type to go on with this run.</summary>
    public string ResumeCommand
    {
        get
        {
            var runs = Path.GetDirectoryName(FullPath)!;
            var where = runs == Path.GetFullPath("runs") ? "" : $" --runs {Quoted(runs)}";
            return $"./mem1 train{where} --resume {Quoted(Path.GetFileName(FullPath))}";

            static string Quoted(string text) => text.All(c => char.IsLetterOrDigit(c) || "/._-+".Contains(c, StringComparison.Ordinal))
                ? text
                : $"'{text.Replace("'", "'\\''", StringComparison.Ordinal)}'";
        }
    }

    public string PlotPath => Path.Combine(FullPath, "reward.svg");

    /// <summary>Where what somebody set from the dashboard is kept, so that it holds when the run goes on.</summary>
    public string LimitsPath => Path.Combine(FullPath, "limits.json");

    private string EvaluationPath => Path.Combine(FullPath, "evaluation.json");

    private string MetricsPath => Path.Combine(FullPath, "metrics.jsonl");

    private string TracesPath => Path.Combine(FullPath, TraceRecord.FileName);

    private string TrajectoriesPath => Path.Combine(FullPath, TrajectoryRecord.FileName);

    /// <summary>Opens a new folder. A name the user chose must be free; the default name takes a number when it is not.</summary>
    public static RunFolder Create(string runs, string name, bool chosen)
    {
        for (var n = 1; ; n++)
        {
            var path = Path.GetFullPath(Path.Combine(runs, n == 1 ? name : $"{name}-{n}"));
            if (!chosen && Directory.Exists(path) && Directory.EnumerateFileSystemEntries(path).Any()) continue;
            var folder = Open(path);
            if (Directory.EnumerateFileSystemEntries(path).All(entry => Path.GetFileName(entry) == LockName)) return folder;
            folder.Dispose();
            if (chosen)
                throw new UserErrorException($"the run folder {path} is not empty: go on with --resume {name}, or choose another --name.");
        }
    }

    /// <summary>Opens the folder of a run to go on with: by name, or the one last written to.</summary>
    /// <param name="runs">Where run folders are.</param>
    /// <param name="name">Which, or null.</param>
    /// <param name="kind">The file that a run of the kind wanted has.</param>
    public static RunFolder Resume(string runs, string? name, string kind = "config.yaml")
    {
        if (name is null)
        {
            var latest = !Directory.Exists(runs) ? null : Directory.EnumerateDirectories(runs)
                .Where(d => File.Exists(Path.Combine(d, kind))).MaxBy(Directory.GetLastWriteTimeUtc);
            return Open(latest ?? throw new UserErrorException($"there is no run to resume in {Path.GetFullPath(runs)}."));
        }

        var path = Path.GetFullPath(Path.Combine(runs, name));
        if (!File.Exists(Path.Combine(path, kind)))
            throw new UserErrorException($"there is no run to resume at {path} (no {kind} in it).");
        return Open(path);
    }

    /// <summary>Whether a run of this name was begun.</summary>
    public static bool Exists(string runs, string name) => File.Exists(Path.Combine(runs, name, "config.yaml"));

    /// <summary>Takes back a new folder in which no checkpoint came to be, so that a failed start leaves nothing behind.</summary>
    public void DiscardIfNothingIsSaved()
    {
        if (TrainingCheckpoint.Any(Checkpoints) || CloningCheckpoint.Any(Checkpoints)) return;
        try
        {
            Directory.Delete(FullPath, recursive: true);
            var runs = Path.GetDirectoryName(FullPath)!;
            if (_madeRuns && !Directory.EnumerateFileSystemEntries(runs).Any()) Directory.Delete(runs);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // The failure that brought us here is the one worth reporting.
        }
    }

    public void WriteConfig(RunConfig config) => AtomicFile.WriteText(ConfigPath, ConfigFile.Write(config));

    public void AppendMetrics(UpdateMetrics metrics) => Append(MetricsPath, metrics.ToJson() + "\n");

    /// <summary>Writes some of a batch's episodes, a line each.</summary>
    public void AppendTrajectories(IEnumerable<TrajectoryRecord> trajectories) =>
        Append(TrajectoriesPath, string.Concat(trajectories.Select(t => t.ToJson() + "\n")));

    /// <summary>Writes what ways episodes went, a line each.</summary>
    public void AppendTraces(IEnumerable<TraceRecord> traces) => Append(TracesPath, string.Concat(traces.Select(t => t.ToJson() + "\n")));

    /// <summary>What tells this run from all others, also over restarts and when its folder moves; made when it is asked for first.</summary>
    public string Identity()
    {
        var path = Path.Combine(FullPath, "run_id");
        if (File.Exists(path) && File.ReadAllText(path).Trim() is { Length: > 0 } known) return known;
        var made = Guid.NewGuid().ToString("N");
        AtomicFile.WriteText(path, made + "\n");
        return made;
    }

    /// <summary>Writes an episode that was played again on command. Called from several threads.</summary>
    public void AppendReplay(TrajectoryRecord replay)
    {
        lock (_replays) File.AppendAllText(Path.Combine(FullPath, "replays.jsonl"), replay.ToJson() + "\n");
    }

    /// <summary>Keeps a step that diverged, with the model as it was: what <c>mem1 replay</c> reads.</summary>
    /// <returns>The file of the step.</returns>
    public string SaveDiverged(Checkpoint model, SavedStep step)
    {
        var target = Path.Combine(FullPath, "diverged", $"update-{step.Update}");
        if (Directory.Exists(target)) Directory.Delete(target, recursive: true); // of an earlier try of the same update
        Directory.CreateDirectory(target);
        model.WriteInto(target);
        var path = Path.Combine(target, "step.json");
        step.Write(path);
        return path;
    }

    /// <summary>Keeps the evaluations of a finished run.</summary>
    public void WriteEvaluation(long update, EvaluationResult? before, EvaluationResult after) => AtomicFile.WriteText(
        EvaluationPath, JsonSerializer.Serialize(new { Update = update, Before = before, After = after }, Readable) + "\n");

    /// <summary>Keeps how many episodes may be played at once; null for as many as the workers take.</summary>
    /// <exception cref="IOException">It cannot be written.</exception>
    /// <exception cref="UnauthorizedAccessException">It may not be written.</exception>
    public void WriteConcurrencyLimit(int? limit)
    {
        if (limit is not { } most) File.Delete(LimitsPath);
        else AtomicFile.WriteText(LimitsPath, JsonSerializer.Serialize(new { ConcurrentEpisodes = most }, Readable) + "\n");
    }

    /// <summary>How many episodes may be played at once, as it was kept; null for as many as the workers take.</summary>
    /// <exception cref="UserErrorException">The file is damaged.</exception>
    public int? ReadConcurrencyLimit()
    {
        if (!File.Exists(LimitsPath)) return null;
        try
        {
            using var json = JsonDocument.Parse(File.ReadAllText(LimitsPath));
            if (json.RootElement.GetProperty("concurrent_episodes").GetInt32() is > 0 and var limit) return limit;
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException or FormatException)
        {
            // Said below.
        }

        throw new UserErrorException(
            $"{LimitsPath} is damaged: concurrent_episodes must be a whole number above 0. Correct it, or delete the file for no limit.");
    }

    /// <summary>The update after which the closing evaluation was made, or null.</summary>
    public long? EvaluatedUpdate() => File.Exists(EvaluationPath) ? UpdateOf(File.ReadAllText(EvaluationPath)) : null;

    /// <summary>Cuts what was logged after an update: the part a resume does again.</summary>
    public void TruncateAfter(long update)
    {
        foreach (var path in new[] { MetricsPath, TrajectoriesPath, TracesPath })
        {
            if (!File.Exists(path)) continue;
            // A line that was being written when the process died is not JSON; it goes too.
            var kept = File.ReadLines(path).Where(line => UpdateOf(line) is { } u && u <= update).ToList();
            AtomicFile.WriteText(path, string.Concat(kept.Select(l => l + "\n")));
        }
    }

    /// <summary>Reward and exact match by number of objectives of every logged update.</summary>
    public IReadOnlyList<(long Update, double Reward, IReadOnlyDictionary<int, double> ExactMatch)> ReadCurve()
    {
        if (!File.Exists(MetricsPath)) return [];
        var curve = new List<(long, double, IReadOnlyDictionary<int, double>)>();
        foreach (var line in File.ReadLines(MetricsPath).Where(l => UpdateOf(l) is not null))
        {
            using var json = JsonDocument.Parse(line);
            var em = json.RootElement.EnumerateObject()
                .Where(p => p.Name.StartsWith("em_", StringComparison.Ordinal) && p.Value.ValueKind == JsonValueKind.Number)
                .ToDictionary(
                    p => int.Parse(p.Name.AsSpan(3), System.Globalization.CultureInfo.InvariantCulture), p => p.Value.GetDouble());
            curve.Add((json.RootElement.GetProperty("update").GetInt64(), json.RootElement.GetProperty("reward_mean").GetDouble(), em));
        }

        return curve;
    }

    /// <summary>How many updates the last logged line counts whose parity was above the alarm.</summary>
    public long ReadParityAlarms()
    {
        if (!File.Exists(MetricsPath) || File.ReadLines(MetricsPath).LastOrDefault(l => UpdateOf(l) is not null) is not { } line) return 0;
        using var json = JsonDocument.Parse(line);
        return json.RootElement.TryGetProperty("parity_alarms", out var count) ? count.GetInt64() : 0; // older runs did not count
    }

    /// <summary>The largest parity gap logged, or null.</summary>
    public double? ReadParityMax()
    {
        if (!File.Exists(MetricsPath)) return null;
        double? worst = null;
        foreach (var line in File.ReadLines(MetricsPath).Where(l => UpdateOf(l) is not null))
        {
            using var json = JsonDocument.Parse(line);
            if (json.RootElement.GetProperty("parity_max_abs") is { ValueKind: JsonValueKind.Number } p)
                worst = Math.Max(worst ?? 0, p.GetDouble());
        }

        return worst;
    }

    public void Dispose() => _lock.Dispose();

    /// <summary>Appends a text or, when the disk refuses, nothing of it.</summary>
    private static void Append(string path, string text)
    {
        using var stream = new FileStream(path, FileMode.Append, FileAccess.Write, FileShare.Read, bufferSize: 0);
        var before = stream.Position;
        try
        {
            stream.Write(System.Text.Encoding.UTF8.GetBytes(text));
        }
        catch (IOException)
        {
            stream.SetLength(before);
            throw;
        }
    }

    private static long? UpdateOf(string line)
    {
        try
        {
            using var json = JsonDocument.Parse(line);
            return json.RootElement.GetProperty("update").GetInt64();
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException)
        {
            return null;
        }
    }

    private static RunFolder Open(string path)
    {
        try
        {
            var runs = Path.GetDirectoryName(path)!;
            var madeRuns = !Directory.Exists(runs);
            Directory.CreateDirectory(path);
            return new RunFolder(
                path,
                new FileStream(
                    Path.Combine(path, LockName), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, 1,
                        FileOptions.DeleteOnClose),
                madeRuns);
        }
        catch (IOException e) when (e.HResult is LockedOnUnix or LockedOnWindows)
        {
            throw new UserErrorException($"another mem1 is running in {path}: wait for it, or choose another --name.", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new UserErrorException($"the run folder {path} cannot be used ({e.Message.TrimEnd('.')}).", e);
        }
    }
}
