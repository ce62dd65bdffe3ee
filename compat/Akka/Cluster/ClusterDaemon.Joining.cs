// The way in: asking the seeds whether there is a cluster, asking one member to be let in, and letting others in. Until the welcome arrives
// everything is asked again after a while, so that nodes may start in any order.
using Akka.Actor;
using Akka.Event;
using static Akka.Cluster.ClusterMessages;

namespace Akka.Cluster;

internal sealed partial class ClusterDaemon
{
    /// <summary>How often a first seed asks the others whether a cluster exists already.</summary>
    private static readonly TimeSpan s_firstSeedInterval = TimeSpan.FromSeconds(1);

    private void Join(Address address)
    {
        if (HasJoined || _shuttingDown || !IsOfThisCluster(address))
        {
            _cluster.Log.Info("The request of {0} to join {1} is ignored.", _self.Address, address);
            return;
        }

        _joiningTo = address;
        if (address == _self.Address)
        {
            StopJoining();
            Update(_gossip.With(new Member(_self, MemberStatus.Joining, _cluster.SelfRoles)));
            LeaderTicks();
            return;
        }

        DaemonAt(address).Tell(
            new JoinRequest(Pack(new Member(_self, MemberStatus.Joining, _cluster.SelfRoles))), Self);
        Timers.StartSingleTimer("join", new JoinTimedOut(), _settings.RetryUnsuccessfulJoinAfter);
    }

    private void JoinSeedNodes(IReadOnlyList<Address> seeds)
    {
        if (HasJoined || _shuttingDown || seeds.Count == 0)
        {
            return;
        }

        StopJoining();
        _seeds = seeds;
        _seedsAskedSince ??= Environment.TickCount64;
        _seedsWithoutCluster.Clear();
        if (seeds.All(seed => seed == _self.Address))
        {
            Join(_self.Address);
            return;
        }

        Timers.StartSingleTimer("seeds", new SeedsTimedOut(), _settings.SeedNodeTimeout);
        AskSeedNodes();
    }

    private void AskSeedNodes()
    {
        foreach (var seed in _seeds.Where(seed => seed != _self.Address && IsOfThisCluster(seed)))
        {
            DaemonAt(seed).Tell(new InitJoin(), Self);
        }

        if (_seeds[0] == _self.Address)
        {
            Timers.StartSingleTimer("ask", new AskSeeds(), s_firstSeedInterval);
        }
    }

    private void SeedsDidNotAnswer()
    {
        if (_seeds[0] == _self.Address)
        {
            // Nobody else has a cluster: the first seed founds it.
            Join(_self.Address);
            return;
        }

        _cluster.Log.Warning(
            "Couldn't join seed nodes after [{0}], will try again.", _settings.SeedNodeTimeout);
        if (_settings.ShutdownAfterUnsuccessfulJoin is { } limit
            && Environment.TickCount64 - _seedsAskedSince > limit.TotalMilliseconds)
        {
            _cluster.Log.Warning("Joining of seed-nodes was unsuccessful after {0}. Running CoordinatedShutdown.", limit);
            ShutDown(CoordinatedShutdown.ClusterJoinUnsuccessfulReason.Instance);
            return;
        }

        JoinSeedNodes(_seeds);
    }

    private void SeedIsInCluster(Address seed)
    {
        if (!HasJoined && _seeds.Count > 0 && _joiningTo is null)
        {
            Timers.Cancel("seeds");
            Timers.Cancel("ask");
            Join(seed);
        }
    }

    private void SeedIsInNoCluster(Address seed)
    {
        _seedsWithoutCluster.Add(seed);
        if (!HasJoined && _joiningTo is null && _seeds.Count > 0 && _seeds[0] == _self.Address
            && _seeds.All(one => one == _self.Address || _seedsWithoutCluster.Contains(one)))
        {
            Join(_self.Address);
        }
    }

    private void JoinWasNotAnswered()
    {
        var address = _joiningTo;
        StopJoining();
        if (_seeds.Count > 0)
        {
            JoinSeedNodes(_seeds);
        }
        else
        {
            Join(address);
        }
    }

    private void StopJoining()
    {
        _joiningTo = null;
        Timers.Cancel("seeds");
        Timers.Cancel("ask");
        Timers.Cancel("join");
    }

    /// <summary>Another node asks to become a member.</summary>
    private void Admit(Member joining)
    {
        var node = joining.UniqueAddress;
        if (!IsOfThisCluster(node.Address) || SelfStatus is null or MemberStatus.Down or MemberStatus.Exiting
            || _gossip.Reachability.IsUnreachable(_self, node))
        {
            return;
        }

        var before = _gossip.Members.Values.FirstOrDefault(member => member.Address == node.Address);
        if (before is null)
        {
            _cluster.Log.Info("Node [{0}] is JOINING, roles [{1}]", node.Address, string.Join(",", joining.Roles));
            Update(_gossip.With(new Member(node, MemberStatus.Joining, joining.Roles)));
            before = joining;
        }
        else if (before.UniqueAddress != node)
        {
            // The address is in use again, so the one we knew has ended. The new one asks again and is let in when the old one is removed.
            _cluster.Log.Info("New incarnation of existing member [{0}] is trying to join. The existing one is removed first.", before);
            var without = _gossip with { Reachability = _gossip.Reachability.Unreachable(_self, before.UniqueAddress, terminated: true) };
            Update(before.Status == MemberStatus.Down ? without : without.With(before.Copy(MemberStatus.Down)));
            return;
        }

        if (node != _self)
        {
            DaemonAt(node.Address).Tell(new Welcome(Key(_self), Pack(_gossip)), Self);
        }
    }

    private void Adopt(Welcome welcome)
    {
        var gossip = Unpack(welcome.Gossip);
        if (HasJoined || Node(welcome.From).Address != _joiningTo || !gossip.Members.ContainsKey(_self))
        {
            return;
        }

        _cluster.Log.Info("Welcome from [{0}]", _joiningTo);
        StopJoining();
        Replace(gossip.SeenBy(_self));
        SendGossipTo(Node(welcome.From));
    }
}
