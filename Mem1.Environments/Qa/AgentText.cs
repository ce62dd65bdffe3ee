// Invariants: text that others wrote (passages, questions) can hold nothing that reads as a tag, a hint or a special token after it went
// through Neutralize; neutralising twice changes nothing more.

using System.Text;
using System.Text.RegularExpressions;
using Mem1.Environments.Retrieval;

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
    public const string InformationStart = "<information>";
    public const string InformationEnd = "</information>";

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
    public static AgentAction? Parse(string response)
    {
        int at = response.IndexOf(AgentText.ThinkEnd, StringComparison.Ordinal);
        if (at < 0 && response.Contains(AgentText.ThinkStart, StringComparison.Ordinal))
            return null;
        at = at < 0 ? 0 : at + AgentText.ThinkEnd.Length;

        bool? answer = null;
        int content = 0;
        while ((at = response.IndexOf('<', at)) >= 0)
        {
            ReadOnlySpan<char> rest = response.AsSpan(at);
            if (rest.StartsWith(AgentText.ThinkStart) && answer is null)
            {
                int end = response.IndexOf(AgentText.ThinkEnd, at, StringComparison.Ordinal);
                if (end < 0)
                    return null;
                at = end + AgentText.ThinkEnd.Length;
            }
            else if (rest.StartsWith(AgentText.SearchStart) || rest.StartsWith(AgentText.AnswerStart))
            {
                answer = rest.StartsWith(AgentText.AnswerStart);
                at = content = at + (answer.Value ? AgentText.AnswerStart : AgentText.SearchStart).Length;
            }
            else if (rest.StartsWith(AgentText.SearchEnd) || rest.StartsWith(AgentText.AnswerEnd))
            {
                return answer == rest.StartsWith(AgentText.AnswerEnd) ? new AgentAction(answer.Value, response[content..at].Trim()) : null;
            }
            else
            {
                at++;
            }
        }
        return null;
    }
}
