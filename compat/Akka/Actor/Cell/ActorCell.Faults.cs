// Failure, restart and stop. The order kept here: a failing actor suspends itself and everything below it and then asks its
// parent; a restart stops the children the old instance asked to stop and waits for them; a stop ends the children first, then
// calls PostStop, then tells the parent and the watchers.
using System.Runtime.ExceptionServices;
using Akka.Dispatch.SysMsg;
using Akka.Event;

namespace Akka.Actor;

internal sealed partial class ActorCell
{
    private readonly Queue<SystemMessage> _heldBack = new();

    // Who brought this actor down: itself, or the child whose failure it escalated. Null while all is well.
    private IActorRef _failedBecauseOf;
    private SupervisorStrategy _strategy;

    /// <summary>Which system messages have to wait, in rising order.</summary>
    private enum Hold
    {
        Nothing,
        Suspended,
        Children,
    }

    internal SupervisorStrategy Strategy => _strategy ??= Props.SupervisorStrategy ?? _actor.StrategyCore();

    private Hold HoldLevel() =>
        IsWaitingForChildren ? Hold.Children : _mailbox.IsSuspended ? Hold.Suspended : Hold.Nothing;

    private void RedeliverHeldBack()
    {
        for (var count = _heldBack.Count; count > 0 && _heldBack.TryDequeue(out var message); count--)
        {
            if (_mailbox.IsClosed)
            {
                SystemImpl.LocalProvider.HandleUndeliverable(message, _self);
            }
            else
            {
                InvokeSystem(message);
            }
        }
    }

    private void DropHeldBack()
    {
        while (_heldBack.TryDequeue(out var message))
        {
            SystemImpl.LocalProvider.HandleUndeliverable(message, _self);
        }
    }

    private void HandleInvokeFailure(Exception cause, IActorRef exceptChild)
    {
        if (_failedBecauseOf is not null || _mailbox.IsClosed)
        {
            return;
        }

        CancelReceiveTimeout();
        _mailbox.Suspend();
        _failedBecauseOf = exceptChild ?? _self;
        SuspendChildren(exceptChild);
        ParentRef.SendSystemMessage(new Failed(_self, cause, _self.Path.Uid));
    }

    private void HandleFailed(Failed failed)
    {
        // The decider sees the failed child as Sender; an escalation keeps this as "the message" of the parent's own restart.
        _current = new Envelope(failed, failed.Child);
        if (StatsOf(failed.Child) is { } stats && !Strategy.HandleFailure(this, stats.Child, failed.Cause, stats, ChildStats()))
        {
            ExceptionDispatchInfo.Throw(failed.Cause);
        }

        _current = default;
    }

    private void FaultRecreate(Exception cause)
    {
        if (_actor is null)
        {
            FaultCreate();
            return;
        }

        if (IsTerminating || IsWaitingForChildren)
        {
            FaultResume(null);
            return;
        }

        var failed = _actor;
        var message = _current.Message;
        try
        {
            failed.AroundPreRestart(cause, message);
            (failed as IActorStash)?.Stash?.UnstashAll();
        }
        catch (Exception error)
        {
            var wrapped = new PreRestartException(_self, error, cause, message);
            SystemImpl.EventStream.Publish(new Error(wrapped, _self.Path.ToString(), failed.GetType(), error.Message));
        }
        finally
        {
            Discard(failed);
        }

        _recreateCause = cause;
        if (!WaitForDyingChildren(WaitReason.Recreation))
        {
            FinishRecreate(cause, failed);
        }
    }

    private void FinishRecreate(Exception cause, ActorBase failed)
    {
        var survivors = ChildRefs();
        _recreateCause = null;
        _mailbox.Resume();
        _failedBecauseOf = null;
        try
        {
            _strategy = null;
            var fresh = NewInstance();
            _actor = fresh;
            fresh.AroundPostRestart(cause, null);
        }
        catch (Exception error)
        {
            if (!ReferenceEquals(_actor, failed))
            {
                Discard(_actor);
            }

            _actor = null;
            HandleInvokeFailure(new PostRestartException(_self, error, cause), exceptChild: null);
            return;
        }

        foreach (var survivor in survivors)
        {
            survivor.Restart(cause);
        }

        if (ReceiveTimeout is not null)
        {
            ScheduleReceiveTimeout();
        }
    }

    /// <summary>The instance never came to be: stop what it left and try again.</summary>
    private void FaultCreate()
    {
        if (IsTerminating)
        {
            // Already waiting for the children to end; trying again now would forget that.
            _mailbox.Resume();
            return;
        }

        CancelReceiveTimeout();
        if (!StopChildrenAndWait(WaitReason.Creation))
        {
            FinishCreate();
        }
    }

    private void FinishCreate()
    {
        _mailbox.Resume();
        _failedBecauseOf = null;
        try
        {
            CreateInstance();
        }
        catch (Exception cause)
        {
            HandleInvokeFailure(cause, exceptChild: null);
        }
    }

    private void FaultResume(Exception causedByFailure)
    {
        if (_actor is null)
        {
            FaultCreate();
            return;
        }

        var perpetrator = _failedBecauseOf;
        _mailbox.Resume();
        if (causedByFailure is not null)
        {
            _failedBecauseOf = null;
            _current = default;
        }

        foreach (var child in ChildRefs())
        {
            child.Resume(child.Equals(perpetrator) ? causedByFailure : null);
        }

        if (ReceiveTimeout is not null && _failedBecauseOf is null)
        {
            ScheduleReceiveTimeout();
        }
    }

    private void TerminateCell()
    {
        SetReceiveTimeout(null);
        UnwatchAll();
        var wasTerminating = IsTerminating;
        if (!StopChildrenAndWait(WaitReason.Termination))
        {
            FinishTerminate();
        }
        else if (!wasTerminating)
        {
            // No user message runs while the children end, and no failure of theirs reaches the supervisor.
            _mailbox.Suspend();
            _failedBecauseOf = _self;
        }
    }

    private void FinishTerminate()
    {
        var last = _actor;
        var stash = (last as IActorStash)?.Stash;
        try
        {
            last?.AroundPostStop();
        }
        catch (Exception error)
        {
            SystemImpl.EventStream.Publish(new Error(error, _self.Path.ToString(), last.GetType(), error.Message));
        }

        stash?.UnstashAll();
        Discard(last);
        var unhandled = _mailbox.Close();
        ParentRef.SendSystemMessage(new DeathWatchNotification(_self, existenceConfirmed: true, addressTerminated: false));
        TellWatchers();
        UnwatchAll();
        _actor = null;
        while (unhandled is not null)
        {
            var next = unhandled.Next;
            unhandled.Next = null;
            SystemImpl.LocalProvider.HandleUndeliverable(unhandled, _self);
            unhandled = next;
        }

        _dispatcher.Detach();
    }
}
