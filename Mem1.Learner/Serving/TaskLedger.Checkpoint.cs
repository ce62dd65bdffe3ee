// Keeps: what is saved and restored is the same set of finished and unfinished tries, token for token; a turn that is restored has passed
// the same checks as one that a worker has just sent.
using Google.Protobuf;
using Mem1.Protocol.V1;

namespace Mem1.Learner;

/// <content>Saving and restoring.</content>
public sealed partial class TaskLedger
{
    private readonly Dictionary<string, EntryRecord> _restored = new(StringComparer.Ordinal); // of a checkpoint, not asked for again yet
    private readonly HashSet<string> _givenUp = new(StringComparer.Ordinal); // quarantined before a restart
    private readonly Dictionary<string, QuarantinedTask> _givenUpSince = new(StringComparer.Ordinal); // of those, after the checkpoint

    /// <summary>Where changes are written before anybody is told of them; null keeps them in memory until the next checkpoint.</summary>
    public TurnSpool? Spool { get; init; }

    /// <summary>Whether there are turns or whole trajectories that a checkpoint would save from being played again.</summary>
    public bool HoldsTurns
    {
        get
        {
            lock (_lock) return _restored.Values.Any(r => r.Turns.Count > 0) || _entries.Values.Any(e => e.Turns.Count > 0);
        }
    }

    /// <summary>
    /// The ledger as a checkpoint keeps it: counts, quarantined tasks, and every turn held of tasks that are not consumed. What happens from
    /// now on goes to a new segment of the spool.
    /// </summary>
    public LedgerRecord Save()
    {
        lock (_lock)
        {
            var record = new LedgerRecord { Consumed = _consumed, Lineage = _lineage, SpoolFrom = _closed ? 0 : Spool?.Rotate() ?? 0 };
            if (_newest is var (version, sha256)) record.Weights.Add(version, ByteString.CopyFrom(sha256));
            record.Quarantined.AddRange(_quarantined.Select(Recorded));
            record.GivenUp.AddRange(_givenUpSince.Values.Select(Recorded));
            foreach (var cause in Enum.GetValues<DiscardCause>()) record.Discarded.Add(cause.ToString(), _discarded[(int)cause]);
            foreach (var cause in Enum.GetValues<RefusalCause>()) record.Refused.Add(cause.ToString(), _refused[(int)cause]);
            foreach (var entry in _entries.Values.Where(e => e.Attempt > 0).OrderBy(e => e.Id, StringComparer.Ordinal))
            {
                record.Entries.Add(new EntryRecord
                {
                    Terms = entry.Terms(),
                    Reasons = { entry.Reasons },
                    Turns = { entry.Turns },
                    Losses = entry.Losses,
                    WorkerId = entry.State == EntryState.Leased ? entry.Holder!.WorkerId : entry.PlayedBy,
                });
            }

            record.Entries.AddRange(_restored.Values.OrderBy(r => r.Terms.TaskId, StringComparer.Ordinal));
            return record;
        }

        static QuarantinedRecord Recorded(QuarantinedTask task) => new() { TaskId = task.TaskId, Reasons = { task.Reasons } };
    }

    /// <summary>
    /// Nothing changes any more: what workers still say is neither taken nor acknowledged, so that they say it again to the learner that goes
    /// on. Call it before a last <see cref="Save"/>'s streams are cut.
    /// </summary>
    public void Close()
    {
        lock (_lock) _closed = true;
        EndRecovery();
    }

