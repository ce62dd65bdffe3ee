// Keeps:
//  * every task is in exactly one state: pending -> leased -> buffered -> consumed, or quarantined; the counts always add up;
//  * a lease dies with its worker, on return, or by age, and the task is leased again with the same seed; nothing is dropped silently;
//  * a task of a batch that will be trained on at version c is leased only to a worker that has a version of at least c - staleness in
//    place, so no token of it can be older than the bound; with staleness 0 a batch is sampled under one version. Batches are fixed sets
//    of tasks, numbered in the order of consumption, so this is the admission formula
//    (staleness + version + 1) * B - (accepted + running) > 0 task by task, also for tasks that are played again;
//  * what is older nevertheless is swept when its batch is taken: counted, and played again;
//  * only the worker that holds a lease can finish or return it; what it sends is checked against the task before it counts;
//  * results come back in the order the tasks were asked for, whatever order they finished in, so fast episodes are not preferred;
//  * every change of a task that a restart must know is spooled, in order, before anybody is told of it; what is trained on is on the disk;
//  * no foreign code runs under the lock but ILeaseTarget's, which only queues.
using Mem1.Protocol;
using Mem1.Protocol.V1;

namespace Mem1.Learner;

/// <summary>The learner's record of every task. Thread-safe.</summary>
public sealed partial class TaskLedger
{
    /// <summary>
    /// Failures after which a task is quarantined: enough for an environment's hiccups, few enough to end. Ends of workers do not count.
    /// </summary>
    public const int MaxAttempts = 3;

    /// <summary>
    /// Ends of workers after which a task is quarantined: machines that come and go are no fault of the task, one that kills every worker is.
    /// </summary>
    public const int MaxLosses = 20;

    // Reasons come from workers and are kept for the whole run: enough for a sentence.
    private const int MaxReasonLength = 500;

    // How a try may end besides the causes for which it is discarded.
    private const string Finished = "Finished", Released = "Released";

    private readonly Lock _lock = new();
    private readonly TimeProvider _time;
    private readonly TimeSpan _leaseLimit;
    private readonly Func<long> _version;
    private readonly TrajectoryAssembler _assembler;
    private readonly Dictionary<string, LedgerEntry> _entries = new(StringComparer.Ordinal); // pending, leased and buffered tasks
    private readonly LinkedList<LedgerEntry> _pending = new();
    private readonly List<ILeaseTarget> _targets = [];
    private readonly List<QuarantinedTask> _quarantined = [];
    private readonly Dictionary<string, long> _absentSince = new(StringComparer.Ordinal); // workers whose stream broke
    private readonly long[] _discarded = new long[Enum.GetValues<DiscardCause>().Length];
    private readonly long[] _refused = new long[Enum.GetValues<RefusalCause>().Length];
    private int _consumed;
    private bool _closed;

