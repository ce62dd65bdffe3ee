// One server over the built-in model; every test talks HTTP to it.
using System.Net;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Mem1.Cli.Serve;
using Mem1.Cli.Training;
using Mem1.Model;
using Mem1.Model.Checkpoints;
using Mem1.Model.Generation;

namespace Mem1.Cli.Tests;

public sealed class ServedBuiltIn : IAsyncLifetime
{
    public const string Name = "tiny";

    internal ServedModel Model { get; private set; } = null!;

    internal InferenceServer Server { get; private set; } = null!;

    internal Checkpoint Checkpoint { get; private set; } = null!;

    public HttpClient Client { get; } = new(new SocketsHttpHandler { UseProxy = false }) { Timeout = TimeSpan.FromMinutes(3) };

    public async ValueTask InitializeAsync()
    {
        Checkpoint = Checkpoint.Load(BuiltIn.Folder);
        Model = new ServedModel(BuiltIn.Folder, new ServeOptions { Name = Name, Batch = 16, Threads = 2, Queue = 128 });
        Server = await InferenceServer.Start(Model, IPAddress.Loopback, 0, CancellationToken.None);
    }

    public async ValueTask DisposeAsync()
    {
        await Server.DisposeAsync();
        Model.Dispose();
        Client.Dispose();
    }

    /// <summary>Some contexts of the model's own words.</summary>
    public int[] Prompt(int i) => [.. Enumerable.Range(0, 5 + (i % 23)).Select(
        k => (int)(RandomStream.Bits((ulong)i, (ulong)k) % (ulong)Checkpoint.Config.VocabularySize))];
}

