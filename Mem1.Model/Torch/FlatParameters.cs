// Keeps: every parameter is a view into one flat buffer and its gradient a view into another, so that zeroing, clipping and the optimiser
// are a handful of operations whatever the number of tensors (torch-measured: half the cost of a loop over tensors at 1M parameters).
using TorchSharp;
using static TorchSharp.torch;

namespace Mem1.Model;

/// <summary>Which optimiser settings a parameter falls under.</summary>
public enum ParameterGroup
{
    /// <summary>Matrices of the policy: weight decay applies.</summary>
    PolicyMatrix,
    /// <summary>Norms, biases and convolutions of the policy: no weight decay.</summary>
    PolicyVector,
    /// <summary>The value head: its own learning rate.</summary>
    Value,
}

/// <summary>One contiguous stretch of the flat buffers.</summary>
/// <param name="Group">What lies in it.</param>
/// <param name="Start">First element.</param>
/// <param name="Length">Number of elements; may be 0.</param>
public readonly record struct ParameterSpan(ParameterGroup Group, long Start, long Length);

/// <summary>All parameters of a model in one buffer, ordered by <see cref="ParameterGroup"/>, then by name. Not thread-safe.</summary>
public sealed class FlatParameters : IDisposable
{
    private readonly Dictionary<string, Tensor> _views = new(StringComparer.Ordinal);
    private readonly List<(string Name, long[] Shape, long Start, long Count)> _layout = [];

    /// <summary>Copies weights to a device as trainable parameters.</summary>
    public FlatParameters(ModelWeights weights, Device device)
    {
        var ordered = weights.Tensors
            .Select(t => (t.Key, t.Value, Group: GroupOf(t.Key, t.Value.Shape.Count)))
            .OrderBy(t => t.Group).ThenBy(t => t.Key, StringComparer.Ordinal).ToList();
        var spans = new List<ParameterSpan>();
        long total = 0;
        foreach (var group in Enum.GetValues<ParameterGroup>())
        {
            var start = total;
            foreach (var (name, tensor, _) in ordered.Where(t => t.Group == group))
            {
                _layout.Add((name, [.. tensor.Shape], total, tensor.Data.LongLength));
                total += tensor.Data.LongLength;
            }

            spans.Add(new ParameterSpan(group, start, total - start));
        }

        Spans = spans;
        var all = new float[total];
        foreach (var (name, _, start, _) in _layout) weights.Tensors[name].Data.CopyTo(all.AsSpan(checked((int)start)));
        using (var scope = NewDisposeScope())
        {
            Values = torch.tensor(all, dtype: ScalarType.Float32, device: device).DetachFromDisposeScope();
            Gradients = torch.zeros_like(Values).DetachFromDisposeScope();
            foreach (var (name, shape, start, count) in _layout)
            {
                var view = Values.narrow(0, start, count).view(shape).detach().requires_grad_(true);
                view.grad = Gradients.narrow(0, start, count).view(shape);
                _views.Add(name, view.DetachFromDisposeScope());
            }
        }
    }

    /// <summary>All values, [total], float32. Writing to it writes the parameters.</summary>
    public Tensor Values { get; }

    /// <summary>All gradients, [total], float32; backward adds to it.</summary>
    public Tensor Gradients { get; }

    /// <summary>One span per group, in order, covering the buffers.</summary>
    public IReadOnlyList<ParameterSpan> Spans { get; }

    /// <summary>A parameter as a leaf of the autograd graph.</summary>
    /// <exception cref="KeyNotFoundException">No parameter has that name.</exception>
    public Tensor this[string name] => _views[name];

    /// <summary>A parameter, or null when the model has none of that name.</summary>
    public Tensor? Find(string name) => _views.GetValueOrDefault(name);

    /// <summary>A copy of the current values.</summary>
    /// <param name="policyOnly">Leaves the value head out: what a sampler needs.</param>
    public ModelWeights Snapshot(bool policyOnly)
    {
        float[] all;
        using (var scope = NewDisposeScope()) all = Values.cpu().data<float>().ToArray();
        var tensors = new SortedDictionary<string, WeightTensor>(StringComparer.Ordinal);
        foreach (var (name, shape, start, count) in _layout)
        {
            if (policyOnly && GroupOf(name, shape.Length) == ParameterGroup.Value) continue;
            tensors.Add(name, new WeightTensor(shape, all.AsSpan((int)start, (int)count).ToArray()));
        }

        return new ModelWeights(tensors);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var view in _views.Values) view.Dispose();
        _views.Clear();
        Values.Dispose();
        Gradients.Dispose();
    }

    private static ParameterGroup GroupOf(string name, int dimensions) =>
        name.StartsWith("value_head.", StringComparison.Ordinal) ? ParameterGroup.Value
        : dimensions == 2 && !name.EndsWith("_conv.weight", StringComparison.Ordinal) ? ParameterGroup.PolicyMatrix
        : ParameterGroup.PolicyVector;
}
