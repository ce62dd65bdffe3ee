// What a running training shows of itself at one moment. Keeps: plain data, made afresh for every look; ages and times are in seconds or
// UTC, so that a page needs no clock of the learner's.
namespace Mem1.Dashboard;

/// <summary>Where the dashboard looks at a training that runs in this process. Called from the dashboard's own thread.</summary>
public interface ILiveSource
{
    /// <summary>The state now; null before the learner serves. Must not block and must not touch the trainer's thread.</summary>
    LiveSnapshot? Snapshot();
}

/// <summary>A training at one moment.</summary>
public sealed record LiveSnapshot
{
    /// <summary>What tells the run's traces from those of others; null where not known.</summary>
    public string? Run { get; init; }
    /// <summary>Newest version of the policy.</summary>
    public long PolicyVersion { get; init; }
    /// <summary>How many versions old the oldest token of a batch may be; 0 is synchronous.</summary>
    public int StalenessBound { get; init; }
    /// <summary>Whether somebody has paused the run.</summary>
    public bool Paused { get; init; }
    /// <summary>How many episodes may be played at once over all workers; null for as many as they take.</summary>
    public int? ConcurrencyLimit { get; init; }
    /// <summary>Why tasks are, or are not, leased now; null where not known.</summary>
    public AdmissionState? Admission { get; init; }
    /// <summary>How long the learner has waited for its batch without that any episode finished; null while it does not wait.</summary>
    public double? WaitingSeconds { get; init; }
    /// <summary>Where workers find the learner.</summary>
    public string LearnerAddress { get; init; } = "";
    /// <summary>Tasks by state.</summary>
    public LedgerState Ledger { get; init; } = new();
    /// <summary>Connected workers.</summary>
    public IReadOnlyList<WorkerState> Workers { get; init; } = [];
    /// <summary>Nodes of the cluster as the learner's node sees them; empty without a cluster.</summary>
    public IReadOnlyList<NodeMember> Nodes { get; init; } = [];
    /// <summary>
    /// Actors of the worker in this process, then those of the other nodes; a parent before its children, those that failed before the
    /// others.
    /// </summary>
    public IReadOnlyList<ActorState> Actors { get; init; } = [];
    /// <summary>Episodes being played, and some that have ended.</summary>
    public IReadOnlyList<EpisodeState> Episodes { get; init; } = [];
    /// <summary>Counters of the worker in this process by name, in snake_case; empty without one.</summary>
    public IReadOnlyDictionary<string, double> Worker { get; init; } = new Dictionary<string, double>();
    /// <summary>Tasks given up, the newest last.</summary>
    public IReadOnlyList<QuarantineState> Quarantined { get; init; } = [];
}

/// <summary>How many tasks are in each state; they add up to the total.</summary>
public sealed record LedgerState
{
    /// <summary>Waiting for a worker.</summary>
    public int Pending { get; init; }
    /// <summary>Being played.</summary>
    public int Leased { get; init; }
    /// <summary>Complete, waiting for the batch.</summary>
    public int Buffered { get; init; }
    /// <summary>Handed to the learner.</summary>
    public int Consumed { get; init; }
    /// <summary>Given up, with evidence.</summary>
    public int Quarantined { get; init; }
    /// <summary>All tasks.</summary>
    public int Total { get; init; }
}

/// <summary>A connected worker.</summary>
/// <param name="Id">Its name.</param>
/// <param name="AppliedVersion">Newest version it has in place; -1 before the first.</param>
/// <param name="Credit">How many more leases it takes now.</param>
/// <param name="Leases">Leases it holds.</param>
/// <param name="ConnectedSeconds">Age of its stream.</param>
/// <param name="SilentSeconds">Since anything came from it.</param>
/// <param name="RunningEpisodes">As its last heartbeat said; null before the first.</param>
/// <param name="GeneratedTokens">Tokens it has drawn since it started, as its last heartbeat said.</param>
/// <param name="TokensPerSecond">Between its last two heartbeats.</param>
/// <param name="Unacknowledged">Turns it keeps until the learner has them: its back-pressure.</param>
public sealed record WorkerState(
    string Id, long AppliedVersion, int Credit, int Leases, double ConnectedSeconds, double SilentSeconds,
    int? RunningEpisodes, long? GeneratedTokens, double? TokensPerSecond, int? Unacknowledged)
{
    /// <summary>Resident memory of its process in bytes; null where not known.</summary>
    public long? ResidentBytes { get; init; }
    /// <summary>What pulling and reading the weights in place took; null before the first.</summary>
    public double? PullSeconds { get; init; }
    /// <summary>What its episodes spent over the last half minute, added up over them; null where not known.</summary>
    public TimeBudget? Budget { get; init; }
}