    /// <summary>
    /// Takes over what a checkpoint and the spool kept, before any worker is let in. Tasks come to life again when they are asked for again:
    /// whole trajectories are buffered at once, and an episode that was under way goes on from its last whole turn.
    /// </summary>
    /// <param name="record">Of <see cref="Save"/>, or of <see cref="SpoolReplay.Apply"/>.</param>
    public void Restore(LedgerRecord record)
    {
        lock (_lock)
        {
            _consumed = (int)record.Consumed;
            foreach (var task in record.Quarantined)
            {
                _quarantined.Add(new QuarantinedTask(task.TaskId, [.. task.Reasons]));
                _givenUp.Add(task.TaskId);
            }

            foreach (var task in record.GivenUp)
            {
                _givenUpSince[task.TaskId] = new QuarantinedTask(task.TaskId, [.. task.Reasons]);
                _givenUp.Add(task.TaskId);
            }

            foreach (var (name, count) in record.Discarded)
                if (Enum.TryParse<DiscardCause>(name, out var cause)) _discarded[(int)cause] = count;
            foreach (var (name, count) in record.Refused)
                if (Enum.TryParse<RefusalCause>(name, out var cause)) _refused[(int)cause] = count;
            foreach (var entry in record.Entries) _restored[entry.Terms.TaskId] = entry;
            if (record.Lineage != 0) _lineage = record.Lineage;
            foreach (var (version, sha256) in record.Weights) _expected[version] = sha256.ToByteArray();
            _recovered = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        }
    }

    /// <summary>Takes over what a checkpoint kept of a task.</summary>
    private void Claim(LedgerEntry entry)
    {
        if (!_restored.Remove(entry.Id, out var kept)) return;
        entry.Attempt = kept.Terms.Attempt;
        entry.Reasons.AddRange(kept.Reasons);
        entry.Losses = kept.Losses;
        // A run may go on under other settings; turns sampled under the old ones are not an episode of the new.
        if (!entry.Terms().Equals(kept.Terms))
        {
            if (kept.Turns.Count > 0) DropTurns(entry, DiscardCause.Unresumable);
            return;
        }

        entry.Turns.AddRange(kept.Turns);
        entry.PlayedBy = kept.WorkerId;
        var newest = entry.NewestVersion();
        if (newest <= _version() && (entry.Batch.ConsumedAt is not null || newest < 0 || entry.OldestVersion() == _version()))
        {
            Revive(entry);
        }
        else if (_expected.ContainsKey(newest) && newest <= entry.Batch.ConsumedAt)
        {
            entry.IsParked = true;
            _parked.Add(entry);
        }
        else
        {
            DropTurns(entry, DiscardCause.Unresumable); // of weights that will not be made again before it is needed
            entry.PlayedBy = "";
        }
    }

    /// <summary>Checks what was kept of a task, turn by turn, and brings it into the state it was in.</summary>
    private void Revive(LedgerEntry entry)
    {
        var (kept, worker) = (entry.Turns.ToList(), entry.PlayedBy);
        entry.Turns.Clear();
        entry.PlayedBy = "";
        if (worker.Length > 0) entry.Began(worker, null);
        foreach (var turn in kept)
        {
            var result = entry.Contradiction(turn) is null ? _assembler.Add(turn, _version()) : new AssemblyResult(AssemblyOutcome.Rejected);
            if (result.Outcome == AssemblyOutcome.Duplicate) continue;
            if (result.Outcome is AssemblyOutcome.Buffered or AssemblyOutcome.Completed)
            {
                entry.Turns.Add(turn);
                if (result.Outcome == AssemblyOutcome.Completed) Buffer(entry, result.Trajectory!);
                continue;
            }

            DropTurns(entry, DiscardCause.Unresumable);
            worker = "";
            break;
        }

        if (entry.State == EntryState.Pending && worker.Length > 0 && AdoptLeases && _adopting && !Recovered.IsCompleted)
        {
            // Its worker has outlived the learner, as far as anybody knows: it is awaited like one whose stream broke.
            (entry.State, entry.Holder, entry.LeasedAt) = (EntryState.Leased, new AbsentWorker(worker), _time.GetTimestamp());
            _absentSince[worker] = _time.GetTimestamp();
            return;
        }

        _assembler.Forget(entry.Id, entry.Attempt);
    }
}
