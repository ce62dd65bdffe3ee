using TorchSharp;
using static TorchSharp.torch;

namespace Mem1.Learner.Tests;

public sealed class PpoLossTests
{
    [Theory]
    [InlineData(-0.1f, -150f, 1f)]
    [InlineData(-0.1f, -150f, -1f)]
    [InlineData(-150f, -0.1f, 1f)]
    [InlineData(-150f, -0.1f, -1f)]
    public void Policies_however_far_apart_have_finite_losses_and_gradients(float logProb, float old, float advantage)
    {
        using var scope = NewDisposeScope();
        var p = torch.tensor(new[] { logProb, -1f }).requires_grad_(true);
        var q = torch.tensor(new[] { old, -1f });
        var (policy, _) = PpoLoss.Policy(p, q, torch.tensor(new[] { advantage, advantage }), 0.2);
        var kl = PpoLoss.Kl(p, q, KlEstimator.K3).sum();
        (policy + kl).backward();
        Assert.True(float.IsFinite(policy.item<float>()));
        Assert.True(float.IsFinite(kl.item<float>()));
        Assert.All(p.grad!.data<float>().ToArray(), g => Assert.True(float.IsFinite(g)));
    }
}
