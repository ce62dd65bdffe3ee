namespace Mem1.Model;

/// <summary>How tokens are drawn.</summary>
/// <param name="Temperature">0 is greedy; otherwise logits are divided by it.</param>
/// <param name="TopP">Nucleus: the smallest set of most likely tokens with at least this mass; 1 keeps all.</param>
/// <param name="MaxNewTokens">Limit of one response.</param>
public sealed record SamplingOptions(float Temperature, float TopP, int MaxNewTokens);

/// <summary>A context to continue.</summary>
/// <param name="Id">Chosen by the caller; comes back with the result.</param>
/// <param name="Context">Token ids, never empty.</param>
/// <param name="Sampling">How to draw.</param>
/// <param name="StopStrings">Generation ends with the token that completes one of them; that token is kept.</param>
/// <param name="Seed">Of this request's own random stream: the result does not depend on what else is in the batch.</param>
public sealed record GenerationRequest(
    long Id, int[] Context, SamplingOptions Sampling, IReadOnlyList<string> StopStrings, ulong Seed)
{
    /// <summary>
    /// Null: the context is read as it stands. Otherwise <see cref="Context"/> is the whole episode so far, every token once, and the
    /// engine goes on from what it computed for it, with the memory of an agent that forgets all but the last turn.
    /// </summary>
    public CarriedEpisode? Carry { get; init; }

    /// <summary>
    /// How many tokens at the start of the context other requests, of this episode or of others, will begin with too: an engine may keep
    /// what it computed for them until the weights change. It saves time and changes no result. 0 where nothing is shared or known.
    /// </summary>
    public int SharedPrompt { get; init; }

    /// <summary>Told of every token as it is drawn; null when only the result matters.</summary>
    public ITokenObserver? Observer { get; init; }

    /// <summary>How many of the most likely tokens the observer is told with every one drawn; 0 is none.</summary>
    public int TopLogProbs { get; init; }
}

/// <summary>A token and the natural log of its probability, temperature included.</summary>
/// <param name="Token">Its id.</param>
/// <param name="LogProb">As in <see cref="GenerationResult.LogProbs"/>.</param>
public readonly record struct TokenLogProb(int Token, float LogProb);

/// <summary>Follows a request token by token.</summary>
public interface ITokenObserver
{
    /// <summary>A token was drawn. Called by the thread that steps the engine, in order; it must not throw.</summary>
    /// <param name="token">Its id.</param>
    /// <param name="logProb">Its log-prob, as the result will hold it.</param>
    /// <param name="policyVersion">Of the weights that made its logits.</param>
    /// <param name="top">The most likely tokens in its place, best first; as many as were asked for.</param>
    void Drawn(int token, float logProb, long policyVersion, IReadOnlyList<TokenLogProb> top);
}

/// <summary>A turn of a carried episode.</summary>
/// <param name="Length">Its tokens: what was generated and what the environment answered; at least 1.</param>
/// <param name="Discarded">How many at its start the turns after it do not see.</param>
public readonly record struct CarriedTurn(int Length, int Discarded);

/// <summary>
/// How the context of a request came about: prompt, then turns. When a turn begins, all before it is evicted but the prompt and what is
/// kept of the turn before; keys and values that stay are not computed again (the <c>carry</c> layout).
/// </summary>
/// <param name="Episode">
/// Chosen by the caller: under this number the engine keeps what it computed until <see cref="IGenerationEngine.Release"/>. It saves
/// time and changes no result: what is not there (after a swap of weights, for one) is computed again from the context, turn by turn.
/// </param>
/// <param name="Prompt">Tokens of the context that are prompt; at least 1.</param>
/// <param name="Turns">The turns that follow it in the context; the request generates the next one.</param>
public sealed record CarriedEpisode(long Episode, int Prompt, IReadOnlyList<CarriedTurn> Turns);

/// <summary>Why a continuation ended.</summary>
public enum FinishReason
{
    /// <summary>A stop string was completed.</summary>
    Stop,
    /// <summary>The end-of-text token was drawn; it is the last token.</summary>
    EndOfText,
    /// <summary>The limit of new tokens, or of the model's context, was reached.</summary>
    Length,
}

/// <summary>A finished continuation. The three arrays have the same length.</summary>
/// <param name="Id">The request's.</param>
/// <param name="Tokens">What was drawn, stop tokens included.</param>
/// <param name="LogProbs">
/// Natural log of each token's probability under softmax(logits / temperature) over the whole vocabulary (temperature 1 when greedy).
/// </param>
/// <param name="PolicyVersions">For each token the version of the weights that made its logits.</param>
/// <param name="Finish">Why it ended.</param>
public sealed record GenerationResult(long Id, int[] Tokens, float[] LogProbs, long[] PolicyVersions, FinishReason Finish);

/// <summary>
/// Continuous batching over one model: requests join and leave at token boundaries. Not thread-safe; one owner calls it.
/// </summary>
public interface IGenerationEngine : IDisposable
{
    /// <summary>Version of the weights in use.</summary>
    long PolicyVersion { get; }

    /// <summary>Requests submitted and not yet finished.</summary>
    int Active { get; }

    /// <summary>Tokens drawn since creation.</summary>
    long GeneratedTokens { get; }

    /// <summary>
    /// Tokens read since creation: all that were run through the model but those that had just been drawn. 0 for an engine that cannot
    /// tell.
    /// </summary>
    long PrefillTokens => 0;

    /// <summary>Tokens that would have been read too, had what was computed for a shared prompt not been kept.</summary>
    long ReusedTokens => 0;

    /// <summary>Adds a request; it takes part from the next step on.</summary>
    /// <exception cref="ArgumentException">
    /// The context is empty, holds an id outside the vocabulary, leaves no room, is shorter than its shared prompt, or is to be carried by
    /// an engine that cannot.
    /// </exception>
    void Submit(GenerationRequest request);

    /// <summary>Forgets what is kept of a carried episode; unknown ones are ignored.</summary>
    void Release(long episode)
    {
    }

    /// <summary>Drops a request; unknown ids are ignored.</summary>
    void Cancel(long id);

    /// <summary>Draws one token for every active request and returns those that finished with it.</summary>
    IReadOnlyList<GenerationResult> Step();

    /// <summary>
    /// Puts new weights in place between two tokens. Requests in flight go on under them: their caches are computed again, so that
    /// every later log-prob is exactly that of the new policy on the tokens so far. So are those of carried episodes, from their first
    /// token on.
    /// </summary>
    void SwapWeights(ModelWeights weights, long policyVersion);
}
