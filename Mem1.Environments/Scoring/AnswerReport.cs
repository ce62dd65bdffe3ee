// Invariants: every task of the file counts, answered or not; nothing here is a reward; the rules are applied to the same answers.

using Mem1.Environments.Common;
using Mem1.Environments.Tasks;

namespace Mem1.Environments.Scoring;

/// <summary>Means of one rule over tasks. A count is the sum over a task's objectives, as the literature reports it; a share is per
/// objective.</summary>
/// <param name="Count">Mean over tasks of the sum over objectives.</param>
/// <param name="Share">That sum over all tasks, divided by the number of objectives.</param>
public sealed record RuleMeans(double Count, double Share);

/// <summary>Scores of the tasks of one number of objectives, or of all tasks.</summary>
/// <param name="Tasks">How many.</param>
/// <param name="ExactMatch">Exact match.</param>
/// <param name="F1">F1 of multisets of words.</param>
public sealed record ScoredTasks(int Tasks, RuleMeans ExactMatch, RuleMeans F1);

/// <summary>The original implementation's numbers on the same answers, mistakes included.</summary>
/// <param name="Training">Exact matches by the rule of its training.</param>
/// <param name="Evaluation">Exact matches by the rule of its evaluation.</param>
/// <param name="Rollout">Exact matches by the rule of its rollout driver.</param>
/// <param name="EvaluationF1">F1 of sets of words, of its evaluation.</param>
public sealed record LegacyMeans(RuleMeans Training, RuleMeans Evaluation, RuleMeans Rollout, RuleMeans EvaluationF1);

/// <summary>What a judge model said.</summary>
/// <param name="Judged">Objectives with a verdict; an objective without an answer is a no without asking.</param>
/// <param name="NotJudged">Objectives for which no verdict was to be had; they are in no mean.</param>
/// <param name="Match">Share of the judged objectives that match.</param>
public sealed record JudgedMeans(int Judged, int NotJudged, double Match);

/// <summary>Final answers to the tasks of a file, scored.</summary>
public sealed class AnswerReport
{
    private readonly IReadOnlyList<(EnvironmentTask Task, string? Answer)> _rows;

    private AnswerReport(IReadOnlyList<(EnvironmentTask Task, string? Answer)> rows)
    {
        _rows = rows;
        (EnvironmentTask Task, AnswerScore Score)[] scored =
            [.. rows.Select(r => (r.Task, AnswerScorer.Score(r.Answer, r.Task.Objectives)))];
        All = Means(scored);
        ByObjectives = new SortedDictionary<int, ScoredTasks>(
            scored.GroupBy(r => r.Task.Objectives.Count).ToDictionary(g => g.Key, g => Means([.. g])));
        Unanswered = rows.Count(r => string.IsNullOrWhiteSpace(r.Answer));
        Mismatched = scored.Count(r => r.Score.AnswerCount > 0 && r.Score.AnswerCount != r.Task.Objectives.Count);
        Objectives = rows.Sum(r => r.Task.Objectives.Count);
    }

    /// <summary>All tasks.</summary>
    public ScoredTasks All { get; }

    /// <summary>The tasks by number of objectives.</summary>
    public IReadOnlyDictionary<int, ScoredTasks> ByObjectives { get; }

    /// <summary>Objectives of all tasks.</summary>
    public int Objectives { get; }

    /// <summary>Tasks without an answer: missing in the file, null or blank. They score 0.</summary>
    public int Unanswered { get; }

    /// <summary>Answered tasks with another number of answers than of objectives.</summary>
    public int Mismatched { get; }

    /// <summary>Reads tasks and answers.</summary>
    /// <param name="tasks">Task file: single questions or composed tasks.</param>
    /// <param name="answers">JSON Lines, gzip or not, each {"id": of a task, "answer": the text between the answer tags, or null}.</param>
    /// <exception cref="DataFormatException">
    /// A file is missing or malformed, or an answer is to no task or a second one to the same.
    /// </exception>
    public static AnswerReport Load(string tasks, string answers) =>
        Load(TaskFile.Load(tasks), answers, DataStream.Open(answers, "answer file"));

