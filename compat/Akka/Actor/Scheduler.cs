// Delayed and repeated work on one background thread of its own, so blocked pool threads do not delay it. Work runs in order of due
// time, then of scheduling; it must be short (a Tell). Due times are kept exactly; cancelling removes the entry.
using System.Diagnostics;

namespace Akka.Actor;

public interface ITimeProvider
{
    DateTimeOffset Now { get; }

    TimeSpan MonotonicClock { get; }

    TimeSpan HighResMonotonicClock { get; }
}

public interface ITellScheduler
{
    void ScheduleTellOnce(TimeSpan delay, ICanTell receiver, object message, IActorRef sender);

    void ScheduleTellOnce(TimeSpan delay, ICanTell receiver, object message, IActorRef sender, ICancelable cancelable);

    void ScheduleTellRepeatedly(TimeSpan initialDelay, TimeSpan interval, ICanTell receiver, object message, IActorRef sender);

    void ScheduleTellRepeatedly(
        TimeSpan initialDelay, TimeSpan interval, ICanTell receiver, object message, IActorRef sender, ICancelable cancelable);
}

public interface IActionScheduler
{
    void ScheduleOnce(TimeSpan delay, Action action, ICancelable cancelable);

    void ScheduleOnce(TimeSpan delay, Action action);

    void ScheduleRepeatedly(TimeSpan initialDelay, TimeSpan interval, Action action, ICancelable cancelable);

    void ScheduleRepeatedly(TimeSpan initialDelay, TimeSpan interval, Action action);
}

public interface IAdvancedScheduler : IActionScheduler;

public interface IScheduler : ITellScheduler, ITimeProvider
{
    IAdvancedScheduler Advanced { get; }
}

public interface ICancelable
{
    bool IsCancellationRequested { get; }

    CancellationToken Token { get; }

    void Cancel();

    void CancelAfter(TimeSpan delay);

    void CancelAfter(int millisecondsDelay);

    void Cancel(bool throwOnFirstException);
}

public class Cancelable : ICancelable, IDisposable
{
    private readonly CancellationTokenSource _source = new();

    public Cancelable(IScheduler scheduler) => ArgumentNullException.ThrowIfNull(scheduler);

    public bool IsCancellationRequested => _source.IsCancellationRequested;

    public CancellationToken Token => _source.Token;

    public void Cancel() => Cancel(false);

    public void Cancel(bool throwOnFirstException) => _source.Cancel(throwOnFirstException);

    public void CancelAfter(TimeSpan delay) => _source.CancelAfter(delay);

    public void CancelAfter(int millisecondsDelay) => _source.CancelAfter(millisecondsDelay);

    public void Dispose()
    {
        _source.Dispose();
        GC.SuppressFinalize(this);
    }
}

public static class SchedulerExtensions
{
    public static ICancelable ScheduleTellOnceCancelable(
        this IScheduler scheduler, TimeSpan delay, ICanTell receiver, object message, IActorRef sender)
    {
        var cancelable = new Cancelable(scheduler);
        scheduler.ScheduleTellOnce(delay, receiver, message, sender, cancelable);
        return cancelable;
    }

    public static ICancelable ScheduleTellRepeatedlyCancelable(
        this IScheduler scheduler, TimeSpan initialDelay, TimeSpan interval, ICanTell receiver, object message, IActorRef sender)
    {
        var cancelable = new Cancelable(scheduler);
        scheduler.ScheduleTellRepeatedly(initialDelay, interval, receiver, message, sender, cancelable);
        return cancelable;
    }
}

/// <summary>One entry of the scheduler.</summary>
internal sealed class ScheduledWork : IComparable<ScheduledWork>
{
    private readonly SystemScheduler _owner;
    private readonly long _order;

    internal ScheduledWork(SystemScheduler owner, long due, long order, TimeSpan? interval, Action action, ICancelable cancelable)
    {
        _owner = owner;
        _order = order;
        Due = due;
        Interval = interval;
        Action = action;
        Cancelable = cancelable;
    }

    /// <summary>Stopwatch ticks.</summary>
    internal long Due { get; set; }

    internal TimeSpan? Interval { get; }

    internal Action Action { get; }

    internal ICancelable Cancelable { get; }

    internal bool IsCancelled { get; set; }

    public int CompareTo(ScheduledWork other)
    {
        var order = Due.CompareTo(other.Due);
        return order != 0 ? order : _order.CompareTo(other._order);
    }

    internal void Cancel() => _owner.Remove(this);
}

internal sealed class SystemScheduler : IScheduler, IAdvancedScheduler
{
    private readonly object _gate = new();
    private readonly SortedSet<ScheduledWork> _queue = [];
    private readonly Action<Exception> _onError;
    private long _order;
    private bool _stopped;
    private bool _started;

    internal SystemScheduler(Action<Exception> onError) => _onError = onError;

    public IAdvancedScheduler Advanced => this;

