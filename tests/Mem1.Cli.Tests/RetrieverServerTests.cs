using System.IO.Compression;
using System.Net;
using System.Net.Http.Headers;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using Mem1.Cli.Retriever;
using Mem1.Environments.Retrieval;
using Mem1.Protocol.Security;

namespace Mem1.Cli.Tests;

public sealed class RetrieverServerTests : IAsyncLifetime, IDisposable
{
    private const string Corpus = """
        {"id": "0", "contents": "\"Paris\"\nParis is the capital of France."}
        {"id": "1", "contents": "\"Lyon\"\nLyon is a city in France."}
        {"id": "2", "contents": "\"Oslo\"\nOslo is the capital of Norway."}
        """;

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("mem1-retriever-");
    private readonly HttpClient _client = new(new SocketsHttpHandler { UseProxy = false });
    private CorpusIndex _index = null!;
    private RetrieverServer _server = null!;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync()
    {
        var corpus = Path.Combine(_folder.FullName, "c.jsonl");
        File.WriteAllText(corpus, Corpus);
        _index = CorpusIndex.OpenOrBuild(corpus);
        _server = await RetrieverServer.Start(_index, IPAddress.Loopback, 0, 2, null, Token);
    }

    public async ValueTask DisposeAsync()
    {
        await _server.DisposeAsync();
        Dispose();
    }

    public void Dispose()
    {
        _index.Dispose();
        _client.Dispose();
        if (Directory.Exists(_folder.FullName)) _folder.Delete(recursive: true);
    }

    private async Task<(HttpStatusCode Status, JsonElement Json)> Post(string body)
    {
        using var content = new StringContent(body, Encoding.UTF8, "application/json");
        using var response = await _client.PostAsync(new Uri(_server.Address, "retrieve"), content, Token);
        using var json = JsonDocument.Parse(await response.Content.ReadAsStringAsync(Token));
        return (response.StatusCode, json.RootElement.Clone());
    }

    [Fact]
    public async Task ScoresComeWhenAskedFor()
    {
        var (status, json) = await Post("""{"queries": ["capital of France", "Oslo", "zebra"], "topk": 2, "return_scores": true}""");
        Assert.Equal(HttpStatusCode.OK, status);
        var lists = json.GetProperty("result").EnumerateArray().Select(l => l.EnumerateArray().ToArray()).ToArray();
        Assert.Equal([2, 1, 0], lists.Select(l => l.Length));
        var first = lists[0][0];
        Assert.Equal(["document", "score"], first.EnumerateObject().Select(p => p.Name));
        Assert.Equal(["id", "contents"], first.GetProperty("document").EnumerateObject().Select(p => p.Name));
        Assert.Equal("\"Paris\"\nParis is the capital of France.", first.GetProperty("document").GetProperty("contents").GetString());
        Assert.True(first.GetProperty("score").GetDouble() > lists[0][1].GetProperty("score").GetDouble());
        Assert.Equal("2", lists[1][0].GetProperty("document").GetProperty("id").GetString());
    }

    /// <summary>Two queries without scores: where the original assigned results to the wrong queries.</summary>
    [Theory]
    [InlineData(""", "return_scores": false""")]
    [InlineData("")]
    public async Task WithoutScoresHitsAreTheDocuments(string field)
    {
        var (status, json) = await Post($$"""{"queries": ["Lyon", "Oslo"], "topk": 1{{field}}}""");
        Assert.Equal(HttpStatusCode.OK, status);
        Assert.Equal(
            ["1: \"Lyon\"\nLyon is a city in France.", "2: \"Oslo\"\nOslo is the capital of Norway."],
            json.GetProperty("result").EnumerateArray().Select(list => Assert.Single(list.EnumerateArray())).Select(hit =>
            {
                Assert.Equal(["id", "contents"], hit.EnumerateObject().Select(p => p.Name));
                return $"{hit.GetProperty("id").GetString()}: {hit.GetProperty("contents").GetString()}";
            }));
    }

    /// <summary>As the original's client asks when none of a batch's episodes searches.</summary>
    [Fact]
    public async Task NoQueriesGetNoLists()
    {
        var (status, json) = await Post("""{"queries": [], "topk": 3, "return_scores": true}""");
        Assert.Equal(HttpStatusCode.OK, status);
        Assert.Equal(0, json.GetProperty("result").GetArrayLength());
    }

    [Theory]
    [InlineData("")]
    [InlineData(""", "topk": 0""")]
    [InlineData(""", "topk": null""")]
    public async Task WithoutTopKTheServersOwnCounts(string field)
    {
        var (_, json) = await Post($$"""{"queries": ["France Norway"]{{field}}}""");
        Assert.Equal(2, json.GetProperty("result")[0].GetArrayLength());
    }

