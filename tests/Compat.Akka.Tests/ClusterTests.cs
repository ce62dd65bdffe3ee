// Membership as its users see it: several nodes in one process, joined over loopback TCP. A node that ends without leaving stands for a
// crash.
using System.Net;
using System.Net.Sockets;
using Akka.Actor;
using Akka.Cluster;
using Akka.Configuration;
using static Akka.Cluster.ClusterEvent;

namespace Compat.Akka.Tests;

public sealed class ClusterTests : NodesTest
{
    /// <summary>Ends without a word to the cluster when it is terminated.</summary>
    private const string Crashes = "akka.coordinated-shutdown.run-by-actor-system-terminate = off";

    /// <summary>Finds a silent node out fast; only where one goes silent, as a busy machine might be silent too.</summary>
    private const string FindsOutFast = "akka.cluster.failure-detector.acceptable-heartbeat-pause = 1500ms";

    private static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    private ActorSystem Node(string config = "", int port = 0, string name = "net") => Start(
        $$"""
        {{config}}
        akka.actor.provider = cluster
        akka.remote.dot-netty.tcp.port = {{port}}
        """,
        name);

    private ActorSystem Seed(string config = "")
    {
        var seed = Node(config);
        Cluster.Get(seed).Join(AddressOf(seed));
        return seed;
    }

    private async Task<ActorSystem> Joined(ActorSystem seed, string config = "")
    {
        var node = Node(config);
        await Cluster.Get(node).JoinAsync(AddressOf(seed), Token).WaitAsync(Patience, Token);
        return node;
    }

    private static Probe Subscribed(ActorSystem system, params System.Type[] to)
    {
        var probe = new Probe(system);
        Cluster.Get(system).Subscribe(probe.Ref, to);
        probe.Expect<CurrentClusterState>();
        return probe;
    }

    private static Task UntilSeen(ActorSystem by, ActorSystem whom, MemberStatus status) => Until(
        () => Cluster.Get(by).State.Members.Any(member => member.Address == AddressOf(whom) && member.Status == status),
        $"{AddressOf(by)} sees {AddressOf(whom)} as {status}");

    private static Task UntilGone(ActorSystem by, Address whom) => Until(
        () => Cluster.Get(by).State.Members.All(member => member.Address != whom), $"{AddressOf(by)} no longer sees {whom}");

    [Fact]
    public async Task A_node_that_joins_itself_is_a_cluster_of_one()
    {
        var system = Node("akka.cluster.roles = [learner, retriever]");
        var cluster = Cluster.Get(system);
        Assert.Equal(MemberStatus.Removed, cluster.SelfMember.Status);
        Assert.Empty(cluster.State.Members);
        Assert.False(cluster.IsUp);
        await cluster.JoinAsync(cluster.SelfAddress, Token).WaitAsync(Patience, Token);
        await Until(() => cluster.IsUp, "the node is up");
        Assert.Equal(["learner", "retriever"], cluster.SelfRoles.Order());
        Assert.Equal(cluster.SelfAddress, cluster.State.Leader);
        Assert.Equal(cluster.SelfAddress, cluster.State.RoleLeader("learner"));
        Assert.Null(cluster.State.RoleLeader("rollout"));
        Assert.Equal(cluster.SelfUniqueAddress, Assert.Single(cluster.State.Members).UniqueAddress);
        Assert.True(cluster.SelfMember.HasRole("retriever"));
        Assert.Same(cluster, Cluster.Get(system));
    }

