// Properties under load: order per sender-receiver pair, one thread at a time per actor, nothing lost, whatever the interleaving.
using Akka.Actor;

namespace Compat.Akka.Tests;

public sealed class StressTests() : SystemTest(
    """
    own-threads { type = ForkJoinDispatcher, throughput = 7, dedicated-thread-pool { thread-count = 3 } }
    """)
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(null)]
    [InlineData("own-threads")]
    public async Task A_million_messages_keep_the_order_of_each_sender(string dispatcher)
    {
        const int Senders = 8;
        const int PerSender = 125_000;
        var done = new TaskCompletionSource<string>(TaskCreationOptions.RunContinuationsAsynchronously);
        var props = Props.Create(() => new OrderChecker(Senders, PerSender, done));
        var checker = Sys.ActorOf(dispatcher is null ? props : props.WithDispatcher(dispatcher));
        var threads = Enumerable.Range(0, Senders).Select(sender => new Thread(() =>
        {
            for (var i = 0; i < PerSender; i++)
            {
                checker.Tell(new Numbered(sender, i), ActorRefs.NoSender);
            }
        })).ToList();
        threads.ForEach(thread => thread.Start());
        Assert.Equal("in order", await done.Task.WaitAsync(TimeSpan.FromSeconds(60), Token));
        threads.ForEach(thread => thread.Join());
    }

    [Fact]
    public async Task Ten_thousand_actors_pass_a_token_round_and_all_stop()
    {
        const int Count = 10_000;
        var done = new TaskCompletionSource<int>(TaskCreationOptions.RunContinuationsAsynchronously);
        IActorRef next = null;
        var all = new IActorRef[Count];
        for (var i = Count - 1; i >= 0; i--)
        {
            var following = next;
            all[i] = next = Sys.ActorOf(Props.Create(() => new Link(following, done)));
        }

        all[0].Tell(0);
        Assert.Equal(Count, await done.Task.WaitAsync(TimeSpan.FromSeconds(60), Token));
        var stopped = await Task.WhenAll(all.Select(actor => actor.GracefulStop(TimeSpan.FromSeconds(60))));
        Assert.All(stopped, Assert.True);
    }

    [Fact]
    public async Task Actors_that_fail_at_random_lose_only_the_failing_messages()
    {
        const int Messages = 20_000;
        var random = new Random(11);
        var done = new TaskCompletionSource<(int Handled, int Failed)>(TaskCreationOptions.RunContinuationsAsynchronously);
        var handled = 0;
        var failed = 0;
        var actor = Spawn(
            top => top.Started = () => top.Ctx.ActorOf(
                Act.Props(act =>
                {
                    act.On<int>(n =>
                    {
                        if (n < 0)
                        {
                            failed++;
                            throw new InvalidOperationException("x");
                        }

                        handled++;
                    });
                    act.On<string>(_ => done.SetResult((handled, failed)));
                }),
                "child"),
            strategy: new OneForOneStrategy(
                -1, -1, cause => failed % 2 == 0 ? Directive.Resume : Directive.Restart, loggingEnabled: false));
        var child = await Sys.ActorSelection(actor.Path / "child").ResolveOneWhenUp(TimeSpan.FromSeconds(15));
        var expected = 0;
        for (var i = 0; i < Messages; i++)
        {
            var fails = random.Next(10) == 0;
            expected += fails ? 1 : 0;
            child.Tell(fails ? -1 : 1);
        }

        child.Tell("end");
        Assert.Equal((Messages - expected, expected), await done.Task.WaitAsync(TimeSpan.FromSeconds(60), Token));
    }

    [Fact]
    public async Task One_thread_for_all_actors_repeats_the_same_run()
    {
        async Task<string> Run()
        {
            using var system = ActorSystem.Create(
                "serial",
                """
                akka.loglevel = OFF
                akka.stdout-loglevel = OFF
                akka.actor.default-dispatcher { type = ForkJoinDispatcher, throughput = 3, dedicated-thread-pool { thread-count = 1 } }
                """);
            var log = new System.Text.StringBuilder();
            var done = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            var random = new Random(5);
            var starter = system.ActorOf(Act.Props(act => act.On<string>(_ =>
            {
                var peers = new IActorRef[10];
                for (var i = 0; i < peers.Length; i++)
                {
                    var number = i;
                    peers[i] = act.Ctx.ActorOf(Act.Props(peer => peer.On<int>(left =>
                    {
                        // One thread runs everything, so the log and the generator need no lock.
                        log.Append(number).Append(' ');
                        if (left > 0)
                        {
                            peers[random.Next(peers.Length)].Tell(left - 1);
                        }
                        else if (log.Length > 20_000)
                        {
                            done.TrySetResult();
                        }
                        else
                        {
                            Array.ForEach(peers, one => one.Tell(random.Next(40)));
                        }
                    })));
                }

                Array.ForEach(peers, one => one.Tell(40));
            })));
            starter.Tell("go");
            await done.Task.WaitAsync(TimeSpan.FromSeconds(30), Token);
            await system.Terminate().WaitAsync(TimeSpan.FromSeconds(30), Token);
            return log.ToString(0, 20_000);
        }

        Assert.Equal(await Run(), await Run());
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public async Task After_any_storm_of_failures_every_actor_alive_still_answers(int seed)
    {
        var random = new Random(seed);
        var storm = true;
        int Roll(int sides)
        {
            lock (random)
            {
                return random.Next(sides);
            }
        }

        Directive Decide() => Roll(20) switch
        {
            0 => Directive.Stop,
            < 4 => Directive.Escalate,
            < 12 => Directive.Restart,
            _ => Directive.Resume,
        };
        Action<Act> Node(int depth) => act =>
        {
            if (Volatile.Read(ref storm) && Roll(10) == 0)
            {
                throw new InvalidOperationException("constructor");
            }

            act.Strategy = _ => Roll(2) == 0
                ? new OneForOneStrategy(-1, -1, _ => Decide(), loggingEnabled: false)
                : new AllForOneStrategy(-1, -1, _ => Decide(), loggingEnabled: false);
            act.Started = () =>
            {
                for (var i = 0; depth > 0 && i < 3; i++)
                {
                    if (act.Ctx.Child($"n{i}").IsNobody())
                    {
                        act.Ctx.ActorOf(Act.Props(Node(depth - 1)), $"n{i}");
                    }
                }
            };
            if (Roll(2) == 0)
            {
                // Children survive this one's restarts.
                act.Restarting = (_, _) => { };
            }

            act.On<int>(_ => throw new InvalidOperationException("sync"));
            act.OnAsync<long>(async _ =>
            {
                await Task.Yield();
                throw new InvalidOperationException("async");
            });
            act.On<string>(_ => act.From.Tell(act.Me));
        };

        var top = Spawn(
            act =>
            {
                act.Ctx.ActorOf(Act.Props(Node(2)), "tree");
                act.OnAny(_ => { });
            },
            strategy: new OneForOneStrategy(-1, -1, _ => Directive.Restart, loggingEnabled: false));
        string[] levels = ["tree", "tree/*", "tree/*/*"];
        for (var i = 0; i < 300; i++)
        {
            var level = Sys.ActorSelection(top.Path + "/" + levels[Roll(levels.Length)]);
            level.Tell(Roll(2) == 0 ? 1 : 1L, ActorRefs.NoSender);
            if (Roll(5) == 0)
            {
                await Task.Delay(1, Token);
            }
        }

        Volatile.Write(ref storm, false);
        await Task.Delay(100, Token);
        var tree = await Sys.ActorSelection(top.Path / "tree").ResolveOneWhenUp(TimeSpan.FromSeconds(15));
        Assert.Equal(tree, await tree.Ask<IActorRef>("x", TimeSpan.FromSeconds(15)));
        var probe = NewProbe();
        foreach (var level in levels[1..])
        {
            Sys.ActorSelection(top.Path + "/" + level).Tell(new Identify(null), probe.Ref);
        }

        await Task.Delay(100, Token);
        while (probe.TryNext(out var found))
        {
            if (((ActorIdentity)found).Subject is { } alive)
            {
                Assert.Equal(alive, await alive.Ask<IActorRef>("x", TimeSpan.FromSeconds(15)));
            }
        }
    }

    private sealed record Numbered(int Sender, int Number);

    private sealed class OrderChecker : ReceiveActor
    {
        private int _inside;

        public OrderChecker(int senders, int perSender, TaskCompletionSource<string> done)
        {
            var next = new int[senders];
            var left = senders * perSender;
            Receive<Numbered>(message =>
            {
                if (Interlocked.Exchange(ref _inside, 1) != 0)
                {
                    done.TrySetResult("two threads at once");
                }

                if (next[message.Sender]++ != message.Number)
                {
                    done.TrySetResult($"sender {message.Sender}: got {message.Number}");
                }

                if (--left == 0)
                {
                    done.TrySetResult("in order");
                }

                Volatile.Write(ref _inside, 0);
            });
        }
    }

    private sealed class Link : ReceiveActor
    {
        public Link(IActorRef next, TaskCompletionSource<int> done)
        {
            Receive<int>(hops =>
            {
                if (next is null)
                {
                    done.TrySetResult(hops + 1);
                }
                else
                {
                    next.Tell(hops + 1);
                }
            });
        }
    }
}

internal static class SelectionExtensions
{
    /// <summary>Waits until somebody lives there; actors start some time after ActorOf returned.</summary>
    internal static async Task<IActorRef> ResolveOneWhenUp(this ActorSelection selection, TimeSpan patience)
    {
        var until = DateTime.UtcNow + patience;
        while (true)
        {
            try
            {
                return await selection.ResolveOne(TimeSpan.FromSeconds(1));
            }
            catch (ActorNotFoundException) when (DateTime.UtcNow < until)
            {
                await Task.Delay(5);
            }
        }
    }
}
