// Keeps: what is minimised is written here once; sums over tokens, so that micro-batches of any size add up to the same mean.
using TorchSharp;
using static TorchSharp.torch;

namespace Mem1.Learner;

/// <summary>The objective over the tokens of one forward pass, summed; <paramref name="Loss"/> carries the gradient.</summary>
internal sealed record ObjectiveTerms(
    Tensor Loss, double Policy, double Value, double Entropy, double Kl, double KlK3, double ReferenceKl, TokenHealth Health)
{
    /// <summary>Whether every term that is there is a number.</summary>
    public bool IsFinite(bool critic) =>
        double.IsFinite(Policy) && double.IsFinite(Entropy) && double.IsFinite(ReferenceKl) && (!critic || double.IsFinite(Value));
}

/// <summary>Policy loss + value loss - entropy bonus + divergence from the reference.</summary>
internal sealed class PpoObjective(PpoOptions options)
{
    private readonly double _high = options.ClipHigh > 0 ? options.ClipHigh : options.Clip;

    /// <summary>
    /// The objective of a forward pass's tokens; log-probs, entropies and values are [N] of the model in training; values are null without
    /// a critic.
    /// </summary>
    /// <param name="picked">The batch's numbers for the same tokens.</param>
    /// <param name="logProbs">Carries the gradient.</param>
    /// <param name="entropy">Carries the gradient.</param>
    /// <param name="values">Carries the gradient.</param>
    /// <param name="klFactor">What the weight of the divergence is multiplied with.</param>
    public ObjectiveTerms Of(PickedTokens picked, Tensor logProbs, Tensor entropy, Tensor? values, double klFactor)
    {
        Tensor Total(Tensor perToken) => (picked.Shares is { } shares ? perToken * shares : perToken).sum();

        var tokens = PpoLoss.PolicyTokens(
            logProbs, picked.ProximalLogProbs ?? picked.OldLogProbs, picked.Advantages, options.Clip, _high, options.DualClip);
        var policy = Total(picked.Importance is { } importance ? tokens.Loss * importance : tokens.Loss);
        var bonus = Total(entropy);
        var loss = policy;
        double valueLoss = double.NaN, referenceKl = 0;
        if (values is not null)
        {
            var value = Total(PpoLoss.ValueTokens(values, picked.OldValues!, picked.Returns!, options.ValueClip)) * 0.5;
            loss = loss + value;
            valueLoss = value.item<float>();
        }

        loss = loss - (bonus * options.EntropyCoefficient);
        if (picked.ReferenceLogProbs is { } reference)
        {
            var kl = Total(PpoLoss.Kl(logProbs, reference, options.KlLossEstimator));
            loss = loss + (kl * (options.KlLossCoefficient * klFactor));
            referenceKl = kl.item<float>();
        }

        var behind = picked.OldLogProbs - logProbs.detach();
        return new ObjectiveTerms(
            loss, policy.item<float>(), valueLoss, bonus.item<float>(), behind.sum().item<float>(),
            PpoLoss.Kl(picked.OldLogProbs, logProbs.detach(), KlEstimator.K3).sum().item<float>(), referenceKl,
            TokenHealth.Of(picked, tokens, entropy));
    }
}
