// Keeps: a run goes on from its checkpoint and the spool that belongs to it, or from the checkpoint alone; never from a spool of another life.
using Mem1.Cli.Configuration;
using Mem1.Learner;
using Mem1.Protocol.V1;

namespace Mem1.Cli.Training;

/// <summary>What a run goes on from besides weights: the ledger of its checkpoint and what happened since.</summary>
internal static class RunSpool
{
    /// <summary>Opens the spool of a run.</summary>
    /// <param name="config">Whether to keep one.</param>
    /// <param name="folder">Of the run.</param>
    /// <param name="from">Checkpoint that the run goes on from; null for a run that begins.</param>
    /// <param name="update">Updates done by then.</param>
    /// <param name="disk">Waits when the disk is full.</param>
    /// <param name="note">Told what is done again, and what cannot be used.</param>
    /// <param name="restored">What the ledger starts from; null for nothing.</param>
    /// <returns>Null when the run keeps none.</returns>
    public static TurnSpool? Open(
        CheckpointConfig config, RunFolder folder, string? from, long update, DiskPatience disk, Action<string> note, out LedgerRecord? restored)
    {
        restored = from is null ? null : TrainingCheckpoint.LoadLedger(from);
        if (!config.Spool)
        {
            TurnSpool.Remove(folder.Spool); // of an earlier life with one: it would be wrong by the next
            return null;
        }

        // A checkpoint of before the first update knows nothing of a spool; any other that does not was written when there was none, or by
        // a learner that was told to stop and spooled nothing afterwards.
        long? first = restored?.SpoolFrom is > 0 and var next ? next : update == 0 && restored is null ? 1 : null;
        var spool = TurnSpool.Open(folder.Spool, first, disk, note);
        var records = spool.TakeRecovered();
        if (records.Count == 0) return spool;
        restored = SpoolReplay.Apply(restored ?? new LedgerRecord(), records);
        note(
            $"{records.Count(r => r.BodyCase == SpoolRecord.BodyOneofCase.Turn)} turns that came after the checkpoint are in the spool; updates that "
            + "were made of them are done again without playing.");
        return spool;
    }

    /// <summary>Closes a ledger at the end of a block.</summary>
    public readonly struct Closing(TaskLedger ledger) : IDisposable
    {
        /// <inheritdoc/>
        public void Dispose() => ledger.Close();
    }
}
