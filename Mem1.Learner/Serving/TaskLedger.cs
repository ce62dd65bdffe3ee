// Keeps:
//  * every task is in exactly one state: pending -> leased -> buffered -> consumed, or quarantined; the counts always add up;
//  * a lease dies with its worker, on return, or by age, and the task is leased again with the same seed; nothing is dropped silently;
//  * a task is leased only to a worker that has the newest weights in place, so a synchronous batch is sampled under one version;
//  * results come back in the order the tasks were asked for, whatever order they finished in.
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
public sealed record TaskRequest(EnvironmentTask Task, ulong Seed, float Temperature, float TopP, int MaxNewTokens, bool Evaluation);

/// <summary>How many tasks are in each state.</summary>
/// <param name="Pending">Waiting for a worker.</param>
/// <param name="Leased">Being played.</param>
/// <param name="Buffered">Complete, waiting for the batch.</param>
/// <param name="Consumed">Handed to the learner.</param>
/// <param name="Quarantined">Given up, with evidence.</param>
public readonly record struct LedgerCounts(int Pending, int Leased, int Buffered, int Consumed, int Quarantined)
{
    /// <summary>All tasks ever asked for.</summary>
    public int Total => Pending + Leased + Buffered + Consumed + Quarantined;
}

/// <summary>A task that was given up.</summary>
/// <param name="TaskId">Which.</param>
/// <param name="Reasons">One sentence per attempt.</param>
public sealed record QuarantinedTask(string TaskId, IReadOnlyList<string> Reasons);

/// <summary>What the ledger may lease to. Implemented by a worker's session.</summary>
internal interface ILeaseTarget
{
    string WorkerId { get; }

    /// <summary>The newest version the worker has acknowledged; -1 before the first.</summary>
    long AppliedVersion { get; }

    int Credit { get; }

    /// <summary>Sends a lease and takes one credit; false when the session is closing.</summary>
    bool TrySend(TaskLease lease);
}

/// <summary>The learner's record of every task. Thread-safe.</summary>
public sealed class TaskLedger
{
    /// <summary>Attempts after which a task is quarantined: enough for a worker's death and an environment's hiccup, few enough to end.</summary>
    public const int MaxAttempts = 3;

    // A worker whose stream broke reconnects within seconds or not at all; its leases wait this long for it.
    private static readonly TimeSpan AbsenceLimit = TimeSpan.FromSeconds(30);

    private readonly Lock _lock = new();
    private readonly TimeProvider _time;
    private readonly TimeSpan _leaseLimit;
    private readonly Func<long> _requiredVersion;
    private readonly TrajectoryAssembler _assembler = new();
    private readonly Dictionary<string, Entry> _entries = new(StringComparer.Ordinal); // pending, leased and buffered tasks
    private readonly LinkedList<Entry> _pending = new();
    private readonly List<ILeaseTarget> _targets = [];
    private readonly List<QuarantinedTask> _quarantined = [];
    private readonly Dictionary<string, DateTimeOffset> _absentSince = new(StringComparer.Ordinal); // workers whose stream broke
    private int _consumed;

    /// <summary>Makes an empty ledger.</summary>
    /// <param name="requiredVersion">The version a worker must have in place to get a lease now.</param>
    /// <param name="leaseLimit">Age at which a lease dies.</param>
    /// <param name="time">Clock.</param>
    public TaskLedger(Func<long> requiredVersion, TimeSpan leaseLimit, TimeProvider time)
    {
        (_requiredVersion, _leaseLimit, _time) = (requiredVersion, leaseLimit, time);
    }

    /// <summary>Counts by state.</summary>
    public LedgerCounts Counts
    {
        get
        {
            lock (_lock)
            {
                return new LedgerCounts(
                    _pending.Count,
                    _entries.Values.Count(e => e.State == EntryState.Leased),
                    _entries.Values.Count(e => e.State == EntryState.Buffered),
                    _consumed,
                    _quarantined.Count);
            }
        }
    }

    /// <summary>Every task given up so far.</summary>
    public IReadOnlyList<QuarantinedTask> Quarantined
    {
        get
        {
            lock (_lock) return [.. _quarantined];
        }
    }

