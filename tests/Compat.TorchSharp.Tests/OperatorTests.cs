// The main operators against values worked out by hand.
using TorchSharp;
using static TorchSharp.torch;

namespace Compat.TorchSharp.Tests;

public sealed class OperatorTests : IDisposable
{
    private readonly DisposeScope _scope = NewDisposeScope();

    public void Dispose() => _scope.Dispose();

    [Fact]
    public void Element_types_follow_the_managed_type()
    {
        Assert.Equal(ScalarType.Float64, tensor(1.5).dtype);
        Assert.Equal(ScalarType.Float32, tensor(1.5f).dtype);
        Assert.Equal(ScalarType.Int32, tensor(3).dtype);
        Assert.Equal(ScalarType.Int64, tensor(3L).dtype);
        Assert.Equal(ScalarType.Bool, tensor(true).dtype);
        Assert.Equal(ScalarType.Int64, arange(5).dtype);
        Assert.Equal(ScalarType.Float32, arange(0.0, 1.0, 0.25).dtype);
        Assert.Equal(ScalarType.Float32, zeros(2, 3).dtype);
        Assert.Equal(ScalarType.Int64, full(new long[] { 2 }, 7).dtype);
        Assert.Equal(ScalarType.Int64, randint(0, 9, new long[] { 4 }).dtype);
    }

    [Fact]
    public void Numbers_beside_tensors_keep_the_tensors_type_and_value()
    {
        Tensor x = tensor(new float[] { 1, 2, 4 });
        Equal([2.5f, 3.5f, 5.5f], x + 1.5);
        Equal([0.5f, -0.5f, -2.5f], 1.5f - x);
        Equal([8f, 4f, 2f], 8 / x);
        Equal([0.1f, 0.2f, 0.4f], x * 0.1);
        Assert.Equal(ScalarType.Float32, (x * 0.1).dtype);

        Tensor n = tensor(new long[] { 7, 8 });
        Assert.Equal(ScalarType.Int64, (n + 1).dtype);
        Assert.Equal(ScalarType.Float32, (n + 0.5).dtype);
        Assert.Equal([7.5f, 8.5f], (n + 0.5).data<float>().ToArray());
        Assert.Equal([1L, 2L], (n % 6).data<long>().ToArray());

        Tensor h = tensor(new float[] { 1, 3 }).bfloat16();
        Assert.Equal(ScalarType.BFloat16, (h * 2.5).dtype);
        Equal([2.5f, 7.5f], (h * 2.5).@float());
    }

    [Fact]
    public void The_same_number_stays_right_across_types_and_modes()
    {
        Tensor x = ones(2);
        using (inference_mode())
        {
            Equal([3f, 3f], ones(2) * 3.0);
        }
        Tensor p = ones(2).requires_grad_();
        (p * 3.0).sum().backward();
        Equal([3f, 3f], p.grad!);
        Assert.Equal([3.0, 3.0], (x.@double() * 3.0).data<double>().ToArray());
        Equal([4f, 4f], x + 3.0);
    }

    [Fact]
    public void Shapes()
    {
        Tensor x = arange(24).view(2, 3, 4);
        Assert.Equal([2L, 3, 4], x.shape);
        Assert.Equal(4, x.size(-1));
        Assert.Equal([12L, 4, 1], x.stride());
        Assert.Equal([4L, 3, 2], x.permute(2, 1, 0).shape);
        Assert.False(x.transpose(1, 2).is_contiguous());
        Assert.Equal([2L, 12], x.flatten(1).shape);
        Assert.Equal([2L, 1, 3, 4], x.unsqueeze(1).shape);
        Assert.Equal([2L, 3, 4], x.unsqueeze(1).squeeze(1).shape);
        Assert.Equal([5L, 2, 3, 4], x.unsqueeze(0).expand(5, -1, -1, -1).shape);
        Assert.Equal([2L, 6, 4], x.repeat_interleave(2, dim: 1).shape);
        Assert.Equal([4L, 3, 8], x.repeat(2, 1, 2).shape);
        Assert.Equal([1L, 2, 5, 6, 9, 10], x[0].narrow(1, 1, 2).flatten().data<long>().ToArray());
        Assert.Equal(3, x.unbind(1).Length);
        Assert.Equal([1L, 2], x.split([1, 2], dim: 1).Select(t => t.size(1)));
        Assert.Equal([2L, 3, 4], cat([x[0], x[1]], 0).view(2, 3, 4).shape);
        Assert.Equal([2L, 2, 3, 4], stack([x, x], 1).transpose(0, 1).shape);
        Assert.Equal([2L, 3, 4], x.unflatten(-1, 2, 2).flatten(2).shape);
    }

