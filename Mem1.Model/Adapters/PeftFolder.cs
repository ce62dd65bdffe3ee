// Invariants: what is written has the names, keys and shapes that PEFT writes for a causal language model; what would make an adapter
// compute something else than W + alpha/rank * B A is refused by name.
using System.Text.Json;
using System.Text.Json.Nodes;
using Mem1.Model.Checkpoints;

namespace Mem1.Model.Adapters;

/// <summary>Reads and writes adapters in the layout of the PEFT library: adapter_config.json and adapter_model.safetensors.</summary>
public static class PeftFolder
{
    /// <summary>The adapter's settings.</summary>
    public const string ConfigFile = "adapter_config.json";

    /// <summary>The adapter's tensors.</summary>
    public const string WeightsFile = "adapter_model.safetensors";

    private const string Prefix = "base_model.model.";

    /// <summary>Whether a folder holds an adapter.</summary>
    /// <param name="folder">Any path.</param>
    public static bool Exists(string folder) => File.Exists(Path.Combine(folder, ConfigFile));

    /// <summary>Writes an adapter; an existing folder of that name is replaced only once the new one is whole on the disk.</summary>
    /// <param name="adapter">What.</param>
    /// <param name="folder">Where.</param>
    /// <param name="baseModel">Name or path of the model it belongs to, if known.</param>
    /// <param name="dtype">How values are stored.</param>
    public static void Save(LoraAdapter adapter, string folder, string? baseModel, StoredDtype dtype = StoredDtype.Float32) =>
        AtomicFolder.Write(folder, aside => WriteInto(adapter, aside, baseModel, dtype));

    /// <summary>Writes the two files into an existing folder, each atomically.</summary>
    internal static void WriteInto(LoraAdapter adapter, string folder, string? baseModel, StoredDtype dtype = StoredDtype.Float32)
    {
        var tensors = adapter.Tensors.Tensors.ToDictionary(t => Prefix + t.Key, t => t.Value, StringComparer.Ordinal);
        Safetensors.Write(Path.Combine(folder, WeightsFile), new ModelWeights(tensors), dtype);
        var json = new JsonObject
        {
            ["base_model_name_or_path"] = baseModel,
            ["bias"] = "none",
            ["fan_in_fan_out"] = false,
            ["inference_mode"] = true,
            ["init_lora_weights"] = true,
            ["lora_alpha"] = WholeOrNot(adapter.Options.Alpha),
            ["lora_dropout"] = 0.0,
            ["modules_to_save"] = null,
            ["peft_type"] = "LORA",
            ["r"] = adapter.Options.Rank,
            ["rank_pattern"] = new JsonObject(),
            ["alpha_pattern"] = new JsonObject(),
            ["target_modules"] = new JsonArray([.. adapter.Options.TargetModules.Select(m => (JsonNode)m)]),
            ["task_type"] = "CAUSAL_LM",
            ["use_dora"] = false,
            ["use_rslora"] = false,
        };
        AtomicFile.WriteText(
            Path.Combine(folder, ConfigFile), json.ToJsonString(new JsonSerializerOptions { WriteIndented = true }) + "\n");
    }

    /// <summary>Loads an adapter and checks that it fits a model.</summary>
    /// <param name="folder">Holds adapter_config.json and adapter_model.safetensors.</param>
    /// <param name="config">The model's shape.</param>
    /// <exception cref="CheckpointException">Missing, malformed, of a kind that is not supported, or of another model.</exception>
    public static LoraAdapter Load(string folder, DecoderConfig config)
    {
        string configPath = Path.Combine(folder, ConfigFile), weightsPath = Path.Combine(folder, WeightsFile);
        LoraOptions options = Parse(ModelConfigFile.ReadBytes(configPath), configPath);
        var tensors = new SortedDictionary<string, WeightTensor>(StringComparer.Ordinal);
        foreach ((string name, WeightTensor tensor) in Safetensors.Read(weightsPath).Tensors)
        {
            if (!name.StartsWith(Prefix, StringComparison.Ordinal))
                throw new CheckpointException($"{weightsPath}: {SafetensorsHeader.Shown(name)} does not begin with {Prefix}.");
            tensors[name[Prefix.Length..]] = tensor;
        }
        var adapter = new LoraAdapter(options, new ModelWeights(tensors));
        adapter.Require(config, weightsPath);
        return adapter;
    }

    /// <summary>Parses adapter_config.json.</summary>
    internal static LoraOptions Parse(ReadOnlyMemory<byte> utf8, string file)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(utf8, new JsonDocumentOptions { AllowDuplicateProperties = false });
            JsonElement root = document.RootElement;
            JsonElement? Get(string key) =>
                root.TryGetProperty(key, out JsonElement value) && value.ValueKind != JsonValueKind.Null ? value : null;
            CheckpointException Error(string key, string what) => new($"{file}: {key} {what}.");
            if (Get("peft_type")?.GetString() is not "LORA")
                throw Error("peft_type", "is not \"LORA\", the only kind of adapter supported");
            foreach (string key in new[] { "use_dora", "use_rslora", "fan_in_fan_out", "lora_bias" })
            {
                if (Get(key) is { ValueKind: not JsonValueKind.False })
                    throw Error(key, "is set, which is not supported");
            }
            string[] patterns = ["rank_pattern", "alpha_pattern", "modules_to_save", "layers_to_transform", "trainable_token_indices"];
            foreach (string key in patterns)
            {
                bool empty = Get(key) is not { } value || value.ValueKind switch
                {
                    JsonValueKind.Object => !value.EnumerateObject().Any(),
                    JsonValueKind.Array => value.GetArrayLength() == 0,
                    _ => false,
                };
                if (!empty)
                    throw Error(key, "is set, which is not supported");
            }
            if (Get("bias") is { } bias && bias.GetString() != "none")
                throw Error("bias", "is not \"none\"; adapters of biases are not supported");
            if (Get("target_modules") is not { ValueKind: JsonValueKind.Array } targets)
                throw Error("target_modules", "is not a list of projections");
            var options = new LoraOptions
            {
                Rank = Get("r") is { ValueKind: JsonValueKind.Number } r && r.TryGetInt32(out int rank) && rank > 0
                    ? rank : throw Error("r", "is not a whole number above 0"),
                Alpha = Get("lora_alpha") is { ValueKind: JsonValueKind.Number } alpha
                    ? alpha.GetDouble() : throw Error("lora_alpha", "is not a number"),
                // PEFT writes a set, in any order.
                TargetModules =
                [
                    .. targets.EnumerateArray().Select(m => m.GetString() ?? "").OrderBy(m => LoraOptions.Modules.ToList().IndexOf(m)),
                ],
            };
            return options.Validate() is [var problem, ..] ? throw new CheckpointException($"{file}: {problem}") : options;
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw new CheckpointException($"{file} is not the configuration of an adapter: {SafetensorsHeader.FirstSentence(e.Message)}.", e);
        }
    }

    /// <summary>PEFT declares alpha a whole number; only one that is none is written otherwise.</summary>
    private static JsonNode WholeOrNot(double alpha) =>
        alpha == Math.Floor(alpha) && alpha < int.MaxValue ? JsonValue.Create((int)alpha) : JsonValue.Create(alpha);
}
