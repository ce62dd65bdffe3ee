// A worker that plays through `mem1 serve` in another process, beside one that plays through its own engine.
using System.Net;
using System.Text;
using System.Text.Json;
using Mem1.Actors;
using Mem1.Cli.Training;
using Mem1.Model;
using Mem1.Model.Checkpoints;
using Mem1.Model.Generation;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;

namespace Mem1.Cli.Tests;

public sealed class EndpointRunTests(QuickRun quick)
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public Task ARunThroughAServerPlaysTheEpisodesOfTheBuiltInEngine() =>
        PlaysTheSame((url, _) => Task.FromResult<(string, IAsyncDisposable?)>((url, null)));

    // The same server behind vLLM's own calls, which name no version and no folder.
    [Fact]
    public Task ARunThroughAServerThatReloadsAsVllmDoesPlaysThemToo()
    {
        Assert.SkipUnless(
            Environment.GetEnvironmentVariable("MEM1_FAULTS") == "1", "A part of the long series: ./mem1 test --faults cli.");
        return PlaysTheSame(LikeVllm, "rollout.endpoint.reload=vllm");
    }

    private async Task PlaysTheSame(Func<string, string, Task<(string Url, IAsyncDisposable? Owned)>> through, params string[] settings)
    {
        quick.Outcome.Succeeded();
        using var temp = new TempFolder();
        using var server = Cli.Start("serve", BuiltIn.Folder, "--port", "0", "--threads", "2");
        server.Until(() => server.Out.Contains("Ctrl-C", StringComparison.Ordinal), "it serves");
        var (url, owned) = await through(server.Out.Split(" at ")[1].Split(';')[0], temp["weights"]);
        await using var closed = owned;
        Cli.Run([
            "train", "--quick", "--runs", temp["runs"], "--set", "rollout.backend=openai", "--set", $"rollout.endpoint.url={url}",
            "--set", $"rollout.endpoint.weights_folder={temp["weights"]}", .. settings.SelectMany(s => new[] { "--set", s }),
        ]).Succeeded();
        server.Signal(Child.SigTerm);
        server.Finish().Succeeded();

        // The same seeds draw the same tokens, so the run is the same run.
        var mine = Runs.Metrics(temp["runs", "quick"]);
        var theirs = Runs.Metrics(quick.Folder);
        Assert.Equal(theirs.Count, mine.Count);
        Assert.All(mine, m => Assert.InRange(m.GetProperty("parity_max_abs").GetDouble(), 0, 1e-4));
        Assert.Equal(Played(quick.Folder, 1), Played(temp["runs", "quick"], 1));
        Assert.Equal(File.ReadAllText(Path.Combine(quick.Folder, "evaluation.json")).Length > 0,
            File.Exists(temp["runs", "quick", "evaluation.json"]));
        Assert.Equal(theirs[0].GetProperty("reward_mean").GetDouble(), mine[0].GetProperty("reward_mean").GetDouble());

        // Episodes of an update end in any order.
        static List<string> Played(string run, int update) =>
        [
            .. Runs.Lines(Path.Combine(run, "trajectories.jsonl")).Where(e => e.GetProperty("update").GetInt64() == update)
                .Select(e => e.GetProperty("turns").GetRawText()).Order(StringComparer.Ordinal),
        ];
    }

    /// <summary>Stands before mem1 serve and speaks as vLLM does.</summary>
    /// <param name="url">Base of the server's API.</param>
    /// <param name="folder">What it "was started on".</param>
    private static async Task<(string Url, IAsyncDisposable? Owned)> LikeVllm(string url, string folder)
    {
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().ConfigureKestrel(k => k.Listen(IPAddress.Loopback, 0));
        var application = builder.Build();
        var client = new HttpClient { Timeout = TimeSpan.FromMinutes(4) };
        var loads = 0;
        application.Run(async context =>
        {
            var body = await new StreamReader(context.Request.Body).ReadToEndAsync(Token);
            async Task<string> Forward(string path, string content)
            {
                using var request = new HttpRequestMessage(new HttpMethod(context.Request.Method), url + path);
                if (content.Length > 0) request.Content = new StringContent(content, Encoding.UTF8, "application/json");
                using var answer = await client.SendAsync(request, context.RequestAborted);
                context.Response.StatusCode = (int)answer.StatusCode;
                return await answer.Content.ReadAsStringAsync(context.RequestAborted);
            }

            var text = context.Request.Path.Value! switch
            {
                "/collective_rpc" => await Forward(
                    "/reload", JsonSerializer.Serialize(new { folder, version = Interlocked.Increment(ref loads) })),
                "/reset_prefix_cache" => """{"success": true}""",
                var path => await Forward(path["/v1".Length..], body),
            };
            await context.Response.WriteAsync(text.Replace("policy_versions", "what_vllm_has_not", StringComparison.Ordinal), Token);
        });
        await application.StartAsync(Token);
        return (application.Urls.First() + "/v1", application);
    }

    /// <summary>A server that answers what it is told to.</summary>
    private static async Task With(
        Func<int, (int Status, string Body)> completion, Func<Func<EndpointEngine>, Task> test,
        EndpointReload reload = EndpointReload.Sglang, Func<string, string?>? other = null)
    {
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().ConfigureKestrel(k => k.Listen(IPAddress.Loopback, 0));
        await using var application = builder.Build();
        var calls = 0;
        application.Run(async context =>
        {
            var path = context.Request.Path.Value!;
            var (status, answer) = path switch
            {
                "/v1/models" => (200, """{"data": [{"id": "m"}]}"""),
                "/update_weights_from_disk" => (200, """{"success": true}"""),
                _ => other?.Invoke(path) is { } body ? (200, body) : completion(Interlocked.Increment(ref calls)),
            };
            context.Response.StatusCode = status;
            await context.Response.WriteAsync(answer);
        });
        await application.StartAsync(Token);
        using var temp = new TempFolder();
        var checkpoint = Checkpoint.Load(BuiltIn.Folder);
        var options = new PolicyEndpointOptions
        {
            Url = application.Urls.First() + "/v1",
            Retries = 2,
            Deadline = 60,
            WeightsFolder = temp["weights"],
            Reload = reload,
        };
        await test(() => new EndpointEngine(options, checkpoint.Config, checkpoint.Weights, 7, checkpoint.Tokenizer!));
    }

    private static GenerationResult Ask(EndpointEngine engine)
    {
        engine.Submit(new GenerationRequest(1, [1, 2, 3], new SamplingOptions(1, 1, 4), [], 5));
        while (true)
        {
            if (engine.Step() is [var result]) return result;
        }
    }

    private const string Sound =
        """{"choices": [{"text": "", "finish_reason": "length", "token_ids": [4, 5], "logprobs": {"token_logprobs": [-0.5, -1]}}]}""";

    [Fact]
    public Task APassingFailureIsTriedAgainAndTheVersionIsStamped() => With(
        call => call == 1 ? (503, "busy") : call == 2 ? (429, "full") : (200, Sound),
        make =>
        {
            using var engine = make();
            var result = Ask(engine);
            Assert.Equal([4, 5], result.Tokens);
            Assert.Equal([-0.5f, -1], result.LogProbs);
            Assert.Equal([7, 7], result.PolicyVersions);
            Assert.Equal(FinishReason.Length, result.Finish);
            Assert.Equal(2, engine.GeneratedTokens);
            return Task.CompletedTask;
        });

    [Theory]
    [InlineData(500, "down", "3 times")]
    [InlineData(400, "no such thing", "refused")]
    [InlineData(200, "<html>", "no JSON")]
    [InlineData(200, "{}", "no choice")]
    [InlineData(200, """{"choices": [{"text": "a", "logprobs": {"token_logprobs": [-1]}}]}""", "returns no token ids")]
    [InlineData(200, """{"choices": [{"token_ids": [4]}]}""", "returns no log-probs")]
    [InlineData(200, """{"choices": [{"token_ids": [4], "logprobs": {"token_logprobs": [null]}}]}""", "log-probs that are none")]
    [InlineData(200, """{"choices": [{"token_ids": [4, 5], "logprobs": {"token_logprobs": [-1]}}]}""", "2 token ids with 1")]
    [InlineData(200, """{"choices": [{"token_ids": [9999999], "logprobs": {"token_logprobs": [-1]}}]}""", "outside the model's vocabulary")]
    [InlineData(
        200, """{"choices": [{"prompt_token_ids": [0, 1, 2, 3], "token_ids": [4], "logprobs": {"token_logprobs": [-1]}}]}""",
        "other prompt tokens")]
    [InlineData(200, """{"choices": [{"finish_reason": "abort", "token_ids": [4], "logprobs": {"token_logprobs": [-1]}}]}""", "abort")]
    public Task AServerThatCannotBeTrainedOnIsRefusedByName(int status, string body, string says) => With(
        _ => (status, body),
        make =>
        {
            using var engine = make();
            var refused = Assert.Throws<RolloutWorkerException>(() => Ask(engine));
            Assert.Contains(says, refused.Message, StringComparison.Ordinal);
            return Task.CompletedTask;
        });

    [Fact]
    public async Task VllmReloadsAndThenForgetsWhatTheFormerWeightsMade()
    {
        List<string> asked = [];
        string? Answer(string path)
        {
            if (path == "/v1/completions") return null;
            asked.Add(path);
            return path != "/reset_prefix_cache" || asked.Count == 3 ? "" : """{"success": false}""";
        }

        await With(
            _ => (200, Sound),
            make =>
            {
                using var engine = make();
                Assert.Equal([7, 7], Ask(engine).PolicyVersions);
                return Task.CompletedTask;
            },
            EndpointReload.Vllm, Answer);
        Assert.Equal(["/collective_rpc", "/reset_prefix_cache", "/reset_prefix_cache"], asked);
        var refused = await Assert.ThrowsAsync<RolloutWorkerException>(() => With(
            _ => (200, Sound), make => Task.FromResult(make()), EndpointReload.Vllm,
            path => path == "/collective_rpc" ? "" : """{"success": false}"""));
        Assert.Contains("--no-enable-prefix-caching", refused.Message, StringComparison.Ordinal);
    }
}
