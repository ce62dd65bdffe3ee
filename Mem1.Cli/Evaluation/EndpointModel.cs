// Keeps: at most so many requests under way and so many a second; every attempt has a deadline and a bounded reply; attempts are bounded,
// and what fails for good stops the evaluation with a sentence instead of counting as an answer. The key is in no message.
using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Mem1.Model;

namespace Mem1.Cli.Evaluation;

/// <summary>Which of OpenAI's endpoints is asked, and how.</summary>
internal enum EndpointApi
{
    /// <summary>Completions of token ids, token ids back (vLLM, mem1 serve): nothing is decoded and encoded on the way.</summary>
    Tokens,
    /// <summary>Completions of text.</summary>
    Completions,
    /// <summary>Chat: one message of the user with the prompt and what follows it.</summary>
    Chat,
}

/// <summary>Where and how an endpoint is asked.</summary>
internal sealed record EndpointOptions
{
    /// <summary>Address up to the version, such as http://localhost:8001/v1.</summary>
    public required Uri Address { get; init; }

    /// <summary>Name of the model there.</summary>
    public required string Model { get; init; }

    public EndpointApi Api { get; init; }

    /// <summary>Key, or null.</summary>
    public string? Key { get; init; }

    /// <summary>Time one attempt may take.</summary>
    public TimeSpan Deadline { get; init; } = TimeSpan.FromMinutes(2);

    /// <summary>Requests under way at once.</summary>
    public int Concurrency { get; init; } = 8;

    /// <summary>Requests begun in a second; 0 is no limit.</summary>
    public double Rate { get; init; }

    /// <summary>Further attempts after one that failed.</summary>
    public int Retries { get; init; } = 4;

    /// <summary>Wait before the first retry; it doubles for each one after.</summary>
    public TimeSpan Wait { get; init; } = TimeSpan.FromMilliseconds(500);
}

/// <summary>A model behind OpenAI's API.</summary>
internal sealed class EndpointModel : IPolicyModel
{
    // Log-probs are not asked for, so a reply of more than this is none of such an API.
    private const long MaxReply = 16 << 20;

    // A server's wish to be left alone is heeded up to here.
    private static readonly TimeSpan s_longestWait = TimeSpan.FromMinutes(1);

    private readonly EndpointOptions _options;
    private readonly ITokenizer _tokenizer;
    private readonly HttpClient _http;
    private readonly SemaphoreSlim _places;
    private readonly Uri _address;
    private readonly Lock _clock = new();
    private readonly Stopwatch _watch = Stopwatch.StartNew();
    private TimeSpan _next;

    /// <param name="options">Where and how.</param>
    /// <param name="tokenizer">The model's own: it counts, and turns text into tokens where the endpoint gives text.</param>
    public EndpointModel(EndpointOptions options, ITokenizer tokenizer)
    {
        (_options, _tokenizer) = (options, tokenizer);
        _places = new SemaphoreSlim(options.Concurrency);
        _http = new HttpClient(new SocketsHttpHandler { AllowAutoRedirect = false })
        {
            Timeout = Timeout.InfiniteTimeSpan,
            MaxResponseContentBufferSize = MaxReply,
        };
        if (options.Key is not null) _http.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", options.Key);
        _address = new Uri(
            options.Address.ToString().TrimEnd('/') + (options.Api == EndpointApi.Chat ? "/chat/completions" : "/completions"));
    }

    /// <summary>Requests sent so far, retries included.</summary>
    public int Sent { get; private set; }

