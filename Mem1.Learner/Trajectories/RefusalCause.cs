namespace Mem1.Learner;

/// <summary>Why a sub-trajectory was not taken.</summary>
public enum RefusalCause
{
    /// <summary>Generated tokens without a policy version, or with one that does not exist.</summary>
    Versions,
    /// <summary>Not as many log-probs as generated tokens, or more tokens than the model's context holds.</summary>
    Lengths,
    /// <summary>Segments of no known kind, or in an order that no turn has.</summary>
    Segments,
    /// <summary>Tokens outside the vocabulary.</summary>
    Tokens,
    /// <summary>Log-probs that are not finite, or above 0; or nothing was generated.</summary>
    LogProbs,
    /// <summary>Rewards or scores that are not numbers within their limits, or an end without them.</summary>
    Scores,
    /// <summary>A turn that no episode can have, or turns after the one that ended the episode.</summary>
    Order,
    /// <summary>Another prompt or another context than what is kept of the turn before.</summary>
    Context,
    /// <summary>It contradicts its lease: another task, or another number of objectives.</summary>
    Lease,
    /// <summary>It was here before. Nothing is wrong with that, and it costs the episode nothing.</summary>
    Duplicate,
    /// <summary>Nobody waits for it any more: its lease is another worker's now, or its batch was given up.</summary>
    Late,
}
