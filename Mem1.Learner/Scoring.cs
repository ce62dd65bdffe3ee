// Keeps: what the trainer reads of a model (log-probs, values, entropies) comes from one place, for every token that was generated, in
// the order trajectory, turn, token.
using Mem1.Model;
using TorchSharp;
using static TorchSharp.torch;

namespace Mem1.Learner;

/// <summary>Per generated token of one trajectory, in time order over its turns.</summary>
/// <param name="LogProbs">Under the scoring model.</param>
/// <param name="Values">Of the state before each token; zeros when the model has no value head or none was asked for.</param>
public sealed record TokenScores(float[] LogProbs, float[] Values);

/// <summary>Forward passes without gradient over whole batches.</summary>
public static class Scoring
{
    /// <summary>Log-probs (at a temperature) and values of every generated token of a batch.</summary>
    /// <param name="model">Scores.</param>
    /// <param name="layout">How trajectories become forward passes.</param>
    /// <param name="batch">What is scored.</param>
    /// <param name="temperature">At which the sampler drew.</param>
    /// <param name="tokenBudget">Largest number of padded tokens in one pass.</param>
    /// <param name="values">Whether values are wanted too.</param>
    /// <param name="compute">How the vocabulary is chunked; by default if not given.</param>
    /// <param name="reducer">The group whose learners share the work; this one alone if not given.</param>
    public static IReadOnlyList<TokenScores> Score(
        TorchDecoder model, ILayout layout, IReadOnlyList<Trajectory> batch, double temperature, int tokenBudget, bool values,
        ComputeOptions? compute = null, IGradientReducer? reducer = null)
    {
        compute ??= new ComputeOptions();
        reducer ??= SingleLearner.Instance;
        var scores = batch.Select(t => new TokenScores(new float[t.GeneratedTokens], new float[t.GeneratedTokens])).ToList();
        var offsets = TurnOffsets(batch);
        using var guard = no_grad();
        var mine = Shards.Of([.. batch.Select(t => t.TurnTokens)], reducer.Rank, reducer.World).ToHashSet();
        foreach (var pass in layout.Split(batch, AllTurns(batch).Where(t => mine.Contains(t.Trajectory)), tokenBudget))
        {
            using var scope = NewDisposeScope();
            var hidden = Select(model, pass);
            var logProbs = PolicyPass.ScoreLogProbs(model, hidden, pass, temperature, compute).cpu().data<float>().ToArray();
            var v = values && model.HasValueHead ? model.Values(hidden).cpu().data<float>().ToArray() : null;
            var at = 0;
            foreach (var turn in pass.Turns)
            {
                var count = batch[turn.Trajectory].Turns[turn.Turn].Generated.Length;
                var to = offsets[turn.Trajectory][turn.Turn];
                logProbs.AsSpan(at, count).CopyTo(scores[turn.Trajectory].LogProbs.AsSpan(to));
                v?.AsSpan(at, count).CopyTo(scores[turn.Trajectory].Values.AsSpan(to));
                at += count;
            }
        }

        Share(scores, reducer);
        return scores;
    }

    /// <summary>Every learner scored its share and left the rest at 0: the sums are everybody's scores, bit for bit.</summary>
    private static void Share(List<TokenScores> scores, IGradientReducer reducer)
    {
        if (reducer.World == 1) return;
        float[] all = [.. scores.SelectMany(s => s.LogProbs), .. scores.SelectMany(s => s.Values)];
        reducer.Sum(all);
        var at = 0;
        foreach (var into in scores.Select(s => s.LogProbs).Concat(scores.Select(s => s.Values)))
        {
            all.AsSpan(at, into.Length).CopyTo(into);
            at += into.Length;
        }
    }

    /// <summary>Every turn of a batch, in order.</summary>
    internal static IEnumerable<TurnReference> AllTurns(IReadOnlyList<Trajectory> batch) =>
        batch.SelectMany((t, i) => Enumerable.Range(0, t.Turns.Count).Select(j => new TurnReference(i, j)));

    /// <summary>For each trajectory and turn, where the turn's tokens begin among the trajectory's generated tokens.</summary>
    internal static int[][] TurnOffsets(IReadOnlyList<Trajectory> batch) => [.. batch.Select(t =>
    {
        var offsets = new int[t.Turns.Count];
        for (var j = 1; j < offsets.Length; j++) offsets[j] = offsets[j - 1] + t.Turns[j - 1].Generated.Length;
        return offsets;
    })];

    /// <summary>Hidden states that predict generated tokens: [N, D].</summary>
    internal static Tensor Select(TorchDecoder model, LayoutBatch pass)
    {
        var hidden = model.Forward(pass.Batch);
        return hidden.index_select(0, torch.tensor(pass.PredictionIndex, dtype: ScalarType.Int64, device: hidden.device));
    }

    /// <summary>[N, D] to log-probs over the vocabulary [N, V] at a sampling temperature.</summary>
    internal static Tensor LogSoftmax(TorchDecoder model, Tensor hidden, double temperature)
    {
        var logits = model.Logits(hidden);
        return nn.functional.log_softmax(temperature == 1.0 ? logits : logits / temperature, -1);
    }

    /// <summary>[N, V] to the log-probs of the tokens that were generated, [N].</summary>
    internal static Tensor Chosen(Tensor allLogProbs, LayoutBatch pass) =>
        allLogProbs.gather(1, torch.tensor(pass.Targets, dtype: ScalarType.Int64, device: allLogProbs.device).unsqueeze(1)).squeeze(1);
}
