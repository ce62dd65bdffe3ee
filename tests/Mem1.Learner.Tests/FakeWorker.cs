using Mem1.Protocol.V1;

namespace Mem1.Learner.Tests;

/// <summary>A worker as the ledger sees it: remembers its leases, plays when told.</summary>
internal sealed class FakeWorker(string id, int credit) : ILeaseTarget
{
    public List<TaskLease> Leases { get; } = [];

    public string WorkerId => id;

    public long AppliedVersion { get; set; }

    public int Credit => credit - Leases.Count;

    public bool IsEnded { get; private set; }

    public bool TrySend(TaskLease lease)
    {
        Leases.Add(lease);
        return true;
    }

    public void End() => IsEnded = true;

    /// <summary>The turns of the episode that a lease asks for: a function of its seed, but for the number of the try and the version.</summary>
    public static List<SubTrajectory> Turns(TaskLease lease, int turns = 2, long version = 0)
    {
        var played = TestData.Trajectory(new Random((int)lease.Seed), 31, turns, lease.EpisodeId) with { TaskId = lease.TaskId };
        var messages = TrajectoryAssemblerTests.ToMessages(played, lease.Attempt);
        foreach (var message in messages)
            for (var i = 0; i < message.PolicyVersions.Count; i++) message.PolicyVersions[i] = version;
        return messages;
    }

    /// <summary>Sends the turns of a lease that its prefix does not have, up to a number of them.</summary>
    public void Play(TaskLedger ledger, TaskLease lease, int turns = 2, int upTo = int.MaxValue, long version = 0)
    {
        foreach (var turn in Turns(lease, turns, version).Skip(lease.Prefix.Count).Take(upTo)) ledger.Add(WorkerId, turn);
    }
}

/// <summary>A clock that stands still until it is set, and whose time of day may jump.</summary>
internal sealed class ManualTime : TimeProvider
{
    private TimeSpan _elapsed, _jumped;

    /// <summary>Setting it lets time pass.</summary>
    public DateTimeOffset Now
    {
        get => DateTimeOffset.UnixEpoch + _elapsed;
        set => _elapsed = value - DateTimeOffset.UnixEpoch;
    }

    /// <summary>Somebody sets the clock: the time of day changes, no time passes.</summary>
    public void Jump(TimeSpan by) => _jumped += by;

    public override DateTimeOffset GetUtcNow() => Now + _jumped;

    public override long TimestampFrequency => TimeSpan.TicksPerSecond;

    public override long GetTimestamp() => _elapsed.Ticks;
}
