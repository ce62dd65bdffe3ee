// Keeps: options are immutable, every property says what it means, and Validate names every contradiction at once.
namespace Mem1.Learner;

/// <summary>How the learner turns trajectories into gradient steps.</summary>
public sealed record PpoOptions
{
    private const double DefaultLambda = 0.97, DefaultValueLearningRate = 2e-3, DefaultKlHorizon = 10_000;

    /// <summary>
    /// How trajectories are laid out for the gradient pass: segments goes with rollout.memory reencode, carry with rollout.memory carry;
    /// full with rollout.memory full; paper, the rule of the method's first release, is for comparison and matches no sampler
    /// (docs/layouts.md).
    /// </summary>
    public LayoutKind Layout { get; init; } = LayoutKind.Segments;
    /// <summary>gae (with a critic), grpo, rloo (both need rollout.group_size) or reinforce_plus_plus.</summary>
    public AdvantageKind Estimator { get; init; } = AdvantageKind.Gae;
    /// <summary>Whether grpo divides by the standard deviation of the group.</summary>
    public bool GroupStd { get; init; } = true;
    /// <summary>What gamma and lambda count: token or turn.</summary>
    public CreditTime Time { get; init; } = CreditTime.Token;
    /// <summary>Discount per step of time; not for grpo and rloo.</summary>
    public double Gamma { get; init; } = 1.0;
    /// <summary>Trace decay per step of time; gae only.</summary>
    public double Lambda { get; init; } = DefaultLambda;
    /// <summary>Half-width of the policy's trust interval; below 1 only, if ppo.clip_high is set.</summary>
    public double Clip { get; init; } = 0.2;
    /// <summary>Width of the trust interval above 1 (clip-higher); 0 takes ppo.clip.</summary>
    public double ClipHigh { get; init; }
    /// <summary>Most that a token of negative advantage may weigh, as a ratio above 1 (dual clip); 0 is no bound.</summary>
    public double DualClip { get; init; }
    /// <summary>How tokens add up: token_mean, sequence_mean_token_sum or sequence_mean_token_mean; a sequence is an episode.</summary>
    public LossAggregation Aggregation { get; init; } = LossAggregation.TokenMean;
    /// <summary>
    /// Whether tokens of the internal state carry losses; without, only actions do, and memory improves by what carries over from them.
    /// </summary>
    public bool LossOnState { get; init; } = true;
    /// <summary>What stands between the policy that sampled and the one in training: none, decoupled or truncated.</summary>
    public OffPolicyCorrection OffPolicy { get; init; } = OffPolicyCorrection.None;
    /// <summary>
    /// Bound of the importance weight: decoupled drops tokens above it (0: none), truncated cuts weights to it (it must be set).
    /// </summary>
    public double ImportanceCap { get; init; }
    /// <summary>What becomes of episodes that a limit ended (turns, tokens of a response, context): train, mask or penalise.</summary>
    public OverlongEpisodes Overlong { get; init; } = OverlongEpisodes.Train;
    /// <summary>What an episode that a limit ended costs; needs ppo.overlong penalise.</summary>
    public double OverlongPenalty { get; init; }
    /// <summary>Half-width of the value's clipping; 0 turns it off.</summary>
    public double ValueClip { get; init; }
    /// <summary>Passes over a batch.</summary>
    public int Epochs { get; init; } = 1;
    /// <summary>Optimiser steps per pass: the batch's trajectories are split into so many parts.</summary>
    public int MiniBatches { get; init; } = 3;
    /// <summary>Largest number of padded tokens in one forward and backward pass; longer mini-batches accumulate gradients.</summary>
    public int MicroBatchTokens { get; init; } = 8192;
    /// <summary>Weight of the entropy bonus.</summary>
    public double EntropyCoefficient { get; init; } = 0.003;
    /// <summary>Weight of the k1 divergence from the reference policy subtracted from each token's reward; 0 needs no reference.</summary>
    public double KlRewardCoefficient { get; init; }
    /// <summary>Whether a token's divergence in the reward counts only above 0, as in MEM1's code; that is biased.</summary>
    public bool KlRewardClamp { get; init; }
    /// <summary>Weight of the divergence from the reference policy in the loss; 0 needs no reference.</summary>
    public double KlLossCoefficient { get; init; }
    /// <summary>How the divergence in the loss is estimated: k1, k2 or k3.</summary>
    public KlEstimator KlLossEstimator { get; init; } = KlEstimator.K3;
    /// <summary>Divergence per token, in nats, towards which the weights of the divergence are steered; 0 keeps them as they are.</summary>
    public double KlTarget { get; init; }
    /// <summary>Episodes over which the weights of the divergence may change by a fifth; needs ppo.kl_target.</summary>
    public double KlHorizon { get; init; } = DefaultKlHorizon;
    /// <summary>Rewards for how memory is kept.</summary>
    public ShapingOptions Shaping { get; init; } = new();
    /// <summary>Steps in a row that may be left out because loss or gradient is not finite, before the run stops.</summary>
    public int MaxSkippedSteps { get; init; } = 3;
    /// <summary>Learning rate of the policy after warm-up.</summary>
    public double LearningRate { get; init; } = 6e-4;
    /// <summary>Learning rate of the value head.</summary>
    public double ValueLearningRate { get; init; } = DefaultValueLearningRate;
    /// <summary>Updates over which the policy's learning rate rises linearly.</summary>
    public int WarmupUpdates { get; init; } = 20;
    /// <summary>First updates in which only the value head learns; without a critic there are none.</summary>
    public int CriticOnlyUpdates { get; init; } = 1;
    /// <summary>
    /// Update at which the learning rate, falling as a square root, would reach 0; 0 keeps it constant. It is not tied to the number of
    /// updates asked for, so that stopping and resuming never changes the schedule.
    /// </summary>
    public int DecayUpdates { get; init; } = 100;
    /// <summary>Share of the learning rate that decay leaves.</summary>
    public double DecayFloor { get; init; } = 0.1;
    /// <summary>Decoupled weight decay of the policy's matrices.</summary>
    public double WeightDecay { get; init; } = 0.01;
    /// <summary>AdamW's first beta.</summary>
    public double Beta1 { get; init; } = 0.9;
    /// <summary>AdamW's second beta.</summary>
    public double Beta2 { get; init; } = 0.98;
    /// <summary>Largest gradient norm, of the policy and of the value head each; 0 is no limit.</summary>
    public double GradientClip { get; init; } = 0.5;

