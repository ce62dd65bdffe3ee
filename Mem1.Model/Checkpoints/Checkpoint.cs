// Invariants: a checkpoint folder appears under its name complete or not at all (written beside it, then renamed); loading gives weights
// that fit the configuration, or a CheckpointException.
using System.Text.Json;
using Mem1.Model.Tokenizers;

namespace Mem1.Model.Checkpoints;

/// <summary>
/// A model in a folder of the Hugging Face layout: config.json, model.safetensors (or shards with an index), tokenizer files.
/// </summary>
/// <param name="Config">Shape of the decoder.</param>
/// <param name="Weights">Tensors that fit it.</param>
/// <param name="Tokenizer">Null when the folder has no tokenizer.json.</param>
public sealed record Checkpoint(DecoderConfig Config, ModelWeights Weights, ITokenizer? Tokenizer)
{
    private const string WeightsFile = "model.safetensors";
    private const string IndexFile = "model.safetensors.index.json";

    /// <summary>Loads a folder.</summary>
    /// <param name="folder">Holds config.json and the weights.</param>
    /// <exception cref="CheckpointException">Something is missing, malformed or does not fit; the sentence says which file.</exception>
    public static Checkpoint Load(string folder)
    {
        if (!Directory.Exists(folder))
        {
            throw new CheckpointException(
                $"{folder} is not a folder; a checkpoint is a folder with {ModelConfigFile.FileName} and {WeightsFile}.");
        }
        DecoderConfig config = ModelConfigFile.Read(Path.Combine(folder, ModelConfigFile.FileName));
        string single = Path.Combine(folder, WeightsFile);
        string index = Path.Combine(folder, IndexFile);
        ModelWeights weights = !File.Exists(single) && File.Exists(index) ? ReadShards(folder, index) : Safetensors.Read(single);
        WeightLayout.Require(config, weights, folder);
        return new Checkpoint(config, weights, TokenizerFiles.TryLoad(folder));
    }

    /// <summary>Writes a folder; an existing one of that name is replaced only once the new one is whole on the disk.</summary>
    /// <param name="folder">Where; its parent is created if need be.</param>
    /// <param name="dtype">How weights are stored.</param>
    /// <exception cref="CheckpointException">The weights do not fit the configuration.</exception>
    /// <exception cref="IOException">The disk refused; the previous folder is untouched.</exception>
    public void Save(string folder, StoredDtype dtype = StoredDtype.Float32)
    {
        WeightLayout.Require(Config, Weights, folder);
        string full = Path.TrimEndingDirectorySeparator(Path.GetFullPath(folder));
        string aside = full + ".part";
        string old = full + ".old";
        Directory.CreateDirectory(Path.GetDirectoryName(full)!);
        DeleteIfThere(aside);
        try
        {
            Directory.CreateDirectory(aside);
            WriteInto(aside, dtype);
            DeleteIfThere(old);
            if (Directory.Exists(full))
                Directory.Move(full, old);
            Directory.Move(aside, full);
            DeleteIfThere(old);
        }
        catch
        {
            if (!Directory.Exists(full) && Directory.Exists(old))
                Directory.Move(old, full);
            DeleteIfThere(aside);
            throw;
        }
    }

    /// <summary>
    /// Writes the files of a checkpoint into an existing folder, each atomically; <see cref="Save"/> is atomic as a whole.
    /// </summary>
    /// <param name="folder">An existing folder.</param>
    /// <param name="dtype">How weights are stored.</param>
    public void WriteInto(string folder, StoredDtype dtype = StoredDtype.Float32)
    {
        ModelConfigFile.Write(Path.Combine(folder, ModelConfigFile.FileName), Config, dtype, Tokenizer?.EndOfText);
        Safetensors.Write(Path.Combine(folder, WeightsFile), Weights, dtype);
        Tokenizer?.Save(folder);
    }

    private static void DeleteIfThere(string folder)
    {
        if (Directory.Exists(folder))
            Directory.Delete(folder, recursive: true);
    }

    private static ModelWeights ReadShards(string folder, string index)
    {
        var fileOf = new SortedDictionary<string, string>(StringComparer.Ordinal);
        try
        {
            using JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(index));
            foreach (JsonProperty entry in document.RootElement.GetProperty("weight_map").EnumerateObject())
                fileOf[entry.Name] = entry.Value.GetString() ?? throw new JsonException("a file name is null");
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException or IOException)
        {
            throw new CheckpointException($"{index} is not an index with a weight_map of tensor to file: "
                + $"{SafetensorsHeader.FirstSentence(e.Message)}.", e);
        }
        var tensors = new SortedDictionary<string, WeightTensor>(StringComparer.Ordinal);
        foreach (string shard in fileOf.Values.Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal))
        {
            if (shard != Path.GetFileName(shard) || shard.Length == 0)
            {
                throw new CheckpointException(
                    $"{index} names the file \"{SafetensorsHeader.Shown(shard)}\", which is not in the checkpoint folder.");
            }
            foreach ((string name, WeightTensor tensor) in Safetensors.Read(Path.Combine(folder, shard)).Tensors)
            {
                if (fileOf.TryGetValue(name, out string? owner) && owner == shard)
                    tensors[name] = tensor;
            }
        }
        string? missing = fileOf.Keys.FirstOrDefault(name => !tensors.ContainsKey(name));
        if (missing is not null)
            throw new CheckpointException($"{index} says that {missing} is in {fileOf[missing]}, but it is not there.");
        return new ModelWeights(tensors);
    }
}