    [Fact]
    public async Task Nodes_see_one_another_come_up_and_agree_on_the_leader()
    {
        var seed = Seed("akka.cluster.roles = [learner]");
        var events = Subscribed(seed, typeof(IMemberEvent));
        const string Worker = "akka.cluster.roles = [rollout]";
        var others = new List<ActorSystem> { await Joined(seed, Worker), await Joined(seed, Worker) };
        foreach (var by in others.Append(seed))
        {
            foreach (var whom in others.Append(seed))
            {
                await UntilSeen(by, whom, MemberStatus.Up);
            }
        }

        var lowest = others.Append(seed).Select(AddressOf).Order(Member.AddressOrdering).First();
        var lowestWorker = others.Select(AddressOf).Order(Member.AddressOrdering).First();
        foreach (var by in others.Append(seed))
        {
            await Until(() => Cluster.Get(by).State.Leader == lowest, "the leader is the lowest address");
            Assert.Equal(lowestWorker, Cluster.Get(by).State.RoleLeader("rollout"));
            Assert.Equal(AddressOf(seed), Cluster.Get(by).State.RoleLeader("learner"));
        }

        var oldest = Cluster.Get(others[1]).State.Members.Order(Member.AgeOrdering).Select(member => member.Address);
        Assert.Equal([AddressOf(seed), AddressOf(others[0]), AddressOf(others[1])], oldest);

        // The seed's own coming up may be in the first snapshot or not; of the others each step is told.
        var told = new List<(System.Type, Address)>();
        while (told.Count(one => one.Item1 == typeof(MemberUp) && one.Item2 != AddressOf(seed)) < 2)
        {
            var happened = (IMemberEvent)events.Next();
            told.Add((happened.GetType(), happened.Member.Address));
        }

        foreach (var other in others)
        {
            Assert.Equal(
                [typeof(MemberJoined), typeof(MemberUp)], told.Where(one => one.Item2 == AddressOf(other)).Select(one => one.Item1));
        }
    }

    [Fact]
    public async Task Nodes_with_seeds_in_their_configuration_find_the_cluster_in_any_order()
    {
        var port = FreePort();
        var seeds = $"akka.cluster.seed-nodes = [\"akka.tcp://net@127.0.0.1:{port}\"]";
        var early = Node(seeds);
        await Task.Delay(300, Token);
        Assert.Empty(Cluster.Get(early).State.Members);
        var seed = Node(seeds, port);
        var late = Node(seeds);
        foreach (var by in new[] { early, seed, late })
        {
            await Until(() => Cluster.Get(by).State.Members.Count(member => member.Status == MemberStatus.Up) == 3, "three are up");
        }
    }

    [Fact]
    public async Task Nobody_comes_up_before_there_are_enough()
    {
        const string Three = "akka.cluster.min-nr-of-members = 3";
        var seed = Seed(Three);
        var up = 0;
        Cluster.Get(seed).RegisterOnMemberUp(() => Interlocked.Increment(ref up));
        var second = Node(Three);
        Cluster.Get(second).Join(AddressOf(seed));
        await UntilSeen(seed, second, MemberStatus.Joining);
        await Task.Delay(500, Token);
        Assert.Equal(MemberStatus.Joining, Cluster.Get(seed).SelfMember.Status);
        Assert.Equal(0, Volatile.Read(ref up));
        var third = await Joined(seed, Three);
        await UntilSeen(third, seed, MemberStatus.Up);
        await Until(() => Volatile.Read(ref up) == 1, "the callback ran");
        Cluster.Get(seed).RegisterOnMemberUp(() => Interlocked.Increment(ref up));
        await Until(() => Volatile.Read(ref up) == 2, "a late callback runs at once");
    }

    [Fact]
    public async Task Enough_can_be_said_per_role()
    {
        var seed = Seed("akka.cluster { roles = [learner], role { rollout.min-nr-of-members = 1 } }");
        await Until(() => Cluster.Get(seed).State.Members.Count == 1, "the seed has joined");
        await Task.Delay(500, Token);
        Assert.Equal(MemberStatus.Joining, Cluster.Get(seed).SelfMember.Status);
        await Joined(seed, "akka.cluster.roles = [rollout]");
        await Until(() => Cluster.Get(seed).IsUp, "the seed is up");
    }

