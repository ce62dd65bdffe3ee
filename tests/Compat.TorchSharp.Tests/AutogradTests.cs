// Gradients by hand and against finite differences; grad mode; errors.
using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;

namespace Compat.TorchSharp.Tests;

public sealed class AutogradTests : IDisposable
{
    private readonly DisposeScope _scope = NewDisposeScope();

    public void Dispose() => _scope.Dispose();

    [Fact]
    public void A_matrix_product_has_the_gradient_worked_out_by_hand()
    {
        Tensor a = tensor(new float[] { 1, 2, 3, 4 }, [2, 2], requires_grad: true);

        Tensor loss = ((a * 2.0) + 1).matmul(a.transpose(0, 1)).sum();
        loss.backward();

        // The sum over i, j, k of (2 a_ik + 1) a_jk, by a_pk: 2 s_k + 2 s_k + 2 with s_k the sum of column k.
        Assert.Equal(124f, loss.item<float>());
        Assert.Equal([18f, 26f, 18f, 26f], a.grad!.data<float>().ToArray());
    }

    public static TheoryData<string> Functions => new(Cases.Keys);

    // Each maps a [3, 4] float64 tensor to a scalar through operators that training uses.
    private static readonly Dictionary<string, Func<Tensor, Tensor>> Cases = new()
    {
        ["rms norm"] = x => ((x * (x.square().mean([-1], keepdim: true) + 1e-6).rsqrt()) * Weights()).sum(),
        ["softmax"] = x => (x.softmax(-1) * Weights()).sum(),
        ["log softmax gather"] = x => x.log_softmax(-1).gather(1, tensor(new long[] { 1, 3, 0 }, [3, 1])).sum(),
        ["silu"] = x => (nn.functional.silu(x) * Weights()).sum(),
        ["index select"] = x => (x.index_select(0, tensor(new long[] { 2, 2, 0 })) * Weights()).sum(),
        ["clamped ratio"] = x => minimum(x.exp() * 0.7, x.exp().clamp(0.8, 1.2) * 0.9).mean(),
        ["attention"] = x => (nn.functional.scaled_dot_product_attention(
            x.view(1, 3, 4), x.view(1, 3, 4) * 0.5, x.view(1, 3, 4) + 1, is_casual: true).view(3, 4) * Weights()).sum(),
        ["convolution"] = x =>
        {
            Tensor kernel = x[TensorIndex.Colon, ..2].unsqueeze(1);
            return (nn.functional.conv1d(nn.functional.pad(x.unsqueeze(0), [1, 0]), kernel, groups: 3).view(3, 4) * Weights()).sum();
        },
        ["slices and masks"] = x => (x[1.., 1..3] * 2).masked_fill(x[1.., 1..3] > 0.2, 0.5).pow(3).sum() + x[0, 0],
        ["logsumexp and std"] = x => x.logsumexp(1).sum() + x.std(1).sum() + x.var().sqrt(),
        ["number on the left"] = x => ((1.0 - x) / (2.0 + x.square())).sum(),
        ["cross entropy"] = x => nn.functional.cross_entropy(x, tensor(new long[] { 0, 2, 1 })),
        ["expand, cat, cumsum"] = x => (cat([x[0].unsqueeze(0).expand(2, 4), x], 0).cumsum(0) * 0.1).tanh().sum(),
    };

    [Theory]
    [MemberData(nameof(Functions))]
    public void Gradients_agree_with_central_differences(string name)
    {
        Func<Tensor, Tensor> f = Cases[name];
        double[] at = [.. Enumerable.Range(0, 12).Select(k => Math.Sin((k * 1.7) + 0.3))];
        Tensor x = tensor(at, [3, 4], requires_grad: true);
        f(x).backward();
        double[] gradient = x.grad!.data<double>().ToArray();
        const double h = 1e-6; // near the cube root of the rounding of float64, where truncation and rounding errors meet

        for (int k = 0; k < at.Length; k++)
        {
            double Value(double shift)
            {
                double[] moved = [.. at];
                moved[k] += shift;
                return f(tensor(moved, [3, 4])).item<double>();
            }
            Assert.Equal((Value(h) - Value(-h)) / (2 * h), gradient[k], 1e-6);
        }
    }

    [Fact]
    public void Grad_gives_gradients_without_touching_the_leaves()
    {
        Tensor x = tensor(new double[] { 1, 2 }, requires_grad: true);
        Tensor y = x.pow(3).sum();

        IList<Tensor> first = autograd.grad([y], [x], create_graph: true);
        IList<Tensor> second = autograd.grad([first[0].sum()], [x]);

        Assert.Equal([3.0, 12], first[0].data<double>().ToArray());
        Assert.Equal([6.0, 12], second[0].data<double>().ToArray());
        Assert.Null(x.grad);
    }

    [Fact]
    public void Gradients_accumulate_and_can_be_set()
    {
        Tensor x = ones(2, requires_grad: true);
        (x * 2).sum().backward();
        (x * 3).sum().backward();
        Assert.Equal([5f, 5], x.grad!.data<float>().ToArray());
        x.grad = null;
        Assert.Null(x.grad);
        x.grad = full(2, 4f);
        Assert.Equal([4f, 4], x.grad!.data<float>().ToArray());
        x.backward([full(2, 1f)]);
        Assert.Equal([5f, 5], x.grad!.data<float>().ToArray());
    }

    [Fact]
    public void Grad_mode_is_restored_and_nests()
    {
        Tensor x = ones(1, requires_grad: true);
        Assert.True(is_grad_enabled());
        using (no_grad())
        {
            Assert.False((x * 2).requires_grad);
            using (enable_grad())
            {
                Assert.True((x * 2).requires_grad);
            }
            Assert.False(is_grad_enabled());
        }
        Assert.True(is_grad_enabled());
        using (inference_mode())
        {
            Assert.True(is_inference_mode_enabled());
            Assert.False((x * 2).requires_grad);
        }
        Assert.False(is_inference_mode_enabled());
        Assert.False(x.detach().requires_grad);
        Assert.True(x.is_leaf);
        Assert.False((x * 2).is_leaf);
    }

    [Fact]
    public void A_native_error_is_an_ExternalException_with_the_reason()
    {
        Tensor a = zeros(2, 2);
        Tensor b = zeros(3);

        var error = Assert.Throws<ExternalException>(() => a.matmul(b));

        Assert.Contains("size mismatch", error.Message, StringComparison.Ordinal);
        Assert.Throws<ExternalException>(() => a.view(3));
        Assert.Throws<ExternalException>(() => a.sum().backward());
        Assert.Equal(0f, a.sum().item<float>());
    }

    private static Tensor Weights() => tensor(Enumerable.Range(0, 12).Select(k => Math.Cos(k * 0.9)).ToArray(), [3, 4]);
}
