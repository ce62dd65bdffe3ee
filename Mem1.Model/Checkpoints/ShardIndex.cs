// Invariants: a shard is a file of the checkpoint folder itself, never a path elsewhere; every tensor of an index is in the one shard the
// index names; what is written has the names and keys that transformers writes.
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Mem1.Model.Checkpoints;

/// <summary>model.safetensors.index.json: which file holds which tensor.</summary>
internal static class ShardIndex
{
    public const string WeightsFile = "model.safetensors";
    public const string FileName = "model.safetensors.index.json";

    /// <summary>Files by tensor name.</summary>
    /// <exception cref="CheckpointException">Malformed, or it names a file outside the folder.</exception>
    public static SortedDictionary<string, string> Parse(ReadOnlyMemory<byte> utf8, string name)
    {
        var fileOf = new SortedDictionary<string, string>(StringComparer.Ordinal);
        try
        {
            using JsonDocument document = JsonDocument.Parse(utf8);
            foreach (JsonProperty entry in document.RootElement.GetProperty("weight_map").EnumerateObject())
            {
                string file = entry.Value.GetString() ?? throw new JsonException("a file name is null");
                if (file != Path.GetFileName(file) || file.Length == 0 || file is "." or ".." || file.Any(char.IsControl))
                {
                    throw new CheckpointException(
                        $"{name} names the file \"{SafetensorsHeader.Shown(file)}\", which is not in the checkpoint folder.");
                }
                if (!fileOf.TryAdd(entry.Name, file))
                    throw new CheckpointException($"{name} has the tensor \"{SafetensorsHeader.Shown(entry.Name)}\" twice.");
            }
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException)
        {
            throw new CheckpointException($"{name} is not an index with a weight_map of tensor to file: "
                + $"{SafetensorsHeader.FirstSentence(e.Message)}.", e);
        }
        return fileOf;
    }

    /// <summary>Reads the tensors of all shards.</summary>
    public static ModelWeights Read(string folder)
    {
        string index = Path.Combine(folder, FileName);
        byte[] bytes;
        try
        {
            bytes = File.ReadAllBytes(index);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new CheckpointException($"{index} could not be read: {SafetensorsHeader.FirstSentence(e.Message)}.", e);
        }
        SortedDictionary<string, string> fileOf = Parse(bytes, index);
        var tensors = new SortedDictionary<string, WeightTensor>(StringComparer.Ordinal);
        foreach (string shard in fileOf.Values.Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal))
        {
            foreach ((string name, WeightTensor tensor) in Safetensors.Read(Path.Combine(folder, shard)).Tensors)
            {
                if (fileOf.TryGetValue(name, out string? owner) && owner == shard)
                    tensors[name] = tensor;
            }
        }
        string? missing = fileOf.Keys.FirstOrDefault(name => !tensors.ContainsKey(name));
        if (missing is not null)
        {
            throw new CheckpointException(
                $"{index} says that {SafetensorsHeader.Shown(missing)} is in {fileOf[missing]}, but it is not there.");
        }
        return new ModelWeights(tensors);
    }

    /// <summary>
    /// Writes weights into one file, or into shards with an index where they are larger than the limit. A tensor larger than the limit has
    /// a shard of its own.
    /// </summary>
    public static void Write(string folder, ModelWeights weights, StoredDtype dtype, long shardBytes)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(shardBytes, 1);
        KeyValuePair<string, WeightTensor>[] ordered = [.. weights.Tensors.OrderBy(t => t.Key, StringComparer.Ordinal)];
        long SizeOf(WeightTensor tensor) => tensor.Data.LongLength * Safetensors.BytesPerElement(dtype);
        long total = ordered.Sum(t => SizeOf(t.Value));
        if (total <= shardBytes)
        {
            Safetensors.Write(Path.Combine(folder, WeightsFile), weights, dtype);
            return;
        }
        var shards = new List<Dictionary<string, WeightTensor>> { new(StringComparer.Ordinal) };
        long filled = 0;
        foreach ((string name, WeightTensor tensor) in ordered)
        {
            if (filled > 0 && filled + SizeOf(tensor) > shardBytes)
            {
                shards.Add(new(StringComparer.Ordinal));
                filled = 0;
            }
            shards[^1].Add(name, tensor);
            filled += SizeOf(tensor);
        }
        var map = new SortedDictionary<string, string>(StringComparer.Ordinal);
        for (int i = 0; i < shards.Count; i++)
        {
            string file = string.Create(CultureInfo.InvariantCulture, $"model-{i + 1:00000}-of-{shards.Count:00000}.safetensors");
            Safetensors.Write(Path.Combine(folder, file), new ModelWeights(shards[i]), dtype);
            foreach (string name in shards[i].Keys)
                map[name] = file;
        }
        var json = new JsonObject
        {
            ["metadata"] = new JsonObject { ["total_size"] = total },
            ["weight_map"] = new JsonObject(map.Select(e => KeyValuePair.Create<string, JsonNode?>(e.Key, e.Value))),
        };
        AtomicFile.WriteText(Path.Combine(folder, FileName), json.ToJsonString(new JsonSerializerOptions { WriteIndented = true }) + "\n");
    }
}