    [Fact]
    public async Task A_subscriber_gets_the_state_first_or_the_events_that_lead_to_it()
    {
        var seed = Seed();
        var other = await Joined(seed);
        await UntilSeen(other, seed, MemberStatus.Up);
        await UntilSeen(seed, other, MemberStatus.Up);
        var snapshot = new Probe(seed);
        Cluster.Get(seed).Subscribe(snapshot.Ref, typeof(MemberRemoved));
        Assert.Equal(2, snapshot.Expect<CurrentClusterState>().Members.Count);
        snapshot.ExpectNothing();
        var replay = new Probe(seed);
        Cluster.Get(seed).Subscribe(replay.Ref, SubscriptionInitialStateMode.InitialStateAsEvents, typeof(MemberUp), typeof(LeaderChanged));
        var seen = new[] { replay.Expect<MemberUp>().Member.Address, replay.Expect<MemberUp>().Member.Address };
        Assert.Equal(new[] { AddressOf(seed), AddressOf(other) }.Order(Member.AddressOrdering), seen);
        Assert.Equal(Cluster.Get(seed).State.Leader, replay.Expect<LeaderChanged>().Leader);
        Cluster.Get(seed).Unsubscribe(snapshot.Ref);
        Cluster.Get(seed).SendCurrentClusterState(snapshot.Ref);
        Assert.Equal(2, snapshot.Expect<CurrentClusterState>().Members.Count);
        Assert.Throws<ArgumentException>(() => Cluster.Get(seed).Subscribe(replay.Ref));
        Assert.Throws<ArgumentException>(() => Cluster.Get(seed).Subscribe(replay.Ref, typeof(string)));
    }

    [Fact]
    public async Task A_node_that_leaves_goes_through_every_state_and_its_system_ends()
    {
        var seed = Seed();
        var events = Subscribed(seed, typeof(MemberLeft), typeof(MemberExited), typeof(MemberRemoved), typeof(UnreachableMember));
        var leaver = await Joined(seed);
        await UntilSeen(seed, leaver, MemberStatus.Up);
        var cluster = Cluster.Get(leaver);
        var removed = new TaskCompletionSource();
        cluster.RegisterOnMemberRemoved(removed.SetResult);
        var left = cluster.LeaveAsync();
        Assert.Equal(AddressOf(leaver), events.Expect<MemberLeft>().Member.Address);
        Assert.Equal(AddressOf(leaver), events.Expect<MemberExited>().Member.Address);
        var last = events.Expect<MemberRemoved>();
        Assert.Equal(AddressOf(leaver), last.Member.Address);
        Assert.Equal((MemberStatus.Exiting, MemberStatus.Removed), (last.PreviousStatus, last.Member.Status));
        await left.WaitAsync(Patience, Token);
        await removed.Task.WaitAsync(Patience, Token);
        await leaver.WhenTerminated.WaitAsync(Patience, Token);
        Assert.True(cluster.IsTerminated);
        Assert.Equal(MemberStatus.Removed, cluster.SelfMember.Status);
        Assert.Same(CoordinatedShutdown.ClusterLeavingReason.Instance, CoordinatedShutdown.Get(leaver).ShutdownReason);
        events.ExpectNothing();
    }

    [Fact]
    public async Task The_orderly_end_of_a_system_leaves_the_cluster_first_even_for_the_leader()
    {
        var seed = Seed();
        var other = await Joined(seed);
        var third = await Joined(seed);
        await UntilSeen(third, other, MemberStatus.Up);
        var events = Subscribed(third, typeof(MemberRemoved));
        await seed.Terminate().WaitAsync(Patience, Token);
        var removed = events.Expect<MemberRemoved>();
        Assert.Equal((AddressOf(seed), MemberStatus.Exiting), (removed.Member.Address, removed.PreviousStatus));
        await other.Terminate().WaitAsync(Patience, Token);
        Assert.Equal(MemberStatus.Exiting, events.Expect<MemberRemoved>().PreviousStatus);
        await Until(() => Cluster.Get(third).State.Leader == AddressOf(third), "the last one leads");
    }

