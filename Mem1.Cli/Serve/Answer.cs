// Keeps: a stream's chunks and a whole answer come from the same events in the same order, so their texts, ids and log-probs are the same;
// numbers are written so that they read back to the same float.
using System.Text;
using System.Text.Json;
using Mem1.Model;

namespace Mem1.Cli.Serve;

/// <summary>The answer to one request, gathered and written in OpenAI's shape, with vLLM's names for token ids.</summary>
internal sealed class Answer
{
    private readonly CompletionRequest _request;
    private readonly ITokenizer _tokenizer;
    private readonly string _id, _model;
    private readonly long _created;
    private readonly Choice[] _choices;

    public Answer(CompletionRequest request, ITokenizer tokenizer, string id, string model, long created)
    {
        (_request, _tokenizer, _id, _model, _created) = (request, tokenizer, id, model, created);
        _choices = [.. Enumerable.Range(0, request.Prompts.Count * request.Choices).Select(i =>
            new Choice(request.Prompts[i / request.Choices], new ChoiceText(tokenizer, request.Stops, request.KeepStop)))];
    }

    /// <summary>Takes an event in.</summary>
    /// <returns>The text that is new with it.</returns>
    public string Add(in JobEvent told)
    {
        var choice = _choices[told.Job.Index];
        if (told.Finish is { } finish)
        {
            choice.Finish = finish;
            return choice.Text.End(finish == FinishReason.Stop);
        }

        choice.Count++;
        choice.Fresh.Add((told, choice.Text.Length));
        return choice.Text.Add(told.Token);
    }

    /// <summary>The whole answer.</summary>
    /// <param name="pieces">Text of each choice.</param>
    public byte[] Whole(IReadOnlyList<StringBuilder> pieces) => Write(writer =>
    {
        Head(writer, _request.Chat ? "chat.completion" : "text_completion");
        writer.WriteStartArray("choices");
        for (var i = 0; i < _choices.Length; i++) WriteChoice(writer, i, pieces[i].ToString(), chunk: false);
        writer.WriteEndArray();
        Usage(writer);
        if (_request is { Chat: true, TokenIds: true }) Ids(writer, "prompt_token_ids", _request.Prompts[0]);
    });

    /// <summary>One chunk of a stream: what is new of a choice.</summary>
    /// <param name="index">The choice.</param>
    /// <param name="piece">New text.</param>
    public byte[] Chunk(int index, string piece) => Write(writer =>
    {
        Head(writer, _request.Chat ? "chat.completion.chunk" : "text_completion");
        writer.WriteStartArray("choices");
        var first = _choices[index].Started;
        WriteChoice(writer, index, piece, chunk: true);
        writer.WriteEndArray();
        if (!first && _request is { Chat: true, TokenIds: true }) Ids(writer, "prompt_token_ids", _request.Prompts[0]);
    });

    /// <summary>The last chunk of a stream that is to end with the counts.</summary>
    public byte[] UsageChunk() => Write(writer =>
    {
        Head(writer, _request.Chat ? "chat.completion.chunk" : "text_completion");
        writer.WriteStartArray("choices");
        writer.WriteEndArray();
        Usage(writer);
    });

    private static byte[] Write(Action<Utf8JsonWriter> write)
    {
        using var into = new MemoryStream();
        using (var writer = new Utf8JsonWriter(into))
        {
            writer.WriteStartObject();
            write(writer);
            writer.WriteEndObject();
        }

        return into.ToArray();
    }

    private void Head(Utf8JsonWriter writer, string kind)
    {
        writer.WriteString("id", _id);
        writer.WriteString("object", kind);
        writer.WriteNumber("created", _created);
        writer.WriteString("model", _model);
    }

    private void Usage(Utf8JsonWriter writer)
    {
        // As OpenAI counts: a prompt once, however many choices continue it.
        int prompt = _request.Prompts.Sum(p => p.Length), completion = _choices.Sum(c => c.Count);
        writer.WriteStartObject("usage");
        writer.WriteNumber("prompt_tokens", prompt);
        writer.WriteNumber("completion_tokens", completion);
        writer.WriteNumber("total_tokens", prompt + completion);
        writer.WriteEndObject();
    }

