// Invariants: for reports alone: nothing here is ever a reward. What the original's rules get wrong is kept, because numbers that were
// reported with them can only be compared with numbers of the same rule; AnswerScorer is the rule of this program.

using System.Text;
using System.Text.RegularExpressions;

namespace Mem1.Environments.Scoring;

/// <summary>The three rules by which the original implementation of MEM1 counted exact matches.</summary>
public enum LegacyRule
{
    /// <summary>Of its training: SQuAD normalisation, answer k with objective k, missing ones 0, extra ones ignored.</summary>
    Training,
    /// <summary>
    /// Of its evaluation: punctuation becomes a space and articles stay; another number of answers than of questions scores 0.
    /// </summary>
    Evaluation,
    /// <summary>Of its rollout driver: either text within the other, first golden answer only, too few answers score 0.</summary>
    Rollout,
}

/// <summary>Scores an answer as the original implementation did.</summary>
public static partial class LegacyScorer
{
    private const string AssistantStart = "<|im_start|>assistant";

    private static readonly string[] s_webTags = ["tool_call", "think", "answer"];

    private const string Punctuation = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";

    /// <summary>How many objectives a final answer has right by a rule.</summary>
    /// <param name="rule">The rule.</param>
    /// <param name="answer">The text between the answer tags, or null when there was none.</param>
    /// <param name="objectives">The objectives in the order they were asked.</param>
    public static double ExactMatches(LegacyRule rule, string? answer, IReadOnlyList<Objective> objectives)
    {
        IReadOnlyList<string>[] golds = [.. objectives.Select(o => o.GoldenAnswers)];
        return rule switch
        {
            // The prompt's placeholder is what the original found when there was no answer.
            LegacyRule.Training => TrainingMatches(answer ?? "...", golds),
            LegacyRule.Evaluation => answer is null ? 0 : EvaluationScore($"<answer>{answer}</answer>", golds).ExactMatch,
            LegacyRule.Rollout => golds.Length == 1 ? RolloutMatchesOne(answer, golds[0]) ? 1 : 0 : RolloutMatches(answer, golds),
            _ => throw new ArgumentOutOfRangeException(nameof(rule)),
        };
    }

    /// <summary>F1 of sets of words, summed over the objectives, as the original's evaluation reports it.</summary>
    /// <param name="answer">The text between the answer tags, or null when there was none.</param>
    /// <param name="objectives">The objectives in the order they were asked.</param>
    public static double EvaluationF1(string? answer, IReadOnlyList<Objective> objectives) =>
        answer is null ? 0 : EvaluationScore($"<answer>{answer}</answer>", [.. objectives.Select(o => o.GoldenAnswers)]).F1;

    /// <summary>
    /// The answer that training found in a whole transcript, prompt included: the last answer block if there are at least two, the first
    /// being the prompt's own; else null.
    /// </summary>
    internal static string? ExtractTraining(string transcript)
    {
        MatchCollection blocks = AnswerBlock().Matches(transcript);
        return blocks.Count <= 1 ? null : blocks[^1].Groups[1].Value.Trim();
    }

    /// <summary>Count of matches of training (qa_multiple).</summary>
    internal static double TrainingMatches(string answer, IReadOnlyList<IReadOnlyList<string>> golds) =>
        answer.Split(';').Zip(golds).Count(p => p.Second.Any(
            g => AnswerNormalizer.Normalize(g) == AnswerNormalizer.Normalize(p.First)));

    /// <summary>
    /// Count of matches of training for a file of single questions, whose golden answers are not lists of lists: it compared the answer
    /// with the single characters of the first golden answer (and a second answer with those of the second).
    /// </summary>
    internal static double TrainingMatchesOfOne(string answer, IReadOnlyList<string> golden) =>
        TrainingMatches(answer, [.. golden.Select(g => (string[])[.. g.Select(c => c.ToString())])]);

    /// <summary>
    /// Score of a whole transcript, prompt included, by the rule for single questions that training had but did not use (qa_em).
    /// </summary>
    /// <param name="transcript">The text.</param>
    /// <param name="golden">Golden answers of the one question.</param>
    /// <param name="within">Whether a golden answer within the answer is enough (subem).</param>
    internal static double SingleScore(string transcript, IReadOnlyList<string> golden, bool within = false)
    {
        if (ExtractTraining(transcript) is not { } answer)
            return 0;
        return within ? IsWithin(answer, golden) ? 1 : 0
            : golden.Any(g => AnswerNormalizer.Normalize(g) == AnswerNormalizer.Normalize(answer)) ? 1 : 0;
    }

    /// <summary>
    /// Reward of a transcript in training on web search: F1 of sets of words of the first answer after the last start of an assistant
    /// message. The transcript is lower-cased and the golden answers are not, so one with a capital letter never matches.
    /// </summary>
    internal static double WebSearchF1(string transcript, IReadOnlyList<string> golden)
    {
        string text = transcript.ToLowerInvariant();
        text = text[(text.LastIndexOf(AssistantStart, StringComparison.Ordinal) is >= 0 and var at ? at + AssistantStart.Length : 0)..];
        if (!s_webTags.All(tag => Pairs(text, tag) >= 0) || AnswerBlock().Match(text) is not { Success: true } block)
            return 0;
        string answer = Spaced(block.Groups[1].Value);
        return golden.Max(g => SetF1(answer, Spaced(g)));
    }

