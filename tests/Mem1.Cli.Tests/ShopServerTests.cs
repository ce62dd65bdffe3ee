// The browser page over real HTTP, without a browser: every page is parsed as one would, and forms are sent as one would.
using System.Net;
using AngleSharp.Dom;
using AngleSharp.Html.Dom;
using AngleSharp.Html.Parser;
using Mem1.Cli.Shop;
using Mem1.Environments.WebShop;

namespace Mem1.Cli.Tests;

public sealed class ShopServerTests : IAsyncLifetime
{
    private const string Evil = "</pre><script>alert(1)</script>\\\" onmouseover=\\\"alert(2) <img src=x onerror=alert(3)> Chair &amp;";

    private readonly TempFolder _folder = new();
    private readonly HttpClient _client = new(new SocketsHttpHandler { UseProxy = false, AllowAutoRedirect = false });
    private readonly WebShopOptions _options = new();
    private ShopGoals _goals = null!;
    private ShopServer _server = null!;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync()
    {
        var products = _folder.Write("products.json", $$$"""
            [{"asin": "B1", "name": "{{{Evil}}}", "full_description": "{{{Evil}}}", "small_description": ["{{{Evil}}}"], "pricing": "$5.00",
              "query": "chairs", "product_category": "A › B",
              "customization_options": {"size<b>": [{"value": "small<i>"}, {"value": "large\"x"}], "\"><script>": [{"value": "javascript:x"}]}}]
            """);
        var attributes = _folder.Write("attributes.json", $$$"""
            {"B1": {"attributes": ["sturdy"], "instruction": "Find me a chair {{{Evil}}}", "instruction_attributes": ["sturdy"]}}
            """);
        _goals = ShopGoals.Make(
            ShopCatalogue.Load(new ShopFilePaths { Products = products, Attributes = attributes }), GoalKind.Synthetic, 1);
        _server = await ShopServer.StartAsync(_goals, 0, _options, 0, Token);
    }

    public async ValueTask DisposeAsync()
    {
        await _server.DisposeAsync();
        _client.Dispose();
        _folder.Dispose();
    }