    public DateTimeOffset Now => DateTimeOffset.UtcNow;

    public TimeSpan MonotonicClock => Stopwatch.GetElapsedTime(0);

    public TimeSpan HighResMonotonicClock => Stopwatch.GetElapsedTime(0);

    public void ScheduleTellOnce(TimeSpan delay, ICanTell receiver, object message, IActorRef sender) =>
        ScheduleTellOnce(delay, receiver, message, sender, null);

    public void ScheduleTellOnce(TimeSpan delay, ICanTell receiver, object message, IActorRef sender, ICancelable cancelable) =>
        Schedule(delay, null, () => receiver.Tell(message, sender), cancelable);

    public void ScheduleTellRepeatedly(TimeSpan initialDelay, TimeSpan interval, ICanTell receiver, object message, IActorRef sender) =>
        ScheduleTellRepeatedly(initialDelay, interval, receiver, message, sender, null);

    public void ScheduleTellRepeatedly(
        TimeSpan initialDelay, TimeSpan interval, ICanTell receiver, object message, IActorRef sender, ICancelable cancelable) =>
        Schedule(initialDelay, interval, () => receiver.Tell(message, sender), cancelable);

    public void ScheduleOnce(TimeSpan delay, Action action) => ScheduleOnce(delay, action, null);

    public void ScheduleOnce(TimeSpan delay, Action action, ICancelable cancelable) => Schedule(delay, null, action, cancelable);

    public void ScheduleRepeatedly(TimeSpan initialDelay, TimeSpan interval, Action action) =>
        ScheduleRepeatedly(initialDelay, interval, action, null);

    public void ScheduleRepeatedly(TimeSpan initialDelay, TimeSpan interval, Action action, ICancelable cancelable) =>
        Schedule(initialDelay, interval, action, cancelable);

    internal ScheduledWork Schedule(TimeSpan delay, TimeSpan? interval, Action action, ICancelable cancelable = null)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(delay, TimeSpan.Zero);
        if (interval is { } period)
        {
            ArgumentOutOfRangeException.ThrowIfLessThanOrEqual(period, TimeSpan.Zero, nameof(interval));
        }

        return Add(delay, interval, action, cancelable) ?? throw new SchedulerException("cannot enqueue after timer shutdown");
    }

    /// <summary>Null after shutdown.</summary>
    internal ScheduledWork TrySchedule(TimeSpan delay, Action action) => Add(delay, null, action, null);

    internal void Remove(ScheduledWork work)
    {
        lock (_gate)
        {
            work.IsCancelled = true;
            _queue.Remove(work);
        }
    }

    internal void Shutdown()
    {
        lock (_gate)
        {
            _stopped = true;
            _queue.Clear();
            Monitor.PulseAll(_gate);
        }
    }

    private static long Ticks(TimeSpan span) => (long)(span.TotalSeconds * Stopwatch.Frequency);

    private ScheduledWork Add(TimeSpan delay, TimeSpan? interval, Action action, ICancelable cancelable)
    {
        lock (_gate)
        {
            if (_stopped)
            {
                return null;
            }

            if (!_started)
            {
                _started = true;
                new Thread(Loop) { IsBackground = true, Name = "akka-scheduler" }.Start();
            }

            var work = new ScheduledWork(this, Stopwatch.GetTimestamp() + Ticks(delay), _order++, interval, action, cancelable);
            _queue.Add(work);
            if (ReferenceEquals(_queue.Min, work))
            {
                Monitor.Pulse(_gate);
            }

            return work;
        }
    }

    private void Loop()
    {
        while (Next() is { } work)
        {
            if (work.Cancelable is { IsCancellationRequested: true })
            {
                continue;
            }

            try
            {
                work.Action();
            }
            catch (Exception error)
            {
                _onError(error);
                continue;
            }

            if (work.Interval is { } interval)
            {
                lock (_gate)
                {
                    if (!work.IsCancelled && !_stopped)
                    {
                        // Fixed rate, but a late thread does not make up for missed ticks.
                        work.Due = Math.Max(work.Due + Ticks(interval), Stopwatch.GetTimestamp());
                        _queue.Add(work);
                    }
                }
            }
        }
    }

    /// <summary>Waits for the next entry to fall due; null after shutdown.</summary>
    private ScheduledWork Next()
    {
        lock (_gate)
        {
            while (!_stopped)
            {
                var first = _queue.Min;
                var left = first is null ? long.MaxValue : first.Due - Stopwatch.GetTimestamp();
                if (left <= 0)
                {
                    _queue.Remove(first);
                    return first;
                }

                if (first is null)
                {
                    Monitor.Wait(_gate);
                }
                else
                {
                    // Rounded up, so that nothing runs before its time; a day at most, the limit of the wait is lower than that of a delay.
                    Monitor.Wait(_gate, (int)Math.Min(86_400_000, (left * 1000 / Stopwatch.Frequency) + 1));
                }
            }

            return null;
        }
    }
}
