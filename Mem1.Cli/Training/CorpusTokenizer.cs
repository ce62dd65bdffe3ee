using Mem1.Environments.Tasks;
using Mem1.Model;
using Mem1.Model.Tokenizers;

namespace Mem1.Cli.Training;

/// <summary>The tokenizer of a new model that meets a user's corpus: byte-level BPE trained on its passages and questions.</summary>
internal static class CorpusTokenizer
{
    // The tags of the turn format are one token each: an action that must spell them letter by letter is harder to learn and to stop.
    private static readonly string[] Tags =
        ["<think>", "</think>", "<search>", "</search>", "<answer>", "</answer>", "<information>", "</information>"];

    // Merges settle long before this much text; reading more of a large corpus would only delay the first update.
    private const long MaxCharacters = 20_000_000;

    /// <summary>Trains on the passages, as far as the bound reaches, and on all questions and answers.</summary>
    /// <param name="passages">Contents of the corpus's passages.</param>
    /// <param name="tasks">Questions and answers.</param>
    /// <param name="prompts">Prompts as episodes begin with, so that their fixed wording becomes few tokens.</param>
    /// <param name="vocabulary">Size of the vocabulary.</param>
    public static ITokenizer Train(IEnumerable<string> passages, TaskFile tasks, IEnumerable<string> prompts, int vocabulary) =>
        BpeTrainer.Train(prompts.Concat(Texts(passages, tasks)), vocabulary, Tags);

    private static IEnumerable<string> Texts(IEnumerable<string> passages, TaskFile tasks)
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
