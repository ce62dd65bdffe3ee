using System.Net;
using System.Net.Http.Headers;
using System.Text.Json;
using Mem1.Environments.Web;

namespace Mem1.Environments.Tests.Web;

public sealed class SearchProviderTests
{
    private const string Secret = "sk-TopSecret-123";

    private static readonly WebRequestOptions s_fast = new() { RetryDelay = TimeSpan.Zero };

    private static ApiKey Key()
    {
        string variable = $"MEM1_TEST_KEY_{Guid.NewGuid():N}";
        Environment.SetEnvironmentVariable(variable, Secret + "\n");
        return ApiKey.Read(variable, out _)!;
    }

    private static Task<IReadOnlyList<WebResult>> Search(ISearchProvider provider, string query = "q", int count = 10) =>
        provider.SearchAsync(query, count, TestContext.Current.CancellationToken);

    [Fact]
    public async Task SerperSendsAndReadsAsInTheGoldenTableWithTheAnswerKept()
    {
        FakeHandler handler = FakeHandler.Always(
            """
            {"answer_box":{"answer":42},"organic":[{"title":"T1","snippet":"S1","link":"https://a.example/x"},{"title":"T2"},{"junk":[1]},7],
             "related_questions":[{"question":"Q?"}]}
            """);
        IReadOnlyList<WebResult> results = await Search(SearchProvider.Serper(handler.Client, Key()), "who's \"x\"\tand C++?\n");
        Assert.Equal(
            ["\"No title.\"\n42", "\"T1\"\nS1\nURL: https://a.example/x", "\"T2\"\nNo snippet available.", "\"Q?\"\nNo snippet available."],
            results.Select(r => WebLookup.Document(r).Contents));
        var sent = Assert.Single(handler.Requests);
        Assert.Equal((HttpMethod.Post, "https://google.serper.dev/search"), (sent.Method, sent.Address.ToString()));
        Assert.Equal(Secret, sent.Headers["X-API-KEY"]);
        using JsonDocument body = JsonDocument.Parse(sent.Body);
        Assert.Equal("who's \"x\" and C++?", body.RootElement.GetProperty("q").GetString());
        Assert.Equal(10, body.RootElement.GetProperty("num").GetInt32());
    }

    [Fact]
    public async Task SerperReadsItsOwnFieldNames()
    {
        FakeHandler handler = FakeHandler.Always(
            """
            {"answerBox":{"title":"Capital","answer":"Paris","link":"https://x.example"},
             "knowledgeGraph":{"title":"France","description":"A <b>country</b> &amp; more"},
             "organic":[{"title":"One","snippet":"1","link":"javascript:alert(1)"}],
             "peopleAlsoAsk":[{"question":"Why?","snippet":"So","link":"http://y.example/"}]}
            """);
        Assert.Equal(
            [
                new WebResult("Capital", "Paris", "https://x.example/"), new WebResult("France", "A country & more", ""),
                new WebResult("One", "1", ""), new WebResult("Why?", "So", "http://y.example/"),
            ],
            await Search(SearchProvider.Serper(handler.Client, Key())));
    }

    [Fact]
    public async Task GoogleSendsItsKeyInAHeaderAndKeepsShortSnippets()
    {
        const string Snippet = "Jan 1, 2020 ... Paris is the capital of France and its largest city ... too short";
        FakeHandler handler = FakeHandler.Always(
            $$"""{"items":[{"title":"A","snippet":"{{Snippet}}","link":"https://a.example/"},{"title":"B","snippet":"only five words are here"}]}""");
        IReadOnlyList<WebResult> results = await Search(SearchProvider.Google(handler.Client, Key(), "my cx"), "C++ & C# São_Paulo", 50);
        Assert.Equal(["Paris is the capital of France and its largest city", "only five words are here"], results.Select(r => r.Snippet));
        var sent = Assert.Single(handler.Requests);
        Assert.Equal(Secret, sent.Headers["X-Goog-Api-Key"]);
        Assert.DoesNotContain(Secret, sent.Address.ToString());
        Assert.Equal("?cx=my%20cx&num=10&q=C%2B%2B%20%26%20C%23%20S%C3%A3o_Paulo", sent.Address.Query);
    }

    [Fact]
    public void SnippetsOfSixWordsAreSentences() =>
        Assert.Equal("one two three four five six", GoogleProtocol.Sentences("x y ... one two three four five six ... z"));

    [Fact]
    public async Task BraveIsRead()
    {
        FakeHandler handler = FakeHandler.Always(
            """
            {"infobox":{"results":[{"title":"I","long_desc":"L","url":"https://i.example/"}]},
             "faq":{"results":[{"question":"Q","answer":"A","url":"https://f.example/"}]},
             "web":{"results":[{"title":"W","description":"<strong>D</strong> 1 < 2","url":"https://w.example/"}]}}
            """);
        Assert.Equal(
            [
                new WebResult("I", "L", "https://i.example/"), new WebResult("Q", "A", "https://f.example/"),
                new WebResult("W", "D 1 < 2", "https://w.example/"),
            ],
            await Search(SearchProvider.Brave(handler.Client, Key()), count: 10));
        Assert.Equal(Secret, handler.Requests[0].Headers["X-Subscription-Token"]);
        Assert.Single(await Search(SearchProvider.Brave(handler.Client, Key()), count: 1));
    }

