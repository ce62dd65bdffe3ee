// Invariants: the score is read from the agent's own answer block alone; a failed search becomes an observation and never an exception;
// the last turn can only answer, and the observation before it says so; nothing a passage holds can open or close a block.

using Mem1.Environments.Common;
using Mem1.Environments.Retrieval;
using Mem1.Environments.Scoring;

namespace Mem1.Environments.Qa;

/// <summary>
/// Makes episodes of multi-objective retrieval QA (MEM1, section 4.1): the agent keeps its memory in &lt;think>, searches one query a turn
/// with &lt;search> and ends with &lt;answer>, answers separated by semicolons in the order of the questions. Thread-safe.
/// </summary>
public sealed class RetrievalQaFactory : IEnvironmentFactory
{
    private readonly IRetriever _retriever;
    private readonly RetrievalQaOptions _options;
    private readonly Action<string, Exception>? _searchFailed;
    private readonly TimeProvider _time;

    /// <summary>Makes the factory.</summary>
    /// <param name="retriever">Where searches go; not disposed by this.</param>
    /// <param name="options">How episodes run.</param>
    /// <param name="searchFailed">Told of every failed attempt, with its query, from any thread: for the log.</param>
    /// <param name="time">Clock of time limits and retries; null for the system's.</param>
    /// <exception cref="ArgumentException">The options contradict themselves.</exception>
    public RetrievalQaFactory(
        IRetriever retriever, RetrievalQaOptions options, Action<string, Exception>? searchFailed = null, TimeProvider? time = null)
    {
        Checks.Demand(options.Validate(), nameof(options));
        _retriever = retriever;
        _options = options;
        _searchFailed = searchFailed;
        _time = time ?? TimeProvider.System;
    }

    /// <inheritdoc/>
    public string Name => "retrieval-qa";

    /// <inheritdoc/>
    public IReadOnlyList<string> StopStrings { get; } = [AgentText.SearchEnd, AgentText.AnswerEnd];

    /// <inheritdoc/>
    public string InternalStateEnd => AgentText.ThinkEnd;

    /// <inheritdoc/>
    public string? RightAction(EnvironmentTask task) => AgentText.RightAnswer(task);

    /// <inheritdoc/>
    public string ObservationEnd => AgentText.InformationEnd;

    /// <inheritdoc/>
    public IEnvironment Create(EnvironmentTask task, ulong seed) =>
        new QaEpisode(
            task, _options, QaPrompt.For(task, _options),
            new CorpusLookup(new PatientRetriever(_retriever, _options, _searchFailed, _time), _options));
}

/// <summary>Where an episode's searches go, and its page openings if it allows any.</summary>
internal interface IQaLookup
{
    /// <summary>Whether the agent may open pages.</summary>
    bool AllowsOpen { get; }

    /// <summary>Carries out a search, or the opening of a page.</summary>
    /// <returns>What the agent is told, neutralised, and whether the environment (not the agent) failed.</returns>
    /// <exception cref="OperationCanceledException">The caller cancelled; the only exception.</exception>
    ValueTask<(string Body, bool Failed)> LookUpAsync(AgentAction action, CancellationToken cancellationToken);
}

/// <summary>Searches a corpus.</summary>
internal sealed class CorpusLookup(PatientRetriever retriever, RetrievalQaOptions options) : IQaLookup
{
    public bool AllowsOpen => false;

    public async ValueTask<(string Body, bool Failed)> LookUpAsync(AgentAction action, CancellationToken cancellationToken)
    {
        if (action.Content.Length == 0)
            return (EmptyQuery, false);
        IReadOnlyList<SearchHit>? hits = await retriever.TrySearchAsync(action.Content, options.Documents, cancellationToken);
        if (hits is null)
            return (SearchFailed, true);
        return hits.Count == 0
            ? ("No passage matches this query. Try other keywords.", false)
            : (AgentText.Documents([.. hits.Select(h => h.Passage)]), false);
    }

    internal const string EmptyQuery = "The query was empty. Write keywords between the search tags.";

