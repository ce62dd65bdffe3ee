// Invariants: the reward is read from the words of the agent's own answer block and from nothing else; every ended episode has a
// score; a search on the last turn is not carried out.

using Mem1.Environments.Common;

namespace Mem1.Environments.Worlds;

/// <summary>
/// Makes episodes of the worlds family: N objectives over a small world of made-up facts about countries, drawn anew per episode.
/// <code>
/// prompt:      &lt;task&gt; Belize anthem ; Cyprus leader ; &lt;end&gt;
/// response:    &lt;think&gt; Belize anthem ant_6 next Cyprus leader &lt;/think&gt; &lt;search&gt; Cyprus leader &lt;/search&gt;
/// observation: &lt;information&gt; &lt;doc&gt; Cyprus leader lea_4 . Cyprus food foo_1 . &lt;doc&gt; ... &lt;/information&gt;
/// last:        &lt;think&gt; Belize anthem ant_6 ; Cyprus leader lea_4 next &lt;/think&gt;
///              &lt;answer&gt; Belize anthem ant_6 ; Cyprus leader lea_4 &lt;/answer&gt;
/// </code>
/// Answers are keyed by entity and relation, so their order is free; of two entries with one key the first counts. The reward is
/// the fraction of objectives whose value is exactly right. Thread-safe.
/// </summary>
public sealed class WorldsEnvironmentFactory : IEnvironmentFactory
{
    private readonly WorldsOptions _options;

    /// <summary>Makes the factory.</summary>
    /// <exception cref="ArgumentException">The options contradict themselves.</exception>
    public WorldsEnvironmentFactory(WorldsOptions options)
    {
        Checks.Demand(options.Validate(), nameof(options));
        _options = options;
    }

    /// <inheritdoc/>
    public string Name => "worlds";

    /// <inheritdoc/>
    public IReadOnlyList<string> StopStrings { get; } = [WorldsVocabulary.SearchEnd, WorldsVocabulary.AnswerEnd];

    /// <inheritdoc/>
    public string InternalStateEnd => WorldsVocabulary.ThinkEnd;

    /// <inheritdoc/>
    public string ObservationEnd => WorldsVocabulary.InformationEnd;

    /// <inheritdoc/>
    public string? RightAction(EnvironmentTask task)
    {
        var entries = string.Join(
            $" {WorldsVocabulary.Separator} ", task.Objectives.Select(o => $"{o.Question} {o.GoldenAnswers[0]}"));
        return $"{WorldsVocabulary.Answer} {entries} {WorldsVocabulary.AnswerEnd}";
    }

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">The task is not one of this family.</exception>
    public IEnvironment Create(EnvironmentTask task, ulong seed) => new WorldsEnvironment(new World(task, seed, _options), _options);
}

/// <summary>One episode.</summary>
internal sealed class WorldsEnvironment(World world, WorldsOptions options) : IEnvironment
{
    private int _turn;
    private bool _ended;

    public string Prompt { get; } = string.Join(' ',
    [
        WorldsVocabulary.Task,
        .. world.Asked.SelectMany(f => (string[])[f.Entity, f.Relation, WorldsVocabulary.Separator]),
        WorldsVocabulary.TaskEnd,
    ]);

    public int MaxTurns { get; } = options.MaxTurns(world.Asked.Count);

    public ValueTask<TurnResult> StepAsync(string response, bool truncated, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        ThrowIfEnded();
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

    private TurnResult Step(string response, bool truncated)
    {
        WorldsAction? action = WorldsAction.Parse(response);
        if (action is null)
            return End(truncated ? EpisodeEnd.Length : EpisodeEnd.InvalidFormat);
        if (action.IsAnswer)
            return End(EpisodeEnd.Answered, action.Words);
        _turn++;
        if (_turn == MaxTurns)
            return End(EpisodeEnd.TurnLimit);
        string observation = string.Join(' ',
            [WorldsVocabulary.Information, .. world.Search(action.Words, _turn), WorldsVocabulary.InformationEnd]);
        return new TurnResult(observation, EpisodeEnd.None, null);
    }

    private TurnResult End(EpisodeEnd end, IReadOnlyList<string>? answer = null)
    {
        _ended = true;
        double[] right = WorldsAction.Score(answer ?? [], world.Asked, out int entries);
        bool broken = end is EpisodeEnd.InvalidFormat or EpisodeEnd.Length;
        double reward = broken ? options.InvalidFormatReward : right.Average();
        var score = new EpisodeScore(reward, right, right, string.Join(' ', answer ?? []))
        {
            AnswerCount = entries,
            FormatReward = broken ? reward : 0,
        };
        return new TurnResult("", end, score);
    }

    private void ThrowIfEnded()
    {
        if (_ended)
            throw new InvalidOperationException("The episode has already ended.");
    }
}

/// <summary>What a well-formed response asks for.</summary>
/// <param name="IsAnswer">An answer, else a query.</param>
/// <param name="Words">The words between the action's tags.</param>
internal sealed record WorldsAction(bool IsAnswer, IReadOnlyList<string> Words)
{
    /// <summary>
    /// Reads "think block, then one action block, nothing else"; no structural word may stand inside a block. Null when the format is
    /// broken.
    /// </summary>
    public static WorldsAction? Parse(string response)
    {
        string[] words = response.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
        int close = Array.IndexOf(words, WorldsVocabulary.ThinkEnd);
        if (words.Length < 4 || words[0] != WorldsVocabulary.Think || close < 1 || close + 2 >= words.Length)
            return null;
        string[] memory = words[1..close], body = words[(close + 2)..^1];
        if (memory.Any(WorldsVocabulary.IsStructure) || body.Any(WorldsVocabulary.IsStructure))
            return null;
        return (words[close + 1], words[^1]) switch
        {
            (WorldsVocabulary.Search, WorldsVocabulary.SearchEnd) => new WorldsAction(false, body),
            (WorldsVocabulary.Answer, WorldsVocabulary.AnswerEnd) => new WorldsAction(true, body),
            _ => null,
        };
    }

    /// <summary>0 or 1 per asked fact; entries are "entity relation value", and entries of another length count for nothing.</summary>
    /// <param name="words">The words of the answer.</param>
    /// <param name="asked">The asked facts.</param>
    /// <param name="entries">How many entries with distinct keys the answer holds.</param>
    public static double[] Score(IReadOnlyList<string> words, IReadOnlyList<WorldFact> asked, out int entries)
    {
        var given = new Dictionary<(string, string), string>();
        var entry = new List<string>();
        foreach (string word in words.Append(WorldsVocabulary.Separator))
        {
            if (word != WorldsVocabulary.Separator)
            {
                entry.Add(word);
                continue;
            }
            if (entry.Count == 3)
                given.TryAdd((entry[0], entry[1]), entry[2]);
            entry.Clear();
        }
        entries = given.Count;
        return [.. asked.Select(f => given.TryGetValue((f.Entity, f.Relation), out string? value) && value == f.Value ? 1.0 : 0.0)];
    }
}