    [Fact]
    public void Indexing_gives_views_and_tensors_give_copies()
    {
        Tensor x = arange(12).view(3, 4);
        Assert.Equal(6, x[1, 2].item<long>());
        Assert.Equal([4L, 5, 6, 7], x[1].data<long>().ToArray());
        Assert.Equal([1L, 5, 9], x[TensorIndex.Colon, 1].data<long>().ToArray());
        Assert.Equal([3L, 7, 11], x[TensorIndex.Ellipsis, -1].data<long>().ToArray());
        Assert.Equal([1L, 2, 5, 6], x[..2, 1..3].contiguous().data<long>().ToArray());
        Assert.Equal([1L, 2, 5, 6], x[..2, 1..3].data<long>().ToArray());
        Assert.Equal([1L, 3, 4], x[TensorIndex.None].shape);
        Assert.Equal([8L, 9, 10, 11, 0, 1, 2, 3], x[tensor(new long[] { 2, 0 })].data<long>().ToArray());
        Assert.Equal([7L, 8, 9, 10, 11], x[x > 6].data<long>().ToArray());
        Assert.Equal([10L, 2], x[tensor(new long[] { 2, 0 }), tensor(new long[] { 2, 2 })].data<long>().ToArray());
        Assert.Equal([9L, 1], x[TensorIndex.Tensor(tensor(new long[] { 2, 0 })), TensorIndex.Single(1)].data<long>().ToArray());

        x[0, 1] = tensor(100L);
        x[TensorIndex.Slice(1), 0] = tensor(-1L);
        x[tensor(new long[] { 0 })] = x[tensor(new long[] { 0 })] + 1;
        Assert.Equal([1L, 101, 3, 4, -1, 5, 6, 7, -1, 9, 10, 11], x.data<long>().ToArray());
        x[1].zero_();
        Assert.Equal([0L, 0, 0, 0], x[1].data<long>().ToArray());
    }

    [Fact]
    public void Gather_scatter_and_friends()
    {
        Tensor x = tensor(new float[] { 1, 2, 3, 4, 5, 6 }, [2, 3]);
        Equal([3f, 4f], x.gather(1, tensor(new long[] { 2, 0 }, [2, 1])).squeeze(1));
        Equal([4f, 5, 6, 1, 2, 3], x.index_select(0, tensor(new long[] { 1, 0 })));
        Equal([0f, 3, 0, 0, 7], zeros(5).scatter_add_(0, tensor(new long[] { 1, 4, 1 }), tensor(new float[] { 1, 7, 2 })));
        Equal([1f, 0, 2], zeros(3).index_copy_(0, tensor(new long[] { 0, 2 }), tensor(new float[] { 1, 2 })));
        Equal([2f, 0, 4], zeros(3).index_add_(0, tensor(new long[] { 0, 2 }), tensor(new float[] { 1, 2 }), 2));
        Equal([1f, -9, 3, 4, -9, 6], x.masked_fill(tensor(new[] { false, true, false }), -9));
        Equal([1f, 0, 3], where(tensor(new[] { true, false, true }), x[0], zeros(3)));
        Equal([1f, 0, 0, 4, 5, 0], x.tril());
        (Tensor values, Tensor indices) = x.topk(2);
        Equal([3f, 2, 6, 5], values);
        Assert.Equal([2L, 1, 2, 1], indices.data<long>().ToArray());
        Equal([0f, 0, 1], zeros(3).index_put_(tensor(1f), [tensor(new long[] { 2 })]));
        Tensor places = searchsorted(tensor(new float[] { 1, 2, 3 }), tensor(new float[] { 0.5f, 2.5f, 9 }));
        Assert.Equal([0L, 2, 3], places.data<long>().ToArray());
    }

