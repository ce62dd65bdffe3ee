// Keeps:
//  * every task is in exactly one state: pending -> leased -> buffered -> consumed, or quarantined; the counts always add up;
//  * a lease dies with its worker, on return, or by age, and the task is leased again with the same seed; nothing is dropped silently;
//  * a task is leased only to a worker that has the newest weights in place, so a synchronous batch is sampled under one version;
//  * only the worker that holds a lease can finish or return it; what it sends is checked against the task before it counts;
//  * results come back in the order the tasks were asked for, whatever order they finished in;
//  * no foreign code runs under the lock but ILeaseTarget's, which only queues.
using System.Threading.Channels;
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
    /// <summary>All tasks ever asked for, but for those of batches that were cancelled: they leave the ledger.</summary>
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

    /// <summary>Queues a lease and takes one credit, without blocking; false when the session is closing.</summary>
    bool TrySend(TaskLease lease);
}

/// <summary>The learner's record of every task. Thread-safe.</summary>
public sealed class TaskLedger
{
    /// <summary>
    /// Failures after which a task is quarantined: enough for a worker's death and an environment's hiccup, few enough to end.
    /// </summary>
    public const int MaxAttempts = 3;

    // A worker whose stream broke reconnects within seconds or not at all; its leases wait this long for it.
    private static readonly TimeSpan AbsenceLimit = TimeSpan.FromSeconds(30);

    // Reasons come from workers and are kept for the whole run: enough for a sentence.
    private const int MaxReasonLength = 500;

    private readonly Lock _lock = new();
    private readonly TimeProvider _time;
    private readonly TimeSpan _leaseLimit;
    private readonly Func<long> _requiredVersion;
    private readonly TrajectoryAssembler _assembler;
    private readonly Dictionary<string, Entry> _entries = new(StringComparer.Ordinal); // pending, leased and buffered tasks
    private readonly LinkedList<Entry> _pending = new();
    private readonly List<ILeaseTarget> _targets = [];
    private readonly List<QuarantinedTask> _quarantined = [];
    private readonly Dictionary<string, DateTimeOffset> _absentSince = new(StringComparer.Ordinal); // workers whose stream broke
    private int _consumed;

