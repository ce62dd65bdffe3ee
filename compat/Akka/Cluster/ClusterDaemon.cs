// One node's part in the cluster, as one actor: joining, gossip, heartbeats and the duties of the leader. Only it changes the gossip;
// each change goes through Update, which raises the version, so that a change is never lost between nodes, and publishes what it means
// to subscribers. A member is removed only when everyone who counts has seen it down or exiting.
using System.Collections.Immutable;
using Akka.Actor;
using Akka.Event;
using static Akka.Cluster.ClusterMessages;

namespace Akka.Cluster;

internal sealed partial class ClusterDaemon : ReceiveActor, IWithTimers
{
    internal const string Name = "cluster";

    /// <summary>Leader ticks a node that is down waits for the others to see it before it ends.</summary>
    private const int TicksBeforeDownEnds = 4;

    /// <summary>How many nodes hear from a node that ends, as in the original.</summary>
    private const int GossipsBeforeEnd = 5;

    private readonly Cluster _cluster;
    private readonly ClusterSettings _settings;
    private readonly UniqueAddress _self;
    private readonly SplitBrainResolver _resolver;
    private readonly Dictionary<UniqueAddress, Monitored> _monitored = [];
    private readonly HashSet<Address> _seedsWithoutCluster = [];
    private readonly List<IActorRef> _awaitLeaving = [];
    private readonly List<IActorRef> _awaitExiting = [];

    private Gossip _gossip = Gossip.Empty;
    private ImmutableHashSet<UniqueAddress> _exitingConfirmed = [];
    private IReadOnlyList<Address> _seeds = [];
    private Address _joiningTo;
    private long? _seedsAskedSince;
    private bool _shuttingDown;
    private int _ticksWithoutConvergence;
    private int _ticksDown;

    public ClusterDaemon(Cluster cluster)
    {
        _cluster = cluster;
        _self = cluster.SelfUniqueAddress;
        _settings = new ClusterSettings(cluster.System.Settings.Config.GetConfig("akka.cluster"));
        _resolver = _settings.Resolver is { } resolver ? new SplitBrainResolver(resolver) : null;

        Receive<JoinTo>(join => Join(join.Address));
        Receive<JoinSeeds>(join => JoinSeedNodes(join.Seeds));
        Receive<AskSeeds>(_ => AskSeedNodes());
        Receive<SeedsTimedOut>(_ => SeedsDidNotAnswer());
        Receive<JoinTimedOut>(_ => JoinWasNotAnswered());
        Hear<InitJoin>(_ => Sender.Tell(
            SelfStatus is null or MemberStatus.Down or MemberStatus.Exiting
                ? new InitJoinNack(_self.Address.ToString())
                : new InitJoinAck(_self.Address.ToString()),
            Self));
        Hear<InitJoinAck>(ack => SeedIsInCluster(Address.Parse(ack.Address)));
        Hear<InitJoinNack>(nack => SeedIsInNoCluster(Address.Parse(nack.Address)));
        Hear<JoinRequest>(join => Admit(Unpack(join.Member)));
        Hear<Welcome>(Adopt);

        Hear<GossipEnvelope>(ReceiveGossip);
        Receive<GossipTick>(_ => GossipTicks());
        Receive<GossipOnce>(_ => SendGossip());
        Receive<LeaderTick>(_ => LeaderTicks());
        Receive<ReapTick>(_ => Reap());
        Receive<HeartbeatTick>(_ => SendHeartbeats());
        Hear<Heartbeat>(_ => Sender.Tell(new HeartbeatReply(Key(_self)), Self));
        Hear<HeartbeatReply>(reply => HeartbeatFrom(Node(reply.From)));

        Receive<LeaveNow>(leave => Leave(leave.Address));
        Receive<DownNow>(down => Down(down.Address));
        Hear<ExitingConfirmed>(confirmed => Confirm(Node(confirmed.Node)));
        Receive<AwaitLeaving>(_ => OnAwaitLeaving());
        Receive<AwaitExiting>(_ => OnAwaitExiting());
        Receive<ExitingDone>(_ => OnExitingDone());
        ReceiveSubscriptions();
    }

    public ITimerScheduler Timers { get; set; }

    private bool HasJoined => _gossip.Members.ContainsKey(_self);

    private MemberStatus? SelfStatus => _gossip.Members.GetValueOrDefault(_self)?.Status;

