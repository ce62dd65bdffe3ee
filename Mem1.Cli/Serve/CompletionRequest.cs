// Keeps: what a request may cost is bounded before anything of it reaches the model.
using System.Text.Json;
using Mem1.Model;
using Mem1.Model.Tokenizers;

namespace Mem1.Cli.Serve;

/// <summary>A request of either kind, read and checked.</summary>
/// <param name="Chat">POST /v1/chat/completions, whose answers have another shape.</param>
/// <param name="Prompts">Token ids of each.</param>
/// <param name="Choices">Continuations of each prompt.</param>
/// <param name="Sampling">How to draw.</param>
/// <param name="Seed">Of the first choice; null for one of the server's.</param>
/// <param name="Stops">Stop strings.</param>
/// <param name="LogProbs">Whether log-probs are answered.</param>
/// <param name="TopLogProbs">Most likely tokens beside each drawn one.</param>
/// <param name="Stream">Whether the answer comes token by token.</param>
internal sealed record CompletionRequest(
    bool Chat, IReadOnlyList<int[]> Prompts, int Choices, SamplingOptions Sampling, ulong? Seed, IReadOnlyList<string> Stops, bool LogProbs,
    int TopLogProbs, bool Stream)
{
    /// <summary>Continuations one request may ask for, prompts times choices.</summary>
    public const int MaxChoices = 128;

    /// <summary>As OpenAI's API has it for chats; ample for any use here.</summary>
    public const int MaxTopLogProbs = 20;

    private const int MaxStops = 16, MaxStopLength = 256, MaxMessages = 4096;

    // The default of OpenAI's completions.
    private const int StandardMaxTokens = 16;

    private static readonly string[] s_common =
    [
        "model", "max_tokens", "temperature", "top_p", "seed", "stop", "n", "stream", "stream_options", "logprobs", "presence_penalty",
        "frequency_penalty", "logit_bias", "user", "metadata", "store", "top_k", "min_p", "repetition_penalty", "return_token_ids",
        "return_tokens_as_token_ids", "include_stop_str_in_output", "skip_special_tokens",
    ];

    private static readonly HashSet<string> s_completion = [.. s_common, "prompt", "echo", "best_of", "suffix"];

    private static readonly HashSet<string> s_chat =
        [.. s_common, "messages", "max_completion_tokens", "top_logprobs", "tools", "tool_choice", "functions", "function_call",
            "response_format"];

    /// <summary>Name of the model asked for; null when the request leaves it open.</summary>
    public string? Model { get; private init; }

    /// <summary>Whether token ids and policy versions are answered beside the text.</summary>
    public bool TokenIds { get; private init; }

    /// <summary>Whether tokens in log-probs are named "token_id:N".</summary>
    public bool TokensAsIds { get; private init; }

    /// <summary>Whether the stop string that ended a text is part of it.</summary>
    public bool KeepStop { get; private init; }

    /// <summary>Whether a stream ends with the counts of tokens.</summary>
    public bool StreamUsage { get; private init; }

    /// <summary>Reads a request.</summary>
    /// <exception cref="ApiException">It breaks the protocol, a limit, or asks for what this server does not do.</exception>
    public static CompletionRequest Read(JsonElement body, bool chat, DecoderConfig shape, ITokenizer tokenizer)
    {
        var fields = new RequestFields(body, chat ? s_chat : s_completion);
        RefuseUnsupported(fields);
        var prompts = chat ? [Messages(fields, shape, tokenizer)] : Prompt(fields, shape, tokenizer);
        var choices = (int)(fields.Whole("n", 1, MaxChoices) ?? 1);
        if ((long)prompts.Count * choices > MaxChoices)
        {
            throw ApiException.Bad(
                $"{prompts.Count} prompts with n {choices} ask for more than {MaxChoices} continuations; send fewer at once.", "n");
        }

        var longest = prompts.Max(p => p.Length);
        var room = shape.MaxPositions - longest;
        if (room < 1)
        {
            throw ApiException.Bad(
                $"The prompt has {longest} tokens, which leaves no room in the model's {shape.MaxPositions} positions.",
                    chat ? "messages" : "prompt");
        }

        var name = chat && fields.Has("max_completion_tokens") ? "max_completion_tokens" : "max_tokens";
        var wanted = fields.Whole(name, 1, int.MaxValue);
        if (wanted > room)
        {
            throw ApiException.Bad(
                $"\"{name}\" is {wanted}, but the prompt's {longest} tokens leave {room} of the model's {shape.MaxPositions} positions.",
                    name);
        }

        var sampling = new SamplingOptions(
            (float)fields.Number("temperature", 1, 0, 100), TopP(fields),
                (int)(wanted ?? (chat ? room : Math.Min(room, StandardMaxTokens))));
        if (sampling.Temperature is > 0 and < 1e-3f)
            throw ApiException.Bad("\"temperature\" must be 0, for the most likely token, or at least 0.001.", "temperature");
        var (logProbs, top) = LogProbsOf(fields, chat);
        return new CompletionRequest(
            chat, prompts, choices, sampling,
                fields.Whole("seed", long.MinValue, long.MaxValue) is { } seed ? unchecked((ulong)seed) : null,
            StopsOf(fields), logProbs, Math.Min(top, shape.VocabularySize), fields.Flag("stream"))
        {
            Model = fields.Text("model"),
            TokenIds = fields.Flag("return_token_ids"),
            TokensAsIds = fields.Flag("return_tokens_as_token_ids"),
            KeepStop = fields.Flag("include_stop_str_in_output"),
            StreamUsage = StreamUsageOf(fields),
        };
    }

    private static void RefuseUnsupported(RequestFields fields)
    {
        const string distribution = "tokens are drawn from the model's own distribution, since log-probs must be the policy's.";
        foreach (var name in new[] { "presence_penalty", "frequency_penalty", "min_p" }) fields.Refuse(
            name, v => RequestFields.Is(v, 0), distribution);
        fields.Refuse("repetition_penalty", v => RequestFields.Is(v, 1), distribution);
        fields.Refuse("top_k", v => RequestFields.Is(v, -1) || RequestFields.Is(v, 0), distribution);
        fields.Refuse("logit_bias", RequestFields.IsEmpty, distribution);
        fields.Refuse("skip_special_tokens", v => v.ValueKind == JsonValueKind.False, "special tokens are part of the text.");
        fields.Refuse("echo", v =>
            v.ValueKind == JsonValueKind.False, "the prompt is not answered; \"return_token_ids\" gives its token ids.");
        fields.Refuse("suffix", v =>
            v.ValueKind == JsonValueKind.String && v.ValueEquals(""), "the model continues a text, it does not fill gaps.");
        fields.Refuse("best_of", v =>
            RequestFields.Is(v, fields.Whole("n", 1, MaxChoices) ?? 1), "every continuation is answered; use \"n\".");
        foreach (var name in new[] { "tools", "functions" }) fields.Refuse(name, RequestFields.IsEmpty, "the model calls no tools.");
        foreach (var name in new[] { "tool_choice", "function_call" })
            fields.Refuse(name, v =>
                v.ValueKind == JsonValueKind.String && (v.ValueEquals("none") || v.ValueEquals("auto")), "the model calls no tools.");
        fields.Refuse(
            "response_format", v => v.ValueKind == JsonValueKind.Object && v.TryGetProperty("type", out var type)
                && type.ValueKind == JsonValueKind.String && type.ValueEquals("text"),
            "answers are text.");
    }

    private static float TopP(RequestFields fields)
    {
        var p = (float)fields.Number("top_p", 1, 0, 1);
        return p > 0 ? p : throw ApiException.Bad("\"top_p\" must be above 0 and at most 1.", "top_p");
    }

    private static bool StreamUsageOf(RequestFields fields)
    {
        if (fields.Get("stream_options") is not { } options) return false;
        if (!fields.Flag("stream")) throw ApiException.Bad("\"stream_options\" is given, but \"stream\" is not true.", "stream_options");
        if (options.ValueKind != JsonValueKind.Object) throw ApiException.Bad("\"stream_options\" must be an object.", "stream_options");
        return new RequestFields(options, new HashSet<string> { "include_usage", "include_obfuscation" }).Flag("include_usage");
    }

    /// <summary>Completions say how many in "logprobs"; chats say whether there and how many in "top_logprobs".</summary>
    private static (bool, int) LogProbsOf(RequestFields fields, bool chat)
    {
        if (!chat) return fields.Whole("logprobs", 0, MaxTopLogProbs) is { } count ? (true, (int)count) : (false, 0);
        var wanted = fields.Flag("logprobs");
        var top = (int)(fields.Whole("top_logprobs", 0, MaxTopLogProbs) ?? 0);
        if (top > 0 && !wanted) throw ApiException.Bad("\"top_logprobs\" is given, but \"logprobs\" is not true.", "top_logprobs");
        return (wanted, top);
    }

    private static List<string> StopsOf(RequestFields fields)
    {
        if (fields.Get("stop") is not { } value) return [];
        var stops = new List<string>();
        if (value.ValueKind == JsonValueKind.String)
            stops.Add(RequestFields.Text(value, "stop"));
        else if (value.ValueKind == JsonValueKind.Array && value.GetArrayLength() <= MaxStops)
            stops.AddRange(value.EnumerateArray().Select(v => RequestFields.Text(v, "stop")));
        else
            throw ApiException.Bad($"\"stop\" must be a string or a list of at most {MaxStops} strings.", "stop");
        return stops.TrueForAll(s => s.Length is >= 1 and <= MaxStopLength) ? stops
            : throw ApiException.Bad($"\"stop\" strings must have 1 to {MaxStopLength} characters.", "stop");
    }

    private static IReadOnlyList<int[]> Prompt(RequestFields fields, DecoderConfig shape, ITokenizer tokenizer)
    {
        const string form = "\"prompt\" must be a text, a list of token ids, or a list of texts or of lists of token ids.";
        var value = fields.Get("prompt") ?? throw ApiException.Bad(
            "\"prompt\" is missing; it is the text or the token ids to continue.", "prompt");
        if (value.ValueKind == JsonValueKind.String) return [Encode(RequestFields.Text(value, "prompt"), tokenizer)];
        if (value.ValueKind != JsonValueKind.Array) throw ApiException.Bad(form, "prompt");
        if (value.GetArrayLength() == 0) throw ApiException.Bad("\"prompt\" is empty; a continuation needs at least one token.", "prompt");
        if (value[0].ValueKind == JsonValueKind.Number) return [Ids(value, shape)];
        if (value.GetArrayLength() > MaxChoices)
            throw ApiException.Bad($"\"prompt\" holds {value.GetArrayLength()} prompts; a request may hold {MaxChoices}.", "prompt");
        return
        [
            .. value.EnumerateArray().Select(p => p.ValueKind switch
            {
                JsonValueKind.String => Encode(RequestFields.Text(p, "prompt"), tokenizer),
                JsonValueKind.Array => Ids(p, shape),
                _ => throw ApiException.Bad(form, "prompt"),
            }),
        ];
    }

    private static int[] Ids(JsonElement list, DecoderConfig shape)
    {
        if (list.GetArrayLength() == 0) throw ApiException.Bad("\"prompt\" is empty; a continuation needs at least one token.", "prompt");
        var ids = new int[list.GetArrayLength()];
        var i = 0;
        foreach (var item in list.EnumerateArray())
        {
            if (item.ValueKind != JsonValueKind.Number || !item.TryGetInt32(out var id) || (uint)id >= (uint)shape.VocabularySize)
                throw ApiException.Bad($"Token {i} of \"prompt\" must be a whole number from 0 to {shape.VocabularySize - 1}.", "prompt");
            ids[i++] = id;
        }

        return ids;
    }

    private static int[] Messages(RequestFields fields, DecoderConfig shape, ITokenizer tokenizer)
    {
        if (fields.Get("messages") is not { ValueKind: JsonValueKind.Array } list || list.GetArrayLength() is 0 or > MaxMessages)
            throw ApiException.Bad($"\"messages\" must be a list of 1 to {MaxMessages} messages.", "messages");
        var messages = list.EnumerateArray().Select(Message).ToList();
        return tokenizer switch
        {
            ByteLevelBpeTokenizer { HasChatTemplate: true } chat => Checked(chat.EncodeChatPrompt(messages), "messages"),
            _ when messages is [{ Role: "user" } only] => Encode(only.Content, tokenizer, "messages"),
            _ => throw ApiException.Bad(
                "The model has no chat template: send one message of the user, or a text to /v1/completions.", "messages"),
        };
    }

    private static ChatMessage Message(JsonElement message, int number)
    {
        if (message.ValueKind != JsonValueKind.Object) throw ApiException.Bad($"messages[{number}] must be an object.", "messages");
        var fields = new RequestFields(message, new HashSet<string> { "role", "content", "name", "refusal", "tool_calls" });
        fields.Refuse("tool_calls", RequestFields.IsEmpty, "the model calls no tools.");
        if (fields.Text("role") is not ("system" or "user" or "assistant") || fields.Text("role") is not { } role)
            throw ApiException.Bad($"messages[{number}].role must be system, user or assistant.", "messages");
        var content = fields.Get("content") ?? throw ApiException.Bad($"messages[{number}].content is missing.", "messages");
        if (content.ValueKind != JsonValueKind.Array) return new ChatMessage(
            role, RequestFields.Text(content, $"messages[{number}].content"));
        var parts = content.EnumerateArray().Select(part =>
        {
            if (part.ValueKind != JsonValueKind.Object) throw ApiException.Bad(
                $"messages[{number}].content must hold parts of type text.", "messages");
            var of = new RequestFields(part, new HashSet<string> { "type", "text" });
            return of.Text("type") == "text" && of.Text("text") is { } text ? text
                : throw ApiException.Bad($"messages[{number}].content must hold parts of type text.", "messages");
        });
        return new ChatMessage(role, string.Concat(parts));
    }

    private static int[] Encode(string text, ITokenizer tokenizer, string parameter = "prompt")
    {
        try
        {
            return Checked(parameter == "messages" ? tokenizer.EncodePrompt(text) : tokenizer.Encode(text), parameter);
        }
        catch (ArgumentException e)
        {
            // A tokenizer of whole words that has none for what it does not know.
            throw ApiException.Bad($"\"{parameter}\" cannot be encoded: {e.Message.Split(" (Parameter")[0]}", parameter);
        }
    }

    private static int[] Checked(int[] tokens, string parameter) => tokens.Length > 0 ? tokens
        : throw ApiException.Bad($"\"{parameter}\" is empty; a continuation needs at least one token.", parameter);
}
