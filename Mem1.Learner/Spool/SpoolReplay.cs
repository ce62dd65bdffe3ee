// Keeps: applied to the record of a checkpoint, the records spooled since give the ledger's own record of that moment, but for counts of
// what was refused, and with the tasks consumed since still in it: their updates are done again. A record about something that is not known
// changes nothing.
using Mem1.Protocol.V1;

namespace Mem1.Learner;

/// <summary>Brings the record of a checkpoint up to where the spool ends.</summary>
public static class SpoolReplay
{
    /// <summary>Applies records in order.</summary>
    /// <param name="checkpoint">Of the checkpoint that the run goes on from; not changed.</param>
    /// <param name="records">What was spooled since.</param>
    public static LedgerRecord Apply(LedgerRecord checkpoint, IEnumerable<SpoolRecord> records)
    {
        var result = checkpoint.Clone();
        var entries = result.Entries.ToDictionary(e => e.Terms.EpisodeId, StringComparer.Ordinal);
        foreach (var record in records)
        {
            switch (record.BodyCase)
            {
                case SpoolRecord.BodyOneofCase.Lease when record.Lease.Terms is not null:
                    Begin(entries, record.Lease);
                    break;
                case SpoolRecord.BodyOneofCase.Turn:
                    if (entries.TryGetValue(record.Turn.EpisodeId, out var played) && played.Terms.Attempt == record.Turn.Attempt)
                        played.Turns.Add(record.Turn);
                    break;
                case SpoolRecord.BodyOneofCase.Failure:
                    if (entries.TryGetValue(record.Failure.EpisodeId, out var failed)) Fail(result, entries, failed, record.Failure);
                    break;
                case SpoolRecord.BodyOneofCase.Drop:
                    if (!entries.TryGetValue(record.Drop.EpisodeId, out var dropped)) break;
                    dropped.Turns.Clear();
                    dropped.WorkerId = "";
                    Count(result, record.Drop.Cause);
                    break;
                case SpoolRecord.BodyOneofCase.Release:
                    if (entries.TryGetValue(record.Release.EpisodeId, out var released)) released.WorkerId = "";
                    break;
                case SpoolRecord.BodyOneofCase.Published:
                    if (record.Published.Lineage != result.Lineage) result.Weights.Clear();
                    result.Lineage = record.Published.Lineage;
                    result.Weights[record.Published.PolicyVersion] = record.Published.Sha256;
                    break;
            }
        }

        result.Entries.Clear();
        result.Entries.AddRange(entries.Values.OrderBy(e => e.Terms.EpisodeId, StringComparer.Ordinal));
        return result;
    }

    private static void Begin(Dictionary<string, EntryRecord> entries, LeaseNote lease)
    {
        if (!entries.TryGetValue(lease.Terms.EpisodeId, out var entry)) entries.Add(lease.Terms.EpisodeId, entry = new EntryRecord());
        entry.Terms = lease.Terms;
        entry.WorkerId = lease.WorkerId;
        // The turns that it goes on from are turns of this try now.
        for (var i = 0; i < entry.Turns.Count; i++)
        {
            entry.Turns[i] = entry.Turns[i].Clone();
            entry.Turns[i].Attempt = lease.Terms.Attempt;
        }
    }

    private static void Fail(LedgerRecord result, Dictionary<string, EntryRecord> entries, EntryRecord entry, FailureNote failure)
    {
        Count(result, failure.Cause);
        var gone = failure.Cause == nameof(DiscardCause.WorkerGone);
        if (gone) entry.Losses++;
        else entry.Turns.Clear();
        entry.Reasons.Add(failure.Reason);
        entry.WorkerId = "";
        if (!TaskLedger.IsGivenUp(entry.Reasons.Count, entry.Losses)) return;
        entries.Remove(failure.EpisodeId);
        result.GivenUp.Add(new QuarantinedRecord { TaskId = entry.Terms.TaskId, Reasons = { entry.Reasons } });
    }

    private static void Count(LedgerRecord result, string cause) =>
        result.Discarded[cause] = result.Discarded.TryGetValue(cause, out var before) ? before + 1 : 1;
}