    /// <summary>Makes an empty ledger.</summary>
    /// <param name="version">The newest version of the weights.</param>
    /// <param name="leaseLimit">Age at which a lease dies.</param>
    /// <param name="limits">What a sub-trajectory may hold.</param>
    /// <param name="time">Clock.</param>
    /// <param name="discarded">How many tokens at the start of a response the next turn's context drops; null for none.</param>
    /// <param name="staleness">How many versions older than the weights it trains the oldest token of a trajectory may be.</param>
    public TaskLedger(
        Func<long> version, TimeSpan leaseLimit, TrajectoryLimits limits, TimeProvider time, Func<int[], int>? discarded = null,
        int staleness = 0)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(staleness);
        (_version, _leaseLimit, _time, Staleness) = (version, leaseLimit, time, staleness);
        _assembler = new TrajectoryAssembler(limits, discarded);
    }

    /// <summary>How many versions older than the weights it trains the oldest token of a trajectory may be.</summary>
    public int Staleness { get; }

    /// <summary>What tells this run's traces from those of others; the same in every life of its learner.</summary>
    public string Run { get; init; } = Guid.NewGuid().ToString("N");

    /// <summary>A worker whose stream broke reconnects within seconds or not at all; its leases wait this long for it.</summary>
    public TimeSpan AbsenceLimit { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>Has tasks played under the newest weights and waits for all of them.</summary>
    /// <param name="requests">Tasks; their ids must be new.</param>
    /// <param name="progress">Called with the number of finished tasks, one call at a time, never from the ledger's lock.</param>
    /// <param name="cancellationToken">Gives the whole batch up; its tasks leave the ledger.</param>
    /// <returns>The trajectories in the order of the requests; quarantined tasks are missing.</returns>
    /// <exception cref="ArgumentException">A task's id is in the ledger already; none of the tasks was taken.</exception>
    public async Task<IReadOnlyList<Trajectory>> RunAsync(
        IReadOnlyList<TaskRequest> requests, Action<int>? progress, CancellationToken cancellationToken)
    {
        var batch = Submit(requests, consumedAt: null);
        try
        {
            return await TakeAsync(batch, progress, cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            Withdraw(batch);
        }
    }

    /// <summary>Has tasks played from now on. What a restored checkpoint holds of them is not played again.</summary>
    /// <param name="requests">Tasks; their ids must be new.</param>
    /// <param name="consumedAt">
    /// The version of the weights that the batch will be trained on, at most; null to have it played under the newest weights.
    /// </param>
    /// <exception cref="ArgumentException">A task's id is in the ledger already; none of the tasks was taken.</exception>
    public LedgerBatch Submit(IReadOnlyList<TaskRequest> requests, long? consumedAt)
    {
        var batch = new LedgerBatch(requests, consumedAt);
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_closed, this);
            var ids = new HashSet<string>(StringComparer.Ordinal);
            if (batch.Entries.FirstOrDefault(e => !ids.Add(e.Id) || _entries.ContainsKey(e.Id)) is { } twice)
                throw new ArgumentException($"Task {twice.Id} is already in the ledger.", nameof(requests));
            foreach (var entry in batch.Entries)
            {
                if (_givenUp.Contains(entry.Id))
                {
                    if (_givenUpSince.Remove(entry.Id, out var task)) _quarantined.Add(task);
                    entry.State = EntryState.Quarantined;
                    batch.Finish();
                    continue;
                }

                _entries.Add(entry.Id, entry);
                Claim(entry);
                if (entry.State == EntryState.Pending && !entry.IsParked) MakePending(entry);
            }

            Dispatch();
        }

        return batch;
    }

    /// <summary>Says anew at which version a batch will be trained on: an update that changes no weights moves the batches after it.</summary>
    /// <param name="batch">Submitted and not taken.</param>
    /// <param name="version">At most this one.</param>
    public void Expect(LedgerBatch batch, long version)
    {
        lock (_lock)
        {
            if (batch.ConsumedAt == version) return;
            batch.ConsumedAt = version;
            Dispatch();
        }
    }

    /// <summary>
    /// Waits until every task of a batch is played or given up and on the disk, and consumes it. What is past the staleness bound is played
    /// again first.
    /// </summary>
    /// <param name="batch">Of <see cref="Submit"/>, not taken yet.</param>
    /// <param name="progress">Called with the number of finished tasks, one call at a time, never from the ledger's lock.</param>
    /// <param name="cancellationToken">Ends the wait; the batch stays in the ledger.</param>
    /// <returns>The trajectories in the order of the requests; quarantined tasks are missing.</returns>
    public async Task<IReadOnlyList<Trajectory>> TakeAsync(LedgerBatch batch, Action<int>? progress, CancellationToken cancellationToken)
    {
        while (true)
        {
            // What has been said is heard before the count is looked at: the other way round the last word could be heard without being
            // looked at, and the wait below would be for ever.
            Hear();
            bool complete;
            lock (_lock) complete = IsComplete(batch);
            if (complete)
            {
                // Weights that were made of turns which a restart does not know could not be made again.
                if (Spool is { } spool) await spool.FlushAsync(cancellationToken).ConfigureAwait(false);
                List<Trajectory>? consumed = null;
                lock (_lock)
                {
                    if (IsComplete(batch)) consumed = Consume(batch);
                }

                Hear();
                if (consumed is not null) return consumed;
                continue; // stale by now, or withdrawn
            }

            EndRecovery(); // workers are needed
            var next = await NextAsync(batch, cancellationToken).ConfigureAwait(false); // not as an argument: without progress it is not evaluated
            progress?.Invoke(next);
        }

        void Hear()
        {
            while (batch.Finished.TryRead(out var finished)) progress?.Invoke(finished);
        }
    }

    /// <summary>Takes the tasks of a batch that are not consumed out of the ledger. What workers still send for them is forgotten.</summary>
    /// <param name="batch">Of <see cref="Submit"/>.</param>
    public void Withdraw(LedgerBatch batch)
    {
        lock (_lock)
        {
            foreach (var entry in batch.Entries)
            {
                if (!_entries.Remove(entry.Id)) continue;
                if (entry.Node is { } node) _pending.Remove(node);
                entry.Node = null;
                _parked.Remove(entry);
                if (entry.State == EntryState.Leased) _assembler.Forget(entry.Id, entry.Attempt);
            }
        }
    }

    /// <summary>
    /// Takes one turn from a worker. It may be acknowledged afterwards whatever became of it: it is held, was held before, was refused, or
    /// is of an episode nobody waits for (an older attempt, a batch given up), and the worker can forget it.
    /// </summary>
    /// <param name="workerId">Who sent it.</param>
    /// <param name="sub">The turn.</param>
    /// <param name="durable">
    /// Called when what became of it would be known after a restart: at once without a spool, else from the spool's thread; never when that
    /// cannot be had, and never after <see cref="Close"/>.
    /// </param>
    public void Add(string workerId, SubTrajectory sub, Action? durable = null)
    {
        lock (_lock)
        {
            if (_closed) return;
            Take(workerId, sub);
            if (durable is not null) Spool?.WhenDurable(durable);
        }

        if (Spool is null) durable?.Invoke();
    }

    private void Take(string workerId, SubTrajectory sub)
    {
        if (Leased(workerId, sub.EpisodeId, sub.Attempt) is not { } entry)
        {
            // The last turn of a complete episode may come twice as well as any other.
            var again = _entries.TryGetValue(sub.EpisodeId, out var e) && e.State == EntryState.Buffered && e.Attempt == sub.Attempt;
            _refused[(int)(again ? RefusalCause.Duplicate : RefusalCause.Late)]++;
            return;
        }

        if (entry.Contradiction(sub) is { } contradiction)
        {
            _refused[(int)RefusalCause.Lease]++;
            Fail(entry, contradiction, DiscardCause.Rejected);
            return;
        }

        var result = _assembler.Add(sub, _version());
        if (result.Cause is { } cause) _refused[(int)cause]++;
        switch (result.Outcome)
        {
            case AssemblyOutcome.Buffered:
            case AssemblyOutcome.Completed:
                entry.Turns.Add(sub);
                Spool?.Append(new SpoolRecord { Turn = sub });
                if (result.Outcome == AssemblyOutcome.Completed) Buffer(entry, result.Trajectory!);
                break;
            case AssemblyOutcome.Rejected:
                Fail(entry, result.Reason!, DiscardCause.Rejected);
                break;
        }
    }

    /// <summary>A worker gives a lease up.</summary>
    /// <param name="workerId">Who holds it.</param>
    /// <param name="episodeId">Of the lease.</param>
    /// <param name="attempt">Of the lease.</param>
    /// <param name="reason">One sentence.</param>
    /// <param name="leaving">Only because the worker leaves: no failure of the task, and its turns stand.</param>
    public void Return(string workerId, string episodeId, int attempt, string reason, bool leaving = false)
    {
        lock (_lock)
        {
            if (_closed || Leased(workerId, episodeId, attempt) is not { } entry) return;
            if (leaving)
            {
                Fail(entry, reason, DiscardCause.WorkerGone);
                return;
            }

            if (entry.PrefixTurns == 0 || entry.Turns.Count > entry.PrefixTurns)
            {
                Fail(entry, reason, DiscardCause.Returned);
                return;
            }

            // It was to go on from turns of an earlier try and did not: that may lie in these turns, so it costs the task no failure.
            DropTurns(entry, DiscardCause.Unresumable);
            _assembler.Forget(entry.Id, entry.Attempt);
            entry.Ended(nameof(DiscardCause.Unresumable), Short(reason), _time.GetUtcNow());
            entry.Holder = null;
            MakePending(entry);
            Dispatch();
        }
    }

    /// <summary>Ends leases older than the limit. Called from a timer.</summary>
    public void ExpireLeases()
    {
        lock (_lock)
        {
            if (_closed || !Recovered.IsCompleted) return;
            foreach (var entry in _entries.Values.Where(e => e.State == EntryState.Leased).ToList())
            {
                var worker = entry.Holder!.WorkerId;
                if (_time.GetElapsedTime(entry.LeasedAt) > _leaseLimit)
                    Fail(entry, $"The lease of worker {worker} ran out after {_leaseLimit.TotalSeconds:0} s.", DiscardCause.Expired);
                else if (_absentSince.TryGetValue(worker, out var since) && _time.GetElapsedTime(since) > AbsenceLimit)
                    Fail(entry, $"Worker {worker} has been gone for more than {AbsenceLimit.TotalSeconds:0} s.", DiscardCause.WorkerGone);
            }

            // Past the limit an absent worker holds nothing any more; it may never come back under its name.
            var gone = _absentSince.Where(a => _time.GetElapsedTime(a.Value) > AbsenceLimit).Select(a => a.Key).ToList();
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
            // Its old session: whatever is sent there is lost too. It is ended, for if there is a living worker at its other end after all (a
            // stranger under the same name), that one must hear that it gets nothing more and say hello again.
            foreach (var old in _targets.Where(t => t.WorkerId == target.WorkerId)) old.End();
            _targets.RemoveAll(t => t.WorkerId == target.WorkerId);
            if (_closed) return;
            foreach (var entry in LeasesOf(target.WorkerId).Where(e => !held.Contains((e.Id, e.Attempt))))
            {
                // Nobody began to play it, so it says nothing about the task and costs it no failure.
                Spool?.Append(new SpoolRecord { Release = new ReleaseNote { EpisodeId = entry.Id } });
                _assembler.Forget(entry.Id, entry.Attempt);
                entry.Ended(Released, "", _time.GetUtcNow());
                entry.Holder = null;
                MakePending(entry);
            }

            foreach (var (episode, attempt) in held) Outnumber(target.WorkerId, episode, attempt);

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
            if (_closed) return;
            // A newer session of the same worker has taken over: what this one held is that one's now.
            if (_targets.Any(t => t.WorkerId == target.WorkerId)) return;
            if (!forGood)
            {
                _absentSince[target.WorkerId] = _time.GetTimestamp();
                return;
            }

            foreach (var entry in LeasesOf(target.WorkerId)) Fail(entry, reason, DiscardCause.WorkerGone);
        }
    }

    private void Buffer(LedgerEntry entry, Trajectory trajectory)
    {
        entry.Ended(Finished, "", _time.GetUtcNow());
        entry.Trajectory = trajectory with
        {
            Group = entry.Group,
            RightAnswer = entry.RightAnswer,
            TraceId = TraceContext.TraceOf(Run, entry.Id),
            Tries = [.. entry.Tries],
        };
        entry.State = EntryState.Buffered;
        entry.Holder = null;
        entry.Batch.Finish();
        // Its place is free, and a worker other than the one that played it may be waiting for one.
        if (_concurrencyLimit is not null) Dispatch();
    }

    private bool IsComplete(LedgerBatch batch) => batch.Done == batch.Size && !Sweep(batch);

    /// <summary>Sends what has become too old back to be played again.</summary>
    /// <returns>Whether there was any.</returns>
    private bool Sweep(LedgerBatch batch)
    {
        if (batch.ConsumedAt is null) return false;
        var bound = _version() - Staleness;
        var stale = batch.Entries.Where(e => e.Trajectory is { } t && t.OldestVersion < bound).ToList();
        foreach (var entry in stale)
        {
            DropTurns(entry, DiscardCause.Stale);
            entry.Ended(nameof(DiscardCause.Stale), "", _time.GetUtcNow());
            entry.Trajectory = null;
            batch.Unfinish();
            MakePending(entry);
        }

        if (stale.Count > 0) Dispatch();
        return stale.Count > 0;
    }

    private List<Trajectory> Consume(LedgerBatch batch)
    {
        foreach (var entry in batch.Entries.Where(e => _entries.Remove(e.Id)))
        {
            _consumed++;
            _outnumbered.Remove(entry.Id);
        }

        return [.. batch.Entries.Where(e => e.Trajectory is not null).Select(e => e.Trajectory!)];
    }

    private void DropTurns(LedgerEntry entry, DiscardCause cause)
    {
        entry.Turns.Clear();
        entry.PrefixTurns = 0;
        _discarded[(int)cause]++;
        Spool?.Append(new SpoolRecord { Drop = new DropNote { EpisodeId = entry.Id, Cause = cause.ToString() } });
    }

    /// <summary>A copy, so that its entries may change state meanwhile.</summary>
    private List<LedgerEntry> LeasesOf(string workerId) =>
        [.. _entries.Values.Where(e => e.State == EntryState.Leased && e.Holder!.WorkerId == workerId)];

    /// <summary>The entry of a lease that a worker holds, or null.</summary>
    private LedgerEntry? Leased(string workerId, string episodeId, int attempt) =>
        _entries.TryGetValue(episodeId, out var entry) && entry.State == EntryState.Leased && entry.Attempt == attempt
            && entry.Holder!.WorkerId == workerId ? entry : null;

    private static string Short(string reason) => reason.Length <= MaxReasonLength ? reason : reason[..MaxReasonLength];

    /// <summary>Whether a task with so many failed tries, of which so many are ends of workers, is quarantined.</summary>
    internal static bool IsGivenUp(int failures, int losses) => failures - losses >= MaxAttempts || losses >= MaxLosses;

    private void Fail(LedgerEntry entry, string reason, DiscardCause cause)
    {
        _assembler.Forget(entry.Id, entry.Attempt);
        _discarded[(int)cause]++;
        if (cause == DiscardCause.WorkerGone) entry.Losses++;
        reason = Short(reason);
        entry.Reasons.Add(reason);
        entry.Ended(cause.ToString(), reason, _time.GetUtcNow());
        Spool?.Append(new SpoolRecord { Failure = new FailureNote { EpisodeId = entry.Id, Cause = cause.ToString(), Reason = reason } });
        entry.FailedOn.Add(entry.Holder!.WorkerId);
        entry.Holder = null;
        // A worker's end says nothing against the turns it has sent; any other failure may be their doing.
        if (cause != DiscardCause.WorkerGone) entry.Turns.Clear();
        if (IsGivenUp(entry.Reasons.Count, entry.Losses))
        {
            _entries.Remove(entry.Id);
            entry.State = EntryState.Quarantined;
            entry.Turns.Clear();
            _quarantined.Add(new QuarantinedTask(entry.Id, entry.Reasons)
            {
                TraceId = TraceContext.TraceOf(Run, entry.Id),
                Tries = [.. entry.Tries],
            });
            entry.Batch.Finish();
            return;
        }

        MakePending(entry);
        Dispatch();
    }

    /// <summary>Puts a task behind those of its own batch and of the batches before it.</summary>
    private void MakePending(LedgerEntry entry)
    {
        entry.State = EntryState.Pending;
        var before = _pending.Last;
        while (before is not null && before.Value.Batch.ConsumedAt > entry.Batch.ConsumedAt) before = before.Previous;
        entry.Node = before is null ? _pending.AddFirst(entry) : _pending.AddAfter(before, entry);
    }
}
