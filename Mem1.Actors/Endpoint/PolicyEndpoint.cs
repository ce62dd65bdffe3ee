// Invariants:
//  * Every call ends: a try within the deadline, tries within their bound; what is wrong for good is not tried again.
//  * An answer is taken only whole: token ids, a finite log-prob for each, and the prompt that was sent.
using System.Net;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Mem1.Model;

namespace Mem1.Actors;

/// <summary>A policy server over HTTP: completions from token ids to token ids, and loading of weights.</summary>
internal sealed class PolicyEndpoint : IDisposable
{
    // Tries that follow at once find what the first found; half a minute is about what a server takes to start.
    private static readonly TimeSpan FirstWait = TimeSpan.FromMilliseconds(250), LongestWait = TimeSpan.FromSeconds(10);

    // Of a server's own words in a sentence.
    private const int MaxShown = 300;

    private readonly PolicyEndpointOptions _options;
    private readonly HttpClient _http;
    private readonly SemaphoreSlim _room;
    private readonly string _base;
    private string? _model;

    /// <exception cref="RolloutWorkerException">The variable with the key is not set.</exception>
    public PolicyEndpoint(PolicyEndpointOptions options)
    {
        _options = options;
        _model = options.Model;
        _base = options.Url!.TrimEnd('/');
        _room = new SemaphoreSlim(options.MaxConcurrency);
        // A proxy of the environment is for other hosts. The deadline is kept by each call.
        var handler = new SocketsHttpHandler { UseProxy = !new Uri(_base).IsLoopback };
        _http = new HttpClient(handler) { Timeout = Timeout.InfiniteTimeSpan };
        if (options.ApiKeyEnv is not { } variable) return;
        if (Environment.GetEnvironmentVariable(variable) is not { Length: > 0 } key)
            throw new RolloutWorkerException(
                $"rollout.endpoint.api_key_env names {variable}, which is not set; set it to the server's key.");
        _http.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", key);
    }

