// Invariants: any text gives a page, in bounded time and memory; what leaves has no markup, no addresses and no navigation, a paragraph a
// line; the tree is walked without recursion, so that depth costs no stack.

using System.Diagnostics;
using System.Text;
using AngleSharp.Dom;
using AngleSharp.Html.Dom;
using AngleSharp.Html.Parser;

namespace Mem1.Environments.Web;

/// <summary>The main text of an HTML page.</summary>
internal static class PageText
{
    // Real pages have some thousands of tags; markup that nests and misnests without end makes a parser's work grow quadratically.
    private const int MaxTokens = 200_000;

    // Browsers stop at 512 as well.
    private const int MaxDepth = 512;

    // Reading a page of 2 MiB takes tens of milliseconds; what takes longer was made to.
    private static readonly TimeSpan s_maxTime = TimeSpan.FromSeconds(2);

    private const int MaxTitle = 300;

    // A paragraph more than half of whose characters are link text is a menu.
    private const double MostLinkText = 0.5;

    private static readonly HashSet<string> s_skipped = new(StringComparer.OrdinalIgnoreCase)
    {
        "script", "style", "noscript", "template", "svg", "math", "head", "nav", "aside", "footer", "form", "button", "select", "textarea",
        "iframe", "object", "embed", "canvas", "audio", "video", "map", "dialog", "frameset", "noembed", "noframes",
    };

    private static readonly HashSet<string> s_inline = new(StringComparer.OrdinalIgnoreCase)
    {
        "a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font", "i", "img", "ins", "kbd",
        "label", "mark", "q", "rp", "rt", "ruby", "s", "samp", "small", "span", "strike", "strong", "sub", "sup", "td", "th", "time", "tt", "u",
        "var", "wbr",
    };

    private static readonly HashSet<string> s_skippedRoles = new(StringComparer.OrdinalIgnoreCase)
    {
        "navigation", "banner", "contentinfo", "search", "menu", "menubar", "dialog", "complementary",
    };

    /// <summary>Title and main text of a page.</summary>
    /// <param name="html">The page's source.</param>
    /// <param name="maxCharacters">Most characters of the text.</param>
    /// <param name="cancellationToken">Stops the reading.</param>
    /// <exception cref="WebAccessException">The page was made to take long.</exception>
    public static (string Title, string Text) Of(string html, int maxCharacters, CancellationToken cancellationToken)
    {
        using IHtmlDocument document = Parse(html, cancellationToken);
        string title = SearchReply.OneLine(document.Title ?? "", MaxTitle);
        INode? root = (INode?)document.QuerySelector("main, [role=main]") ?? Only(document.QuerySelectorAll("article")) ?? document.Body;
        if (root is null)
            return (title, "");
        var text = new Builder(maxCharacters);
        Walk(root, text, cancellationToken);
        if (text.Result.Length == 0 && root != document.Body && document.Body is { } body)
            Walk(body, text = new Builder(maxCharacters), cancellationToken);
        // A page of links alone is better shown than not.
        return (title, text.Result.Length > 0 ? text.Result : text.Dropped);
    }

    private static IHtmlDocument Parse(string html, CancellationToken cancellationToken)
    {
        long start = Stopwatch.GetTimestamp();
        int tokens = 0;
        var options = new HtmlParserOptions
        {
            MaximumDepth = MaxDepth,
            SkipComments = true,
            OnToken = (_, _) =>
            {
                if (++tokens > MaxTokens)
                    throw new PageTooComplexException();
                if (tokens % 256 != 0)
                    return;
                cancellationToken.ThrowIfCancellationRequested();
                if (Stopwatch.GetElapsedTime(start) > s_maxTime)
                    throw new PageTooComplexException();
            },
        };
        try
        {
            return new HtmlParser(options).ParseDocument(html);
        }
        // Faults of the parser are the page's: nothing a page holds may end a run.
        catch (Exception e) when (e is not OperationCanceledException)
        {
            throw new WebAccessException(WebFailure.Malformed, "The page's markup cannot be read.", inner: e);
        }
    }

    private static IElement? Only(IHtmlCollection<IElement> elements) => elements.Length == 1 ? elements[0] : null;

