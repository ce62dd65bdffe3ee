namespace Mem1.Learner;

/// <summary>A connected worker, as the learner knows it at one moment.</summary>
/// <param name="WorkerId">Its name.</param>
/// <param name="AppliedVersion">Newest policy version it has in place; -1 before the first.</param>
/// <param name="Credit">How many more leases it takes now.</param>
/// <param name="Connected">Age of its stream.</param>
/// <param name="Silent">Time since anything came from it.</param>
public sealed record WorkerStatus(string WorkerId, long AppliedVersion, int Credit, TimeSpan Connected, TimeSpan Silent)
{
    /// <summary>Episodes it plays, by its last heartbeat; null before the first.</summary>
    public int? RunningEpisodes { get; init; }
    /// <summary>Tokens it has drawn since it started, by its last heartbeat; null before the first.</summary>
    public long? GeneratedTokens { get; init; }
    /// <summary>Turns it keeps until the learner has them, by its last heartbeat; null before the first.</summary>
    public int? Unacknowledged { get; init; }
    /// <summary>Tokens drawn per second between its last two heartbeats; null before the second.</summary>
    public double? TokensPerSecond { get; init; }
}

/// <summary>A task that is being played.</summary>
/// <param name="EpisodeId">The episode.</param>
/// <param name="WorkerId">Who plays it.</param>
/// <param name="Attempt">Which try of the task, from 1.</param>
/// <param name="Age">Since it was leased.</param>
public sealed record LeaseStatus(string EpisodeId, string WorkerId, int Attempt, TimeSpan Age);
