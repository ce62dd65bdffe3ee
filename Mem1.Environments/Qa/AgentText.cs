// Invariants: text that others wrote (passages, questions) can hold nothing that reads as a tag, a hint or a special token after it went
// through Neutralize; neutralising twice changes nothing more.

using System.Text;
using System.Text.RegularExpressions;
using Mem1.Environments.Retrieval;
using Mem1.Environments.Scoring;

namespace Mem1.Environments.Qa;

/// <summary>The tags of the retrieval QA format and the text between them.</summary>
internal static partial class AgentText
{
    public const string ThinkStart = "<think>";
    public const string ThinkEnd = "</think>";
    public const string SearchStart = "<search>";
    public const string SearchEnd = "</search>";
    public const string AnswerStart = "<answer>";
    public const string AnswerEnd = "</answer>";
    public const string OpenStart = "<open>";
    public const string OpenEnd = "</open>";
    public const string InformationStart = "<information>";
    public const string InformationEnd = "</information>";

    /// <summary>An answer block that every objective's first golden answer is in.</summary>
    public static string RightAnswer(EnvironmentTask task) =>
        $"{AnswerStart}{string.Join($"{AnswerScorer.Separator} ", task.Objectives.Select(o => o.GoldenAnswers[0]))}{AnswerEnd}";

    /// <summary>
    /// Puts a space after every '&lt;' that a tag or a tokenizer's special token could begin with, and into "[HINT]". "&lt; answer>" is no
    /// tag, still reads well, and covers tags nobody thought of ("&lt;|im_end|>", "&lt;s>").
    /// </summary>
    public static string Neutralize(string text) => HintMark().Replace(TagStart().Replace(text, "< "), "[ $1");

    /// <summary>"Doc 1(Title: first line) other lines" for each passage, one after another; empty when there are none.</summary>
    public static string Documents(IReadOnlyList<Passage> passages)
    {
        var text = new StringBuilder();
        for (int i = 0; i < passages.Count; i++)
            text.Append($"Doc {i + 1}(Title: {Neutralize(passages[i].Title)}) {Neutralize(passages[i].Text)}\n");
        return text.ToString();
    }

    /// <summary>An observation as the next turn reads it.</summary>
    public static string Observation(string hint, string body) => $"\n\n{InformationStart}{hint}\n\n{body.Trim()}{InformationEnd}\n\n";

    // Whatever is no white space, digit, '<' or '=' may begin a tag; "<3", "<<" and "<=" are left as they are.
    [GeneratedRegex(@"<(?=[^\s\d<=])")]
    private static partial Regex TagStart();

    [GeneratedRegex(@"\[(/?HINT)", RegexOptions.IgnoreCase | RegexOptions.CultureInvariant)]
    private static partial Regex HintMark();
}

/// <summary>What a response does.</summary>
/// <param name="IsAnswer">A final answer, else a search.</param>
/// <param name="Content">The text between the action's tags, trimmed.</param>
internal sealed record AgentAction(bool IsAnswer, string Content)
{
    /// <summary>Opens the page whose address is the content; neither a search nor an answer.</summary>
    public bool IsOpen { get; init; }

    /// <summary>
    /// Reads the action of a response; null when there is none. The rules:
    /// <list type="bullet">
    /// <item>The action is looked for after the first &lt;/think>. Without one, a response that opens &lt;think> has no action (all of it
    /// is thought), and a response without think tags is all action.</item>
    /// <item>There, the first closing action tag decides: it acts if the last opening action tag before it is its own, and the text
    /// between the two is the content; otherwise the response is malformed. What follows is dropped.</item>
    /// <item>Further think blocks before the action are skipped, tags in them included.</item>
    /// <item>Tags are matched exactly: no other case, white space or attributes.</item>
    /// </list>
    /// </summary>
    /// <param name="response">The response's text.</param>
    /// <param name="allowOpen">Whether &lt;open> is an action; otherwise it is text like any other.</param>
    public static AgentAction? Parse(string response, bool allowOpen = false)
    {
        int at = response.IndexOf(AgentText.ThinkEnd, StringComparison.Ordinal);
        if (at < 0 && response.Contains(AgentText.ThinkStart, StringComparison.Ordinal))
            return null;
        at = at < 0 ? 0 : at + AgentText.ThinkEnd.Length;

        (string Start, string End)[] actions = allowOpen ? s_actionsWithOpen : s_actions;
        int opened = -1;
        int content = 0;
        while ((at = response.IndexOf('<', at)) >= 0)
        {
            ReadOnlySpan<char> rest = response.AsSpan(at);
            if (opened < 0 && rest.StartsWith(AgentText.ThinkStart))
            {
                int end = response.IndexOf(AgentText.ThinkEnd, at, StringComparison.Ordinal);
                if (end < 0)
                    return null;
                at = end + AgentText.ThinkEnd.Length;
                continue;
            }
            int past = at + 1;
            for (int kind = 0; kind < actions.Length; kind++)
            {
                if (rest.StartsWith(actions[kind].Start))
                    (opened, past, content) = (kind, at + actions[kind].Start.Length, at + actions[kind].Start.Length);
                else if (rest.StartsWith(actions[kind].End))
                    return kind == opened ? new AgentAction(kind == Answer, response[content..at].Trim()) { IsOpen = kind == Open } : null;
            }
            at = past;
        }
        return null;
    }

    // Positions in the two arrays below.
    private const int Answer = 1;
    private const int Open = 2;

    private static readonly (string Start, string End)[] s_actions =
        [(AgentText.SearchStart, AgentText.SearchEnd), (AgentText.AnswerStart, AgentText.AnswerEnd)];

    private static readonly (string Start, string End)[] s_actionsWithOpen = [.. s_actions, (AgentText.OpenStart, AgentText.OpenEnd)];
}
