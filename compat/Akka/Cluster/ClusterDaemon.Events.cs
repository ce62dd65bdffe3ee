// What a change of the gossip means to users: events in a fixed order (members, unreachable, reachable, leader, leaders of roles), the
// state behind Cluster.State, and the end of remote death watches of members that were removed.
using System.Collections.Immutable;
using Akka.Actor;
using Akka.Remote;
using static Akka.Cluster.ClusterEvent;

namespace Akka.Cluster;

internal sealed partial class ClusterDaemon
{
    private readonly Dictionary<IActorRef, HashSet<Type>> _subscribers = [];
    private CurrentClusterState _state = new();

    private void ReceiveSubscriptions()
    {
        Receive<Subscribe>(subscribe =>
        {
            if (subscribe.Mode == SubscriptionInitialStateMode.InitialStateAsSnapshot)
            {
                subscribe.Subscriber.Tell(_state);
            }
            else
            {
                foreach (var happened in EventsOf(new CurrentClusterState(), Gossip.Empty, _state, _gossip)
                    .Where(happened => subscribe.To.Any(type => type.IsInstanceOfType(happened))))
                {
                    subscribe.Subscriber.Tell(happened);
                }
            }

            if (!_subscribers.TryGetValue(subscribe.Subscriber, out var types))
            {
                _subscribers[subscribe.Subscriber] = types = [];
                Context.Watch(subscribe.Subscriber);
            }

            types.UnionWith(subscribe.To);
        });
        Receive<Unsubscribe>(unsubscribe =>
        {
            if (_subscribers.TryGetValue(unsubscribe.Subscriber, out var types))
            {
                types.RemoveWhere(type => unsubscribe.To is null || type == unsubscribe.To);
            }
        });
        Receive<SendState>(send => send.Receiver.Tell(_state));
        Receive<Terminated>(terminated => _subscribers.Remove(terminated.ActorRef));
    }

    private void PublishChange(Gossip before, Gossip after)
    {
        var was = _state;
        _state = StateOf(after);
        var transport = _cluster.Transport;
        transport.Watcher.ClusterMembers =
            [.. after.Members.Values.Where(member => member.UniqueAddress != _self).Select(member => member.Address)];
        _cluster.Publish(_state, after.Members.GetValueOrDefault(_self));
        foreach (var happened in EventsOf(was, before, _state, after))
        {
            Publish(happened);
            if (happened is MemberRemoved { Member: var member } removed && member.UniqueAddress != _self)
            {
                EndRemote(member.UniqueAddress, removed.PreviousStatus);
            }
        }
    }

    /// <summary>A removed member is never listened to again; one that left in good order gets time to say its last.</summary>
    private void EndRemote(UniqueAddress node, MemberStatus previous)
    {
        var transport = _cluster.Transport;
        if (previous == MemberStatus.Down)
        {
            transport.Quarantine(node.Address, node.Uid, "Cluster member removed, previous status [Down]");
        }
        else
        {
            ((ActorSystemImpl)_cluster.System).SchedulerImpl.TrySchedule(
                _settings.QuarantineRemovedAfter,
                () => transport.Quarantine(node.Address, node.Uid, $"Cluster member removed, previous status [{previous}]"));
        }

        transport.Watcher.AddressTerminated(node.Address);
    }

    private void PublishEnd()
    {
        Publish(ClusterShuttingDown.Instance);
        var before = _gossip;
        _gossip = Gossip.Empty;
        var was = _state;
        _state = new CurrentClusterState();
        foreach (var happened in EventsOf(was, before, _state, _gossip).Where(happened => happened is IMemberEvent))
        {
            Publish(happened);
        }
    }

    private void Publish(IClusterDomainEvent happened)
    {
        foreach (var (subscriber, types) in _subscribers)
        {
            if (types.Any(type => type.IsInstanceOfType(happened)))
            {
                subscriber.Tell(happened);
            }
        }
    }

    private CurrentClusterState StateOf(Gossip gossip)
    {
        var leaders = gossip.Members.Values.SelectMany(member => member.Roles).Distinct()
            .ToImmutableDictionary(role => role, role => gossip.Leader(_self, role)?.Address);
        return new CurrentClusterState(
            [.. gossip.Members.Values],
            [.. UnreachableOf(gossip)],
            [.. gossip.Seen.Select(node => node.Address)],
            gossip.Leader(_self)?.Address,
            leaders);
    }

    private IEnumerable<Member> UnreachableOf(Gossip gossip) =>
        gossip.Members.Values.Where(member => member.UniqueAddress != _self && gossip.IsUnreachable(member));

    private IEnumerable<IClusterDomainEvent> EventsOf(
        CurrentClusterState stateBefore, Gossip before, CurrentClusterState stateAfter, Gossip after)
    {
        foreach (var node in before.Members.Keys.Union(after.Members.Keys).Order().ToArray())
        {
            var (was, now) = (before.Members.GetValueOrDefault(node), after.Members.GetValueOrDefault(node));
            if (now is null)
            {
                yield return new MemberRemoved(new Member(node, MemberStatus.Removed, was.Roles, was.UpNumber), was.Status);
            }
            else if (was?.Status != now.Status)
            {
                yield return now.Status switch
                {
                    MemberStatus.Joining => new MemberJoined(now),
                    MemberStatus.WeaklyUp => new MemberWeaklyUp(now),
                    MemberStatus.Up => new MemberUp(now),
                    MemberStatus.Leaving => new MemberLeft(now),
                    MemberStatus.Exiting => new MemberExited(now),
                    _ => new MemberDowned(now),
                };
            }
        }

        var (unreachableBefore, unreachableAfter) = (UnreachableOf(before).ToHashSet(), UnreachableOf(after).ToHashSet());
        foreach (var member in unreachableAfter.Except(unreachableBefore))
        {
            yield return new UnreachableMember(member);
        }

        foreach (var member in unreachableBefore.Except(unreachableAfter))
        {
            if (after.Members.TryGetValue(member.UniqueAddress, out var now))
            {
                yield return new ReachableMember(now);
            }
        }

        if (stateBefore.Leader != stateAfter.Leader)
        {
            yield return new LeaderChanged(stateAfter.Leader);
        }

        foreach (var role in stateBefore.AllRoles.Union(stateAfter.AllRoles).Order(StringComparer.Ordinal))
        {
            if (stateBefore.RoleLeader(role) != stateAfter.RoleLeader(role))
            {
                yield return new RoleLeaderChanged(role, stateAfter.RoleLeader(role));
            }
        }
    }

    internal sealed record Subscribe(IActorRef Subscriber, SubscriptionInitialStateMode Mode, IReadOnlyList<Type> To);

    internal sealed record Unsubscribe(IActorRef Subscriber, Type To);

    internal sealed record SendState(IActorRef Receiver);
}
