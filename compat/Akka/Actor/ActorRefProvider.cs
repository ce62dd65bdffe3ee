// Where references come from. The tree: / (root guardian) with /user, /system, /temp (ask replies) and /deadLetters. A provider for
// several nodes derives from this one and overrides what crosses the process border (see Remote/RemoteActorRefProvider.cs).
using System.Collections.Concurrent;
using Akka.Dispatch.SysMsg;
using Akka.Event;
using Akka.Util;

namespace Akka.Actor;

public interface IActorRefProvider
{
    ActorPath RootPath { get; }

    IActorRef DeadLetters { get; }

    Address DefaultAddress { get; }

    IActorRef ResolveActorRef(string path);

    IActorRef ResolveActorRef(ActorPath actorPath);
}

internal class LocalActorRefProvider : IActorRefProvider
{
    private readonly ConcurrentDictionary<string, InternalActorRefBase> _temp = new();
    private readonly InternalActorRefBase _tempContainer;
    private readonly DeadLetterActorRef _deadLetters;
    private long _nextTemp;

    internal LocalActorRefProvider(ActorSystemImpl system)
    {
        System = system;
        RootPath = new RootActorPath(new Address("akka", system.Name));
        _deadLetters = new DeadLetterActorRef(this, RootPath / "deadLetters");
        _tempContainer = new TempContainer(this);
    }

    public ActorPath RootPath { get; }

    public IActorRef DeadLetters => _deadLetters;

    public virtual Address DefaultAddress => RootPath.Address;

    internal ActorSystemImpl System { get; }

    internal LocalActorRef Root { get; private set; }

    internal LocalActorRef Guardian { get; private set; }

    internal LocalActorRef SystemGuardian { get; private set; }

    public IActorRef ResolveActorRef(string path) =>
        ActorPath.TryParse(path, out var parsed) ? ResolveActorRef(parsed) : DeadLetters;

    public virtual IActorRef ResolveActorRef(ActorPath actorPath)
    {
        if (RootAt(actorPath.Address) is not { } root)
        {
            return DeadLetters;
        }

        var reference = root;
        foreach (var name in actorPath.Elements)
        {
            reference = ChildOf(reference, name);
        }

        return reference is Nobody || (actorPath.Uid != 0 && actorPath.Uid != reference.Path.Uid)
            ? new EmptyLocalActorRef(this, actorPath)
            : reference;
    }

    /// <summary>Makes the guardians. The children of the root are told to stop in order: user, then system, then the root itself.</summary>
    internal void Start(SupervisorStrategy userStrategy, Action onTerminated)
    {
        BeforeActors();
        var dispatcher = System.Dispatchers.Lookup(null);
        var bubble = new TopActorRef(this, RootPath, onTerminated);
        Root = new LocalActorRef(
            RootPath, self => new ActorCell(System, self, Props.Create(() => new RootGuardian()), bubble, dispatcher));
        Root.Cell.EnqueueSystem(new Create());
        Guardian = Root.Cell.AttachChild(
            Props.Create(() => new GuardianActor()).WithSupervisorStrategy(userStrategy), "user", checkName: false);
        SystemGuardian = Root.Cell.AttachChild(
            Props.Create(() => new GuardianActor()).WithSupervisorStrategy(SupervisorStrategy.DefaultStrategy), "system", checkName: false);
        Root.Tell(new RootGuardian.Guard(Guardian, SystemGuardian), ActorRefs.NoSender);
    }

    /// <summary>What a provider needs before any actor can send.</summary>
    internal virtual void BeforeActors()
    {
    }

    internal ActorPath RegisterTemp(InternalActorRefBase reference)
    {
        var name = "$" + Base64.Digits(Interlocked.Increment(ref _nextTemp));
        _temp[name] = reference;
        return RootPath / "temp" / name;
    }

    internal void UnregisterTemp(ActorPath path) => _temp.TryRemove(path.Name, out _);

