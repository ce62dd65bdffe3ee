// Invariants: every text encodes, and Decode(Encode(text)) is the text in NFC (U+FFFD for lone surrogates); merges apply in rank order,
// leftmost first among equals; files that were loaded are saved byte for byte.
using System.Collections.Concurrent;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Mem1.Model.Checkpoints;

namespace Mem1.Model.Tokenizers;

/// <summary>Byte-level byte-pair encoding as the Qwen2 family uses it.</summary>
public sealed class ByteLevelBpeTokenizer : ITokenizer
{
    /// <summary>Encoded pieces remembered; text repeats its words, and this bounds the memory at a few megabytes.</summary>
    private const int RememberedPieces = 1 << 16;

    /// <summary>Longer pieces are rare enough to be encoded each time.</summary>
    private const int RememberedLength = 48;

    /// <summary>Pieces above this many bytes go through a queue, which keeps a long run of one character from costing its square.</summary>
    private const int ScannedLength = 64;

    private readonly string?[] _texts;
    private readonly byte[]?[] _bytes;
    private readonly int[] _byteIds = new int[256];
    private readonly Dictionary<(int Left, int Right), (int Rank, int Merged)> _merges;
    private readonly List<(string Left, string Right)> _mergeList;
    private readonly AddedTokens _added;
    private readonly bool _compose;
    private ChatTemplate? _chat;
    private readonly TokenizerSource? _source;
    private readonly ConcurrentDictionary<string, int[]> _pieces = new(StringComparer.Ordinal);

    internal ByteLevelBpeTokenizer(
        string?[] texts, List<(string Left, string Right)> merges, AddedTokens added, bool compose, string? endOfText, ChatTemplate? chat,
        TokenizerSource? source, string file)
    {
        _texts = texts;
        _added = added;
        _compose = compose;
        _chat = chat;
        _source = source;
        _mergeList = merges;
        _bytes = new byte[]?[texts.Length];
        var special = added.All.ToDictionary(t => t.Id);
        var ids = new Dictionary<string, int>(StringComparer.Ordinal);
        for (int id = 0; id < texts.Length; id++)
        {
            if (texts[id] is not { } text)
                continue;
            if (special.ContainsKey(id))
            {
                _bytes[id] = Encoding.UTF8.GetBytes(text);
                continue;
            }
            _bytes[id] = ByteLevelAlphabet.ToBytes(text)
                ?? throw new CheckpointException(
                    $"{file}: token {id}, \"{SafetensorsHeader.Shown(text)}\", is not in the byte-level alphabet.");
            ids[text] = id;
        }
        for (int b = 0; b < 256; b++)
        {
            if (!ids.TryGetValue(ByteLevelAlphabet.ToChar((byte)b).ToString(), out _byteIds[b]))
                throw new CheckpointException($"{file} has no token for the byte {b}, so not every text could be encoded.");
        }
        _merges = new Dictionary<(int, int), (int, int)>(merges.Count);
        for (int rank = 0; rank < merges.Count; rank++)
        {
            (string left, string right) = merges[rank];
            if (!ids.TryGetValue(left, out int a) || !ids.TryGetValue(right, out int b) || !ids.TryGetValue(left + right, out int merged))
            {
                throw new CheckpointException(
                    $"{file}: merge {rank}, \"{SafetensorsHeader.Shown(left)}\" and \"{SafetensorsHeader.Shown(right)}\", names a token "
                    + "that is not in the vocabulary.");
            }
            _merges.TryAdd((a, b), (rank, merged));
        }
        if (endOfText is not null)
        {
            EndOfText = added.All.FirstOrDefault(t => t.Text == endOfText)?.Id
                ?? throw new CheckpointException(
                    $"{file} has no added token \"{SafetensorsHeader.Shown(endOfText)}\", the end-of-text token.");
        }
    }

    /// <inheritdoc/>
    public int VocabularySize => _texts.Length;

    /// <inheritdoc/>
    public int? EndOfText { get; }

    /// <inheritdoc/>
    public int[] Encode(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        var tokens = new List<int>(text.Length / 3 + 4);
        _added.Split(text, (range, added) =>
        {
            if (added is not null)
                tokens.Add(added.Id);
            else
                EncodePlain(text[range], tokens);
        });
        return [.. tokens];
    }

