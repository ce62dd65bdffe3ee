// The learning step. Keeps:
//  * only generated tokens enter advantages, whitening, losses and entropy;
//  * behaviour log-probs are those the sampler stored, never recomputed;
//  * a mini-batch's gradient is the mean over its tokens (or as ppo.aggregation says), whatever the micro-batches it was cut into;
//  * a step whose loss or gradient is not finite moves nothing;
//  * all randomness comes from (seed, update), so that resuming repeats exactly what going on would have done;
//  * learners of a group share the passes and nothing else: scores, gradients and sums are those of the whole batch on every one of them,
//    so that estimators, whitening, token means and clipping never know how many learners there are.
using System.Diagnostics;
using Mem1.Model;
using static TorchSharp.torch;

namespace Mem1.Learner;

/// <summary>What a trainer remembers from update to update besides weights and moments.</summary>
/// <param name="KlFactor">What the weights of the divergence from the reference are multiplied with.</param>
/// <param name="SkippedInRow">Steps left out since the last one that was taken.</param>
public sealed record TrainerState(double KlFactor, int SkippedInRow);

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
    private readonly IReadOnlyList<IRewardShaper> _shapers;
    private readonly KlController _kl;
    private int _skippedInRow;
    private readonly ComputeOptions _compute;
    private readonly IGradientReducer _reducer;

    /// <summary>Takes ownership of the model and the reference.</summary>
    /// <param name="model">In training; must have a value head if the estimator needs a critic.</param>
    /// <param name="reference">Frozen; needed exactly when an option asks for KL.</param>
    /// <param name="layout">How trajectories become forward passes.</param>
    /// <param name="options">Validated options.</param>
    /// <param name="temperature">At which the sampler drew.</param>
    /// <param name="seed">Of the shuffling of mini-batches.</param>
    /// <param name="compute">What is recomputed rather than kept; nothing if not given.</param>
    /// <param name="reducer">The group whose learners share every update; this one alone if not given.</param>
    public PpoTrainer(
        TorchDecoder model, TorchDecoder? reference, ILayout layout, PpoOptions options, double temperature, ulong seed,
        ComputeOptions? compute = null, IGradientReducer? reducer = null)
    {
        _estimator = options.CreateEstimator();
        if (_estimator.NeedsCritic && !model.HasValueHead)
            throw new ArgumentException("This estimator needs a model with a value head.", nameof(model));
        if (options.NeedsReference && reference is null)
            throw new ArgumentException("The options ask for KL to a reference and none was given.", nameof(reference));
        (Model, _reference, _layout, _options, _temperature, _seed) = (model, reference, layout, options, temperature, seed);
        (_compute, _reducer) = (compute ?? new ComputeOptions(), reducer ?? SingleLearner.Instance);
        _objective = new PpoObjective(options);
        _shapers = options.Shaping.CreateShapers(model.Config.MaxPositions);
        _kl = new KlController(options.KlTarget, options.KlHorizon);
        Optimiser = new FlatAdamW(model.Parameters, options.Beta1, options.Beta2);
    }

    /// <summary>The model in training.</summary>
    public TorchDecoder Model { get; }

    /// <summary>Its optimiser, for checkpoints.</summary>
    public FlatAdamW Optimiser { get; }

    /// <summary>What it has to remember from update to update besides weights and moments.</summary>
    public TrainerState State
    {
        get => new(_kl.Factor, _skippedInRow);
        set => (_kl.Factor, _skippedInRow) = (value.KlFactor, value.SkippedInRow);
    }

    /// <summary>What the last update made of the trajectories it learned from, by episode; empty before the first.</summary>
    public IReadOnlyDictionary<string, TokenEstimates> LastEstimates { get; private set; } = new Dictionary<string, TokenEstimates>();

    /// <summary>
    /// Share of the optimiser steps' time of the last update that was not spent on preparing data (laying out passes, masks and per-token
    /// numbers), in [0, 1]; no number before the first.
    /// </summary>
    public double LastBusy { get; private set; } = double.NaN;

    /// <summary>Learns from one batch.</summary>
    /// <param name="sampled">Finished trajectories, none of them for evaluation.</param>
    /// <param name="update">Number of the update, from 1.</param>
    /// <param name="policyVersion">Version of the weights before the update.</param>
    /// <exception cref="DivergedException">
    /// More steps in a row than the options allow had a loss or gradient that is not finite; weights and moments are those before them.
    /// </exception>
    public UpdateStatistics Update(IReadOnlyList<Trajectory> sampled, long update, long policyVersion)
    {
        if (sampled.Count == 0) throw new ArgumentException("An update needs at least one trajectory.", nameof(sampled));
        if (sampled.Any(t => t.Evaluation)) throw new ArgumentException("Evaluation episodes are never trained on.", nameof(sampled));
        IReadOnlyList<Trajectory> batch = _options.Overlong == OverlongEpisodes.Mask ? [.. sampled.Where(t => !t.EndedByLimit)] : sampled;
        var health = new UpdateHealth { MaskedEpisodes = sampled.Count - batch.Count };
        var sums = new ObjectiveSums();
        LastEstimates = new Dictionary<string, TokenEstimates>();
        if (batch.Count == 0) return sums.Means(double.NaN, double.NaN, null, 0, 0, health);

        // 1. Score what was sampled under the current weights: values for the advantages, log-probs for the parity gauge.
        var scores = Score(Model, _estimator.NeedsCritic);
        var reference = _reference is null ? null : Score(_reference, values: false);

        // 2. Rewards per token, and what the estimator makes of them.
        var prepared = new PreparedBatch(batch, scores, reference);
        var rewards = Rewards(prepared);
        var values = _estimator.NeedsCritic ? scores.Select(s => Array.ConvertAll(s.Values, v => (double)v)).ToList() : null;
        var estimate = _estimator.Estimate(new RewardedBatch(batch, rewards.PerToken, values));
        prepared.Take(estimate);
        LastEstimates = prepared.Estimates();

        // 3. Clipped steps over shuffled mini-batches of whole trajectories.
        double norms = 0;
        int steps = 0, skipped = 0;
        var stepping = Stopwatch.StartNew();
        var preparing = new Stopwatch();
        var masks = Model.Preparing;
        for (var epoch = 0; epoch < _options.Epochs; epoch++)
        {
            var order = Shuffled(batch.Count, update, epoch);
            var parts = Math.Min(_options.MiniBatches, batch.Count);
            for (var part = 0; part < parts; part++)
            {
                var members = order[(part * batch.Count / parts)..((part + 1) * batch.Count / parts)];
                if (Step(members))
                {
                    _skippedInRow = 0;
                    continue;
                }

                skipped++;
                if (++_skippedInRow > _options.MaxSkippedSteps)
                {
                    throw new DivergedException(
                        _skippedInRow, prepared.Save(update, policyVersion, members, _kl.Factor),
                        Model.Parameters.Snapshot(policyOnly: false));
                }
            }
        }

        LastBusy = 1 - ((preparing.Elapsed + Model.Preparing - masks) / stepping.Elapsed);
        sums.Share(_reducer);
        _kl.Observe(prepared.ReferenceDivergence(), batch.Count);
        return sums.Means(
            norms / steps, prepared.ExplainedVariance(), prepared.Parity(policyVersion), policyVersion - batch.Min(t => t.OldestVersion),
            batch.Sum(t => (long)t.GeneratedTokens),
            health with
            {
                AdvantageMean = estimate.Mean,
                AdvantageDeviation = estimate.Deviation,
                Rewards = rewards.Parts,
                SkippedSteps = skipped,
                KlFactor = _options.KlTarget > 0 ? _kl.Factor : null,
            });

        IReadOnlyList<TokenScores> Score(TorchDecoder model, bool values) =>
            Scoring.Score(model, _layout, batch, _temperature, _options.MicroBatchTokens, values, _compute, _reducer);

        // One optimiser step; false when loss or gradient is not finite, and then nothing has moved.
        bool Step(int[] members)
        {
            var mine = Shards.Of([.. members.Select(i => batch[i].TurnTokens)], _reducer.Rank, _reducer.World).Select(k => members[k]);
            var turns = mine.SelectMany(i => Enumerable.Range(0, batch[i].Turns.Count).Select(j => new TurnReference(i, j)));
            var normaliser = prepared.Normaliser(members, _options);
            var own = new ObjectiveSums();
            var finite = true;
            preparing.Start();
            var passes = _layout.Split(batch, turns, _options.MicroBatchTokens);
            preparing.Stop();
            foreach (var pass in passes)
            {
                using var scope = NewDisposeScope();
                using var forward = new PolicyPass(Model, pass, _temperature, _compute);
                preparing.Start();
                var picked = prepared.Pick(pass, _options, Model.Parameters.Values.device);
                preparing.Stop();
                var terms = _objective.Of(
                    picked, forward.LogProbs, forward.Entropies, _estimator.NeedsCritic ? forward.Values : null, _kl.Factor);
                finite = terms.IsFinite(_estimator.NeedsCritic);
                if (!finite) break;
                forward.Backward(terms.Loss / normaliser);
                own.Add(terms);
            }

            if (!SharedTensors.All(finite, _reducer))
            {
                Optimiser.DropGradients();
                return false;
            }

            SharedTensors.Sum(Model.Parameters.Gradients, _reducer);
            var rate = _options.PolicyLearningRate(update);
            var taken = Optimiser.TryStep(
                group => group switch
                {
                    ParameterGroup.Value when !_estimator.NeedsCritic => null,
                    ParameterGroup.Value => new StepSettings(_options.ValueLearningRate, 0, _options.GradientClip),
                    _ when rate == 0 => null, // the critic catches up first; the policy's moments stay untouched too
                    ParameterGroup.PolicyMatrix => new StepSettings(rate, _options.WeightDecay, _options.GradientClip),
                    _ => new StepSettings(rate, 0, _options.GradientClip),
                },
                out var norm);
            if (!taken) return false;
            sums.Add(own);
            norms += norm;
            steps++;
            return true;
        }
    }

    /// <summary>What the environment paid, what divergence from the reference costs, and what is added for length and memory.</summary>
    private TokenRewards Rewards(PreparedBatch prepared)
    {
        var batch = prepared.Trajectories;
        var rewards = new TokenRewards(batch);
        if (prepared.Reference is { } reference && _options.KlRewardCoefficient > 0)
        {
            var weight = _options.KlRewardCoefficient * _kl.Factor;
            rewards.Add("kl", [.. prepared.Behaviour.Select((b, i) => b.Zip(reference[i], (p, q) =>
                -weight * (_options.KlRewardClamp ? Math.Max(0, p - q) : p - q)).ToArray())]);
        }

        if (_options.Overlong == OverlongEpisodes.Penalise)
            rewards.AddAtEnd("overlong", [.. batch.Select(t => t.EndedByLimit ? -_options.OverlongPenalty : 0)]);
        foreach (var shaper in _shapers)
        {
            rewards.Add(shaper.Name, shaper.Shape(batch, made =>
            {
                // What a shaper makes up need not hang together as an episode; only this layout takes every turn for itself.
                var scores = Scoring.Score(Model, new SegmentsLayout(), made, 1, _options.MicroBatchTokens, values: false);
                return [.. scores.Select(s => s.LogProbs)];
            }));
        }

        return rewards;
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
