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
    public async Task Mail_to_an_actor_that_is_being_stopped_is_handled_or_a_dead_letter_but_never_lost()
    {
        for (var round = 0; round < 30; round++)
        {
            var handled = 0;
            var letters = 0;
            const int Messages = 2_000;
            using var system = ActorSystem.Create("mail", "akka.loglevel = OFF\nakka.stdout-loglevel = OFF");
            var counter = system.ActorOf(Act.Props(act => act.On<global::Akka.Event.DeadLetter>(_ => Interlocked.Increment(ref letters))));
            system.EventStream.Subscribe(counter, typeof(global::Akka.Event.DeadLetter));
            var actor = system.ActorOf(Act.Props(act => act.On<int>(_ => Interlocked.Increment(ref handled))));
            var sender = Task.Run(
                () =>
                {
                    for (var i = 0; i < Messages; i++)
                    {
                        actor.Tell(i, ActorRefs.NoSender);
                    }
                },
                Token);
            system.Stop(actor);
            await sender;
            Assert.True(
                SpinWait.SpinUntil(() => Volatile.Read(ref handled) + Volatile.Read(ref letters) == Messages, TimeSpan.FromSeconds(15)),
                $"{handled} handled and {letters} dead letters of {Messages}");
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
