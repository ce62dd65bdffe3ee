// The defects of the search proxies that came with the original, each with what is so here. What each service sends and how it is read
// stands in SearchProviderTests; tags in what the web says and the replay of answers in WebQaTests.
using System.Net;
using Mem1.Environments.Qa;
using Mem1.Environments.Tasks;
using Mem1.Environments.Web;
using Microsoft.AspNetCore.Http;

namespace Mem1.Environments.Tests.Web;

public sealed class ProxyDefectTests
{
    private static SearchProvider Provider(string name, HttpClient client, Uri? endpoint = null)
    {
        var fast = new WebRequestOptions { RetryDelay = TimeSpan.Zero };
        return name switch
        {
            "serper" => SearchProvider.Serper(client, null, endpoint, fast),
            "google" => SearchProvider.Google(client, null, "cx", endpoint, fast),
            "brave" => SearchProvider.Brave(client, null, endpoint, fast),
            _ => SearchProvider.Searxng(client, endpoint, null, fast),
        };
    }

    private static string Reply(string name, IEnumerable<string> titles)
    {
        string list = string.Join(",", titles.Select(t => $$"""{"title":"{{t}}","link":"http://e.example/{{t}}","url":"http://e.example/{{t}}"}"""));
        return name switch
        {
            "serper" => $$"""{"organic":[{{list}}],"peopleAlsoAsk":[{"question":"q?"}]}""",
            "google" => $$"""{"items":[{{list}}]}""",
            "brave" => $$$"""{"web":{"results":[{{{list}}}]}}""",
            _ => $$"""{"results":[{{list}}]}""",
        };
    }

    /// <summary>There: the number asked for was ignored, answers and related questions came on top of it, and addresses were left out.</summary>
    [Theory]
    [InlineData("serper")]
    [InlineData("google")]
    [InlineData("brave")]
    [InlineData("searxng")]
    public async Task AsManyResultsAsAskedForEachWithItsAddress(string name)
    {
        FakeHandler handler = FakeHandler.Always(Reply(name, Enumerable.Range(0, 30).Select(i => $"t{i}")));
        foreach (int count in (int[])[1, 3, 10])
        {
            IReadOnlyList<WebResult> results = await Provider(name, handler.Client).SearchAsync("q", count, default);
            Assert.Equal(Enumerable.Range(0, count).Select(i => $"http://e.example/t{i}"), results.Select(r => r.Url));
        }
    }

    /// <summary>There: all that is no word became a space, so that "C++" was searched as "C".</summary>
    [Theory]
    [InlineData("serper")]
    [InlineData("google")]
    [InlineData("brave")]
    [InlineData("searxng")]
    public async Task AQueryArrivesAsItWasWritten(string name)
    {
        const string Query = "C++ & C# 100% «São Paulo» \"it's\" a=b?c;d/e\\f {g} 東京 \ud83d\ude00";
        string? arrived = null;
        await using LoopbackSite site = await LoopbackSite.StartAsync(async context =>
        {
            arrived = context.Request.Method == "GET"
                ? context.Request.Query["q"].ToString()
                : (await context.Request.ReadFromJsonAsync<Dictionary<string, object>>())!["q"].ToString();
            await LoopbackSite.Html(context, Reply(name, ["t"]), "application/json");
        });
        using HttpClient client = WebClients.ForSearch();
        Assert.NotEmpty(await Provider(name, client, new Uri(site.Root + "/search")).SearchAsync(Query, 3, default));
        Assert.Equal(Query, arrived);
    }

    /// <summary>There: every query of a batch was paired with the results of all; and one failing query failed the batch.</summary>
    [Fact]
    public async Task EverySearchHasItsOwnResultsAndAFailingOneFailsAlone()
    {
        await using LoopbackSite site = await LoopbackSite.StartAsync(async context =>
        {
            string query = context.Request.Query["q"].ToString();
            await Task.Yield();
            if (query.EndsWith('7'))
            {
                context.Response.StatusCode = 500;
                return;
            }
            await LoopbackSite.Html(context, query.EndsWith('3') ? "no json" : Reply("searxng", [query]), "application/json");
        });
        using HttpClient client = WebClients.ForSearch();
        SearchProvider provider = Provider("searxng", client, new Uri(site.Root + "/search"));
        string[] found = await Task.WhenAll(Enumerable.Range(0, 100).Select(async i =>
        {
            try
            {
                return Assert.Single(await provider.SearchAsync($"q{i}", 3, default)).Title;
            }
            catch (WebAccessException e)
            {
                return $"{e.Failure}";
            }
        }));
        Assert.Equal(Enumerable.Range(0, 100).Select(i => (i % 10) switch { 3 => "Malformed", 7 => "Status", _ => $"q{i}" }), found);
    }

    /// <summary>There: a failure looked like a search without results. Here the agent and the run's metrics can tell them apart.</summary>
    [Fact]
    public async Task AFailureIsNotAnEmptyResult()
    {
        var task = new EnvironmentTask("t", [new Objective("1", "Q?", ["gold"])]);
        async Task<TurnResult> Step(HttpStatusCode status)
        {
            var handler = new FakeHandler(_ => FakeHandler.Json("{}", status));
            await using IEnvironment environment = new WebQaFactory(Provider("serper", handler.Client), null, new WebQaOptions()).Create(task, 1);
            TurnResult turn = await environment.StepAsync("<think>a</think><search>q</search>", false, default);
            Assert.Equal(status == HttpStatusCode.OK ? 1 : 3, handler.Requests.Count); // passing failures are tried again
            return turn;
        }
        TurnResult none = await Step(HttpStatusCode.OK), failed = await Step(HttpStatusCode.BadGateway);
        Assert.Equal((0, 1), (none.Failures, failed.Failures));
        Assert.Contains("No page matches", none.Observation);
        Assert.Contains("The search failed", failed.Observation);
    }

    /// <summary>There: replies without one of the two boxes left a variable unbound.</summary>
    [Theory]
    [InlineData("serper")]
    [InlineData("google")]
    [InlineData("brave")]
    [InlineData("searxng")]
    public async Task AReplyWithoutAnyOfItsPartsIsAnEmptyResult(string name) =>
        Assert.Empty(await Provider(name, FakeHandler.Always("{}").Client).SearchAsync("q", 3, default));
}
