// The work that is timed: layout, forward, PPO loss, backward and optimiser step, as PpoTrainer does them for one mini-batch.
// Keeps: loss and optimiser are the product's; only where the hidden states come from differs between the two ways.
using System.Diagnostics;
using Mem1.Learner;
using Mem1.Model;
using TorchSharp;
using static TorchSharp.torch;

namespace Mem1.Cli.Bench;

/// <summary>How an update's hidden states are computed.</summary>
internal enum UpdateWay
{
    /// <summary>Turns as rows that share the prompt: what <c>mem1 train</c> does.</summary>
    Segments,
    /// <summary>One stitched sequence under a materialised mask.</summary>
    Dense,
    /// <summary>Every token once, each turn reading the one before: the carry layout.</summary>
    Carry,
    /// <summary>Every token once under the rule of the method's first release.</summary>
    Paper,
}

/// <summary>What one step saw before it moved the weights.</summary>
/// <param name="LogProbs">Of the generated tokens, in time order.</param>
/// <param name="Loss">Token mean.</param>
/// <param name="GradientNorm">Of the policy, before clipping.</param>
internal sealed record StepResult(float[] LogProbs, double Loss, double GradientNorm);

/// <summary>A model, an optimiser and a case to step on. Not thread-safe.</summary>
internal sealed class UpdateStep : IDisposable
{
    private readonly LearnerCase _case;
    private readonly UpdateWay _way;
    private readonly PpoOptions _options;
    private readonly ILayout _layout;
    private readonly float[] _oldLogProbs;
    private readonly TorchDecoder _model;
    private readonly FlatAdamW _optimiser;
    private readonly DenseStitchedPass? _dense;
    private readonly ComputeOptions _compute;

    public UpdateStep(
        DecoderConfig shape, LearnerCase learnerCase, UpdateWay way, PpoOptions options, ComputeOptions? compute = null)
    {
        _compute = compute ?? new ComputeOptions();
        (_case, _way, _options) = (learnerCase, way, options);
        _layout = ILayout.Of(way switch
        {
            UpdateWay.Carry => LayoutKind.Carry,
            UpdateWay.Paper => LayoutKind.Paper,
            _ => LayoutKind.Segments,
        });
        _oldLogProbs = [.. learnerCase.Trajectory.Turns.SelectMany(t => t.LogProbs)];
        _model = new TorchDecoder(shape, learnerCase.Weights, torch.CPU);
        _optimiser = new FlatAdamW(_model.Parameters, options.Beta1, options.Beta2);
        if (way == UpdateWay.Dense) _dense = new DenseStitchedPass(_model);
    }

    /// <summary>
    /// Settings of every way. The learning rate is so small that a hundred passes compute on the same numbers; an optimiser step costs the
    /// same at any rate.
    /// </summary>
    public static PpoOptions Options(int microBatchTokens, double learningRate = 1e-5) => new()
    {
        MicroBatchTokens = microBatchTokens,
        LearningRate = learningRate,
        ValueLearningRate = learningRate,
        ValueClip = 0.2,
        EntropyCoefficient = 0.003,
        WeightDecay = 0.01,
        GradientClip = 0.5,
    };

    /// <summary>
    /// Share of the last step's time that was not spent on preparing data (laying out passes, masks and per-token numbers), in [0, 1].
    /// </summary>
    public double Busy { get; private set; }

    /// <summary>One step.</summary>
    public StepResult Run()
    {
        var (all, preparing, masks) = (Stopwatch.StartNew(), new Stopwatch(), _model.Preparing);
        var logProbs = new float[_oldLogProbs.Length];
        double loss = 0;
        if (_dense is not null)
        {
            using var scope = NewDisposeScope();
            var sequence = StitchedSequence.Of(_case.Trajectory);
            var states = _dense.Predictions(sequence);
            var everyLogProb = nn.functional.log_softmax(_model.Logits(states), -1);
            var chosen = everyLogProb.gather(1, torch.tensor(sequence.Targets, dtype: ScalarType.Int64).unsqueeze(1)).squeeze(1);
            var mean = Mean(
                [.. Enumerable.Range(0, sequence.Targets.Length)], chosen, PpoLoss.Entropy(everyLogProb), _model.Values(states));
            mean.backward();
        }
        else
        {
            var turns = Enumerable.Range(0, _case.Trajectory.Turns.Count).Select(j => new TurnReference(0, j));
            preparing.Start();
            var passes = _layout.Split([_case.Trajectory], turns, _options.MicroBatchTokens);
            preparing.Stop();
            foreach (var pass in passes)
            {
                using var scope = NewDisposeScope();
                using var forward = new PolicyPass(_model, pass, temperature: 1, _compute);
                var tokens = pass.Turns
                    .SelectMany(t => Enumerable.Range(t.Turn * LearnerCase.GeneratedPerTurn, LearnerCase.GeneratedPerTurn)).ToArray();
                forward.Backward(Mean(tokens, forward.LogProbs, forward.Entropies, forward.Values!));
            }
        }

        var norm = _optimiser.Step(group => group switch
        {
            ParameterGroup.Value => new StepSettings(_options.ValueLearningRate, 0, _options.GradientClip),
            ParameterGroup.PolicyMatrix => new StepSettings(_options.LearningRate, _options.WeightDecay, _options.GradientClip),
            _ => new StepSettings(_options.LearningRate, 0, _options.GradientClip),
        });
        Busy = 1 - ((preparing.Elapsed + _model.Preparing - masks) / all.Elapsed);
        return new StepResult(logProbs, loss, norm);

        // The objective of some tokens of the trajectory, as its share of the mean over all.
        Tensor Mean(int[] tokens, Tensor chosen, Tensor entropies, Tensor values)
        {
            Tensor Pick(float[] of) => torch.tensor(Array.ConvertAll(tokens, t => of[t]), dtype: ScalarType.Float32);
            preparing.Start();
            var (old, advantages, oldValues, returns) = (Pick(_oldLogProbs), Pick(_case.Advantages), Pick(_case.OldValues), Pick(_case.Returns));
            preparing.Stop();
            var (policy, _) = PpoLoss.Policy(chosen, old, advantages, _options.Clip);
            var (value, _) = PpoLoss.Value(values, oldValues, returns, _options.ValueClip);
            var mean = (policy + value - (entropies.sum() * _options.EntropyCoefficient)) / (double)logProbs.Length;
            loss += mean.item<float>();
            var found = chosen.detach().data<float>().ToArray();
            for (var i = 0; i < tokens.Length; i++) logProbs[tokens[i]] = found[i];
            return mean;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _dense?.Dispose();
        _optimiser.Dispose();
        _model.Dispose();
    }
}
