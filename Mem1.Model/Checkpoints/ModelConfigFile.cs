// Invariants: every key that changes what the decoder computes is either read or refused; a written file holds this project's own keys only
// where they differ from plain Qwen2, so other software reads it unless it could not compute the model anyway.
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Mem1.Model.Checkpoints;

/// <summary>config.json in the Hugging Face layout.</summary>
public static class ModelConfigFile
{
    /// <summary>The name of the file in a checkpoint folder.</summary>
    public const string FileName = "config.json";

    /// <summary>Reads a configuration.</summary>
    /// <param name="path">A config.json.</param>
    /// <exception cref="CheckpointException">Missing, malformed, or of a model this decoder cannot compute.</exception>
    public static DecoderConfig Read(string path) => Parse(ReadBytes(path), path);

    internal static byte[] ReadBytes(string path)
    {
        try
        {
            return File.ReadAllBytes(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new CheckpointException($"{path} could not be read: {SafetensorsHeader.FirstSentence(e.Message)}.", e);
        }
    }

    /// <summary>Parses a configuration.</summary>
    /// <param name="utf8">The file's content.</param>
    /// <param name="name">What errors call it.</param>
    /// <exception cref="CheckpointException">Malformed, or of a model this decoder cannot compute.</exception>
    public static DecoderConfig Parse(ReadOnlySpan<byte> utf8, string name)
    {
        try
        {
            // A key that stands twice means one thing here and another in the next reader.
            using JsonDocument document = JsonDocument.Parse(
                utf8.ToArray(), new JsonDocumentOptions { AllowDuplicateProperties = false });
            if (document.RootElement.ValueKind != JsonValueKind.Object)
                throw new CheckpointException($"{name} is not a JSON object.");
            RequireText(document.RootElement);
            return Convert(new Keys(document.RootElement, name));
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw new CheckpointException($"{name} is not valid JSON: {SafetensorsHeader.FirstSentence(e.Message)}.", e);
        }
    }

    /// <summary>Every text of the file is Unicode, also those that are only written back.</summary>
    private static void RequireText(JsonElement element)
    {
        switch (element.ValueKind)
        {
            case JsonValueKind.String:
                _ = element.GetString();
                break;
            case JsonValueKind.Array:
                foreach (JsonElement item in element.EnumerateArray())
                    RequireText(item);
                break;
            case JsonValueKind.Object:
                foreach (JsonProperty property in element.EnumerateObject())
                {
                    _ = property.Name;
                    RequireText(property.Value);
                }
                break;
        }
    }

    private static DecoderConfig Convert(Keys keys)
    {
        string type = keys.Text("model_type", null) ?? throw keys.Error("model_type", "is missing; this decoder computes \"qwen2\"");
        if (type != "qwen2")
            throw keys.Error("model_type", $"is \"{SafetensorsHeader.Shown(type)}\"; this decoder computes \"qwen2\" only");
        if (keys.Text("hidden_act", "silu") is var activation && activation != "silu")
            throw keys.Error("hidden_act", $"is \"{SafetensorsHeader.Shown(activation!)}\"; this decoder computes \"silu\" only");
        if (keys.Has("quantization_config"))
            throw keys.Error("quantization_config", "is set; quantised weights cannot be trained, take the checkpoint they were made from");
        double theta = RotaryBase(keys);

        int hidden = keys.Count("hidden_size", null);
        int heads = keys.Count("num_attention_heads", null);
        int keyValueHeads = keys.Count("num_key_value_heads", heads);
        if (heads % keyValueHeads != 0)
            throw keys.Error("num_key_value_heads", $"is {keyValueHeads}, which does not divide the {heads} attention heads");
        if (!keys.Has("head_dim") && hidden % heads != 0)
            throw keys.Error("num_attention_heads", $"is {heads}, which does not divide hidden_size {hidden}");
        int layers = keys.Count("num_hidden_layers", null);
        int positions = keys.Count("max_position_embeddings", 32768);
        RequireFullAttention(keys, layers, positions);
        PositionEncoding position = keys.Text("position", "rope") switch
        {
            "rope" => PositionEncoding.Rope,
            "none" => PositionEncoding.None,
            var other => throw keys.Error("position", $"is \"{SafetensorsHeader.Shown(other!)}\"; it must be \"rope\" or \"none\""),
        };
        AttentionScale scale = keys.Text("attention_scale", "standard") switch
        {
            "standard" => AttentionScale.Standard,
            "log_n" => AttentionScale.LogN,
            var other => throw keys.Error(
                "attention_scale", $"is \"{SafetensorsHeader.Shown(other!)}\"; it must be \"standard\" or \"log_n\""),
        };
        int headSize = keys.Count("head_dim", hidden / heads);
        if (position == PositionEncoding.Rope && headSize % 2 != 0)
            throw keys.Error("head_dim", $"is {headSize}; rotary positions need an even number");
        return new DecoderConfig
        {
            VocabularySize = keys.Count("vocab_size", null),
            HiddenSize = hidden,
            IntermediateSize = keys.Count("intermediate_size", null),
            Layers = layers,
            Heads = heads,
            KeyValueHeads = keyValueHeads,
            HeadSize = headSize,
            MaxPositions = positions,
            NormEpsilon = keys.Positive("rms_norm_eps", 1e-6),
            RopeTheta = theta,
            TiedEmbeddings = keys.Flag("tie_word_embeddings", false),
            QkvBias = keys.Flag("qkv_bias", true),
            Position = position,
            ConvKernel = keys.Taps("conv_kernel"),
            EmbeddingConvKernel = keys.Taps("embed_conv_kernel"),
            AttentionScale = scale,
        };
    }

    /// <summary>The base of the rotary positions, in today's place or in that of transformers 5; scaled positions are refused.</summary>
    private static double RotaryBase(Keys keys)
    {
        foreach (string key in new[] { "rope_scaling", "rope_parameters" })
        {
            if (keys.Section(key) is not { } scaling)
                continue;
            string kind = scaling.Text("rope_type", null) ?? scaling.Text("type", "default")!;
            if (kind != "default")
            {
                throw keys.Error(key, $"asks for \"{SafetensorsHeader.Shown(kind)}\"; scaled rotary positions are not supported, remove it to "
                    + "use the model within its original length");
            }
        }
        double fallback = keys.Positive("rope_theta", 10_000);
        return keys.Section("rope_parameters")?.Positive("rope_theta", fallback) ?? fallback;
    }

    /// <summary>
    /// A sliding window is refused where it would hide anything: in Qwen2 it holds from layer max_window_layers on.
    /// </summary>
    private static void RequireFullAttention(Keys keys, int layers, int positions)
    {
        // 4096 and 28 are what transformers takes where the file says nothing.
        bool hides = keys.Flag("use_sliding_window", false) && keys.Count("sliding_window", 4096) < positions;
        string[] types = keys.Texts("layer_types");
        for (int i = 0; i < types.Length; i++)
        {
            if (types[i] != "full_attention" && (hides || types[i] != "sliding_attention"))
                throw keys.Error("layer_types", $"has \"{SafetensorsHeader.Shown(types[i])}\" for layer {i}; only full_attention is supported");
        }
        if (hides && types.Length == 0 && keys.Count("max_window_layers", 28, least: 0) < layers)
            throw keys.Error("use_sliding_window", "is true; sliding-window attention is not supported");
    }

    /// <summary>What config.json says about how the weights are stored; float32 where it says nothing that is known.</summary>
    internal static StoredDtype DtypeOf(ReadOnlySpan<byte> utf8)
    {
        using JsonDocument document = JsonDocument.Parse(utf8.ToArray());
        foreach (string key in new[] { "dtype", "torch_dtype" })
        {
            if (document.RootElement.TryGetProperty(key, out JsonElement value) && value.ValueKind == JsonValueKind.String)
            {
                return value.GetString() switch
                {
                    "bfloat16" => StoredDtype.Bfloat16,
                    "float16" => StoredDtype.Float16,
                    _ => StoredDtype.Float32,
                };
            }
        }
        return StoredDtype.Float32;
    }

    /// <summary>The name of a dtype in config.json.</summary>
    /// <param name="dtype">Which.</param>
    public static string NameOf(StoredDtype dtype) => dtype switch
    {
        StoredDtype.Float32 => "float32",
        StoredDtype.Bfloat16 => "bfloat16",
        _ => "float16",
    };

    /// <summary>Writes a configuration atomically.</summary>
    /// <param name="path">Where config.json goes.</param>
    /// <param name="config">What it says.</param>
    /// <param name="dtype">How the weights beside it are stored.</param>
    /// <param name="endOfText">The id that ends a text, if the tokenizer has one.</param>
    /// <param name="original">A config.json whose other keys are kept.</param>
    public static void Write(
        string path, DecoderConfig config, StoredDtype dtype = StoredDtype.Float32, int? endOfText = null, byte[]? original = null) =>
        AtomicFile.WriteText(path, Format(config, dtype, endOfText, original));

    /// <summary>The text of config.json.</summary>
    /// <param name="config">What it says.</param>
    /// <param name="dtype">How the weights beside it are stored.</param>
    /// <param name="endOfText">The id that ends a text, if the tokenizer has one.</param>
    /// <param name="original">A config.json whose other keys are kept: what this project does not compute with is not its to drop.</param>
    public static string Format(
        DecoderConfig config, StoredDtype dtype = StoredDtype.Float32, int? endOfText = null, byte[]? original = null)
    {
        ArgumentNullException.ThrowIfNull(config);
        var json = new JsonObject
        {
            ["architectures"] = new JsonArray("Qwen2ForCausalLM"),
            ["model_type"] = "qwen2",
            ["vocab_size"] = config.VocabularySize,
            ["hidden_size"] = config.HiddenSize,
            ["intermediate_size"] = config.IntermediateSize,
            ["num_hidden_layers"] = config.Layers,
            ["num_attention_heads"] = config.Heads,
            ["num_key_value_heads"] = config.KeyValueHeads,
            ["max_position_embeddings"] = config.MaxPositions,
            ["rms_norm_eps"] = config.NormEpsilon,
            ["rope_theta"] = config.RopeTheta,
            ["hidden_act"] = "silu",
            ["tie_word_embeddings"] = config.TiedEmbeddings,
            ["use_sliding_window"] = false,
            ["torch_dtype"] = NameOf(dtype),
        };
        if (endOfText is int id)
            json["eos_token_id"] = id;
        Merge(json, original);
        if (config.HeadSize * config.Heads != config.HiddenSize)
            json["head_dim"] = config.HeadSize;
        if (!config.QkvBias)
            json["qkv_bias"] = false;
        if (config.Position != PositionEncoding.Rope)
            json["position"] = "none";
        if (config.ConvKernel != 0)
            json["conv_kernel"] = config.ConvKernel;
        if (config.EmbeddingConvKernel != 0)
            json["embed_conv_kernel"] = config.EmbeddingConvKernel;
        if (config.AttentionScale != AttentionScale.Standard)
            json["attention_scale"] = "log_n";
        return json.ToJsonString(new JsonSerializerOptions { WriteIndented = true }) + "\n";
    }

    /// <summary>Puts the keys of the original that say nothing about the computation back, in its own words for the end of a text.</summary>
    private static void Merge(JsonObject json, byte[]? original)
    {
        if (original is null || JsonNode.Parse(original) is not JsonObject source)
            return;
        foreach ((string key, JsonNode? value) in source)
        {
            bool own = json.ContainsKey(key) && key != "eos_token_id";
            if (!own && !Computed.Contains(key))
                json[key] = value?.DeepClone();
        }
    }

    /// <summary>Keys that are written where they differ from plain Qwen2, or in another place.</summary>
    private static readonly string[] Computed =
    [
        "dtype", "rope_parameters", "head_dim", "qkv_bias", "position", "conv_kernel", "embed_conv_kernel", "attention_scale",
    ];

    /// <summary>Typed access to one JSON object with one-sentence errors.</summary>
    private sealed class Keys(JsonElement root, string file)
    {
        /// <summary>No dimension of a real model comes near this; it keeps products of two within 64 bits.</summary>
        private const int LargestCount = 1 << 30;

        public CheckpointException Error(string key, string what) => new($"{file}: {key} {what}.");

        public bool Has(string key) => root.TryGetProperty(key, out JsonElement value) && value.ValueKind != JsonValueKind.Null;

        public string? Text(string key, string? fallback)
        {
            if (!Has(key))
                return fallback;
            JsonElement value = root.GetProperty(key);
            return value.ValueKind == JsonValueKind.String ? value.GetString() : throw Error(key, "is not a string");
        }

        public bool Flag(string key, bool fallback)
        {
            if (!Has(key))
                return fallback;
            return root.GetProperty(key).ValueKind switch
            {
                JsonValueKind.True => true,
                JsonValueKind.False => false,
                _ => throw Error(key, "is neither true nor false"),
            };
        }

        /// <summary>An object within this one; null when it is missing.</summary>
        public Keys? Section(string key)
        {
            if (!Has(key))
                return null;
            JsonElement value = root.GetProperty(key);
            return value.ValueKind == JsonValueKind.Object ? new Keys(value, $"{file}, {key}") : throw Error(key, "is not an object");
        }

        /// <summary>A list of texts; empty when it is missing.</summary>
        public string[] Texts(string key)
        {
            if (!Has(key))
                return [];
            JsonElement value = root.GetProperty(key);
            return value.ValueKind == JsonValueKind.Array && value.EnumerateArray().All(e => e.ValueKind == JsonValueKind.String)
                ? [.. value.EnumerateArray().Select(e => e.GetString()!)] : throw Error(key, "is not a list of texts");
        }

        public int Count(string key, int? fallback, int least = 1)
        {
            if (!Has(key))
                return fallback ?? throw Error(key, "is missing");
            JsonElement value = root.GetProperty(key);
            if (value.ValueKind != JsonValueKind.Number || !value.TryGetInt32(out int count) || count < least || count > LargestCount)
                throw Error(key, $"is not a whole number from {least} to {LargestCount}");
            return count;
        }

        public int Taps(string key)
        {
            if (!Has(key))
                return 0;
            JsonElement value = root.GetProperty(key);
            // Longer than any short convolution in use; a larger number is a mistake.
            if (value.ValueKind != JsonValueKind.Number || !value.TryGetInt32(out int taps) || taps is < 0 or > 64)
                throw Error(key, "is not a whole number from 0 to 64");
            return taps;
        }

        public double Positive(string key, double fallback)
        {
            if (!Has(key))
                return fallback;
            JsonElement value = root.GetProperty(key);
            if (value.ValueKind != JsonValueKind.Number)
                throw Error(key, "is not a number");
            double number = value.GetDouble();
            return number is > 0 and <= double.MaxValue ? number : throw Error(key, "is not a positive number");
        }
    }
}
