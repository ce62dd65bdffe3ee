// Keeps: weights change only for ones of the same shape and tokenizer, whole; a folder that cannot be used leaves everything as it was.
using Mem1.Model;
using Mem1.Model.Checkpoints;
using Mem1.Model.Generation;
using Microsoft.AspNetCore.Http;

namespace Mem1.Cli.Serve;

/// <summary>What limits a server.</summary>
internal sealed record ServeOptions
{
    /// <summary>Continuations drawn at once.</summary>
    public int Batch { get; init; } = 64;

    /// <summary>Continuations that wait beside them; more are refused with status 429.</summary>
    public int Queue { get; init; } = 256;

    /// <summary>How long a request may take, waiting included.</summary>
    public TimeSpan Deadline { get; init; } = TimeSpan.FromMinutes(5);

    /// <summary>Threads that decode.</summary>
    public int Threads { get; init; } = 1;

    /// <summary>What clients must send as a bearer token; null asks for none.</summary>
    public string? ApiKey { get; init; }

    /// <summary>Name of the model in answers; the folder's name if null.</summary>
    public string? Name { get; init; }

    /// <summary>Version of the weights in the folder.</summary>
    public long Version { get; init; }

    /// <summary>Folder that weights may be loaded from, itself or one below; null lets clients of this machine name any.</summary>
    public string? Weights { get; init; }
}

/// <summary>A checkpoint and the engine that continues texts with it.</summary>
internal sealed class ServedModel : IDisposable
{
    private readonly SemaphoreSlim _reloading = new(1, 1);
    private readonly Dictionary<string, byte[]> _tokenizerFiles;

    /// <exception cref="UserErrorException">The folder has no tokenizer.</exception>
    /// <exception cref="CheckpointException">The folder is no checkpoint.</exception>
    public ServedModel(string folder, ServeOptions options)
    {
        var checkpoint = Checkpoint.Load(folder).Merged();
        Tokenizer = checkpoint.Tokenizer
            ?? throw new UserErrorException($"{folder} has no tokenizer.json; a served model needs one to read and write text.");
        (Shape, Options) = (checkpoint.Config, options);
        Name = options.Name ?? Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(folder)));
        _tokenizerFiles = Files(Tokenizer);
        Loop = new EngineLoop(
            new CpuGenerationEngine(Shape, checkpoint.Weights, options.Version, Tokenizer, options.Threads), options.Batch, options.Queue);
    }

    public DecoderConfig Shape { get; }

    public ITokenizer Tokenizer { get; }

    public string Name { get; }

    public ServeOptions Options { get; }

    public EngineLoop Loop { get; }

    /// <summary>Loads a folder's weights and puts them in place between two tokens.</summary>
    /// <exception cref="ApiException">It cannot be used; the old weights stay.</exception>
    public async Task<(long Before, long Now)> Reload(string folder, long? version, CancellationToken cancellationToken)
    {
        var full = Path.GetFullPath(folder);
        if (Options.Weights is { } root && !(full + Path.DirectorySeparatorChar).StartsWith(
                Path.TrimEndingDirectorySeparator(Path.GetFullPath(root)) + Path.DirectorySeparatorChar, StringComparison.Ordinal))
        {
            throw new ApiException(
                StatusCodes.Status403Forbidden, $"Weights are loaded from {root} and folders below it only (--weights).", "folder");
        }

        // One at a time: two sets of weights at once in memory are enough.
        await _reloading.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            var loaded = await Task.Run(() => Checkpoint.Load(full).Merged(), cancellationToken).ConfigureAwait(false);
            if (loaded.Config != Shape)
                throw ApiException.Bad(
                    $"The model in {folder} has another shape than the one served; start another server for it.", "folder");
            if (loaded.Tokenizer is { } tokenizer && !SameFiles(_tokenizerFiles, Files(tokenizer)))
                throw ApiException.Bad(
                    $"The tokenizer in {folder} is another one than the one served; start another server for it.", "folder");
            return await Loop.Swap(loaded.Weights, version).ConfigureAwait(false);
        }
        catch (CheckpointException e)
        {
            throw ApiException.Bad($"The weights cannot be loaded: {e.Message}", "folder");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw ApiException.Bad($"The weights cannot be read: {e.Message}", "folder");
        }
        finally
        {
            _reloading.Release();
        }
    }

    public void Dispose()
    {
        Loop.Dispose();
        _reloading.Dispose();
    }

    private static bool SameFiles(Dictionary<string, byte[]> one, Dictionary<string, byte[]> other) =>
        one.Count == other.Count && one.All(f => other.TryGetValue(f.Key, out var bytes) && f.Value.AsSpan().SequenceEqual(bytes));

    private static Dictionary<string, byte[]> Files(ITokenizer tokenizer)
    {
        var folder = Directory.CreateTempSubdirectory("mem1-serve-");
        try
        {
            tokenizer.Save(folder.FullName);
            // Settings beside it differ between tools that save the same tokenizer.
            return folder.EnumerateFiles("tokenizer.json").ToDictionary(
                f => f.Name, f => File.ReadAllBytes(f.FullName), StringComparer.Ordinal);
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }
}
