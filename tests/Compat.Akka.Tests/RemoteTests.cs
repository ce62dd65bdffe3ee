// Messages, references and death watch between systems, over loopback TCP.
using System.Collections.Immutable;
using System.Net.Sockets;
using Akka.Actor;
using Akka.Configuration;
using Akka.Event;
using Google.Protobuf.WellKnownTypes;

namespace Compat.Akka.Tests;

public sealed class RemoteTests : NodesTest
{
    public sealed record Order(string Item, int Count, ImmutableList<double> Weights, Order Then = null);

    public sealed record Call(IActorRef Back, object Payload);

    private static Action<Act> Echo { get; } = it => it.OnAny(message => it.From.Tell(message));

    [Fact]
    public async Task A_path_with_host_and_port_reaches_the_actor_of_another_system_and_the_answer_comes_back()
    {
        var (here, there) = (Remote(), Remote());
        Spawn(there, it => it.On<string>(text => it.From.Tell(text + "!")), "shout");
        Assert.Equal("hey!", await here.ActorSelection(PathOf(there, "shout")).Ask<string>("hey", Patience));
    }

    [Fact]
    public async Task A_resolved_reference_names_node_and_incarnation()
    {
        var (here, there) = (Remote(), Remote());
        var target = Spawn(there, Echo, "echo");
        var found = await Find(here, there, "echo");
        Assert.Equal(PathOf(there, "echo"), found.Path.ToString());
        Assert.Equal(target.Path.Uid, found.Path.Uid);
        Assert.Equal("akka://net/user/echo", target.Path.ToString());
        Assert.Equal($"akka.tcp://net@127.0.0.1:{AddressOf(there).Port}", AddressOf(there).ToString());
        Assert.Equal(1, await found.Ask<int>(1, Patience));
    }

    [Fact]
    public async Task The_own_address_in_a_path_means_the_local_actor()
    {
        var here = Remote();
        var target = Spawn(here, Echo, "echo");
        Assert.Equal(target, await Find(here, here, "echo"));
    }

    [Fact]
    public async Task What_lives_nowhere_is_not_found()
    {
        var (here, there) = (Remote(), Remote());
        await Assert.ThrowsAsync<ActorNotFoundException>(() => Find(here, there, "nobody"));
        var identity = await here.ActorSelection(PathOf(there, "nobody")).Ask<ActorIdentity>(new Identify("q"), Patience);
        Assert.Null(identity.Subject);
        Assert.Equal("q", identity.MessageId);
    }

    [Fact]
    public async Task A_selection_with_a_pattern_fans_out_on_the_other_node()
    {
        var (here, there) = (Remote(), Remote());
        var probe = new Probe(here);
        Spawn(there, Echo, "w1");
        Spawn(there, Echo, "w2");
        Spawn(there, Echo, "v");
        here.ActorSelection(PathOf(there, "w*")).Tell("x", probe.Ref);
        probe.Expect("x", "x");
        probe.ExpectNothing();
        await Task.CompletedTask;
    }

    [Fact]
    public async Task Every_kind_of_message_arrives_as_it_was_sent()
    {
        var (here, there) = (Remote(), Remote());
        Spawn(there, Echo, "echo");
        var echo = await Find(here, there, "echo");
        object[] messages =
        [
            "text", "", "\u00e9\u4e2d", int.MinValue, long.MaxValue, 2.5, true, new StringValue { Value = "protobuf" },
            new Order("a", 2, [0.1, 1e300], new Order("b", -1, [])), Guid.Empty, MemberKind.Second, DateTime.UnixEpoch,
        ];
        foreach (var message in messages)
        {
            var back = await echo.Ask(message, Patience);
            if (message is Order order)
            {
                var got = Assert.IsType<Order>(back);
                Assert.Equal(order.Weights, got.Weights);
                Assert.Equal((order.Item, order.Count, order.Then.Item), (got.Item, got.Count, got.Then.Item));
            }
            else
            {
                Assert.Equal(message.GetType(), back.GetType());
                Assert.Equal(message, back);
            }
        }

        byte[] bytes = [.. Enumerable.Range(0, 100_000).Select(i => (byte)i)];
        Assert.Equal(bytes, await echo.Ask<byte[]>(bytes, Patience));
    }

