// Keeps: a checkpoint folder is there whole or not at all, and is verified before it is used (CheckpointFolders); an older one is removed
// only after the newer one is whole; what is restored continues bit for bit. Random numbers need no saving: they are functions of the run's
// seed and the number of the update (Seeds).
using System.Text.Json;
using Google.Protobuf;
using Mem1.Model;
using Mem1.Model.Checkpoints;
using Mem1.Protocol.V1;

namespace Mem1.Learner;

/// <summary>What a checkpoint holds besides model, optimiser and the tasks under way.</summary>
public sealed record TrainingState
{
    /// <summary>Updates done.</summary>
    public required long Update { get; init; }
    /// <summary>Version of the weights.</summary>
    public required long PolicyVersion { get; init; }
    /// <summary>Optimiser steps by parameter group; empty before the optimiser exists.</summary>
    public required IReadOnlyList<long> OptimiserSteps { get; init; }
    /// <summary>Where the training data goes on: index of the first task of the next update.</summary>
    public long NextTask { get; init; }
    /// <summary>How good the policy is, for keeping the best: mean reward since the checkpoint before. Null when not known.</summary>
    public double? Score { get; init; }
    /// <summary>Whatever the run wants to find again (evaluation before training, sums for the closing table), by name.</summary>
    public IReadOnlyDictionary<string, JsonElement> Extra { get; init; } = new Dictionary<string, JsonElement>();
}

/// <summary>Which checkpoints stay when a new one is whole.</summary>
/// <param name="Newest">How many of the newest, the new one included; at least 1.</param>
/// <param name="Best">How many more, of the others, by <see cref="TrainingState.Score"/>.</param>
public readonly record struct CheckpointRetention(int Newest, int Best = 0);

