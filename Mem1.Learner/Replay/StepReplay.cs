// Keeps: what is computed is what the trainer computes, piece by piece and in the order in which it computes it; nothing is changed.
using Mem1.Model;
using Mem1.Model.Checkpoints;
using TorchSharp;
using static TorchSharp.torch;

namespace Mem1.Learner;

/// <summary>Looks for the first number of a saved step that is not finite.</summary>
public static class StepReplay
{
    /// <summary>Computes a step again, on the CPU in single precision.</summary>
    /// <param name="checkpoint">The model as it was in the step.</param>
    /// <param name="layout">Of the run.</param>
    /// <param name="step">What it was fed.</param>
    /// <param name="options">Of the run.</param>
    /// <param name="temperature">At which the sampler drew.</param>
    /// <returns>What was found, a sentence each: the first is where it begins, the others follow from it or stand beside it.</returns>
    public static IReadOnlyList<string> Run(
        Checkpoint checkpoint, ILayout layout, SavedStep step, PpoOptions options, double temperature)
    {
        List<string> found = [.. Weights(checkpoint.Weights), .. Inputs(step)];
        using var model = new TorchDecoder(checkpoint.Config, checkpoint.Weights, CPU, adapter: checkpoint.Adapter);
        var prepared = PreparedBatch.Of(step);
        var objective = new PpoObjective(options);
        var batch = step.Trajectories;
        var turns = step.Members.SelectMany(i => Enumerable.Range(0, batch[i].Turns.Count).Select(j => new TurnReference(i, j)));
        var normaliser = prepared.Normaliser([.. step.Members], options);
        foreach (var pass in layout.Split(batch, turns, options.MicroBatchTokens))
        {
            using var scope = NewDisposeScope();
            string Where(long n) => WhereIs(batch, pass, n);
            var hidden = Scoring.Select(model, pass);
            if (FirstBad(hidden) is { } at)
            {
                var block = FirstBadBlock(checkpoint, pass);
                found.Add($"hidden states: not finite after block {block} of {checkpoint.Config.Layers}, {Where(at)}");
                return found;
            }

            var all = Scoring.LogSoftmax(model, hidden, temperature);
            var logProbs = Scoring.Chosen(all, pass);
            var entropy = PpoLoss.Entropy(all);
            var values = options.NeedsCritic ? model.Values(hidden) : null;
            var outputs = new (string Name, Tensor? Tensor)[] { ("log-probs", logProbs), ("entropies", entropy), ("values", values) };
            found.AddRange(outputs.Where(o => o.Tensor is not null && FirstBad(o.Tensor) is not null)
                .Select(o => $"{o.Name}: not finite, {Where(FirstBad(o.Tensor!)!.Value)}"));
            var terms = objective.Of(prepared.Pick(pass, options, CPU), logProbs, entropy, values, step.KlFactor);
            var sums = new (string Name, double Value)[]
            {
                ("policy loss", terms.Policy), ("value loss", values is null ? 0 : terms.Value), ("entropy", terms.Entropy),
                ("divergence from the reference", terms.ReferenceKl), ("loss", terms.Loss.item<float>()),
            };
            found.AddRange(sums.Where(s => !double.IsFinite(s.Value)).Select(s => $"{s.Name}: {s.Value}"));
            if (found.Count > 0) return found;
            (terms.Loss / normaliser).backward();
        }

        foreach (var name in checkpoint.Weights.Tensors.Keys)
            if (model.Parameters[name].grad is { } gradient && FirstBad(gradient) is not null)
                found.Add($"gradient of {name}: not finite");
        if (found.Count == 0)
            found.Add("Every number is finite here: the step was fed and computed soundly on the CPU in single precision.");
        return found;
    }

    private static IEnumerable<string> Weights(ModelWeights weights) =>
        from t in weights.Tensors
        let bad = Array.FindIndex(t.Value.Data, v => !float.IsFinite(v))
        where bad >= 0
        select $"weights: {t.Key}[{bad}] is {t.Value.Data[bad]}";

    private static IEnumerable<string> Inputs(SavedStep step)
    {
        foreach (var i in step.Members)
        {
            var trajectory = step.Trajectories[i];
            (string Name, double[] Numbers)[] inputs =
            [
                ("rewards", [.. trajectory.Turns.Select(t => t.Reward), trajectory.Reward]),
                ("log-probs of the sampler", [.. trajectory.Turns.SelectMany(t => t.LogProbs).Select(p => (double)p)]),
                ("log-probs at the update's start", [.. step.Scores[i].LogProbs.Select(p => (double)p)]),
                ("values at the update's start", [.. step.Scores[i].Values.Select(v => (double)v)]),
                ("log-probs of the reference", [.. (step.Reference?[i] ?? []).Select(p => (double)p)]),
                ("returns", step.Returns?[i] ?? []),
                ("advantages", step.Advantages[i]),
            ];
            foreach (var (name, numbers) in inputs)
            {
                var bad = Array.FindIndex(numbers, v => !double.IsFinite(v));
                if (bad >= 0) yield return $"{name}: {numbers[bad]} at number {bad} of episode {trajectory.EpisodeId}";
            }
        }
    }

    private static long? FirstBad(Tensor tensor)
    {
        using var scope = NewDisposeScope();
        var numbers = tensor.detach().cpu().contiguous().data<float>().ToArray();
        var bad = Array.FindIndex(numbers, v => !float.IsFinite(v));
        return bad < 0 ? null : bad / Math.Max(1, numbers.Length / tensor.size(0));
    }

    /// <summary>The first block whose output, with the blocks after it left out, is not finite.</summary>
    private static int FirstBadBlock(Checkpoint checkpoint, LayoutBatch pass)
    {
        for (var blocks = 1; blocks < checkpoint.Config.Layers; blocks++)
        {
            using var scope = NewDisposeScope();
            using var guard = no_grad();
            using var cut = new TorchDecoder(checkpoint.Config with { Layers = blocks }, checkpoint.Weights, CPU, adapter: checkpoint.Adapter);
            if (FirstBad(Scoring.Select(cut, pass)) is not null) return blocks;
        }

        return checkpoint.Config.Layers;
    }

    private static string WhereIs(IReadOnlyList<Trajectory> batch, LayoutBatch pass, long prediction)
    {
        foreach (var t in pass.Turns)
        {
            var length = batch[t.Trajectory].Turns[t.Turn].Generated.Length;
            if (prediction < length) return $"first at episode {batch[t.Trajectory].EpisodeId}, turn {t.Turn}, token {prediction}";
            prediction -= length;
        }

        throw new ArgumentOutOfRangeException(nameof(prediction));
    }
}
