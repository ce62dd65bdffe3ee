// One actor: its mailbox, instance, behaviours and current message. Everything here except Enqueue, EnqueueSystem, AttachChild and
// the child look-ups runs on the one thread that currently runs the mailbox. The other parts of this class hold the children,
// the death watch, the failure handling and the asynchronous handlers.
using Akka.Dispatch;
using Akka.Dispatch.SysMsg;
using Akka.Event;
using Akka.Util;

namespace Akka.Actor;

internal sealed partial class ActorCell : IUntypedActorContext
{
    [ThreadStatic]
    private static ActorCell s_current;

    private readonly LocalActorRef _self;
    private readonly Mailbox _mailbox;
    private readonly MessageDispatcher _dispatcher;
    private readonly Stack<Receive> _behaviours = new();

    private ActorBase _actor;
    private Envelope _current;
    private bool _creating;

    internal ActorCell(ActorSystemImpl system, LocalActorRef self, Props props, InternalActorRefBase parent, MessageDispatcher dispatcher)
    {
        SystemImpl = system;
        _self = self;
        Props = props;
        ParentRef = parent;
        _dispatcher = dispatcher.ForActor(self.Path);
        var mailbox = system.Mailboxes.SettingsFor(props);
        StashCapacity = mailbox.StashCapacity;
        _mailbox = new Mailbox(this, _dispatcher, mailbox.Capacity, mailbox.PushTimeout);
    }

    /// <summary>The cell this thread is running, or null.</summary>
    internal static ActorCell Current
    {
        get => s_current;
        set => s_current = value;
    }

    internal static IActorRef CurrentSelfOrNoSender => s_current?._self;

    internal ActorSystemImpl SystemImpl { get; }

    internal InternalActorRefBase ParentRef { get; }

    internal int StashCapacity { get; }

    internal object CurrentMessage => _current.Message;

    internal Envelope CurrentEnvelope => _current;

    /// <summary>Counts deliveries, so that two of the same message object can be told apart.</summary>
    internal long CurrentEnvelopeId { get; private set; }

    public IActorRef Self => _self;

    public Props Props { get; }

    public MessageDispatcher Dispatcher => _dispatcher;

    public IActorRef Sender => _current.Sender ?? SystemImpl.DeadLetters;

    public ActorSystem System => SystemImpl;

    public IActorRef Parent => ParentRef;

    public ActorSelection ActorSelection(string actorPath) => SystemImpl.LocalProvider.Select(_self, actorPath);

    public ActorSelection ActorSelection(ActorPath actorPath) => SystemImpl.ActorSelection(actorPath);

    public void Become(Receive receive)
    {
        if (_behaviours.Count > 1)
        {
            _behaviours.Pop();
        }

        _behaviours.Push(receive);
    }

    public void BecomeStacked(Receive receive) => _behaviours.Push(receive);

    public void UnbecomeStacked()
    {
        if (_behaviours.Count > 1)
        {
            _behaviours.Pop();
        }
    }

    void IUntypedActorContext.Become(UntypedReceive receive) => Become(Handled(receive));

    void IUntypedActorContext.BecomeStacked(UntypedReceive receive) => BecomeStacked(Handled(receive));

    internal static Receive Handled(UntypedReceive receive) => message =>
    {
        receive(message);
        return true;
    };

    internal void Enqueue(object message, IActorRef sender)
    {
        if (!_mailbox.TryEnqueue(new Envelope(message, sender is Nobody ? null : sender)))
        {
            SystemImpl.PublishDeadLetter(message, sender, _self);
        }
    }

    internal void EnqueueSystem(SystemMessage message)
    {
        if (!_mailbox.TryEnqueueSystem(message))
        {
            SystemImpl.LocalProvider.HandleUndeliverable(message, _self);
        }
    }

    internal void Prepend(IReadOnlyList<Envelope> envelopes)
    {
        // A Terminated taken out of the mailbox counted as delivered; one put back has to be deliverable again.
        foreach (var envelope in envelopes)
        {
            if (envelope.Message is Terminated terminated)
            {
                RequeueTerminated(terminated.ActorRef);
            }
        }

        _mailbox.Prepend(envelopes);
    }

    /// <summary>Handles one user message; a failure goes to supervision.</summary>
    internal void Invoke(in Envelope envelope)
    {
        _current = envelope;
        CurrentEnvelopeId++;
        var countsAsActivity = ReceiveTimeout is not null && InfluencesReceiveTimeout(envelope.Message);
        if (countsAsActivity)
        {
            CancelReceiveTimeout();
        }

        try
        {
            Dispatch(envelope.Message);
            _current = default;
        }
        catch (Exception cause)
        {
            HandleInvokeFailure(cause, exceptChild: null);
        }

        if (ReceiveTimeout is not null && !_mailbox.IsAwaiting && (countsAsActivity || _receiveTimeoutTask is null))
        {
            ScheduleReceiveTimeout();
        }
    }

