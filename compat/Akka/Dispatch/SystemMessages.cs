// The messages cells exchange to create, supervise, watch and stop one another. Each instance is queued once only (it carries
// its own link) and is handled before any user message.
using Akka.Actor;

namespace Akka.Dispatch.SysMsg;

internal abstract class SystemMessage
{
    internal SystemMessage Next;

    /// <summary>Held back while the cell waits for its children to stop before it goes on with a restart.</summary>
    internal virtual bool StashWhenWaitingForChildren => false;

    /// <summary>Held back while the cell is suspended.</summary>
    internal virtual bool StashWhenSuspended => false;
}

internal sealed class Create : SystemMessage;

internal sealed class Recreate(Exception cause) : SystemMessage
{
    internal Exception Cause { get; } = cause;

    internal override bool StashWhenWaitingForChildren => true;
}

internal sealed class Suspend : SystemMessage
{
    internal override bool StashWhenWaitingForChildren => true;
}

internal sealed class Resume(Exception causedByFailure) : SystemMessage
{
    internal Exception CausedByFailure { get; } = causedByFailure;

    internal override bool StashWhenWaitingForChildren => true;
}

internal sealed class Terminate : SystemMessage;

internal sealed class Failed(IActorRef child, Exception cause, long uid) : SystemMessage
{
    internal IActorRef Child { get; } = child;

    internal Exception Cause { get; } = cause;

    internal long Uid { get; } = uid;

    internal override bool StashWhenWaitingForChildren => true;

    internal override bool StashWhenSuspended => true;

    public override string ToString() => $"<Failed>: {Child} ({Uid}) {Cause.Message}";
}

internal sealed class Watch(InternalActorRefBase watchee, InternalActorRefBase watcher) : SystemMessage
{
    internal InternalActorRefBase Watchee { get; } = watchee;

    internal InternalActorRefBase Watcher { get; } = watcher;
}

internal sealed class Unwatch(InternalActorRefBase watchee, InternalActorRefBase watcher) : SystemMessage
{
    internal InternalActorRefBase Watchee { get; } = watchee;

    internal InternalActorRefBase Watcher { get; } = watcher;
}

internal sealed class DeathWatchNotification(IActorRef actor, bool existenceConfirmed, bool addressTerminated) : SystemMessage
{
    internal IActorRef Actor { get; } = actor;

    internal bool ExistenceConfirmed { get; } = existenceConfirmed;

    internal bool AddressTerminated { get; } = addressTerminated;
}

/// <summary>One step of an asynchronous handler, to run on the actor.</summary>
internal sealed class TaskStep(Task task) : SystemMessage
{
    internal Task Task { get; } = task;
}

/// <summary>An asynchronous handler of the incarnation <paramref name="owner"/> ended, with an error or (null) without.</summary>
internal sealed class TaskEnded(ActorBase owner, Exception error) : SystemMessage
{
    internal ActorBase Owner { get; } = owner;

    internal Exception Error { get; } = error;
}
