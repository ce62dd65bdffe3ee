// Invariants: a word's id is its place in the list; Encode(Decode(tokens)) = tokens for every row of ids; words that look like <tags> are
// found without white space around them.
using System.Collections.Frozen;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using Mem1.Model.Checkpoints;

namespace Mem1.Model.Tokenizers;

/// <summary>One token per word of a fixed list; words are separated by white space. The built-in tasks use it.</summary>
public sealed class WordLevelTokenizer : ITokenizer
{
    private readonly string[] _words;
    private readonly FrozenDictionary<string, int> _ids;
    private readonly AddedTokens _added;
    private readonly int? _unknown;

    /// <summary>Creates a tokenizer over a list of words.</summary>
    /// <param name="words">Distinct, not empty, without white space; the place is the id.</param>
    /// <param name="endOfText">The word that ends a text, if any.</param>
    /// <param name="unknown">The word that stands for every word not in the list; without it such a word is an error.</param>
    /// <exception cref="ArgumentException">The list breaks one of its rules.</exception>
    public WordLevelTokenizer(IReadOnlyList<string> words, string? endOfText = null, string? unknown = null)
        : this(words, endOfText, unknown, null)
    {
    }

    private WordLevelTokenizer(IReadOnlyList<string> words, string? endOfText, string? unknown, AddedTokens? added)
    {
        ArgumentNullException.ThrowIfNull(words);
        _words = [.. words];
        var ids = new Dictionary<string, int>(StringComparer.Ordinal);
        for (int i = 0; i < _words.Length; i++)
        {
            if (string.IsNullOrEmpty(_words[i]) || _words[i].Any(char.IsWhiteSpace))
                throw new ArgumentException($"word {i} of the vocabulary, \"{_words[i]}\", is empty or holds white space.", nameof(words));
            if (!ids.TryAdd(_words[i], i))
                throw new ArgumentException($"the vocabulary holds the word \"{_words[i]}\" twice.", nameof(words));
        }
        if (_words.Length == 0)
            throw new ArgumentException("the vocabulary is empty.", nameof(words));
        _ids = ids.ToFrozenDictionary(StringComparer.Ordinal);
        _added = added ?? new AddedTokens(
            _words.Select((word, id) => new AddedToken(id, word, true)).Where(t => t.Text is ['<', _, .., '>']));
        EndOfText = endOfText is null ? null : IdOf(endOfText, nameof(endOfText));
        _unknown = unknown is null ? null : IdOf(unknown, nameof(unknown));
    }

    /// <inheritdoc/>
    public int VocabularySize => _words.Length;

    /// <inheritdoc/>
    public int? EndOfText { get; }

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">A word is not in the vocabulary and the tokenizer has no word for that.</exception>
    public int[] Encode(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        var tokens = new List<int>();
        _added.Split(text, (range, added) =>
        {
            if (added is not null)
            {
                tokens.Add(added.Id);
                return;
            }
            foreach (string word in text[range].Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries))
            {
                if (_ids.TryGetValue(word, out int id))
                    tokens.Add(id);
                else
                {
                    tokens.Add(_unknown ?? throw new ArgumentException(
                        $"the word \"{word}\" is not in the vocabulary of {_words.Length} words.", nameof(text)));
                }
            }
        });
        return [.. tokens];
    }

    /// <summary>The prompt as it is: this tokenizer has no chat template.</summary>
    /// <param name="userPrompt">The prompt.</param>
    public int[] EncodePrompt(string userPrompt) => Encode(userPrompt);

    /// <summary>The words, joined by single spaces. An id outside the vocabulary becomes U+FFFD.</summary>
    /// <param name="tokens">Ids.</param>
    public string Decode(ReadOnlySpan<int> tokens)
    {
        var text = new StringBuilder();
        foreach (int token in tokens)
        {
            if (text.Length > 0)
                text.Append(' ');
            text.Append((uint)token < (uint)_words.Length ? _words[token] : "\uFFFD");
        }
        return text.ToString();
    }

    /// <inheritdoc/>
    public void Save(string folder)
    {
        var vocabulary = new JsonObject();
        for (int i = 0; i < _words.Length; i++)
            vocabulary[_words[i]] = i;
        var json = new JsonObject
        {
            ["version"] = "1.0",
            ["truncation"] = null,
            ["padding"] = null,
            ["added_tokens"] = _added.ToJson(),
            ["normalizer"] = null,
            ["pre_tokenizer"] = new JsonObject { ["type"] = "WhitespaceSplit" },
            ["post_processor"] = null,
            ["decoder"] = null,
            ["model"] = new JsonObject
            {
                ["type"] = "WordLevel",
                ["vocab"] = vocabulary,
                // The reference reader wants a string here; one that is no word makes unknown words an error there as well.
                ["unk_token"] = _unknown is int u ? _words[u] : "",
            },
        };
        var config = new JsonObject
        {
            ["tokenizer_class"] = "PreTrainedTokenizerFast",
            ["clean_up_tokenization_spaces"] = false,
            ["eos_token"] = EndOfText is int e ? _words[e] : null,
            ["unk_token"] = _unknown is int w ? _words[w] : null,
        };
        TokenizerFiles.Write(folder, json, config);
    }

    /// <summary>Reads a WordLevel tokenizer.json that <see cref="TokenizerFiles"/> has opened.</summary>
    internal static WordLevelTokenizer FromJson(JsonElement root, TokenizerConfig config, string file)
    {
        if (root.TryGetProperty("normalizer", out JsonElement normalizer) && normalizer.ValueKind != JsonValueKind.Null)
            throw new CheckpointException($"{file}: a normalizer beside a WordLevel model is not supported.");
        string? splitter = root.TryGetProperty("pre_tokenizer", out JsonElement pre) && pre.ValueKind == JsonValueKind.Object
            ? pre.GetProperty("type").GetString() : null;
        if (splitter != "WhitespaceSplit")
            throw new CheckpointException($"{file}: a WordLevel model needs the pre_tokenizer WhitespaceSplit, not {splitter ?? "none"}.");
        AddedTokens added = AddedTokens.FromJson(root, file);
        JsonElement model = root.GetProperty("model");
        string?[] words = VocabularyTable.Read(model.GetProperty("vocab"), added, file);
        int hole = Array.IndexOf(words, null);
        if (hole >= 0)
            throw new CheckpointException($"{file} has no word with id {hole}.");
        bool named = model.TryGetProperty("unk_token", out JsonElement u) && u.ValueKind == JsonValueKind.String;
        string? unknown = named ? u.GetString() : null;
        try
        {
            return new WordLevelTokenizer(words!, config.EndOfText, unknown is "" || !words.Contains(unknown) ? null : unknown, added);
        }
        catch (ArgumentException e)
        {
            throw new CheckpointException($"{file}: {e.Message}", e);
        }
    }

    private int IdOf(string word, string parameter) => _ids.TryGetValue(word, out int id)
        ? id : throw new ArgumentException($"\"{word}\" is not a word of the vocabulary.", parameter);
}
