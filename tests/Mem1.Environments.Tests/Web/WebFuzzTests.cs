using System.Diagnostics;
using System.Text;
using Mem1.Environments.Common;
using Mem1.Environments.Web;

namespace Mem1.Environments.Tests.Web;

/// <summary>200,000 generated inputs to everything that reads what the web sends: a value or a WebAccessException, soon, every time.</summary>
public sealed class WebFuzzTests
{
    // Far above what any of these short inputs takes, even on a machine that does other things: a hang is caught, a slow moment is not.
    private static readonly TimeSpan s_hang = TimeSpan.FromSeconds(30);

    private static readonly string[] s_html =
    [
        "<", ">", "</", "/>", "<!--", "-->", "<![CDATA[", "]]>", "<!DOCTYPE html>", "<p>", "</p>", "<a href='x'>", "</a>", "<b>", "</b>", "<i>", "<table>",
        "<tr>", "<td>", "</table>", "<script>", "</script>", "<style>", "<title>", "</title>", "<template>", "<svg>", "<math>", "<mi>", "<select>",
        "<option>", "<main>", "<article>", "<nav>", "<frameset>", "<body>", "<html>", "<head>", "</html>", "<h1>", "<li>", "<form>", "<plaintext>",
        "<br>", "&amp;", "&#x0;", "&#1114112;", "&notit", "\0", "\ud800", "\udc00", "text ", "\n", "=", "\"", "'", "<p hidden>", "<div style=display:none>",
        "<noscript>", "<iframe>", "<textarea>", "<object>", "<annotation-xml encoding=text/html>", "<foreignObject>", "<image>", "<isindex>", "<nobr>",
    ];

    private static readonly string[] s_json =
    [
        "{", "}", "[", "]", ",", ":", "\"", "null", "true", "1e999", "-0", "\"\\ud800\"", "\"\\u0000\"", "\"organic\":", "\"results\":", "\"answers\":",
        "\"web\":{\"results\":", "\"items\":", "\"title\":", "\"url\":\"http://a\"", "\"link\":\"//\"", "\"snippet\":", "\"content\":\"<b>\"", "\"answer_box\":",
        "\"infoboxes\":", "\"infobox\":", "\"x\"", "{\"title\":1}", "[[[[", "\u00e9", "\"\\", "\"answer\":[1,\"a\",{}]",
    ];

    private static string Soup(SeededRandom random, string[] pieces)
    {
        var text = new StringBuilder();
        for (int n = random.Next(24); n >= 0; n--)
            text.Append(random.Choose(pieces));
        return text.ToString();
    }

    [Fact]
    public void AnyMarkupGivesPlainTextOrAWebException()
    {
        var random = new SeededRandom(1);
        for (int i = 0; i < 90_000; i++)
        {
            string html = Soup(random, s_html);
            Check(html, () =>
            {
                (string title, string text) = PageText.Of(html, 200, default);
                Assert.True(text.Length <= 200 && !title.Contains('\n'));
                Assert.DoesNotContain('\0', text);
            });
        }
    }

    [Fact]
    public void AnyReplyGivesResultsOrAWebException()
    {
        var random = new SeededRandom(2);
        SearchProtocol[] protocols = [new SerperProtocol(), new GoogleProtocol("x"), new BraveProtocol(), new SearxngProtocol()];
        int read = 0;
        for (int i = 0; i < 90_000; i++)
        {
            string json = random.Chance(0.5) ? Soup(random, s_json) : Value(random, 0);
            byte[] bytes = Encoding.UTF8.GetBytes(json);
            for (int flips = random.Next(3); flips > 0 && bytes.Length > 0; flips--)
                bytes[random.Next(bytes.Length)] = (byte)random.Next(256);
            Check(json, () =>
            {
                foreach (WebResult result in random.Choose(protocols).Parse(bytes, 10))
                {
                    read++;
                    Assert.True(result.Title.Length <= 300 && result.Snippet.Length <= 2000);
                    Assert.True(result.Url.Length == 0 || result.Url.StartsWith("http", StringComparison.Ordinal));
                    Assert.DoesNotContain('\n', WebLookup.Document(result).Title);
                }
            });
        }
        Assert.True(read > 1000, $"only {read} results came out: the inputs do not reach the parsers");
    }

    [Fact]
    public void AnyRobotsAndAnyBytesAreRead()
    {
        var random = new SeededRandom(3);
        string[] pieces = ["User-agent:", "Disallow:", "Allow:", "*", "/", "$", "\n", "mem1", "a", "%", "%2", "%C3", "\ud800", "#", ":", "\uFEFF", " ", "é"];
        for (int i = 0; i < 20_000; i++)
        {
            string robots = Soup(random, pieces), path = "/" + Soup(random, pieces);
            byte[] bytes = new byte[random.Next(40)];
            for (int b = 0; b < bytes.Length; b++)
                bytes[b] = (byte)random.Next(256);
            Check(robots, () =>
            {
                _ = RobotsRules.Parse(robots, "mem1").Allows(path);
                _ = TextEncoding.Decode(bytes, random.Choose(["utf-16", "gb18030", "\0", "x-user-defined", robots]), true);
            });
        }
    }

    private static void Check(string input, Action act)
    {
        long start = Stopwatch.GetTimestamp();
        try
        {
            act();
        }
        catch (WebAccessException)
        {
            // An expected failure is a fine answer.
        }
        catch (Exception e)
        {
            Assert.Fail($"{e.GetType().Name} for {input}: {e}");
        }
        Assert.True(Stopwatch.GetElapsedTime(start) < s_hang, input);
    }

    /// <summary>Valid JSON of the fields that the parsers look for, with values of any kind.</summary>
    private static string Value(SeededRandom random, int depth)
    {
        string[] names =
        [
            "organic", "results", "answers", "web", "items", "title", "url", "link", "snippet", "content", "answerBox", "infoboxes", "infobox", "faq",
            "peopleAlsoAsk", "description", "question", "answer", "knowledgeGraph",
        ];
        // The first levels are mostly what the parsers look into: a list of objects.
        int kind = depth == 0 ? 0 : depth <= 2 && random.Chance(0.7) ? depth % 2 : depth > 4 ? 2 + random.Next(4) : random.Next(6);
        return kind switch
        {
            0 => "{" + string.Join(",", Enumerable.Range(0, 1 + random.Next(5)).Select(_ => $"\"{random.Choose(names)}\":{Value(random, depth + 1)}")) + "}",
            1 => "[" + string.Join(",", Enumerable.Range(0, random.Next(4)).Select(_ => Value(random, depth + 1))) + "]",
            2 => random.Choose(["null", "true", "17", "-1e400", "0.5"]),
            3 => "\"http://a.example/" + random.Next(100) + "\"",
            _ => "\"" + random.Choose(["text", "<b>x</b>", "a\\nb", "\\u0000", "\\ud83d\\ude00", "", "&lt;x&gt;", new string('y', 3000)]) + "\"",
        };
    }
}
