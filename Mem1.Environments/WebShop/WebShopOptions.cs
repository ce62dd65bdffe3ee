using Mem1.Environments.Common;

namespace Mem1.Environments.WebShop;

/// <summary>How an episode in the shop runs and what it pays. The defaults are those of MEM1's own runs.</summary>
public sealed record WebShopOptions
{
    /// <summary>How pages look to the agent.</summary>
    public ShopObservation Observation { get; init; } = ShopObservation.Text;

    /// <summary>Responses an episode may take; one that ends without a purchase pays nothing.</summary>
    public int MaxTurns { get; init; } = 10;

    /// <summary>
    /// Reward of an episode that ends by a malformed response or by the response limit. MEM1 trains with -1, and its metrics count it;
    /// 0 turns the penalty off.
    /// </summary>
    public double InvalidFormatReward { get; init; } = -1;

    /// <summary>Similarity under the reward's fuzzy score: MEM1's runs use subsequences, the original WebShop's numbers blocks.</summary>
    public FuzzyRatio Ratio { get; init; } = FuzzyRatio.Subsequence;

    /// <summary>Whether item pages offer their attributes, which makes the task easier.</summary>
    public bool ShowAttributes { get; init; }

    /// <summary>
    /// Whether queries that begin with &lt;r>, &lt;c>, &lt;q> or &lt;a> list products past the search engine, as in the original: a way
    /// around the task, hence off.
    /// </summary>
    public bool Shortcuts { get; init; }

    /// <summary>
    /// Whether the prompt explains the shop and the format. A small agent that was cloned in the format needs the instruction alone, and its
    /// context is that much shorter.
    /// </summary>
    public bool Guide { get; init; } = true;

    /// <summary>Products on a page of results; the original's shop shows 10.</summary>
    public int ProductsPerPage { get; init; } = 10;

    /// <summary>Whether an observation lists the actions that are possible.</summary>
    public bool ListActions { get; init; } = true;

    /// <summary>Earlier pages shown in front of the current one.</summary>
    public int PreviousObservations { get; init; }

    /// <summary>Earlier actions shown in front of the current page.</summary>
    public int PreviousActions { get; init; }

    /// <summary>Opens every observation but the last; {0} is the number of turns left.</summary>
    public string TurnsLeftHint { get; init; } = "[HINT]You have {0} turns left.[/HINT]";

    /// <summary>Opens the last observation.</summary>
    public string LastTurnHint { get; init; } = "[HINT]You have 1 turn left. You must answer the question in the next turn.[/HINT]";

    /// <summary>Every contradiction in these options; empty when they are sound.</summary>
    public IReadOnlyList<string> Validate() => new Checks()
        .AtLeast("webshop.max_turns", MaxTurns, 1)
        .Require(
            ProductsPerPage is >= 1 and <= ShopSession.MostHits,
            $"webshop.products_per_page is {ProductsPerPage} but must lie between 1 and {ShopSession.MostHits}, the most a search lists")
        .Require(
            double.IsFinite(InvalidFormatReward) && InvalidFormatReward <= 0,
            $"webshop.invalid_format_reward is {InvalidFormatReward} but must be 0 or less, or a broken format would pay")
        .Require(Enum.IsDefined(Observation), $"webshop.observation is {Observation} but must be text or text_rich")
        .Require(Enum.IsDefined(Ratio), $"webshop.ratio is {Ratio} but must be subsequence or blocks")
        .AtLeast("webshop.previous_observations", PreviousObservations, 0)
        .AtLeast("webshop.previous_actions", PreviousActions, 0)
        .Require(
            TurnsLeftHint.Contains("{0}", StringComparison.Ordinal),
            "webshop.turns_left_hint does not contain {0}, the place of the number of turns left")
        .Problems;

    internal ShopRules Rules => new(ShowAttributes, Shortcuts, Ratio, ProductsPerPage);
}
