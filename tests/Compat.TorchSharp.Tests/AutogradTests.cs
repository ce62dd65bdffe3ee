// Gradients against finite differences and by hand; grad mode per thread; errors.
using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;

namespace Compat.TorchSharp.Tests;

public sealed class AutogradTests
{
    [Fact]
    public void A_matrix_product_has_the_gradient_worked_out_by_hand()
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor a = tensor(new float[] { 1, 2, 3, 4 }, [2, 2], requires_grad: true);

        Tensor loss = ((a * 2.0) + 1).matmul(a.transpose(0, 1)).sum();
        loss.backward();

        // sum_ij (2 a_ik + 1) a_jk: the derivative by a_pk is 2 s_k + 2 s_k + 2 with s_k the sum of column k.
        Assert.Equal(124f, loss.item<float>());
        Assert.Equal([18f, 26f, 18f, 26f], a.grad!.data<float>().ToArray());
    }

    [Fact]
    public void A_native_error_is_an_ExternalException_with_the_reason()
    {
        using DisposeScope scope = NewDisposeScope();
        Tensor a = zeros(2, 2);
        Tensor b = zeros(3);

        var error = Assert.Throws<ExternalException>(() => a.matmul(b));

        Assert.Contains("size mismatch", error.Message, StringComparison.Ordinal);
    }
}
