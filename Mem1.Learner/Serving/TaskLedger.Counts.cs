// Keeps: counts only go up, and outlive a restart with the checkpoint.
namespace Mem1.Learner;

/// <content>What there is to see: tasks by state, and what came to nothing, by cause.</content>
public sealed partial class TaskLedger
{
    /// <summary>Counts by state.</summary>
    public LedgerCounts Counts
    {
        get
        {
            lock (_lock)
            {
                return new LedgerCounts(
                    _pending.Count + _parked.Count,
                    _entries.Values.Count(e => e.State == EntryState.Leased),
                    _entries.Values.Count(e => e.State == EntryState.Buffered),
                    _consumed,
                    _quarantined.Count);
            }
        }
    }

    /// <summary>Every task that is being played.</summary>
    public IReadOnlyList<LeaseStatus> Leases
    {
        get
        {
            lock (_lock)
            {
                return
                [
                    .. _entries.Values.Where(e => e.State == EntryState.Leased)
                        .Select(e => new LeaseStatus(e.Id, e.Holder!.WorkerId, e.Attempt, _time.GetElapsedTime(e.LeasedAt))),
                ];
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

    /// <summary>Tries that came to nothing so far, by cause; every cause is there.</summary>
    public IReadOnlyDictionary<DiscardCause, long> Discarded
    {
        get
        {
            lock (_lock) return Enum.GetValues<DiscardCause>().ToDictionary(cause => cause, cause => _discarded[(int)cause]);
        }
    }

    /// <summary>Sub-trajectories that were not taken so far, by cause; every cause is there.</summary>
    public IReadOnlyDictionary<RefusalCause, long> Refused
    {
        get
        {
            lock (_lock) return Enum.GetValues<RefusalCause>().ToDictionary(cause => cause, cause => _refused[(int)cause]);
        }
    }
}