public sealed class ServeTests(ServedBuiltIn served) : IClassFixture<ServedBuiltIn>
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    private async Task<(HttpStatusCode Status, string Text)> Send(string path, string body, string type = "application/json")
    {
        using var content = new ByteArrayContent(Encoding.UTF8.GetBytes(body));
        content.Headers.ContentType = new MediaTypeHeaderValue(type);
        using var response = await served.Client.PostAsync(new Uri(served.Server.Address, path), content, Token);
        return (response.StatusCode, await response.Content.ReadAsStringAsync(Token));
    }

    private async Task<JsonElement> Post(string path, JsonObject body)
    {
        var (status, text) = await Send(path, body.ToJsonString());
        Assert.True(status == HttpStatusCode.OK, text);
        return JsonDocument.Parse(text).RootElement;
    }

    private static JsonArray List(IEnumerable<int> ids) => [.. ids.Select(i => (JsonNode)i)];

    private static int[] Ints(JsonElement list) => [.. list.EnumerateArray().Select(e => e.GetInt32())];

    private static float[] Floats(JsonElement list) => [.. list.EnumerateArray().Select(e => e.GetSingle())];

    private GenerationResult Alone(int[] prompt, ulong seed, SamplingOptions sampling, params string[] stops)
    {
        using var engine = new CpuGenerationEngine(served.Checkpoint.Config, served.Checkpoint.Weights, 0, served.Checkpoint.Tokenizer!);
        engine.Submit(new GenerationRequest(1, prompt, sampling, stops, seed));
        while (true)
        {
            if (engine.Step() is [var result]) return result;
        }
    }

    private static JsonObject Request(int[] prompt, long seed, int tokens = 24, double temperature = 1) => new()
    {
        ["model"] = ServedBuiltIn.Name,
        ["prompt"] = List(prompt),
        ["seed"] = seed,
        ["max_tokens"] = tokens,
        ["temperature"] = temperature,
        ["logprobs"] = 0,
        ["return_token_ids"] = true,
    };

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(0.7)]
    public async Task TokensAndLogProbsAreTheEnginesBitForBit(double temperature)
    {
        var prompt = served.Prompt(3);
        var expected = Alone(prompt, unchecked((ulong)-5L), new SamplingOptions((float)temperature, 1, 24));
        var json = await Post("v1/completions", Request(prompt, -5, 24, temperature));
        var choice = Assert.Single(json.GetProperty("choices").EnumerateArray());
        Assert.Equal(expected.Tokens, Ints(choice.GetProperty("token_ids")));
        Assert.Equal(prompt, Ints(choice.GetProperty("prompt_token_ids")));
        Assert.Equal(expected.LogProbs, Floats(choice.GetProperty("logprobs").GetProperty("token_logprobs")));
        Assert.All(choice.GetProperty("policy_versions").EnumerateArray(), v => Assert.True(v.GetInt64() >= 0));
        var text = expected.Finish == FinishReason.EndOfText ? expected.Tokens[..^1] : expected.Tokens;
        Assert.Equal(served.Checkpoint.Tokenizer!.Decode(text), choice.GetProperty("text").GetString());
        Assert.Equal(prompt.Length + expected.Tokens.Length, json.GetProperty("usage").GetProperty("total_tokens").GetInt32());
    }

    [Fact]
    public async Task SixtyFourAtOnceAnswerWhatEachAnswersAlone()
    {
        var answers = await Task.WhenAll(
            Enumerable.Range(0, 64).Select(i => Post("v1/completions", Request(served.Prompt(i), i, 8 + (i % 20)))));
        for (var i = 0; i < answers.Length; i++)
        {
            var expected = Alone(served.Prompt(i), (ulong)i, new SamplingOptions(1, 1, 8 + (i % 20)));
            var choice = answers[i].GetProperty("choices")[0];
            Assert.Equal(expected.Tokens, Ints(choice.GetProperty("token_ids")));
            Assert.Equal(expected.LogProbs, Floats(choice.GetProperty("logprobs").GetProperty("token_logprobs")));
        }
    }

    [Theory]
    [InlineData("v1/completions")]
    [InlineData("v1/chat/completions")]
    public async Task AStreamJoinsToTheWholeAnswer(string path)
    {
        var chat = path.Contains("chat", StringComparison.Ordinal);
        var tokenizer = served.Checkpoint.Tokenizer!;
        var stop = tokenizer.Decode([Alone(served.Prompt(9), 4, new SamplingOptions(1, 1, 40)).Tokens[^2]]);
        var body = Request(served.Prompt(9), 4, 40);
        body["n"] = 3;
        body["stop"] = new JsonArray(stop, "never there");
        if (chat)
        {
            body.Remove("prompt");
            body["messages"] = new JsonArray(new JsonObject { ["role"] = "user", ["content"] = tokenizer.Decode(served.Prompt(9)) });
            body["logprobs"] = true;
            body["top_logprobs"] = 2;
        }

        var whole = await Post(path, body);
        body["stream"] = true;
        body["stream_options"] = new JsonObject { ["include_usage"] = true };
        var (_, text) = await Send(path, body.ToJsonString());
        var events = text.Split("\n\n", StringSplitOptions.RemoveEmptyEntries).Select(e => e["data: ".Length..]).ToList();
        Assert.Equal("[DONE]", events[^1]);
        var chunks = events[..^1].Select(e => JsonDocument.Parse(e).RootElement).ToList();
        Assert.Equal(whole.GetProperty("usage").GetRawText(), chunks[^1].GetProperty("usage").GetRawText());
        for (var i = 0; i < 3; i++)
        {
            var expected = whole.GetProperty("choices")[i];
            var parts = chunks.SelectMany(c => c.GetProperty("choices").EnumerateArray()).Where(
                c => c.GetProperty("index").GetInt32() == i).ToList();
            Assert.True(parts.Count > 2);
            Assert.Equal(
                chat ? expected.GetProperty("message").GetProperty("content").GetString() : expected.GetProperty("text").GetString(),
                string.Concat(parts.Select(
                    p => chat ? p.GetProperty("delta").GetProperty("content").GetString() : p.GetProperty("text").GetString())));
            Assert.Equal(Ints(expected.GetProperty("token_ids")), parts.SelectMany(p => Ints(p.GetProperty("token_ids"))));
            foreach (var field in chat ? ["content"] : new[] { "token_logprobs", "tokens", "text_offset" })
            {
                Assert.Equal(
                    expected.GetProperty("logprobs").GetProperty(field).EnumerateArray().Select(e => e.GetRawText()),
                    parts.Where(p => p.GetProperty("logprobs").ValueKind == JsonValueKind.Object)
                        .SelectMany(p => p.GetProperty("logprobs").GetProperty(field).EnumerateArray()).Select(e => e.GetRawText()));
            }

            Assert.Equal(expected.GetProperty("finish_reason").GetString(), parts[^1].GetProperty("finish_reason").GetString());
            Assert.Equal(expected.GetProperty("stop_reason").GetRawText(), parts[^1].GetProperty("stop_reason").GetRawText());
        }
    }

    [Fact]
    public async Task AStopStringEndsTheTextAndIsLeftOutUnlessAskedFor()
    {
        var tokenizer = served.Checkpoint.Tokenizer!;
        var free = Alone(served.Prompt(11), 8, new SamplingOptions(1, 1, 40));
        var stop = tokenizer.Decode(free.Tokens.AsSpan(3, 2));
        var body = Request(served.Prompt(11), 8, 40);
        body["stop"] = stop;
        var choice = (await Post("v1/completions", body)).GetProperty("choices")[0];
        Assert.Equal(stop, choice.GetProperty("stop_reason").GetString());
        Assert.Equal("stop", choice.GetProperty("finish_reason").GetString());
        Assert.DoesNotContain(stop, choice.GetProperty("text").GetString(), StringComparison.Ordinal);
        Assert.Equal(Alone(served.Prompt(11), 8, new SamplingOptions(1, 1, 40), stop).Tokens, Ints(choice.GetProperty("token_ids")));
        body["include_stop_str_in_output"] = true;
        Assert.EndsWith(stop, (await Post("v1/completions", body)).GetProperty("choices")[0].GetProperty("text").GetString(),
            StringComparison.Ordinal);
    }

    [Fact]
    public async Task TopLogProbsAreSortedAndHoldTheDrawnToken()
    {
        var body = Request(served.Prompt(5), 2, 12);
        body["logprobs"] = 4;
        var logProbs = (await Post("v1/completions", body)).GetProperty("choices")[0].GetProperty("logprobs");
        var tops = logProbs.GetProperty("top_logprobs").EnumerateArray().ToList();
        Assert.Equal(12, tops.Count);
        for (var i = 0; i < tops.Count; i++)
        {
            var values = tops[i].EnumerateObject().Select(p => p.Value.GetSingle()).ToList();
            Assert.InRange(values.Count, 4, 5);
            Assert.Equal(values.OrderDescending(), values);
            Assert.Equal(
                logProbs.GetProperty("token_logprobs")[i].GetSingle(),
                    tops[i].GetProperty(logProbs.GetProperty("tokens")[i].GetString()!).GetSingle());
        }
    }

    [Fact]
    public async Task PromptsMayBeTextsAndLists()
    {
        var text = served.Checkpoint.Tokenizer!.Decode(served.Prompt(1));
        var one = Request(served.Prompt(1), 1);
        one["prompt"] = text;
        one["temperature"] = 0;
        var two = Request(served.Prompt(1), 1);
        two["prompt"] = new JsonArray(text, text);
        two["temperature"] = 0;
        var first = (await Post("v1/completions", one)).GetProperty("choices")[0].GetProperty("text").GetString();
        var choices = (await Post("v1/completions", two)).GetProperty("choices").EnumerateArray().ToList();
        Assert.Equal([0, 1], choices.Select(c => c.GetProperty("index").GetInt32()));
        Assert.All(choices, c => Assert.Equal(first, c.GetProperty("text").GetString()));
    }

    [Fact]
    public async Task AReloadPutsWeightsInPlaceAndSaysTheVersion()
    {
        using var temp = new TempFolder();
        var before = served.Model.Loop.Version;
        var other = new SortedDictionary<string, WeightTensor>(served.Checkpoint.Weights.Tensors.ToDictionary(), StringComparer.Ordinal);
        (served.Checkpoint with { Weights = new ModelWeights(other) }).Save(temp["next"]);
        var answer = await Post("v1/reload", new JsonObject { ["folder"] = temp["next"] });
        Assert.Equal(before + 1, answer.GetProperty("policy_version").GetInt64());
        var choice = (await Post("v1/completions", Request(served.Prompt(2), 2))).GetProperty("choices")[0];
        Assert.All(choice.GetProperty("policy_versions").EnumerateArray(), v => Assert.Equal(before + 1, v.GetInt64()));
        (served.Checkpoint with { Config = served.Checkpoint.Config with { NormEpsilon = 1e-3 } }).Save(temp["shape"]);
        foreach (var (folder, says) in new[] { (temp["shape"], "another shape"), (temp["missing"], "is not a folder") })
        {
            var (status, text) = await Send("v1/reload", new JsonObject { ["folder"] = folder }.ToJsonString());
            Assert.Equal(HttpStatusCode.BadRequest, status);
            Assert.Contains(says, text, StringComparison.Ordinal);
        }

        Assert.Equal(before + 1, served.Model.Loop.Version);
        Assert.Equal(ServedBuiltIn.Name,
            JsonDocument.Parse(await served.Client.GetStringAsync(new Uri(served.Server.Address, "v1/models"), Token))
            .RootElement.GetProperty("data")[0].GetProperty("id").GetString());
    }

    [Theory]
    [InlineData("v1/completions", "{", 400, "not valid JSON")]
    [InlineData("v1/completions", "[]", 400, "must be a JSON object")]
    [InlineData("v1/completions", "{}", 400, "\"prompt\" is missing")]
    [InlineData("v1/completions", """{"prompt": [1, 99999999]}""", 400, "Token 1 of")]
    [InlineData("v1/completions", """{"prompt": []}""", 400, "is empty")]
    [InlineData("v1/completions", """{"prompt": [[1], []]}""", 400, "is empty")]
    [InlineData("v1/completions", """{"prompt": [1], "max_token": 4}""", 400, "did you mean \"max_tokens\"")]
    [InlineData("v1/completions", """{"prompt": [1], "max_tokens": 0}""", 400, "max_tokens")]
    [InlineData("v1/completions", """{"prompt": [1], "max_tokens": 999999}""", 400, "positions")]
    [InlineData("v1/completions", """{"prompt": [1], "temperature": -1}""", 400, "temperature")]
    [InlineData("v1/completions", """{"prompt": [1], "top_p": 0}""", 400, "top_p")]
    [InlineData("v1/completions", """{"prompt": [1], "n": 129}""", 400, "\"n\" must be")]
    [InlineData("v1/completions", """{"prompt": [[1],[1]], "n": 100}""", 400, "more than 128")]
    [InlineData("v1/completions", """{"prompt": [1], "echo": true}""", 400, "not supported")]
    [InlineData("v1/completions", """{"prompt": [1], "presence_penalty": 0.5}""", 400, "not supported")]
    [InlineData("v1/completions", """{"prompt": [1], "stop": [""]}""", 400, "stop")]
    [InlineData("v1/completions", """{"prompt": [1], "stream_options": {}}""", 400, "stream_options")]
    [InlineData("v1/completions", """{"prompt": [1], "model": "gpt"}""", 404, "There is no model")]
    [InlineData("v1/chat/completions", """{"messages": []}""", 400, "messages")]
    [InlineData("v1/chat/completions", """{"messages": [{"role": "tool", "content": "x"}]}""", 400, "role must be")]
    [InlineData("v1/chat/completions", """{"messages": [{"role": "user", "content": "\ud800"}]}""", 400, "Unicode")]
    [InlineData(
        "v1/chat/completions", """{"messages": [{"role": "user", "content": "<answer>"}], "top_logprobs": 2}""", 400, "top_logprobs")]
    [InlineData(
        "v1/chat/completions", """{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}""", 400,
        "no chat template")]
    [InlineData("v1/reload", "{}", 400, "folder")]
    [InlineData("v1/nothing", "{}", 404, "There is no POST")]
    public async Task EveryMistakeGetsOneError(string path, string body, int status, string says)
    {
        var (got, text) = await Send(path, body);
        Assert.Equal(status, (int)got);
        Assert.Contains(says, Checked(text), StringComparison.Ordinal);
    }

    [Fact]
    public async Task AnotherTypeAndATooLongBodyAreRefused()
    {
        var (status, text) = await Send("v1/completions", "{}", "text/plain");
        Assert.Equal(HttpStatusCode.UnsupportedMediaType, status);
        Checked(text);
        (status, text) = await Send("v1/completions", new string(' ', InferenceServer.MaxBodyBytes + 1));
        Assert.Equal(HttpStatusCode.RequestEntityTooLarge, status);
        Checked(text);
    }

    /// <summary>The message of an error, after a look at its shape.</summary>
    private static string Checked(string text)
    {
        var error = JsonDocument.Parse(text).RootElement.GetProperty("error");
        Assert.Equal(["message", "type", "param", "code"], error.EnumerateObject().Select(p => p.Name));
        var message = error.GetProperty("message").GetString()!;
        Assert.True(message[^1] is '.' or '?', message);
        return message;
    }

    /// <summary>
    /// Damaged requests: each is answered, with one error or, where the damage is harmless, an answer; none is a failure of the server.
    /// </summary>
    [Fact]
    public async Task TwentyThousandDamagedRequestsAreAnswered()
    {
        var random = new Random(5);
        var chat = Encoding.UTF8.GetBytes(
            """
            {"model": "tiny", "messages": [{"role": "user", "content": "<answer>"}], "max_tokens": 1, "logprobs": true, "top_logprobs": 2}
            """);
        var plain = Encoding.UTF8.GetBytes(
            """
            {"prompt": [[1, 2], [3]], "max_tokens": 1, "n": 2, "stop": ["x"], "seed": -3, "temperature": 0.5, "logprobs": 2, "stream": false}
            """);
        var parts = Enumerable.Range(0, 20_000).Select(i =>
        {
            var body = (i % 2 == 0 ? chat : plain).ToList();
            for (var edits = 1 + random.Next(3); edits > 0; edits--)
            {
                var at = random.Next(body.Count);
                switch (random.Next(4))
                {
                    case 0: body[at] = (byte)random.Next(256); break;
                    case 1: body.RemoveAt(at); break;
                    case 2: body.InsertRange(at, body.GetRange(at, Math.Min(random.Next(1, 12), body.Count - at))); break;
                    default: body[at] = (byte)"0123456789-.{}[]\",:eE"[random.Next(21)]; break;
                }
            }

            return (Path: i % 2 == 0 ? "v1/chat/completions" : "v1/completions", Body: body.ToArray());
        }).ToList();
        int refused = 0, answered = 0;
        await Parallel.ForEachAsync(
            parts, new ParallelOptions { MaxDegreeOfParallelism = 8, CancellationToken = Token }, async (part, token) =>
        {
            using var content = new ByteArrayContent(part.Body);
            content.Headers.ContentType = new MediaTypeHeaderValue("application/json");
            using var response = await served.Client.PostAsync(new Uri(served.Server.Address, part.Path), content, token);
            var text = await response.Content.ReadAsStringAsync(token);
            if (response.StatusCode == HttpStatusCode.OK)
            {
                Interlocked.Increment(ref answered);
                return;
            }

            Assert.True((int)response.StatusCode is 400 or 404, $"{response.StatusCode} for {Encoding.UTF8.GetString(part.Body)}: {text}");
            Checked(text);
            Interlocked.Increment(ref refused);
        });
        Assert.Equal(20_000, refused + answered);
        Assert.True(refused > 10_000 && answered > 100, $"{refused} refused, {answered} answered");
        SpinWait.SpinUntil(() => served.Model.Loop.Admitted == 0, TimeSpan.FromSeconds(30));
        Assert.Equal(0, served.Model.Loop.Admitted);
    }
}