    [Fact]
    public async Task A_crashed_node_is_unreachable_then_down_then_removed_and_only_then_are_its_actors_dead()
    {
        var seed = Seed(FindsOutFast);
        var other = await Joined(seed, FindsOutFast);
        var crashing = await Joined(seed, FindsOutFast + "\n" + Crashes);
        await UntilSeen(other, crashing, MemberStatus.Up);
        await UntilSeen(seed, crashing, MemberStatus.Up);

        // The actor does not end before its system, so nothing tells of its death but the cluster.
        var hole = AddressOf(crashing);
        var events = Subscribed(seed, typeof(IMemberEvent), typeof(IReachabilityEvent));
        await crashing.Terminate().WaitAsync(Patience, Token);
        var probe = new Probe(seed);
        probe.Watch(((ExtendedActorSystem)seed).Provider.ResolveActorRef($"{hole}/user/worker"));
        Assert.Equal(hole, events.Expect<UnreachableMember>().Member.Address);
        Assert.False(probe.TryNext());
        Assert.Equal(hole, events.Expect<MemberDowned>().Member.Address);
        Assert.Equal(MemberStatus.Down, events.Expect<MemberRemoved>().PreviousStatus);
        Assert.True(probe.Expect<Terminated>().AddressTerminated);
        await UntilGone(other, hole);
        Assert.Empty(Cluster.Get(other).State.Unreachable);
    }

    [Fact]
    public async Task Of_two_the_one_without_the_lowest_address_downs_itself_when_the_other_is_gone()
    {
        var systems = new[] { Node(FindsOutFast + "\n" + Crashes), Node(FindsOutFast + "\n" + Crashes) }
            .OrderBy(AddressOf, Member.AddressOrdering).ToArray();
        await Cluster.Get(systems[0]).JoinAsync(AddressOf(systems[0]), Token).WaitAsync(Patience, Token);
        await Cluster.Get(systems[1]).JoinAsync(AddressOf(systems[0]), Token).WaitAsync(Patience, Token);
        await UntilSeen(systems[0], systems[1], MemberStatus.Up);
        await systems[0].Terminate().WaitAsync(Patience, Token);
        await systems[1].WhenTerminated.WaitAsync(Patience, Token);
        Assert.Same(CoordinatedShutdown.ClusterDowningReason.Instance, CoordinatedShutdown.Get(systems[1]).ShutdownReason);
    }

    [Theory]
    [InlineData("static-quorum { quorum-size = 1 }", "static-quorum")]
    [InlineData("keep-oldest { role = keeper }", "keep-oldest")]
    public async Task Other_strategies_keep_the_survivor(string section, string strategy)
    {
        var resolver = $$"""
            {{FindsOutFast}}
            {{Crashes}}
            akka.cluster.split-brain-resolver { active-strategy = {{strategy}}, {{section}} }
            """;
        var systems = new[] { Node(resolver + "\nakka.cluster.roles = [worker]"), Node(resolver + "\nakka.cluster.roles = [keeper]") };
        await Cluster.Get(systems[0]).JoinAsync(AddressOf(systems[0]), Token).WaitAsync(Patience, Token);
        await Cluster.Get(systems[1]).JoinAsync(AddressOf(systems[0]), Token).WaitAsync(Patience, Token);
        await UntilSeen(systems[0], systems[1], MemberStatus.Up);
        await systems[0].Terminate().WaitAsync(Patience, Token);
        await UntilGone(systems[1], AddressOf(systems[0]));
        Assert.True(Cluster.Get(systems[1]).IsUp);
    }

