namespace Mem1.Learner;

/// <summary>What one update did.</summary>
/// <param name="PolicyLoss">Clipped policy loss, token mean over all mini-batches.</param>
/// <param name="ValueLoss">Value loss, token mean; no number without a critic.</param>
/// <param name="Entropy">Mean entropy of the policy at generated tokens, in nats.</param>
/// <param name="Kl">Mean k1 divergence of the policy that sampled from the policy in training, over mini-batches.</param>
/// <param name="ReferenceKl">Mean k3 divergence from the reference; 0 without one.</param>
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
    double ExplainedVariance, double? ParityMaxAbs, long StalenessMax, long Tokens);
