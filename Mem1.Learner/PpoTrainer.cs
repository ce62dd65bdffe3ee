// The learning step. Keeps:
//  * only generated tokens enter advantages, whitening, losses and entropy;
//  * behaviour log-probs are those the sampler stored, never recomputed;
//  * a mini-batch's gradient is the mean over its tokens, whatever the micro-batches it was cut into;
//  * all randomness comes from (seed, update), so that resuming repeats exactly what going on would have done.
using Mem1.Model;
using TorchSharp;
using static TorchSharp.torch;

namespace Mem1.Learner;

/// <summary>What one update did.</summary>
/// <param name="PolicyLoss">Clipped policy loss, token mean over all mini-batches.</param>
/// <param name="ValueLoss">Value loss, token mean.</param>
/// <param name="Entropy">Mean entropy of the policy at generated tokens, in nats.</param>
/// <param name="Kl">Mean k1 divergence of the policy that sampled from the policy in training, over mini-batches.</param>
/// <param name="ReferenceKl">Mean k3 divergence from the reference; 0 without one.</param>
/// <param name="ClipFraction">Share of tokens at which the clipped branch decided.</param>
/// <param name="GradientNorm">Mean norm of the policy's gradient before clipping.</param>
/// <param name="ExplainedVariance">1 - Var(return - value) / Var(return).</param>
/// <param name="ParityMaxAbs">
/// max |log-prob learner - log-prob sampler| over tokens sampled under the learner's current version; null when there is none.
/// </param>
/// <param name="StalenessMax">Current version minus the oldest version any token was sampled under.</param>
/// <param name="Tokens">Generated tokens trained on.</param>
public sealed record UpdateStatistics(
    double PolicyLoss, double ValueLoss, double Entropy, double Kl, double ReferenceKl, double ClipFraction, double GradientNorm,
    double ExplainedVariance, double? ParityMaxAbs, long StalenessMax, long Tokens);

/// <summary>PPO on masked trajectories (arXiv 1707.06347 on the turns of arXiv 2506.15841). Not thread-safe.</summary>
public sealed class PpoTrainer : IDisposable
{
    private readonly PpoOptions _options;
    private readonly ILayout _layout;
    private readonly TorchDecoder? _reference;
    private readonly double _temperature;
    private readonly ulong _seed;

    /// <summary>Takes ownership of the model and the reference.</summary>
    /// <param name="model">In training; must have a value head.</param>
    /// <param name="reference">Frozen; needed exactly when an option asks for KL.</param>
    /// <param name="layout">How trajectories become forward passes.</param>
    /// <param name="options">Validated options.</param>
    /// <param name="temperature">At which the sampler drew.</param>
    /// <param name="seed">Of the shuffling of mini-batches.</param>
    public PpoTrainer(TorchDecoder model, TorchDecoder? reference, ILayout layout, PpoOptions options, double temperature, ulong seed)
    {
        if (!model.HasValueHead) throw new ArgumentException("PPO needs a model with a value head.", nameof(model));
        if (options.NeedsReference && reference is null)
            throw new ArgumentException("The options ask for KL to a reference and none was given.", nameof(reference));
        (Model, _reference, _layout, _options, _temperature, _seed) = (model, reference, layout, options, temperature, seed);
        Optimiser = new FlatAdamW(model.Parameters, options.Beta1, options.Beta2);
    }

    /// <summary>The model in training.</summary>
    public TorchDecoder Model { get; }

    /// <summary>Its optimiser, for checkpoints.</summary>
    public FlatAdamW Optimiser { get; }

