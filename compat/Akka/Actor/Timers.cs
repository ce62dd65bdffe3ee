// Timers of one actor. A tick carries the generation of its timer; one whose timer was cancelled or replaced meanwhile is dropped
// before the behaviour sees it, even when it already was in the mailbox.
namespace Akka.Actor;

public interface IWithTimers
{
    ITimerScheduler Timers { get; set; }
}

public interface ITimerScheduler
{
    IReadOnlyCollection<object> ActiveTimers { get; }

    void StartPeriodicTimer(object key, object msg, TimeSpan interval);

    void StartPeriodicTimer(object key, object msg, TimeSpan initialDelay, TimeSpan interval);

    void StartSingleTimer(object key, object msg, TimeSpan timeout);

    bool IsTimerActive(object key);

    void Cancel(object key);

    void CancelAll();
}

internal sealed class TimerTick(TimerScheduler owner, object key, long generation, object message)
{
    internal TimerScheduler Owner { get; } = owner;

    internal object Key { get; } = key;

    internal long Generation { get; } = generation;

    internal object Message { get; } = message;
}

internal sealed class TimerScheduler(ActorCell cell) : ITimerScheduler
{
    private readonly Dictionary<object, (long Generation, bool Repeats, ScheduledWork Work)> _active = [];
    private long _generation;

    public IReadOnlyCollection<object> ActiveTimers => _active.Keys.ToArray();

    public void StartPeriodicTimer(object key, object msg, TimeSpan interval) => Start(key, msg, interval, interval);

    public void StartPeriodicTimer(object key, object msg, TimeSpan initialDelay, TimeSpan interval) =>
        Start(key, msg, initialDelay, interval);

    public void StartSingleTimer(object key, object msg, TimeSpan timeout) => Start(key, msg, timeout, null);

    public bool IsTimerActive(object key) => _active.ContainsKey(key);

    public void Cancel(object key)
    {
        if (_active.Remove(key, out var timer))
        {
            timer.Work.Cancel();
        }
    }

    public void CancelAll()
    {
        foreach (var timer in _active.Values)
        {
            timer.Work.Cancel();
        }

        _active.Clear();
    }

    /// <summary>True when the tick belongs to a timer that is still active; a single timer ends with that.</summary>
    internal bool TryTake(TimerTick tick)
    {
        if (!_active.TryGetValue(tick.Key, out var timer) || timer.Generation != tick.Generation)
        {
            return false;
        }

        if (!timer.Repeats)
        {
            _active.Remove(tick.Key);
        }

        return true;
    }

    private void Start(object key, object message, TimeSpan delay, TimeSpan? interval)
    {
        Cancel(key);
        var tick = new TimerTick(this, key, ++_generation, message);
        var self = cell.Self;
        void Fire() => self.Tell(tick, ActorRefs.NoSender);
        var work = interval is { } period
            ? cell.SystemImpl.SchedulerImpl.Schedule(delay, period, Fire)
            : cell.SystemImpl.SchedulerImpl.Schedule(delay, null, Fire);
        _active[key] = (tick.Generation, interval is not null, work);
    }
}
