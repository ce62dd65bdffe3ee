// Invariants: the text equals, character for character, what the original reads off its HTML pages.

using System.Text;

namespace Mem1.Environments.WebShop;

/// <summary>How an agent sees a page.</summary>
public enum ShopObservation
{
    /// <summary>All visible texts, joined by " [SEP] "; chosen options do not show.</summary>
    Text,
    /// <summary>One text per line with buttons marked, and chosen options and opened products marked as clicked.</summary>
    TextRich,
}

/// <summary>Turns the page of a session into text.</summary>
internal static class ShopPages
{
    public const string Separator = " [SEP] ";

    private const string None = "None";

    private enum Look
    {
        Plain,
        Button,
        Option,
        Product,
    }

    /// <summary>The page as the agent sees it.</summary>
    public static string Render(ShopSession session, ShopObservation mode)
    {
        // White space that spans lines is layout and dropped; other blanks are texts of their own.
        IEnumerable<Node> nodes = Nodes(session)
            .Where(n => n.Text.Length > 0 && !(n.Text.Contains('\n', StringComparison.Ordinal) && PythonText.Strip(n.Text).Length == 0));
        return mode == ShopObservation.Text
            ? string.Join(Separator, nodes.Select(n => PythonText.Strip(n.Text)))
            : Rich(session, nodes);
    }

    private static string Rich(ShopSession session, IEnumerable<Node> nodes)
    {
        string url = session.Url;
        var clicked = new Stack<string>();
        var page = new StringBuilder();
        foreach (Node node in nodes)
        {
            bool chosen = node.Look switch
            {
                // The original looks for the quoted value anywhere in the address, where text beyond ASCII stands escaped.
                Look.Option => url.Contains($"\"{node.Text}\"", StringComparison.Ordinal),
                Look.Product => session.WasOpened(node.Product!),
                _ => false,
            };
            string mark = chosen ? "clicked button" : "button";
            if (chosen && node.Look == Look.Option)
                clicked.Push($"You have clicked {node.Text}.\n");
            _ = node.Look switch
            {
                Look.Plain => page.Append(node.Text),
                Look.Option => page.Append($"  [{mark}] {node.Text} [{mark}_]"),
                Look.Product => page.Append($"\n[{mark}] {node.Text} [{mark}_]"),
                _ => page.Append($"[{mark}] {node.Text} [{mark}_]"),
            };
            page.Append('\n');
        }
        return string.Concat(clicked) + page;
    }

    private static IEnumerable<Node> Nodes(ShopSession session)
    {
        switch (session.Page)
        {
            case ShopPage.Search:
                return [new("WebShop"), new("Instruction: "), new(session.Goal.Instruction), Button("Search")];
            case ShopPage.Done:
                return Done(session).Select(t => new Node(t));
        }
        var nodes = new List<Node> { new("Instruction:"), new(session.Goal.Instruction), Button("Back to Search") };
        switch (session.Page)
        {
            case ShopPage.Results:
                nodes.Add(new($"Page {session.ResultsPage} (Total results: {session.TotalResults})"));
                if (session.ResultsPage > 1)
                    nodes.Add(Button("< Prev"));
                nodes.Add(Button("Next >"));
                foreach (ShopProduct product in session.Shown)
                    nodes.AddRange([new(product.Asin, Look.Product, product), new(product.Title), new(product.PriceText)]);
                break;
            case ShopPage.Item:
                nodes.Add(Button("< Prev"));
                Item(session, nodes);
                break;
            case ShopPage.Detail:
                nodes.Add(Button("< Prev"));
                nodes.AddRange(Detail(session).Select(t => new Node(t)));
                break;
        }
        return nodes;
    }

    private static void Item(ShopSession session, List<Node> nodes)
    {
        ShopProduct product = session.Product;
        foreach (ShopOption option in product.Options)
        {
            nodes.Add(new(option.Name));
            nodes.AddRange(option.Values.Select(v => new Node(v, Look.Option)));
        }
        nodes.AddRange([new(product.Title), new("Price: " + product.PriceText), new("Rating: N.A.")]);
        nodes.AddRange([Button("Description"), Button("Features"), Button("Reviews")]);
        if (session.ShowAttributes)
            nodes.Add(Button("Attributes"));
        nodes.Add(Button("Buy Now"));
    }

    private static IEnumerable<string> Detail(ShopSession session) => session.Detail switch
    {
        "Description" => [session.Product.Description],
        // The page puts a space before each bullet, so that a blank one is still a text.
        "Features" => session.Product.Bullets.Select(b => " " + b),
        "Attributes" =>
            [.. session.Product.Attributes, session.Product.Category, session.Product.Query, session.Product.ProductCategory],
        _ => [],
    };

    // The original never fills most of this page in, which keeps the target from leaking.
    private static IEnumerable<string> Done(ShopSession session) =>
    [
        "Thank you for shopping with us!", "Your code: ", None, " (Paste it in your MTurk interface.)", "Purchased", "asin",
        session.Product.Asin, "options",
        PythonText.JsonObject(session.Options.OrderBy(o => o.Key, PythonText.CodePoints), forHtml: true),
        "attrs", None, "category", None, "query", None, "product category", None, "Target", "asin", "options", "attrs", "price upper",
        "instuction text", "category", "product category", "query", "Goal ", None, "Reward", "Your score (min 0.0, max 1.0)",
        PythonText.Float(session.Verdict!.Reward), "Reward Details ", None,
    ];

    private static Node Button(string text) => new(text, Look.Button);

    private readonly record struct Node(string Text, Look Look = Look.Plain, ShopProduct? Product = null);
}
