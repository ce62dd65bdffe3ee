// The learning step. Keeps:
//  * only generated tokens enter advantages, whitening, losses and entropy;
//  * behaviour log-probs are those the sampler stored, never recomputed;
//  * a mini-batch's gradient is the mean over its tokens, whatever the micro-batches it was cut into;
//  * all randomness comes from (seed, update), so that resuming repeats exactly what going on would have done.
using Mem1.Model;
using static TorchSharp.torch;

namespace Mem1.Learner;

/// <summary>PPO on masked trajectories (arXiv 1707.06347 on the turns of arXiv 2506.15841). Not thread-safe.</summary>
public sealed class PpoTrainer : IDisposable
{
    private readonly PpoOptions _options;
    private readonly ILayout _layout;
    private readonly TorchDecoder? _reference;
    private readonly double _temperature;
    private readonly ulong _seed;
    private readonly IAdvantageEstimator _estimator;
    private readonly PpoObjective _objective;

    /// <summary>Takes ownership of the model and the reference.</summary>
    /// <param name="model">In training; must have a value head if the estimator needs a critic.</param>
    /// <param name="reference">Frozen; needed exactly when an option asks for KL.</param>
    /// <param name="layout">How trajectories become forward passes.</param>
    /// <param name="options">Validated options.</param>
    /// <param name="temperature">At which the sampler drew.</param>
    /// <param name="seed">Of the shuffling of mini-batches.</param>
    public PpoTrainer(TorchDecoder model, TorchDecoder? reference, ILayout layout, PpoOptions options, double temperature, ulong seed)
    {
        _estimator = options.CreateEstimator();
        if (_estimator.NeedsCritic && !model.HasValueHead)
            throw new ArgumentException("This estimator needs a model with a value head.", nameof(model));
        if (options.NeedsReference && reference is null)
            throw new ArgumentException("The options ask for KL to a reference and none was given.", nameof(reference));
        (Model, _reference, _layout, _options, _temperature, _seed) = (model, reference, layout, options, temperature, seed);
        _objective = new PpoObjective(options);
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
        var scores = Scoring.Score(Model, _layout, batch, _temperature, _options.MicroBatchTokens, _estimator.NeedsCritic);
        var reference = _reference is null
            ? null
            : Scoring.Score(_reference, _layout, batch, _temperature, _options.MicroBatchTokens, values: false);

        // 2. Rewards per token, and what the estimator makes of them.
        var prepared = new PreparedBatch(batch, scores, reference);
        var values = _estimator.NeedsCritic ? scores.Select(s => Array.ConvertAll(s.Values, v => (double)v)).ToList() : null;
        prepared.Take(_estimator.Estimate(new RewardedBatch(batch, Rewards(prepared), values)));

        // 3. Clipped steps over shuffled mini-batches of whole trajectories.
        var sums = new ObjectiveSums();
        double norms = 0;
        long steps = 0;
        for (var epoch = 0; epoch < _options.Epochs; epoch++)
        {
            var order = Shuffled(batch.Count, update, epoch);
            var parts = Math.Min(_options.MiniBatches, batch.Count);
            for (var part = 0; part < parts; part++)
            {
                var members = order[(part * batch.Count / parts)..((part + 1) * batch.Count / parts)];
                Step(members);
            }
        }

        return new UpdateStatistics(
            sums.Policy / sums.Tokens, sums.Value / sums.Tokens, sums.Entropy / sums.Tokens, sums.Kl / sums.Tokens,
            sums.ReferenceKl / sums.Tokens, sums.Clipped / sums.Tokens, norms / steps, prepared.ExplainedVariance(),
            prepared.Parity(policyVersion),
            policyVersion - batch.Min(t => t.OldestVersion),
            batch.Sum(t => (long)t.GeneratedTokens));

        void Step(int[] members)
        {
            var turns = members.SelectMany(i => Enumerable.Range(0, batch[i].Turns.Count).Select(j => new TurnReference(i, j)));
            long tokens = members.Sum(i => (long)batch[i].GeneratedTokens);
            foreach (var pass in _layout.Split(batch, turns, _options.MicroBatchTokens))
            {
                using var scope = NewDisposeScope();
                var hidden = Scoring.Select(Model, pass);
                var all = Scoring.LogSoftmax(Model, hidden, _temperature);
                var terms = _objective.Of(
                    prepared.Pick(pass, Model.Parameters.Values.device), Scoring.Chosen(all, pass), PpoLoss.Entropy(all),
                    _estimator.NeedsCritic ? Model.Values(hidden) : null);
                (terms.Loss / (double)tokens).backward();
                sums.Add(terms);
            }

            steps++;
            var rate = _options.PolicyLearningRate(update);
            norms += Optimiser.Step(group => group switch
            {
                ParameterGroup.Value when !_estimator.NeedsCritic => null,
                ParameterGroup.Value => new StepSettings(_options.ValueLearningRate, 0, _options.GradientClip),
                _ when rate == 0 => null, // the critic catches up first; the policy's moments stay untouched too
                ParameterGroup.PolicyMatrix => new StepSettings(rate, _options.WeightDecay, _options.GradientClip),
                _ => new StepSettings(rate, 0, _options.GradientClip),
            });
        }
    }

    /// <summary>The episode's reward at its last token, and what divergence from the reference costs at each.</summary>
    private List<double[]> Rewards(PreparedBatch prepared)
    {
        var all = new List<double[]>(prepared.Trajectories.Count);
        for (var i = 0; i < prepared.Trajectories.Count; i++)
        {
            var behaviour = prepared.Behaviour[i];
            var rewards = new double[behaviour.Length];
            if (prepared.Reference is { } reference)
                for (var t = 0; t < rewards.Length; t++)
                    rewards[t] = -_options.KlRewardCoefficient * (behaviour[t] - reference[i][t]);
            rewards[^1] += prepared.Trajectories[i].Reward;
            all.Add(rewards);
        }

        return all;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Optimiser.Dispose();
        Model.Dispose();
        _reference?.Dispose();
    }

    private int[] Shuffled(int count, long update, int epoch)
    {
        var order = Enumerable.Range(0, count).ToArray();
        Seeds.Generator(_seed, 0x5348, (ulong)update, (ulong)epoch).Shuffle(order); // 0x5348: "SH", this purpose's own number
        return order;
    }
}
