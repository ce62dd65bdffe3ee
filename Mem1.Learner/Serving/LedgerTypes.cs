using Mem1.Environments;
using Mem1.Protocol.V1;

namespace Mem1.Learner;

/// <summary>A task to be played once.</summary>
/// <param name="Task">What to play; its id is unique within the run.</param>
/// <param name="Seed">Of everything random in the episode.</param>
/// <param name="Temperature">0 is greedy.</param>
/// <param name="TopP">Nucleus mass.</param>
/// <param name="MaxNewTokens">Per turn.</param>
/// <param name="Evaluation">Scored, never trained on.</param>
public sealed record TaskRequest(EnvironmentTask Task, ulong Seed, float Temperature, float TopP, int MaxNewTokens, bool Evaluation)
{
    /// <summary>Of what the policy draws, where that differs from <see cref="Seed"/>: episodes of a group differ in it alone.</summary>
    public ulong? SamplingSeed { get; init; }

    /// <summary>Requests of one batch with the same name here ask for the same task with the same seed; empty without groups.</summary>
    public string Group { get; init; } = "";

    /// <summary>Tokens of an action that would answer the task rightly, for rewards of memory; empty when nobody needs one.</summary>
    public int[] RightAnswer { get; init; } = [];
}

/// <summary>How many tasks are in each state.</summary>
/// <param name="Pending">Waiting for a worker.</param>
/// <param name="Leased">Being played.</param>
/// <param name="Buffered">Complete, waiting for the batch.</param>
/// <param name="Consumed">Handed to the learner.</param>
/// <param name="Quarantined">Given up, with evidence.</param>
public readonly record struct LedgerCounts(int Pending, int Leased, int Buffered, int Consumed, int Quarantined)
{
    /// <summary>All tasks ever asked for, but for those of batches that were withdrawn: they leave the ledger.</summary>
    public int Total => Pending + Leased + Buffered + Consumed + Quarantined;
}

/// <summary>A task that was given up.</summary>
/// <param name="TaskId">Which.</param>
/// <param name="Reasons">One sentence per attempt.</param>
public sealed record QuarantinedTask(string TaskId, IReadOnlyList<string> Reasons)
{
    /// <summary>Of its episode; empty when it was given up before a restart of the learner.</summary>
    public string TraceId { get; init; } = "";

    /// <summary>The tries that are known of, in order.</summary>
    public IReadOnlyList<EpisodeTry> Tries { get; init; } = [];
}

/// <summary>Why a try of a task came to nothing. The task itself is played again, or quarantined after too many failures.</summary>
public enum DiscardCause
{
    /// <summary>Complete, but its oldest token had become older than the bound allows when its batch was to be trained on.</summary>
    Stale,
    /// <summary>What the worker sent contradicts itself, its episode or its lease.</summary>
    Rejected,
    /// <summary>The worker gave it back.</summary>
    Returned,
    /// <summary>The lease ran out.</summary>
    Expired,
    /// <summary>Its worker left or stayed away. The turns it had sent are kept, and the next try goes on from them.</summary>
    WorkerGone,
    /// <summary>The turns of an earlier try could not be gone on from: too old by now, or the environment answered differently.</summary>
    Unresumable,
}

/// <summary>What the ledger may lease to. Implemented by a worker's session.</summary>
internal interface ILeaseTarget
{
    string WorkerId { get; }

    /// <summary>The newest version the worker has acknowledged; -1 before the first.</summary>
    long AppliedVersion { get; }

    int Credit { get; }

    /// <summary>Queues a lease and takes one credit, without blocking; false when the session is closing.</summary>
    bool TrySend(TaskLease lease);

    /// <summary>Ends the session, without blocking: another of the same worker has taken its place.</summary>
    void End();
}

/// <summary>What a lease can depend on.</summary>
public enum AdmissionTerm
{
    /// <summary>Nothing: a task is about to be leased.</summary>
    None,
    /// <summary>The run is paused.</summary>
    Paused,
    /// <summary>All tasks of all batches that the staleness bound lets be played are out or done.</summary>
    Staleness,
    /// <summary>Turns of before a restart wait for the weights they were made with, which are being made again.</summary>
    Recovery,
    /// <summary>As many are played at once as somebody has allowed.</summary>
    ConcurrencyLimit,
    /// <summary>No worker is connected.</summary>
    NoWorker,
    /// <summary>No worker has weights in place that are new enough.</summary>
    Weights,
    /// <summary>The workers that have them have no free place.</summary>
    FreePlaces,
    /// <summary>The run is ending.</summary>
    Closed,
}

/// <summary>Why tasks are, or are not, leased at one moment.</summary>
/// <param name="Pending">Tasks that wait to be leased.</param>
/// <param name="Parked">Tasks of before a restart that wait for their weights.</param>
/// <param name="Leased">Tasks being played.</param>
/// <param name="Workers">Connected workers.</param>
/// <param name="FreshWorkers">Those with weights in place that are new enough for the next task.</param>
/// <param name="FreePlaces">Free places of those.</param>
/// <param name="NeedsVersion">The oldest version of the weights that the next task may be played with; null when none waits.</param>
/// <param name="Binds">The term that holds the next lease back.</param>
public sealed record AdmissionStatus(
    int Pending, int Parked, int Leased, int Workers, int FreshWorkers, int FreePlaces, long? NeedsVersion, AdmissionTerm Binds);
