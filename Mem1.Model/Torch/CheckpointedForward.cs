// Keeps: backward computes the very operations forward computed, so the gradient is that of the plain pass; only the inputs of the stages
// live in between, each until its stage has been done again.
using TorchSharp;
using static TorchSharp.torch;

namespace Mem1.Model;

/// <summary>
/// A forward pass in stages whose insides are thrown away and computed again in backward. Must be disposed; not thread-safe.
/// </summary>
public sealed class CheckpointedForward : IDisposable
{
    private readonly Func<Tensor> _first;
    private readonly IReadOnlyList<Func<Tensor, Tensor>> _stages;
    private readonly List<Tensor> _inputs = [];
    private readonly IReadOnlyList<Tensor> _constants;

    /// <summary>Runs the stages.</summary>
    /// <param name="first">Makes the first stage's input; done again in backward.</param>
    /// <param name="stages">At least one; must depend on nothing that changes until backward.</param>
    /// <param name="constants">Tensors the stages read; they end with this object.</param>
    internal CheckpointedForward(
        Func<Tensor> first, IReadOnlyList<Func<Tensor, Tensor>> stages, IReadOnlyList<Tensor> constants)
    {
        (_first, _stages, _constants) = (first, stages, constants);
        using var scope = NewDisposeScope();
        using (no_grad())
        {
            var x = first();
            foreach (var stage in stages)
            {
                _inputs.Add(x.DetachFromDisposeScope());
                x = stage(x);
            }

            Output = x.DetachFromDisposeScope();
        }

        Output.requires_grad_(true);
    }

    /// <summary>
    /// What the last stage gave, as a leaf: compute a loss from it, call backward on that, then <see cref="Backward"/>. Belongs to this
    /// object.
    /// </summary>
    public Tensor Output { get; }

    /// <summary>Takes the gradient that has arrived at <see cref="Output"/> on to the parameters. Once.</summary>
    /// <exception cref="InvalidOperationException">No gradient has arrived, or this was called before.</exception>
    public void Backward()
    {
        if (_inputs.Count == 0) throw new InvalidOperationException("The gradient was taken on already.");
        using var scope = NewDisposeScope();
        using var mode = enable_grad();
        var gradient = Output.grad ?? throw new InvalidOperationException("No gradient has arrived at the output: call backward on a loss first.");
        for (var stage = _stages.Count - 1; stage >= 0; stage--)
        {
            using var inside = NewDisposeScope();
            var input = _inputs[stage].detach().requires_grad_(true);
            autograd.backward(_stages[stage](input), gradient);
            _inputs[stage].Dispose();
            _inputs.RemoveAt(stage);
            gradient.Dispose();
            gradient = input.grad!.MoveToOuterDisposeScope();
        }

        // A frozen embedding takes no gradient.
        var first = _first();
        if (first.requires_grad) autograd.backward(first, gradient);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var input in _inputs) input.Dispose();
        _inputs.Clear();
        Output.Dispose();
        foreach (var constant in _constants) constant.Dispose();
    }
}