    protected override void PreStart()
    {
        var delay = _settings.PeriodicTasksInitialDelay;
        Timers.StartPeriodicTimer("gossip", new GossipTick(), Least(delay, _settings.GossipInterval), _settings.GossipInterval);
        Timers.StartPeriodicTimer(
            "heartbeat", new HeartbeatTick(), Least(delay, _settings.HeartbeatInterval), _settings.HeartbeatInterval);
        Timers.StartPeriodicTimer("reap", new ReapTick(), Least(delay, _settings.ReaperInterval), _settings.ReaperInterval);
        Timers.StartPeriodicTimer(
            "leader", new LeaderTick(), Least(delay, _settings.LeaderActionsInterval), _settings.LeaderActionsInterval);
        if (_settings.SeedNodes.Count > 0)
        {
            Self.Tell(new JoinSeeds(_settings.SeedNodes));
        }
    }

    protected override void PostStop()
    {
        PublishEnd();
        _cluster.Ended();
    }

    private static TimeSpan Least(TimeSpan a, TimeSpan b) => a < b ? b : a;

    /// <summary>Handles what another node says; what makes no sense is ignored.</summary>
    private void Hear<T>(Action<T> handler) => Receive<T>(message =>
    {
        try
        {
            handler(message);
        }
        catch (Exception error) when (error is FormatException or ArgumentException)
        {
            _cluster.Log.Warning(error, "A message of {0} is ignored.", Sender);
        }
    });

    private ActorSelection DaemonAt(Address address) => Context.ActorSelection($"{address}/system/{Name}");

    private bool IsOfThisCluster(Address address)
    {
        var fits = address.Protocol == _self.Address.Protocol && address.System == _self.Address.System;
        if (!fits)
        {
            _cluster.Log.Warning(
                "Trying to join member with wrong protocol or ActorSystem name, expected [{0}] but was [{1}]", _self.Address, address);
        }

        return fits;
    }

    /// <summary>A change made here.</summary>
    private void Update(Gossip changed) => Replace(changed.ChangedBy(_self));

    private void Replace(Gossip gossip)
    {
        var before = _gossip;
        _gossip = gossip;
        PublishChange(before, gossip);
        var members = gossip.Members;
        foreach (var gone in _monitored.Keys.Where(node => !members.ContainsKey(node)).ToArray())
        {
            _monitored.Remove(gone);
        }

        _exitingConfirmed = _exitingConfirmed.Intersect(members.Keys);
        AnswerLeaveQuestions();
        if (SelfStatus == MemberStatus.Exiting && !_shuttingDown)
        {
            SpreadBeforeEnd();
            ShutDown(CoordinatedShutdown.ClusterLeavingReason.Instance);
        }
    }

    private void ReceiveGossip(GossipEnvelope envelope)
    {
        var from = Node(envelope.From);
        var remote = Unpack(envelope.Gossip);
        if (Node(envelope.To) != _self || !HasJoined || !remote.Members.ContainsKey(_self) || !_gossip.Members.ContainsKey(from)
            || _gossip.Reachability.IsUnreachable(_self, from))
        {
            return;
        }

        switch (remote.Version.CompareTo(_gossip.Version))
        {
            case VectorClock.Ordering.Same:
                var merged = _gossip with { Seen = _gossip.Seen.Union(remote.Seen).Add(_self) };
                Replace(merged);
                if (!remote.Seen.Contains(_self))
                {
                    SendGossipTo(from);
                }

                break;
            case VectorClock.Ordering.Before:
                SendGossipTo(from);
                break;
            case VectorClock.Ordering.After:
                Replace(remote.SeenBy(_self));
                SendGossipTo(from);
                break;
            default:
                Replace(_gossip.Merge(remote).SeenBy(_self));
                SendGossipTo(from);
                break;
        }
    }

    private void GossipTicks()
    {
        SendGossip();

        // News go round faster.
        if (_gossip.Seen.Count < _gossip.Members.Count / 2.0)
        {
            var third = _settings.GossipInterval / 3;
            Timers.StartSingleTimer("gossip-2", new GossipOnce(), third);
            Timers.StartSingleTimer("gossip-3", new GossipOnce(), 2 * third);
        }
    }

    private void SendGossip()
    {
        if (!HasJoined)
        {
            return;
        }

        var trusted = _gossip.Trusted;
        var peers = _gossip.Members.Keys.Where(node => node != _self && !trusted.IsUnreachable(node)).ToArray();
        var behind = peers.Where(node => !_gossip.Seen.Contains(node)).ToArray();
        var choice = behind.Length > 0 && Random.Shared.NextDouble() < _settings.DifferentViewProbability ? behind : peers;
        if (choice.Length > 0)
        {
            SendGossipTo(choice[Random.Shared.Next(choice.Length)]);
        }
    }