    [Fact]
    public async Task AnEpisodeIsPlayedByItsFormsAndShowsWhatTheAgentReads()
    {
        var start = await Page("/");
        Assert.Contains("1 products, 2 goals", start.Body!.TextContent, StringComparison.Ordinal);
        var visit = new ShopVisit(_goals, 1, _options);
        var page = await Send("/visits", ("goal", "1"));
        Assert.Equal(visit.Observation, page.QuerySelector("pre")!.TextContent);
        Assert.Contains("turn 1 of 10", page.Body!.TextContent, StringComparison.Ordinal);

        // A search by its field, then every click by the button that is offered.
        page = await Submit(page, "keywords", "chair");
        visit.Step("search[chair]");
        Assert.Equal(visit.Observation, page.QuerySelector("pre")!.TextContent);
        foreach (var action in (string[])["click[b1]", "click[small< i>]", "click[javascript:x]", "click[features]", "click[< prev]"])
        {
            Assert.Equal(visit.Actions, page.QuerySelectorAll("button[name=action]").Select(b => b.GetAttribute("value")!));
            page = await Submit(page, "action", action);
            Assert.True(visit.Step(action).Offered);
            Assert.Equal(visit.Observation, page.QuerySelector("pre")!.TextContent);
        }

        // Something else than is offered, typed; then the purchase.
        page = await Submit(page, "action", "click[somewhere]", typed: true);
        visit.Step("click[somewhere]");
        Assert.Contains("did not offer", page.Body!.TextContent, StringComparison.Ordinal);
        page = await Submit(page, "action", "click[buy now]");
        var outcome = visit.Step("click[buy now]");
        Assert.True(outcome.Reward > 0);
        Assert.Equal($"Reward {outcome.Reward!.Value.ToString("0.####", System.Globalization.CultureInfo.InvariantCulture)}", page.QuerySelector(".reward")!.TextContent);
        Assert.Contains(outcome.Reasons, page.Body!.TextContent, StringComparison.Ordinal);
        Assert.Equal(visit.Page, page.QuerySelector("pre")!.TextContent);
        Assert.Empty(page.QuerySelectorAll("form"));
        Assert.Equal(8, page.QuerySelectorAll("ol li").Length);
    }

    [Fact]
    public async Task NothingOfAShopOrAVisitorIsMarkup()
    {
        var page = await Send("/visits", ("goal", "0"), ("rich", "on"));
        Inert(await Page("/"));
        foreach (var action in (string[])["search[chair]", "click[b1]", "click[small< i>]", "click[description]", $"search[{Evil}]", "click[<script>alert(4)</script>]"])
        {
            page = await Submit(page, "action", action, typed: true);
            Inert(page);
        }

        Inert(await Page("/visits/%3Cscript%3E", HttpStatusCode.NotFound));

        static void Inert(IHtmlDocument page)
        {
            // What the templates hold, and nothing that an instruction, a title, an option or an action brought in.
            string[] known = ["html", "head", "meta", "title", "link", "body", "h1", "h2", "p", "pre", "form", "label", "input", "button", "ol", "li", "a", "details", "summary", "div"];
            Assert.Empty(page.All.Select(e => e.LocalName).Except(known));
            Assert.DoesNotContain(page.All.SelectMany(e => e.Attributes), a => a.Name.StartsWith("on", StringComparison.Ordinal));
            Assert.DoesNotContain(page.All.SelectMany(e => e.Attributes), a => a.Name is "href" or "src" or "action" && !a.Value.StartsWith('/') && a.OwnerElement!.LocalName != "button");
        }
    }

    [Fact]
    public async Task ForeignNamesAndOriginsBadFormsAndOldVisitsAreRefused()
    {
        var port = _server.Address.Port;
        using var rebound = new HttpRequestMessage(HttpMethod.Get, _server.Address) { Headers = { Host = $"evil.example:{port}" } };
        using var misdirected = await _client.SendAsync(rebound, Token);
        Assert.Equal(HttpStatusCode.MisdirectedRequest, misdirected.StatusCode);

        using var foreign = new HttpRequestMessage(HttpMethod.Post, new Uri(_server.Address, "/visits")) { Content = Form(("goal", "0")) };
        foreign.Headers.Add("Origin", "http://evil.example");
        using var refused = await _client.SendAsync(foreign, Token);
        Assert.Equal(HttpStatusCode.Forbidden, refused.StatusCode);
        using var own = new HttpRequestMessage(HttpMethod.Post, new Uri(_server.Address, "/visits")) { Content = Form(("goal", "0")) };
        own.Headers.Add("Origin", $"http://127.0.0.1:{port}");
        using var taken = await _client.SendAsync(own, Token);
        Assert.Equal(HttpStatusCode.SeeOther, taken.StatusCode);
        var oldest = taken.Headers.Location!;

        foreach (var goal in (string[])["2", "-1", "x", ""]) Assert.Equal(HttpStatusCode.BadRequest, await Status("/visits", Form(("goal", goal))));
        Assert.Equal(HttpStatusCode.BadRequest, await Status("/visits", new StringContent("goal=0")));
        Assert.Equal(HttpStatusCode.BadRequest, await Status(oldest.ToString(), Form(("action", " "))));
        Assert.Equal(HttpStatusCode.BadRequest, await Status(oldest.ToString(), Form(("action", new string('x', ShopServer.LongestAction + 1)))));
        Assert.Equal(HttpStatusCode.RequestEntityTooLarge, await Status(oldest.ToString(), Form(("action", new string('x', 100_000)))));
        Assert.Equal(HttpStatusCode.NotFound, await Status("/nowhere", Form()));

        Assert.Equal(HttpStatusCode.SeeOther, await Status(oldest.ToString(), Form(("action", "click[search]"))));
        for (var i = 0; i < ShopServer.MostVisits; i++) Assert.Equal(HttpStatusCode.SeeOther, await Status("/visits", Form(("goal", "0"))));
        Assert.Equal(HttpStatusCode.NotFound, await Status(oldest.ToString(), Form(("action", "click[search]"))));

        async Task<HttpStatusCode> Status(string path, HttpContent content)
        {
            using (content)
            {
                using var response = await _client.PostAsync(new Uri(_server.Address, path), content, Token);
                return response.StatusCode;
            }
        }
    }

    private async Task<IHtmlDocument> Page(string path, HttpStatusCode expected = HttpStatusCode.OK)
    {
        using var response = await _client.GetAsync(new Uri(_server.Address, path), Token);
        Assert.Equal(expected, response.StatusCode);
        Assert.Equal("text/html; charset=utf-8", response.Content.Headers.ContentType!.ToString());
        var policy = Assert.Single(response.Headers.GetValues("Content-Security-Policy"));
        Assert.Contains("default-src 'none'", policy, StringComparison.Ordinal);
        Assert.DoesNotContain("unsafe", policy, StringComparison.Ordinal);
        Assert.DoesNotContain("script-src", policy, StringComparison.Ordinal);
        var text = await response.Content.ReadAsStringAsync(Token);
        Assert.DoesNotContain("http", text.Replace(WebUtility.HtmlEncode(Evil), "", StringComparison.Ordinal), StringComparison.Ordinal);
        return new HtmlParser().ParseDocument(text);
    }

    /// <summary>Sends a form and follows to the page it leads to.</summary>
    private async Task<IHtmlDocument> Send(string path, params (string Name, string Value)[] fields)
    {
        using var content = Form(fields);
        using var response = await _client.PostAsync(new Uri(_server.Address, path), content, Token);
        Assert.Equal(HttpStatusCode.SeeOther, response.StatusCode);
        return await Page(response.Headers.Location!.ToString());
    }

    /// <summary>Presses the button of that value, or fills the field of that name.</summary>
    private Task<IHtmlDocument> Submit(IHtmlDocument page, string name, string value, bool typed = false)
    {
        var control = name == "action" && !typed
            ? Assert.Single(page.QuerySelectorAll($"button[name={name}]"), b => b.GetAttribute("value") == value)
            : Assert.Single(page.QuerySelectorAll($"input[name={name}]"));
        var form = control.Closest("form")!;
        Assert.Equal("post", form.GetAttribute("method"));
        return Send(form.GetAttribute("action")!, (name, value));
    }

    private static FormUrlEncodedContent Form(params (string Name, string Value)[] fields) =>
        new(fields.Select(f => KeyValuePair.Create(f.Name, f.Value)));
}
