// Keeps: what is saved and restored is the same set of finished and unfinished tries, token for token; a turn that is restored has passed
// the same checks as one that a worker has just sent.
using Mem1.Protocol.V1;

namespace Mem1.Learner;

/// <content>Saving and restoring.</content>
public sealed partial class TaskLedger
{
    private readonly Dictionary<string, EntryRecord> _restored = new(StringComparer.Ordinal); // of a checkpoint, not asked for again yet
    private readonly HashSet<string> _givenUp = new(StringComparer.Ordinal); // quarantined before a restart

    /// <summary>Whether there are turns or whole trajectories that a checkpoint would save from being played again.</summary>
    public bool HoldsTurns
    {
        get
        {
            lock (_lock) return _restored.Values.Any(r => r.Turns.Count > 0) || _entries.Values.Any(e => e.Turns.Count > 0);
        }
    }

    /// <summary>The ledger as a checkpoint keeps it: counts, quarantined tasks, and every turn held of tasks that are not consumed.</summary>
    public LedgerRecord Save()
    {
        lock (_lock)
        {
            var record = new LedgerRecord { Consumed = _consumed };
            foreach (var task in _quarantined) record.Quarantined.Add(new QuarantinedRecord { TaskId = task.TaskId, Reasons = { task.Reasons } });
            foreach (var cause in Enum.GetValues<DiscardCause>()) record.Discarded.Add(cause.ToString(), _discarded[(int)cause]);
            foreach (var cause in Enum.GetValues<RefusalCause>()) record.Refused.Add(cause.ToString(), _refused[(int)cause]);
            foreach (var entry in _entries.Values.Where(e => e.Attempt > 0).OrderBy(e => e.Id, StringComparer.Ordinal))
                record.Entries.Add(new EntryRecord { Terms = entry.Terms(), Reasons = { entry.Reasons }, Turns = { entry.Turns }, Losses = entry.Losses });
            record.Entries.AddRange(_restored.Values.OrderBy(r => r.Terms.TaskId, StringComparer.Ordinal));
            return record;
        }
    }

    /// <summary>
    /// Takes over what a checkpoint kept. Tasks come to life again when they are asked for again: whole trajectories are buffered at once,
    /// and an episode that was under way goes on from its last whole turn.
    /// </summary>
    /// <param name="record">Of <see cref="Save"/>.</param>
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

            foreach (var (name, count) in record.Discarded)
                if (Enum.TryParse<DiscardCause>(name, out var cause)) _discarded[(int)cause] = count;
            foreach (var (name, count) in record.Refused)
                if (Enum.TryParse<RefusalCause>(name, out var cause)) _refused[(int)cause] = count;
            foreach (var entry in record.Entries) _restored[entry.Terms.TaskId] = entry;
        }
    }

    /// <summary>Takes over what a checkpoint kept of a task.</summary>
    private void Claim(LedgerEntry entry)
    {
        if (!_restored.Remove(entry.Id, out var kept)) return;
        entry.Attempt = kept.Terms.Attempt;
        entry.Reasons.AddRange(kept.Reasons);
        entry.Losses = kept.Losses;
        if (kept.Turns.Count == 0) return;
        // A run may go on under other settings; turns sampled under the old ones are not an episode of the new.
        if (!entry.Terms().Equals(kept.Terms))
        {
            _discarded[(int)DiscardCause.Unresumable]++;
            return;
        }

        foreach (var turn in kept.Turns)
        {
            var result = entry.Contradiction(turn) is null ? _assembler.Add(turn, _version()) : new AssemblyResult(AssemblyOutcome.Rejected);
            if (result.Outcome is AssemblyOutcome.Buffered or AssemblyOutcome.Completed)
            {
                entry.Turns.Add(turn);
                if (result.Outcome == AssemblyOutcome.Completed) Buffer(entry, result.Trajectory!);
                continue;
            }

            DropTurns(entry, DiscardCause.Unresumable);
            break;
        }

        _assembler.Forget(entry.Id, entry.Attempt);
    }
}
