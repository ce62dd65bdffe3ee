// The system as a whole: names, creation during shutdown, termination, event stream, dispatchers, mailboxes, coordinated shutdown, Props,
// paths and configuration.
using System.Collections.Concurrent;
using Akka;
using Akka.Actor;
using Akka.Configuration;
using Akka.Event;

namespace Compat.Akka.Tests;

public sealed class ActorSystemTests() : SystemTest(
    """
    bounded { mailbox-type = "Akka.Dispatch.BoundedMailbox", mailbox-capacity = 2, mailbox-push-timeout-time = 50ms }
    pinned { type = PinnedDispatcher }
    serial { type = ForkJoinDispatcher, throughput = 5, dedicated-thread-pool { thread-count = 1 } }
    akka.actor.deployment { /deployed { dispatcher = serial } }
    """)
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    private static ActorSystem Quiet(string name = "other", string more = "") =>
        ActorSystem.Create(name, ConfigurationFactory.ParseString("akka.loglevel = OFF\nakka.stdout-loglevel = OFF\n" + more));

    [Theory]
    [InlineData("_x")]
    [InlineData("a.b")]
    [InlineData("-a")]
    [InlineData("a/b")]
    [InlineData("")]
    public void A_bad_system_name_is_rejected(string name) => Assert.Throws<ArgumentException>(() => Quiet(name));

    [Fact]
    public void Actor_names_are_checked_unique_and_generated_in_order()
    {
        var parent = Spawn(act => act.On<string>(_ => act.From.Tell(act.Ctx.ActorOf(Act.Props(_ => { })))), "named");
        Assert.Throws<InvalidActorNameException>(() => Spawn(_ => { }, "named"));
        foreach (var bad in new[] { "", "$a", "a/b", "a b", "ü", "%zz" })
        {
            Assert.Throws<InvalidActorNameException>(() => Spawn(_ => { }, bad));
        }

        var probe = NewProbe();
        for (var i = 0; i < 65; i++)
        {
            parent.Tell("x", probe.Ref);
        }

        var names = Enumerable.Range(0, 65).Select(_ => ((IActorRef)probe.Next()).Path.Name).ToList();
        Assert.Equal("$a", names[0]);
        Assert.Equal("$b", names[1]);
        Assert.Equal("$~", names[63]);
        Assert.Equal("$ab", names[64]);
    }

    [Fact]
    public async Task Termination_runs_callbacks_in_reverse_and_then_refuses_more()
    {
        var system = Quiet();
        var log = new ConcurrentQueue<string>();
        system.ActorOf(Act.Props(act => act.Stopped = () => log.Enqueue("actor")));
        system.RegisterOnTermination(() => log.Enqueue("first"));
        system.RegisterOnTermination(() => log.Enqueue("second"));
        Assert.False(system.WhenTerminated.IsCompleted);
        await system.Terminate().WaitAsync(Patience, Token);
        await system.WhenTerminated.WaitAsync(Patience, Token);
        var seen = log.ToArray();
        Assert.Equal(["second", "first"], seen[^2..]);
        Assert.Throws<InvalidOperationException>(() => system.RegisterOnTermination(() => { }));
        Assert.Throws<InvalidOperationException>(() => system.ActorOf(Act.Props(_ => { })));
    }

    [Fact]
    public async Task An_escalation_to_the_root_ends_the_system()
    {
        var system = Quiet(more: "akka.actor.guardian-supervisor-strategy = \"Akka.Actor.StoppingSupervisorStrategy\"");
        var probe = new Probe(system);
        var actor = system.ActorOf(Act.Props(act => act.On<Exception>(error => throw error)));
        probe.Watch(actor);
        actor.Tell(new InvalidOperationException("x"));
        probe.Expect<Terminated>();
        await system.Terminate().WaitAsync(Patience, Token);

        var doomed = Quiet();
        doomed.ActorSelection("/user").Tell(Kill.Instance, ActorRefs.NoSender);
        await doomed.WhenTerminated.WaitAsync(Patience, Token);
    }

    [Fact]
    public void The_event_stream_delivers_by_type_and_forgets_the_dead()
    {
        var probe = NewProbe();
        Assert.True(Sys.EventStream.Subscribe(probe.Ref, typeof(ArgumentException)));
        Assert.False(Sys.EventStream.Subscribe(probe.Ref, typeof(ArgumentException)));
        var narrow = new ArgumentNullException("narrow");
        Sys.EventStream.Publish(narrow);
        Sys.EventStream.Publish(new InvalidOperationException("other"));
        Assert.Same(narrow, probe.Next());
        Assert.True(Sys.EventStream.Unsubscribe(probe.Ref, typeof(ArgumentException)));
        Sys.EventStream.Publish(narrow);
        probe.ExpectNothing(50);
        Assert.Throws<ArgumentNullException>(() => Sys.EventStream.Subscribe(null, typeof(string)));
        var letters = NewProbe();
        Sys.EventStream.Subscribe(letters.Ref, typeof(DeadLetter));
        var subscriber = NewProbe();
        Sys.EventStream.Subscribe(subscriber.Ref, typeof(string));
        letters.Watch(subscriber.Ref);
        Sys.Stop(subscriber.Ref);
        letters.Expect<Terminated>();
        SpinWait.SpinUntil(() => !Sys.EventStream.Unsubscribe(subscriber.Ref), Patience);
        Sys.EventStream.Publish("x");
        letters.ExpectNothing(50);
    }

    [Fact]
    public void Mail_to_the_dead_is_published_unless_it_asks_not_to_be()
    {
        var probe = NewProbe();
        Sys.EventStream.Subscribe(probe.Ref, typeof(AllDeadLetters));
        var actor = Spawn(_ => { });
        probe.Watch(actor);
        Sys.Stop(actor);
        probe.Expect<Terminated>();
        actor.Tell("x", probe.Ref);
        var letter = probe.Expect<DeadLetter>();
        Assert.Equal(("x", probe.Ref, actor), ((string)letter.Message, letter.Sender, letter.Recipient));
        actor.Tell(PoisonPill.Instance);
        Assert.IsType<PoisonPill>(probe.Expect<SuppressedDeadLetter>().Message);
    }

    [Fact]
    public void A_bounded_mailbox_turns_away_what_does_not_fit()
    {
        var probe = NewProbe();
        Sys.EventStream.Subscribe(probe.Ref, typeof(DeadLetter));
        using var gate = new ManualResetEventSlim();
        using var busy = new ManualResetEventSlim();
        var actor = Sys.ActorOf(Props.Create(() => new Blocked(busy, gate, probe.Ref)).WithMailbox("bounded"));
        actor.Tell(0);
        Assert.True(busy.Wait(Patience, Token));
        actor.Tell(1);
        actor.Tell(2);
        actor.Tell(3);
        Assert.Equal(3, probe.Expect<DeadLetter>().Message);
        gate.Set();
        probe.Expect(0, 1, 2);
        Assert.ThrowsAny<ConfigurationException>(() => Sys.ActorOf(Act.Props(_ => { }).WithDispatcher("no-such-dispatcher")));
    }

    [Fact]
    public async Task Dispatchers_run_actors_on_the_threads_they_promise()
    {
        static void ThreadOf(Act act) => act.On<string>(_ => act.From.Tell(Environment.CurrentManagedThreadId));
        async Task<int[]> Threads(string dispatcher)
        {
            var actors = Enumerable.Range(0, 3).Select(_ => Sys.ActorOf(Act.Props(ThreadOf).WithDispatcher(dispatcher))).ToList();
            var seen = new List<int>();
            foreach (var actor in actors)
            {
                var first = await actor.Ask<int>("x", Patience);
                Assert.Equal(first, await actor.Ask<int>("x", Patience));
                seen.Add(first);
            }

            return seen.Distinct().ToArray();
        }

        Assert.Equal(3, (await Threads("pinned")).Length);
        var serial = await Threads("serial");
        Assert.Single(serial);
        var deployed = Spawn(ThreadOf, "deployed");
        Assert.Equal(serial[0], await deployed.Ask<int>("x", Patience));
    }

    [Fact]
    public async Task Coordinated_shutdown_runs_phases_in_order_once_and_survives_failing_tasks()
    {
        var system = Quiet(more: "akka.coordinated-shutdown.phases.service-stop.timeout = 100ms");
        var shutdown = CoordinatedShutdown.Get(system);
        Assert.Null(shutdown.ShutdownReason);
        var log = new ConcurrentQueue<string>();
        Func<Task<Done>> Log(string text) => () =>
        {
            log.Enqueue(text);
            return Task.FromResult(Done.Instance);
        };
        shutdown.AddTask(CoordinatedShutdown.PhaseBeforeActorSystemTerminate, "last", Log("last"));
        shutdown.AddTask(CoordinatedShutdown.PhaseServiceUnbind, "unbind", Log("unbind"));
        shutdown.AddTask(
            CoordinatedShutdown.PhaseBeforeServiceUnbind,
            "fails",
            () => Task.FromException<Done>(new InvalidOperationException("x")));
        shutdown.AddTask(CoordinatedShutdown.PhaseServiceStop, "hangs", () => new TaskCompletionSource<Done>().Task);
        shutdown.AddTask(CoordinatedShutdown.PhaseServiceRequestsDone, "adds", () =>
        {
            shutdown.AddTask(CoordinatedShutdown.PhaseBeforeClusterShutdown, "added", Log("added"));
            return Task.FromResult(Done.Instance);
        });
        Assert.Throws<ConfigurationException>(() => shutdown.AddTask("no-such-phase", "x", Log("never")));
        Assert.Equal(TimeSpan.FromMilliseconds(100), shutdown.Timeout(CoordinatedShutdown.PhaseServiceStop));
        var run = shutdown.Run(CoordinatedShutdown.ClrExitReason.Instance);
        var again = system.Terminate();
        await run.WaitAsync(Patience, Token);
        await again.WaitAsync(Patience, Token);
        await system.WhenTerminated.WaitAsync(Patience, Token);
        Assert.Equal(["unbind", "added", "last"], log);
        Assert.Same(CoordinatedShutdown.ClrExitReason.Instance, shutdown.ShutdownReason);
    }

    [Fact]
    public async Task Coordinated_shutdown_without_recovery_stops_at_the_failure_and_may_start_late()
    {
        var system = Quiet(more: "akka.coordinated-shutdown.phases.service-unbind.recover = off");
        var shutdown = CoordinatedShutdown.Get(system);
        shutdown.AddTask(
            CoordinatedShutdown.PhaseServiceUnbind, "fails", () => Task.FromException<Done>(new InvalidTimeZoneException("x")));
        var error = await Assert.ThrowsAnyAsync<Exception>(
            () => shutdown.Run(CoordinatedShutdown.UnknownReason.Instance).WaitAsync(Patience, Token));
        Assert.IsType<InvalidTimeZoneException>(error.GetBaseException());
        Assert.False(system.WhenTerminated.IsCompleted);
        system.ActorSelection("/user").Tell(Kill.Instance, ActorRefs.NoSender);
        await system.WhenTerminated.WaitAsync(Patience, Token);

        var late = Quiet();
        var ran = false;
        var second = CoordinatedShutdown.Get(late);
        second.AddTask(CoordinatedShutdown.PhaseServiceUnbind, "skipped", () =>
        {
            ran = true;
            return Task.FromResult(Done.Instance);
        });
        await second.Run(CoordinatedShutdown.UnknownReason.Instance, CoordinatedShutdown.PhaseServiceStop).WaitAsync(Patience, Token);
        Assert.False(ran);
    }

    [Fact]
    public async Task Props_evaluate_their_arguments_once_and_copy_on_change()
    {
        var evaluated = 0;
        List<int> Argument()
        {
            evaluated++;
            return [];
        }

        var argument = Argument();
        var props = Props.Create(() => new Shared(argument));
        var typed = Props.Create<Shared>(argument);
        var actor = Sys.ActorOf(props);
        Assert.Equal(1, await actor.Ask<int>("x", Patience));
        actor.Tell(new InvalidOperationException("x"));
        Assert.Equal(2, await actor.Ask<int>("x", Patience));
        Assert.Equal(3, await Sys.ActorOf(typed).Ask<int>("x", Patience));
        Assert.Equal(4, await Sys.ActorOf(Props.Create(typeof(Shared), argument)).Ask<int>("x", Patience));
        Assert.Equal(1, evaluated);
        Assert.NotSame(props, props.WithDispatcher("serial"));
        Assert.Equal("serial", props.WithDispatcher("serial").Dispatcher);
        Assert.Null(props.SupervisorStrategy);
        Assert.Same(
            SupervisorStrategy.StoppingStrategy, props.WithSupervisorStrategy(SupervisorStrategy.StoppingStrategy).SupervisorStrategy);
        Assert.Throws<ArgumentException>(() => Props.Create(() => Shared.Make()));
    }

    [Fact]
    public void Paths_and_addresses_read_as_they_print()
    {
        var actor = Spawn(_ => { }, "printed");
        Assert.Equal("akka://test/user/printed", actor.Path.ToString());
        Assert.Equal($"[akka://test/user/printed#{actor.Path.Uid}]", actor.ToString());
        Assert.Equal(["user", "printed"], actor.Path.Elements);
        Assert.Equal("akka://test/", actor.Path.Root.ToString());
        Assert.Equal("akka://test/user/printed/child", (actor.Path / "child").ToString());
        Assert.Equal(actor.Path, ActorPath.Parse(actor.Path.ToSerializationFormat()));
        Assert.Equal(actor.Path.Uid, ActorPath.Parse(actor.Path.ToSerializationFormat()).Uid);
        Assert.Equal("user", actor.Path.Parent.Name);
        var address = Address.Parse("akka.tcp://sys@Host.Example:25520");
        Assert.Equal(("akka.tcp", "sys", "host.example", 25520), (address.Protocol, address.System, address.Host, address.Port));
        Assert.True(address.HasGlobalScope);
        Assert.Equal(address, Address.Parse(address.ToString()));
        Assert.Equal("akka.tcp://sys@host.example:25520/user/x", ActorPath.Parse("akka.tcp://sys@host.example:25520/user/x#7").ToString());
        Assert.True(Address.Parse("akka://sys").HasLocalScope);
        Assert.Throws<UriFormatException>(() => Address.Parse("not an address"));
        Assert.Equal(actor, ((ExtendedActorSystem)Sys).Provider.ResolveActorRef(actor.Path.ToSerializationFormat()));
    }

    [Fact]
    public void Configuration_reads_the_forms_that_are_in_use()
    {
        var config = ConfigurationFactory.ParseString(
            """
            a.b.c = 1 # comment
            a { b { d = keep majority }, e = "quoted // text" }
            a.b.c = 2
            list = [one, "two", three
              four]
            times { a = 5s, b = 500ms, c = 2 m, d = infinite }
            flags { on = on, off = false }
            "/quoted/*" { x = 1 }
            copy = ${a.b.d}
            text = ${a.b.c}-${a.b.d}
            merged = ${a} { e = changed }
            // another comment
            """);
        Assert.Equal(2, config.GetInt("a.b.c"));
        Assert.Equal("keep majority", config.GetString("a.b.d"));
        Assert.Equal("quoted // text", config.GetString("a.e"));
        Assert.Equal(["one", "two", "three", "four"], config.GetStringList("list"));
        Assert.Equal(TimeSpan.FromSeconds(5), config.GetTimeSpan("times.a"));
        Assert.Equal(TimeSpan.FromMilliseconds(500), config.GetTimeSpan("times.b"));
        Assert.Equal(TimeSpan.FromMinutes(2), config.GetTimeSpan("times.c"));
        Assert.Equal(Timeout.InfiniteTimeSpan, config.GetTimeSpan("times.d"));
        Assert.True(config.GetBoolean("flags.on"));
        Assert.False(config.GetBoolean("flags.off"));
        Assert.Equal(1, config.GetInt("\"/quoted/*\".x"));
        Assert.Equal("keep majority", config.GetString("copy"));
        Assert.Equal("2-keep majority", config.GetString("text"));
        Assert.Equal("changed", config.GetString("merged.e"));
        Assert.Equal(2, config.GetInt("merged.b.c"));
        Assert.False(config.HasPath("a.missing"));
        Assert.Equal(7, config.GetInt("a.missing", 7));
        var layered = ConfigurationFactory.ParseString("a.b.c = 3").WithFallback(config);
        Assert.Equal(3, layered.GetInt("a.b.c"));
        Assert.Equal("keep majority", layered.GetString("a.b.d"));
        Assert.Equal("here", Sys.Settings.Config.WithFallback("unknown.key = here").GetString("unknown.key"));
    }

    [Fact]
    public void Loggers_publish_what_the_level_lets_through()
    {
        using var system = ActorSystem.Create("logs", "akka.loglevel = WARNING\nakka.stdout-loglevel = OFF\nakka.loggers = []");
        var probe = new Probe(system);
        system.EventStream.Subscribe(probe.Ref, typeof(LogEvent));
        var log = Logging.GetLogger(system, "here");
        Assert.False(log.IsInfoEnabled);
        log.Info("no");
        log.Warning("value {0} of {1}", 1, "two");
        var warning = probe.Expect<Warning>();
        Assert.Equal("value 1 of two", warning.Message.ToString());
        log.Error(new InvalidTimeZoneException("why"), "failed {0}", 3);
        var error = probe.Expect<Error>();
        Assert.Equal("failed 3", error.Message.ToString());
        Assert.IsType<InvalidTimeZoneException>(error.Cause);
    }

    private sealed class Blocked : ReceiveActor
    {
        public Blocked(ManualResetEventSlim busy, ManualResetEventSlim gate, IActorRef log)
        {
            Receive<int>(n =>
            {
                busy.Set();
                gate.Wait(TimeSpan.FromSeconds(15));
                log.Tell(n);
            });
        }
    }

    private sealed class Shared : ReceiveActor
    {
        public Shared(List<int> incarnations)
        {
            incarnations.Add(1);
            Receive<string>(_ => Sender.Tell(incarnations.Count));
            Receive<Exception>(error => throw error);
        }

        public static Shared Make() => new([]);
    }
}
