// Invariants: ids are unique; every question has at least one golden answer; the split of an id never depends on the rest of the file
// (save for files of a few tasks, where each part is made to hold one).

using System.Security.Cryptography;
using System.Text;
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

/// <summary>The questions of a task file (JSON Lines, each line {"id", "question", "golden_answers"}).</summary>
public sealed class TaskFile
{
    private TaskFile(string path, IReadOnlyList<Objective> objectives)
    {
        Path = path;
        Objectives = objectives;
        Unanswerable =
        [
            .. objectives.Where(o => o.GoldenAnswers.All(g => AnswerNormalizer.Normalize(g).Length == 0)).Select(o => o.Id),
        ];
    }

    /// <summary>Where it was read from.</summary>
    public string Path { get; }

    /// <summary>The questions in file order.</summary>
    public IReadOnlyList<Objective> Objectives { get; }

    /// <summary>
    /// Ids of the questions whose golden answers all normalise to nothing ("The", "..."): no answer to them can score.
    /// </summary>
    public IReadOnlyList<string> Unanswerable { get; }

    /// <summary>Reads a file.</summary>
    /// <exception cref="DataFormatException">It is missing, empty or malformed.</exception>
    public static TaskFile Load(string path)
    {
        using var reader = new JsonLineReader(
            path, "task file", "every line needs the fields \"id\", \"question\" and \"golden_answers\"");
        var objectives = new List<Objective>();
        var lines = new Dictionary<string, long>(StringComparer.Ordinal);
        while (reader.Read() is { } line)
        {
            using (line)
            {
                var objective = new Objective(
                    reader.Id(line.RootElement, "id"),
                    reader.Text(line.RootElement, "question").Trim(),
                    reader.Texts(line.RootElement, "golden_answers"));
                if (!lines.TryAdd(objective.Id, reader.Line))
                    throw reader.Fault($"\"{objective.Id}\" is already the id of line {lines[objective.Id]}", "id");
                objectives.Add(objective);
            }
        }
        return objectives.Count > 0 ? new TaskFile(path, objectives) : throw new DataFormatException(path, "the task file holds no tasks");
    }

    /// <summary>The questions of one part. A question's part follows from the hash of its id.</summary>
    /// <param name="split">The part.</param>
    /// <param name="heldOutFraction">Share of questions that are held out, in [0, 1).</param>
    /// <exception cref="DataFormatException">The part holds no question.</exception>
    public IReadOnlyList<Objective> Part(TaskSplit split, double heldOutFraction)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(heldOutFraction);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(heldOutFraction, 1);
        if (split == TaskSplit.All)
            return Objectives;
        double[] places = [.. Objectives.Select(o => Place(o.Id))];
        double limit = heldOutFraction;
        if (Objectives.Count > 1 && heldOutFraction > 0)
        {
            // Neither part may be empty when both are asked for: at worst one question goes to each.
            double[] sorted = [.. places.Order()];
            limit = Math.Clamp(limit, Math.BitIncrement(sorted[0]), sorted[^1]);
        }
        Objective[] part = [.. Objectives.Where((_, i) => places[i] < limit == (split == TaskSplit.HeldOut))];
        return part.Length > 0
            ? part
            : throw new DataFormatException(
                Path, $"the {(split == TaskSplit.HeldOut ? "held-out" : "training")} part of its {Objectives.Count} tasks is empty: "
                + "add tasks, or hold out none (environment.held_out_fraction=0)");
    }

    /// <summary>A number in [0, 1) that depends on the id alone.</summary>
    private static double Place(string id) =>
        (BitConverter.ToUInt64(SHA256.HashData(Encoding.UTF8.GetBytes(id))) >> 11) * (1.0 / (1UL << 53));
}