    /// <summary>Learns from one batch.</summary>
    /// <param name="batch">Finished trajectories, none of them for evaluation.</param>
    /// <param name="update">Number of the update, from 1.</param>
    /// <param name="policyVersion">Version of the weights before the update.</param>
    public UpdateStatistics Update(IReadOnlyList<Trajectory> batch, long update, long policyVersion)
    {
        if (batch.Count == 0) throw new ArgumentException("An update needs at least one trajectory.", nameof(batch));
        if (batch.Any(t => t.Evaluation)) throw new ArgumentException("Evaluation episodes are never trained on.", nameof(batch));

        // 1. Score what was sampled under the current weights: values for the advantages, log-probs for the parity gauge.
        var scores = Scoring.Score(Model, _layout, batch, _temperature, _options.MicroBatchTokens, values: true);
        var reference = _reference is null
            ? null
            : Scoring.Score(_reference, _layout, batch, _temperature, _options.MicroBatchTokens, values: false);

        // 2. Rewards per token, advantages chained over turns, whitened over the whole batch.
        var behaviour = batch.Select(t => t.Turns.SelectMany(turn => turn.LogProbs).ToArray()).ToList();
        var advantages = new List<double[]>(batch.Count);
        var returns = new List<double[]>(batch.Count);
        for (var i = 0; i < batch.Count; i++)
        {
            var rewards = new double[behaviour[i].Length];
            if (reference is not null)
                for (var t = 0; t < rewards.Length; t++)
                    rewards[t] = -_options.KlRewardCoefficient * (behaviour[i][t] - reference[i].LogProbs[t]);
            rewards[^1] += batch[i].Reward;
            var values = Array.ConvertAll(scores[i].Values, v => (double)v);
            var (a, r) = Advantages.Gae(rewards, values, _options.Gamma, _options.Lambda);
            advantages.Add(a);
            returns.Add(r);
        }

        var explained = ExplainedVariance(returns, scores);
        Advantages.Whiten(advantages);

        // 3. Clipped steps over shuffled mini-batches of whole trajectories.
        var offsets = Scoring.TurnOffsets(batch);
        var sums = new Sums();
        for (var epoch = 0; epoch < _options.Epochs; epoch++)
        {
            var order = Shuffled(batch.Count, update, epoch);
            var parts = Math.Min(_options.MiniBatches, batch.Count);
            for (var part = 0; part < parts; part++)
            {
                var members = order[(part * batch.Count / parts)..((part + 1) * batch.Count / parts)];
                Step(members, update);
            }
        }

        return new UpdateStatistics(
            sums.Policy / sums.Tokens, sums.Value / sums.Tokens, sums.Entropy / sums.Tokens, sums.Kl / sums.Tokens,
            sums.ReferenceKl / sums.Tokens, sums.Clipped / sums.Tokens, sums.Norm / sums.Steps, explained,
            Parity(batch, behaviour, scores, policyVersion),
            policyVersion - batch.Min(t => t.OldestVersion),
            batch.Sum(t => (long)t.GeneratedTokens));

        void Step(int[] members, long number)
        {
            var turns = members.SelectMany(i => Enumerable.Range(0, batch[i].Turns.Count).Select(j => new TurnReference(i, j)));
            long tokens = members.Sum(i => (long)batch[i].GeneratedTokens);
            foreach (var pass in _layout.Split(batch, turns, _options.MicroBatchTokens))
            {
                using var scope = NewDisposeScope();
                Tensor Gather(Func<int, int, double> of) => torch.tensor(
                    pass.Turns.SelectMany(t =>
                    {
                        var from = offsets[t.Trajectory][t.Turn];
                        return Enumerable.Range(from, batch[t.Trajectory].Turns[t.Turn].Generated.Length)
                            .Select(k => (float)of(t.Trajectory, k));
                    }).ToArray(),
                    dtype: ScalarType.Float32, device: Model.Parameters.Values.device);

                var hidden = Scoring.Select(Model, pass);
                var all = Scoring.LogSoftmax(Model, hidden, _temperature);
                var logProbs = Scoring.Chosen(all, pass);
                var old = Gather((i, k) => behaviour[i][k]);
                var (policy, clipped) = PpoLoss.Policy(logProbs, old, Gather((i, k) => advantages[i][k]), _options.Clip);
                var (value, _) = PpoLoss.Value(
                    Model.Values(hidden), Gather((i, k) => scores[i].Values[k]), Gather((i, k) => returns[i][k]), _options.ValueClip);
                var entropy = PpoLoss.Entropy(all).sum();
                var loss = policy + value - (entropy * _options.EntropyCoefficient);
                if (reference is not null)
                {
                    var kl = PpoLoss.Kl(logProbs, Gather((i, k) => reference[i].LogProbs[k]), KlEstimator.K3).sum();
                    loss = loss + (kl * _options.KlLossCoefficient);
                    sums.ReferenceKl += kl.item<float>();
                }

                (loss / (double)tokens).backward();
                sums.Policy += policy.item<float>();
                sums.Value += value.item<float>();
                sums.Entropy += entropy.item<float>();
                sums.Clipped += clipped.item<long>();
                sums.Kl += (old - logProbs.detach()).sum().item<float>();
            }

            sums.Tokens += tokens;
            sums.Steps++;
            var rate = _options.PolicyLearningRate(number);
            sums.Norm += Optimiser.Step(group => group switch
            {
                ParameterGroup.Value => new StepSettings(_options.ValueLearningRate, 0, _options.GradientClip),
                _ when rate == 0 => null, // the critic catches up first; the policy's moments stay untouched too
                ParameterGroup.PolicyMatrix => new StepSettings(rate, _options.WeightDecay, _options.GradientClip),
                _ => new StepSettings(rate, 0, _options.GradientClip),
            });
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Optimiser.Dispose();
        Model.Dispose();
        _reference?.Dispose();
    }

    private static double? Parity(
        IReadOnlyList<Trajectory> batch, IReadOnlyList<float[]> behaviour, IReadOnlyList<TokenScores> scores, long policyVersion)
    {
        double? worst = null;
        for (var i = 0; i < batch.Count; i++)
        {
            var k = 0;
            foreach (var version in batch[i].Turns.SelectMany(t => t.PolicyVersions))
            {
                if (version == policyVersion)
                    worst = Math.Max(worst ?? 0, Math.Abs((double)scores[i].LogProbs[k] - behaviour[i][k]));
                k++;
            }
        }

        return worst;
    }

    private static double ExplainedVariance(IReadOnlyList<double[]> returns, IReadOnlyList<TokenScores> scores)
    {
        var all = returns.SelectMany(r => r).ToArray();
        var errors = returns.Zip(scores).SelectMany(p => p.First.Zip(p.Second.Values, (r, v) => r - v)).ToArray();
        var variance = Variance(all);
        return variance <= 0 ? 0 : 1 - (Variance(errors) / variance);

        static double Variance(double[] x)
        {
            var mean = x.Average();
            return x.Average(v => (v - mean) * (v - mean));
        }
    }

    private int[] Shuffled(int count, long update, int epoch)
    {
        var order = Enumerable.Range(0, count).ToArray();
        Seeds.Generator(_seed, 0x5348, (ulong)update, (ulong)epoch).Shuffle(order); // 0x5348: "SH", this purpose's own number
        return order;
    }

    private sealed class Sums
    {
        public double Policy, Value, Entropy, Kl, ReferenceKl, Clipped, Norm;
        public long Tokens, Steps;
    }
}
