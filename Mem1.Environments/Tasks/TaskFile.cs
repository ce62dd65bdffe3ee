// Invariants: ids are unique; every objective has at least one golden answer; a file holds questions or composed tasks, never both; the
// split of an id never depends on the rest of the file (save for files of a few tasks, where each part is made to hold one).

using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Mem1.Environments.Common;
using Mem1.Environments.Scoring;

namespace Mem1.Environments.Tasks;

/// <summary>Which part of a task file is meant.</summary>
public enum TaskSplit
{
    /// <summary>Every task.</summary>
    All,
    /// <summary>Tasks to train on.</summary>
    Train,
    /// <summary>Tasks that training never sees.</summary>
    HeldOut,
}

/// <summary>A line of a task file.</summary>
/// <param name="Task">The task; one objective if the file holds single questions.</param>
/// <param name="Weight">How often it is drawn in comparison with the others; above 0.</param>
public sealed record TaskEntry(EnvironmentTask Task, double Weight);

/// <summary>
/// A task file (JSON Lines, gzip or not). Its lines are single questions, {"id", "question", "golden_answers"}, from which tasks are
/// composed as a run goes on, or composed tasks, {"id", "objectives": [{"id", "question", "golden_answers"}, ...]}, which are asked as
/// they stand. Both may have a "weight"; other fields are not read.
/// </summary>
public sealed class TaskFile
{
    /// <summary>Most objectives of a task.</summary>
    public const int MaxObjectives = 64;

    private const string Expected =
        "every line needs the fields \"id\", \"question\" and \"golden_answers\", or \"id\" and \"objectives\" if it is a composed task";

    private TaskFile(string path, bool composed, IReadOnlyList<TaskEntry> entries)
    {
        Path = path;
        IsComposed = composed;
        Entries = entries;
        Objectives = [.. entries.SelectMany(e => e.Task.Objectives)];
        Unanswerable =
        [
            .. Objectives.Where(o => o.GoldenAnswers.All(g => AnswerNormalizer.Normalize(g).Length == 0)).Select(o => o.Id),
        ];
    }

    /// <summary>Where it was read from.</summary>
    public string Path { get; }

    /// <summary>Whether the lines are composed tasks, else single questions.</summary>
    public bool IsComposed { get; }

    /// <summary>The lines in file order.</summary>
    public IReadOnlyList<TaskEntry> Entries { get; }

    /// <summary>The questions in file order, those of composed tasks too.</summary>
    public IReadOnlyList<Objective> Objectives { get; }

    /// <summary>
    /// Ids of the questions whose golden answers all normalise to nothing ("The", "..."): no answer to them can score.
    /// </summary>
    public IReadOnlyList<string> Unanswerable { get; }

    /// <summary>Reads a file.</summary>
    /// <exception cref="DataFormatException">It is missing, empty or malformed.</exception>
    public static TaskFile Load(string path) => Load(path, DataStream.Open(path, "task file"));

    internal static TaskFile Load(string path, DataStream stream)
    {
        using var reader = new JsonLineReader(path, Expected, stream);
        var entries = new List<TaskEntry>();
        var ids = new Dictionary<string, long>(StringComparer.Ordinal);
        bool? composed = null;
        while (reader.Read() is { } line)
        {
            using (line)
            {
                JsonElement root = line.RootElement;
                string id = reader.Id(root, "id");
                bool isComposed = reader.TryField(root, "objectives", out JsonElement objectives);
                if ((composed ??= isComposed) != isComposed)
                    throw reader.Fault(
                        "the lines before it are of the other kind; a file holds single questions or composed tasks, not both");
                EnvironmentTask task = isComposed
                    ? new EnvironmentTask(id, Composed(new JsonPlace(path, reader.Line, "objectives", Expected, objectives)))
                    : new EnvironmentTask(
                        id, [new Objective(id, reader.Text(root, "question").Trim(), reader.Texts(root, "golden_answers"))]);
                if (!ids.TryAdd(id, reader.Line))
                    throw reader.Fault($"\"{id}\" is already the id of line {ids[id]}", "id");
                entries.Add(new TaskEntry(task, reader.Weight(root, "weight")));
            }
        }
        return composed is { } kind
            ? new TaskFile(path, kind, entries)
            : throw new DataFormatException(path, "the task file holds no tasks");
    }