    [Fact]
    public async Task A_node_downed_by_hand_learns_of_it_and_ends()
    {
        var seed = Seed(FindsOutFast);
        var other = await Joined(seed, FindsOutFast);
        await UntilSeen(seed, other, MemberStatus.Up);
        Cluster.Get(seed).Down(AddressOf(other));
        await other.WhenTerminated.WaitAsync(Patience, Token);
        Assert.Same(CoordinatedShutdown.ClusterDowningReason.Instance, CoordinatedShutdown.Get(other).ShutdownReason);
        await UntilGone(seed, AddressOf(other));
    }

    [Fact]
    public async Task A_restarted_node_at_the_same_address_is_a_new_member()
    {
        var seed = Seed();
        var port = FreePort();
        var first = Node(Crashes, port);
        await Cluster.Get(first).JoinAsync(AddressOf(seed), Token).WaitAsync(Patience, Token);
        await UntilSeen(seed, first, MemberStatus.Up);
        Spawn(first, it => it.OnAny(message => it.From.Tell(message)), "echo");
        var found = await Find(seed, first, "echo");
        var probe = new Probe(seed);
        probe.Watch(found);
        var events = Subscribed(seed, typeof(IMemberEvent));
        await first.Terminate().WaitAsync(Patience, Token);
        var second = Node("", port);
        Spawn(second, it => it.OnAny(message => it.From.Tell(message)), "echo");
        await Cluster.Get(second).JoinAsync(AddressOf(seed), Token).WaitAsync(Patience, Token);
        await UntilSeen(seed, second, MemberStatus.Up);
        Assert.NotEqual(Cluster.Get(first).SelfUniqueAddress, Cluster.Get(second).SelfUniqueAddress);
        Assert.Equal(Cluster.Get(first).SelfUniqueAddress, events.Expect<MemberDowned>().Member.UniqueAddress);
        Assert.Equal(Cluster.Get(first).SelfUniqueAddress, events.Expect<MemberRemoved>().Member.UniqueAddress);
        Assert.Equal(Cluster.Get(second).SelfUniqueAddress, events.Expect<MemberJoined>().Member.UniqueAddress);
        Assert.Equal(found, probe.Expect<Terminated>().ActorRef);
        var again = await Find(seed, second, "echo");
        Assert.NotEqual(found, again);
        Assert.Equal("x", await again.Ask<string>("x", Patience));
        await Assert.ThrowsAsync<AskTimeoutException>(() => found.Ask<string>("x", TimeSpan.FromMilliseconds(300)));
    }

    [Fact]
    public async Task A_system_of_another_name_is_not_let_in()
    {
        var seed = Seed();
        var stranger = Node(name: "other");
        Cluster.Get(stranger).Join(AddressOf(seed));
        await Task.Delay(500, Token);
        Assert.Empty(Cluster.Get(stranger).State.Members);
        Assert.Single(Cluster.Get(seed).State.Members);
    }

    [Fact]
    public async Task Joining_in_vain_can_be_called_off()
    {
        var node = Node();
        using var enough = new CancellationTokenSource(300);
        await Assert.ThrowsAsync<ClusterJoinFailedException>(
            () => Cluster.Get(node).JoinAsync(new Address("akka.tcp", "net", "127.0.0.1", FreePort()), enough.Token));
    }

    [Fact]
    public async Task Seeds_that_never_answer_end_the_system_where_so_configured()
    {
        var node = Node(
            $$"""
            akka.cluster.seed-nodes = ["akka.tcp://net@127.0.0.1:{{FreePort()}}"]
            akka.cluster.shutdown-after-unsuccessful-join-seed-nodes = 1s
            """);
        await node.WhenTerminated.WaitAsync(Patience, Token);
        Assert.Same(
            CoordinatedShutdown.ClusterJoinUnsuccessfulReason.Instance, CoordinatedShutdown.Get(node).ShutdownReason);
    }

    [Fact]
    public async Task Without_the_provider_there_is_no_cluster()
    {
        var system = Remote();
        Assert.Throws<ConfigurationException>(() => Cluster.Get(system));
        await Task.CompletedTask;
    }
}
