// Invariants: text of products and goals can hold nothing that reads as a tag or a hint once it is in a prompt or an observation.

using Mem1.Environments.Qa;

namespace Mem1.Environments.WebShop;

/// <summary>The format in which MEM1's agent shops, and the texts around it.</summary>
internal static class WebShopText
{
    public const string ThinkStart = AgentText.ThinkStart;
    public const string ThinkEnd = AgentText.ThinkEnd;
    public const string SummaryStart = "<summary>";
    public const string SummaryEnd = "</summary>";
    public const string AnswerStart = AgentText.AnswerStart;
    public const string AnswerEnd = AgentText.AnswerEnd;
    public const string StateStart = "<state>";
    public const string StateEnd = "</state>";

    /// <summary>How the search action stands in lists of actions.</summary>
    public const string AnySearch = "search[<content>]";

    /// <summary>
    /// Whether a response keeps the format: think, summary and answer each once, opened before it is closed. Other tags do not matter.
    /// </summary>
    public static bool IsValid(string response) =>
        Once(response, ThinkStart, ThinkEnd) && Once(response, SummaryStart, SummaryEnd) && Once(response, AnswerStart, AnswerEnd);

    /// <summary>A response in the format.</summary>
    public static string Response(string thought, string summary, string action) =>
        $"{ThinkStart}{thought}{ThinkEnd}\n{SummaryStart}{summary}{SummaryEnd}\n{AnswerStart}{action}{AnswerEnd}";

    /// <summary>The action of a valid response: what the answer holds, trimmed, with the one entity models tend to write undone.</summary>
    public static string Action(string response)
    {
        int start = response.IndexOf(AnswerStart, StringComparison.Ordinal) + AnswerStart.Length;
        int end = response.IndexOf(AnswerEnd, start, StringComparison.Ordinal);
        return PythonText.Strip(response[start..end]).Replace("&gt;", ">", StringComparison.Ordinal);
    }

    /// <summary>The actions that the page offers, as the agent writes them.</summary>
    public static IEnumerable<string> Actions(ShopSession session)
    {
        IEnumerable<string> clicks = session.Clickables().Where(c => c != "search").Select(c => $"click[{AgentText.Neutralize(c)}]");
        return session.HasSearchBar ? clicks.Prepend(AnySearch) : clicks;
    }

    /// <summary>An observation as the next turn reads it.</summary>
    public static string Observation(string hint, string page, IEnumerable<string>? actions)
    {
        string offered = actions is null ? "" : "\n\nCurrent available actions: " + PythonText.List(actions);
        return $"\n\n{StateStart}{hint}\n\n{AgentText.Neutralize(page)}{offered}{StateEnd}\n\n";
    }

    /// <summary>
    /// Whether an action is one of those the page offers, read as MEM1's statistics do. The shop itself is more generous: it also carries
    /// out a search from any page and clicks in other case.
    /// </summary>
    public static bool IsOffered(string action, ShopSession session)
    {
        if (Content("search[") is not null)
            return session.HasSearchBar;
        return Content("click[") is { } name && Actions(session).Contains($"click[{PythonText.Strip(name)}]");

        string? Content(string start)
        {
            int close = action.StartsWith(start, StringComparison.Ordinal) ? action.IndexOf(']', StringComparison.Ordinal) : -1;
            return close < 0 || action.AsSpan(0, close).Contains('\n') ? null : action[start.Length..close];
        }
    }

    /// <summary>The state of the shop in the prompt, before the first action.</summary>
    public static string FirstState(ShopGoal goal) =>
        $"{AgentText.Neutralize("Instruction: " + goal.Instruction)}\nAvailable actions: {AnySearch}";

    /// <summary>The prompt of an episode.</summary>
    public static string Prompt(ShopGoal goal, WebShopOptions options) => !options.Guide ? FirstState(goal)
        : options.ProductsPerPage == 10 ? Guide + FirstState(goal)
        : Guide.Replace("ten per page", $"{options.ProductsPerPage} per page", StringComparison.Ordinal) + FirstState(goal);

    // One string for all episodes; only the goal differs.
    private const string Guide =
        $"""
        Shop online: find the product that an instruction describes, choose the options it asks for, and buy it.

        The shop has these pages and actions:
        - The search page: search[keywords] lists matching products, ten per page.
        - A page of results: click[next >] and click[< prev] turn pages, click[product code] opens a product,
          click[back to search] starts over.
        - The page of a product: click[an option] chooses a size, a colour or the like, click[description], click[features] and
          click[reviews] show more, click[< prev] goes back to the results and drops the chosen options, click[buy now] buys the product
          and ends the task.

        Buy the product whose kind, attributes, options and price fit the instruction best. Only a purchase counts, and there is only one.

        In each turn you see this text and, from the second turn on, the summary and the answer you wrote in the turn
        before and the page they led to between {StateStart} and {StateEnd}. Nothing older is shown to you again.
        Never write {StateStart} yourself.

        Write every turn in exactly three parts.
        1. {ThinkStart} ... {ThinkEnd}: think about the page and about what to do. This is not kept.
        2. {SummaryStart} ... {SummaryEnd}: your only lasting memory. Carry over what you still need from your previous
           summary and add what the page has shown: what you searched, which products you saw, which options you chose.
        3. {AnswerStart} ... {AnswerEnd}: one action, written as in the list of available actions, for example
           {AnswerStart}search[blue cotton pillow cover]{AnswerEnd} or {AnswerStart}click[buy now]{AnswerEnd}.


        """;

    private static bool Once(string text, string start, string end)
    {
        int open = text.IndexOf(start, StringComparison.Ordinal), close = text.IndexOf(end, StringComparison.Ordinal);
        return open >= 0 && close > open && open == text.LastIndexOf(start, StringComparison.Ordinal)
            && close == text.LastIndexOf(end, StringComparison.Ordinal);
    }
}
