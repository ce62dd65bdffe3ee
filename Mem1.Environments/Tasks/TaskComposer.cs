// Invariants: every question of the sources stands in at most one task, so the two output files share none; which file a question goes
// to depends on its source and id alone; the same sources, options and seed give the same bytes; all outputs are complete or untouched.

using Mem1.Environments.Common;
using Mem1.Environments.Data;

namespace Mem1.Environments.Tasks;

/// <summary>A file of questions.</summary>
/// <param name="Format">Its format.</param>
/// <param name="Path">Where it is; gzip or not.</param>
public sealed record QuestionSource(DataSetFormat Format, string Path);

/// <summary>How questions become tasks.</summary>
public sealed record TaskComposition
{
    /// <summary>Objectives of every task, 1 to <see cref="TaskFile.MaxObjectives"/>.</summary>
    public int Objectives { get; init; } = 2;

    /// <summary>
    /// Draws the questions of a task from all sources together; implies shuffling. Otherwise a task's questions are of one source.
    /// </summary>
    public bool Mix { get; init; }

    /// <summary>Shuffles the questions first; otherwise a task is a run of consecutive questions, as in the original.</summary>
    public bool Shuffle { get; init; }

    /// <summary>Seed of shuffling.</summary>
    public ulong Seed { get; init; } = 1;

    /// <summary>Share of the questions that go to the held-out file; 0 without one.</summary>
    public double HeldOutFraction { get; init; }

    /// <summary>Every contradiction in these options; empty when they are sound.</summary>
    public IReadOnlyList<string> Validate() => new Checks()
        .Require(Objectives is >= 1 and <= TaskFile.MaxObjectives, $"objectives is {Objectives} but must be 1 to {TaskFile.MaxObjectives}")
        .Require(HeldOutFraction is >= 0 and < 1, $"the held-out fraction is {HeldOutFraction} but must be in [0, 1)")
        .Problems;
}

/// <summary>What a composition wrote.</summary>
/// <param name="Training">Tasks in the first file.</param>
/// <param name="HeldOut">Tasks in the held-out file.</param>
/// <param name="Questions">Questions read.</param>
/// <param name="LeftOver">Questions left out at the ends, because fewer than a task's number were left.</param>
/// <param name="WithSeparator">Questions with a golden answer that holds the separator of answers.</param>
public sealed record ComposedTasks(int Training, int HeldOut, int Questions, int LeftOver, int WithSeparator);

/// <summary>Composes multi-objective tasks from question files (MEM1, section 4.1).</summary>
public static class TaskComposer
{
    // Between the questions of a task, in the text that is kept for other programs.
    private const string Joint = "; ";

    /// <summary>
    /// Composes and writes. A task is N questions; what is left over at the end of a source (of all of them, when mixed) is dropped, as in
    /// the original. A question mark is put at the end of a question unless there is one. Every line lists its objectives with their own
    /// golden answers, so nothing has to be split again, and has their questions joined by "; " as text for other programs.
    /// </summary>
    /// <param name="sources">Question files; not empty.</param>
    /// <param name="options">How.</param>
    /// <param name="output">Task file to write; replaced if it exists.</param>
    /// <param name="heldOut">File of the held-out tasks; given exactly when the held-out fraction is above 0.</param>
    /// <exception cref="DataFormatException">A source is missing or malformed, or has too few questions; nothing was written.</exception>
    /// <exception cref="IOException">An output file cannot be written.</exception>
    /// <exception cref="ArgumentException">The options contradict themselves, or two paths are the same.</exception>
    public static ComposedTasks Compose(
        IReadOnlyList<QuestionSource> sources, TaskComposition options, string output, string? heldOut = null)
    {
        ArgumentOutOfRangeException.ThrowIfZero(sources.Count, nameof(sources));
        Checks.Demand(options.Validate(), nameof(options));
        if (heldOut is null != (options.HeldOutFraction == 0))
            throw new ArgumentException("A held-out file and a held-out fraction above 0 go together.", nameof(heldOut));
        string[] paths =
            [.. sources.Select(s => s.Path).Append(output).Append(heldOut!).Where(p => p is not null).Select(Path.GetFullPath)];
        if (paths.Distinct(StringComparer.Ordinal).Count() < paths.Length)
            throw new ArgumentException("The sources and the files to write must all be different files.");

        List<Group> groups = [.. Names(sources).Zip(sources, (name, source) => new Group(name, source.Path, Read(name, source)))];
        int questions = groups.Sum(g => g.Questions.Count);
        int separators = groups.Sum(g => g.Questions.Count(
            q => q.Objective.GoldenAnswers.Any(a => a.Contains(Scoring.AnswerScorer.Separator, StringComparison.Ordinal))));
        if (options.Mix)
            groups = [new Group("mix", string.Join(", ", sources.Select(s => s.Path)), [.. groups.SelectMany(g => g.Questions)])];

        bool IsHeldOut(QuestionItem q) => TaskFile.Place(q.Objective.Id) < options.HeldOutFraction;
        List<TaskEntry> training = Cut(groups, options, 0, q => !IsHeldOut(q), "training");
        List<TaskEntry> held = heldOut is null ? [] : Cut(groups, options, 1, IsHeldOut, "held-out");
        if (heldOut is null)
            UserFile.WriteWhole((output, s => Write(s, training)));
        else
            UserFile.WriteWhole((output, s => Write(s, training)), (heldOut, s => Write(s, held)));
        return new ComposedTasks(
            training.Count, held.Count, questions, questions - ((training.Count + held.Count) * options.Objectives), separators);
    }

