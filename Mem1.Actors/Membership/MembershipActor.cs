// Invariants:
//  * Every change of the membership is told once, in the order in which this node sees them; nothing here decides anything.
using Akka.Actor;
using Akka.Cluster;

namespace Mem1.Actors;

/// <summary>Turns what the cluster publishes into <see cref="MembershipEvent"/>s.</summary>
internal sealed class MembershipActor : ReceiveActor
{
    private readonly Cluster _cluster;

    public MembershipActor(Cluster cluster, Action<MembershipEvent> changed, TimeProvider time)
    {
        _cluster = cluster;
        Receive<ClusterEvent.IMemberEvent>(e =>
        {
            NodeChange? change = e switch
            {
                ClusterEvent.MemberJoined => NodeChange.Joined,
                ClusterEvent.MemberUp => NodeChange.Up,
                ClusterEvent.MemberLeft => NodeChange.Leaving,
                ClusterEvent.MemberExited => NodeChange.Exiting,
                ClusterEvent.MemberDowned => NodeChange.Downed,
                ClusterEvent.MemberRemoved removed => removed.PreviousStatus == MemberStatus.Down ? NodeChange.Removed : NodeChange.Left,
                _ => null, // weakly up: seen in the state, no news to anybody
            };
            if (change is { } happened) Tell(e.Member, happened);
        });
        Receive<ClusterEvent.UnreachableMember>(e => Tell(e.Member, NodeChange.Unreachable));
        Receive<ClusterEvent.ReachableMember>(e => Tell(e.Member, NodeChange.Reachable));

        void Tell(Member member, NodeChange change) =>
            changed(new MembershipEvent(IdOf(member.UniqueAddress), [.. member.Roles.Order(StringComparer.Ordinal)], change, time.GetUtcNow()));
    }

    public static NodeId IdOf(UniqueAddress node) => new(node.Address.Host ?? "", node.Address.Port ?? 0, node.Uid);

    protected override void PreStart() => _cluster.Subscribe(
        Self, ClusterEvent.SubscriptionInitialStateMode.InitialStateAsEvents,
        typeof(ClusterEvent.IMemberEvent), typeof(ClusterEvent.UnreachableMember), typeof(ClusterEvent.ReachableMember));

    protected override void PostStop() => _cluster.Unsubscribe(Self);
}
