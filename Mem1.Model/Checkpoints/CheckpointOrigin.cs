// Invariant: what this project does not understand of a checkpoint folder leaves it as it came: byte for byte for files, key for key in
// config.json.
namespace Mem1.Model.Checkpoints;

/// <summary>What came with a checkpoint beside the things this project computes with, kept to be written back.</summary>
/// <param name="Config">The bytes of config.json, or null for a model made here.</param>
/// <param name="Dtype">How the weights were stored.</param>
/// <param name="Files">Other small files by name: generation settings, tokenizer files of other software, licence.</param>
public sealed record CheckpointOrigin(byte[]? Config, StoredDtype Dtype, IReadOnlyDictionary<string, byte[]> Files)
{
    /// <summary>
    /// The names that are carried along. tokenizer.json, tokenizer_config.json and chat_template.jinja are not among them: the tokenizer itself keeps those.
    /// </summary>
    private static readonly string[] Carried =
    [
        GenerationConfigFile.FileName, "vocab.json", "merges.txt", "special_tokens_map.json", "added_tokens.json",
        "chat_template.json", "LICENSE", "LICENSE.txt",
    ];

    /// <summary>A vocabulary of millions of tokens takes less; a file that is larger is none of these.</summary>
    private const long LargestFile = 64 << 20;

    /// <summary>Of a model made here.</summary>
    public static CheckpointOrigin None { get; } = new(null, StoredDtype.Float32, new Dictionary<string, byte[]>());

    internal static CheckpointOrigin Of(string folder, byte[] config, StoredDtype dtype)
    {
        var files = new SortedDictionary<string, byte[]>(StringComparer.Ordinal);
        foreach (string name in Carried)
        {
            var file = new FileInfo(Path.Combine(folder, name));
            if (!file.Exists)
                continue;
            if (file.Length > LargestFile)
                throw new CheckpointException($"{file.FullName} has {file.Length} bytes; files of that name have at most {LargestFile}.");
            try
            {
                files[name] = File.ReadAllBytes(file.FullName);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                throw new CheckpointException($"{file.FullName} could not be read: {SafetensorsHeader.FirstSentence(e.Message)}.", e);
            }
        }
        return new CheckpointOrigin(config, dtype, files);
    }

    internal void Write(string folder)
    {
        foreach ((string name, byte[] bytes) in Files)
            AtomicFile.Write(Path.Combine(folder, name), stream => stream.Write(bytes));
    }
}
