// Invariants: a visit is an agent's episode: same pages, same actions, same turn limit, same reward; only the response format is taken off.

using Mem1.Environments.Qa;

namespace Mem1.Environments.WebShop;

/// <summary>What an action of a visit brought about.</summary>
/// <param name="Offered">Whether the page offered it; the shop ignores most other actions.</param>
/// <param name="Reward">Reward of the episode once it has ended: in [0, 1] for a purchase, 0 without one; null while it goes on.</param>
/// <param name="Reasons">How the reward came about; empty while the episode goes on.</param>
public sealed record ShopOutcome(bool Offered, double? Reward, string Reasons);

/// <summary>An episode in the shop played by a person. Not thread-safe.</summary>
public sealed class ShopVisit
{
    private readonly ShopSession _session;
    private readonly WebShopEnvironment _episode;
    private readonly WebShopOptions _options;

    /// <summary>Enters the shop.</summary>
    /// <param name="goals">The shop and what to buy in it.</param>
    /// <param name="goal">Number of the goal.</param>
    /// <param name="options">How pages look and rewards are reckoned.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such goal.</exception>
    /// <exception cref="ArgumentException">The options contradict themselves.</exception>
    public ShopVisit(ShopGoals goals, int goal, WebShopOptions options)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(goal);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(goal, goals.Count);
        Common.Checks.Demand(options.Validate(), nameof(options));
        _session = new ShopSession(goals, goal, options.Rules);
        _episode = new WebShopEnvironment(_session, options);
        _options = options;
        Observation = WebShopText.FirstState(_session.Goal);
    }

    /// <summary>What is to be bought.</summary>
    public string Instruction => _session.Goal.Instruction;

    /// <summary>The prompt of the agent's episode.</summary>
    public string Prompt => _episode.Prompt;

    /// <summary>Actions taken so far.</summary>
    public int Turns { get; private set; }

    /// <summary>Actions there may be.</summary>
    public int MaxTurns => _options.MaxTurns;

    /// <summary>Whether the episode has ended, by a purchase or by its last turn.</summary>
    public bool Ended { get; private set; }

    /// <summary>
    /// What the agent reads before its next response, to the letter: at first the end of its prompt, then the block of the page with its
    /// hint and actions; empty once the episode has ended.
    /// </summary>
    public string Observation { get; private set; }

    /// <summary>The page alone, as the agent sees it.</summary>
    public string Page => ShopPages.Render(_session, _options.Observation);

    /// <summary>The actions the page offers, as they are written; empty once the episode has ended.</summary>
    public IReadOnlyList<string> Actions => Ended ? [] : [.. WebShopText.Actions(_session)];

    /// <summary>Takes an action: search[keywords] or click[something on the page].</summary>
    /// <exception cref="InvalidOperationException">The episode has ended.</exception>
    public ShopOutcome Step(string action)
    {
        bool offered = WebShopText.IsOffered(action, _session);
        TurnResult result = _episode.Step(WebShopText.Response("", "", AgentText.Neutralize(action)), truncated: false);
        Turns++;
        Observation = result.Observation;
        if (result.Score is not { } score)
            return new ShopOutcome(offered, null, "");
        Ended = true;
        return _session.Verdict is not { } verdict
            ? new ShopOutcome(offered, score.Reward, $"nothing was bought in {MaxTurns} turns")
            : new ShopOutcome(
                offered, score.Reward,
                $"type {PythonText.Float(verdict.Type)}, attributes {verdict.AttributeMatches} of {verdict.Attributes}, "
                + $"options {verdict.OptionMatches} of {verdict.Options}, price {(verdict.PriceMatch ? "within" : "above")} the limit");
    }
}