    /// <summary>Makes an empty ledger.</summary>
    /// <param name="requiredVersion">The version a worker must have in place to get a lease now.</param>
    /// <param name="leaseLimit">Age at which a lease dies.</param>
    /// <param name="limits">What a sub-trajectory may hold.</param>
    /// <param name="time">Clock.</param>
    /// <param name="discarded">How many tokens at the start of a response the next turn's context drops; null for none.</param>
    public TaskLedger(
        Func<long> requiredVersion, TimeSpan leaseLimit, TrajectoryLimits limits, TimeProvider time, Func<int[], int>? discarded = null)
    {
        (_requiredVersion, _leaseLimit, _time) = (requiredVersion, leaseLimit, time);
        _assembler = new TrajectoryAssembler(limits, discarded);
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
    /// <param name="progress">Called with the number of finished tasks, one call at a time, never from the ledger's lock.</param>
    /// <param name="cancellationToken">Gives the whole batch up; its tasks leave the ledger.</param>
    /// <returns>The trajectories in the order of the requests; quarantined tasks are missing.</returns>
    /// <exception cref="ArgumentException">A task's id is in the ledger already; none of the tasks was taken.</exception>
    public async Task<IReadOnlyList<Trajectory>> RunAsync(
        IReadOnlyList<TaskRequest> requests, Action<int>? progress, CancellationToken cancellationToken)
    {
        var batch = new Batch(requests.Count);
        var mine = requests.Select(request => new Entry(request, batch)).ToList();
        lock (_lock)
        {
            var ids = new HashSet<string>(StringComparer.Ordinal);
            if (mine.FirstOrDefault(e => !ids.Add(e.Id) || _entries.ContainsKey(e.Id)) is { } twice)
                throw new ArgumentException($"Task {twice.Id} is already in the ledger.", nameof(requests));
            foreach (var entry in mine)
            {
                _entries.Add(entry.Id, entry);
                entry.Node = _pending.AddLast(entry);
            }

            Dispatch();
        }

        var complete = false;
        try
        {
            await foreach (var finished in batch.Finished.ReadAllAsync(cancellationToken).ConfigureAwait(false))
                progress?.Invoke(finished);
            complete = true;
        }
        finally
        {
            lock (_lock)
            {
                foreach (var entry in mine)
                {
                    if (_entries.Remove(entry.Id) && complete) _consumed++;
                    if (entry.Node is { } node) _pending.Remove(node);
                    entry.Node = null;
                    if (entry.State == EntryState.Leased) _assembler.Forget(entry.Id, entry.Attempt);
                }
            }
        }

        return [.. mine.Where(e => e.Trajectory is not null).Select(e => e.Trajectory!)];
    }

    /// <summary>
    /// Takes one turn from a worker. It may be acknowledged afterwards whatever became of it: it is held, was held before, was refused, or
    /// is of an episode nobody waits for (an older attempt, a batch given up), and the worker can forget it.
    /// </summary>
    /// <param name="workerId">Who sent it.</param>
    /// <param name="sub">The turn.</param>
    public void Add(string workerId, SubTrajectory sub)
    {
        lock (_lock)
        {
            if (Leased(workerId, sub.EpisodeId, sub.Attempt) is not { } entry) return;
            if (entry.Contradiction(sub) is { } contradiction)
            {
                Fail(entry, contradiction);
                return;
            }

            var result = _assembler.Add(sub, _requiredVersion());
            switch (result.Outcome)
            {
                case AssemblyOutcome.Completed:
                    entry.Trajectory = result.Trajectory! with { Group = entry.Group, RightAnswer = entry.RightAnswer };
                    entry.State = EntryState.Buffered;
                    entry.Holder = null;
                    entry.Batch.Finish();
                    break;
                case AssemblyOutcome.Rejected:
                    Fail(entry, result.Reason!);
                    break;
            }
        }
    }

    /// <summary>A worker gives a lease up.</summary>
    /// <param name="workerId">Who holds it.</param>
    /// <param name="episodeId">Of the lease.</param>
    /// <param name="attempt">Of the lease.</param>
    /// <param name="reason">One sentence.</param>
    public void Return(string workerId, string episodeId, int attempt, string reason)
    {
        lock (_lock)
        {
            if (Leased(workerId, episodeId, attempt) is { } entry) Fail(entry, reason);
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

            // Past the limit an absent worker holds nothing any more; it may never come back under its name.
            var gone = _absentSince.Where(a => now - a.Value > AbsenceLimit).Select(a => a.Key).ToList();
            foreach (var worker in gone) _absentSince.Remove(worker);
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
            foreach (var entry in LeasesOf(target.WorkerId).Where(e => !held.Contains((e.Id, e.Attempt))))
            {
                // Nobody began to play it, so it says nothing about the task and costs it no failure.
                _assembler.Forget(entry.Id, entry.Attempt);
                entry.Holder = null;
                MakePending(entry);
            }

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

            foreach (var entry in LeasesOf(target.WorkerId)) Fail(entry, reason);
        }
    }

    private void Dispatch()
    {
        var required = _requiredVersion();
        while (_pending.First is { Value: var entry } node)
        {
            // A worker that has not failed at the task before one that has; among those the one with the most free places, so that batches
            // spread evenly.
            var target = _targets.Where(t => t.Credit > 0 && t.AppliedVersion == required)
                .MaxBy(t => (!entry.FailedOn.Contains(t.WorkerId), t.Credit));
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

    /// <summary>A copy, so that its entries may change state meanwhile.</summary>
    private List<Entry> LeasesOf(string workerId) =>
        [.. _entries.Values.Where(e => e.State == EntryState.Leased && e.Holder!.WorkerId == workerId)];

    /// <summary>The entry of a lease that a worker holds, or null.</summary>
    private Entry? Leased(string workerId, string episodeId, int attempt) =>
        _entries.TryGetValue(episodeId, out var entry) && entry.State == EntryState.Leased && entry.Attempt == attempt
            && entry.Holder!.WorkerId == workerId ? entry : null;

    private void Fail(Entry entry, string reason)
    {
        _assembler.Forget(entry.Id, entry.Attempt);
        entry.Reasons.Add(reason.Length <= MaxReasonLength ? reason : reason[..MaxReasonLength]);
        entry.FailedOn.Add(entry.Holder!.WorkerId);
        entry.Holder = null;
        if (entry.Reasons.Count >= MaxAttempts)
        {
            _entries.Remove(entry.Id);
            entry.State = EntryState.Quarantined;
            _quarantined.Add(new QuarantinedTask(entry.Id, entry.Reasons));
            entry.Batch.Finish();
            return;
        }

        MakePending(entry);
        Dispatch();
    }

    private void MakePending(Entry entry)
    {
        entry.State = EntryState.Pending;
        entry.Node = _pending.AddLast(entry);
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
        public string Group => request.Group;
        public int[] RightAnswer => request.RightAnswer;
        public Batch Batch { get; } = batch;
        public EntryState State { get; set; }
        public int Attempt { get; set; }
        public ILeaseTarget? Holder { get; set; }
        public DateTimeOffset LeasedAt { get; set; }
        public LinkedListNode<Entry>? Node { get; set; }
        public Trajectory? Trajectory { get; set; }
        public List<string> Reasons { get; } = [];
        public HashSet<string> FailedOn { get; } = new(StringComparer.Ordinal);

        /// <summary>What a turn says that its lease does not; null when they agree.</summary>
        public string? Contradiction(SubTrajectory sub)
        {
            var where = $"Sub-trajectory {sub.EpisodeId}/{sub.Turn}";
            if (sub.TaskId != Id) return $"{where} names another task than its lease.";
            if (sub.Evaluation != request.Evaluation) return $"{where} takes a training episode for an evaluation, or the other way round.";
            if (sub.Outcome is { } outcome && outcome.ExactMatch.Count != request.Task.Objectives.Count)
                return $"{where} scores {outcome.ExactMatch.Count} objectives of a task that has {request.Task.Objectives.Count}.";
            return null;
        }

        public TaskLease ToLease()
        {
            var body = new TaskBody { Environment = request.Task.Environment };
            foreach (var o in request.Task.Objectives)
            {
                var objective = new ObjectiveBody { Id = o.Id, Question = o.Question };
                objective.GoldenAnswers.AddRange(o.GoldenAnswers);
                body.Objectives.Add(objective);
            }

            var lease = new TaskLease
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
            if (request.SamplingSeed is { } seed) lease.SamplingSeed = seed;
            return lease;
        }
    }

    private sealed class Batch
    {
        // One number per finished task, so that whoever waits can report each of them outside the lock. Never longer than the batch.
        private readonly Channel<int> _finished = Channel.CreateUnbounded<int>(new UnboundedChannelOptions { SingleReader = true });
        private readonly int _size;
        private int _count;

        public Batch(int size)
        {
            _size = size;
            if (size == 0) _finished.Writer.Complete();
        }

        /// <summary>How many tasks are finished, each time one is; ends with the last.</summary>
        public ChannelReader<int> Finished => _finished.Reader;

        public void Finish()
        {
            _finished.Writer.TryWrite(++_count);
            if (_count == _size) _finished.Writer.Complete();
        }
    }
}
