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

        // Statistics are token means however the loss adds up.
        double Plain(Tensor perToken, Tensor total) => (picked.Shares is null ? total : perToken.detach().sum()).item<float>();

        var tokens = PpoLoss.PolicyTokens(
            logProbs, picked.ProximalLogProbs ?? picked.OldLogProbs, picked.Advantages, options.Clip, _high, options.DualClip);
        var weighted = picked.Importance is { } importance ? tokens.Loss * importance : tokens.Loss;
        var policy = Total(weighted);
        var bonus = Total(entropy);
        var loss = policy;
        double valueLoss = double.NaN, referenceKl = 0;
        if (values is not null)
        {
            var errors = PpoLoss.ValueTokens(values, picked.OldValues!, picked.Returns!, options.ValueClip);
            var value = Total(errors) * 0.5;
            loss = loss + value;
            valueLoss = Plain(errors * 0.5, value);
        }

        loss = loss - (bonus * options.EntropyCoefficient);
        if (picked.ReferenceLogProbs is { } reference)
        {
            var divergence = PpoLoss.Kl(logProbs, reference, options.KlLossEstimator);
            var kl = Total(divergence);
            loss = loss + (kl * (options.KlLossCoefficient * klFactor));
            referenceKl = Plain(divergence, kl);
        }

        var behind = picked.OldLogProbs - logProbs.detach();
        return new ObjectiveTerms(
            loss, Plain(weighted, policy), valueLoss, Plain(entropy, bonus), behind.sum().item<float>(),
            PpoLoss.Kl(picked.OldLogProbs, logProbs.detach(), KlEstimator.K3).sum().item<float>(), referenceKl,
            TokenHealth.Of(picked, tokens, entropy));
    }
}
