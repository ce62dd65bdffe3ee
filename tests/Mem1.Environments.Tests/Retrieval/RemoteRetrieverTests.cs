using System.Diagnostics;
using System.Net.Sockets;
using System.Text;
using Mem1.Environments.Qa;
using Mem1.Environments.Retrieval;

namespace Mem1.Environments.Tests.Retrieval;

public sealed class RemoteRetrieverTests
{
    private const string Good = """{"result": [[{"document": {"id": "7", "contents": "T\nx"}, "score": 2.5}]]}""";

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    private static RemoteRetrieverOptions Options(string url) => new()
    {
        Url = url,
        Deadline = TimeSpan.FromSeconds(20),
        RetryDelay = TimeSpan.FromMilliseconds(1),
        MaxReplyBytes = 100_000,
    };

    private static async Task<string> Failure(RemoteRetriever retriever, string query = "q") =>
        (await Assert.ThrowsAsync<RetrieverException>(async () => await retriever.RetrieveAsync(query, 3, Token))).Message;

    [Theory]
    [InlineData(Good)]
    [InlineData("""{"result": [[{"document": {"id": 7, "title": "T", "text": "x"}, "score": 2.5, "more": {}}, {"document": "second"}]], "x": 1}""")]
    [InlineData("""{"result": [[{"id": "7", "contents": "T\nx"}, {"contents": "second"}]]}""")]
    [InlineData("""{"result": [[{"id": "7", "contents": "T\nx"}, "second"]]}""")]
    public async Task ReadsEveryFormOfHit(string reply)
    {
        await using var server = new HostileServer((_, stream, _) => HostileServer.Send(stream, reply));
        using var retriever = new RemoteRetriever(Options(server.Url));
        IReadOnlyList<SearchHit> hits = await retriever.RetrieveAsync("q", 3, Token);
        Assert.Equal(new Passage("7", "T\nx"), hits[0].Passage);
        Assert.All(hits.Skip(1), h => Assert.Equal(new Passage("2", "second"), h.Passage));
        Assert.Single(await retriever.RetrieveAsync("q", 1, Token));
    }

    [Theory]
    [InlineData("", "not valid JSON")]
    [InlineData("<html>", "not valid JSON")]
    [InlineData("{\"result\": [[", "not valid JSON")]
    [InlineData("[]", "not an object with the field")]
    [InlineData("{\"detail\": \"x\"}", "not an object with the field")]
    [InlineData("{\"result\": []}", "one list for the one query")]
    [InlineData("{\"result\": [[], []]}", "one list for the one query")]
    [InlineData("{\"result\": [5]}", "one list for the one query")]
    [InlineData("{\"result\": [[5]]}", "a number where the document of hit 1")]
    [InlineData("{\"result\": [[{\"document\": null, \"score\": 1}]]}", "null where the document of hit 1")]
    [InlineData("{\"result\": [[{\"document\": \"x\", \"score\": \"1\"}]]}", "no number as the score of hit 1")]
    [InlineData("{\"result\": [[{\"document\": \"x\", \"score\": 1e999}]]}", "no number as the score of hit 1")]
    [InlineData("{\"result\": [[{\"id\": \"x\"}]]}", "neither \"contents\" nor \"text\"")]
    [InlineData("{\"result\": [[{\"id\": [], \"contents\": \"\"}]]}", "a list as the id of hit 1")]
    [InlineData("{\"result\": [[\"\\ud800\"]]}", "not text")]
    public async Task BadRepliesAreNamedAndNotRepeated(string reply, string expected)
    {
        await using var server = new HostileServer((_, stream, _) => HostileServer.Send(stream, reply));
        using var retriever = new RemoteRetriever(Options(server.Url));
        Assert.Contains(expected, await Failure(retriever));
        Assert.Equal(1, server.Requests);
    }

    [Fact]
    public async Task TransientFailuresAreRepeatedWithinBounds()
    {
        await using var server = new HostileServer((request, stream, _) => request switch
        {
            1 => HostileServer.Send(stream, "busy", 503),
            2 => HostileServer.Send(stream, Good, length: 5000), // cut off
            3 => HostileServer.Send(stream, Good),
            _ => HostileServer.Send(stream, "no", 429),
        });
        using var retriever = new RemoteRetriever(Options(server.Url));
        Assert.Single(await retriever.RetrieveAsync("q", 3, Token));
        Assert.Equal(3, server.Requests);
        Assert.Contains("status 429: no", await Failure(retriever, "other"));
        Assert.Equal(6, server.Requests);
    }

    [Theory]
    [InlineData(400)]
    [InlineData(302)]
    [InlineData(404)]
    public async Task RefusalsAreFinal(int status)
    {
        await using var server = new HostileServer((_, stream, _) => HostileServer.Send(stream, new string('x', 5000), status));
        using var retriever = new RemoteRetriever(Options(server.Url));
        string message = await Failure(retriever);
        Assert.Contains($"status {status}", message);
        Assert.InRange(message.Length, 0, 400);
        Assert.Equal(1, server.Requests);
    }

