// The base class of actors: message handling, life-cycle hooks and the wrappers around them. The wrappers cancel timers before
// PreRestart and PostStop run, so a hook never sees an active timer of the old life.
using Akka.Event;

namespace Akka.Actor;

public abstract class ActorBase
{
    private readonly ActorCell _cell;

    protected ActorBase()
    {
        _cell = ActorCell.ForNewInstance(this);
        if (this is IWithTimers withTimers)
        {
            withTimers.Timers = new TimerScheduler(_cell);
        }
    }

    protected static IActorContext Context => CurrentContext;

    protected static Receive EmptyReceive { get; } = _ => false;

    protected IActorRef Sender => CurrentContext.Sender;

    protected IActorRef Self => CurrentContext.Self;

    private protected static ActorCell CurrentContext =>
        ActorCell.Current ?? throw new NotSupportedException(
            "There is no active ActorContext, this is most likely due to use of async operations from within this actor.");

    internal Receive ReceiveCore => Receive;

    public virtual void AroundPreStart() => PreStart();

    public virtual void AroundPreRestart(Exception cause, object message)
    {
        CancelTimers();
        PreRestart(cause, message);
    }

    public virtual void AroundPostRestart(Exception cause, object message) => PostRestart(cause);

    public virtual void AroundPostStop()
    {
        CancelTimers();
        PostStop();
    }

    protected internal virtual bool AroundReceive(Receive receive, object message)
    {
        var handled = receive(message);
        if (!handled)
        {
            Unhandled(message);
        }

        return handled;
    }

    protected abstract bool Receive(object message);

    protected virtual void Unhandled(object message)
    {
        if (message is Terminated terminated)
        {
            throw new DeathPactException(terminated.ActorRef);
        }

        _cell.System.EventStream.Publish(new UnhandledMessage(message, Sender, Self));
    }

    protected void Become(Receive receive) => _cell.Become(receive);

    protected void BecomeStacked(Receive receive) => _cell.BecomeStacked(receive);

    protected void UnbecomeStacked() => _cell.UnbecomeStacked();

    protected void SetReceiveTimeout(TimeSpan? timeout) => _cell.SetReceiveTimeout(timeout);

    protected virtual void PreStart()
    {
    }

    protected virtual void PreRestart(Exception reason, object message)
    {
        foreach (var child in _cell.ChildRefs())
        {
            _cell.Unwatch(child);
            _cell.Stop(child);
        }

        PostStop();
    }

    protected virtual void PostRestart(Exception reason) => PreStart();

    protected virtual void PostStop()
    {
    }

    /// <summary>Applied to the children of this actor.</summary>
    protected virtual SupervisorStrategy SupervisorStrategy() => Actor.SupervisorStrategy.DefaultStrategy;

    internal SupervisorStrategy StrategyCore() => SupervisorStrategy();

    /// <summary>Runs once after the constructor.</summary>
    internal virtual void Incarnate()
    {
        if (this is IActorStash stashing)
        {
            stashing.Stash = new Stash(_cell);
        }
    }

    private void CancelTimers() => (this as IWithTimers)?.Timers?.CancelAll();
}

public abstract class UntypedActor : ActorBase
{
    protected static new IUntypedActorContext Context => CurrentContext;

    protected sealed override bool Receive(object message)
    {
        OnReceive(message);
        return true;
    }

    /// <summary>Runs an asynchronous handler; no other user message is handled until it ends. Has to come last in a handler.</summary>
    protected void RunTask(Func<Task> action) => CurrentContext.RunTask(action);

    protected abstract void OnReceive(object message);

    protected void Become(UntypedReceive receive) => Become(ActorCell.Handled(receive));

    protected void BecomeStacked(UntypedReceive receive) => BecomeStacked(ActorCell.Handled(receive));
}
