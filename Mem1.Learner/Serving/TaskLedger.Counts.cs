// Keeps: counts only go up, and outlive a restart with the checkpoint.
namespace Mem1.Learner;

/// <content>What came to nothing, by cause.</content>
public sealed partial class TaskLedger
{
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
