namespace Mem1.Learner;

/// <summary>What one update did.</summary>
/// <param name="PolicyLoss">Clipped policy loss, token mean over all mini-batches.</param>
/// <param name="ValueLoss">Value loss, token mean; no number without a critic.</param>
/// <param name="Entropy">Mean entropy of the policy at generated tokens, in nats.</param>
/// <param name="Kl">Mean k1 divergence of the policy that sampled from the policy in training, over mini-batches.</param>
/// <param name="ReferenceKl">Mean divergence from the reference as the loss estimates it (k3 by default); 0 without one.</param>
/// <param name="ClipFraction">Share of tokens at which the clipped branch decided.</param>
/// <param name="GradientNorm">Mean norm of the policy's gradient before clipping.</param>
/// <param name="ExplainedVariance">1 - Var(return - value) / Var(return); no number without a critic.</param>
/// <param name="ParityMaxAbs">
/// max |log-prob learner - log-prob sampler| over tokens sampled under the learner's current version; null when there is none.
/// </param>
/// <param name="StalenessMax">Current version minus the oldest version any token was sampled under.</param>
/// <param name="Tokens">Generated tokens trained on.</param>
public sealed record UpdateStatistics(
    double PolicyLoss, double ValueLoss, double Entropy, double Kl, double ReferenceKl, double ClipFraction, double GradientNorm,
    double ExplainedVariance, double? ParityMaxAbs, long StalenessMax, long Tokens)
{
    /// <summary>How far the update strayed, and what it was fed.</summary>
    public UpdateHealth Health { get; init; } = new();
}

/// <summary>What tells early that training goes wrong, and why. No number where there was nothing to measure.</summary>
public sealed record UpdateHealth
{
    /// <summary>Share of tokens held back at the lower bound of the trust interval (negative advantage).</summary>
    public double ClipFractionLow { get; init; } = double.NaN;
    /// <summary>Share of tokens held back at the upper bound (positive advantage).</summary>
    public double ClipFractionHigh { get; init; } = double.NaN;
    /// <summary>Largest ratio of a token's probability in training to that under the trusted policy.</summary>
    public double RatioMax { get; init; } = double.NaN;
    /// <summary>99th percentile of the ratios.</summary>
    public double RatioP99 { get; init; } = double.NaN;
    /// <summary>1st percentile of the ratios.</summary>
    public double RatioP01 { get; init; } = double.NaN;
    /// <summary>Mean k3 divergence of the policy that sampled from the policy in training: never negative, unlike k1.</summary>
    public double KlK3 { get; init; } = double.NaN;
    /// <summary>Mean entropy at tokens of internal state, in nats.</summary>
    public double StateEntropy { get; init; } = double.NaN;
    /// <summary>Mean entropy at tokens of actions, in nats.</summary>
    public double ActionEntropy { get; init; } = double.NaN;
    /// <summary>Mean advantage per token before whitening.</summary>
    public double AdvantageMean { get; init; } = double.NaN;
    /// <summary>Standard deviation of the advantages before whitening.</summary>
    public double AdvantageDeviation { get; init; } = double.NaN;
    /// <summary>
    /// Parts of the reward trained on, means per episode, by name: outcome, format, turns, kl, overlong and those of shapers.
    /// </summary>
    public IReadOnlyDictionary<string, double> Rewards { get; init; } = new Dictionary<string, double>();
    /// <summary>What the weights of the divergence were multiplied with; null without a controller.</summary>
    public double? KlFactor { get; init; }
    /// <summary>Steps left out because loss or gradient was not finite.</summary>
    public int SkippedSteps { get; init; }
    /// <summary>Episodes left out because a limit ended them.</summary>
    public int MaskedEpisodes { get; init; }
}