    internal static AnswerReport Load(TaskFile tasks, string path, DataStream answers)
    {
        var known = tasks.Entries.Select(e => e.Task.Id).ToHashSet(StringComparer.Ordinal);
        var given = new Dictionary<string, (string? Answer, long Line)>(StringComparer.Ordinal);
        using var reader = new JsonLineReader(path, "every line needs the fields \"id\" and \"answer\"", answers);
        while (reader.Read() is { } line)
        {
            using (line)
            {
                string id = reader.Id(line.RootElement, "id");
                if (!known.Contains(id))
                    throw reader.Fault($"\"{id}\" is the id of no task in {tasks.Path}", "id");
                if (!given.TryAdd(id, (reader.TextOrNull(line.RootElement, "answer"), reader.Line)))
                    throw reader.Fault($"\"{id}\" was already answered on line {given[id].Line}", "id");
            }
        }
        return given.Count > 0
            ? new AnswerReport([.. tasks.Entries.Select(e => (e.Task, given.GetValueOrDefault(e.Task.Id).Answer))])
            : throw new DataFormatException(path, "the answer file holds no answers");
    }

    /// <summary>The same answers by the original's rules.</summary>
    public LegacyMeans Legacy()
    {
        RuleMeans Exact(LegacyRule rule) => Mean(_rows.Select(r => LegacyScorer.ExactMatches(rule, r.Answer, r.Task.Objectives)));
        return new LegacyMeans(
            Exact(LegacyRule.Training), Exact(LegacyRule.Evaluation), Exact(LegacyRule.Rollout),
            Mean(_rows.Select(r => LegacyScorer.EvaluationF1(r.Answer, r.Task.Objectives))));
    }

    /// <summary>Asks a judge about the answer to every objective.</summary>
    /// <param name="judge">The judge.</param>
    /// <param name="progress">Told how many objectives are done, from the calling thread's continuations; null for nobody.</param>
    /// <param name="cancellationToken">Stops asking.</param>
    /// <exception cref="OperationCanceledException">The caller cancelled.</exception>
    public async Task<JudgedMeans> JudgeAsync(AnswerJudge judge, Action<int>? progress, CancellationToken cancellationToken)
    {
        JudgedAnswer[] all =
        [
            .. _rows.SelectMany(r =>
            {
                IReadOnlyList<string> answers = AnswerScorer.Given(r.Answer, r.Task.Objectives);
                return r.Task.Objectives.Select((o, k) =>
                    new JudgedAnswer(o.Question, o.GoldenAnswers, k < answers.Count ? answers[k] : ""));
            }),
        ];
        int judged = 0, matched = 0, done = 0;
        // In parts, so that there is progress to tell of.
        foreach (JudgedAnswer[] part in all.Chunk(JudgedAtOnce))
        {
            IReadOnlyList<bool?> verdicts = await judge.JudgeAsync(part, cancellationToken).ConfigureAwait(false);
            judged += verdicts.Count(v => v is not null);
            matched += verdicts.Count(v => v is true);
            progress?.Invoke(done += part.Length);
        }
        return new JudgedMeans(judged, all.Length - judged, judged == 0 ? double.NaN : (double)matched / judged);
    }

    // Some rounds of the judge's concurrency: little waiting for the slowest of a part, progress every few seconds.
    private const int JudgedAtOnce = 64;

    private static ScoredTasks Means(IReadOnlyList<(EnvironmentTask Task, AnswerScore Score)> tasks)
    {
        int objectives = tasks.Sum(t => t.Task.Objectives.Count);
        double exact = tasks.Sum(t => t.Score.ExactMatch.Sum()), f1 = tasks.Sum(t => t.Score.F1.Sum());
        return new ScoredTasks(
            tasks.Count, new RuleMeans(exact / tasks.Count, exact / objectives), new RuleMeans(f1 / tasks.Count, f1 / objectives));
    }

    private RuleMeans Mean(IEnumerable<double> counts)
    {
        double sum = counts.Sum();
        return new RuleMeans(sum / _rows.Count, sum / Objectives);
    }
}
