using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using Mem1.Model.Checkpoints;

namespace Mem1.Model.Tokenizers;

/// <summary>What tokenizer_config.json adds to tokenizer.json.</summary>
/// <param name="EndOfText">Text of the token that ends a text.</param>
/// <param name="ChatTemplate">The template's source, if there is one.</param>
internal sealed record TokenizerConfig(string? EndOfText, string? ChatTemplate);

/// <summary>The files a tokenizer came in, to be written back as they are.</summary>
/// <param name="Tokenizer">tokenizer.json.</param>
/// <param name="Config">tokenizer_config.json, if there is one.</param>
/// <param name="Template">chat_template.jinja, if there is one.</param>
internal sealed record TokenizerSource(byte[] Tokenizer, byte[]? Config, byte[]? Template);

/// <summary>Loads the tokenizer of a checkpoint folder: a word-level or a byte-level BPE tokenizer.json.</summary>
public static class TokenizerFiles
{
    internal const string TokenizerFile = "tokenizer.json";
    internal const string TemplateFile = "chat_template.jinja";
    internal const string ConfigFile = "tokenizer_config.json";

    /// <summary>Loads the tokenizer, or gives null when the folder has no tokenizer.json.</summary>
    /// <param name="folder">A checkpoint folder.</param>
    /// <exception cref="CheckpointException">A file is malformed or asks for something this project cannot do.</exception>
    public static ITokenizer? TryLoad(string folder) => File.Exists(Path.Combine(folder, TokenizerFile)) ? Load(folder) : null;

    /// <summary>Loads the tokenizer of a folder.</summary>
    /// <param name="folder">Holds tokenizer.json and, usually, tokenizer_config.json.</param>
    /// <exception cref="CheckpointException">A file is missing, malformed or asks for something this project cannot do.</exception>
    public static ITokenizer Load(string folder)
    {
        string file = Path.Combine(folder, TokenizerFile);
        string configFile = Path.Combine(folder, ConfigFile);
        byte[] bytes = ReadAll(file);
        byte[]? configBytes = File.Exists(configFile) ? ReadAll(configFile) : null;
        TokenizerConfig config = configBytes is null ? new(null, null) : ParseConfig(configBytes, configFile);
        // Newer checkpoints keep the template in a file of its own, which goes before the key.
        string templateFile = Path.Combine(folder, TemplateFile);
        byte[]? template = File.Exists(templateFile) ? ReadAll(templateFile) : null;
        if (template is not null)
            config = config with { ChatTemplate = System.Text.Encoding.UTF8.GetString(template) };
        return Parse(config, new TokenizerSource(bytes, configBytes, template), file);
    }

    internal static ITokenizer Parse(TokenizerConfig config, TokenizerSource source, string file) =>
        Guard(file, source.Tokenizer, root =>
        {
            string? type = root.GetProperty("model").GetProperty("type").GetString();
            return type switch
            {
                "WordLevel" => (ITokenizer)WordLevelTokenizer.FromJson(root, config, file),
                "BPE" => ByteLevelBpeTokenizer.FromJson(root, config, source, file),
                _ => throw new CheckpointException($"{file}: the model type {type} is not supported; WordLevel and BPE are."),
            };
        });

    internal static TokenizerConfig ParseConfig(byte[] bytes, string file) => Guard(file, bytes, ReadConfig);

    internal static void Write(string folder, JsonObject tokenizer, JsonObject config)
    {
        // Words in any script stay readable; the file is never put into a web page.
        var options = new JsonSerializerOptions { WriteIndented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };
        AtomicFile.WriteText(Path.Combine(folder, TokenizerFile), tokenizer.ToJsonString(options) + "\n");
        AtomicFile.WriteText(Path.Combine(folder, ConfigFile), config.ToJsonString(options) + "\n");
    }

    /// <summary>Turns everything that malformed JSON can cause into one sentence.</summary>
    private static T Guard<T>(string file, byte[] bytes, Func<JsonElement, T> read)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(bytes);
            return read(document.RootElement);
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException or FormatException)
        {
            throw new CheckpointException($"{file} is not a tokenizer file in the Hugging Face layout: "
                + $"{SafetensorsHeader.FirstSentence(e.Message)}.", e);
        }
    }

    private static TokenizerConfig ReadConfig(JsonElement root)
    {
        // Both may be a string or, for the token, an object with its content.
        string? end = null;
        if (root.TryGetProperty("eos_token", out JsonElement eos))
        {
            end = eos.ValueKind switch
            {
                JsonValueKind.String => eos.GetString(),
                JsonValueKind.Object => eos.GetProperty("content").GetString(),
                _ => null,
            };
        }
        string? template = null;
        if (root.TryGetProperty("chat_template", out JsonElement chat))
        {
            // A text, or a list of named ones of which "default" is the one for chats without tools.
            template = chat.ValueKind switch
            {
                JsonValueKind.String => chat.GetString(),
                JsonValueKind.Array => chat.EnumerateArray().Where(t => t.GetProperty("name").GetString() == "default")
                    .Select(t => t.GetProperty("template").GetString()).FirstOrDefault(),
                _ => null,
            };
        }
        return new TokenizerConfig(end, template);
    }

    private static byte[] ReadAll(string file)
    {
        try
        {
            return File.ReadAllBytes(file);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new CheckpointException($"{file} could not be read: {SafetensorsHeader.FirstSentence(e.Message)}.", e);
        }
    }
}

/// <summary>Reads the vocab object of a tokenizer.json.</summary>
internal static class VocabularyTable
{
    /// <summary>Larger than any tokenizer in use; keeps a damaged id from asking for the memory.</summary>
    private const int LargestId = 1 << 22;

    /// <summary>Token texts by id, added tokens included; null where an id is not taken.</summary>
    public static string?[] Read(JsonElement vocabulary, AddedTokens added, string file)
    {
        var pairs = new List<(string Text, int Id)>();
        foreach (JsonProperty entry in vocabulary.EnumerateObject())
            pairs.Add((entry.Name, entry.Value.GetInt32()));
        foreach (AddedToken token in added.All)
            pairs.Add((token.Text, token.Id));
        int largest = -1;
        foreach ((string text, int id) in pairs)
        {
            if (id is < 0 or > LargestId)
                throw new CheckpointException($"{file}: \"{SafetensorsHeader.Shown(text)}\" has the id {id}, outside 0 to {LargestId}.");
            largest = Math.Max(largest, id);
        }
        var table = new string?[largest + 1];
        foreach ((string text, int id) in pairs)
        {
            if (table[id] is { } other && other != text)
                throw new CheckpointException($"{file} gives the id {id} to two tokens, \"{SafetensorsHeader.Shown(other)}\" among them.");
            table[id] = text;
        }
        return table;
    }
}
