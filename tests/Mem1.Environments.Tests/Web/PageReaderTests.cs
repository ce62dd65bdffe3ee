using System.Net;
using Mem1.Environments.Web;
using Microsoft.AspNetCore.Http;

namespace Mem1.Environments.Tests.Web;

public sealed class PageReaderTests
{
    private static readonly PageReaderOptions s_private = new() { AllowPrivateAddresses = true, Requests = new() { RetryDelay = TimeSpan.Zero } };

    private static async Task<WebFailure> Fails(PageReader reader, string url) =>
        (await Assert.ThrowsAsync<WebAccessException>(() => reader.ReadAsync(url, TestContext.Current.CancellationToken))).Failure;

    [Fact]
    public void MainTextIsKeptAndLinksNavigationAndScriptsAreDropped()
    {
        (string title, string text) = PageText.Of(
            """
            <title> A
            page </title><style>p{}</style><body><header><a href=x>Home</a></header><nav>menu</nav><main><h1><a href=y>Heading</a></h1>
            <p>One <a href="http://secret.example">linked</a> word &amp; more.<br>Next line.<script>alert(1)</script></p>
            <ul><li><a href=1>Only a link</a></li><li>Item</li></ul><div style="display: none">hidden</div><p hidden>gone</p>
            <table><tr><th>Key</th><td>Value</td></tr></table></main><footer>legal</footer>
            """, 1000, default);
        Assert.Equal(("A page", "Heading\nOne linked word & more.\nNext line.\nItem\nKey Value"), (title, text));
        Assert.Equal("Only links", PageText.Of("<p><a href=x>Only links</a></p>", 100, default).Text);
        Assert.Equal("abc", PageText.Of("<p>abcdef", 3, default).Text);
        Assert.Equal(("", ""), PageText.Of("", 10, default));
    }

    [Theory]
    [InlineData("<div>", 300_000)]
    [InlineData("<b><i>", 100_000)]
    [InlineData("<a><p>", 50_000)]
    [InlineData("<table><tr><td>", 30_000)]
    [InlineData("</x>", 300_000)]
    [InlineData("<x a=1 a=2", 100_000)]
    [InlineData("&amp", 300_000)]
    [InlineData("<select><option>", 50_000)]
    [InlineData("<svg><math>", 50_000)]
    public void HostileMarkupNeitherHangsNorOverflowsTheStack(string piece, int times)
    {
        string html = string.Concat(Enumerable.Repeat(piece, times));
        Exception? e = Record.Exception(() => PageText.Of(html, 1000, default));
        Assert.True(e is null or WebAccessException, e?.ToString());
    }

    [Theory]
    [InlineData("ftp://a.example/")]
    [InlineData("file:///etc/passwd")]
    [InlineData("javascript:alert(1)")]
    [InlineData("a page")]
    [InlineData("")]
    [InlineData("/relative")]
    [InlineData("http://user:pw@a.example/")]
    public async Task OnlyHttpAddressesAreOpened(string url)
    {
        using var reader = new PageReader();
        Assert.Equal(WebFailure.BadAddress, await Fails(reader, url));
    }

    [Theory]
    [InlineData("127.0.0.1", false)]
    [InlineData("10.1.2.3", false)]
    [InlineData("172.31.0.1", false)]
    [InlineData("172.32.0.1", true)]
    [InlineData("192.168.0.1", false)]
    [InlineData("169.254.169.254", false)]
    [InlineData("100.64.0.1", false)]
    [InlineData("0.0.0.0", false)]
    [InlineData("224.0.0.1", false)]
    [InlineData("255.255.255.255", false)]
    [InlineData("8.8.8.8", true)]
    [InlineData("::1", false)]
    [InlineData("::", false)]
    [InlineData("fe80::1", false)]
    [InlineData("fd00::1", false)]
    [InlineData("::ffff:127.0.0.1", false)]
    [InlineData("::ffff:8.8.8.8", true)]
    [InlineData("64:ff9b::7f00:1", false)]
    [InlineData("2002:7f00:1::", false)]
    [InlineData("2001:db8::1", false)]
    [InlineData("2606:4700::1111", true)]
    public void PrivateRangesAreKnown(string address, bool isPublic) =>
        Assert.Equal(isPublic, WebClients.IsPublic(IPAddress.Parse(address)));

