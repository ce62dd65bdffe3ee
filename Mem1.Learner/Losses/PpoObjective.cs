// Keeps: what is minimised is written here once; sums over tokens, so that micro-batches of any size add up to the same mean.
using TorchSharp;
using static TorchSharp.torch;

namespace Mem1.Learner;

/// <summary>The objective over the tokens of one forward pass, summed; <paramref name="Loss"/> carries the gradient.</summary>
internal sealed record ObjectiveTerms(
    Tensor Loss, double Policy, double Value, double Entropy, double Kl, double ReferenceKl, long Clipped, long Tokens);

/// <summary>Terms added up over passes.</summary>
internal sealed class ObjectiveSums
{
    public double Policy { get; private set; }

    public double Value { get; private set; }

    public double Entropy { get; private set; }

    public double Kl { get; private set; }

    public double ReferenceKl { get; private set; }

    public double Clipped { get; private set; }

    public long Tokens { get; private set; }

    public void Add(ObjectiveTerms terms)
    {
        Policy += terms.Policy;
        Value += terms.Value;
        Entropy += terms.Entropy;
        Kl += terms.Kl;
        ReferenceKl += terms.ReferenceKl;
        Clipped += terms.Clipped;
        Tokens += terms.Tokens;
    }
}

/// <summary>Policy loss + value loss - entropy bonus + divergence from the reference.</summary>
internal sealed class PpoObjective(PpoOptions options)
{
    /// <summary>The objective of a forward pass's tokens; log-probs, entropies and values are [N] of the model in training; values are null without a critic.</summary>
    public ObjectiveTerms Of(PickedTokens picked, Tensor logProbs, Tensor entropy, Tensor? values)
    {
        var (policy, clipped) = PpoLoss.Policy(logProbs, picked.OldLogProbs, picked.Advantages, options.Clip);
        var bonus = entropy.sum();
        var loss = policy;
        double valueLoss = double.NaN, referenceKl = 0;
        if (values is not null)
        {
            var (value, _) = PpoLoss.Value(values, picked.OldValues!, picked.Returns!, options.ValueClip);
            loss = loss + value;
            valueLoss = value.item<float>();
        }

        loss = loss - (bonus * options.EntropyCoefficient);
        if (picked.ReferenceLogProbs is { } reference)
        {
            var kl = PpoLoss.Kl(logProbs, reference, KlEstimator.K3).sum();
            loss = loss + (kl * options.KlLossCoefficient);
            referenceKl = kl.item<float>();
        }

        return new ObjectiveTerms(
            loss, policy.item<float>(), valueLoss, bonus.item<float>(),
            (picked.OldLogProbs - logProbs.detach()).sum().item<float>(), referenceKl, clipped.item<long>(), logProbs.numel());
    }
}