    /// <summary>The lines of one part. A line's part follows from the hash of its id.</summary>
    /// <param name="split">The part.</param>
    /// <param name="heldOutFraction">Share of the lines that are held out, in [0, 1).</param>
    /// <exception cref="DataFormatException">The part holds no line.</exception>
    public IReadOnlyList<TaskEntry> Part(TaskSplit split, double heldOutFraction)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(heldOutFraction);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(heldOutFraction, 1);
        if (split == TaskSplit.All)
            return Entries;
        // Each number of objectives is split by itself, so that both parts have tasks of every number.
        var limits = Entries.GroupBy(e => e.Task.Objectives.Count).ToDictionary(g => g.Key, g => Limit([.. g], heldOutFraction));
        TaskEntry[] part =
        [
            .. Entries.Where(e => Place(e.Task.Id) < limits[e.Task.Objectives.Count] == (split == TaskSplit.HeldOut)),
        ];
        return part.Length > 0
            ? part
            : throw new DataFormatException(
                Path,
                string.Create(
                    CultureInfo.InvariantCulture,
                    $"with {heldOutFraction} of its {Entries.Count} tasks held out the "
                    + $"{(split == TaskSplit.HeldOut ? "held-out" : "training")} "
                    + $"part is empty; add tasks or change environment.held_out_fraction (0 evaluates on the training tasks)"));
    }

    /// <summary>The tasks of one part as an endless sequence.</summary>
    /// <param name="name">First part of the tasks' ids.</param>
    /// <param name="split">The part.</param>
    /// <param name="heldOutFraction">Share of the lines that are held out, in [0, 1).</param>
    /// <exception cref="DataFormatException">The part holds no line.</exception>
    public ITaskSource Source(string name, TaskSplit split, double heldOutFraction)
    {
        IReadOnlyList<TaskEntry> part = Part(split, heldOutFraction);
        return IsComposed
            ? new ComposedTaskSource(name, part)
            : new CompositeTaskSource(name, [.. part.Select(e => e.Task.Objectives[0])], [.. part.Select(e => e.Weight)]);
    }

    private static Objective[] Composed(JsonPlace list)
    {
        Objective[] objectives =
        [
            .. list.Items().Select(o =>
            {
                string[] golden = [.. o.Items("golden_answers").Select(g => g.Text())];
                return golden.Length > 0
                    ? new Objective(o.Text("id"), o.Text("question").Trim(), golden)
                    : throw o.Field("golden_answers").Fault("the list is empty");
            }).Take(MaxObjectives + 1),
        ];
        return objectives.Length switch
        {
            0 => throw list.Fault("the list is empty"),
            > MaxObjectives => throw list.Fault($"a task has at most {MaxObjectives} objectives"),
            _ => objectives,
        };
    }

    /// <summary>The place below which a line is held out.</summary>
    private static double Limit(TaskEntry[] entries, double heldOutFraction)
    {
        if (entries.Length < 2 || heldOutFraction == 0)
            return heldOutFraction;
        // Neither part may be empty when both are asked for: at worst one line goes to each.
        double[] sorted = [.. entries.Select(e => Place(e.Task.Id)).Order()];
        return Math.Clamp(heldOutFraction, Math.BitIncrement(sorted[0]), sorted[^1]);
    }

    /// <summary>A number in [0, 1) that depends on the id alone.</summary>
    internal static double Place(string id) =>
        (BitConverter.ToUInt64(SHA256.HashData(Encoding.UTF8.GetBytes(id))) >> 11) * (1.0 / (1UL << 53));
}