    [Fact]
    public async Task SearxngAnswersOfOldAndNewInstancesAreRead()
    {
        FakeHandler handler = FakeHandler.Always(
            """
            {"answers":["old",{"answer":"new","url":"https://n.example/"}],"infoboxes":[{"infobox":"Box","content":"C","id":"https://id.example/"}],
             "results":[{"title":"R","content":null,"url":"https://r.example/"},{"title":"","content":""}]}
            """);
        Assert.Equal(
            [
                new WebResult("", "old", ""), new WebResult("", "new", "https://n.example/"), new WebResult("Box", "C", "https://id.example/"),
                new WebResult("R", "", "https://r.example/"),
            ],
            await Search(SearchProvider.Searxng(handler.Client, new Uri("http://s.example/search?language=en"))));
        Assert.Equal("http://s.example/search?language=en&format=json&q=q", handler.Requests[0].Address.ToString());
    }

    [Fact]
    public async Task PassingFailuresAreRetriedAndRetryAfterIsKept()
    {
        var clock = System.Diagnostics.Stopwatch.StartNew();
        var handler = new FakeHandler(n =>
        {
            if (n == 3)
                return FakeHandler.Json("""{"results":[{"title":"T"}]}""");
            HttpResponseMessage refused = FakeHandler.Json("{}", n == 1 ? HttpStatusCode.TooManyRequests : HttpStatusCode.BadGateway);
            refused.Headers.RetryAfter = n == 1 ? new RetryConditionHeaderValue(TimeSpan.FromSeconds(1)) : null;
            return refused;
        });
        Assert.Single(await Search(SearchProvider.Searxng(handler.Client, options: s_fast)));
        Assert.Equal(3, handler.Requests.Count);
        Assert.True(clock.Elapsed >= TimeSpan.FromSeconds(0.9), $"waited {clock.Elapsed}");
    }

    [Fact]
    public async Task ARetryAfterBeyondTheDeadlineFailsAtOnce()
    {
        var handler = new FakeHandler(_ =>
        {
            HttpResponseMessage refused = FakeHandler.Json("{}", HttpStatusCode.ServiceUnavailable);
            refused.Headers.RetryAfter = new RetryConditionHeaderValue(TimeSpan.FromHours(1));
            return refused;
        });
        WebAccessException e = await Assert.ThrowsAsync<WebAccessException>(() => Search(SearchProvider.Searxng(handler.Client, options: s_fast)));
        Assert.Equal((WebFailure.Status, 503, 1), (e.Failure, e.Status, handler.Requests.Count));
    }

    [Theory]
    [InlineData("[1]", 200, WebFailure.Malformed, 1)]
    [InlineData("{", 200, WebFailure.Malformed, 1)]
    [InlineData("""{"results":[{"title":"\ud800"}]}""", 200, WebFailure.Malformed, 1)]
    [InlineData("{}", 401, WebFailure.Status, 1)]
    [InlineData("{}", 302, WebFailure.Status, 1)]
    [InlineData("{}", 500, WebFailure.Status, 3)]
    public async Task FailuresAreOfTheirKindAndHoldNoSecret(string body, int status, WebFailure failure, int attempts)
    {
        var handler = new FakeHandler(_ => FakeHandler.Json(body, (HttpStatusCode)status));
        ISearchProvider provider = SearchProvider.Searxng(handler.Client, key: Key(), options: s_fast);
        WebAccessException e = await Assert.ThrowsAsync<WebAccessException>(() => Search(provider, "my private query"));
        Assert.Equal((failure, attempts), (e.Failure, handler.Requests.Count));
        Assert.DoesNotContain(Secret, e.ToString());
        Assert.DoesNotContain("private query", e.ToString());
    }

    [Fact]
    public async Task RepliesAndWaitsAreBounded()
    {
        FakeHandler large = FakeHandler.Always($$"""{"results":[{"title":"{{new string('x', 5000)}}"}]}""");
        ISearchProvider bounded = SearchProvider.Searxng(large.Client, options: s_fast with { MaxBytes = 2048 });
        Assert.Equal(WebFailure.TooLarge, (await Assert.ThrowsAsync<WebAccessException>(() => Search(bounded))).Failure);

        var deaf = new DeafHandler();
        WebRequestOptions brief = s_fast with { AttemptTimeout = TimeSpan.FromMilliseconds(50), Attempts = 2 };
        WebAccessException e = await Assert.ThrowsAsync<WebAccessException>(
            () => Search(SearchProvider.Searxng(new HttpClient(deaf), options: brief)));
        Assert.Equal((WebFailure.Timeout, 2), (e.Failure, deaf.Asked));

        using var cancel = new CancellationTokenSource(50);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(
            () => SearchProvider.Searxng(new HttpClient(deaf)).SearchAsync("q", 1, cancel.Token));
    }

    /// <summary>Takes requests and never answers.</summary>
    private sealed class DeafHandler : HttpMessageHandler
    {
        public int Asked;

        protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            Asked++;
            await Task.Delay(Timeout.Infinite, cancellationToken);
            throw new InvalidOperationException("An endless wait ended.");
        }
    }

    [Fact]
    public void KeysComeFromTheEnvironmentAndNeverPrint()
    {
        Assert.DoesNotContain(Secret, Key().ToString());
        Assert.Null(ApiKey.Read("MEM1_TEST_NO_SUCH_KEY", out string? missing));
        Assert.Contains("MEM1_TEST_NO_SUCH_KEY", missing);
        Environment.SetEnvironmentVariable("MEM1_TEST_BAD_KEY", "two words");
        Assert.Null(ApiKey.Read("MEM1_TEST_BAD_KEY", out string? bad));
        Assert.DoesNotContain("two words", bad);
    }
}
