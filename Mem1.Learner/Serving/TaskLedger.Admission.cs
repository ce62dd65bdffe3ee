// Keeps: a task is leased only to a worker with a free place and weights that are fresh enough for its batch. The terms that a person sets hold
// back leases that would be granted otherwise and never grant one; what is being played is played on.
using Mem1.Protocol;
using Mem1.Protocol.V1;

namespace Mem1.Learner;

/// <content>Which task goes to whom, and when.</content>
public sealed partial class TaskLedger
{
    private bool _paused;
    private int? _concurrencyLimit;

    /// <summary>Whether no task is leased, whoever has a place for it.</summary>
    public bool Paused
    {
        get
        {
            lock (_lock) return _paused;
        }

        set
        {
            lock (_lock)
            {
                _paused = value;
                Dispatch();
            }
        }
    }

    /// <summary>How many tasks may be leased at once over all workers; null for as many as the workers take.</summary>
    /// <exception cref="ArgumentOutOfRangeException">Set to less than 1.</exception>
    public int? ConcurrencyLimit
    {
        get
        {
            lock (_lock) return _concurrencyLimit;
        }

        set
        {
            if (value is { } limit) ArgumentOutOfRangeException.ThrowIfLessThan(limit, 1, nameof(value));
            lock (_lock)
            {
                _concurrencyLimit = value;
                Dispatch();
            }
        }
    }

    /// <summary>The terms by which the next task is, or is not, leased now, and the one that binds.</summary>
    public AdmissionStatus Admission
    {
        get
        {
            lock (_lock)
            {
                var first = _pending.First?.Value.Batch;
                var fresh = _targets
                    .Where(t => first is null ? t.AppliedVersion >= _version() - Staleness : Admits(first, t.AppliedVersion)).ToList();
                var (places, leased) = (fresh.Sum(t => t.Credit), _entries.Values.Count(e => e.State == EntryState.Leased));
                return new AdmissionStatus(
                    _pending.Count, _parked.Count, leased, _targets.Count, fresh.Count, places,
                    first is null ? null : first.ConsumedAt is { } at ? Math.Max(0, at - Staleness) : _version(),
                    _closed ? AdmissionTerm.Closed
                    : _paused ? AdmissionTerm.Paused
                    : _pending.Count == 0 ? _parked.Count > 0 ? AdmissionTerm.Recovery : AdmissionTerm.Staleness
                    : FreePlaces() <= 0 ? AdmissionTerm.ConcurrencyLimit
                    : _targets.Count == 0 ? AdmissionTerm.NoWorker
                    : fresh.Count == 0 ? AdmissionTerm.Weights
                    : places == 0 ? AdmissionTerm.FreePlaces
                    : AdmissionTerm.None);
            }
        }
    }

    /// <summary>Workers whose stream broke and who are waited for, for <see cref="AbsenceLimit"/> at most.</summary>
    public IReadOnlyList<string> Absent
    {
        get
        {
            lock (_lock) return [.. _absentSince.Keys];
        }
    }

    /// <summary>How many more tasks may be leased now, by the terms of this file. Under the lock.</summary>
    private int FreePlaces() => _paused ? 0
        : _concurrencyLimit is { } limit ? limit - _entries.Values.Count(e => e.State == EntryState.Leased) : int.MaxValue;

    /// <summary>Leases what can be leased now. Under the lock.</summary>
    private void Dispatch()
    {
        if (_closed || _pending.First is null) return;
        for (var free = FreePlaces(); free > 0 && _pending.First is { Value: var entry } node; free--)
        {
            // A worker that has not failed at the task before one that has; among those the one with the most free places, so that batches
            // spread evenly. Tasks are pending in the order of their batches: where the first cannot go, no later one can.
            var target = _targets.Where(t => t.Credit > 0 && Admits(entry.Batch, t.AppliedVersion))
                .MaxBy(t => (!entry.FailedOn.Contains(t.WorkerId), t.Credit));
            if (target is null) return;
            var before = entry.Attempt;
            entry.Attempt = Math.Max(before, _outnumbered.GetValueOrDefault(entry.Id)) + 1;
            if (!target.TrySend(Lease(entry)))
            {
                _assembler.Forget(entry.Id, entry.Attempt);
                entry.Attempt = before;
                _targets.Remove(target);
                free++;
                continue;
            }

            _pending.Remove(node);
            (entry.Node, entry.State, entry.Holder, entry.LeasedAt) = (null, EntryState.Leased, target, _time.GetTimestamp());
            entry.Began(target.WorkerId, _time.GetUtcNow());
            Spool?.Append(new SpoolRecord { Lease = new LeaseNote { Terms = entry.Terms(), WorkerId = target.WorkerId } });
        }
    }

    /// <summary>The lease of the next try, with the turns it goes on from, which the assembler takes for turns of this try.</summary>
    private TaskLease Lease(LedgerEntry entry)
    {
        var inOrder = entry.Turns.Select(t => t.Turn).SequenceEqual(Enumerable.Range(0, entry.Turns.Count));
        if (entry.Turns.Count > 0 && !(inOrder && Admits(entry.Batch, entry.OldestVersion()))) DropTurns(entry, DiscardCause.Unresumable);
        var lease = entry.Terms();
        for (var i = 0; i < entry.Turns.Count; i++)
        {
            // A copy: the message of an earlier lease may still be on its way to the wire.
            var turn = entry.Turns[i] = entry.Turns[i].Clone();
            turn.Attempt = entry.Attempt;
            lease.Prefix.Add(turn);
            _assembler.Add(turn, _version());
        }

        entry.PrefixTurns = entry.Turns.Count;
        lease.Traceparent = TraceContext.ParentOf(Run, entry.Id, entry.Attempt);
        return lease;
    }

    /// <summary>Whether tokens of a version, and of those after it, are within the bound when a batch is trained on.</summary>
    private bool Admits(LedgerBatch batch, long version) => batch.ConsumedAt is { } at
        ? at - version <= Staleness && version <= _version()
        : version == _version();
}
