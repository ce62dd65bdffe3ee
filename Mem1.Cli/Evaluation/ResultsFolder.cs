// Keeps: results.jsonl holds whole rows, each on the disk before the next is written, and no episode twice; a row that a crash cut short is
// dropped on resume. One process at a time writes to a folder. A finished evaluation's rows are in order: agent, objectives, episode.
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using Mem1.Model.Checkpoints;

namespace Mem1.Cli.Evaluation;

/// <summary>The folder of an evaluation.</summary>
internal sealed class ResultsFolder : IDisposable
{
    private const string RowsName = "results.jsonl", SettingsName = "settings.json", LockName = ".lock";

    private static readonly JsonSerializerOptions s_json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        WriteIndented = true,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        RespectRequiredConstructorParameters = true,
        NewLine = "\n",
    };

    private readonly Dictionary<(string, int, int), EpisodeRecord> _rows = [];
    private readonly FileStream _lock;
    private readonly Lock _writing = new();
    private FileStream? _append;

    private ResultsFolder(string path, FileStream @lock) => (FullPath, _lock) = (path, @lock);

    /// <summary>Where.</summary>
    public string FullPath { get; }

    /// <summary>Rows so far.</summary>
    public IReadOnlyCollection<EpisodeRecord> Rows => _rows.Values;

    /// <summary>Opens a folder.</summary>
    /// <param name="path">Made if need be.</param>
    /// <param name="settings">What is evaluated.</param>
    /// <param name="resume">Go on with the rows in it, which must be of the same settings; otherwise there may be none.</param>
    /// <exception cref="UserErrorException">There are rows and no resume, or they are of something else, or another process is at it.</exception>
    public static ResultsFolder Open(string path, EvaluationSettings settings, bool resume)
    {
        Directory.CreateDirectory(path);
        FileStream held;
        try
        {
            held = new FileStream(
                Path.Combine(path, LockName), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, 1, FileOptions.DeleteOnClose);
        }
        catch (IOException e)
        {
            throw new UserErrorException($"another mem1 writes to {path} ({e.Message.TrimEnd('.')}): wait for it, or choose another --out.", e);
        }

        var folder = new ResultsFolder(path, held);
        try
        {
            folder.Load(settings, resume);
            return folder;
        }
        catch
        {
            folder.Dispose();
            throw;
        }
    }

    /// <summary>The row of an episode; null when it is not there.</summary>
    public EpisodeRecord? Find(string agent, int objectives, int episode)
    {
        lock (_writing) return _rows.GetValueOrDefault((agent, objectives, episode));
    }

    /// <summary>Adds a row, or puts it in the place of an older one of the same episode. Thread-safe.</summary>
    public void Add(EpisodeRecord row)
    {
        var line = Encoding.UTF8.GetBytes(row.ToJson() + "\n");
        lock (_writing)
        {
            _append!.Write(line);
            _append.Flush(flushToDisk: true);
            _rows[row.Key] = row; // of two lines the later counts, here and when the file is read
        }
    }

    /// <summary>Puts the rows in order; nothing can be added any more.</summary>
    /// <param name="agents">Their order; rows of others come last.</param>
    public void Finish(IReadOnlyList<string> agents)
    {
        lock (_writing)
        {
            _append!.Dispose();
            _append = null;
            var order = agents.Select((a, i) => (a, i)).ToDictionary(p => p.a, p => p.i, StringComparer.Ordinal);
            var sorted = _rows.Values.OrderBy(r => order.GetValueOrDefault(r.Agent, agents.Count)).ThenBy(r => r.Agent, StringComparer.Ordinal)
                .ThenBy(r => r.Objectives).ThenBy(r => r.Episode);
            AtomicFile.WriteText(Path.Combine(FullPath, RowsName), string.Concat(sorted.Select(r => r.ToJson() + "\n")));
        }
    }

    public void Dispose()
    {
        _append?.Dispose();
        _lock.Dispose();
    }

    /// <summary>The settings of an evaluation that nobody is writing to.</summary>
    /// <exception cref="UserErrorException">They cannot be read.</exception>
    public static EvaluationSettings ReadSettings(string path) => Settings(Path.Combine(path, SettingsName))
        ?? throw new UserErrorException($"{Path.Combine(path, SettingsName)} cannot be read.");

    /// <summary>The rows of an evaluation that nobody is writing to.</summary>
    /// <exception cref="UserErrorException">One of them is no row.</exception>
    public static IReadOnlyList<EpisodeRecord> ReadRows(string path)
    {
        var rows = Path.Combine(path, RowsName);
        return Parse(rows, File.ReadAllText(rows));
    }

    private void Load(EvaluationSettings settings, bool resume)
    {
        string rows = Path.Combine(FullPath, RowsName), about = Path.Combine(FullPath, SettingsName);
        if (File.Exists(rows) && new FileInfo(rows).Length > 0)
        {
            if (!resume)
                throw new UserErrorException($"{rows} has results already: go on with --resume, or choose another --out.");
            Check(about, settings);
            var lines = File.ReadAllText(rows);
            var whole = lines[..(lines.LastIndexOf('\n') + 1)];
            foreach (var row in Parse(rows, whole)) _rows[row.Key] = row;
            if (whole.Length != lines.Length) AtomicFile.WriteText(rows, whole);
        }

        AtomicFile.WriteText(about, JsonSerializer.Serialize(settings, s_json) + "\n");
        _append = new FileStream(rows, FileMode.Append, FileAccess.Write, FileShare.Read, 1);
    }

    private static IReadOnlyList<EpisodeRecord> Parse(string path, string lines) =>
    [
        .. lines.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select((line, i) => EpisodeRecord.FromJson(line)
            ?? throw new UserErrorException($"{path}, line {i + 1}, is no row of an evaluation: remove it and resume again.")),
    ];

    /// <summary>Null when there are none that can be read.</summary>
    private static EvaluationSettings? Settings(string about)
    {
        try
        {
            return File.Exists(about) ? JsonSerializer.Deserialize<EvaluationSettings>(File.ReadAllText(about), s_json) : null;
        }
        catch (JsonException)
        {
            return null;
        }
    }

    private static void Check(string about, EvaluationSettings settings)
    {
        var before = Settings(about);
        if (before is null) throw new UserErrorException($"{about} cannot be read, so its results cannot be gone on with; choose another --out.");
        if (before == settings) return;
        var differing = typeof(EvaluationSettings).GetProperties().First(p => !Equals(p.GetValue(before), p.GetValue(settings)));
        throw new UserErrorException(
            $"the results in {Path.GetDirectoryName(about)} are of another evaluation ({JsonNamingPolicy.SnakeCaseLower.ConvertName(differing.Name)} "
            + $"was {differing.GetValue(before) ?? "none"}, now {differing.GetValue(settings) ?? "none"}): choose another --out.");
    }
}