/// <summary>Reads and writes the checkpoints of a run: checkpoints/step-N.</summary>
public static class TrainingCheckpoint
{
    private const string StateFile = "state.json";
    private const string LedgerFile = "ledger.bin";
    private const string OptimiserFile = "optimizer.safetensors";
    private const string Prefix = "step-";
    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        WriteIndented = true,
        RespectNullableAnnotations = true,
    };

    /// <summary>Writes a checkpoint and removes those that need not stay.</summary>
    /// <param name="root">The checkpoints folder of a run.</param>
    /// <param name="model">Configuration, weights (value head included) and tokenizer.</param>
    /// <param name="optimiser">Null before training began.</param>
    /// <param name="state">The rest.</param>
    /// <param name="keep">Which stay.</param>
    /// <param name="ledger">The tasks under way; null for none.</param>
    /// <returns>The folder.</returns>
    /// <exception cref="LearnerException">The disk refused; every earlier checkpoint is untouched.</exception>
    public static string Save(
        string root, Checkpoint model, FlatAdamW? optimiser, TrainingState state, CheckpointRetention keep, LedgerRecord? ledger = null)
    {
        var folders = new CheckpointFolders(root, Prefix);
        var target = folders.Write(state.Update, aside =>
        {
            model.WriteInto(aside);
            if (optimiser is not null) MomentsFile.Save(Path.Combine(aside, OptimiserFile), optimiser);
            if (ledger is not null) AtomicFile.Write(Path.Combine(aside, LedgerFile), stream => ledger.WriteTo(stream));
            AtomicFile.WriteText(Path.Combine(aside, StateFile), JsonSerializer.Serialize(state, Json));
        });

        var others = folders.Numbers.Where(n => n < state.Update).OrderDescending().Skip(keep.Newest - 1).ToList();
        var best = others.Select(n => (Number: n, Score: TryScore(folders.PathOf(n)))).Where(c => c.Score is not null)
            .OrderByDescending(c => c.Score).ThenByDescending(c => c.Number).Take(keep.Best).Select(c => c.Number).ToHashSet();
        foreach (var old in others.Where(n => !best.Contains(n))) folders.Remove(old);
        return target;
    }

    /// <summary>Whether a run has a checkpoint, whole or not.</summary>
    public static bool Any(string root) => new CheckpointFolders(root, Prefix).Numbers.Count > 0;

    /// <summary>The newest whole checkpoint of a run, every byte of it verified, or null when the run has none.</summary>
    /// <param name="root">The checkpoints folder of a run.</param>
    /// <param name="warn">Told in a sentence of each newer checkpoint that is damaged and passed over.</param>
    /// <exception cref="LearnerException">There are checkpoints and none is whole.</exception>
    public static string? OpenNewest(string root, Action<string> warn) => new CheckpointFolders(root, Prefix).OpenNewest(warn);

    /// <summary>The checkpoint with the highest score and that score; null when none has one.</summary>
    /// <param name="root">The checkpoints folder of a run.</param>
    public static (string Folder, double Score)? Best(string root)
    {
        var folders = new CheckpointFolders(root, Prefix);
        (string, double)? best = null;
        foreach (var folder in folders.Numbers.Select(folders.PathOf))
        {
            if (TryScore(folder) is { } score && !(best?.Item2 > score)) best = (folder, score);
        }

        return best;
    }

    /// <summary>Reads the state of a checkpoint.</summary>
    /// <exception cref="LearnerException">It is missing or malformed.</exception>
    public static TrainingState LoadState(string folder)
    {
        var path = Path.Combine(folder, StateFile);
        try
        {
            return JsonSerializer.Deserialize<TrainingState>(File.ReadAllText(path), Json) ?? throw new JsonException("it is null");
        }
        catch (Exception e) when (e is IOException or JsonException or UnauthorizedAccessException)
        {
            throw new LearnerException(
                $"{path} cannot be read ({e.Message.ReplaceLineEndings(" ")}): this is not a training checkpoint of mem1, or it is damaged.", e);
        }
    }

    /// <summary>Reads the tasks that were under way; null when the checkpoint has none.</summary>
    /// <exception cref="LearnerException">The file is malformed.</exception>
    public static LedgerRecord? LoadLedger(string folder)
    {
        var path = Path.Combine(folder, LedgerFile);
        if (!File.Exists(path)) return null;
        try
        {
            using var stream = File.OpenRead(path);
            var record = LedgerRecord.Parser.ParseFrom(stream);
            var named = new HashSet<string>(StringComparer.Ordinal);
            if (record.Entries.FirstOrDefault(e => e.Terms is not { TaskId.Length: > 0, EpisodeId.Length: > 0 } || !named.Add(e.Terms.EpisodeId)) is { } odd)
            {
                throw new LearnerException(
                    $"{path} holds a task {(odd.Terms is null ? "without a name" : $"twice, or without a name ({Shown(odd.Terms.EpisodeId)})")}: the checkpoint "
                    + "is damaged.");
            }

            return record;
        }
        catch (Exception e) when (e is IOException or InvalidProtocolBufferException or UnauthorizedAccessException)
        {
            throw new LearnerException($"{path} cannot be read ({e.Message.TrimEnd('.')}): the checkpoint is damaged.", e);
        }
    }

    // Names come from a file that may be damaged.
    private static string Shown(string name) => new([.. name.Take(100).Select(c => char.IsControl(c) ? '?' : c)]);

    /// <summary>Puts the saved moments and step counts into an optimiser.</summary>
    /// <exception cref="LearnerException">They do not fit the model.</exception>
    public static void RestoreOptimiser(string folder, FlatAdamW optimiser, TrainingState state)
    {
        var path = Path.Combine(folder, OptimiserFile);
        if (!File.Exists(path))
        {
            if (state.Update == 0) return; // written before the first update: moments are zero
            throw new LearnerException(
                $"{path} is missing: the checkpoint of update {state.Update} is damaged; remove it to go on from an earlier one.");
        }

        MomentsFile.Restore(path, optimiser);
        if (state.OptimiserSteps.Count != optimiser.Steps.Length)
            throw new LearnerException($"{Path.Combine(folder, StateFile)}: optimiser_steps must have {optimiser.Steps.Length} entries.");
        for (var i = 0; i < optimiser.Steps.Length; i++) optimiser.Steps[i] = state.OptimiserSteps[i];
    }

    /// <summary>The score of a checkpoint that may be damaged.</summary>
    private static double? TryScore(string folder)
    {
        try
        {
            return LoadState(folder).Score;
        }
        catch (LearnerException)
        {
            return null; // a checkpoint that cannot be read is the best of nothing
        }
    }
}