    /// <summary>The root of the tree at that address, or null when it cannot be reached.</summary>
    internal virtual InternalActorRefBase RootAt(Address address) => address == RootPath.Address ? Root : null;

    internal ActorSelection Select(InternalActorRefBase from, string path)
    {
        if (ActorPath.TryParse(path, out var full))
        {
            return new ActorSelection(RootAt(full.Address) ?? (InternalActorRefBase)DeadLetters, full.Elements);
        }

        return new ActorSelection(path.StartsWith('/') ? Root : from, path.Split('/'));
    }

    /// <summary>Walks a selection from <paramref name="anchor"/> and tells everyone it matches.</summary>
    internal void Deliver(InternalActorRefBase anchor, ActorSelectionMessage selection, IActorRef sender)
    {
        if (!anchor.IsLocal)
        {
            anchor.Tell(selection, sender);
            return;
        }

        var reference = anchor;
        var elements = selection.Elements;
        for (var i = 0; i < elements.Count; i++)
        {
            var element = elements[i];
            if (element == "..")
            {
                reference = reference.Parent is Nobody or TopActorRef ? reference : reference.Parent;
                continue;
            }

            if (ActorSelectionMessage.IsPattern(element))
            {
                FanOut(reference, element, new ActorSelectionMessage(selection.Message, elements.Skip(i + 1).ToArray()), sender);
                return;
            }

            var child = ChildOf(reference, element);
            if (child is Nobody)
            {
                new EmptyLocalActorRef(this, reference.Path / elements.Skip(i)).TellSelected(selection.Message, sender);
                return;
            }

            reference = child;
        }

        reference.Tell(selection.Message, sender);
    }

    /// <summary>The dispatcher of a new actor; its deployment entry, if there is one, also overrides the mailbox in its Props.</summary>
    internal string Deployed(ref Props props, ActorPath parent, string name)
    {
        if (name is not null && parent.Depth > 0 && System.Deployment.Find([.. parent.Elements.Skip(1), name]) is { } entry)
        {
            props = entry.GetString("mailbox") is { Length: > 0 } mailbox ? props.WithMailbox(mailbox) : props;
            props = entry.GetString("dispatcher") is { Length: > 0 } dispatcher ? props.WithDispatcher(dispatcher) : props;
        }

        return props.Dispatcher;
    }

    /// <summary>A system message for an actor that has ended.</summary>
    internal void HandleUndeliverable(SystemMessage message, InternalActorRefBase target)
    {
        if (message is Watch watch && !watch.Watcher.Equals(target))
        {
            watch.Watcher.SendSystemMessage(new DeathWatchNotification(target, existenceConfirmed: false, addressTerminated: false));
        }
    }

    private void FanOut(InternalActorRefBase parent, string pattern, ActorSelectionMessage rest, IActorRef sender)
    {
        var found = pattern == "**"
            ? Descendants(parent).ToArray()
            : parent.Children.Where(child => ActorSelectionMessage.Matches(pattern, child.Path.Name)).ToArray();
        if (found.Length == 0)
        {
            new EmptyLocalActorRef(this, parent.Path / pattern / rest.Elements).TellSelected(rest.Message, sender);
            return;
        }

        foreach (var child in found)
        {
            DeliverBeyondFanOut(child, rest, sender);
        }
    }

    /// <summary>After a fan-out a branch that leads nowhere is dropped without a dead letter.</summary>
    private void DeliverBeyondFanOut(InternalActorRefBase start, ActorSelectionMessage rest, IActorRef sender)
    {
        IEnumerable<InternalActorRefBase> matches = [start];
        foreach (var element in rest.Elements)
        {
            matches = matches.SelectMany(one => Step(one, element));
        }

        foreach (var match in matches.ToArray())
        {
            match.Tell(rest.Message, sender);
        }
    }

