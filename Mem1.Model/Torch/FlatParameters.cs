// Keeps: every parameter is a view into one flat buffer and its gradient a view into another, so that zeroing, clipping and the optimiser
// are a handful of operations whatever the number of tensors (torch-measured: half the cost of a loop over tensors at 1M parameters).
using Mem1.Model.Adapters;
using Mem1.Model.Checkpoints;
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

/// <summary>
/// All trained parameters of a model in one buffer, ordered by <see cref="ParameterGroup"/>, then by name. With an adapter, the model's own
/// tensors are constants beside it, without gradients, and the adapter's are trained in their place (the value head is trained always).
/// Not thread-safe.
/// </summary>
public sealed class FlatParameters : IDisposable
{
    private readonly Dictionary<string, Tensor> _views = new(StringComparer.Ordinal);
    private readonly Dictionary<string, Tensor> _frozen = new(StringComparer.Ordinal);
    private readonly List<(string Name, long[] Shape, long Start, long Count)> _layout = [];
    private readonly LoraOptions? _lora;

    /// <summary>Copies weights to a device as trainable parameters.</summary>
    /// <param name="weights">The model's.</param>
    /// <param name="device">Where they go.</param>
    /// <param name="adapter">Trained instead of the model's own tensors; null trains these.</param>
    public FlatParameters(ModelWeights weights, Device device, LoraAdapter? adapter = null)
    {
        _lora = adapter?.Options;
        bool IsFrozen(string name) => adapter is not null && !name.StartsWith(WeightLayout.ValueHeadPrefix, StringComparison.Ordinal);
        var own = adapter?.Tensors.Tensors ?? new Dictionary<string, WeightTensor>();
        var trained = weights.Tensors.Where(t => !IsFrozen(t.Key)).Concat(own).ToDictionary(StringComparer.Ordinal);
        var ordered = trained
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
        using var guard = no_grad();
        using var scope = NewDisposeScope();
        Values = torch.zeros([total], dtype: ScalarType.Float32, device: device).DetachFromDisposeScope();
        Gradients = torch.zeros_like(Values).DetachFromDisposeScope();
        foreach (var (name, shape, start, count) in _layout)
        {
            using (var copied = NewDisposeScope())
                Values.narrow(0, start, count).copy_(torch.tensor(trained[name].Data, dtype: ScalarType.Float32));
            var view = Values.narrow(0, start, count).view(shape).detach().requires_grad_(true);
            view.grad = Gradients.narrow(0, start, count).view(shape);
            _views.Add(name, view.DetachFromDisposeScope());
        }

        foreach (var (name, tensor) in weights.Tensors.Where(t => IsFrozen(t.Key)))
        {
            using var copied = NewDisposeScope();
            var constant = torch.tensor(tensor.Data, dtype: ScalarType.Float32, device: device).view([.. tensor.Shape]);
            _frozen.Add(name, constant.DetachFromDisposeScope());
        }
    }

    /// <summary>All trained values, [total], float32. Writing to it writes the parameters.</summary>
    public Tensor Values { get; }

    /// <summary>All gradients, [total], float32; backward adds to it.</summary>
    public Tensor Gradients { get; }

    /// <summary>One span per group, in order, covering the buffers.</summary>
    public IReadOnlyList<ParameterSpan> Spans { get; }

    /// <summary>
    /// A parameter as the decoder computes with it: a leaf of the autograd graph, a constant beside an adapter, or, where the adapter
    /// changes it, W + alpha/rank * B A, made anew at each call. Adding the product to the matrix instead of to its output costs
    /// rank * in * out per pass and makes the learner compute with the very weights that the sampler gets.
    /// </summary>
    /// <exception cref="KeyNotFoundException">No parameter has that name.</exception>
    public Tensor this[string name] => Find(name) ?? throw new KeyNotFoundException($"the model has no parameter {name}.");

