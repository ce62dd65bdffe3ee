// Keeps: what waits here is done once when there is room, or its failure is thrown; people are told once when waiting begins and once when
// it ends, however many wait; no wait outlives the stop it was given or the limit.
using System.Diagnostics;

namespace Mem1.Learner;

/// <summary>Waits for room on a full disk instead of ending the run. Thread-safe.</summary>
/// <param name="limit">How long one write waits before its failure is thrown; zero does not wait.</param>
/// <param name="note">Told in a sentence when waiting begins and ends.</param>
public sealed class DiskPatience(TimeSpan limit, Action<string> note)
{
    // What .NET puts into IOException.HResult: ENOSPC, EDQUOT, and what Windows says.
    private static readonly HashSet<int> s_full = [28, 122, unchecked((int)0x80070070), unchecked((int)0x80070027)];

    private static readonly TimeSpan FirstWait = TimeSpan.FromMilliseconds(100);

    // Somebody who has made room should not wait long to see the run go on.
    private static readonly TimeSpan LongestWait = TimeSpan.FromSeconds(5);

    private readonly Lock _lock = new();
    private int _waiting;
    private long _began;
    private TimeSpan _waited;

    /// <summary>How long anything has waited for room so far.</summary>
    public TimeSpan Waited
    {
        get
        {
            lock (_lock) return _waiting > 0 ? _waited + Stopwatch.GetElapsedTime(_began) : _waited;
        }
    }

    /// <summary>Whether a write failed because the disk, or a quota on it, is full.</summary>
    public static bool IsFull(Exception? failure)
    {
        for (; failure is not null; failure = failure.InnerException)
            if (failure is IOException && s_full.Contains(failure.HResult)) return true;
        return false;
    }

    /// <summary>Does something that writes; on a full disk again and again until there is room. It must leave nothing half done when it fails.</summary>
    /// <param name="what">What cannot be written, for people.</param>
    /// <param name="write">Writes.</param>
    /// <param name="stop">Ends the wait: the failure is thrown.</param>
    public void Do(string what, Action write, CancellationToken stop)
    {
        var watch = Stopwatch.StartNew();
        var wait = FirstWait;
        var waits = false;
        try
        {
            while (true)
            {
                try
                {
                    write();
                    return;
                }
                catch (Exception e) when (IsFull(e) && watch.Elapsed < limit && !stop.IsCancellationRequested)
                {
                    if (!waits) Begin(what, e);
                    waits = true;
                }

                stop.WaitHandle.WaitOne(wait);
                wait = wait * 2 < LongestWait ? wait * 2 : LongestWait;
            }
        }
        finally
        {
            if (waits) End();
        }
    }

    private void Begin(string what, Exception e)
    {
        lock (_lock)
        {
            if (_waiting++ > 0) return;
            _began = Stopwatch.GetTimestamp();
        }

        while (e.InnerException is { } inner) e = inner;
        note(FormattableString.Invariant(
            $"The disk is full: {what} cannot be written ({e.Message.TrimEnd('.')}). The run waits up to {limit.TotalMinutes:0.#} minutes for room and then goes on by itself; nothing is lost meanwhile."));
    }

    private void End()
    {
        TimeSpan waited;
        lock (_lock)
        {
            if (--_waiting > 0) return;
            waited = Stopwatch.GetElapsedTime(_began);
            _waited += waited;
        }

        note(FormattableString.Invariant($"The wait for room on the disk is over after {waited.TotalSeconds:0.0} s."));
    }
}