    private void WriteChoice(Utf8JsonWriter writer, int index, string text, bool chunk)
    {
        var choice = _choices[index];
        writer.WriteStartObject();
        writer.WriteNumber("index", index);
        if (_request.Chat)
        {
            writer.WriteStartObject(chunk ? "delta" : "message");
            if (!chunk || !choice.Started) writer.WriteString("role", "assistant");
            writer.WriteString("content", text);
            if (!chunk) writer.WriteNull("refusal");
            writer.WriteEndObject();
        }
        else
        {
            writer.WriteString("text", text);
        }

        if (_request.LogProbs && (!chunk || choice.Fresh.Count > 0))
        {
            writer.WriteStartObject("logprobs");
            if (_request.Chat) ChatLogProbs(writer, choice);
            else CompletionLogProbs(writer, choice);
            writer.WriteEndObject();
        }
        else
        {
            writer.WriteNull("logprobs");
        }

        if (choice.Finish is { } finish) writer.WriteString("finish_reason", finish == FinishReason.Length ? "length" : "stop");
        else writer.WriteNull("finish_reason");
        if (choice.Text.Stop is { } stop) writer.WriteString("stop_reason", stop);
        else writer.WriteNull("stop_reason");
        if (_request.TokenIds)
        {
            if (!_request.Chat && !choice.Started) Ids(writer, "prompt_token_ids", choice.Prompt);
            Ids(writer, "token_ids", choice.Fresh.Select(f => f.Told.Token));
            writer.WriteStartArray("policy_versions");
            foreach (var (told, _) in choice.Fresh) writer.WriteNumberValue(told.Version);
            writer.WriteEndArray();
        }

        writer.WriteEndObject();
        choice.Started = true;
        choice.Fresh.Clear();
    }

    private void ChatLogProbs(Utf8JsonWriter writer, Choice choice)
    {
        writer.WriteStartArray("content");
        foreach (var (told, _) in choice.Fresh)
        {
            writer.WriteStartObject();
            Entry(new TokenLogProb(told.Token, told.LogProb));
            writer.WriteStartArray("top_logprobs");
            foreach (var top in told.Top)
            {
                writer.WriteStartObject();
                Entry(top);
                writer.WriteEndObject();
            }

            writer.WriteEndArray();
            writer.WriteEndObject();
        }

        writer.WriteEndArray();

        void Entry(TokenLogProb token)
        {
            var text = _tokenizer.Decode([token.Token]);
            writer.WriteString("token", Name(token.Token));
            writer.WriteNumber("logprob", token.LogProb);
            // A token that is part of a character has bytes that its text does not show.
            if (text.Contains('\uFFFD'))
            {
                writer.WriteNull("bytes");
                return;
            }

            writer.WriteStartArray("bytes");
            foreach (var b in Encoding.UTF8.GetBytes(text)) writer.WriteNumberValue(b);
            writer.WriteEndArray();
        }
    }

    private void CompletionLogProbs(Utf8JsonWriter writer, Choice choice)
    {
        writer.WriteStartArray("text_offset");
        foreach (var (_, offset) in choice.Fresh) writer.WriteNumberValue(offset);
        writer.WriteEndArray();
        writer.WriteStartArray("token_logprobs");
        foreach (var (told, _) in choice.Fresh) writer.WriteNumberValue(told.LogProb);
        writer.WriteEndArray();
        writer.WriteStartArray("tokens");
        foreach (var (told, _) in choice.Fresh) writer.WriteStringValue(Name(told.Token));
        writer.WriteEndArray();
        if (_request.TopLogProbs == 0)
        {
            writer.WriteNull("top_logprobs");
            return;
        }

        writer.WriteStartArray("top_logprobs");
        foreach (var (told, _) in choice.Fresh)
        {
            writer.WriteStartObject();
            var named = new HashSet<string>(StringComparer.Ordinal);
            // The drawn token is always among them; of two with one text (parts of characters) the likelier stands.
            foreach (var token in told.Top.Append(new TokenLogProb(told.Token, told.LogProb)))
            {
                if (named.Add(Name(token.Token))) writer.WriteNumber(Name(token.Token), token.LogProb);
            }

            writer.WriteEndObject();
        }

        writer.WriteEndArray();
    }

    private string Name(int token) => _request.TokensAsIds ? FormattableString.Invariant($"token_id:{token}") : _tokenizer.Decode([token]);

    private static void Ids(Utf8JsonWriter writer, string name, IEnumerable<int> ids)
    {
        writer.WriteStartArray(name);
        foreach (var id in ids) writer.WriteNumberValue(id);
        writer.WriteEndArray();
    }

    private sealed class Choice(int[] prompt, ChoiceText text)
    {
        public int[] Prompt => prompt;

        public ChoiceText Text => text;

        /// <summary>Tokens not written yet, and the length of the text before each.</summary>
        public List<(JobEvent Told, int Offset)> Fresh { get; } = [];

        public int Count { get; set; }

        public bool Started { get; set; }

        public FinishReason? Finish { get; set; }
    }
}