    /// <inheritdoc/>
    public int[] EncodePrompt(string userPrompt)
    {
        ArgumentNullException.ThrowIfNull(userPrompt);
        return Encode(_chat is null ? userPrompt : _chat.Render(userPrompt));
    }

    /// <summary>Encodes a chat within the model's template, up to where the assistant is to write next.</summary>
    /// <param name="messages">From the first one on.</param>
    /// <exception cref="InvalidOperationException">The tokenizer has no chat template.</exception>
    public int[] EncodeChatPrompt(IReadOnlyList<ChatMessage> messages)
    {
        ArgumentNullException.ThrowIfNull(messages);
        ChatTemplate chat = _chat ?? throw new InvalidOperationException("the tokenizer has no chat template.");
        return Encode(chat.Render(messages, first: true) + ChatTemplate.Assistant);
    }

    /// <summary>Whether prompts are wrapped in chat markup.</summary>
    public bool HasChatTemplate => _chat is not null;

    /// <summary>
    /// The same tokenizer with prompts wrapped in Qwen's chat markup, or as they are. Files are saved as they came all the same.
    /// </summary>
    /// <param name="wrapped">Whether prompts are wrapped.</param>
    /// <param name="system">The system message; null takes the template's own, and empty text leaves it out.</param>
    /// <exception cref="CheckpointException">The vocabulary has no tokens for the markup.</exception>
    public ByteLevelBpeTokenizer WithChat(bool wrapped, string? system = null)
    {
        if (wrapped && new[] { ChatTemplate.Open, ChatTemplate.Close }.FirstOrDefault(t => _added.All.All(a => a.Text != t)) is { } missing)
            throw new CheckpointException($"the tokenizer has no token {missing}, so prompts cannot be wrapped in chat markup.");
        var copy = (ByteLevelBpeTokenizer)MemberwiseClone();
        copy._chat = wrapped ? new ChatTemplate(system is null ? _chat?.System : system.Length == 0 ? null : system) : null;
        return copy;
    }

    /// <summary>Whether a text holds chat markup already.</summary>
    /// <param name="text">Any text.</param>
    public static bool HoldsChatMarkup(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        return text.Contains(ChatTemplate.Open, StringComparison.Ordinal);
    }

    /// <summary>
    /// Cuts a chat into what the assistant wrote and what it was served before: each answer ends with the markup that ends a turn.
    /// </summary>
    /// <param name="messages">From the first one on; the assistant never speaks first.</param>
    /// <returns>Pairs of tokens read since the last answer and tokens of the answer.</returns>
    /// <exception cref="InvalidOperationException">The tokenizer has no chat template.</exception>
    public IReadOnlyList<(int[] Served, int[] Answer)> EncodeChat(IReadOnlyList<ChatMessage> messages)
    {
        ArgumentNullException.ThrowIfNull(messages);
        ChatTemplate chat = _chat ?? throw new InvalidOperationException("the tokenizer has no chat template.");
        var turns = new List<(int[], int[])>();
        int from = 0;
        for (int i = 0; i < messages.Count; i++)
        {
            if (messages[i].Role != "assistant")
                continue;
            // An answer ends with its mark; the line break after it is the template's.
            string before = from == 0 ? "" : "\n";
            string served = chat.Render([.. messages.Skip(from).Take(i - from)], first: from == 0);
            turns.Add((Encode(before + served + ChatTemplate.Assistant), Encode(messages[i].Content + ChatTemplate.Close)));
            from = i + 1;
        }
        return turns;
    }

    /// <inheritdoc/>
    public string Decode(ReadOnlySpan<int> tokens)
    {
        var bytes = new List<byte>(tokens.Length * 4);
        foreach (int token in tokens)
        {
            // Models pad their vocabulary beyond the tokenizer's; such an id stands for no text.
            if ((uint)token < (uint)_bytes.Length && _bytes[token] is { } piece)
                bytes.AddRange(piece);
            else
                bytes.AddRange("\uFFFD"u8);
        }
        return Encoding.UTF8.GetString(CollectionsMarshal.AsSpan(bytes));
    }

