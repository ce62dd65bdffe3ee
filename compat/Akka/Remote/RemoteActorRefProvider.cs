// References across processes. A path with this node's address is local here; one with another address is a RemoteActorRef, which
// sends. Local references print without host, as in a local system; they get the node's address when they are serialised.
using Akka.Actor;
using Akka.Dispatch.SysMsg;

namespace Akka.Remote;

internal sealed class RemoteActorRefProvider : LocalActorRefProvider
{
    internal const string Protocol = "akka.tcp";

    internal RemoteActorRefProvider(ActorSystemImpl system)
        : base(system)
    {
    }

    public override Address DefaultAddress => Transport.LocalAddress;

    /// <summary>Set once the port is bound, before the first actor exists.</summary>
    internal RemoteTransport Transport { get; private set; }

    public override IActorRef ResolveActorRef(ActorPath actorPath) =>
        IsElsewhere(actorPath.Address) ? new RemoteActorRef(this, actorPath) : base.ResolveActorRef(actorPath);

    internal override InternalActorRefBase RootAt(Address address)
    {
        if (IsElsewhere(address))
        {
            return new RemoteActorRef(this, new RootActorPath(address));
        }

        return address == DefaultAddress ? Root : base.RootAt(address);
    }

    internal override void BeforeActors()
    {
        Transport = new RemoteTransport(this);
        System.RegisterOnTermination(Transport.Stop);
    }

    /// <summary>The path another node can use; empty for no reference.</summary>
    internal string Serialized(IActorRef reference) =>
        reference.IsNobody() ? "" : reference.Path.ToSerializationFormatWithAddress(DefaultAddress);

    /// <summary>The reverse of <see cref="Serialized"/>; null for no reference.</summary>
    internal IActorRef Resolve(string serialized) => string.IsNullOrEmpty(serialized) ? null : ResolveActorRef(serialized);

    private bool IsElsewhere(Address address) =>
        address.HasGlobalScope && address.Protocol == Protocol && address != DefaultAddress;
}

/// <summary>An actor of another node. Without uid it names whoever lives at the path.</summary>
internal sealed class RemoteActorRef(RemoteActorRefProvider provider, ActorPath path) : InternalActorRefBase
{
    public override ActorPath Path => path;

    public override IActorRefProvider Provider => provider;

    internal override bool IsLocal => false;

    internal override void TellInternal(object message, IActorRef sender) => provider.Transport.Send(this, message, sender);

    internal override void SendSystemMessage(SystemMessage message) => provider.Transport.SendSystem(this, message);
}
