// Invariants: episodes share the catalogue and hold a few hundred bytes of their own; only a purchase pays; every ended episode has a
// score.

using Mem1.Environments.Common;
using Mem1.Environments.Qa;

namespace Mem1.Environments.WebShop;

/// <summary>
/// Makes episodes of WebShop (Yao et al. 2022) in the format of MEM1: the agent thinks, writes a summary, which is its memory, and
/// answers with one action. Thread-safe.
/// <code>
/// response:    &lt;think>...&lt;/think>&lt;summary>...&lt;/summary>&lt;answer>search[red shoes]&lt;/answer>
/// observation: &lt;state>[HINT]You have 9 turns left.[/HINT] page, available actions&lt;/state>
/// </code>
/// </summary>
public sealed class WebShopFactory : IEnvironmentFactory
{
    private readonly ShopGoals _goals;
    private readonly WebShopOptions _options;

    /// <summary>Makes the factory.</summary>
    /// <param name="goals">The shop and what to buy in it.</param>
    /// <param name="options">How episodes run.</param>
    /// <exception cref="ArgumentException">The options contradict themselves.</exception>
    public WebShopFactory(ShopGoals goals, WebShopOptions options)
    {
        Checks.Demand(options.Validate(), nameof(options));
        (_goals, _options) = (goals, options);
    }

    /// <inheritdoc/>
    public string Name => "webshop";

    /// <inheritdoc/>
    public IReadOnlyList<string> StopStrings { get; } = [WebShopText.AnswerEnd];

    /// <inheritdoc/>
    public string InternalStateEnd => WebShopText.SummaryEnd;

    /// <inheritdoc/>
    public string? DiscardedEnd => WebShopText.ThinkEnd;

    /// <inheritdoc/>
    public string ObservationEnd => WebShopText.StateEnd;

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">The task is not one of this shop.</exception>
    public IEnvironment Create(EnvironmentTask task, ulong seed) =>
        new WebShopEnvironment(new ShopSession(_goals, WebShopTaskSource.GoalOf(task, _goals), _options.Rules, seed), _options);
}

/// <summary>One episode.</summary>
internal sealed class WebShopEnvironment : IEnvironment
{
    private readonly ShopSession _session;
    private readonly WebShopOptions _options;
    private readonly ShopHistory? _history;
    private int _turn;
    private bool _ended;

    public WebShopEnvironment(ShopSession session, WebShopOptions options)
    {
        (_session, _options) = (session, options);
        if (options.PreviousObservations + options.PreviousActions > 0)
        {
            _history = new ShopHistory(options.PreviousObservations, options.PreviousActions);
            _history.Next(null, ShopPages.Render(session, options.Observation));
        }
    }

    // Made when asked for: kept, it would be most of an episode's memory.
    public string Prompt => WebShopText.Prompt(_session.Goal, _options);

    public int MaxTurns => _options.MaxTurns;

    public ValueTask<TurnResult> StepAsync(string response, bool truncated, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        return ValueTask.FromResult(Step(response, truncated));
    }

    public TurnResult Abort(EpisodeEnd reason)
    {
        if (reason == EpisodeEnd.None)
            throw new ArgumentOutOfRangeException(nameof(reason));
        ThrowIfEnded();
        return End(reason);
    }

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;

    /// <summary>Takes a response, as <see cref="StepAsync"/>; the shop answers at once.</summary>
    public TurnResult Step(string response, bool truncated)
    {
        ThrowIfEnded();
        if (!WebShopText.IsValid(response))
            return End(truncated ? EpisodeEnd.Length : EpisodeEnd.InvalidFormat);
        string action = WebShopText.Action(response);
        _session.Step(Meant(action));
        if (_session.Verdict is not null)
            return End(EpisodeEnd.Answered);
        _turn++;
        if (_turn == MaxTurns)
            return End(EpisodeEnd.TurnLimit);
        string page = ShopPages.Render(_session, _options.Observation);
        string observation = WebShopText.Observation(
            Hint(MaxTurns - _turn), _history?.Next(action, page) ?? page, _options.ListActions ? WebShopText.Actions(_session) : null);
        return new TurnResult(observation, EpisodeEnd.None, null);
    }

    /// <summary>An action that names an option as it was shown, neutralised, means the option itself.</summary>
    private string Meant(string action)
    {
        if (ShopAction.Parse(action) is not { Name: "click", Argument: { } argument } || !argument.Contains('<', StringComparison.Ordinal))
            return action;
        string shown = PythonText.Lower(argument);
        List<string> clickables = _session.Clickables();
        string? meant = clickables.Contains(shown) ? null : clickables.Find(c => AgentText.Neutralize(c) == shown);
        return meant is null ? action : $"click[{meant}]";
    }

    private string Hint(int turnsLeft) =>
        turnsLeft == 1 ? _options.LastTurnHint : _options.TurnsLeftHint.Replace("{0}", $"{turnsLeft}", StringComparison.Ordinal);

    private TurnResult End(EpisodeEnd end)
    {
        _ended = true;
        double earned = end == EpisodeEnd.Answered ? _session.Verdict!.Reward : 0;
        bool broken = end is EpisodeEnd.InvalidFormat or EpisodeEnd.Length;
        double reward = broken ? _options.InvalidFormatReward : earned;
        string bought = end == EpisodeEnd.Answered ? $"{_session.Product.Asin} {PythonText.JsonObject(_session.Options)}" : "";
        return new TurnResult("", end, new EpisodeScore(reward, [earned == 1 ? 1 : 0], [earned], bought)
        {
            AnswerCount = end == EpisodeEnd.Answered ? 1 : 0,
            FormatReward = broken ? reward : 0,
        });
    }

    private void ThrowIfEnded()
    {
        if (_ended)
            throw new InvalidOperationException("The episode has already ended.");
    }
}
