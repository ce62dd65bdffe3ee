using Mem1.Environments.Tasks;

namespace Mem1.Cli.Training;

/// <summary>What the tokenizer of a new model that meets a user's corpus is learnt from: its passages and questions.</summary>
internal static class CorpusTokenizer
{
    // The tags of the turn format are one token each: an action that must spell them letter by letter is harder to learn and to stop.
    public static readonly IReadOnlyList<string> Tags =
        ["<think>", "</think>", "<search>", "</search>", "<answer>", "</answer>", "<information>", "</information>"];

    /// <summary>The same where pages can be opened.</summary>
    public static readonly IReadOnlyList<string> TagsWithOpen = [.. Tags, "<open>", "</open>"];

    // Merges settle long before this much text; reading more of a large corpus would only delay the first update.
    private const long MaxCharacters = 20_000_000;

    /// <summary>All questions and answers, and the passages as far as the bound reaches.</summary>
    /// <param name="passages">Contents of the corpus's passages.</param>
    /// <param name="tasks">Questions and answers.</param>
    public static IEnumerable<string> Texts(IEnumerable<string> passages, TaskFile tasks)
    {
        foreach (var objective in tasks.Objectives)
        {
            yield return objective.Question;
            foreach (var answer in objective.GoldenAnswers) yield return answer;
        }

        long characters = 0;
        foreach (var passage in passages)
        {
            if (characters > MaxCharacters) yield break;
            characters += passage.Length;
            yield return passage;
        }
    }
}
