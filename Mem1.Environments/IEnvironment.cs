namespace Mem1.Environments;

/// <summary>One question of a task, with every answer that counts as right.</summary>
/// <param name="Id">Identifier of the question in its source.</param>
/// <param name="Question">The question as the agent reads it.</param>
/// <param name="GoldenAnswers">Accepted answers; never empty.</param>
public sealed record Objective(string Id, string Question, IReadOnlyList<string> GoldenAnswers);

/// <summary>What one episode is about: one or more objectives asked together (the composition of MEM1, section 4.1).</summary>
/// <param name="Id">Identifier, unique within a run.</param>
/// <param name="Objectives">The objectives in the order they are asked; never empty.</param>
public sealed record EnvironmentTask(string Id, IReadOnlyList<Objective> Objectives)
{
    /// <summary>Name of the environment within a mix that the task belongs to; empty without a mix.</summary>
    public string Environment { get; init; } = "";
}

/// <summary>Why an episode ended.</summary>
public enum EpisodeEnd
{
    /// <summary>It goes on.</summary>
    None,
    /// <summary>The agent gave a final answer.</summary>
    Answered,
    /// <summary>The last allowed turn brought no answer.</summary>
    TurnLimit,
    /// <summary>The response held no complete action.</summary>
    InvalidFormat,
    /// <summary>The response hit its token limit before it closed a tag.</summary>
    Length,
    /// <summary>The context of the next turn would not fit the model.</summary>
    ContextFull,
}

/// <summary>What an ended episode was worth.</summary>
/// <param name="Reward">Total reward of the episode, as trained on.</param>
/// <param name="ExactMatch">0 or 1 per objective.</param>
/// <param name="F1">Token F1 per objective, in [0, 1].</param>
/// <param name="Answer">Text of the final answer; empty if there was none.</param>
public sealed record EpisodeScore(double Reward, IReadOnlyList<double> ExactMatch, IReadOnlyList<double> F1, string Answer)
{
    /// <summary>The part of <see cref="Reward"/> that is for keeping or breaking the format alone; metrics show it apart.</summary>
    public double FormatReward { get; init; }

    /// <summary>How many answers the final answer held; 0 if there was none. It should equal the number of objectives.</summary>
    public int AnswerCount { get; init; }
}

/// <summary>What a response brought about.</summary>
/// <param name="Observation">The observation as the next turn's context reads it, tags included; empty when the episode ended.</param>
/// <param name="End">Whether and why the episode ended.</param>
/// <param name="Score">Set exactly when <paramref name="End"/> is not <see cref="EpisodeEnd.None"/>.</param>
/// <param name="Failures">Environment failures (a dead retriever, say) that became observations in this step.</param>
public sealed record TurnResult(string Observation, EpisodeEnd End, EpisodeScore? Score, int Failures = 0)
{
    /// <summary>
    /// What a turn that does not end the episode earned by itself: it is trained on at the end of that turn, and the total reward of the
    /// episode's score includes it.
    /// </summary>
    public double Reward { get; init; }
}

/// <summary>
/// One episode of a multi-turn environment. Text in, text out: it knows nothing of tokens, models or actors.
/// Not thread-safe; calls come one after the other.
/// </summary>
public interface IEnvironment : IAsyncDisposable
{
    /// <summary>The user prompt (before any chat template), fixed for the episode.</summary>
    string Prompt { get; }

    /// <summary>How many responses the agent may give.</summary>
    int MaxTurns { get; }

    /// <summary>Takes the agent's next response, up to and including the first closing action tag.</summary>
    /// <param name="response">The response's text.</param>
    /// <param name="truncated">True when the response hit its token limit instead of a stop string.</param>
    /// <param name="cancellationToken">Cancels a running search.</param>
    /// <exception cref="InvalidOperationException">The episode has already ended.</exception>
    ValueTask<TurnResult> StepAsync(string response, bool truncated, CancellationToken cancellationToken);

    /// <summary>Ends the episode from outside (the context is full); returns its score.</summary>
    TurnResult Abort(EpisodeEnd reason);
}

/// <summary>Makes the episodes of one environment. Thread-safe.</summary>
public interface IEnvironmentFactory
{
    /// <summary>Name for logs and configs.</summary>
    string Name { get; }

    /// <summary>Strings at which generation stops; the stop string stays in the response.</summary>
    IReadOnlyList<string> StopStrings { get; }

    /// <summary>The tag that closes the internal state within a response: what follows it is the action.</summary>
    string InternalStateEnd { get; }

    /// <summary>
    /// The tag up to and including which a response is dropped from the next turn's context; null keeps all of it. For formats whose
    /// memory is a part of its own, so that thoughts need not be kept (MEM1's WebShop: think, then summary, then answer). Its first
    /// occurrence counts; a response without it is kept whole.
    /// </summary>
    string? DiscardedEnd => null;

    /// <summary>The tag that closes an observation; kept when an observation is clipped.</summary>
    string ObservationEnd { get; }

    /// <summary>
    /// An action that would answer the task rightly, as the agent would write it after its internal state; null when none is known. It
    /// serves rewards for memory (ppo.shaping.answer_gain) and is never shown to the agent.
    /// </summary>
    string? RightAction(EnvironmentTask task) => null;

    /// <summary>Starts an episode. The same task and seed give the same episode for the same responses.</summary>
    IEnvironment Create(EnvironmentTask task, ulong seed);
}

/// <summary>An endless, seekable supply of tasks: the same index and seed give the same task.</summary>
public interface ITaskSource
{
    /// <summary>Numbers of objectives that its tasks come in, ascending; null when it makes tasks of any number.</summary>
    IReadOnlyList<int>? ObjectiveCounts => null;

    /// <summary>Makes the task at an index.</summary>
    /// <param name="index">Position in the sequence, from 0.</param>
    /// <param name="objectives">How many objectives the task has; at least 1.</param>
    /// <param name="seed">Seed of the sequence; training and held-out tasks use different ones.</param>
    EnvironmentTask Get(long index, int objectives, ulong seed);
}

/// <summary>
/// A scripted player of an environment, used for behaviour cloning. It knows the answers and errs on purpose with the
/// probabilities of its options, so that reinforcement learning has something to mend.
/// </summary>
public interface IExpert
{
    /// <summary>Starts to play one episode.</summary>
    IExpertEpisode Begin(EnvironmentTask task, ulong seed);
}

/// <summary>The expert within one episode.</summary>
public interface IExpertEpisode
{
    /// <summary>The next response, from the observation before it (null on the first turn).</summary>
    string Respond(string? observation);
}
