namespace Mem1.Learner;

/// <summary>One try of a task: who played it, when, and how it ended.</summary>
/// <param name="Attempt">Its number, from 1.</param>
/// <param name="Worker">Who played it.</param>
/// <param name="Leased">When the lease went out; null when that was before a restart of the learner.</param>
public sealed record EpisodeTry(int Attempt, string Worker, DateTimeOffset? Leased)
{
    /// <summary>How many turns of earlier tries it went on from.</summary>
    public int FromTurn { get; init; }

    /// <summary>When it ended; null while it is played.</summary>
    public DateTimeOffset? Ended { get; init; }

    /// <summary>
    /// <c>Finished</c>, <c>Released</c> (it never reached its worker, or is awaited no longer), or the <see cref="DiscardCause"/>; empty while
    /// it is played.
    /// </summary>
    public string How { get; init; } = "";

    /// <summary>What the worker or the ledger said of it; empty for nothing.</summary>
    public string Reason { get; init; } = "";
}
