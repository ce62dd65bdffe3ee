// Handles to actors. Two references are equal when path and uid are: the same incarnation. Telling never throws except for a
// null message; whatever cannot be delivered is published as a dead letter.
using Akka.Dispatch.SysMsg;

namespace Akka.Actor;

public interface ICanTell
{
    void Tell(object message, IActorRef sender);
}

public interface IActorRef : ICanTell, IEquatable<IActorRef>, IComparable<IActorRef>, IComparable
{
    ActorPath Path { get; }
}

public static class ActorRefImplicitSenderExtensions
{
    /// <summary>Tells with the current actor as sender, or none outside an actor.</summary>
    public static void Tell(this IActorRef receiver, object message) => receiver.Tell(message, ActorCell.CurrentSelfOrNoSender);

    /// <summary>Tells with the sender of the message being handled.</summary>
    public static void Forward(this IActorRef receiver, object message) => receiver.Tell(message, ActorCell.Current?.Sender);
}

public static class ActorRefs
{
    public static readonly Nobody Nobody = Nobody.Instance;

    public static readonly IActorRef NoSender;
}

public static class ActorRefExtensions
{
    public static bool IsNobody(this IActorRef actorRef) => actorRef is null or Nobody;
}

/// <summary>What every reference of this library can do beyond telling. A reference to another node derives from this too.</summary>
public abstract class InternalActorRefBase : IActorRef
{
    public abstract ActorPath Path { get; }

    public abstract IActorRefProvider Provider { get; }

    internal virtual InternalActorRefBase Parent => ActorRefs.Nobody;

    internal virtual bool IsLocal => true;

    public void Tell(object message, IActorRef sender)
    {
        ArgumentNullException.ThrowIfNull(message);
        TellInternal(message, sender);
    }

    public bool Equals(IActorRef other) =>
        other is not null && (ReferenceEquals(this, other) || (Path.Uid == other.Path.Uid && Path.Equals(other.Path)));

    public int CompareTo(IActorRef other)
    {
        if (other is null)
        {
            return 1;
        }

        var order = Path.CompareTo(other.Path);
        return order != 0 ? order : Path.Uid.CompareTo(other.Path.Uid);
    }

    public int CompareTo(object obj) =>
        obj is null or IActorRef ? CompareTo((IActorRef)obj) : throw new ArgumentException("Not a reference.", nameof(obj));

    public override bool Equals(object obj) => obj is IActorRef other && Equals(other);

    public override int GetHashCode() => HashCode.Combine(Path, Path.Uid);

    public override string ToString() => $"[{Path.ToStringWithUid()}]";

    internal abstract void TellInternal(object message, IActorRef sender);

    internal abstract void SendSystemMessage(SystemMessage message);

    /// <summary>The child of that name, or Nobody.</summary>
    internal virtual InternalActorRefBase GetChild(string name) => ActorRefs.Nobody;

    internal virtual IEnumerable<InternalActorRefBase> Children => [];

    internal void Suspend() => SendSystemMessage(new Suspend());

    internal void Resume(Exception causedByFailure) => SendSystemMessage(new Resume(causedByFailure));

    internal void Restart(Exception cause) => SendSystemMessage(new Recreate(cause));

    internal void Stop() => SendSystemMessage(new Terminate());
}

/// <summary>A reference without an actor behind it.</summary>
public abstract class MinimalActorRef : InternalActorRefBase
{
    internal override void TellInternal(object message, IActorRef sender)
    {
    }

    internal override void SendSystemMessage(SystemMessage message)
    {
        if (message is Watch watch && watch.Watchee.Equals(this) && !watch.Watcher.Equals(this))
        {
            watch.Watcher.SendSystemMessage(new DeathWatchNotification(watch.Watchee, existenceConfirmed: false, addressTerminated: false));
        }
    }
}

public sealed class Nobody : MinimalActorRef
{
    public static readonly Nobody Instance = new();

    private readonly ActorPath _path = new RootActorPath(new Address("akka", "all-systems"), "nobody");

    private Nobody()
    {
    }

    public override ActorPath Path => _path;

    public override IActorRefProvider Provider => throw new NotSupportedException("Nobody does not provide");
}

/// <summary>The reference of an actor in this process.</summary>
internal sealed class LocalActorRef : InternalActorRefBase
{
    private readonly ActorPath _path;

    internal LocalActorRef(ActorPath path, Func<LocalActorRef, ActorCell> makeCell)
    {
        _path = path;
        Cell = makeCell(this);
    }

    public override ActorPath Path => _path;

    public override IActorRefProvider Provider => Cell.SystemImpl.LocalProvider;

    internal ActorCell Cell { get; }

    internal override InternalActorRefBase Parent => Cell.ParentRef;

    internal override IEnumerable<InternalActorRefBase> Children => Cell.ChildRefs();

    internal override void TellInternal(object message, IActorRef sender) => Cell.Enqueue(message, sender);

    internal override void SendSystemMessage(SystemMessage message) => Cell.EnqueueSystem(message);

    internal override InternalActorRefBase GetChild(string name) => Cell.ChildRef(name);
}
