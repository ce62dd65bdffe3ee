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
    /// <summary>Resident memory of its process in bytes, by its last heartbeat; null where not known.</summary>
    public long? ResidentBytes { get; init; }
    /// <summary>What pulling and reading the weights in place took; null before the first.</summary>
    public TimeSpan? PullTime { get; init; }
    /// <summary>What its episodes spent over the last half minute; null before the second heartbeat.</summary>
    public EpisodeTimes? Spent { get; init; }
}

/// <summary>What a worker's episodes spent, added up over them.</summary>
/// <param name="Generating">Waiting for the policy, or being drawn for.</param>
/// <param name="Environment">In the environment.</param>
/// <param name="Waiting">For the learner to take a turn.</param>
public readonly record struct EpisodeTimes(TimeSpan Generating, TimeSpan Environment, TimeSpan Waiting);

/// <summary>A task that is being played.</summary>
/// <param name="EpisodeId">The episode.</param>
/// <param name="WorkerId">Who plays it.</param>
/// <param name="Attempt">Which try of the task, from 1.</param>
/// <param name="Age">Since it was leased.</param>
public sealed record LeaseStatus(string EpisodeId, string WorkerId, int Attempt, TimeSpan Age);
