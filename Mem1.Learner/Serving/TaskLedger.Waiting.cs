// Keeps: no wait for workers is silent: a batch of which nothing comes for a while is explained, again and again in growing intervals.
using System.Globalization;

namespace Mem1.Learner;

/// <content>Waiting for batches, aloud.</content>
public sealed partial class TaskLedger
{
    /// <summary>How long nothing may come of a batch that is waited for before <see cref="Stalled"/> is told; doubled each time.</summary>
    public TimeSpan StallLimit { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>How long a batch has been waited for without that any of it finished; null while nobody waits.</summary>
    public TimeSpan? Waiting => Volatile.Read(ref _waitingSince) is not 0 and var since ? _time.GetElapsedTime(since) : null;

    private long _waitingSince; // 0 while nobody waits

    /// <summary>Told in one sentence what a batch waits for; null waits in silence.</summary>
    public Action<string>? Stalled { get; set; }

    /// <summary>The number of finished tasks when the next one has finished.</summary>
    private async Task<int> NextAsync(LedgerBatch batch, CancellationToken cancellationToken)
    {
        Volatile.Write(ref _waitingSince, _time.GetTimestamp());
        try
        {
            return await HearAsync(batch, cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            Volatile.Write(ref _waitingSince, 0);
        }
    }

    private async Task<int> HearAsync(LedgerBatch batch, CancellationToken cancellationToken)
    {
        if (Stalled is null) return await batch.Finished.ReadAsync(cancellationToken).ConfigureAwait(false);
        var began = _time.GetTimestamp();
        var next = batch.Finished.ReadAsync(cancellationToken).AsTask();
        for (var patience = StallLimit; ; patience *= 2)
        {
            try
            {
                return await next.WaitAsync(patience, _time, cancellationToken).ConfigureAwait(false);
            }
            catch (TimeoutException)
            {
                Stalled?.Invoke(Explain(batch, _time.GetElapsedTime(began)));
            }
        }
    }

    /// <summary>What a batch waits for, in a sentence.</summary>
    private string Explain(LedgerBatch batch, TimeSpan waited)
    {
        lock (_lock)
        {
            var open = batch.Entries.Where(e => e.State is EntryState.Pending or EntryState.Leased).ToList();
            var played = open.Where(e => e.State == EntryState.Leased).ToList();
            var text = string.Create(
                CultureInfo.InvariantCulture,
                $"Nothing has come for {waited.TotalSeconds:0} s: {open.Count} of {batch.Size} episodes are awaited");
            if (played.MinBy(e => e.LeasedAt) is { } oldest)
            {
                text += string.Create(
                    CultureInfo.InvariantCulture,
                    $"; {played.Count} are leased, the oldest, {oldest.Id}, to {oldest.Holder!.WorkerId} for {_time.GetElapsedTime(oldest.LeasedAt).TotalSeconds:0} s"
                    + $" (learner.lease_seconds ends it after {_leaseLimit.TotalSeconds:0})");
            }

            if (open.Count > played.Count)
            {
                text += string.Create(CultureInfo.InvariantCulture, $"; {open.Count - played.Count} wait for a worker that has ")
                    + (batch.ConsumedAt is { } at
                        ? string.Create(CultureInfo.InvariantCulture, $"a version from {Math.Max(0, at - Staleness)} on in place (rollout.staleness is {Staleness}) and a free place")
                        : string.Create(CultureInfo.InvariantCulture, $"version {_version()} in place and a free place"));
            }

            if (_paused) text += "; the run is paused, so nothing is leased";
            else if (FreePlaces() <= 0) text += string.Create(CultureInfo.InvariantCulture, $"; no more than {_concurrencyLimit} may be leased at once");
            text += _targets.Count == 0
                ? "; no worker is connected"
                : "; connected: " + string.Join(", ", _targets.Take(MaxNamed).Select(t => string.Create(
                    CultureInfo.InvariantCulture, $"{t.WorkerId} (version {t.AppliedVersion}, {t.Credit} places free)")))
                    + (_targets.Count > MaxNamed ? string.Create(CultureInfo.InvariantCulture, $" and {_targets.Count - MaxNamed} more") : "");
            if (_absentSince.Count > 0) text += string.Create(CultureInfo.InvariantCulture, $"; {_absentSince.Count} have lost their stream and are waited for");
            return text + ".";
        }
    }

    // A sentence for people names a few.
    private const int MaxNamed = 4;
}
