// Keeps: runs/NAME/ belongs to one process at a time (a lock file held open); metrics.jsonl and trajectories.jsonl hold each update once,
// also after a resume from an earlier checkpoint (later lines are cut off first).
using System.Text.Encodings.Web;
using System.Text.Json;
using Mem1.Cli.Configuration;
using Mem1.Learner;
using Mem1.Model;
using Mem1.Model.Checkpoints;

namespace Mem1.Cli.Training;

/// <summary>Files of one run.</summary>
internal sealed class RunFolder : IDisposable
{
    private static readonly JsonSerializerOptions Readable = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    private readonly FileStream _lock;

    private RunFolder(string path, FileStream @lock) => (FullPath, _lock) = (path, @lock);

    public string FullPath { get; }

    public string Checkpoints => Path.Combine(FullPath, "checkpoints");

    public string ConfigPath => Path.Combine(FullPath, "config.yaml");

    public string PlotPath => Path.Combine(FullPath, "reward.svg");

    private string MetricsPath => Path.Combine(FullPath, "metrics.jsonl");

    private string TrajectoriesPath => Path.Combine(FullPath, "trajectories.jsonl");

    /// <summary>Opens a new folder. A name the user chose must be free; the default name takes a number when it is not.</summary>
    public static RunFolder Create(string runs, string name, bool chosen)
    {
        for (var n = 1; ; n++)
        {
            var path = Path.GetFullPath(Path.Combine(runs, n == 1 ? name : $"{name}-{n}"));
            if (Directory.Exists(path) && Directory.EnumerateFileSystemEntries(path).Any())
            {
                if (chosen)
                    throw new UserErrorException($"The run folder {path} is not empty: go on with --resume {name}, or choose another --name.");
                continue;
            }

            return Open(path);
        }
    }

    /// <summary>Opens the folder of a run to go on with: by name, or the one last written to.</summary>
    public static RunFolder Resume(string runs, string? name)
    {
        if (name is null)
        {
            var latest = !Directory.Exists(runs) ? null : Directory.EnumerateDirectories(runs)
                .Where(d => File.Exists(Path.Combine(d, "config.yaml"))).MaxBy(d => Directory.GetLastWriteTimeUtc(Path.Combine(d)));
            return Open(latest ?? throw new UserErrorException($"There is no run to resume in {Path.GetFullPath(runs)}."));
        }

        var path = Path.GetFullPath(Path.Combine(runs, name));
        if (!File.Exists(Path.Combine(path, "config.yaml")))
            throw new UserErrorException($"There is no run to resume at {path} (no config.yaml in it).");
        return Open(path);
    }

    public void WriteConfig(RunConfig config) => AtomicFile.WriteText(ConfigPath, ConfigFile.Write(config));

    public void AppendMetrics(UpdateMetrics metrics) => File.AppendAllText(MetricsPath, metrics.ToJson() + "\n");

    /// <summary>Writes some of a batch's episodes as text, for people; tokens stay the record elsewhere.</summary>
    public void AppendTrajectories(long update, IEnumerable<Trajectory> trajectories, ITokenizer tokenizer)
    {
        using var writer = File.AppendText(TrajectoriesPath);
        foreach (var t in trajectories)
        {
            writer.WriteLine(JsonSerializer.Serialize(
                new
                {
                    Update = update,
                    t.EpisodeId,
                    t.TaskId,
                    t.Reward,
                    End = JsonNamingPolicy.SnakeCaseLower.ConvertName(t.End.ToString()),
                    t.ExactMatch,
                    t.F1,
                    t.Answer,
                    Prompt = tokenizer.Decode(t.Prompt),
                    PromptTokens = t.Prompt.Length,
                    Turns = t.Turns.Select(turn => new
                    {
                        InternalState = tokenizer.Decode(turn.Generated.AsSpan(0, turn.StateLength)),
                        Action = tokenizer.Decode(turn.Generated.AsSpan(turn.StateLength)),
                        Information = tokenizer.Decode(turn.Observation),
                        ContextTokens = turn.Context.Length,
                        GeneratedTokens = turn.Generated.Length,
                        MeanLogProb = turn.LogProbs.Average(),
                        PolicyVersion = turn.PolicyVersions.Max(),
                    }),
                },
                Readable));
        }
    }

    /// <summary>Cuts what was logged after an update: the part a resume does again.</summary>
    public void TruncateAfter(long update)
    {
        foreach (var path in new[] { MetricsPath, TrajectoriesPath })
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
                .ToDictionary(p => int.Parse(p.Name.AsSpan(3), System.Globalization.CultureInfo.InvariantCulture), p => p.Value.GetDouble());
            curve.Add((json.RootElement.GetProperty("update").GetInt64(), json.RootElement.GetProperty("reward_mean").GetDouble(), em));
        }

        return curve;
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
            Directory.CreateDirectory(path);
            return new RunFolder(path, new FileStream(
                Path.Combine(path, ".lock"), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, 1, FileOptions.DeleteOnClose));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new UserErrorException($"The run folder {path} cannot be used: {e.Message} (is another mem1 running in it?)", e);
        }
    }
}
