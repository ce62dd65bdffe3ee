namespace Mem1.Learner;

/// <summary>How the losses of tokens become the loss of a mini-batch. A sequence is an episode with all its turns.</summary>
public enum LossAggregation
{
    /// <summary>Every token weighs the same, so long episodes weigh more (DAPO, arXiv 2503.14476).</summary>
    TokenMean,
    /// <summary>Mean over episodes of the sum over their tokens: the policy gradient as it stands in the textbook.</summary>
    SequenceMeanTokenSum,
    /// <summary>Every episode weighs the same (GRPO, arXiv 2402.03300).</summary>
    SequenceMeanTokenMean,
}

/// <summary>How data of another policy than the one an update starts from is used.</summary>
public enum OffPolicyCorrection
{
    /// <summary>The trust interval lies about the policy that sampled.</summary>
    None,
    /// <summary>
    /// Decoupled PPO (Hilton et al., arXiv 2110.00641; AReaL, arXiv 2505.24298): the trust interval lies about the policy the update starts
    /// from, and each token weighs proximal / behaviour; tokens whose weight is above the cap are left out.
    /// </summary>
    Decoupled,
    /// <summary>The same with weights cut to the cap instead (truncated importance sampling, IMPALA, arXiv 1802.01561).</summary>
    Truncated,
}

/// <summary>What becomes of episodes that a limit ended: turns, tokens of a response, or context.</summary>
public enum OverlongEpisodes
{
    /// <summary>They are trained on like others.</summary>
    Train,
    /// <summary>
    /// They take no part in the update, in no statistic either: their reward says nothing of what they would have come to.
    /// </summary>
    Mask,
    /// <summary>They cost a penalty.</summary>
    Penalise,
}