    private static void Walk(INode root, Builder text, CancellationToken cancellationToken)
    {
        INode? node = root;
        int seen = 0;
        while (node is not null && !text.IsFull)
        {
            if (++seen % 1024 == 0)
                cancellationToken.ThrowIfCancellationRequested();
            bool enter = true;
            if (node is IText words)
                text.Add(words.Data);
            else if (node is IElement element && node != root)
                enter = Enter(element, text);
            if (enter && node.FirstChild is { } child)
            {
                node = child;
                continue;
            }
            while (node is not null)
            {
                if (enter && node is IElement left && node != root)
                    Leave(left, text);
                enter = true;
                if (node == root)
                    node = null;
                else if (node.NextSibling is { } next)
                {
                    node = next;
                    break;
                }
                else
                    node = node.Parent;
            }
        }
        text.EndParagraph();
    }

    private static bool Enter(IElement element, Builder text)
    {
        string name = element.LocalName;
        if (s_skipped.Contains(name) || element.HasAttribute("hidden") || element.GetAttribute("aria-hidden") == "true"
            || (element.GetAttribute("role") is { } role && s_skippedRoles.Contains(role)) || IsStyledAway(element.GetAttribute("style")))
        {
            if (!s_inline.Contains(name))
                text.EndParagraph();
            return false;
        }
        if (name == "br" || !s_inline.Contains(name))
            text.EndParagraph(IsHeading(name));
        if (name == "a")
            text.Links++;
        return true;
    }

    private static void Leave(IElement element, Builder text)
    {
        string name = element.LocalName;
        if (name == "a")
            text.Links--;
        // A row is a paragraph, its cells are words of it.
        if (name is "td" or "th")
            text.Add(" ");
        else if (!s_inline.Contains(name))
            text.EndParagraph();
    }

    private static bool IsHeading(string name) => name.Length == 2 && name[0] == 'h' && name[1] is >= '1' and <= '6';

    private static bool IsStyledAway(string? style) =>
        style is not null && style.Replace(" ", "", StringComparison.Ordinal) is var plain
        && (plain.Contains("display:none", StringComparison.OrdinalIgnoreCase)
            || plain.Contains("visibility:hidden", StringComparison.OrdinalIgnoreCase));

    private sealed class PageTooComplexException : Exception;

    /// <summary>Gathers paragraphs.</summary>
    private sealed class Builder(int max)
    {
        private readonly StringBuilder _text = new();
        private readonly StringBuilder _dropped = new();
        private readonly StringBuilder _paragraph = new();
        private int _linked;
        private bool _heading;

        /// <summary>How many links the current place is in.</summary>
        public int Links { get; set; }

        public bool IsFull => _text.Length >= max;

        public string Result => Cut(_text);

        public string Dropped => Cut(_dropped);

        public void Add(string words)
        {
            // More of one paragraph than the whole text may have is not kept.
            int room = (4 * max) - _paragraph.Length;
            if (room <= 0)
                return;
            ReadOnlySpan<char> kept = words.AsSpan(0, Math.Min(room, words.Length));
            _paragraph.Append(kept);
            if (Links > 0)
                _linked += kept.Length - kept.Count(' ') - kept.Count('\n');
        }

        /// <summary>Ends a paragraph and says whether the next one is a heading, which may be a link.</summary>
        public void EndParagraph(bool nextIsHeading = false)
        {
            if (_paragraph.Length > 0)
            {
                string line = SearchReply.OneLine(_paragraph.ToString(), max);
                int letters = line.Length - line.AsSpan().Count(' ');
                if (letters > 0)
                    (_linked > MostLinkText * letters && !_heading ? _dropped : _text).Append(line).Append('\n');
            }
            _paragraph.Clear();
            _linked = 0;
            _heading = nextIsHeading;
        }

        private string Cut(StringBuilder text)
        {
            int length = Math.Min(max, text.Length);
            if (length > 0 && length < text.Length && char.IsHighSurrogate(text[length - 1]))
                length--;
            return text.ToString(0, length).TrimEnd('\n');
        }
    }
}