    /// <summary>Whether a golden answer is within the answer, both normalised; words may be cut anywhere (subem).</summary>
    internal static bool IsWithin(string answer, IEnumerable<string> golden)
    {
        string normalized = AnswerNormalizer.Normalize(answer);
        return golden.Any(g => normalized.Contains(AnswerNormalizer.Normalize(g), StringComparison.Ordinal));
    }

    /// <summary>Evaluation's normaliser: lower case, every ASCII punctuation mark a space, white space collapsed, articles kept.</summary>
    internal static string Preprocess(string text) => Spaced(text.ToLowerInvariant());

    /// <summary>The normaliser of web search: as <see cref="Preprocess"/>, but case stays.</summary>
    internal static string Spaced(string text)
    {
        var spaced = new StringBuilder(text.Length);
        foreach (char c in text)
            spaced.Append(Punctuation.Contains(c) ? ' ' : c);
        return string.Join(' ', spaced.ToString().Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries));
    }

    /// <summary>Sums over the objectives of exact match and F1 of sets of words, from a text with answer tags (evaluation).</summary>
    internal static (double ExactMatch, double F1) EvaluationScore(string solution, IReadOnlyList<IReadOnlyList<string>> golds)
    {
        string text = solution.ToLowerInvariant();
        if (!IsBalanced(text) || AnswerBlock().Matches(text) is not { Count: > 0 } blocks)
            return (0, 0);
        string[] answers = [.. blocks[^1].Groups[1].Value.Split(';').Select(Preprocess)];
        if (answers.Length != golds.Count)
            return (0, 0);
        double exact = 0, f1 = 0;
        foreach ((string answer, IReadOnlyList<string> golden) in answers.Zip(golds))
        {
            exact += golden.Any(g => Preprocess(g) == answer) ? 1 : 0;
            f1 += golden.Max(g => SetF1(answer, Preprocess(g)));
        }
        return (exact, f1);
    }

    /// <summary>Whether answer tags open and close, as often and never the other way round (tags within tags pass).</summary>
    internal static bool IsBalanced(string text) => Pairs(text, "answer") > 0;

    /// <summary>How many pairs of a tag a text has, or -1 when they do not open and close in turn.</summary>
    private static int Pairs(string text, string tag)
    {
        string start = $"<{tag}>", end = $"</{tag}>";
        int depth = 0, pairs = 0;
        for (int at = 0; (at = text.IndexOf('<', at)) >= 0; at++)
        {
            ReadOnlySpan<char> rest = text.AsSpan(at);
            if (rest.StartsWith(start))
                (depth, pairs) = (depth + 1, pairs + 1);
            else if (rest.StartsWith(end) && --depth < 0)
                return -1;
        }
        return depth == 0 ? pairs : -1;
    }

    /// <summary>Count of matches of the rollout driver for several questions.</summary>
    internal static double RolloutMatches(string? answer, IReadOnlyList<IReadOnlyList<string>> golds)
    {
        // Python wrote "None" for a missing answer.
        string[] answers = [.. (answer ?? "None").Split(';').Select(a => a.Trim().ToLowerInvariant())];
        if (answers.Length < golds.Count)
            return 0;
        return answers.Zip(golds, (a, g) => (Answer: a, Gold: g[0].Trim().ToLowerInvariant())).Count(
            p => p.Gold.Contains(p.Answer, StringComparison.Ordinal) || p.Answer.Contains(p.Gold, StringComparison.Ordinal));
    }

    /// <summary>
    /// Match of the rollout driver for one question: the answer stands anywhere in what Python prints for the golden answers, field name
    /// and brackets included.
    /// </summary>
    internal static bool RolloutMatchesOne(string? answer, IReadOnlyList<string> golden) =>
        answer is not null && $"{{'target': [{string.Join(", ", golden.Select(Printed))}]}}".Contains(answer, StringComparison.Ordinal);

    // A Python string literal: single quotes unless the text has one and no double quotes.
    private static string Printed(string text)
    {
        string escaped = text.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\n", "\\n", StringComparison.Ordinal);
        if (!escaped.Contains('\'', StringComparison.Ordinal))
            return $"'{escaped}'";
        return escaped.Contains('"', StringComparison.Ordinal)
            ? $"'{escaped.Replace("'", "\\'", StringComparison.Ordinal)}'"
            : $"\"{escaped}\"";
    }

    private static double SetF1(string answer, string golden)
    {
        HashSet<string> given = [.. answer.Split(' ', StringSplitOptions.RemoveEmptyEntries)];
        HashSet<string> wanted = [.. golden.Split(' ', StringSplitOptions.RemoveEmptyEntries)];
        double common = given.Intersect(wanted).Count();
        if (common == 0)
            return 0;
        double precision = common / given.Count, recall = common / wanted.Count;
        return 2 * precision * recall / (precision + recall);
    }

    [GeneratedRegex("<answer>(.*?)</answer>", RegexOptions.Singleline | RegexOptions.CultureInvariant)]
    private static partial Regex AnswerBlock();
}
