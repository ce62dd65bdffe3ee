using Mem1.Environments.Common;
using Mem1.Environments.Scoring;

namespace Mem1.Environments.Qa;

/// <summary>How an episode of retrieval QA runs and what it pays.</summary>
public sealed record RetrievalQaOptions
{
    /// <summary>Passages in an observation.</summary>
    public int Documents { get; init; } = 3;

    /// <summary>Most objectives for which <see cref="TurnsForFew"/> holds.</summary>
    public int FewObjectives { get; init; } = 4;

    /// <summary>Responses an episode of few objectives may take; the last of them must answer.</summary>
    public int TurnsForFew { get; init; } = 6;

    /// <summary>Responses an episode of more objectives may take; the last of them must answer.</summary>
    public int TurnsForMany { get; init; } = 20;

    /// <summary>Opens every observation but the last, in training and evaluation alike; {0} is the number of turns left.</summary>
    public string TurnsLeftHint { get; init; } = "[HINT]You have {0} turns left.[/HINT]";

    /// <summary>Opens the last observation, after which the agent must answer.</summary>
    public string LastTurnHint { get; init; } = "[HINT]You have 1 turn left. You must answer the question in the next turn.[/HINT]";

    /// <summary>
    /// Whether the prompt explains the task and its format. A small agent that was cloned in the format needs the questions alone, and its
    /// context is that much shorter.
    /// </summary>
    public bool Guide { get; init; } = true;

    /// <summary>What exact matches pay.</summary>
    public RewardOptions Reward { get; init; } = new();

    /// <summary>
    /// Reward of an episode that ends by a malformed response or by the response limit. 0 by default: a penalty teaches small models to
    /// keep the format at the cost of answering well.
    /// </summary>
    public double InvalidFormatReward { get; init; }

    /// <summary>
    /// Time one attempt of a search may take. All attempts together should stay below the deadline that the caller sets a step (30 s in a
    /// rollout worker), or the step fails before the agent hears of the failed search.
    /// </summary>
    public TimeSpan SearchTimeout { get; init; } = TimeSpan.FromSeconds(8);

    /// <summary>Attempts before a search counts as failed and the agent is told so.</summary>
    public int SearchAttempts { get; init; } = 3;

    /// <summary>Wait before the second attempt; it doubles for each one after.</summary>
    public TimeSpan SearchRetryDelay { get; init; } = TimeSpan.FromMilliseconds(200);

    /// <summary>How many responses an episode of this many objectives may take.</summary>
    public int MaxTurns(int objectives) => objectives <= FewObjectives ? TurnsForFew : TurnsForMany;

    /// <summary>Every contradiction in these options; empty when they are sound.</summary>
    public IReadOnlyList<string> Validate() =>
    [
        .. new Checks()
            .AtLeast("qa.documents", Documents, 1)
            .AtLeast("qa.few_objectives", FewObjectives, 0)
            .AtLeast("qa.turns_for_few", TurnsForFew, 1)
            .AtLeast("qa.turns_for_many", TurnsForMany, 1)
            .Require(
                TurnsLeftHint.Contains("{0}", StringComparison.Ordinal),
                "qa.turns_left_hint does not contain {0}, the place of the number of turns left")
            .Require(
                double.IsFinite(InvalidFormatReward) && InvalidFormatReward <= 0,
                $"qa.invalid_format_reward is {InvalidFormatReward} but must be 0 or less, or a broken format would pay")
            .Require(SearchTimeout > TimeSpan.Zero, $"qa.search_timeout is {SearchTimeout} but must be positive")
            .AtLeast("qa.search_attempts", SearchAttempts, 1)
            .Require(SearchRetryDelay >= TimeSpan.Zero, $"qa.search_retry_delay is {SearchRetryDelay} but must not be negative")
            .Problems,
        .. Reward.Validate(),
    ];
}