    /// <summary>Has tasks played and waits for all of them.</summary>
    /// <param name="requests">Tasks; their ids must be new.</param>
    /// <param name="progress">Called with the number of finished tasks, from the ledger's lock: be quick.</param>
    /// <param name="cancellationToken">Gives the whole batch up; its tasks leave the ledger.</param>
    /// <returns>The trajectories in the order of the requests; quarantined tasks are missing.</returns>
    public async Task<IReadOnlyList<Trajectory>> RunAsync(
        IReadOnlyList<TaskRequest> requests, Action<int>? progress, CancellationToken cancellationToken)
    {
        var batch = new Batch(requests.Count, progress);
        var mine = new List<Entry>(requests.Count);
        lock (_lock)
        {
            foreach (var request in requests)
            {
                var entry = new Entry(request, batch);
                if (!_entries.TryAdd(request.Task.Id, entry))
                    throw new ArgumentException($"Task {request.Task.Id} is already in the ledger.", nameof(requests));
                entry.Node = _pending.AddLast(entry);
                mine.Add(entry);
            }

            Dispatch();
        }

        try
        {
            if (requests.Count > 0) await batch.Done.Task.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            lock (_lock)
            {
                foreach (var entry in mine)
                {
                    if (_entries.Remove(entry.Id) && entry.State == EntryState.Buffered) _consumed++;
                    if (entry.Node is { } node) _pending.Remove(node);
                    entry.Node = null;
                    if (entry.State == EntryState.Leased) _assembler.Forget(entry.Id, entry.Attempt);
                }
            }
        }

        return [.. mine.Where(e => e.Trajectory is not null).Select(e => e.Trajectory!)];
    }

    /// <summary>Takes one turn from a worker.</summary>
    /// <returns>True when it may be acknowledged: it is held, was held before, or will never be wanted.</returns>
    public bool Add(SubTrajectory sub)
    {
        lock (_lock)
        {
            // An episode nobody waits for (an older attempt, a batch given up) is acknowledged so that the worker forgets it.
            if (!_entries.TryGetValue(sub.EpisodeId, out var entry) || entry.State != EntryState.Leased || entry.Attempt != sub.Attempt)
                return true;
            var result = _assembler.Add(sub);
            switch (result.Outcome)
            {
                case AssemblyOutcome.Completed:
                    entry.Trajectory = result.Trajectory;
                    entry.State = EntryState.Buffered;
                    entry.Holder = null;
                    entry.Batch.Finish();
                    break;
                case AssemblyOutcome.Rejected:
                    Fail(entry, result.Reason!);
                    break;
            }

            return true;
        }
    }

    /// <summary>A worker gives a lease up.</summary>
    public void Return(string episodeId, int attempt, string reason)
    {
        lock (_lock)
        {
            if (_entries.TryGetValue(episodeId, out var entry) && entry.State == EntryState.Leased && entry.Attempt == attempt)
                Fail(entry, reason);
        }
    }

    /// <summary>Ends leases older than the limit. Called from a timer.</summary>
    public void ExpireLeases()
    {
        var now = _time.GetUtcNow();
        lock (_lock)
        {
            foreach (var entry in _entries.Values.Where(e => e.State == EntryState.Leased).ToList())
            {
                var worker = entry.Holder!.WorkerId;
                if (now - entry.LeasedAt > _leaseLimit)
                    Fail(entry, $"The lease of worker {worker} ran out after {_leaseLimit.TotalSeconds:0} s.");
                else if (_absentSince.TryGetValue(worker, out var since) && now - since > AbsenceLimit)
                    Fail(entry, $"Worker {worker} has been gone for more than {AbsenceLimit.TotalSeconds:0} s.");
            }
        }
    }

    /// <summary>Workers got credit or weights: leases may go out.</summary>
    internal void Wake()
    {
        lock (_lock) Dispatch();
    }