    [Fact]
    public void Reductions()
    {
        Tensor x = tensor(new float[] { 1, 2, 3, 4, 5, 9 }, [2, 3]);
        Assert.Equal(24f, x.sum().item<float>());
        Equal([6f, 18], x.sum(1));
        Equal([2f, 6], x.mean([1]));
        Assert.Equal([2L, 1], x.mean([1], keepdim: true).shape);
        Equal([1f, 7], x.var(1));
        Equal([2f / 3, 14f / 3], x.var(1, unbiased: false));
        Assert.Equal(MathF.Sqrt(8), x.std().item<float>(), 1e-6f);
        Equal([3f, 9], x.max(1).values);
        Assert.Equal([2L, 2], x.argmax(1).data<long>().ToArray());
        Equal([1f, 3, 6, 4, 9, 18], x.cumsum(1));
        Assert.Equal(MathF.Sqrt(1 + 4 + 9 + 16 + 25 + 81), x.norm().item<float>(), 1e-5f);
        Assert.True((x > 0).all().item<bool>());
        Assert.False((x > 9).any().item<bool>());
        Assert.Equal(MathF.Log(MathF.Exp(1) + MathF.Exp(2) + MathF.Exp(3)), x[0].logsumexp(0).item<float>(), 1e-6f);
        Equal([4f, 5, 9], x.amax(0));
    }

    [Fact]
    public void Activations_and_losses()
    {
        Tensor x = tensor(new float[] { -1, 0, 2 });
        float Silu(float v) => v / (1 + MathF.Exp(-v));
        Equal([Silu(-1), 0, Silu(2)], nn.functional.silu(x));
        Equal([0f, 0, 2], nn.functional.relu(x));
        float z = MathF.Exp(-1) + 1 + MathF.Exp(2);
        Equal([MathF.Exp(-1) / z, 1 / z, MathF.Exp(2) / z], x.softmax(-1));
        Equal([-1 - MathF.Log(z), -MathF.Log(z), 2 - MathF.Log(z)], nn.functional.log_softmax(x, -1));
        Equal([MathF.Log(z) - 2], nn.functional.cross_entropy(x.unsqueeze(0), tensor(new long[] { 2 })).view(1));
        Equal([0f, 0, 1], nn.functional.one_hot(tensor(2L), 3).@float());
        Equal([0f, 0, -1, 0, 2], nn.functional.pad(x, [2, 0]));
        Equal([-0.5f, 0, 1], x.clamp(-0.5, 1));
        Equal([1f, 0, 4], x.pow(2));
        Equal([1f, 0, 4], x.square());
        Equal([1 / MathF.Sqrt(2)], tensor(new float[] { 2 }).rsqrt());
        Equal([1f, 5, 13], linearOf(x));

        static Tensor linearOf(Tensor x)
        {
            Tensor w = tensor(new float[] { 0, 1, 2, 3, 4, 5, 1, 1, 7 }, [3, 3]);
            return nn.functional.linear(x, w, tensor(new float[] { -3, -2, 0 }));
        }
    }

    [Fact]
    public void A_causal_depthwise_convolution()
    {
        Tensor x = tensor(new float[] { 1, 2, 3, 10, 20, 30 }, [1, 2, 3]);
        Tensor w = tensor(new float[] { 0.5f, 1, 2, 0 }, [2, 1, 2]);

        Tensor y = nn.functional.conv1d(nn.functional.pad(x, [1, 0]), w, groups: 2);

        Equal([1f, 2.5f, 4, 0, 20, 40], y);
    }

