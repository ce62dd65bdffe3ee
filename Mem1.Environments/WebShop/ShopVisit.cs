// Invariants: a visit shows and does exactly what an agent's episode shows and does, without its response format.

namespace Mem1.Environments.WebShop;

/// <summary>What an action of a visit brought about.</summary>
/// <param name="Offered">Whether the page offered it; the shop ignores most other actions.</param>
/// <param name="Reward">Reward of the purchase in [0, 1]; null while nothing is bought.</param>
/// <param name="Reasons">How the reward came about; empty while nothing is bought.</param>
public sealed record ShopOutcome(bool Offered, double? Reward, string Reasons);

/// <summary>An episode in the shop played by a person. Not thread-safe.</summary>
public sealed class ShopVisit
{
    private readonly ShopSession _session;
    private readonly WebShopOptions _options;

    /// <summary>Enters the shop.</summary>
    /// <param name="goals">The shop and what to buy in it.</param>
    /// <param name="goal">Number of the goal.</param>
    /// <param name="options">How pages look and rewards are reckoned.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such goal.</exception>
    public ShopVisit(ShopGoals goals, int goal, WebShopOptions options)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(goal);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(goal, goals.Count);
        _session = new ShopSession(goals, goal, options.Rules);
        _options = options;
    }

    /// <summary>The page as the agent sees it.</summary>
    public string Page => ShopPages.Render(_session, _options.Observation);

    /// <summary>The actions the page offers, as they are written; empty after the purchase.</summary>
    public IReadOnlyList<string> Actions => [.. WebShopText.Actions(_session)];

    /// <summary>Takes an action: search[keywords] or click[something on the page].</summary>
    public ShopOutcome Step(string action)
    {
        bool offered = WebShopText.IsOffered(action, _session);
        _session.Step(action);
        if (_session.Verdict is not { } verdict)
            return new ShopOutcome(offered, null, "");
        return new ShopOutcome(
            offered, verdict.Reward,
            $"type {PythonText.Float(verdict.Type)}, attributes {verdict.AttributeMatches} of {verdict.Attributes}, "
            + $"options {verdict.OptionMatches} of {verdict.Options}, price {(verdict.PriceMatch ? "within" : "above")} the limit");
    }
}