    /// <summary>A session began.</summary>
    /// <param name="target">The session.</param>
    /// <param name="held">
    /// The leases its worker still plays, as it said in its hello. A lease that was sent down a stream as it broke never arrived: it is
    /// not among them, and goes to somebody now instead of waiting for its age.
    /// </param>
    internal void Join(ILeaseTarget target, IReadOnlySet<(string EpisodeId, int Attempt)> held)
    {
        lock (_lock)
        {
            _targets.RemoveAll(t => t.WorkerId == target.WorkerId); // its old session: whatever is sent there is lost too
            var lost = _entries.Values.Where(e => e.State == EntryState.Leased && e.Holder?.WorkerId == target.WorkerId && !held.Contains((e.Id, e.Attempt)));
            foreach (var entry in lost.ToList()) Fail(entry, $"The lease was lost on its way to worker {target.WorkerId}.");
            _targets.Add(target);
            _absentSince.Remove(target.WorkerId);
            Dispatch();
        }
    }

    /// <summary>
    /// A session ended. Its leases wait a while for the worker to reconnect and send what was not acknowledged; only
    /// <paramref name="forGood"/> ends them now.
    /// </summary>
    internal void Leave(ILeaseTarget target, bool forGood, string reason)
    {
        lock (_lock)
        {
            _targets.Remove(target);
            // A newer session of the same worker has taken over: what this one held is that one's now.
            if (_targets.Any(t => t.WorkerId == target.WorkerId)) return;
            if (!forGood)
            {
                _absentSince[target.WorkerId] = _time.GetUtcNow();
                return;
            }

            foreach (var entry in _entries.Values.Where(e => e.State == EntryState.Leased && e.Holder?.WorkerId == target.WorkerId).ToList())
                Fail(entry, reason);
        }
    }

    private void Dispatch()
    {
        var required = _requiredVersion();
        while (_pending.First is { Value: var entry } node)
        {
            // The worker with the most free places first: batches spread evenly.
            var target = _targets.Where(t => t.Credit > 0 && t.AppliedVersion >= required).MaxBy(t => t.Credit);
            if (target is null) return;
            entry.Attempt++;
            if (!target.TrySend(entry.ToLease()))
            {
                entry.Attempt--;
                _targets.Remove(target);
                continue;
            }

            _pending.Remove(node);
            (entry.Node, entry.State, entry.Holder, entry.LeasedAt) = (null, EntryState.Leased, target, _time.GetUtcNow());
        }
    }

    private void Fail(Entry entry, string reason)
    {
        _assembler.Forget(entry.Id, entry.Attempt);
        entry.Reasons.Add(reason);
        entry.Holder = null;
        if (entry.Attempt >= MaxAttempts)
        {
            _entries.Remove(entry.Id);
            entry.State = EntryState.Quarantined;
            _quarantined.Add(new QuarantinedTask(entry.Id, entry.Reasons));
            entry.Batch.Finish();
            return;
        }

        entry.State = EntryState.Pending;
        entry.Node = _pending.AddLast(entry);
        Dispatch();
    }

    private enum EntryState
    {
        Pending,
        Leased,
        Buffered,
        Quarantined,
    }

    private sealed class Entry(TaskRequest request, Batch batch)
    {
        public string Id => request.Task.Id;
        public Batch Batch { get; } = batch;
        public EntryState State { get; set; }
        public int Attempt { get; set; }
        public ILeaseTarget? Holder { get; set; }
        public DateTimeOffset LeasedAt { get; set; }
        public LinkedListNode<Entry>? Node { get; set; }
        public Trajectory? Trajectory { get; set; }
        public List<string> Reasons { get; } = [];

        public TaskLease ToLease()
        {
            var body = new TaskBody();
            foreach (var o in request.Task.Objectives)
            {
                var objective = new ObjectiveBody { Id = o.Id, Question = o.Question };
                objective.GoldenAnswers.AddRange(o.GoldenAnswers);
                body.Objectives.Add(objective);
            }

            return new TaskLease
            {
                TaskId = Id,
                EpisodeId = Id,
                Attempt = Attempt,
                Seed = request.Seed,
                Task = body,
                Sampling = new SamplingParameters
                {
                    Temperature = request.Temperature, TopP = request.TopP, MaxNewTokens = request.MaxNewTokens,
                },
                Evaluation = request.Evaluation,
            };
        }
    }

    private sealed class Batch(int size, Action<int>? progress)
    {
        private int _finished;

        public TaskCompletionSource Done { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public void Finish()
        {
            _finished++; // not inside the call below: a null progress would not evaluate it
            progress?.Invoke(_finished);
            if (_finished == size) Done.TrySetResult();
        }
    }
}