    private IEnumerable<InternalActorRefBase> Step(InternalActorRefBase from, string element)
    {
        if (element == "..")
        {
            return [from.Parent];
        }

        if (element == "**")
        {
            return Descendants(from);
        }

        return ActorSelectionMessage.IsPattern(element)
            ? from.Children.Where(child => ActorSelectionMessage.Matches(element, child.Path.Name))
            : new[] { ChildOf(from, element) }.Where(child => child is not Nobody);
    }

    private static IEnumerable<InternalActorRefBase> Descendants(InternalActorRefBase parent) =>
        parent.Children.SelectMany(child => Descendants(child).Prepend(child));

    private InternalActorRefBase ChildOf(InternalActorRefBase parent, string name)
    {
        if (!ReferenceEquals(parent, Root))
        {
            return parent.GetChild(name);
        }

        return name switch
        {
            "temp" => _tempContainer,
            "deadLetters" => _deadLetters,
            _ => parent.GetChild(name),
        };
    }

    /// <summary>/temp.</summary>
    private sealed class TempContainer(LocalActorRefProvider provider) : MinimalActorRef
    {
        public override ActorPath Path { get; } = provider.RootPath / "temp";

        public override IActorRefProvider Provider => provider;

        internal override InternalActorRefBase Parent => provider.Root;

        internal override InternalActorRefBase GetChild(string name) =>
            provider._temp.TryGetValue(name, out var reference) ? reference : ActorRefs.Nobody;
    }

    /// <summary>The parent of the root: what reaches it ends the system.</summary>
    private sealed class TopActorRef(LocalActorRefProvider provider, ActorPath path, Action onTerminated) : MinimalActorRef
    {
        public override ActorPath Path => path;

        public override IActorRefProvider Provider => provider;

        internal override void SendSystemMessage(SystemMessage message)
        {
            switch (message)
            {
                case Failed failed:
                    ((InternalActorRefBase)failed.Child).Stop();
                    break;
                case DeathWatchNotification:
                    onTerminated();
                    break;
                default:
                    base.SendSystemMessage(message);
                    break;
            }
        }
    }
}

/// <summary>A path where no actor lives; what it is told becomes a dead letter.</summary>
internal class EmptyLocalActorRef(LocalActorRefProvider provider, ActorPath path) : MinimalActorRef
{
    public override ActorPath Path => path;

    public override IActorRefProvider Provider => provider;

    internal override void TellInternal(object message, IActorRef sender)
    {
        if (message is Identify identify)
        {
            sender?.Tell(new ActorIdentity(identify.MessageId, null), ActorRefs.NoSender);
        }
        else
        {
            provider.System.PublishDeadLetter(message, sender, this);
        }
    }

    internal void TellSelected(object message, IActorRef sender) => TellInternal(message, sender);
}

/// <summary>The system's dead letter office: whatever it is told is published.</summary>
internal sealed class DeadLetterActorRef(LocalActorRefProvider provider, ActorPath path) : EmptyLocalActorRef(provider, path)
{
    internal override void TellInternal(object message, IActorRef sender)
    {
        if (message is AllDeadLetters letter)
        {
            ((LocalActorRefProvider)Provider).System.EventStream.Publish(letter);
        }
        else
        {
            base.TellInternal(message, sender);
        }
    }
}

/// <summary>/user and /system: they only supervise.</summary>
internal sealed class GuardianActor : UntypedActor
{
    protected override void OnReceive(object message) => Unhandled(message);

    protected override void PreStart()
    {
    }
}

/// <summary>The root: an escalation that reaches it, or the end of /user, ends the system.</summary>
internal sealed class RootGuardian : ReceiveActor
{
    public RootGuardian()
    {
        IActorRef system = null;
        Receive<Guard>(guard =>
        {
            system = guard.System;
            Context.Watch(guard.User);
            Context.Watch(system);
        });
        Receive<Terminated>(terminated => Context.Stop(terminated.ActorRef.Equals(system) ? Self : system));
    }

    protected override SupervisorStrategy SupervisorStrategy() => Actor.SupervisorStrategy.StoppingStrategy;

    internal sealed record Guard(IActorRef User, IActorRef System);
}
