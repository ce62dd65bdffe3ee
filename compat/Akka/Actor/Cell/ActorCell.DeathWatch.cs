// Death watch and receive timeout. A watcher gets exactly one Terminated per watch, after everything the watched actor sent it;
// Unwatch takes back even one that is already queued.
using Akka.Dispatch.SysMsg;

namespace Akka.Actor;

internal sealed partial class ActorCell
{
    // Value: the message of WatchWith, or null for Terminated.
    private Dictionary<IActorRef, object> _watching;
    private Dictionary<IActorRef, object> _terminatedQueued;
    private HashSet<InternalActorRefBase> _watchedBy;
    private ScheduledWork _receiveTimeoutTask;

    public TimeSpan? ReceiveTimeout { get; private set; }

    public IActorRef Watch(IActorRef subject) => WatchWith(subject, null);

    public IActorRef WatchWith(IActorRef subject, object message)
    {
        var target = (InternalActorRefBase)subject;
        if (!target.Equals(_self) && (_watching ??= []).TryAdd(target, message))
        {
            target.SendSystemMessage(new Watch(target, _self));
        }

        return subject;
    }

    public IActorRef Unwatch(IActorRef subject)
    {
        var target = (InternalActorRefBase)subject;
        if (_watching is not null && _watching.Remove(target))
        {
            target.SendSystemMessage(new Unwatch(target, _self));
        }

        _terminatedQueued?.Remove(target);
        return subject;
    }

    public void SetReceiveTimeout(TimeSpan? timeout)
    {
        ReceiveTimeout = timeout;
        CancelReceiveTimeout();
    }

    private void WatchedActorTerminated(DeathWatchNotification death)
    {
        if (_watching is not null && _watching.Remove(death.Actor, out var custom) && !IsTerminating)
        {
            (_terminatedQueued ??= [])[death.Actor] = custom;
            _self.Tell(new Terminated(death.Actor, death.ExistenceConfirmed, death.AddressTerminated), death.Actor);
        }

        if (StatsOf(death.Actor) is { } stats)
        {
            ChildTerminated(stats.Child);
        }
    }

    private bool TryTakeTerminated(Terminated terminated, out object custom)
    {
        custom = null;
        return _terminatedQueued is not null && _terminatedQueued.Remove(terminated.ActorRef, out custom);
    }

    private void RequeueTerminated(IActorRef subject) => (_terminatedQueued ??= []).TryAdd(subject, null);

    private void AddWatcher(Watch watch)
    {
        if (watch.Watchee.Equals(_self) && !watch.Watcher.Equals(_self))
        {
            (_watchedBy ??= []).Add(watch.Watcher);
        }
    }

    private void RemoveWatcher(Unwatch unwatch) => _watchedBy?.Remove(unwatch.Watcher);

    private void TellWatchers()
    {
        if (_watchedBy is null)
        {
            return;
        }

        foreach (var watcher in _watchedBy)
        {
            // The parent has had its one notification.
            if (!watcher.Equals(ParentRef))
            {
                watcher.SendSystemMessage(new DeathWatchNotification(_self, existenceConfirmed: true, addressTerminated: false));
            }
        }

        _watchedBy = null;
    }

    private void UnwatchAll()
    {
        if (_watching is not null)
        {
            foreach (var subject in _watching.Keys)
            {
                ((InternalActorRefBase)subject).SendSystemMessage(new Unwatch((InternalActorRefBase)subject, _self));
            }

            _watching = null;
        }

        _terminatedQueued = null;
    }

    private void ScheduleReceiveTimeout()
    {
        CancelReceiveTimeout();
        if (_failedBecauseOf is null && !_mailbox.IsClosed && ReceiveTimeout is { } timeout)
        {
            _receiveTimeoutTask = SystemImpl.SchedulerImpl.TrySchedule(timeout, () => _self.Tell(Actor.ReceiveTimeout.Instance, _self));
        }
    }

    private void CancelReceiveTimeout()
    {
        _receiveTimeoutTask?.Cancel();
        _receiveTimeoutTask = null;
    }
}