    /// <inheritdoc/>
    public void Save(string folder)
    {
        if (_source is { } source)
        {
            AtomicFile.Write(Path.Combine(folder, TokenizerFiles.TokenizerFile), stream => stream.Write(source.Tokenizer));
            if (source.Config is { } bytes)
                AtomicFile.Write(Path.Combine(folder, TokenizerFiles.ConfigFile), stream => stream.Write(bytes));
            if (source.Template is { } template)
                AtomicFile.Write(Path.Combine(folder, TokenizerFiles.TemplateFile), stream => stream.Write(template));
            return;
        }
        var vocabulary = new JsonObject();
        var special = _added.All.Select(t => t.Id).ToHashSet();
        for (int id = 0; id < _texts.Length; id++)
        {
            if (_texts[id] is { } text && !special.Contains(id))
                vocabulary[text] = id;
        }
        JsonObject ByteLevel() => new()
        {
            ["type"] = "ByteLevel",
            ["add_prefix_space"] = false,
            ["trim_offsets"] = false,
            ["use_regex"] = false,
        };
        var json = new JsonObject
        {
            ["version"] = "1.0",
            ["truncation"] = null,
            ["padding"] = null,
            ["added_tokens"] = _added.ToJson(),
            ["normalizer"] = _compose ? new JsonObject { ["type"] = "NFC" } : null,
            ["pre_tokenizer"] = new JsonObject
            {
                ["type"] = "Sequence",
                ["pretokenizers"] = new JsonArray(
                    new JsonObject
                    {
                        ["type"] = "Split",
                        ["pattern"] = new JsonObject { ["Regex"] = QwenSplitter.Pattern },
                        ["behavior"] = "Isolated",
                        ["invert"] = false,
                    },
                    ByteLevel()),
            },
            ["post_processor"] = ByteLevel(),
            ["decoder"] = ByteLevel(),
            ["model"] = new JsonObject
            {
                ["type"] = "BPE",
                ["dropout"] = null,
                ["unk_token"] = null,
                ["continuing_subword_prefix"] = "",
                ["end_of_word_suffix"] = "",
                ["fuse_unk"] = false,
                ["byte_fallback"] = false,
                ["vocab"] = vocabulary,
                ["merges"] = new JsonArray([.. _mergeList.Select(m => (JsonNode)$"{m.Left} {m.Right}")]),
            },
        };
        var config = new JsonObject
        {
            ["tokenizer_class"] = "PreTrainedTokenizerFast",
            ["clean_up_tokenization_spaces"] = false,
            ["eos_token"] = EndOfText is int e ? _texts[e] : null,
        };
        TokenizerFiles.Write(folder, json, config);
    }

    /// <summary>Reads a BPE tokenizer.json that <see cref="TokenizerFiles"/> has opened.</summary>
    internal static ByteLevelBpeTokenizer FromJson(JsonElement root, TokenizerConfig config, TokenizerSource source, string file)
    {
        bool compose = false;
        if (root.TryGetProperty("normalizer", out JsonElement normalizer) && normalizer.ValueKind != JsonValueKind.Null)
        {
            string? type = normalizer.GetProperty("type").GetString();
            compose = type == "NFC" ? true : throw new CheckpointException($"{file}: the normalizer {type} is not supported; NFC is.");
        }
        RequireQwenSplit(root.GetProperty("pre_tokenizer"), file);
        JsonElement model = root.GetProperty("model");
        foreach (string option in new[] { "byte_fallback", "ignore_merges" })
        {
            if (model.TryGetProperty(option, out JsonElement flag) && flag.ValueKind == JsonValueKind.True)
                throw new CheckpointException($"{file}: the BPE option {option} is not supported.");
        }
        AddedTokens added = AddedTokens.FromJson(root, file);
        string?[] texts = VocabularyTable.Read(model.GetProperty("vocab"), added, file);
        var merges = new List<(string, string)>();
        foreach (JsonElement merge in model.GetProperty("merges").EnumerateArray())
        {
            string[] parts = merge.ValueKind == JsonValueKind.String
                ? merge.GetString()!.Split(' ') : [.. merge.EnumerateArray().Select(p => p.GetString() ?? "")];
            if (parts.Length != 2)
                throw new CheckpointException($"{file}: merge {merges.Count} is not a pair.");
            merges.Add((parts[0], parts[1]));
        }
        ChatTemplate? chat = config.ChatTemplate is null ? null : ChatTemplate.Recognise(config.ChatTemplate, file);
        return new ByteLevelBpeTokenizer(texts, merges, added, compose, config.EndOfText, chat, source, file);
    }