    /// <exception cref="UserErrorException">Every attempt failed, or the endpoint refuses the request.</exception>
    public async Task<PolicyResponse> GenerateAsync(PolicyRequest request, CancellationToken cancellationToken)
    {
        var body = Body(request).ToJsonString();
        await _places.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            for (var attempt = 0; ; attempt++)
            {
                await Turn(cancellationToken).ConfigureAwait(false);
                var (reply, problem, after) = await Send(body, cancellationToken).ConfigureAwait(false);
                if (reply is { } text) return Read(text, request);
                if (attempt == _options.Retries)
                    throw new UserErrorException(
                        $"the endpoint {_options.Address} failed {attempt + 1} times in a row ({problem}); finished episodes are kept: "
                        + "go on with --resume once it is back.");
                var wait = _options.Wait * Math.Pow(2, Math.Min(attempt, 10));
                if (after > wait) wait = after.Value;
                await Task.Delay(wait < s_longestWait ? wait : s_longestWait, cancellationToken).ConfigureAwait(false);
            }
        }
        finally
        {
            _places.Release();
        }
    }

    public void Dispose()
    {
        _http.Dispose();
        _places.Dispose();
    }

    internal JsonObject Body(PolicyRequest request)
    {
        var body = new JsonObject
        {
            ["model"] = _options.Model,
            ["max_tokens"] = request.Sampling.MaxNewTokens,
            ["temperature"] = request.Sampling.Temperature,
            ["stop"] = new JsonArray([.. request.Stops.Select(s => (JsonNode)s)]),
        };
        // Greedy answers have no use for a seed, and not every server takes one.
        if (request.Sampling.Temperature > 0) body["seed"] = (long)(request.Seed & long.MaxValue);
        switch (_options.Api)
        {
            case EndpointApi.Tokens:
                body["prompt"] = new JsonArray([.. request.Context.Select(t => (JsonNode)t)]);
                body["return_token_ids"] = true;
                break;
            case EndpointApi.Completions:
                body["prompt"] = _tokenizer.Decode(request.Context);
                break;
            default:
                // Where an assistant's message may be continued differs between servers; a message of the user goes everywhere.
                var content = request.History.Length == 0 ? request.Prompt : $"{request.Prompt}\n{_tokenizer.Decode(request.History)}";
                body["messages"] = new JsonArray(new JsonObject { ["role"] = "user", ["content"] = content });
                break;
        }

        return body;
    }

    /// <summary>Waits until the rate allows another request.</summary>
    private async Task Turn(CancellationToken cancellationToken)
    {
        TimeSpan wait;
        lock (_clock)
        {
            Sent++;
            if (_options.Rate <= 0) return;
            var now = _watch.Elapsed;
            if (_next < now) _next = now;
            wait = _next - now;
            _next += TimeSpan.FromSeconds(1 / _options.Rate);
        }

        if (wait > TimeSpan.Zero) await Task.Delay(wait, cancellationToken).ConfigureAwait(false);
    }

    private async Task<(string? Reply, string Problem, TimeSpan? After)> Send(string body, CancellationToken cancellationToken)
    {
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        deadline.CancelAfter(_options.Deadline);
        try
        {
            using var content = new StringContent(body, Encoding.UTF8, "application/json");
            using var response = await _http.PostAsync(_address, content, deadline.Token).ConfigureAwait(false);
            var text = await response.Content.ReadAsStringAsync(deadline.Token).ConfigureAwait(false);
            if (response.StatusCode == HttpStatusCode.OK) return (text, "", null);
            var status = string.Create(CultureInfo.InvariantCulture, $"status {(int)response.StatusCode}: {Short(text)}");
            if (response.StatusCode is HttpStatusCode.RequestTimeout or HttpStatusCode.TooManyRequests || (int)response.StatusCode >= 500)
                return (null, status, response.Headers.RetryAfter is { } after ? after.Delta ?? (after.Date - DateTimeOffset.UtcNow) : null);
            throw new UserErrorException($"the endpoint {_options.Address} refuses the request, {status}.");
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            return (null, string.Create(CultureInfo.InvariantCulture, $"no answer within {_options.Deadline.TotalSeconds:0.#} s"), null);
        }
        catch (HttpRequestException e)
        {
            return (null, e.Message.TrimEnd('.'), null);
        }
    }

    internal PolicyResponse Read(string text, PolicyRequest request)
    {
        try
        {
            using var json = JsonDocument.Parse(text);
            var choice = json.RootElement.GetProperty("choices")[0];
            var length = choice.GetProperty("finish_reason").GetString() == "length";
            if (_options.Api == EndpointApi.Tokens)
            {
                if (!choice.TryGetProperty("token_ids", out var ids) || ids.ValueKind != JsonValueKind.Array)
                    throw new UserErrorException(
                        $"the endpoint {_options.Address} gives no token_ids (return_token_ids of vLLM and mem1 serve); use --endpoint-api completions.");
                int[] tokens = [.. ids.EnumerateArray().Select(i => i.GetInt32())];
                if (tokens.Length == 0 || tokens.Any(t => (uint)t >= (uint)_tokenizer.VocabularySize))
                    throw new UserErrorException(
                        $"the endpoint {_options.Address} gives token ids that --model's tokenizer does not have; name the same model.");
                return new PolicyResponse(
                    tokens, length ? FinishReason.Length : tokens[^1] == _tokenizer.EndOfText ? FinishReason.EndOfText : FinishReason.Stop);
            }

            var said = (_options.Api == EndpointApi.Chat
                ? choice.GetProperty("message").GetProperty("content") : choice.GetProperty("text")).GetString() ?? "";
            var stop = choice.TryGetProperty("stop_reason", out var reason) && reason.ValueKind == JsonValueKind.String ? reason.GetString() : null;
            return FromText(said, length, stop, request.Stops);
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException or FormatException
            or IndexOutOfRangeException)
        {
            throw new UserErrorException($"the endpoint {_options.Address} answers with no completion ({Short(text)}).", e);
        }
    }

    private PolicyResponse FromText(string said, bool length, string? stop, IReadOnlyList<string> stops)
    {
        var stopped = stops.Any(s => said.Contains(s, StringComparison.Ordinal));
        if (!length && !stopped && (stop is not null && stops.Contains(stop) ? stop : Open(said, stops)) is { } tag)
            (said, stopped) = (said + tag, true);
        int[] tokens;
        try
        {
            tokens = _tokenizer.Encode(said);
        }
        catch (ArgumentException e)
        {
            throw new UserErrorException(
                $"the endpoint {_options.Address} answers with text that --model's tokenizer cannot encode ({e.Message.Split(" (Parameter")[0]}): "
                + $"\"{Short(said)}\"; name the same model.", e);
        }

        if (stopped || length) return new PolicyResponse(tokens, length && !stopped ? FinishReason.Length : FinishReason.Stop);
        // It ended by itself. The token for that is made up where the tokenizer has one, so that counts are those of other ways.
        return _tokenizer.EndOfText is { } end ? new PolicyResponse([.. tokens, end], FinishReason.EndOfText)
            : new PolicyResponse(tokens, FinishReason.Stop);
    }

    /// <summary>
    /// Servers cut the stop string off and most do not say which it was: it is that of the tag opened last, if it is still open.
    /// </summary>
    private static string? Open(string said, IReadOnlyList<string> stops) => stops
        .Where(s => s.StartsWith("</", StringComparison.Ordinal))
        .Select(s => (Stop: s, At: said.LastIndexOf("<" + s[2..], StringComparison.Ordinal)))
        .Where(s => s.At >= 0).OrderByDescending(s => s.At).Select(s => s.Stop).FirstOrDefault();

    private static string Short(string text)
    {
        var line = string.Join(' ', text.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries));
        return line.Length <= 200 ? line : line[..200] + "...";
    }
}