    [Theory]
    [InlineData("", "not valid JSON")]
    [InlineData("{\"queries\": [\"a\"", "not valid JSON")]
    [InlineData("[]", "must be a JSON object")]
    [InlineData("{}", "\"queries\" must be a list")]
    [InlineData("{\"queries\": \"a\"}", "\"queries\" must be a list")]
    [InlineData("{\"queries\": [\"a\", 5]}", "queries[1] is not a string")]
    [InlineData("{\"queries\": [\"\\ud800\"]}", "queries[0] is not a string of Unicode")]
    [InlineData("{\"queries\": [\"a\"], \"topk\": -1}", "\"topk\" must be")]
    [InlineData("{\"queries\": [\"a\"], \"topk\": 1001}", "\"topk\" must be")]
    [InlineData("{\"queries\": [\"a\"], \"topk\": 1.5}", "\"topk\" must be")]
    [InlineData("{\"queries\": [\"a\"], \"topk\": \"3\"}", "\"topk\" must be")]
    [InlineData("{\"queries\": [\"a\"], \"return_scores\": 1}", "\"return_scores\" must be")]
    public async Task BadRequestsGetOneSentence(string body, string expected)
    {
        var (status, json) = await Post(body);
        Assert.Equal(HttpStatusCode.BadRequest, status);
        var sentence = json.GetProperty("detail").GetString()!;
        Assert.Contains(expected, sentence);
        Assert.EndsWith(".", sentence);
    }

    [Fact]
    public async Task LimitsHold()
    {
        static string Many(int count, string more = "") => $"{{\"queries\": {JsonSerializer.Serialize(Enumerable.Repeat("a", count))}{more}}}";
        Assert.Equal(HttpStatusCode.OK, (await Post(Many(RetrieverServer.MaxQueries))).Status);
        Assert.Equal(HttpStatusCode.BadRequest, (await Post(Many(RetrieverServer.MaxQueries + 1))).Status);
        Assert.Contains("16384 passages", (await Post(Many(17, ", \"topk\": 1000"))).Json.GetProperty("detail").GetString());
        var (status, json) = await Post($"{{\"queries\": [\"{new string('a', RetrieverServer.MaxBodyBytes)}\"]}}");
        Assert.Equal(HttpStatusCode.RequestEntityTooLarge, status);
        Assert.Contains("send fewer queries", json.GetProperty("detail").GetString());
        Assert.Equal(HttpStatusCode.OK, (await Post("{\"queries\": [\"a\"]}")).Status);
    }

    /// <summary>Whatever the body, a sound request or one sentence comes out.</summary>
    [Fact]
    public void AnyBodyIsReadOrRefused()
    {
        string[] pieces =
        [
            "{", "}", "[", "]", "\"", ",", ":", "null", "true", "false", "-1", "1e99", "5", "\"queries\"", "\"topk\"", "\"return_scores\"", "\\ud800",
            "\"queries\": [\"a\"]", "{\"queries\": [\"a\", \"b\"]", "\"topk\": ", "\"return_scores\": ",
        ];
        var random = new Random(7);
        var (read, refused) = (0, 0);
        for (var i = 0; i < 200_000; i++)
        {
            var body = random.Next(2) == 0 ? "{\"queries\": [\"a\"]" : "";
            for (var n = random.Next(8); n > 0; n--) body += pieces[random.Next(pieces.Length)];
            if (random.Next(2) == 0) body += "}";
            JsonDocument json;
            try
            {
                json = JsonDocument.Parse(body);
            }
            catch (JsonException)
            {
                continue; // answered by the server itself
            }

            using (json)
            {
                try
                {
                    var request = RetrieveRequest.Read(json.RootElement, 3);
                    Assert.True(request.Queries.Count > 0 && request.TopK is >= 1 and <= RetrieverServer.MaxTopK);
                    read++;
                }
                catch (RetrieveRequestException e)
                {
                    Assert.EndsWith(".", e.Message);
                    refused++;
                }
            }
        }

        Assert.True(read > 1000 && refused > 1000, $"{read} were read, {refused} refused.");
    }

    [Fact]
    public async Task HealthAnswersAndAPortInUseIsNamed()
    {
        Assert.Equal("""{"status":"ok","passages":3}""", await _client.GetStringAsync(new Uri(_server.Address, "health"), Token));
        Assert.Equal("""{"status":"ok"}""", await _client.GetStringAsync(new Uri(_server.Address, "ready"), Token));
        var e = await Assert.ThrowsAsync<UserErrorException>(
            () => RetrieverServer.Start(_index, IPAddress.Loopback, _server.Address.Port, 3, null, Token));
        Assert.Contains("choose another with --port", e.Message);
    }

    [Fact]
    public async Task TheRemoteRetrieverFindsWhatTheIndexFinds()
    {
        using var remote = new RemoteRetriever(
            new RemoteRetrieverOptions { Url = $"{new Uri(_server.Address, "retrieve")}", Deadline = TimeSpan.FromSeconds(60) });
        foreach (var query in new[] { "capital of France", "\"Oslo\" \\ \u00e9\U0001F600", "zebra", "the" })
        {
            var hits = await remote.RetrieveAsync(query, 3, Token);
            Assert.Equal(_index.Search(query, 3), hits);
        }
    }

