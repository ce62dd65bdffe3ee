// Keeps: pages work without scripts; every text that comes from a shop or a visitor goes through Text, so none of it is ever markup.
using System.Globalization;
using System.Text;
using System.Text.Encodings.Web;
using Mem1.Environments.WebShop;

namespace Mem1.Cli.Shop;

/// <summary>The pages of <see cref="ShopServer"/>.</summary>
internal static class ShopHtml
{
    // Goals listed on the start page, from the one that was asked for on.
    private const int ListedGoals = 20;

    public const string Css =
        """
        :root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }
        body { max-width: 62rem; margin: 1.5rem auto; padding: 0 1rem; }
        h1 { font-size: 1.2rem; margin: 0 0 .3rem; } h2 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
        pre { white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid #8886; border-radius: .4rem; padding: .7rem; margin: 0; }
        form { display: inline; } .actions form { display: inline-block; margin: 0 .3rem .3rem 0; }
        button, input { font: inherit; padding: .25rem .6rem; } input[name=keywords], input[name=action] { width: 26rem; max-width: 70%; }
        .status { color: #777; } .note { color: #b45309; } .reward { font-size: 1.1rem; font-weight: 600; }
        ol { padding-left: 1.6rem; } li { overflow-wrap: anywhere; }
        """;

    /// <summary>Where a goal is chosen.</summary>
    public static string Start(ShopGoals goals, int first)
    {
        var page = new StringBuilder();
        page.Append(Invariant($"<p class=\"status\">{goals.Catalogue.Count:N0} products, {goals.Count:N0} goals.</p>"));
        page.Append("<form method=\"post\" action=\"/visits\"><label>Goal <input name=\"goal\" type=\"number\" min=\"0\" max=\"");
        page.Append(Invariant($"{goals.Count - 1}\" value=\"{first}\" required></label> "));
        page.Append("<label><input name=\"rich\" type=\"checkbox\"> mark buttons</label> <button>Play</button></form>");
        page.Append("<h2>Goals</h2><ol start=\"");
        page.Append(Invariant($"{first}\">"));
        foreach (var instruction in goals.Instructions(first, ListedGoals)) page.Append("<li>").Append(Text(instruction)).Append("</li>");
        return Document("WebShop", page.Append("</ol>").ToString());
    }

    /// <summary>A visit as it stands.</summary>
    public static string Visit(OpenVisit open)
    {
        var visit = open.Visit;
        var page = new StringBuilder();
        page.Append("<p>").Append(Text(visit.Instruction)).Append("</p><p class=\"status\">Goal ");
        page.Append(Invariant($"{open.Goal}, turn {Math.Min(visit.Turns + 1, visit.MaxTurns)} of {visit.MaxTurns}</p>"));
        if (open.Last is { Offered: false }) page.Append("<p class=\"note\">The page did not offer that action.</p>");
        if (visit.Ended)
        {
            page.Append("<p class=\"reward\">Reward ");
            page.Append(Text(open.Last!.Reward!.Value.ToString("0.####", CultureInfo.InvariantCulture)));
            page.Append("</p><p>").Append(Text(open.Last.Reasons)).Append("</p><h2>Last page</h2>");
            Block(page, visit.Page);
            page.Append("<p><a href=\"/\">Play another goal</a></p>");
        }
        else
        {
            page.Append("<h2>What the agent reads</h2>");
            Block(page, visit.Observation);
            Actions(page, open);
        }

        page.Append("<h2>Actions so far</h2><ol>");
        foreach (var action in open.Actions) page.Append("<li>").Append(Text(action)).Append("</li>");
        page.Append("</ol><details><summary>The agent's prompt</summary>");
        Block(page, visit.Prompt);
        return Document($"Goal {open.Goal}", page.Append("</details>").ToString());
    }

    /// <summary>A refusal.</summary>
    public static string Problem(string sentence) =>
        Document("WebShop", $"<p class=\"note\">{Text(sentence)}</p><p><a href=\"/\">Start</a></p>");

    private static void Actions(StringBuilder page, OpenVisit open)
    {
        page.Append("<h2>Available actions</h2><div class=\"actions\">");
        foreach (var action in open.Visit.Actions)
        {
            Form(page, open);
            if (action.StartsWith("search[", StringComparison.Ordinal))
                page.Append("<input name=\"keywords\" aria-label=\"keywords\" required autofocus> <button>search</button>");
            else
                page.Append("<button name=\"action\" value=\"").Append(Text(action)).Append("\">").Append(Text(action)).Append("</button>");
            page.Append("</form>");
        }

        page.Append("</div><p>");
        Form(page, open);
        page.Append("<input name=\"action\" aria-label=\"action\" placeholder=\"any action, as the agent writes it\" required> ");
        page.Append("<button>act</button></form></p>");
    }

    private static void Form(StringBuilder page, OpenVisit open) =>
        page.Append("<form method=\"post\" action=\"/visits/").Append(open.Id).Append("\" accept-charset=\"utf-8\">");

    // HTML drops one line break after the tag, so one is given.
    private static void Block(StringBuilder page, string text) => page.Append("<pre>\n").Append(Text(text)).Append("</pre>");

    private static string Document(string title, string body) =>
        $"""
        <!DOCTYPE html>
        <html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{Text(title)}</title>
        <link rel="stylesheet" href="/shop.css"></head><body><h1>{Text(title)}</h1>{body}</body></html>

        """;

    private static string Text(string text) => HtmlEncoder.Default.Encode(text);

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
