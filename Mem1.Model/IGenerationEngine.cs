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
    long Id, int[] Context, SamplingOptions Sampling, IReadOnlyList<string> StopStrings, ulong Seed);

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

    /// <summary>Adds a request; it takes part from the next step on.</summary>
    /// <exception cref="ArgumentException">The context is empty, holds an id outside the vocabulary, or leaves no room.</exception>
    void Submit(GenerationRequest request);

    /// <summary>Drops a request; unknown ids are ignored.</summary>
    void Cancel(long id);

    /// <summary>Draws one token for every active request and returns those that finished with it.</summary>
    IReadOnlyList<GenerationResult> Step();

    /// <summary>
    /// Puts new weights in place between two tokens. Requests in flight go on under them: their caches are computed again, so that
    /// every later log-prob is exactly that of the new policy on the tokens so far.
    /// </summary>
    void SwapWeights(ModelWeights weights, long policyVersion);
}