    [Fact]
    public async Task TheProgramServesAndStopsGracefully()
    {
        using var child = Cli.Start(
            "retriever", "--index", CorpusIndex.DefaultPath(Path.Combine(_folder.FullName, "c.jsonl")), "--port", "0");
        child.Until(() => child.Out.Contains("Ctrl-C stops", StringComparison.Ordinal), "it listens");
        var address = child.Out.Split(' ').First(w => w.StartsWith("http", StringComparison.Ordinal)).TrimEnd(';');
        using var content = new StringContent("""{"queries": ["Oslo"]}""", MediaTypeHeaderValue.Parse("application/json"));
        using var response = await _client.PostAsync(new Uri(address), content, Token);
        Assert.Contains("Norway", await response.Content.ReadAsStringAsync(Token));
        child.Signal(Child.SigTerm);
        Assert.Contains("stopping", child.Finish().Succeeded().Out);
    }

    [Fact]
    public async Task WithATokenNobodyElseSearchesAndNothingIsReadOfTheirRequests()
    {
        var token = BearerToken.Create();
        var text = token.Header["Bearer ".Length..];
        await using var server = await RetrieverServer.Start(_index, IPAddress.Loopback, 0, 2, token, Token);
        string[] wrong = ["", "Bearer", text, $"Basic {text}", $"Bearer {text}0", $"Bearer {text[1..]}", $"Bearer {text} {text}"];
        foreach (var header in wrong)
        {
            using var socket = new TcpClient();
            await socket.ConnectAsync(IPAddress.Loopback, server.Address.Port, Token);
            var head = $"POST /retrieve HTTP/1.1\r\nHost: here\r\nContent-Length: 4000000\r\n{(header.Length > 0 ? $"Authorization: {header}\r\n" : "")}\r\n";
            await socket.GetStream().WriteAsync(Encoding.ASCII.GetBytes(head), Token); // and no body
            using var reader = new StreamReader(socket.GetStream());
            Assert.Contains(" 401 ", await reader.ReadLineAsync(Token), StringComparison.Ordinal);
        }

        // Our own client, with the token in a file and without.
        var options = new RemoteRetrieverOptions { Url = new Uri(server.Address, "retrieve").ToString(), Attempts = 1 };
        using (var right = new RemoteRetriever(options, authorization: token.Header))
            Assert.Equal("2", Assert.Single(await right.RetrieveAsync("Oslo", 1, Token)).Passage.Id);
        using var without = new RemoteRetriever(options, authorization: BearerToken.Create().Header);
        var refused = await Assert.ThrowsAsync<RetrieverException>(async () => await without.RetrieveAsync("Oslo", 1, Token));
        Assert.Contains("status 401", refused.Message, StringComparison.Ordinal);
        Assert.DoesNotContain(text, refused.Message, StringComparison.Ordinal);
        Assert.Equal(HttpStatusCode.OK, (await _client.GetAsync(new Uri(server.Address, "health"), Token)).StatusCode);
    }

    [Fact]
    public async Task ThoseThatMeanHarmLeaveItToOthers()
    {
        var sockets = new List<TcpClient>();
        try
        {
            for (var i = 0; i < 100; i++)
            {
                var socket = new TcpClient();
                sockets.Add(socket);
                await socket.ConnectAsync(IPAddress.Loopback, _server.Address.Port, Token);
                // Nothing; half of the headers; a body that stops; what is no HTTP.
                var said = (i % 4) switch
                {
                    0 => "",
                    1 => "POST /retrieve HTTP/1.1\r\nHost: here\r\nX-Slow: ",
                    2 => "POST /retrieve HTTP/1.1\r\nHost: here\r\nContent-Length: 4000000\r\n\r\n{\"queries\": [\"",
                    _ => "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x4\0\0\0\0\0",
                };
                await socket.GetStream().WriteAsync(Encoding.ASCII.GetBytes(said), Token);
            }

            Assert.Equal(HttpStatusCode.OK, (await Post("""{"queries": ["Oslo"]}""")).Status);

            // 64 MiB of blanks in 64 KiB: not unpacked.
            using var packed = new MemoryStream();
            using (var gzip = new GZipStream(packed, CompressionLevel.SmallestSize, leaveOpen: true))
            {
                var blanks = new byte[1 << 20];
                Array.Fill(blanks, (byte)' ');
                for (var i = 0; i < 64; i++) gzip.Write(blanks);
            }

            using var bomb = new ByteArrayContent(packed.ToArray());
            bomb.Headers.ContentEncoding.Add("gzip");
            using (var answer = await _client.PostAsync(new Uri(_server.Address, "retrieve"), bomb, Token))
                Assert.Equal(HttpStatusCode.UnsupportedMediaType, answer.StatusCode);
            using var oversize = new HttpRequestMessage(HttpMethod.Post, new Uri(_server.Address, "retrieve"));
            oversize.Headers.Add("X-Long", new string('a', 20_000));
            using (var answer = await _client.SendAsync(oversize, Token))
                Assert.Equal(HttpStatusCode.RequestHeaderFieldsTooLarge, answer.StatusCode);
            Assert.Equal(HttpStatusCode.OK, (await Post("""{"queries": ["Oslo"]}""")).Status);
        }
        finally
        {
            foreach (var socket in sockets) socket.Dispose();
        }
    }
}
