// One forward pass of a model in training, and its backward. Keeps:
//  * whatever is recomputed instead of kept, log-probs, entropies, values and gradients are those of the plain pass to rounding;
//  * without an option asked for, not one operation differs from the plain pass;
//  * in chunks, no tensor of [tokens, vocabulary] exists, neither forward nor backward.
using Mem1.Model;
using TorchSharp;
using static TorchSharp.torch;

namespace Mem1.Learner;

/// <summary>
/// What a loss reads of one pass over generated tokens. Compute a scalar from <see cref="LogProbs"/>, <see cref="Entropies"/> and
/// <see cref="Values"/>, then call <see cref="Backward"/> with it, once. Not thread-safe.
/// </summary>
public sealed class PolicyPass : IDisposable
{
    private readonly TorchDecoder _model;
    private readonly CheckpointedForward? _checkpointed;
    private readonly Tensor _index;   // [N]: positions that predict
    private readonly Tensor _targets; // [N, 1]
    private readonly Tensor _selected; // [N, D]: carries the graph of the body, or is a leaf in chunks
    private readonly Tensor? _body;   // [N, D]: where the gradient of chunks goes on to
    private readonly Tensor? _all;    // [N, V]: all log-probs, when they go in one piece
    private readonly double _temperature;
    private readonly int _chunk;
    private Tensor? _entropies;
    private Tensor? _values;

    /// <summary>Runs a model forward over a pass. Make it inside a dispose scope: what backward needs ends with that.</summary>
    /// <param name="model">In training.</param>
    /// <param name="pass">Which tokens.</param>
    /// <param name="temperature">At which the sampler drew.</param>
    /// <param name="options">What is recomputed rather than kept.</param>
    public PolicyPass(TorchDecoder model, LayoutBatch pass, double temperature, ComputeOptions options)
    {
        (_model, _temperature) = (model, temperature);
        var device = model.Parameters.Values.device;
        _index = torch.tensor(pass.PredictionIndex, dtype: ScalarType.Int64, device: device);
        _targets = torch.tensor(pass.Targets, dtype: ScalarType.Int64, device: device).unsqueeze(1);
        Tensor hidden;
        if (options.GradientCheckpointing)
        {
            _checkpointed = model.ForwardCheckpointed(pass.Batch);
            hidden = _checkpointed.Output;
        }
        else
        {
            hidden = model.Forward(pass.Batch);
        }

        _selected = hidden.index_select(0, _index);
        _chunk = options.ChunkOf(model.Config.VocabularySize);
        if (pass.Targets.Length <= _chunk)
        {
            _all = Scoring.LogSoftmax(model, _selected, temperature);
            LogProbs = _all.gather(1, _targets).squeeze(1);
        }
        else
        {
            _body = _selected;
            _selected = _body.detach();
            (LogProbs, _entropies) = ForwardInChunks();
        }
    }

    /// <summary>Log-probs of the generated tokens at the sampling temperature, [N].</summary>
    public Tensor LogProbs { get; }

    /// <summary>Entropies of the distributions they were drawn from, [N], in nats.</summary>
    public Tensor Entropies => _entropies ??= PpoLoss.Entropy(_all!);

    /// <summary>Values of the states before them, [N]; null without a value head.</summary>
    public Tensor? Values => _values ??= _model.HasValueHead ? _model.Values(_selected) : null;

    /// <summary>Adds the gradient of a scalar to the model's.</summary>
    public void Backward(Tensor loss)
    {
        loss.backward();
        if (_body is not null)
        {
            using var scope = NewDisposeScope();
            autograd.backward(_body, BackwardInChunks());
        }

        _checkpointed?.Backward();
    }

    /// <inheritdoc/>
    public void Dispose() => _checkpointed?.Dispose();

    /// <summary>Log-probs of generated tokens without gradient, [N], in chunks where the options say so.</summary>
    internal static Tensor ScoreLogProbs(TorchDecoder model, Tensor selected, LayoutBatch pass, double temperature, ComputeOptions options)
    {
        var chunk = options.ChunkOf(model.Config.VocabularySize);
        if (pass.Targets.Length <= chunk) return Scoring.Chosen(Scoring.LogSoftmax(model, selected, temperature), pass);
        using var scope = NewDisposeScope();
        var targets = torch.tensor(pass.Targets, dtype: ScalarType.Int64, device: selected.device).unsqueeze(1);
        var parts = new List<Tensor>();
        for (long start = 0; start < selected.size(0); start += chunk)
        {
            using var inside = NewDisposeScope();
            var count = Math.Min(chunk, selected.size(0) - start);
            var all = Scoring.LogSoftmax(model, selected.narrow(0, start, count), temperature);
            parts.Add(all.gather(1, targets.narrow(0, start, count)).squeeze(1).MoveToOuterDisposeScope());
        }

        return torch.cat(parts).MoveToOuterDisposeScope();
    }

    private (Tensor LogProbs, Tensor Entropies) Head(Tensor hidden, Tensor targets)
    {
        var all = Scoring.LogSoftmax(_model, hidden, _temperature);
        return (all.gather(1, targets).squeeze(1), PpoLoss.Entropy(all));
    }

    /// <summary>Both as leaves: their gradients are read in backward.</summary>
    private (Tensor LogProbs, Tensor Entropies) ForwardInChunks()
    {
        using var scope = NewDisposeScope();
        List<Tensor> logProbs = [], entropies = [];
        using (no_grad())
        {
            foreach (var (hidden, targets) in Chunks())
            {
                using var inside = NewDisposeScope();
                var (p, h) = Head(hidden, targets);
                logProbs.Add(p.MoveToOuterDisposeScope());
                entropies.Add(h.MoveToOuterDisposeScope());
            }
        }

        return (torch.cat(logProbs).requires_grad_(true).MoveToOuterDisposeScope(),
            torch.cat(entropies).requires_grad_(true).MoveToOuterDisposeScope());
    }

    /// <summary>The gradient at the hidden states, [N, D]; that of the head's weights is added on the way.</summary>
    private Tensor BackwardInChunks()
    {
        using var scope = NewDisposeScope();
        var (logProbs, entropies) = (LogProbs.grad, _entropies!.grad);
        var gradients = new List<Tensor>();
        long start = 0;
        foreach (var (chunk, targets) in Chunks())
        {
            using var inside = NewDisposeScope();
            var count = chunk.size(0);
            var hidden = chunk.detach().requires_grad_(true);
            var (p, h) = Head(hidden, targets);
            List<Tensor> outputs = [], arrived = [];
            if (logProbs is not null)
            {
                outputs.Add(p);
                arrived.Add(logProbs.narrow(0, start, count));
            }

            // A loss without entropy bonus sends nothing there.
            if (entropies is not null)
            {
                outputs.Add(h);
                arrived.Add(entropies.narrow(0, start, count));
            }

            if (outputs.Count > 0) autograd.backward(outputs, arrived);
            gradients.Add((hidden.grad ?? torch.zeros_like(hidden)).MoveToOuterDisposeScope());
            start += count;
        }

        return torch.cat(gradients).MoveToOuterDisposeScope();
    }

    private IEnumerable<(Tensor Hidden, Tensor Targets)> Chunks()
    {
        var total = _selected.size(0);
        for (long start = 0; start < total; start += _chunk)
        {
            var count = Math.Min(_chunk, total - start);
            yield return (_selected.narrow(0, start, count), _targets.narrow(0, start, count));
        }
    }
}