/// <summary>Limits, over servers of their own.</summary>
public sealed class ServeLimitTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    /// <summary>A server with some limits.</summary>
    private static async Task With(ServeOptions options, Func<HttpClient, ServedModel, Task> test)
    {
        using var model = new ServedModel(BuiltIn.Folder, options);
        await using var server = await InferenceServer.Start(model, IPAddress.Loopback, 0, Token);
        using var client = new HttpClient(new SocketsHttpHandler { UseProxy = false }) { BaseAddress = server.Address };
        await test(client, model);
    }

    // Greedy continuations of the built-in model run to the end of its context; a hundred and twenty-eight of them take a while.
    private static StringContent Long(int n = 1, bool stream = false) => new(
        $$"""{"prompt": [1], "temperature": 1, "max_tokens": 400, "n": {{n}}, "stream": {{(stream ? "true" : "false")}}}""",
        Encoding.UTF8, "application/json");

    [Fact]
    public Task AFullQueueRefuses() => With(new ServeOptions { Batch = 1, Queue = 1 }, async (client, model) =>
    {
        var response = await client.PostAsync("v1/completions", Long(3), Token);
        Assert.Equal(HttpStatusCode.TooManyRequests, response.StatusCode);
        Assert.Contains("rate_limit_error", await response.Content.ReadAsStringAsync(Token), StringComparison.Ordinal);
        Assert.Equal("1", response.Headers.RetryAfter!.ToString());
        Assert.Equal(0, model.Loop.Admitted);
    });

    [Fact]
    public Task ARequestHasADeadline() =>
        With(new ServeOptions { Batch = 1, Queue = 200, Deadline = TimeSpan.FromMilliseconds(1) }, async (client, model) =>
    {
        var response = await client.PostAsync("v1/completions", Long(128), Token);
        Assert.Equal(HttpStatusCode.GatewayTimeout, response.StatusCode);
        Assert.Contains("timeout_error", await response.Content.ReadAsStringAsync(Token), StringComparison.Ordinal);
        Assert.True(SpinWait.SpinUntil(() => model.Loop.Admitted == 0, TimeSpan.FromSeconds(30)));
    });

    [Fact]
    public Task AClientThatLeavesStopsItsContinuations() => With(new ServeOptions { Batch = 1, Queue = 200 }, async (client, model) =>
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, "v1/completions") { Content = Long(128, stream: true) };
        using (var response = await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, Token))
        {
            Assert.Equal(HttpStatusCode.OK, response.StatusCode);
            Assert.True(model.Loop.Admitted > 1);
        }

        Assert.True(SpinWait.SpinUntil(() => model.Loop.Admitted == 0, TimeSpan.FromSeconds(30)));
    });

    [Fact]
    public Task AKeyIsAskedFor() => With(new ServeOptions { ApiKey = "s3cret" }, async (client, _) =>
    {
        Assert.Equal(HttpStatusCode.Unauthorized, (await client.PostAsync("v1/completions", Long(), Token)).StatusCode);
        client.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", "s3cret");
        Assert.Equal(HttpStatusCode.OK, (await client.GetAsync("v1/models", Token)).StatusCode);
    });

    [Fact]
    public async Task WeightsComeFromTheGivenFolderOnly()
    {
        using var temp = new TempFolder();
        await With(new ServeOptions { Weights = temp["here"] }, async (client, _) =>
        {
            using var body = new StringContent(
                JsonSerializer.Serialize(new { folder = temp["here"] + "/../there" }), Encoding.UTF8, "application/json");
            var response = await client.PostAsync("v1/reload", body, Token);
            Assert.Equal(HttpStatusCode.Forbidden, response.StatusCode);
        });
    }

    [Fact]
    public async Task TheCommandServesUntilItIsStopped()
    {
        using var child = Cli.Start("serve", BuiltIn.Folder, "--port", "0", "--name", "tiny", "--threads", "1");
        child.Until(() => child.Out.Contains("Ctrl-C", StringComparison.Ordinal), "it serves");
        var address = child.Out.Split(" at ")[1].Split(';')[0];
        using var client = new HttpClient(new SocketsHttpHandler { UseProxy = false });
        var response = await client.PostAsync(address + "/completions", Long(), Token);
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        child.Signal(Child.SigTerm);
        Assert.Contains("stopping", child.Finish().Succeeded().Out, StringComparison.Ordinal);
        Refusals.Refused(["serve", "/nowhere"], "is not a folder");
        Refusals.Refused(["serve", BuiltIn.Folder, "--host", "nowhere"], "--host");
        Refusals.Refused(["serve", BuiltIn.Folder, "--batch", "0"], "--batch is 0");
    }
}
