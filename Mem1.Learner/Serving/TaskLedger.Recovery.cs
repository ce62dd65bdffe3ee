// Keeps, between the restart of a learner and the moment it needs its workers again:
//  * updates since the checkpoint are done again from the turns that were spooled, in the order of their batches. That gives the same
//    weights, and this is not believed but checked: the hash of every version is compared with the one that was spooled;
//  * turns sampled under a version that is not made again yet are parked, and count when it is there with the same hash. A version with
//    another hash is of another lineage: turns sampled under it or later ones are thrown away and their tasks played again;
//  * no worker is let in meanwhile, so none can hand in turns of a version that does not exist yet, or be told to forget turns of a task
//    that is not asked for again yet;
//  * a lease that a worker may still be playing is kept for it, and is never numbered like another one it may hold.
using Google.Protobuf;
using Mem1.Protocol.V1;

namespace Mem1.Learner;

/// <content>Going on after a restart.</content>
public sealed partial class TaskLedger
{
    // Of workers' hellos: what does not fit is remembered by nobody, and costs at worst the wait for a lease to expire.
    private const int MaxOutnumbered = 1 << 16;

    private readonly Dictionary<long, byte[]> _expected = []; // hashes that were published before the restart
    private readonly List<LedgerEntry> _parked = [];
    private readonly Dictionary<string, int> _outnumbered = new(StringComparer.Ordinal); // tries that workers hold of another life
    private TaskCompletionSource? _recovered;
    private (long Version, byte[] Sha256)? _newest;
    private long _lineage = NewLineage();
    private bool _adopting = true;

    /// <summary>
    /// Whether leases that were out when the learner stopped wait for their workers. Not where those have ended with the learner's process.
    /// </summary>
    public bool AdoptLeases { get; init; }

    /// <summary>Done when workers may be let in: at once, but after <see cref="Restore"/> when a batch needs them.</summary>
    public Task Recovered => _recovered?.Task ?? Task.CompletedTask;

    /// <summary>What tells the weights of this life of the learner apart from those of one that made others under the same numbers.</summary>
    public long Lineage
    {
        get
        {
            lock (_lock) return _lineage;
        }
    }

    /// <summary>A version of the weights can be pulled. Call it for each, in order, before any worker hears of it.</summary>
    /// <param name="version">Its number.</param>
    /// <param name="sha256">Of the blob that workers pull.</param>
    public void Published(long version, byte[] sha256)
    {
        lock (_lock)
        {
            if (_expected.TryGetValue(version, out var before) && !before.AsSpan().SequenceEqual(sha256)) BreakLineage(version);
            _newest = (version, sha256);
            if (!_closed)
            {
                Spool?.Append(new SpoolRecord
                {
                    Published = new PublishNote { PolicyVersion = version, Sha256 = ByteString.CopyFrom(sha256), Lineage = _lineage },
                });
            }

            foreach (var entry in _parked.Where(e => e.NewestVersion() <= version).ToList())
            {
                _parked.Remove(entry);
                entry.IsParked = false;
                Revive(entry);
                if (entry.State == EntryState.Pending) MakePending(entry);
            }

            Dispatch();
        }
    }

    /// <summary>Workers are needed: they may come in. Those that do not come back in time lose their leases, from now on.</summary>
    private void EndRecovery()
    {
        lock (_lock)
        {
            if (Recovered.IsCompleted) return;
            // Needed earlier than before the restart (other settings, say): workers may be playing under versions that are not made again yet.
            if (_expected.Keys.Any(v => v > _version())) ReleaseAbsent();
            var now = _time.GetTimestamp();
            foreach (var worker in _absentSince.Keys.ToList()) _absentSince[worker] = now;
            foreach (var entry in _entries.Values.Where(e => e.State == EntryState.Leased)) entry.LeasedAt = now;
            _recovered!.TrySetResult();
        }
    }

    private void BreakLineage(long version)
    {
        _lineage = NewLineage();
        _expected.Clear();
        ReleaseAbsent(); // what they play on with may be of the other lineage
        foreach (var entry in _parked)
        {
            entry.IsParked = false;
            entry.PlayedBy = "";
            DropTurns(entry, DiscardCause.Unresumable);
            MakePending(entry);
        }

        _parked.Clear();
        foreach (var (task, kept) in _restored.Where(r => r.Value.Turns.SelectMany(t => t.PolicyVersions).Any(v => v >= version)).ToList())
        {
            _discarded[(int)DiscardCause.Unresumable]++;
            Spool?.Append(new SpoolRecord { Drop = new DropNote { EpisodeId = task, Cause = nameof(DiscardCause.Unresumable) } });
            var without = kept.Clone();
            without.Turns.Clear();
            without.WorkerId = "";
            _restored[task] = without;
        }
    }

    /// <summary>Waits no longer for workers that played before the restart.</summary>
    private void ReleaseAbsent()
    {
        _adopting = false;
        foreach (var entry in _entries.Values.Where(e => e.Holder is AbsentWorker).ToList())
        {
            Spool?.Append(new SpoolRecord { Release = new ReleaseNote { EpisodeId = entry.Id } });
            _absentSince.Remove(entry.Holder!.WorkerId);
            _assembler.Forget(entry.Id, entry.Attempt);
            entry.Ended(Released, "", _time.GetUtcNow());
            entry.Holder = null;
            MakePending(entry);
        }

        Dispatch();
    }

    /// <summary>
    /// A worker holds a try that is not leased to it here: of a learner's life before this one, or given up meanwhile. The task's next try gets
    /// a higher number, or the worker would take it for the one that it plays.
    /// </summary>
    private void Outnumber(string workerId, string episodeId, int attempt)
    {
        if (Leased(workerId, episodeId, attempt) is not null) return;
        if (_outnumbered.Count >= MaxOutnumbered) return;
        _outnumbered[episodeId] = Math.Max(attempt, _outnumbered.GetValueOrDefault(episodeId));
    }

    // Zero says that there is none.
    private static long NewLineage() => Random.Shared.NextInt64(1, long.MaxValue);

    /// <summary>Whoever played a lease before the restart.</summary>
    private sealed class AbsentWorker(string workerId) : ILeaseTarget
    {
        public string WorkerId => workerId;

        public long AppliedVersion => -1;

        public int Credit => 0;

        public bool TrySend(TaskLease lease) => false;

        public void End()
        {
        }
    }
}