/// <summary>What episodes spent, in seconds.</summary>
/// <param name="Generating">Waiting for the policy, or being drawn for.</param>
/// <param name="Environment">In the environment.</param>
/// <param name="Waiting">For the learner.</param>
public sealed record TimeBudget(double Generating, double Environment, double Waiting);

/// <summary>The terms by which the next task is, or is not, leased.</summary>
/// <param name="Pending">Tasks that wait to be leased.</param>
/// <param name="Parked">Tasks of before a restart that wait for their weights.</param>
/// <param name="Leased">Tasks being played.</param>
/// <param name="Workers">Connected workers.</param>
/// <param name="FreshWorkers">Those with weights in place that are new enough for the next task.</param>
/// <param name="FreePlaces">Free places of those.</param>
/// <param name="NeedsVersion">The oldest policy that the next task may be played with; null when none waits.</param>
/// <param name="Binds">
/// The term that holds the next lease back: paused, staleness, recovery, concurrency_limit, no_worker, weights, free_places, closed, or
/// none.
/// </param>
public sealed record AdmissionState(
    int Pending, int Parked, int Leased, int Workers, int FreshWorkers, int FreePlaces, long? NeedsVersion, string Binds);

/// <summary>
/// A node of the cluster. A worker may be connected and have no node here, or the other way round: the two go different ways.
/// </summary>
/// <param name="Address">Host and port.</param>
/// <param name="Incarnation">Tells it from an earlier or later process at the same address; eight hexadecimal digits.</param>
/// <param name="Roles">learner, rollout, dashboard or retriever.</param>
/// <param name="Worker">Name of the worker on it; null for other roles and before its first report.</param>
/// <param name="Membership">joining, weakly_up, up, leaving, exiting or down.</param>
/// <param name="Reachable">Whether its heartbeats arrive.</param>
/// <param name="ReportSeconds">Since it last reported its actors; null before the first time.</param>
public sealed record NodeMember(
    string Address, string Incarnation, IReadOnlyList<string> Roles, string? Worker, string Membership, bool Reachable,
    double? ReportSeconds);

/// <summary>An actor.</summary>
/// <param name="Path">Its name under its node.</param>
/// <param name="Parent">The path of its supervisor; empty for a root.</param>
/// <param name="Kind">supervisor, policy, uplink or episode.</param>
/// <param name="State">What it does: running, generating, environment, waiting, restarted, failed, stopped, unreachable.</param>
/// <param name="Detail">A few words more; the episode's id for an episode.</param>
/// <param name="StateSeconds">How long it has been in that state.</param>
/// <param name="AgeSeconds">How long it has lived.</param>
/// <param name="Restarts">How often its supervisor restarted it.</param>
/// <param name="LastFailure">The last failure with its causes, a line each; null without one.</param>
public sealed record ActorState(
    string Path, string Parent, string Kind, string State, string Detail, double StateSeconds, double AgeSeconds, int Restarts,
    string? LastFailure)
{
    /// <summary>Messages that wait in its mailbox; null where that is not known.</summary>
    public int? Mailbox { get; init; }
    /// <summary>How long the oldest of them has waited; null where that is not known.</summary>
    public double? OldestSeconds { get; init; }
    /// <summary>Messages it handled per second since the look before; null where that is not known.</summary>
    public double? MessagesPerSecond { get; init; }
}

/// <summary>An episode.</summary>
/// <param name="Id">Of the episode.</param>
/// <param name="Worker">Who plays it.</param>
/// <param name="Attempt">Try of the task, from 1.</param>
/// <param name="Turn">Turn being played, from 0; null where only the lease is known.</param>
/// <param name="State">leased, generating, environment, waiting, finished or returned.</param>
/// <param name="AgeSeconds">Since its lease.</param>
/// <param name="Spans">What it did when; empty where only the lease is known.</param>
public sealed record EpisodeState(
    string Id, string Worker, int Attempt, int? Turn, string State, double AgeSeconds, IReadOnlyList<EpisodeSpan> Spans)
{
    /// <summary>What logs and traces.jsonl call it; null where not known.</summary>
    public string? TraceId { get; init; }
}

/// <summary>A stretch of an episode.</summary>
/// <param name="Kind">generating, environment or waiting.</param>
/// <param name="Turn">From 0.</param>
/// <param name="AgoSeconds">When it began, before now.</param>
/// <param name="Seconds">How long it took, or has taken so far.</param>
/// <param name="PolicyVersion">Version that generated; null for the other kinds.</param>
public sealed record EpisodeSpan(string Kind, int Turn, double AgoSeconds, double Seconds, long? PolicyVersion);

/// <summary>A task that was given up.</summary>
/// <param name="TaskId">Which.</param>
/// <param name="Reasons">A sentence per attempt.</param>
public sealed record QuarantineState(string TaskId, IReadOnlyList<string> Reasons);
