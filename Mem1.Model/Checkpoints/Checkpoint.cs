// Invariants: a checkpoint folder appears under its name complete or not at all (written beside it, then renamed); loading gives weights
// that fit the configuration, or a CheckpointException.
using Mem1.Model.Adapters;
using Mem1.Model.Tokenizers;

namespace Mem1.Model.Checkpoints;

/// <summary>
/// A model in a folder of the Hugging Face layout: config.json, model.safetensors (or shards with an index), tokenizer files. The value
/// head, which no other software knows, lies in a file of its own.
/// </summary>
/// <param name="Config">Shape of the decoder.</param>
/// <param name="Weights">Tensors that fit it, and value_head.* if the model has a value head.</param>
/// <param name="Tokenizer">Null when the folder has no tokenizer.json.</param>
public sealed record Checkpoint(DecoderConfig Config, ModelWeights Weights, ITokenizer? Tokenizer)
{
    /// <summary>Holds value_head.*; other loaders do not look at it and so do not warn of tensors they do not know.</summary>
    public const string ValueHeadFile = "value_head.safetensors";

    /// <summary>Where a checkpoint keeps its adapter.</summary>
    public const string AdapterFolder = "adapter";

    /// <summary>The size above which transformers cuts a model into shards by default.</summary>
    public const long DefaultShardBytes = 5_000_000_000;

    /// <summary>What came with the checkpoint and goes back with it.</summary>
    public CheckpointOrigin Origin { get; init; } = CheckpointOrigin.None;

    /// <summary>
    /// A LoRA adapter in training, beside the weights it belongs to; null when the model has none. Its folder is a PEFT folder within this
    /// one: at the top, other loaders would take the checkpoint for an adapter alone.
    /// </summary>
    public LoraAdapter? Adapter { get; init; }

    /// <summary>The checkpoint with its adapter, if it has one, merged into the weights.</summary>
    public Checkpoint Merged() => Adapter is null ? this : this with { Weights = Adapter.Merge(Weights), Adapter = null };

    /// <summary>Loads a folder.</summary>
    /// <param name="folder">Holds config.json and the weights.</param>
    /// <exception cref="CheckpointException">Something is missing, malformed or does not fit; the sentence says which file.</exception>
    public static Checkpoint Load(string folder)
    {
        if (!Directory.Exists(folder))
        {
            throw new CheckpointException(
                $"{folder} is not a folder; a checkpoint is a folder with {ModelConfigFile.FileName} and {ShardIndex.WeightsFile}.");
        }
        string configPath = Path.Combine(folder, ModelConfigFile.FileName);
        byte[] configBytes = ModelConfigFile.ReadBytes(configPath);
        DecoderConfig config = ModelConfigFile.Parse(configBytes, configPath);
        string single = Path.Combine(folder, ShardIndex.WeightsFile);
        bool sharded = !File.Exists(single) && File.Exists(Path.Combine(folder, ShardIndex.FileName));
        ModelWeights read = sharded ? ShardIndex.Read(folder) : Safetensors.Read(single);
        var tensors = new SortedDictionary<string, WeightTensor>(StringComparer.Ordinal);
        foreach ((string name, WeightTensor tensor) in read.Tensors)
        {
            // A tied model computes its logits from the embedding whatever lm_head says, and inverse frequencies follow from rope_theta.
            if (!(config.TiedEmbeddings && name == "lm_head.weight") && !name.EndsWith(".rotary_emb.inv_freq", StringComparison.Ordinal))
                tensors[name] = tensor;
        }
        string head = Path.Combine(folder, ValueHeadFile);
        if (File.Exists(head))
        {
            foreach ((string name, WeightTensor tensor) in Safetensors.Read(head).Tensors)
            {
                if (!name.StartsWith(WeightLayout.ValueHeadPrefix, StringComparison.Ordinal))
                    throw new CheckpointException($"{head} holds {SafetensorsHeader.Shown(name)}, which is no tensor of a value head.");
                tensors[name] = tensor;
            }
        }
        var weights = new ModelWeights(tensors);
        WeightLayout.Require(config, weights, folder);
        return new Checkpoint(config, weights, TokenizerFiles.TryLoad(folder))
        {
            Adapter = PeftFolder.Exists(Path.Combine(folder, AdapterFolder))
                ? PeftFolder.Load(Path.Combine(folder, AdapterFolder), config) : null,
            Origin = CheckpointOrigin.Of(folder, configBytes, ModelConfigFile.DtypeOf(configBytes)),
        };
    }

    /// <summary>Writes a folder; an existing one of that name is replaced only once the new one is whole on the disk.</summary>
    /// <param name="folder">Where; its parent is created if need be.</param>
    /// <param name="dtype">How weights are stored.</param>
    /// <param name="shardBytes">Weights larger than this are cut into shards of at most this size.</param>
    /// <exception cref="CheckpointException">The weights do not fit the configuration or the dtype.</exception>
    /// <exception cref="IOException">The disk refused; the previous folder is untouched.</exception>
    public void Save(string folder, StoredDtype dtype = StoredDtype.Float32, long shardBytes = DefaultShardBytes)
    {
        WeightLayout.Require(Config, Weights, folder);
        AtomicFolder.Write(folder, aside => WriteInto(aside, dtype, shardBytes));
    }

    /// <summary>
    /// Writes the files of a checkpoint into an existing, empty folder, each atomically; <see cref="Save"/> is atomic as a whole.
    /// </summary>
    /// <param name="folder">An existing folder.</param>
    /// <param name="dtype">How weights are stored; the value head is float32 always.</param>
    /// <param name="shardBytes">Weights larger than this are cut into shards of at most this size.</param>
    public void WriteInto(string folder, StoredDtype dtype = StoredDtype.Float32, long shardBytes = DefaultShardBytes)
    {
        ModelConfigFile.Write(Path.Combine(folder, ModelConfigFile.FileName), Config, dtype, Tokenizer?.EndOfText, Origin.Config);
        var policy = new SortedDictionary<string, WeightTensor>(StringComparer.Ordinal);
        var head = new SortedDictionary<string, WeightTensor>(StringComparer.Ordinal);
        foreach ((string name, WeightTensor tensor) in Weights.Tensors)
            (name.StartsWith(WeightLayout.ValueHeadPrefix, StringComparison.Ordinal) ? head : policy).Add(name, tensor);
        ShardIndex.Write(folder, new ModelWeights(policy), dtype, shardBytes);
        if (head.Count > 0)
            Safetensors.Write(Path.Combine(folder, ValueHeadFile), new ModelWeights(head));
        if (Adapter is not null)
        {
            string adapter = Path.Combine(folder, AdapterFolder);
            Directory.CreateDirectory(adapter);
            PeftFolder.WriteInto(Adapter, adapter, baseModel: null);
        }
        Origin.Write(folder);
        if (Tokenizer?.EndOfText is int end && !Origin.Files.ContainsKey(GenerationConfigFile.FileName))
            GenerationConfigFile.Write(folder, end);
        Tokenizer?.Save(folder);
    }
}