    /// <summary>Handles one system message, and those held back for it.</summary>
    internal void InvokeSystem(SystemMessage message)
    {
        var before = HoldLevel();
        if ((before == Hold.Children && message.StashWhenWaitingForChildren) || (before >= Hold.Suspended && message.StashWhenSuspended))
        {
            _heldBack.Enqueue(message);
            return;
        }

        try
        {
            Handle(message);
        }
        catch (Exception cause)
        {
            HandleInvokeFailure(cause, exceptChild: (message as Failed)?.Child);
        }

        if (_mailbox.IsClosed)
        {
            DropHeldBack();
        }
        else if (HoldLevel() < before)
        {
            RedeliverHeldBack();
        }
    }

    /// <summary>Called by the base constructor of an actor: proves that it is being made by its cell.</summary>
    internal static ActorCell ForNewInstance(ActorBase instance)
    {
        var cell = s_current;
        if (cell is not { _creating: true })
        {
            throw new ActorInitializationException(
                $"You cannot create an instance of [{instance.GetType().FullName}] explicitly using the constructor (new). "
                + "Make Props for it and give them to ActorOf.");
        }

        cell._creating = false;
        cell._behaviours.Clear();
        cell._behaviours.Push(instance.ReceiveCore);
        return cell;
    }

    private static bool InfluencesReceiveTimeout(object message) =>
        (message is TimerTick tick ? tick.Message : message) is not INotInfluenceReceiveTimeout;

    private void Dispatch(object message)
    {
        if (message is TimerTick tick)
        {
            if (!tick.Owner.TryTake(tick))
            {
                return;
            }

            message = tick.Message;
            _current = new Envelope(message, _current.Sender);
        }

        if (message is IAutoReceivedMessage)
        {
            AutoReceive(message);
        }
        else
        {
            ReceiveMessage(message);
        }
    }

    private void ReceiveMessage(object message) => _actor.AroundReceive(_behaviours.Peek(), message);

    private void AutoReceive(object message)
    {
        switch (message)
        {
            case PoisonPill:
                _self.Stop();
                break;
            case Kill:
                throw new ActorKilledException("Kill");
            case Identify identify:
                Sender.Tell(new ActorIdentity(identify.MessageId, _self), _self);
                break;
            case ActorSelectionMessage selection:
                SystemImpl.LocalProvider.Deliver(_self, selection, _current.Sender);
                break;
            case Terminated terminated:
                if (TryTakeTerminated(terminated, out var custom))
                {
                    ReceiveMessage(custom ?? terminated);
                }

                break;
            default:
                ReceiveMessage(message);
                break;
        }
    }

    private void Handle(SystemMessage message)
    {
        switch (message)
        {
            case Create:
                CreateInstance();
                break;
            case TaskStep step:
                RunStep(step);
                break;
            case TaskEnded ended:
                EndTask(ended);
                break;
            case DeathWatchNotification death:
                WatchedActorTerminated(death);
                break;
            case Watch watch:
                AddWatcher(watch);
                break;
            case Unwatch unwatch:
                RemoveWatcher(unwatch);
                break;
            case Failed failed:
                HandleFailed(failed);
                break;
            case Recreate recreate:
                FaultRecreate(recreate.Cause);
                break;
            case Suspend:
                _mailbox.Suspend();
                SuspendChildren(except: null);
                break;
            case Resume resume:
                FaultResume(resume.CausedByFailure);
                break;
            case Terminate:
                TerminateCell();
                break;
            default:
                throw new InvalidOperationException($"Unknown system message {message.GetType()}.");
        }
    }

    private void CreateInstance()
    {
        try
        {
            _actor = NewInstance();
            _actor.AroundPreStart();
            if (ReceiveTimeout is not null)
            {
                ScheduleReceiveTimeout();
            }
        }
        catch (Exception cause)
        {
            Discard(_actor);
            _actor = null;
            throw new ActorInitializationException(_self, "Exception during creation", cause);
        }
    }

    private ActorBase NewInstance()
    {
        _creating = true;
        try
        {
            var instance = Props.NewActor();
            if (_creating || instance is null)
            {
                throw new ActorInitializationException(_self, "Actor instance passed to ActorOf can't be 'null' or made elsewhere");
            }

            instance.Incarnate();
            return instance;
        }
        catch
        {
            _behaviours.Clear();
            throw;
        }
        finally
        {
            _creating = false;
        }
    }

    private void Discard(ActorBase instance)
    {
        if (instance is not null)
        {
            try
            {
                Props.Release(instance);
                (instance as IDisposable)?.Dispose();
            }
            catch (Exception error)
            {
                var type = instance.GetType();
                SystemImpl.EventStream.Publish(
                    new Error(error, _self.Path.ToString(), type, $"An error occurred while disposing {type}: {error.Message}"));
            }
        }

        _behaviours.Clear();
        _current = default;
    }
}