    [Fact]
    public async Task PrivateAddressesAreRefusedHoweverTheyAreReached()
    {
        await using LoopbackSite site = await LoopbackSite.StartAsync(c => LoopbackSite.Html(c, "<p>inner"));
        int port = site.Endpoint.Port;
        using var plain = new PageReader();
        foreach (string host in (string[])["127.0.0.1", "[::1]", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"])
            Assert.Equal(WebFailure.PrivateAddress, await Fails(plain, $"http://{host}:{port}/"));

        // A name that is public when first asked and private when asked again: only the address connected to counts.
        int asked = 0;
        using var rebinding = new PageReader(
            new PageReaderOptions { RespectRobots = false, Requests = new() { Attempts = 1 } }, null,
            (_, _) => Task.FromResult<IPAddress[]>([++asked > 1 ? IPAddress.Parse("8.8.8.8") : IPAddress.Loopback]));
        Assert.Equal(WebFailure.PrivateAddress, await Fails(rebinding, $"http://rebind.example:{port}/"));
        Assert.Equal(1, asked);
        Assert.Empty(site.Asked);
    }

    [Fact]
    public async Task EveryRedirectIsCheckedAndTheirNumberIsBounded()
    {
        await using LoopbackSite site = await LoopbackSite.StartAsync(c =>
        {
            string path = c.Request.Path.Value!;
            if (path == "/end")
                return LoopbackSite.Html(c, "<title>End</title><p>text");
            string? to = path switch
            {
                "/private" => "http://10.0.0.1/",
                "/file" => "file:///etc/passwd",
                "/loop" => "/loop",
                "/two" => "/one",
                "/one" => "end",
                _ => null,
            };
            c.Response.StatusCode = to is null ? 404 : 302;
            if (to is not null)
                c.Response.Headers.Location = to;
            return Task.CompletedTask;
        });
        using var reader = new PageReader(
            s_private with { AllowPrivateAddresses = false, HostOverrides = new Dictionary<string, IPEndPoint> { ["site.test"] = site.Endpoint } });
        Assert.Equal(
            new WebPage("http://site.test/end", "End", "text"),
            await reader.ReadAsync("http://site.test/two", TestContext.Current.CancellationToken));
        Assert.Equal(WebFailure.PrivateAddress, await Fails(reader, "http://site.test/private"));
        Assert.Equal(WebFailure.BadAddress, await Fails(reader, "http://site.test/file"));
        Assert.Equal(WebFailure.Redirects, await Fails(reader, "http://site.test/loop"));
        Assert.Equal(6, site.Asked.Count(a => a == "/loop"));
        Assert.Equal(WebFailure.Status, await Fails(reader, "http://site.test/none"));
    }

    [Fact]
    public async Task RobotsAreAskedOncePerSiteAndKept()
    {
        int robotsStatus = 200;
        await using LoopbackSite site = await LoopbackSite.StartAsync(c =>
        {
            if (c.Request.Path != "/robots.txt")
                return LoopbackSite.Html(c, "<p>text");
            c.Response.StatusCode = robotsStatus;
            return LoopbackSite.Html(c, "User-agent: Mem1\nDisallow: /closed\nAllow: /closed/open\n", "text/plain");
        });
        using (var reader = new PageReader(s_private))
        {
            Assert.Equal("text", (await reader.ReadAsync(site.Root + "/a", default)).Text);
            Assert.Equal(WebFailure.Robots, await Fails(reader, site.Root + "/closed/b"));
            Assert.Equal("text", (await reader.ReadAsync(site.Root + "/closed/open", default)).Text);
            Assert.Equal(1, site.Asked.Count(a => a == "/robots.txt"));
        }
        using (var careless = new PageReader(s_private with { RespectRobots = false }))
            Assert.Equal("text", (await careless.ReadAsync(site.Root + "/closed/b", default)).Text);
        robotsStatus = 500;
        using (var reader = new PageReader(s_private))
            Assert.Equal(WebFailure.Robots, await Fails(reader, site.Root + "/a"));
        robotsStatus = 404;
        using (var reader = new PageReader(s_private))
            Assert.Equal("text", (await reader.ReadAsync(site.Root + "/closed/b", default)).Text);
    }

    [Theory]
    [InlineData("User-agent: *\nDisallow: /", "/x", false)]
    [InlineData("User-agent: *\nDisallow:", "/x", true)]
    [InlineData("User-agent: *\nDisallow: /\nUser-agent: mem1/2\nDisallow: /y", "/x", true)]
    [InlineData("User-agent: a\nUser-agent: *\nDisallow: /x", "/x", false)]
    [InlineData("User-agent: a\nDisallow: /x", "/x", true)]
    [InlineData("User-agent: *\nDisallow: /x\nAllow: /x", "/x", true)]
    [InlineData("User-agent: *\nDisallow: /*.php$", "/a/b.php", false)]
    [InlineData("User-agent: *\nDisallow: /*.php$", "/a/b.php?q", true)]
    [InlineData("User-agent: *\nDisallow: /a*b*c", "/aXbYc", false)]
    [InlineData("User-agent: *\nDisallow: /ü # comment", "/%c3%bc", false)]
    [InlineData("\uFEFFuser-agent: *\r\n\r\ndisallow: /x", "/xy", false)]
    [InlineData("Disallow: /", "/x", true)]
    [InlineData("User-agent: *\nDisallow: /exact$", "/exactly", true)]
    public void RobotsRulesFollowTheStandard(string robots, string path, bool allowed) =>
        Assert.Equal(allowed, RobotsRules.Parse(robots, "Mem1").Allows(path));

    [Fact]
    public async Task TypesSizesAndTimesAreBounded()
    {
        await using LoopbackSite site = await LoopbackSite.StartAsync(c => c.Request.Path.Value switch
        {
            "/robots.txt" => LoopbackSite.Html(c, "", "text/plain"),
            "/pdf" => LoopbackSite.Html(c, "%PDF", "application/pdf"),
            "/plain" => LoopbackSite.Html(c, "line  one\n\n<b>line two\n", "text/plain"),
            "/large" => LoopbackSite.Html(c, "<p>start " + new string('x', 100_000)),
            _ => Task.Delay(Timeout.Infinite, c.RequestAborted),
        });
        using var reader = new PageReader(s_private with
        {
            MaxCharacters = 2000,
            Requests = new() { AttemptTimeout = TimeSpan.FromMilliseconds(400), Attempts = 1, MaxBytes = 4096 },
        });
        Assert.Equal(WebFailure.NotText, await Fails(reader, site.Root + "/pdf"));
        Assert.Equal("line one\n<b>line two", (await reader.ReadAsync(site.Root + "/plain", default)).Text);
        Assert.Equal("start " + new string('x', 1994), (await reader.ReadAsync(site.Root + "/large", default)).Text);
        Assert.Equal(WebFailure.Timeout, await Fails(reader, site.Root + "/slow"));
    }

    [Fact]
    public void EncodingsComeFromMarkHeaderAndPage()
    {
        Assert.Equal("é", TextEncoding.Decode([0xE9], "iso-8859-1", true));
        Assert.Equal("<meta charset=windows-1252>é", TextEncoding.Decode([.. "<meta charset=windows-1252>"u8, 0xE9], null, true));
        Assert.Equal("é", TextEncoding.Decode([0xEF, 0xBB, 0xBF, 0xC3, 0xA9], "iso-8859-1", true));
        Assert.Equal("\uFFFD", TextEncoding.Decode([0xE9], "no-such-encoding", true));
    }
}
