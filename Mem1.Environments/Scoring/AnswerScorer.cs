// Invariants: only the text handed in is scored (the agent's own final answer); order matters: answer k is compared with objective k;
// an answer that normalises to nothing never matches; every score lies in [0, 1]; a golden answer with the separator in it can be given
// with a comma in its place (punctuation does not count; the prompt says so) or as it stands.

using Mem1.Environments.Common;

namespace Mem1.Environments.Scoring;

/// <summary>What the exact matches of an episode pay.</summary>
public enum RewardKind
{
    /// <summary>The fraction of objectives answered exactly: 0 to 1 for any number of objectives.</summary>
    Mean,
    /// <summary>The number of objectives answered exactly: 0 to N (what MEM1 was trained with).</summary>
    Count,
}

/// <summary>How answers become a reward.</summary>
public sealed record RewardOptions
{
    /// <summary>Mean or number of exact matches.</summary>
    public RewardKind Kind { get; init; } = RewardKind.Mean;

    /// <summary>Whether some right answers pay when others are wrong; otherwise all must be right.</summary>
    public bool PartialCredit { get; init; } = true;

    /// <summary>Every contradiction in these options; empty when they are sound.</summary>
    public IReadOnlyList<string> Validate() => new Checks()
        .Require(Enum.IsDefined(Kind), $"reward.kind is {Kind} but must be mean or count")
        .Problems;

    /// <summary>The reward of some exact matches.</summary>
    /// <param name="exactMatch">0 or 1 per objective; not empty.</param>
    public double Reward(IReadOnlyList<double> exactMatch)
    {
        double sum = exactMatch.Sum();
        if (!PartialCredit && sum < exactMatch.Count)
            return 0;
        return Kind == RewardKind.Count ? sum : sum / exactMatch.Count;
    }
}

/// <summary>The scores of one final answer.</summary>
/// <param name="ExactMatch">0 or 1 per objective.</param>
/// <param name="F1">Token F1 per objective, in [0, 1].</param>
/// <param name="AnswerCount">How many answers were given; another number than that of the objectives is a mismatch.</param>
public sealed record AnswerScore(IReadOnlyList<double> ExactMatch, IReadOnlyList<double> F1, int AnswerCount);

/// <summary>Compares a final answer with the golden answers of a task.</summary>
public static class AnswerScorer
{
    /// <summary>Separates the answers to several objectives.</summary>
    public const char Separator = ';';

    /// <summary>
    /// Splits a final answer. Several objectives: at semicolons, each part trimmed, empty parts at the end dropped (those before it
    /// hold their place). One objective: the whole text is its answer.
    /// </summary>
    /// <param name="answer">The text between the answer tags, or null when there was none.</param>
    /// <param name="objectives">Number of objectives asked.</param>
    public static IReadOnlyList<string> Split(string? answer, int objectives)
    {
        if (answer is null)
            return [];
        if (objectives == 1)
        {
            string whole = answer.Trim().TrimEnd(Separator, ' ', '\t', '\r', '\n');
            return whole.Length == 0 ? [] : [whole];
        }
        List<string> parts = [.. answer.Split(Separator).Select(p => p.Trim())];
        while (parts.Count > 0 && parts[^1].Length == 0)
            parts.RemoveAt(parts.Count - 1);
        return parts;
    }

    /// <summary>
    /// Scores a final answer: objective k by answer k against the best of its golden answers. Missing answers score 0, extra ones are
    /// not read.
    /// </summary>
    /// <param name="answer">The text between the answer tags, or null when there was none.</param>
    /// <param name="objectives">The objectives in the order they were asked.</param>
    public static AnswerScore Score(string? answer, IReadOnlyList<Objective> objectives)
    {
        IReadOnlyList<string> given = Given(answer, objectives);
        var exact = new double[objectives.Count];
        var f1 = new double[objectives.Count];
        for (int k = 0; k < Math.Min(given.Count, objectives.Count); k++)
        {
            exact[k] = ExactMatch(given[k], objectives[k].GoldenAnswers);
            f1[k] = F1(given[k], objectives[k].GoldenAnswers);
        }
        return new AnswerScore(exact, f1, given.Count);
    }

