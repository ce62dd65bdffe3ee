// Invariants: the prompt depends on the task and the options alone; questions in it are neutralised.

using System.Text;

namespace Mem1.Environments.Qa;

/// <summary>The instructions of retrieval QA and of web QA.</summary>
internal static class QaPrompt
{
    /// <summary>The prompt of a task.</summary>
    /// <param name="task">The task.</param>
    /// <param name="options">How its episode runs.</param>
    /// <param name="source">What is searched.</param>
    /// <param name="open">Whether pages can be opened.</param>
    public static string For(
        EnvironmentTask task, RetrievalQaOptions options, string source = "a collection of documents", bool open = false)
    {
        int count = task.Objectives.Count;
        bool one = count == 1;
        var text = new StringBuilder();
        if (options.Guide)
            AppendGuide(text, count, options, source, open);
        text.Append(one ? "Question: " : "Questions:\n");
        for (int k = 0; k < count; k++)
        {
            string question = AgentText.Neutralize(task.Objectives[k].Question);
            text.Append(one ? $"{question}\n" : $"{k + 1}. {question}\n");
        }
        return text.ToString();
    }

    private static void AppendGuide(StringBuilder text, int count, RetrievalQaOptions options, string source, bool open)
    {
        bool one = count == 1;
        text.Append(one
            ? $"Find the answer to a question by searching {source} over several turns.\n\n"
            : $"Find the answers to {count} questions by searching {source} over several turns, then give all answers "
              + "together.\n\n");
        text.Append(
            $"In each turn you see the {(one ? "question" : "questions")} and, from the second turn on, what you wrote in the turn before "
            + $"and the search result it brought between {AgentText.InformationStart} and {AgentText.InformationEnd}. Nothing older is "
            + "shown to you again.\n\n"
            + "Write every turn in two parts.\n"
            + $"1. {AgentText.ThinkStart} ... {AgentText.ThinkEnd}: think about what you know and keep a short summary of everything found "
            + "so far. This is your only lasting memory: copy into it whatever you still need from your previous summary and from the "
            + "latest search result.\n"
            + "2. Then exactly one action:\n"
            + $"   {AgentText.SearchStart} keywords {AgentText.SearchEnd} looks something up. Ask one thing about "
            + $"{(one ? "the question" : "one of the questions")} per turn.\n");
        if (open)
            text.Append($"   {AgentText.OpenStart} URL {AgentText.OpenEnd} shows the text of a page, say of one that a search found.\n");
        text.Append(one
            ? $"   {AgentText.AnswerStart} the answer {AgentText.AnswerEnd} ends the task. Keep it as short as possible and explain "
              + "nothing.\n"
            : $"   {AgentText.AnswerStart} first answer; second answer; ... {AgentText.AnswerEnd} ends the task, once every question is "
              + "settled. Give one answer for each question, in the order of the questions, separated by semicolons; if an answer has a "
              + "semicolon in it, write a comma there. Keep answers as short as possible and explain nothing.\n");
        text.Append("\nAlways think before you search or answer, and never write more than one action in a turn.\n");
        if (options.MaxTurns(count) == 1)
            text.Append("You have only one turn: answer in it.\n");
        text.Append('\n');
    }
}