    [Fact]
    public async Task HugeRepliesAreCutShort()
    {
        long sent = 0;
        await using var server = new HostileServer(async (_, stream, cancel) =>
        {
            await stream.WriteAsync("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"u8.ToArray(), cancel);
            byte[] part = Encoding.ASCII.GetBytes(new string(' ', 65536));
            for (int i = 0; i < 10_000; i++, sent += part.Length)
                await stream.WriteAsync(part, cancel);
        });
        using var retriever = new RemoteRetriever(Options(server.Url));
        Assert.Contains("longer than 100000 bytes", await Failure(retriever));
        Assert.True(sent < 100 << 20, $"{sent} bytes were taken.");
    }

    [Fact]
    public async Task HangsEndAtTheDeadlineOrWithTheCaller()
    {
        await using var server = new HostileServer(async (request, stream, cancel) =>
        {
            if (request % 2 == 0)
                await stream.WriteAsync("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"u8.ToArray(), cancel);
            await Task.Delay(Timeout.Infinite, cancel);
        });
        using var retriever = new RemoteRetriever(Options(server.Url) with { Deadline = TimeSpan.FromMilliseconds(200) });
        for (int i = 0; i < 2; i++)
        {
            var watch = Stopwatch.StartNew();
            Assert.Contains("no answer within 0.2 s", await Failure(retriever));
            Assert.True(watch.Elapsed < TimeSpan.FromSeconds(20));
        }
        using var patient = new RemoteRetriever(Options(server.Url) with { Deadline = TimeSpan.FromHours(1) });
        using var stop = new CancellationTokenSource(TimeSpan.FromMilliseconds(100));
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () => await patient.RetrieveAsync("q", 3, stop.Token));
    }

    [Fact]
    public async Task NobodyThereIsSaidSo()
    {
        int port;
        using (var listener = new TcpListener(System.Net.IPAddress.Loopback, 0))
        {
            listener.Start();
            port = ((System.Net.IPEndPoint)listener.LocalEndpoint).Port;
        }
        using var retriever = new RemoteRetriever(Options($"http://127.0.0.1:{port}/retrieve"));
        Assert.Contains("cannot be reached", await Failure(retriever));
    }

    [Fact]
    public async Task TheCacheIsBoundedAndKeepsGoodAnswersOnly()
    {
        string filler = new('f', 1000);
        await using var server = new HostileServer((request, stream, _) =>
            HostileServer.Send(stream, request == 1 ? "{}" : Good.Replace("x", filler)));
        using var retriever = new RemoteRetriever(Options(server.Url) with { CacheBytes = 6000 }); // two answers of about 2,600 bytes
        await Failure(retriever, "a");
        foreach (string query in (string[])["a", "b", "a", "c", "a", "b"]) // "b" makes way for "c", not "a"
            await retriever.RetrieveAsync(query, 3, Token);
        Assert.Equal((2L, 5), (retriever.CacheHits, server.Requests));
        await retriever.RetrieveAsync("b", 2, Token); // another k is another question
        Assert.Equal((2L, 6), (retriever.CacheHits, server.Requests));
        using var without = new RemoteRetriever(Options(server.Url) with { CacheBytes = 0 });
        await without.RetrieveAsync("a", 3, Token);
        await without.RetrieveAsync("a", 3, Token);
        Assert.Equal((0L, 8), (without.CacheHits, server.Requests));
    }

    /// <summary>A dead service becomes an observation, is counted, and the episode goes on.</summary>
    [Fact]
    public async Task OneFailedQueryEndsNoEpisode()
    {
        await using var server = new HostileServer((request, stream, _) => HostileServer.Send(stream, request == 2 ? "garbage" : Good));
        using var retriever = new RemoteRetriever(Options(server.Url));
        var failures = new List<string>();
        var factory = new RetrievalQaFactory(
            retriever, new RetrievalQaOptions { SearchAttempts = 1 }, (query, e) => failures.Add($"{query}: {e.Message}"));
        await using IEnvironment episode = factory.Create(new EnvironmentTask("t", [new Objective("o", "Q?", ["x"])]), 1);
        TurnResult first = await episode.StepAsync("<search>one</search>", false, Token);
        TurnResult second = await episode.StepAsync("<search>two</search>", false, Token);
        TurnResult third = await episode.StepAsync("<search>three</search>", false, Token);
        TurnResult last = await episode.StepAsync("<answer>x</answer>", false, Token);
        Assert.Equal([0, 1, 0, 0], ((TurnResult[])[first, second, third, last]).Select(t => t.Failures));
        Assert.Contains("Doc 1(Title: T) x", third.Observation);
        Assert.Contains("The search failed", second.Observation);
        Assert.StartsWith("two: The search service's reply is not valid JSON", Assert.Single(failures));
        Assert.Equal(1, last.Score!.Reward);
    }

    [Fact]
    public void ContradictionsAreNamed()
    {
        var options = new RemoteRetrieverOptions
        {
            Url = "localhost:8000",
            Deadline = TimeSpan.Zero,
            Attempts = 0,
            RetryDelay = TimeSpan.FromDays(1),
            MaxConnections = 0,
            MaxReplyBytes = 1,
            CacheBytes = -1,
        };
        Assert.Equal(7, options.Validate().Count);
        Assert.Throws<ArgumentException>(() => new RemoteRetriever(options));
        Assert.Throws<ArgumentException>(() => new RemoteRetriever(new RemoteRetrieverOptions()));
        Assert.Empty(new RemoteRetrieverOptions().Validate());
    }
}