    /// <summary>The answers that a final answer gives, one after the other; there may be fewer or more than objectives.</summary>
    internal static IReadOnlyList<string> Given(string? answer, IReadOnlyList<Objective> objectives) =>
        Rejoined(Split(answer, objectives.Count), objectives);

    /// <summary>
    /// Undoes the cut through an answer that holds the separator itself: where a golden answer of objective k holds it and equals the
    /// next parts put together again, those are its answer. Only a right answer can be put together, so nothing is won by more parts.
    /// </summary>
    private static IReadOnlyList<string> Rejoined(IReadOnlyList<string> parts, IReadOnlyList<Objective> objectives)
    {
        if (objectives.Count == 1 || !objectives.Any(o => o.GoldenAnswers.Any(g => g.Contains(Separator, StringComparison.Ordinal))))
            return parts;
        var answers = new List<string>(parts.Count);
        for (int at = 0; at < parts.Count;)
        {
            int taken = 1;
            if (answers.Count < objectives.Count)
            {
                IReadOnlyList<string> golden = objectives[answers.Count].GoldenAnswers;
                // Separators at the end of the whole answer are dropped by Split, so a golden answer that ends in one has fewer parts.
                IEnumerable<int> lengths = golden.Select(g => g.TrimEnd(Separator, ' ').Count(c => c == Separator) + 1).Distinct();
                taken = lengths.Where(n => n > 1 && at + n <= parts.Count).OrderDescending()
                    .FirstOrDefault(n => ExactMatch(string.Join($"{Separator} ", parts.Skip(at).Take(n)), golden) == 1
                        || ExactMatch(string.Join(Separator, parts.Skip(at).Take(n)), golden) == 1, 1);
            }
            answers.Add(taken == 1 ? parts[at] : Joined(parts, at, taken, objectives[answers.Count].GoldenAnswers));
            at += taken;
        }
        return answers;
    }

    // Whether a space follows the separator matters to the normaliser, which glues what punctuation alone held apart.
    private static string Joined(IReadOnlyList<string> parts, int at, int count, IReadOnlyList<string> golden)
    {
        string spaced = string.Join($"{Separator} ", parts.Skip(at).Take(count));
        return ExactMatch(spaced, golden) == 1 ? spaced : string.Join(Separator, parts.Skip(at).Take(count));
    }

    /// <summary>1 when the answer equals one of the golden answers after normalising and is not empty then; else 0.</summary>
    public static double ExactMatch(string answer, IEnumerable<string> golden)
    {
        string normalized = AnswerNormalizer.Normalize(answer);
        return normalized.Length > 0 && golden.Any(g => AnswerNormalizer.Normalize(g) == normalized) ? 1 : 0;
    }

    /// <summary>The best F1 over the golden answers, of the multisets of words after normalising (SQuAD v1.1).</summary>
    public static double F1(string answer, IEnumerable<string> golden)
    {
        string[] words = AnswerNormalizer.Words(AnswerNormalizer.Normalize(answer));
        return golden.Select(g => F1(words, AnswerNormalizer.Words(AnswerNormalizer.Normalize(g)))).DefaultIfEmpty(0).Max();
    }

    private static double F1(string[] given, string[] golden)
    {
        var left = golden.GroupBy(w => w, StringComparer.Ordinal).ToDictionary(g => g.Key, g => g.Count(), StringComparer.Ordinal);
        int common = 0;
        foreach (string word in given)
        {
            if (left.TryGetValue(word, out int count) && count > 0)
            {
                left[word] = count - 1;
                common++;
            }
        }
        if (common == 0)
            return 0;
        double precision = (double)common / given.Length, recall = (double)common / golden.Length;
        return 2 * precision * recall / (precision + recall);
    }
}
