// Keeps: a checkpoint folder is there whole or not at all (files are flushed, then the folder is renamed into place); an older one is
// removed only after the newer one is whole; what is restored continues bit for bit.
using System.Text.Json;
using Mem1.Model;
using Mem1.Model.Checkpoints;
using TorchSharp;
using static TorchSharp.torch;

namespace Mem1.Learner;

/// <summary>What a checkpoint holds besides model and optimiser.</summary>
public sealed record TrainingState
{
    /// <summary>Updates done.</summary>
    public required long Update { get; init; }
    /// <summary>Version of the weights.</summary>
    public required long PolicyVersion { get; init; }
    /// <summary>Optimiser steps by parameter group; empty before the optimiser exists.</summary>
    public required IReadOnlyList<long> OptimiserSteps { get; init; }
    /// <summary>Whatever the run wants to find again (evaluation before training, sums for the closing table), by name.</summary>
    public IReadOnlyDictionary<string, JsonElement> Extra { get; init; } = new Dictionary<string, JsonElement>();
}

/// <summary>Reads and writes the checkpoints of a run: checkpoints/step-N.</summary>
public static class TrainingCheckpoint
{
    private const string StateFile = "state.json";
    private const string OptimiserFile = "optimizer.safetensors";
    private const string Prefix = "step-";
    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower, WriteIndented = true,
    };


    /// <summary>Writes a checkpoint and removes older ones.</summary>
    /// <param name="root">The checkpoints folder of a run.</param>
    /// <param name="model">Configuration, weights (value head included) and tokenizer.</param>
    /// <param name="optimiser">Null before training began.</param>
    /// <param name="state">The rest.</param>
    /// <param name="keep">How many to keep, this one included.</param>
    /// <exception cref="LearnerException">The disk refused; every earlier checkpoint is untouched.</exception>
    public static string Save(string root, Checkpoint model, FlatAdamW? optimiser, TrainingState state, int keep)
    {
        var target = Path.Combine(root, $"{Prefix}{state.Update}");
        var aside = $"{target}.partial";
        var replaced = $"{target}.replaced";
        try
        {
            Directory.CreateDirectory(root);
            if (Directory.Exists(aside)) Directory.Delete(aside, recursive: true);
            Directory.CreateDirectory(aside);
            model.WriteInto(aside);
            if (optimiser is not null)
            {
                var moments = new SortedDictionary<string, WeightTensor>(StringComparer.Ordinal)
                {
                    ["exp_avg"] = ToManaged(optimiser.FirstMoment),
                    ["exp_avg_sq"] = ToManaged(optimiser.SecondMoment),
                };
                Safetensors.Write(Path.Combine(aside, OptimiserFile), new ModelWeights(moments));
            }

            AtomicFile.WriteText(Path.Combine(aside, StateFile), JsonSerializer.Serialize(state, Json));
            if (Directory.Exists(replaced)) Directory.Delete(replaced, recursive: true);
            if (Directory.Exists(target)) Directory.Move(target, replaced); // the same step again: it goes when the new one is in its place
            Directory.Move(aside, target);
            if (Directory.Exists(replaced)) Directory.Delete(replaced, recursive: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            try
            {
                if (Directory.Exists(aside)) Directory.Delete(aside, recursive: true);
            }
            catch (Exception cleanup) when (cleanup is IOException or UnauthorizedAccessException)
            {
                // What could not be written could not be removed either; the name says it is partial and nobody reads it.
            }

            throw new LearnerException(
                $"Checkpoint {target} could not be written ({e.Message}); earlier checkpoints are whole: free some space and go on with "
                + "--resume.", e);
        }

        foreach (var old in List(root).Where(s => s < state.Update).OrderDescending().Skip(keep - 1))
            Directory.Delete(Path.Combine(root, $"{Prefix}{old}"), recursive: true);
        return target;
    }

    /// <summary>The newest whole checkpoint of a run, or null.</summary>
    public static string? FindLatest(string root)
    {
        var steps = List(root).ToList();
        return steps.Count == 0 ? null : Path.Combine(root, $"{Prefix}{steps.Max()}");
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
                $"{path} cannot be read ({e.Message}): this is not a training checkpoint of mem1, or it is damaged.", e);
        }
    }

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

        var moments = Safetensors.Read(path).Tensors;
        using var scope = NewDisposeScope();
        using var guard = no_grad();
        foreach (var (name, into) in new[] { ("exp_avg", optimiser.FirstMoment), ("exp_avg_sq", optimiser.SecondMoment) })
        {
            if (!moments.TryGetValue(name, out var saved) || saved.Data.LongLength != into.numel())
            {
                throw new LearnerException(
                    $"{path}: {name} has {(saved is null ? "no" : saved.Data.LongLength)} values where the model has {into.numel()} "
                    + "parameters.");
            }

            into.copy_(torch.tensor(saved.Data, dtype: ScalarType.Float32));
        }

        if (state.OptimiserSteps.Count != optimiser.Steps.Length)
            throw new LearnerException($"{Path.Combine(folder, StateFile)}: optimiser_steps must have {optimiser.Steps.Length} entries.");
        for (var i = 0; i < optimiser.Steps.Length; i++) optimiser.Steps[i] = state.OptimiserSteps[i];
    }

    private static WeightTensor ToManaged(Tensor flat)
    {
        using var scope = NewDisposeScope();
        return new WeightTensor([flat.numel()], flat.cpu().data<float>().ToArray());
    }

    private static IEnumerable<long> List(string root) => !Directory.Exists(root)
        ? []
        : Directory.EnumerateDirectories(root, $"{Prefix}*").Select(d => Path.GetFileName(d)[Prefix.Length..])
            .Where(s => s.All(char.IsAsciiDigit) && s.Length is > 0 and < 19)
            .Select(s => long.Parse(s, System.Globalization.CultureInfo.InvariantCulture));
}
