// Invariants: turns, returned leases and held leases are here before anything is done about them, so that a crash loses none.
namespace Mem1.Actors;

/// <summary>What an uplink keeps over its crashes. Touched by the uplink alone.</summary>
internal sealed class UplinkMemory(int maxUnacknowledged)
{
    /// <summary>What is not known to have arrived.</summary>
    public Outbox Outbox { get; } = new(maxUnacknowledged);

    /// <summary>Leases that arrived and are not released.</summary>
    public HashSet<LeaseKey> Held { get; } = [];

    /// <summary>Version the policy has in place.</summary>
    public long? Applied { get; set; }

    /// <summary>Of the learner that welcomed this worker last: what is in place counts under it alone.</summary>
    public long? Lineage { get; set; }

    /// <summary>The newest blob that was pulled, where the learner may send differences; null otherwise.</summary>
    public HeldWeights? Weights { get; set; }

    /// <summary>What pulling and reading the newest weights took.</summary>
    public TimeSpan PullTime { get; set; }

    /// <summary>Whether new leases are refused for good.</summary>
    public bool Leaving { get; set; }

    /// <summary>Whether and how to close the stream.</summary>
    public LeaveLearner? Leave { get; set; }

    /// <summary>Whether the supervisor was asked to pause.</summary>
    public bool Paused { get; set; }

    /// <summary>Number of the newest stream.</summary>
    public int Links { get; set; }
}