    /// <summary>What only this node may know must not end with it.</summary>
    private void SpreadBeforeEnd()
    {
        var peers = _gossip.Members.Keys.Where(node => node != _self && !_gossip.Reachability.IsUnreachable(node)).ToArray();
        Random.Shared.Shuffle(peers);
        foreach (var node in peers.OrderBy(_gossip.Seen.Contains).Take(GossipsBeforeEnd))
        {
            SendGossipTo(node);
        }
    }

    private void SendGossipTo(UniqueAddress node) =>
        DaemonAt(node.Address).Tell(new GossipEnvelope(Key(_self), Key(node), Pack(_gossip)), Self);

    private void LeaderTicks()
    {
        if (!HasJoined)
        {
            return;
        }

        if (_gossip.Leader(_self)?.UniqueAddress == _self)
        {
            if (_gossip.HasConverged(_self, _exitingConfirmed))
            {
                _ticksWithoutConvergence = 0;
                LeadConverged();
            }
            else if (_settings.AllowWeaklyUpAfter is { } after
                && ++_ticksWithoutConvergence * _settings.LeaderActionsInterval >= after && HasEnoughMembers())
            {
                Promote([.. _gossip.Members.Values.Where(member =>
                    member.Status == MemberStatus.Joining && !_gossip.IsUnreachable(member)).Select(it => it.Copy(MemberStatus.WeaklyUp))]);
            }
        }

        if (SelfStatus == MemberStatus.Down && !_shuttingDown)
        {
            // The others should know before this node ends; those that cannot be reached need not.
            var told = _gossip.Members.Values.Where(member => member.Status == MemberStatus.Down)
                .All(member => _gossip.IsUnreachable(member) || _gossip.Seen.Contains(member.UniqueAddress));
            if ((told && _gossip.Seen.Count > 1) || _ticksDown++ >= TicksBeforeDownEnds || _gossip.Members.Count == 1)
            {
                EndBecauseDown();
            }
        }
    }

    private void LeadConverged()
    {
        var trusted = _gossip.Trusted;
        var removed = _gossip.Members.Values
            .Where(member =>
                (member.Status is MemberStatus.Down or MemberStatus.Exiting && trusted.IsUnreachable(member.UniqueAddress))
                || (member.Status == MemberStatus.Exiting && _exitingConfirmed.Contains(member.UniqueAddress)))
            .Where(member => member.UniqueAddress != _self)
            .Select(member => member.UniqueAddress)
            .ToArray();
        var enough = HasEnoughMembers();
        var up = _gossip.Members.Values.Select(member => member.UpNumber).Where(number => number != int.MaxValue).DefaultIfEmpty(0).Max();
        var changed = new List<Member>();
        foreach (var member in _gossip.Members.Values.Where(member => !removed.Contains(member.UniqueAddress)))
        {
            if (member.Status is MemberStatus.Joining or MemberStatus.WeaklyUp && enough)
            {
                changed.Add(member.CopyUp(++up));
            }
            else if (member.Status == MemberStatus.Leaving)
            {
                changed.Add(member.Copy(MemberStatus.Exiting));
            }
        }

        if (removed.Length > 0)
        {
            _cluster.Log.Info("Leader is removing [{0}]", string.Join(", ", removed.Select(node => node.Address)));
            Update(changed.Aggregate(_gossip.Without(removed), (gossip, member) => gossip.With(member)));
        }
        else
        {
            Promote(changed);
        }
    }

    private void Promote(IReadOnlyCollection<Member> changed)
    {
        if (changed.Count > 0)
        {
            Update(changed.Aggregate(_gossip, (gossip, member) => gossip.With(member)));
        }
    }

    private bool HasEnoughMembers() =>
        _gossip.Members.Count >= _settings.MinMembers
        && _settings.MinMembersOfRole.All(role => _gossip.Members.Values.Count(member => member.HasRole(role.Key)) >= role.Value);

    internal sealed record JoinTo(Address Address);

    internal sealed record JoinSeeds(IReadOnlyList<Address> Seeds);

    internal sealed record LeaveNow(Address Address);

    internal sealed record DownNow(Address Address);

    internal sealed record AwaitLeaving;

    internal sealed record AwaitExiting;

    internal sealed record ExitingDone;

    private sealed record AskSeeds;

    private sealed record SeedsTimedOut;

    private sealed record JoinTimedOut;

    private sealed record GossipTick;

    private sealed record GossipOnce;

    private sealed record LeaderTick;

    private sealed record ReapTick;

    private sealed record HeartbeatTick;
}