    /// <summary>A parameter, or null when the model has none of that name.</summary>
    public Tensor? Find(string name)
    {
        if (!_frozen.TryGetValue(name, out var own)) return _views.GetValueOrDefault(name);
        return FactorsOf(name) is var (a, b) ? own.add(torch.matmul(b, a), alpha: _lora!.Scale()) : own;
    }

    /// <summary>A copy of the current values.</summary>
    /// <param name="policyOnly">
    /// What a sampler needs: without the value head, and with the adapter, if there is one, merged into the matrices. Otherwise the model's
    /// own tensors and the value head; the adapter is <see cref="SnapshotAdapter"/>.
    /// </param>
    public ModelWeights Snapshot(bool policyOnly)
    {
        var source = new Source(this, policyOnly);
        var tensors = new SortedDictionary<string, WeightTensor>(StringComparer.Ordinal);
        foreach (var (name, shape) in source.Shapes) tensors.Add(name, new WeightTensor(shape, source.Read(name)));
        return new ModelWeights(tensors);
    }

    /// <summary>
    /// What <see cref="Snapshot"/> with <c>policyOnly</c> copies, each tensor copied when it is read: a second copy of a large model, whole,
    /// may be too much. It is of use until a parameter changes.
    /// </summary>
    public IWeightSource Policy() => new Source(this, policyOnly: true);

    /// <summary>A copy of the adapter's current values; null without one.</summary>
    public LoraAdapter? SnapshotAdapter()
    {
        if (_lora is null) return null;
        var tensors = new SortedDictionary<string, WeightTensor>(StringComparer.Ordinal);
        using var guard = no_grad();
        foreach (var (name, _, _, _) in _layout.Where(l => IsFactor(l.Name))) tensors.Add(name, Managed(_views[name]));
        return new LoraAdapter(_lora, new ModelWeights(tensors));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var view in _views.Values) view.Dispose();
        foreach (var constant in _frozen.Values) constant.Dispose();
        _views.Clear();
        _frozen.Clear();
        Values.Dispose();
        Gradients.Dispose();
    }

    private static WeightTensor Managed(Tensor tensor) => new([.. tensor.shape], Copied(tensor));

    private static float[] Copied(Tensor tensor)
    {
        using var scope = NewDisposeScope();
        return tensor.detach().cpu().contiguous().data<float>().ToArray();
    }

    private (Tensor A, Tensor B)? FactorsOf(string name)
    {
        if (_lora is null || !LoraAdapter.IsTarget(name, _lora)) return null;
        var module = name[..^".weight".Length];
        return (_views[module + LoraAdapter.SuffixA], _views[module + LoraAdapter.SuffixB]);
    }

    private static bool IsFactor(string name) =>
        name.EndsWith(LoraAdapter.SuffixA, StringComparison.Ordinal) || name.EndsWith(LoraAdapter.SuffixB, StringComparison.Ordinal);

    private static ParameterGroup GroupOf(string name, int dimensions) =>
        name.StartsWith("value_head.", StringComparison.Ordinal) ? ParameterGroup.Value
        : dimensions == 2 && !name.EndsWith("_conv.weight", StringComparison.Ordinal) ? ParameterGroup.PolicyMatrix
        : ParameterGroup.PolicyVector;

    private sealed class Source(FlatParameters parameters, bool policyOnly) : IWeightSource
    {
        public IReadOnlyDictionary<string, IReadOnlyList<long>> Shapes { get; } = parameters._frozen
            .Select(f => (Name: f.Key, Shape: f.Value.shape))
            .Concat(parameters._layout.Select(l => (l.Name, l.Shape)))
            .Where(t => !IsFactor(t.Name) && !(policyOnly && t.Name.StartsWith(WeightLayout.ValueHeadPrefix, StringComparison.Ordinal)))
            .ToDictionary(t => t.Name, t => (IReadOnlyList<long>)t.Shape, StringComparer.Ordinal);

        public float[] Read(string name)
        {
            using var guard = no_grad();
            using var scope = NewDisposeScope();
            return Copied(policyOnly ? parameters[name] : parameters._frozen.GetValueOrDefault(name) ?? parameters._views[name]);
        }
    }
}
