// Keeps: cloning that goes on from a checkpoint takes, bit for bit, the steps that it would have taken; folders are as whole as those of
// training (CheckpointFolders).
using System.Text.Json;
using Mem1.Model.Checkpoints;

namespace Mem1.Learner;

/// <summary>How far cloning has come.</summary>
/// <param name="Step">Steps done.</param>
/// <param name="FilledFrom">The expert's episode that the pool in use was filled from.</param>
/// <param name="Shuffled">Turns shuffled by each filling of the pool before the one in use: with the seed, the state of the generator.</param>
/// <param name="Used">Batches taken from the pool in use.</param>
/// <param name="TailLoss">Sum of the losses of the last tenth of the steps so far.</param>
/// <param name="TailSteps">How many those are.</param>
public sealed record CloningState(int Step, long FilledFrom, IReadOnlyList<int> Shuffled, int Used, double TailLoss, int TailSteps);

/// <summary>Where cloning goes on from, and how it is saved.</summary>
public sealed class CloningSaving
{
    /// <summary>Null to begin at the beginning.</summary>
    public CloningState? From { get; init; }
    /// <summary>Puts the moments and steps of <see cref="From"/> into the optimiser; the model has its weights already.</summary>
    public required Action<FlatAdamW> Restore { get; init; }
    /// <summary>Steps between checkpoints; a cancellation writes one too.</summary>
    public required int Every { get; init; }
    /// <summary>Saves state, optimiser and model.</summary>
    public required Action<CloningState, FlatAdamW> Save { get; init; }
}

/// <summary>Checkpoints of a warm start under way: checkpoints/clone-N.</summary>
public static class CloningCheckpoint
{
    private const string Prefix = "clone-", StateFile = "cloning.json", OptimiserFile = "optimizer.safetensors";

    private sealed record Saved(CloningState State, long[] OptimiserSteps, string Recipe);

    /// <summary>Writes a checkpoint. The one before it stays, older ones go.</summary>
    /// <param name="root">The checkpoints folder of a run.</param>
    /// <param name="model">Configuration, weights and tokenizer.</param>
    /// <param name="optimiser">Its moments and steps are kept.</param>
    /// <param name="state">How far it is.</param>
    /// <param name="recipe">Names the settings it is cloned with: what is saved goes on under the same ones only.</param>
    /// <exception cref="LearnerException">The disk refused; every earlier checkpoint is untouched.</exception>
    public static void Save(string root, Checkpoint model, FlatAdamW optimiser, CloningState state, string recipe)
    {
        var folders = new CheckpointFolders(root, Prefix);
        folders.Write(state.Step, aside =>
        {
            model.WriteInto(aside);
            MomentsFile.Save(Path.Combine(aside, OptimiserFile), optimiser);
            AtomicFile.WriteText(Path.Combine(aside, StateFile), JsonSerializer.Serialize(new Saved(state, [.. optimiser.Steps], recipe)));
        });
        foreach (var old in folders.Numbers.Where(n => n < state.Step).SkipLast(1)) folders.Remove(old);
    }

    /// <summary>The newest whole checkpoint, verified, or null when there is none.</summary>
    /// <exception cref="LearnerException">There are checkpoints and none is whole.</exception>
    public static string? OpenNewest(string root, Action<string> warn) => new CheckpointFolders(root, Prefix).OpenNewest(warn);

    /// <summary>Whether a run has one, whole or not.</summary>
    public static bool Any(string root) => new CheckpointFolders(root, Prefix).Numbers.Count > 0;

    /// <summary>How far the cloning of a checkpoint had come, and its recipe.</summary>
    /// <exception cref="LearnerException">The file is malformed.</exception>
    public static (CloningState State, string Recipe) Load(string folder)
    {
        var saved = Read(folder);
        return (saved.State, saved.Recipe);
    }

    /// <summary>Puts the saved moments and steps into an optimiser.</summary>
    /// <exception cref="LearnerException">They do not fit the model.</exception>
    public static void Restore(string folder, FlatAdamW optimiser)
    {
        MomentsFile.Restore(Path.Combine(folder, OptimiserFile), optimiser);
        Read(folder).OptimiserSteps.CopyTo(optimiser.Steps, 0);
    }

    /// <summary>Removes all of them: the warm start is done.</summary>
    public static void RemoveAll(string root)
    {
        var folders = new CheckpointFolders(root, Prefix);
        foreach (var number in folders.Numbers) folders.Remove(number);
    }

    private static Saved Read(string folder)
    {
        var path = Path.Combine(folder, StateFile);
        try
        {
            return JsonSerializer.Deserialize<Saved>(File.ReadAllText(path)) ?? throw new JsonException("it is null");
        }
        catch (Exception e) when (e is IOException or JsonException or UnauthorizedAccessException)
        {
            throw new LearnerException($"{path} cannot be read ({e.Message.TrimEnd('.')}): this is not a checkpoint of cloning.", e);
        }
    }
}