    [Fact]
    public void Attention_equals_its_definition_and_a_causal_mask_hides_the_future()
    {
        manual_seed(3);
        Tensor q = randn(1, 2, 4, 8), k = randn(1, 2, 4, 8), v = randn(1, 2, 4, 8);
        Tensor mask = ones([4, 4], ScalarType.Bool).tril();
        Tensor weights = (q.matmul(k.transpose(-2, -1)) / Math.Sqrt(8)).masked_fill(~mask, float.NegativeInfinity).softmax(-1);
        Tensor expected = weights.matmul(v);

        Assert.True(nn.functional.scaled_dot_product_attention(q, k, v, is_casual: true).allclose(expected, 1e-5, 1e-6));
        Assert.True(nn.functional.scaled_dot_product_attention(q, k, v, attn_mask: mask).allclose(expected, 1e-5, 1e-6));

        Tensor changed = k.clone();
        changed[TensorIndex.Ellipsis, 3, TensorIndex.Colon] = tensor(9f);
        Tensor other = nn.functional.scaled_dot_product_attention(q, changed, v, is_casual: true);
        Tensor past = expected[TensorIndex.Ellipsis, ..3, TensorIndex.Colon];
        Assert.True(other[TensorIndex.Ellipsis, ..3, TensorIndex.Colon].allclose(past, 1e-5, 1e-6));
        Assert.False(other.allclose(expected));
    }

    [Fact]
    public void Random_numbers_repeat_with_the_seed_and_generators_are_independent()
    {
        manual_seed(7);
        float[] a = randn(5).data<float>().ToArray();
        manual_seed(7);
        Assert.Equal(a, randn(5).data<float>().ToArray());

        using var g = new Generator(11);
        Tensor state = g.get_state();
        float[] b = rand(4, generator: g).data<float>().ToArray();
        g.set_state(state);
        Assert.Equal(b, rand(4, generator: g).data<float>().ToArray());
        Tensor draws = multinomial(tensor(new float[] { 0, 0, 1 }), 5, replacement: true, generator: g);
        Assert.Equal([2L, 2, 2, 2, 2], draws.data<long>().ToArray());
        Tensor many = empty(10000).normal_(1, 2, g);
        Assert.Equal(1, many.mean().item<float>(), 0.1);
        Assert.Equal(2, many.std().item<float>(), 0.1);
    }

    [Fact]
    public void Data_goes_in_and_out()
    {
        var source = new float[] { 1, 2, 3, 4 };
        Tensor copy = tensor(source, [2, 2]);
        Tensor shared = from_array(source);
        source[0] = 9;
        Assert.Equal(1f, copy[0, 0].item<float>());
        Assert.Equal(9f, shared[0].item<float>());
        shared[1] = tensor(8f);
        Assert.Equal(8f, source[1]);

        Assert.Equal([1f, 3, 2, 4], copy.t().data<float>().ToArray());
        Assert.Equal(16, copy.bytes.Length);
        Assert.Equal(2f, BitConverter.ToSingle(copy.bytes[4..8]));
        var buffer = new float[4];
        copy.data<float>().CopyTo(buffer.AsSpan());
        Assert.Equal([1f, 2, 3, 4], buffer);
        copy.bytes = new byte[16];
        Equal([0f, 0, 0, 0], copy);
        Assert.Throws<ArgumentException>(() => copy.item<float>());
        Assert.Throws<ArgumentException>(() => tensor(1f).item<double>());
        Assert.Equal(2.5, tensor(2.5f).ToDouble());
        Assert.Equal(1.5f, tensor(1.5f).bfloat16().item<BFloat16>().ToSingle());
        Assert.Equal(3, (int)tensor(3.7f));
        Assert.Equal([1f, 2, 3], tensor(new float[,] { { 1, 2, 3 } }).data<float>().ToArray());
    }

    [Fact]
    public void Conversion_always_gives_a_wrapper_of_its_own()
    {
        Tensor x = ones(2);
        Tensor same = x.to(CPU);
        Assert.NotSame(x, same);
        same.fill_(5);
        Equal([5f, 5], x);
        x.to(ScalarType.Float32, copy: true).fill_(1);
        Equal([5f, 5], x);
        _ = x.to(ScalarType.Float64, disposeAfter: true);
        Assert.True(x.IsInvalid);
    }

    private static void Equal(float[] expected, Tensor actual)
    {
        float[] got = actual.data<float>().ToArray();
        Assert.Equal(expected.Length, got.Length);
        for (int k = 0; k < got.Length; k++)
        {
            float allowed = 1e-5f * (1 + MathF.Abs(expected[k]));
            Assert.True(MathF.Abs(expected[k] - got[k]) <= allowed, $"element {k}: expected {expected[k]}, got {got[k]}");
        }
    }
}
