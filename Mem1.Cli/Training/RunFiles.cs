// Keeps: what a learner describes is all that a worker needs besides weights; what a worker opened of it has the learner's fingerprint.
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Mem1.Cli.Configuration;
using Mem1.Model;
using Mem1.Model.Checkpoints;
using Mem1.Model.Tokenizers;

namespace Mem1.Cli.Training;

/// <summary>The files by which a learner tells workers what it trains: config.yaml, the model's config.json, its tokenizer.</summary>
internal static class RunFiles
{
    private const string RunConfigName = "config.yaml";

    /// <summary>Contents by file name.</summary>
    public static IReadOnlyDictionary<string, ReadOnlyMemory<byte>> Of(RunConfig config, DecoderConfig shape, ITokenizer tokenizer)
    {
        using var folder = new ScratchFolder();
        ModelConfigFile.Write(Path.Combine(folder.FullPath, ModelConfigFile.FileName), shape, StoredDtype.Float32, tokenizer.EndOfText);
        tokenizer.Save(folder.FullPath);
        var files = Directory.EnumerateFiles(folder.FullPath).ToDictionary(
            f => Path.GetFileName(f), f => (ReadOnlyMemory<byte>)File.ReadAllBytes(f), StringComparer.Ordinal);
        files.Add(RunConfigName, Encoding.UTF8.GetBytes(ConfigFile.Write(config)));
        return files;
    }

    /// <summary>Opens what a learner sent.</summary>
    /// <param name="files">Contents by file name.</param>
    /// <param name="overrides">Settings of this machine, as key=value: paths of corpora above all.</param>
    /// <exception cref="UserErrorException">A file is missing or not what it should be.</exception>
    public static (RunConfig Config, DecoderConfig Shape, ITokenizer Tokenizer) Open(
        IReadOnlyDictionary<string, byte[]> files, IEnumerable<string> overrides)
    {
        using var folder = new ScratchFolder();
        foreach (var (name, content) in files) File.WriteAllBytes(Path.Combine(folder.FullPath, name), content);
        foreach (var name in new[] { RunConfigName, ModelConfigFile.FileName })
        {
            if (!files.ContainsKey(name))
                throw new UserErrorException($"the learner sent no {name}; run the same release on both sides.");
        }

        var (config, _) = ConfigFile.Read(Path.Combine(folder.FullPath, RunConfigName), overrides);
        return (
            config,
            ModelConfigFile.Read(Path.Combine(folder.FullPath, ModelConfigFile.FileName)),
            ModelPreparation.WithChat(TokenizerFiles.Load(folder.FullPath), config.Model));
    }

    /// <summary>Tells tokenizers and environments apart: a worker that was started for others is refused.</summary>
    public static long Fingerprint(RunConfig config, ITokenizer tokenizer)
    {
        using var folder = new ScratchFolder();
        tokenizer.Save(folder.FullPath);
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        // Of the config only what decides how an episode goes; the number of updates, say, may change from one start to the next.
        hash.AppendData(Encoding.UTF8.GetBytes(ConfigFile.Write(new RunConfig { Environment = config.Environment })));
        foreach (var file in Directory.EnumerateFiles(folder.FullPath).Order(StringComparer.Ordinal)) hash.AppendData(File.ReadAllBytes(file));
        return BitConverter.ToInt64(hash.GetHashAndReset());
    }

    /// <summary>Tells shapes of models apart: a worker of another one is refused.</summary>
    public static long Fingerprint(DecoderConfig shape) =>
        BitConverter.ToInt64(SHA256.HashData(JsonSerializer.SerializeToUtf8Bytes(shape)));

    private sealed class ScratchFolder : IDisposable
    {
        public string FullPath { get; } = Directory.CreateTempSubdirectory("mem1-run-").FullName;

        public void Dispose() => Directory.Delete(FullPath, recursive: true);
    }
}
