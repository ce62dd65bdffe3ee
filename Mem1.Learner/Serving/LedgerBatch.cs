using System.Threading.Channels;

namespace Mem1.Learner;

/// <summary>The tasks of one update or evaluation in a <see cref="TaskLedger"/>; made by <see cref="TaskLedger.Submit"/>.</summary>
public sealed class LedgerBatch
{
    // The number of finished tasks each time one finishes, so that whoever waits can report it outside the lock. Not longer than the tries.
    private readonly Channel<int> _finished = Channel.CreateUnbounded<int>(new UnboundedChannelOptions { SingleReader = true });

    internal LedgerBatch(IReadOnlyList<TaskRequest> requests, long? consumedAt)
    {
        Entries = [.. requests.Select(request => new LedgerEntry(request, this))];
        ConsumedAt = consumedAt;
    }

    /// <summary>How many tasks it has.</summary>
    public int Size => Entries.Count;

    internal IReadOnlyList<LedgerEntry> Entries { get; }

    /// <summary>
    /// The version of the weights at which the batch will be trained on; null for one that is to be played under the newest weights,
    /// whichever they are.
    /// </summary>
    internal long? ConsumedAt { get; set; }

    /// <summary>Tasks that are buffered or quarantined.</summary>
    internal int Done { get; private set; }

    internal ChannelReader<int> Finished => _finished.Reader;

    internal void Finish() => _finished.Writer.TryWrite(++Done);

    /// <summary>A finished task has to be played again.</summary>
    internal void Unfinish() => Done--;
}