    public enum MemberKind
    {
        First,
        Second,
    }

    [Fact]
    public async Task A_reference_in_a_message_works_on_the_other_node()
    {
        var (here, there) = (Remote(), Remote());
        var probe = new Probe(here);
        var target = Spawn(there, it => it.On<Call>(call => call.Back.Tell(new Call(it.Me, call.Payload))), "target");
        (await Find(here, there, "target")).Tell(new Call(probe.Ref, "hello"), ActorRefs.NoSender);
        var answer = probe.Expect<Call>();
        Assert.Equal("hello", answer.Payload);
        Assert.Equal(target.Path.Uid, answer.Back.Path.Uid);
        Assert.Equal(PathOf(there, "target"), answer.Back.Path.ToString());
        Assert.Equal(answer.Back, probe.LastSender);
    }

    [Fact]
    public async Task A_failure_sent_as_answer_fails_the_question()
    {
        var (here, there) = (Remote(), Remote());
        Spawn(there, it => it.OnAny(_ => it.From.Tell(new Status.Failure(new InvalidTimeZoneException("no such zone")))), "fails");
        var target = await Find(here, there, "fails");
        var error = await Assert.ThrowsAnyAsync<Exception>(() => target.Ask<string>("x", Patience));
        Assert.Contains("no such zone", error.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Messages_of_one_sender_to_one_receiver_arrive_in_order()
    {
        const int Messages = 20_000;
        var (here, there) = (Remote(), Remote());
        var probe = new Probe(there);
        var target = probe.Ref;
        var remote = await here.ActorSelection(AddressOf(there) + target.Path.ToStringWithoutAddress()).ResolveOne(Patience);
        for (var i = 0; i < Messages; i++)
        {
            remote.Tell(i, ActorRefs.NoSender);
        }

        for (var i = 0; i < Messages; i++)
        {
            Assert.Equal(i, probe.Next());
        }
    }

    [Fact]
    public async Task A_message_over_the_frame_size_is_dropped_and_the_next_arrives()
    {
        var (here, there) = (Remote(), Remote());
        var probe = new Probe(there);
        var target = await here.ActorSelection(AddressOf(there) + probe.Ref.Path.ToStringWithoutAddress()).ResolveOne(Patience);
        target.Tell(new byte[120_000], ActorRefs.NoSender);
        target.Tell(new byte[200_000], ActorRefs.NoSender);
        target.Tell("next", ActorRefs.NoSender);
        Assert.Equal(120_000, probe.Expect<byte[]>().Length);
        probe.Expect("next");
    }

    [Fact]
    public async Task A_message_that_cannot_be_serialised_costs_only_itself()
    {
        var (here, there) = (Remote(), Remote());
        var probe = new Probe(there);
        var target = await here.ActorSelection(AddressOf(there) + probe.Ref.Path.ToStringWithoutAddress()).ResolveOne(Patience);
        target.Tell(new Loop(), ActorRefs.NoSender);
        target.Tell("next", ActorRefs.NoSender);
        probe.Expect("next");
    }

    public sealed class Loop
    {
        public string Bad => throw new InvalidOperationException("no");
    }

    [Fact]
    public async Task What_cannot_be_delivered_becomes_a_dead_letter_and_a_node_that_starts_later_is_found()
    {
        var here = Remote();
        var probe = new Probe(here);
        here.EventStream.Subscribe(probe.Ref, typeof(DeadLetter));
        using var reserved = new TcpListener(System.Net.IPAddress.Loopback, 0);
        reserved.Start();
        var port = ((System.Net.IPEndPoint)reserved.LocalEndpoint).Port;
        reserved.Stop();
        ((ExtendedActorSystem)here).Provider.ResolveActorRef($"akka.tcp://net@127.0.0.1:{port}/user/late").Tell("lost");
        Assert.Equal("lost", probe.Expect<DeadLetter>().Message);
        var there = Remote(port: port);
        Spawn(there, Echo, "late");
        await Until(
            () =>
            {
                try
                {
                    return here.ActorSelection(PathOf(there, "late")).ResolveOne(TimeSpan.FromMilliseconds(300)).Result is not null;
                }
                catch (AggregateException)
                {
                    return false;
                }
            },
            "the late node answers");
    }

    [Fact]
    public async Task The_death_of_a_watched_actor_elsewhere_is_told_once_after_its_last_words()
    {
        var (here, there) = (Remote(), Remote());
        var probe = new Probe(here);
        Spawn(
            there,
            it => it.OnAny(_ =>
            {
                for (var i = 0; i < 100; i++)
                {
                    it.From.Tell(i);
                }

                it.Ctx.Stop(it.Me);
            }),
            "mortal");
        var mortal = await Find(here, there, "mortal");
        probe.Watch(mortal);
        probe.Watch(mortal);
        mortal.Tell("die", probe.Ref);
        for (var i = 0; i < 100; i++)
        {
            probe.Expect(i);
        }

        var terminated = probe.Expect<Terminated>();
        Assert.Equal(mortal, terminated.ActorRef);
        Assert.True(terminated.ExistenceConfirmed);
        Assert.False(terminated.AddressTerminated);
        probe.ExpectNothing();
    }

    [Fact]
    public async Task Watching_one_that_is_already_dead_tells_so()
    {
        var (here, there) = (Remote(), Remote());
        var probe = new Probe(here);
        var target = Spawn(there, Echo, "dead");
        var found = await Find(here, there, "dead");
        Assert.True(await target.GracefulStop(Patience));
        probe.Watch(found);
        var terminated = probe.Expect<Terminated>();
        Assert.Equal(found, terminated.ActorRef);
        Assert.False(terminated.ExistenceConfirmed);
    }

    [Fact]
    public async Task An_actor_elsewhere_can_be_stopped_gracefully()
    {
        var (here, there) = (Remote(), Remote());
        Spawn(there, Echo, "stops");
        var found = await Find(here, there, "stops");
        Assert.True(await found.GracefulStop(Patience));
        await Assert.ThrowsAsync<ActorNotFoundException>(() => Find(here, there, "stops"));
    }

    [Fact]
    public async Task An_orderly_end_of_a_node_tells_its_actors_deaths()
    {
        var (here, there) = (Remote(), Remote());
        var probe = new Probe(here);
        Spawn(there, Echo, "a");
        var found = await Find(here, there, "a");
        probe.Watch(found);
        Assert.Equal("watched", await found.Ask<string>("watched", Patience)); // behind the watch on the same connection: it is in place
        await there.Terminate().WaitAsync(Patience, Token);
        Assert.True(probe.Expect<Terminated>().ExistenceConfirmed);
    }

    [Fact]
    public async Task A_silent_node_ends_the_watches_of_its_actors()
    {
        var here = Remote();
        var probe = new Probe(here);
        using var hole = new TcpListener(System.Net.IPAddress.Loopback, 0);
        hole.Start();
        var path = $"akka.tcp://net@127.0.0.1:{((System.Net.IPEndPoint)hole.LocalEndpoint).Port}/user/x";
        probe.Watch(((ExtendedActorSystem)here).Provider.ResolveActorRef(path));
        var terminated = probe.Expect<Terminated>();
        Assert.True(terminated.AddressTerminated);
        Assert.Equal(path, terminated.ActorRef.Path.ToString());
        await Task.CompletedTask;
    }

    [Fact]
    public async Task Noise_on_the_port_harms_nobody()
    {
        var (here, there) = (Remote(), Remote());
        Spawn(there, Echo, "echo");
        byte[][] noises = [[1, 2, 3], [0xff, 0xff, 0xff, 0xff, 0], "GET / HTTP/1.1\r\n\r\n"u8.ToArray(), [1, 0, 0, 0, 9]];
        foreach (var noise in noises)
        {
            using var client = new TcpClient("127.0.0.1", AddressOf(there).Port.Value);
            await client.GetStream().WriteAsync(noise, Token);
        }

        Assert.Equal("still", await (await Find(here, there, "echo")).Ask<string>("still", Patience));
    }

    [Fact]
    public void A_frame_size_below_the_smallest_is_refused() => Assert.ThrowsAny<Exception>(
        () => ActorSystem.Create("small", ConfigurationFactory.ParseString(
            """
            akka.actor.provider = remote
            akka.remote.dot-netty.tcp { hostname = "127.0.0.1", port = 0, maximum-frame-size = 1000b }
            """)));
}