    internal const string SearchFailed =
        "The search failed: the search service gave no result. Repeat the query or try another one.";
}

/// <summary>One episode of question answering, whatever is searched.</summary>
internal sealed class QaEpisode(EnvironmentTask task, RetrievalQaOptions options, string prompt, IQaLookup lookup) : IEnvironment
{
    private int _turn;
    private bool _ended;

    public string Prompt => prompt;

    public int MaxTurns { get; } = options.MaxTurns(task.Objectives.Count);

    public async ValueTask<TurnResult> StepAsync(string response, bool truncated, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        ThrowIfEnded();
        AgentAction? action = AgentAction.Parse(response, lookup.AllowsOpen);
        if (action is null)
            return End(truncated ? EpisodeEnd.Length : EpisodeEnd.InvalidFormat);
        if (action.IsAnswer)
            return End(EpisodeEnd.Answered, action.Content);
        if (_turn + 1 == MaxTurns)
            return End(EpisodeEnd.TurnLimit);
        (string body, bool failed) = await lookup.LookUpAsync(action, cancellationToken);
        _turn++;
        return new TurnResult(AgentText.Observation(Hint(MaxTurns - _turn), body), EpisodeEnd.None, null, failed ? 1 : 0);
    }

    public TurnResult Abort(EpisodeEnd reason)
    {
        if (reason == EpisodeEnd.None)
            throw new ArgumentOutOfRangeException(nameof(reason));
        ThrowIfEnded();
        return End(reason);
    }

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;

    private string Hint(int turnsLeft) =>
        turnsLeft == 1 ? options.LastTurnHint : options.TurnsLeftHint.Replace("{0}", $"{turnsLeft}", StringComparison.Ordinal);

    private TurnResult End(EpisodeEnd end, string? answer = null)
    {
        _ended = true;
        AnswerScore score = AnswerScorer.Score(answer, task.Objectives);
        bool broken = end is EpisodeEnd.InvalidFormat or EpisodeEnd.Length;
        double reward = broken ? options.InvalidFormatReward : options.Reward.Reward(score.ExactMatch);
        var episode = new EpisodeScore(reward, score.ExactMatch, score.F1, answer ?? "")
        {
            AnswerCount = score.AnswerCount,
            FormatReward = broken ? reward : 0,
        };
        return new TurnResult("", end, episode);
    }

    private void ThrowIfEnded()
    {
        if (_ended)
            throw new InvalidOperationException("The episode has already ended.");
    }
}

/// <summary>Searches with a time limit and retries; failure is a value.</summary>
internal sealed class PatientRetriever(
    IRetriever retriever, RetrievalQaOptions options, Action<string, Exception>? searchFailed, TimeProvider time)
{
    /// <summary>What was found, or null when every attempt failed.</summary>
    /// <exception cref="OperationCanceledException">The caller cancelled.</exception>
    public async ValueTask<IReadOnlyList<SearchHit>?> TrySearchAsync(string query, int k, CancellationToken cancellationToken)
    {
        TimeSpan delay = options.SearchRetryDelay;
        for (int attempt = 1; ; attempt++)
        {
            using var limit = new CancellationTokenSource(options.SearchTimeout, time);
            using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, limit.Token);
            try
            {
                ValueTask<IReadOnlyList<SearchHit>> search = retriever.RetrieveAsync(query, k, either.Token);
                // A retriever that ignores its token must not hold up the episode; what it returns late is dropped.
                IReadOnlyList<SearchHit> hits = await search.AsTask().WaitAsync(either.Token);
                return [.. hits.Take(k)];
            }
            catch (Exception e)
            {
                cancellationToken.ThrowIfCancellationRequested();
                bool late = limit.IsCancellationRequested;
                searchFailed?.Invoke(query, late ? new TimeoutException($"No result within {options.SearchTimeout}.", e) : e);
            }
            if (attempt == options.SearchAttempts)
                return null;
            await Task.Delay(delay, time, cancellationToken);
            delay *= 2;
        }
    }
}
