// Keeps: cross-entropy on what the model wrote, nothing else; the batch of step s is a function of (data, options, seed, s) alone, so that
// a training that was cut goes on as if it had not been.
using Mem1.Model;
using static TorchSharp.torch;

namespace Mem1.Learner;

/// <summary>What one step did.</summary>
/// <param name="Step">Steps done, from 1.</param>
/// <param name="Steps">Steps of the whole training.</param>
/// <param name="Epoch">The pass over the data, from 1.</param>
/// <param name="Loss">Mean cross-entropy per token the model wrote, in nats, before the step.</param>
/// <param name="Tokens">Tokens learnt.</param>
/// <param name="PaddedTokens">Tokens computed.</param>
/// <param name="LearningRate">Of this step.</param>
/// <param name="GradientNorm">Before clipping.</param>
public readonly record struct SftStep(
    long Step, long Steps, int Epoch, double Loss, long Tokens, long PaddedTokens, double LearningRate, double GradientNorm);

/// <summary>Supervised fine-tuning. Takes ownership of the model. Not thread-safe.</summary>
public sealed class SftTrainer : IDisposable
{
    // Batches are cut from a pool of this many after sorting by length: enough to pad little, few enough to stay mixed.
    private const int PoolBatches = 16;

    // "SFT": this purpose's own random stream.
    private const ulong Purpose = 0x534654;

    private readonly IReadOnlyList<Trajectory> _examples;
    private readonly TurnReference[] _turns;
    private readonly SftOptions _options;
    private readonly ILayout _layout = new SegmentsLayout();
    private readonly ulong _seed;
    private (long Epoch, TurnReference[][] Batches) _epoch = (-1, []);

    /// <summary>Prepares a training; nothing is computed yet.</summary>
    /// <param name="model">Its value head, if it has one, is left alone.</param>
    /// <param name="examples">Not empty.</param>
    /// <param name="options">Validated.</param>
    /// <param name="seed">Of the order of the data.</param>
    public SftTrainer(TorchDecoder model, IReadOnlyList<Trajectory> examples, SftOptions options, ulong seed)
    {
        ArgumentNullException.ThrowIfNull(examples);
        if (examples.Count == 0) throw new ArgumentException("There is nothing to learn from.", nameof(examples));
        (Model, _examples, _options, _seed) = (model, examples, options, seed);
        _turns = [.. Scoring.AllTurns(examples)];
        Optimiser = new FlatAdamW(model.Parameters, options.Beta1, options.Beta2);
        StepsPerEpoch = (_turns.Length + options.BatchTurns - 1) / options.BatchTurns;
        Steps = StepsPerEpoch * options.Epochs;
    }

    /// <summary>The model in training.</summary>
    public TorchDecoder Model { get; }

    /// <summary>Its optimiser, for checkpoints.</summary>
    public FlatAdamW Optimiser { get; }

    /// <summary>Steps of a pass over the data.</summary>
    public long StepsPerEpoch { get; }

    /// <summary>Steps of the whole training.</summary>
    public long Steps { get; }

    /// <summary>Tokens the model wrote, over all examples.</summary>
    public long Tokens => _examples.Sum(e => (long)e.GeneratedTokens);

    /// <summary>Takes one step.</summary>
    /// <param name="step">Steps done before, from 0.</param>
    public SftStep Step(long step)
    {
        var (epoch, at) = Math.DivRem(step, StepsPerEpoch);
        if (_epoch.Epoch != epoch) _epoch = (epoch, Batches(epoch));
        var turns = _epoch.Batches[at];
        long count = turns.Sum(t => (long)_examples[t.Trajectory].Turns[t.Turn].Generated.Length);
        double loss = 0;
        long padded = 0;
        foreach (var batch in _layout.Split(_examples, turns, _options.MicroBatchTokens))
        {
            using var scope = NewDisposeScope();
            using var pass = new PolicyPass(Model, batch, temperature: 1.0, _options.Compute);
            var sum = -pass.LogProbs.sum();
            pass.Backward(sum / (double)count);
            loss += sum.item<float>();
            padded += batch.PaddedTokens;
        }

        var rate = _options.LearningRateAt(step, Steps);
        var norm = Optimiser.Step(group => group switch
        {
            ParameterGroup.Value => null,
            ParameterGroup.PolicyMatrix => new StepSettings(rate, _options.WeightDecay, _options.GradientClip),
            _ => new StepSettings(rate, 0, _options.GradientClip),
        });
        return new SftStep(step + 1, Steps, (int)epoch + 1, loss / count, count, padded, rate, norm);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Optimiser.Dispose();
        Model.Dispose();
    }

    /// <summary>The batches of a pass over the data: every turn once, of like length within a pool, in random order.</summary>
    private TurnReference[][] Batches(long epoch)
    {
        var random = Seeds.Generator(_seed, Purpose, (ulong)epoch);
        TurnReference[] order = [.. _turns];
        random.Shuffle(order);
        int Length(TurnReference t) => _examples[t.Trajectory].Prompt.Length + _examples[t.Trajectory].Turns[t.Turn].Context.Length
            + _examples[t.Trajectory].Turns[t.Turn].Generated.Length;
        // Whole batches first and what is left last: a short batch in the middle would move every later step.
        var batches = new List<TurnReference[]>();
        foreach (var pool in order.Chunk(PoolBatches * _options.BatchTurns))
        {
            var cut = pool.OrderBy(Length).Chunk(_options.BatchTurns).ToArray();
            random.Shuffle(cut);
            batches.AddRange(cut);
        }

        return [.. batches];
    }
}