    private static void RequireQwenSplit(JsonElement pre, string file)
    {
        JsonElement[] parts = pre.ValueKind == JsonValueKind.Object && pre.GetProperty("type").GetString() == "Sequence"
            ? [.. pre.GetProperty("pretokenizers").EnumerateArray()] : [];
        bool fits = parts is [var split, var level]
            && split.GetProperty("type").GetString() == "Split"
            && split.GetProperty("pattern").TryGetProperty("Regex", out JsonElement regex)
            && regex.GetString() == QwenSplitter.Pattern
            && split.GetProperty("behavior").GetString() == "Isolated"
            && level.GetProperty("type").GetString() == "ByteLevel"
            && level.TryGetProperty("add_prefix_space", out JsonElement prefix) && prefix.ValueKind == JsonValueKind.False
            && level.TryGetProperty("use_regex", out JsonElement own) && own.ValueKind == JsonValueKind.False;
        if (!fits)
            throw new CheckpointException($"{file}: the pre_tokenizer is not that of the Qwen2 family, the only one supported for BPE.");
    }

    private void EncodePlain(string text, List<int> tokens)
    {
        string composed = _compose ? CanonicalComposition.Normalize(text) : text;
        var known = _pieces.GetAlternateLookup<ReadOnlySpan<char>>();
        for (int at = 0; at < composed.Length;)
        {
            ReadOnlySpan<char> piece = composed.AsSpan(at, QwenSplitter.Next(composed, at));
            at += piece.Length;
            if (known.TryGetValue(piece, out int[]? ids))
            {
                tokens.AddRange(ids);
                continue;
            }
            ids = Merge(piece);
            if (piece.Length <= RememberedLength && _pieces.Count < RememberedPieces)
                known.TryAdd(piece, ids);
            tokens.AddRange(ids);
        }
    }

    private int[] Merge(ReadOnlySpan<char> piece)
    {
        byte[] bytes = new byte[Encoding.UTF8.GetMaxByteCount(piece.Length)];
        int count = Encoding.UTF8.GetBytes(piece, bytes);
        var ids = new int[count];
        for (int i = 0; i < count; i++)
            ids[i] = _byteIds[bytes[i]];
        return count <= ScannedLength ? MergeByScan(ids) : MergeByQueue(ids);
    }

    private int[] MergeByScan(int[] ids)
    {
        int count = ids.Length;
        while (count > 1)
        {
            int best = -1;
            (int Rank, int Merged) winner = (int.MaxValue, 0);
            for (int i = 0; i + 1 < count; i++)
            {
                if (_merges.TryGetValue((ids[i], ids[i + 1]), out (int Rank, int Merged) found) && found.Rank < winner.Rank)
                    (best, winner) = (i, found);
            }
            if (best < 0)
                break;
            ids[best] = winner.Merged;
            Array.Copy(ids, best + 2, ids, best + 1, count - best - 2);
            count--;
        }
        return ids[..count];
    }

    /// <summary>
    /// The result of <see cref="MergeByScan"/> in n log n: candidates in order of rank, then place; stale ones are dropped.
    /// </summary>
    private int[] MergeByQueue(int[] ids)
    {
        int count = ids.Length;
        var next = new int[count];
        var previous = new int[count];
        var queue = new PriorityQueue<(int At, int Left, int Right, int Merged), (int Rank, int At)>();
        void Offer(int at)
        {
            if (next[at] < count && _merges.TryGetValue((ids[at], ids[next[at]]), out (int Rank, int Merged) found))
                queue.Enqueue((at, ids[at], ids[next[at]], found.Merged), (found.Rank, at));
        }
        for (int i = 0; i < count; i++)
            (next[i], previous[i]) = (i + 1, i - 1);
        for (int i = 0; i < count; i++)
            Offer(i);
        while (queue.TryDequeue(out (int At, int Left, int Right, int Merged) top, out _))
        {
            int right = next[top.At];
            // -1 marks a place that was merged into its left neighbour.
            if (ids[top.At] != top.Left || right >= count || ids[right] != top.Right)
                continue;
            ids[top.At] = top.Merged;
            ids[right] = -1;
            next[top.At] = next[right];
            if (next[right] < count)
                previous[next[right]] = top.At;
            Offer(top.At);
            if (previous[top.At] >= 0)
                Offer(previous[top.At]);
        }
        return [.. ids.Where(id => id >= 0)];
    }
}