    /// <summary>Whether a frozen reference policy has to be kept.</summary>
    public bool NeedsReference => KlRewardCoefficient > 0 || KlLossCoefficient > 0;

    /// <summary>Whether a critic learns.</summary>
    public bool NeedsCritic => Estimator == AdvantageKind.Gae;

    /// <summary>Whether episodes are compared within groups of one task.</summary>
    public bool NeedsGroups => Estimator is AdvantageKind.Grpo or AdvantageKind.Rloo;

    /// <summary>Every contradiction, as a sentence each; empty when there is none.</summary>
    public IReadOnlyList<string> Validate()
    {
        var errors = new List<string>();
        void Check(bool ok, string sentence)
        {
            if (!ok) errors.Add(sentence);
        }

        Check(Gamma is > 0 and <= 1, $"ppo.gamma is {Gamma}; it must be in (0, 1].");
        Check(Lambda is >= 0 and <= 1, $"ppo.lambda is {Lambda}; it must be in [0, 1].");
        Check(Clip is > 0 and < 1, $"ppo.clip is {Clip}; it must be in (0, 1).");
        Check(ClipHigh is >= 0 and < 100, $"ppo.clip_high is {ClipHigh}; it must be in [0, 100).");
        Check(DualClip == 0 || DualClip > 1 + Math.Max(Clip, ClipHigh),
            $"ppo.dual_clip is {DualClip}; it bounds ratios beyond the trust interval, so it must be above 1 + ppo.clip and 1 + "
            + "ppo.clip_high.");
        Check(ImportanceCap == 0 || ImportanceCap >= 1, $"ppo.importance_cap is {ImportanceCap}; it must be 0 or at least 1.");
        Check(ImportanceCap == 0 || OffPolicy != OffPolicyCorrection.None,
            $"ppo.importance_cap is {ImportanceCap} but ppo.off_policy is none, so nothing is weighted.");
        Check(ImportanceCap != 0 || OffPolicy != OffPolicyCorrection.Truncated,
            "ppo.off_policy is truncated but ppo.importance_cap, at which weights are cut, is missing (2 is usual).");
        Check(OverlongPenalty >= 0, $"ppo.overlong_penalty is {OverlongPenalty}; it must not be negative.");
        Check((OverlongPenalty > 0) == (Overlong == OverlongEpisodes.Penalise),
            "ppo.overlong penalise and ppo.overlong_penalty go together: set both or neither.");
        Check(ValueClip >= 0, $"ppo.value_clip is {ValueClip}; it must not be negative.");
        Check(Epochs >= 1, $"ppo.epochs is {Epochs}; it must be at least 1.");
        Check(MiniBatches >= 1, $"ppo.mini_batches is {MiniBatches}; it must be at least 1.");
        Check(MicroBatchTokens >= 1, $"ppo.micro_batch_tokens is {MicroBatchTokens}; it must be at least 1.");
        Check(EntropyCoefficient >= 0, $"ppo.entropy_coefficient is {EntropyCoefficient}; it must not be negative.");
        Check(KlRewardCoefficient >= 0, $"ppo.kl_reward_coefficient is {KlRewardCoefficient}; it must not be negative.");
        Check(KlLossCoefficient >= 0, $"ppo.kl_loss_coefficient is {KlLossCoefficient}; it must not be negative.");
        Check(!KlRewardClamp || KlRewardCoefficient > 0, "ppo.kl_reward_clamp is on but ppo.kl_reward_coefficient is 0.");
        Check(KlLossEstimator == KlEstimator.K3 || KlLossCoefficient > 0,
            $"ppo.kl_loss_estimator is {KlLossEstimator.ToString().ToLowerInvariant()} but ppo.kl_loss_coefficient is 0.");
        Check(KlTarget >= 0, $"ppo.kl_target is {KlTarget}; it must not be negative.");
        Check(KlTarget == 0 || NeedsReference,
            "ppo.kl_target is set but both ppo.kl_reward_coefficient and ppo.kl_loss_coefficient are 0.");
        Check(KlHorizon > 0, $"ppo.kl_horizon is {KlHorizon}; it must be above 0.");
        Check(KlTarget > 0 || KlHorizon == DefaultKlHorizon, "ppo.kl_horizon is set but ppo.kl_target is 0.");
        Check(MaxSkippedSteps >= 0, $"ppo.max_skipped_steps is {MaxSkippedSteps}; it must not be negative.");
        errors.AddRange(Shaping.Validate());
        Check(LearningRate is > 0 and < 1, $"ppo.learning_rate is {LearningRate}; it must be in (0, 1).");
        Check(ValueLearningRate is > 0 and < 1, $"ppo.value_learning_rate is {ValueLearningRate}; it must be in (0, 1).");
        Check(WarmupUpdates >= 0, $"ppo.warmup_updates is {WarmupUpdates}; it must not be negative.");
        Check(CriticOnlyUpdates >= 0, $"ppo.critic_only_updates is {CriticOnlyUpdates}; it must not be negative.");
        Check(DecayUpdates >= 0, $"ppo.decay_updates is {DecayUpdates}; it must not be negative.");
        Check(DecayUpdates == 0 || DecayUpdates > CriticOnlyUpdates,
            $"ppo.decay_updates is {DecayUpdates}, not above ppo.critic_only_updates ({CriticOnlyUpdates}): the policy would never learn "
            + "at its full rate.");
        Check(DecayFloor is >= 0 and <= 1, $"ppo.decay_floor is {DecayFloor}; it must be in [0, 1].");
        Check(WeightDecay is >= 0 and < 1, $"ppo.weight_decay is {WeightDecay}; it must be in [0, 1).");
        Check(Beta1 is >= 0 and < 1, $"ppo.beta1 is {Beta1}; it must be in [0, 1).");
        Check(Beta2 is >= 0 and < 1, $"ppo.beta2 is {Beta2}; it must be in [0, 1).");
        Check(GradientClip >= 0, $"ppo.gradient_clip is {GradientClip}; it must not be negative.");
        if (!NeedsCritic)
        {
            var name = Estimator switch
            {
                AdvantageKind.Grpo => "grpo",
                AdvantageKind.Rloo => "rloo",
                _ => "reinforce_plus_plus",
            };
            void Unused(bool used, string key, object value, string why) =>
                Check(!used, $"ppo.{key} is {value} but ppo.estimator is {name}, which has no {why}; leave it out.");
            Unused(ValueClip != 0, "value_clip", ValueClip, "critic");
            Unused(CriticOnlyUpdates > 1, "critic_only_updates", CriticOnlyUpdates, "critic");
            Unused(ValueLearningRate != DefaultValueLearningRate, "value_learning_rate", ValueLearningRate, "critic");
            Unused(Lambda != DefaultLambda, "lambda", Lambda, "trace to decay");
            Unused(NeedsGroups && Gamma != 1, "gamma", Gamma, "discount");
            Unused(NeedsGroups && Time != CreditTime.Token, "time", "turn", "discount");
        }

        Check(GroupStd || Estimator == AdvantageKind.Grpo, "ppo.group_std is false but only ppo.estimator grpo divides by a deviation.");
        return errors;
    }

    /// <summary>The estimator that the options name.</summary>
    public IAdvantageEstimator CreateEstimator() => Estimator switch
    {
        AdvantageKind.Gae => new GaeEstimator(Gamma, Lambda, Time),
        AdvantageKind.Grpo => new GrpoEstimator(GroupStd),
        AdvantageKind.Rloo => new RlooEstimator(),
        AdvantageKind.ReinforcePlusPlus => new ReinforcePlusPlusEstimator(Gamma, Time),
        _ => throw new ArgumentOutOfRangeException(nameof(Estimator), Estimator, "Not an estimator."),
    };

    /// <summary>The policy's learning rate in an update (from 1).</summary>
    public double PolicyLearningRate(long update)
    {
        var waits = NeedsCritic ? CriticOnlyUpdates : 0;
        if (update <= waits) return 0;
        var rise = WarmupUpdates == 0 ? 1.0 : Math.Min(1.0, (update - waits) / (double)WarmupUpdates);
        var fall = DecayUpdates == 0 ? 1.0 : Math.Sqrt(Math.Max(0, 1.0 - ((update - 1) / (double)DecayUpdates)));
        return LearningRate * rise * Math.Max(DecayFloor, fall);
    }
}