    /// <summary>The text of a question with a question mark at its end.</summary>
    internal static string Asked(string question) => question.EndsWith('?') ? question : question + "?";

    // A question's id is unique in its file only; the file's name before it makes it unique among several.
    private static IEnumerable<string> Names(IReadOnlyList<QuestionSource> sources)
    {
        var used = new HashSet<string>(StringComparer.Ordinal);
        foreach (QuestionSource source in sources)
        {
            string stem = Path.GetFileName(source.Path).Split('.')[0], name = stem;
            for (int n = 2; !used.Add(name); n++)
                name = $"{stem}-{n}";
            yield return name;
        }
    }

    private static List<QuestionItem> Read(string name, QuestionSource source)
    {
        List<QuestionItem> questions =
        [
            .. DataSetFormats.Read(source.Format, source.Path).OfType<QuestionItem>().Select(q => q with
            {
                Objective = q.Objective with { Id = $"{name}/{q.Objective.Id}", Question = Asked(q.Objective.Question) },
            }),
        ];
        return questions.Count > 0 ? questions : throw new DataFormatException(source.Path, "the file holds no answerable question");
    }

    private static List<TaskEntry> Cut(
        List<Group> groups, TaskComposition options, ulong part, Func<QuestionItem, bool> belongs, string partName)
    {
        var tasks = new List<TaskEntry>();
        foreach ((Group group, int number) in groups.Select((g, i) => (g, i)))
        {
            QuestionItem[] questions = [.. group.Questions.Where(belongs)];
            if (options.Shuffle || options.Mix)
                new SeededRandom(options.Seed, (ulong)number, part).Shuffle<QuestionItem>(questions);
            if (questions.Length < options.Objectives)
            {
                throw new DataFormatException(
                    group.Path, $"its {questions.Length} {partName} questions do not make one task of {options.Objectives} objectives");
            }
            IEnumerable<QuestionItem[]> whole = questions.Chunk(options.Objectives).Where(c => c.Length == options.Objectives);
            tasks.AddRange(whole.Select((chunk, k) => new TaskEntry(
                new EnvironmentTask($"{group.Name}-{(part == 0 ? "" : "h")}{k}", [.. chunk.Select(q => q.Objective)]),
                chunk.Average(q => q.Weight))));
        }
        return tasks;
    }

    private static void Write(Stream stream, List<TaskEntry> tasks)
    {
        using var json = new DataSetConverter.JsonLineWriter(stream);
        foreach (TaskEntry entry in tasks)
        {
            json.Write(w =>
            {
                w.WriteString("id", entry.Task.Id);
                w.WriteString("question", string.Join(Joint, entry.Task.Objectives.Select(o => o.Question)));
                w.WriteStartArray("objectives");
                foreach (Objective objective in entry.Task.Objectives)
                {
                    w.WriteStartObject();
                    DataSetConverter.TaskLine(w, objective);
                    w.WriteEndObject();
                }
                w.WriteEndArray();
                if (entry.Weight != 1)
                    w.WriteNumber("weight", entry.Weight);
            });
        }
    }

    private sealed record Group(string Name, string Path, List<QuestionItem> Questions);
}
