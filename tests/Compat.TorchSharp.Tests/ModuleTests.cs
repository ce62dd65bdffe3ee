// Modules: what RegisterComponents finds, state dictionaries, conversions, embeddings and lists.
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Compat.TorchSharp.Tests;

internal sealed class TwoLayers : nn.Module<Tensor, Tensor>
{
    private readonly Linear first;
    private readonly Linear second;
    private readonly Parameter scale;
    private readonly Tensor offset;

    public TwoLayers(long width, long hidden)
        : base(nameof(TwoLayers))
    {
        first = nn.Linear(width, hidden);
        second = nn.Linear(hidden, width, hasBias: false);
        scale = new Parameter(ones(width));
        offset = zeros(width);
        RegisterComponents();
    }

    public override Tensor forward(Tensor input) => (second.call(nn.functional.silu(first.call(input))) * scale) + offset;
}

public sealed class ModuleTests : IDisposable
{
    private readonly DisposeScope _scope = NewDisposeScope();

    public void Dispose() => _scope.Dispose();

    [Fact]
    public void Components_are_found_by_reflection_over_fields()
    {
        using var m = new TwoLayers(4, 6);
        Assert.Equal(["scale", "first.weight", "first.bias", "second.weight"], m.named_parameters().Select(p => p.name));
        Assert.Equal(["offset"], m.named_buffers().Select(b => b.name));
        Assert.Equal(["scale", "offset", "first.weight", "first.bias", "second.weight"], m.state_dict().Keys);
        Assert.Equal(["first", "second"], m.named_children().Select(c => c.name));
        Assert.All(m.parameters(), p => Assert.True(p.requires_grad));
        m.eval();
        Assert.False(m.children().First().training);
    }

    [Fact]
    public void A_state_dictionary_is_live_and_loads()
    {
        using var a = new TwoLayers(4, 6);
        using var b = new TwoLayers(4, 6);
        Dictionary<string, Tensor> state = a.state_dict();
        (IList<string> missing, IList<string> unexpected) = b.load_state_dict(state);
        Assert.Empty(missing);
        Assert.Empty(unexpected);
        Assert.All(b.state_dict(), kv => Assert.True(kv.Value.Equals(state[kv.Key])));

        using (no_grad())
        {
            state["scale"].fill_(3);
        }
        Assert.Equal(3f, a.get_parameter("scale")!.data<float>()[0]);
        state.Remove("scale");
        Assert.Throws<InvalidOperationException>(() => b.load_state_dict(state));
        (missing, _) = b.load_state_dict(state, strict: false);
        Assert.Equal(["scale"], missing);
    }

    [Fact]
    public void Conversion_replaces_parameters_and_keeps_gradients()
    {
        using TwoLayers m = new TwoLayers(4, 6);
        Tensor x = ones(2, 4);
        m.call(x).sum().backward();
        Parameter before = m.get_parameter("first.weight")!;

        TwoLayers same = m.to(ScalarType.Float64);

        Assert.Same(m, same);
        Parameter after = m.get_parameter("first.weight")!;
        Assert.NotSame(before, after);
        Assert.True(before.IsInvalid);
        Assert.Equal(ScalarType.Float64, after.dtype);
        Assert.Equal(ScalarType.Float64, after.grad!.dtype);
        Assert.Equal(ScalarType.Float64, m.call(x.@double()).dtype);
        m.zero_grad();
        Assert.Null(m.get_parameter("scale")!.grad);
    }

    [Fact]
    public void A_parameter_takes_over_its_source()
    {
        Tensor source = ones(3);
        var p = new Parameter(source);
        Assert.True(source.IsInvalid);
        Assert.True(p.requires_grad);
        Assert.True(p.is_leaf);
        Assert.True(_scope.Contains(p));
    }

    [Fact]
    public void An_embedding_looks_rows_up_and_a_list_numbers_its_modules()
    {
        using Embedding e = nn.Embedding(5, 3);
        Tensor ids = tensor(new long[] { 4, 0, 4 });
        Tensor rows = e.call(ids);
        Assert.True(rows.Equals(e.weight.index_select(0, ids)));
        rows.sum().backward();
        Assert.Equal([1f, 0, 0, 0, 2], e.weight.grad!.mean([1]).data<float>().ToArray());

        using ModuleList<Linear> list = nn.ModuleList(nn.Linear(2, 2), nn.Linear(2, 2, hasBias: false));
        Assert.Equal(["0.weight", "0.bias", "1.weight"], list.named_parameters().Select(p => p.name));
        Assert.Equal(2, list.Count);
    }

    [Fact]
    public void Clipping_bounds_the_joint_norm()
    {
        var a = new Parameter(zeros(2));
        var b = new Parameter(zeros(1));
        a.grad = tensor(new float[] { 3, 0 });
        b.grad = tensor(new float[] { 4 });

        Assert.Equal(5, nn.utils.clip_grad_norm_([a, b], 1.0), 1e-6);
        Assert.Equal(0.6f, a.grad!.data<float>()[0], 1e-5f);
        Assert.Equal(0.8f, b.grad!.data<float>()[0], 1e-5f);
        Assert.Equal(1, nn.utils.clip_grad_norm_([a, b], 2.0), 1e-5);
        Assert.Equal(0.6f, a.grad!.data<float>()[0], 1e-5f);
    }
}
