// Keeps: every function takes flat tensors over generated tokens only ([N], float32) and returns sums, so that micro-batches of any size
// add up to the same token mean; finite log-probs give finite losses and gradients, however far apart two policies are.
using TorchSharp;
using static TorchSharp.torch;

namespace Mem1.Learner;

/// <summary>
/// How far a policy is from its reference, estimated from log-probs of sampled tokens (Schulman, "Approximating KL divergence").
/// </summary>
public enum KlEstimator
{
    /// <summary>log p - log q: unbiased, may be negative.</summary>
    K1,
    /// <summary>(log p - log q)^2 / 2.</summary>
    K2,
    /// <summary>q/p - 1 - log(q/p): unbiased, never negative.</summary>
    K3,
}

/// <summary>The policy loss of each token.</summary>
/// <param name="Loss">[N]; carries the gradient.</param>
/// <param name="Ratio">[N] policy in training over trusted policy.</param>
/// <param name="Clipped">[N] whether the bound of the trust interval decided.</param>
public readonly record struct PolicyTokens(Tensor Loss, Tensor Ratio, Tensor Clipped);

/// <summary>The clipped losses of PPO (Schulman et al., arXiv 1707.06347).</summary>
public static class PpoLoss
{
    // Bound of differences of log-probs before exp: at 20 a ratio is 5e8, far beyond any trust interval, while at 89 it is infinite in
    // single precision and its gradient, 0 times infinity, would be no number.
    private const double MaxLogRatio = 20;

    /// <summary>
    /// Per token -min(ratio A, clip(ratio, 1 - low, 1 + high) A), with ratio the policy in training over the policy whose neighbourhood is
    /// trusted.
    /// </summary>
    /// <param name="logProbs">[N] of the policy in training; carries the gradient.</param>
    /// <param name="oldLogProbs">[N] of the policy at the centre of the trust interval.</param>
    /// <param name="advantages">[N].</param>
    /// <param name="low">Width of the trust interval below 1.</param>
    /// <param name="high">
    /// Width above 1; wider than below leaves unlikely tokens room to grow (clip-higher, DAPO, arXiv 2503.14476).
    /// </param>
    /// <param name="dual">
    /// Bound of the loss of a token of negative advantage, in multiples of the advantage (dual clip, Ye et al., arXiv 1912.09729): a token
    /// whose ratio exploded would otherwise drown the batch. 0 is none.
    /// </param>
    public static PolicyTokens PolicyTokens(
        Tensor logProbs, Tensor oldLogProbs, Tensor advantages, double low, double high, double dual)
    {
        var ratio = torch.exp(torch.clamp(logProbs - oldLogProbs, -MaxLogRatio, MaxLogRatio));
        var plain = -advantages * ratio;
        var clipped = -advantages * torch.clamp(ratio, 1.0 - low, 1.0 + high);
        var loss = torch.maximum(plain, clipped);
        if (dual > 0) loss = torch.where(advantages.lt(0), torch.minimum(loss, -advantages * dual), loss);
        return new PolicyTokens(loss, ratio, clipped.gt(plain));
    }

    /// <summary>-sum min(ratio A, clip(ratio, 1 - c, 1 + c) A), and how many tokens the clipped branch decided.</summary>
    /// <param name="logProbs">[N] of the policy in training; carries the gradient.</param>
    /// <param name="oldLogProbs">[N] of the policy that sampled.</param>
    /// <param name="advantages">[N].</param>
    /// <param name="clip">Half-width of the trust interval.</param>
    /// <returns>Two scalars: the summed loss and the count.</returns>
    public static (Tensor Loss, Tensor Clipped) Policy(Tensor logProbs, Tensor oldLogProbs, Tensor advantages, double clip)
    {
        var tokens = PolicyTokens(logProbs, oldLogProbs, advantages, clip, clip, dual: 0);
        return (tokens.Loss.sum(), tokens.Clipped.sum());
    }

    /// <summary>Per token max((v - R)^2, (clip(v, old ± c) - R)^2), not halved.</summary>
    /// <param name="values">[N] of the critic in training; carries the gradient.</param>
    /// <param name="oldValues">[N] when the batch was scored.</param>
    /// <param name="returns">[N].</param>
    /// <param name="clip">Half-width; 0 turns clipping off.</param>
    public static Tensor ValueTokens(Tensor values, Tensor oldValues, Tensor returns, double clip)
    {
        var plain = (values - returns).square();
        if (clip <= 0) return plain;
        var near = torch.maximum(torch.minimum(values, oldValues + clip), oldValues - clip);
        return torch.maximum(plain, (near - returns).square());
    }

    /// <summary>sum max((v - R)^2, (clip(v, old ± c) - R)^2) / 2, and how many tokens the clipped branch decided.</summary>
    /// <param name="values">[N] of the critic in training; carries the gradient.</param>
    /// <param name="oldValues">[N] when the batch was scored.</param>
    /// <param name="returns">[N].</param>
    /// <param name="clip">Half-width; 0 turns clipping off.</param>
    public static (Tensor Loss, Tensor Clipped) Value(Tensor values, Tensor oldValues, Tensor returns, double clip)
    {
        var plain = (values - returns).square();
        if (clip <= 0) return (plain.sum() * 0.5, torch.zeros_like(plain).sum());
        var near = torch.maximum(torch.minimum(values, oldValues + clip), oldValues - clip);
        var clipped = (near - returns).square();
        return (torch.maximum(plain, clipped).sum() * 0.5, clipped.gt(plain).sum());
    }

    /// <summary>Per-token divergence [N] from the reference.</summary>
    public static Tensor Kl(Tensor logProbs, Tensor referenceLogProbs, KlEstimator estimator)
    {
        switch (estimator)
        {
            case KlEstimator.K1: return logProbs - referenceLogProbs;
            case KlEstimator.K2: return (logProbs - referenceLogProbs).square() * 0.5;
            case KlEstimator.K3:
                var d = torch.clamp(referenceLogProbs - logProbs, -MaxLogRatio, MaxLogRatio);
                return torch.exp(d) - d - 1.0;
            default: throw new ArgumentOutOfRangeException(nameof(estimator));
        }
    }

    /// <summary>Entropy [N] of distributions given as log-probs [N, V].</summary>
    public static Tensor Entropy(Tensor allLogProbs) => -(torch.exp(allLogProbs) * allLogProbs).sum(-1);
}