    /// <summary>Continues a context.</summary>
    /// <param name="request">What to continue.</param>
    /// <param name="limit">Most tokens, the model's room considered.</param>
    /// <param name="version">Of the weights in place, for a server that does not say it.</param>
    /// <param name="config">The model's shape.</param>
    /// <param name="endOfText">The token that ends a text.</param>
    /// <param name="cancellationToken">Ends the call at the server too.</param>
    /// <exception cref="RolloutWorkerException">The server does not answer, refuses, or answers what cannot be trained on.</exception>
    public async Task<GenerationResult> Complete(
        GenerationRequest request, int limit, long version, DecoderConfig config, int? endOfText, CancellationToken cancellationToken)
    {
        await _room.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            var body = new JsonObject
            {
                ["model"] = _model,
                ["prompt"] = new JsonArray([.. request.Context.Select(t => (JsonNode)t)]),
                ["max_tokens"] = limit,
                ["temperature"] = request.Sampling.Temperature,
                ["top_p"] = request.Sampling.TopP,
                // Servers take seeds of 64 bits with a sign.
                ["seed"] = unchecked((long)request.Seed),
                ["logprobs"] = 0,
                ["return_token_ids"] = true,
                // Stop strings may be, or hold, special tokens.
                ["skip_special_tokens"] = false,
                // A model's own generation settings must not reshape the distribution that log-probs speak of.
                ["top_k"] = -1,
                ["min_p"] = 0,
                ["repetition_penalty"] = 1,
            };
            if (request.StopStrings.Count > 0) body["stop"] = new JsonArray([.. request.StopStrings.Select(s => (JsonNode)s)]);
            var answer = await Call(HttpMethod.Post, $"{_base}/completions", body, cancellationToken).ConfigureAwait(false);
            return Read(answer, request, limit, version, config, endOfText);
        }
        finally
        {
            _room.Release();
        }
    }

    /// <summary>Has the server load the weights in the folder.</summary>
    /// <exception cref="RolloutWorkerException">It cannot, or does not answer.</exception>
    public async Task Load(string folder, long version)
    {
        _model ??= await OnlyModel().ConfigureAwait(false);
        var root = _base.EndsWith("/v1", StringComparison.Ordinal) ? _base[..^3] : _base;
        var (url, body) = _options.Reload switch
        {
            EndpointReload.Mem1 => ($"{_base}/reload", new JsonObject { ["folder"] = folder, ["version"] = version }),
            EndpointReload.Sglang => ($"{root}/update_weights_from_disk", new JsonObject { ["model_path"] = folder }),
            _ => ($"{root}/collective_rpc", new JsonObject { ["method"] = "reload_weights" }),
        };
        var answer = await Call(HttpMethod.Post, url, body, CancellationToken.None).ConfigureAwait(false);
        var loaded = _options.Reload switch
        {
            EndpointReload.Mem1 =>
                Field(answer, "policy_version") is { ValueKind: JsonValueKind.Number } v && v.TryGetInt64(out var now) && now == version,
            EndpointReload.Sglang => Field(answer, "success") is { ValueKind: JsonValueKind.True },
            _ => true, // its status says it all
        };
        if (!loaded)
            throw new RolloutWorkerException(
                $"The policy server at {_base} did not load version {version} from {folder}: {Shown(answer.GetRawText())}");
        if (_options.Reload == EndpointReload.Vllm) await ForgetPrefixes($"{root}/reset_prefix_cache").ConfigureAwait(false);
    }

    /// <summary>
    /// Has vLLM drop the keys and values that it keeps of prompts: those that the former weights made must not meet the new ones. It
    /// refuses while a request that was cancelled still holds some.
    /// </summary>
    private async Task ForgetPrefixes(string url)
    {
        var backoff = new Backoff(FirstWait, LongestWait, Random.Shared.NextDouble);
        while (Field(await Call(HttpMethod.Post, url, null, CancellationToken.None).ConfigureAwait(false), "success")
            is { ValueKind: JsonValueKind.False })
        {
            if (backoff.Failures == _options.Retries)
            {
                throw new RolloutWorkerException(
                    $"The policy server at {_base} does not drop what it keeps of prompts; start it with --no-enable-prefix-caching.");
            }

            await Task.Delay(backoff.Next()).ConfigureAwait(false);
        }
    }

    public void Dispose()
    {
        _http.Dispose();
        _room.Dispose();
    }

    private async Task<string> OnlyModel()
    {
        var answer = await Call(HttpMethod.Get, $"{_base}/models", null, CancellationToken.None).ConfigureAwait(false);
        string[] names = Field(answer, "data") is { ValueKind: JsonValueKind.Array } data
            ? [.. data.EnumerateArray().Select(m => Field(m, "id")).Where(id => id?.ValueKind == JsonValueKind.String).Select(
                id => id!.Value.GetString()!)]
            : [];
        return names is [var only] ? only : throw new RolloutWorkerException(
            $"The policy server at {_base} lists {names.Length} models; say which with rollout.endpoint.model.");
    }

    private GenerationResult Read(
        JsonElement answer, GenerationRequest request, int limit, long version, DecoderConfig config, int? endOfText)
    {
        if (Field(answer, "choices") is not { ValueKind: JsonValueKind.Array } choices || choices.GetArrayLength() != 1)
            throw Unusable($"answered no choice ({Shown(answer.GetRawText())}).");
        var choice = choices[0];
        var ids = Ids(choice, "token_ids") ?? throw Unusable(
            "returns no token ids (choices[0].token_ids), which training needs: use mem1 serve, or a server that has return_token_ids.");
        if (Field(choice, "logprobs") is not { } logProbs
            || Field(logProbs, "token_logprobs") is not { ValueKind: JsonValueKind.Array } list)
            throw Unusable("returns no log-probs (choices[0].logprobs.token_logprobs), which training needs.");
        var values = list.EnumerateArray().Select(v => v.ValueKind == JsonValueKind.Number ? v.GetSingle() : float.NaN).ToArray();
        // Rounding may leave a certain token's log-prob a little above 0.
        if (ids.Length == 0 || ids.Length > limit || values.Length != ids.Length
            || !Array.TrueForAll(values, v => v <= 1e-3f && float.IsFinite(v)))
        {
            throw Unusable(
                $"returned {ids.Length} token ids with {values.Length} log-probs for at most {limit} tokens, or log-probs that are none.");
        }

        if (Array.FindIndex(ids, id => (uint)id >= (uint)config.VocabularySize) is >= 0 and var at)
        {
            throw Unusable(
                $"returned the token id {ids[at]}, outside the model's vocabulary of {config.VocabularySize}; it serves another model.");
        }

        if (Ids(choice, "prompt_token_ids") is { } prompt && !prompt.AsSpan().SequenceEqual(request.Context))
            throw Unusable("continued other prompt tokens than those it was sent; it adds or drops tokens of its own.");
        var versions = _options.Reload == EndpointReload.Mem1
            ? Versions(choice, ids.Length) : [.. Enumerable.Repeat(version, ids.Length)];
        var finish = ids[^1] == endOfText ? FinishReason.EndOfText
            : (Field(choice, "finish_reason") is { ValueKind: JsonValueKind.String } f ? f.GetString() : null) switch
            {
                "stop" => FinishReason.Stop,
                "length" => FinishReason.Length,
                var other => throw Unusable($"ended a continuation with the reason {other ?? "null"}; stop and length are known."),
            };
        return new GenerationResult(request.Id, ids, values, versions, finish);
    }

    private long[] Versions(JsonElement choice, int count)
    {
        if (Field(choice, "policy_versions") is { ValueKind: JsonValueKind.Array } list && list.GetArrayLength() == count)
            return [.. list.EnumerateArray().Select(
                v => v.TryGetInt64(out var n) ? n : throw Unusable("returned a policy version that is no number."))];
        throw Unusable("returns no policy_versions, as mem1 serve does; set rollout.endpoint.reload to sglang or vllm for those.");
    }

    private static int[]? Ids(JsonElement choice, string name) => Field(choice, name) is { ValueKind: JsonValueKind.Array } list
        ? [.. list.EnumerateArray().Select(v => v.ValueKind == JsonValueKind.Number && v.TryGetInt32(out var id) ? id : -1)] : null;

    private static JsonElement? Field(JsonElement of, string name) =>
        of.ValueKind == JsonValueKind.Object && of.TryGetProperty(name, out var value) ? value : null;

    private RolloutWorkerException Unusable(string why) => new($"The policy server at {_base} {why}");

    /// <summary>One call with its tries.</summary>
    private async Task<JsonElement> Call(HttpMethod method, string url, JsonObject? body, CancellationToken cancellationToken)
    {
        var backoff = new Backoff(FirstWait, LongestWait, Random.Shared.NextDouble);
        while (true)
        {
            string reason;
            using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
            deadline.CancelAfter(TimeSpan.FromSeconds(_options.Deadline));
            try
            {
                using var request = new HttpRequestMessage(method, url);
                if (body is not null) request.Content = new StringContent(body.ToJsonString(), Encoding.UTF8, "application/json");
                using var response = await _http.SendAsync(request, deadline.Token).ConfigureAwait(false);
                var text = await response.Content.ReadAsStringAsync(deadline.Token).ConfigureAwait(false);
                if (response.IsSuccessStatusCode)
                {
                    // vLLM answers some calls with nothing at all.
                    using var json = JsonDocument.Parse(text.Length == 0 ? "null" : text);
                    return json.RootElement.Clone();
                }

                reason = $"status {(int)response.StatusCode}, {Shown(text)}";
                if (response.StatusCode is not (HttpStatusCode.RequestTimeout or HttpStatusCode.TooManyRequests)
                    && (int)response.StatusCode < 500)
                    throw new RolloutWorkerException($"The policy server refused {method} {url}: {reason}");
            }
            catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
            {
                reason = $"no answer within {_options.Deadline} s";
            }
            catch (Exception e) when (e is HttpRequestException or IOException)
            {
                reason = e.Message;
            }
            catch (JsonException)
            {
                throw new RolloutWorkerException(
                    $"The policy server's answer to {method} {url} is no JSON; is rollout.endpoint.url the base of its API?");
            }

            if (backoff.Failures == _options.Retries)
            {
                throw new RolloutWorkerException(
                    $"The policy server failed {method} {url} {_options.Retries + 1} times, last with: {reason}");
            }

            await Task.Delay(backoff.Next(), cancellationToken).ConfigureAwait(false);
        }
    }

    private static string Shown(string text) => text.Length > MaxShown ? text[..MaxShown] + "..." : text;
}
