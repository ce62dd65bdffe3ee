// Life-cycle order on stop and restart, disposal, the wrappers around hooks, and death watch.
using System.Reflection;
using Akka.Actor;
using Akka.Event;

namespace Compat.Akka.Tests;

public sealed class LifecycleTests : SystemTest
{
    private static Action<Act> Tree(IActorRef log, string name, int depth) => act =>
    {
        act.Started = () =>
        {
            log.Tell("start " + name);
            if (depth > 0)
            {
                act.Ctx.ActorOf(Act.Props(Tree(log, name + "x", depth - 1)));
            }
        };
        act.Stopped = () => log.Tell("stop " + name);
        act.On<Exception>(error => throw error);
    };

    [Fact]
    public void Stop_ends_the_deepest_first()
    {
        var probe = NewProbe();
        var top = Spawn(Tree(probe.Ref, "p", 2));
        probe.Expect("start p", "start px", "start pxx");
        Sys.Stop(top);
        probe.Expect("stop pxx", "stop px", "stop p");
    }

    [Fact]
    public void Restart_calls_the_parents_PostStop_without_waiting_for_the_children()
    {
        var probe = NewProbe();
        using var parentStopped = new ManualResetEventSlim();
        void Child(Act act)
        {
            act.Started = () => probe.Ref.Tell("child started");
            act.Stopped = () =>
            {
                parentStopped.Wait(Patience);
                probe.Ref.Tell("child stopped");
            };
        }

        var parent = Spawn(act =>
        {
            act.Started = () => act.Ctx.ActorOf(Act.Props(Child));
            act.Stopped = () =>
            {
                probe.Ref.Tell("stopped");
                parentStopped.Set();
            };
            act.Restarted = _ => probe.Ref.Tell("restarted");
            act.On<Exception>(error => throw error);
        });
        probe.Expect("child started");
        parent.Tell(new InvalidOperationException("x"));
        probe.Expect("stopped", "child stopped", "restarted", "child started");
    }

    [Fact]
    public void A_stop_beats_queued_messages_and_a_poison_pill_does_not()
    {
        var probe = NewProbe();
        void Body(Act act)
        {
            act.On<string>(text =>
            {
                probe.Ref.Tell(text);
                if (text == "stop")
                {
                    act.Ctx.Stop(act.Me);
                    probe.Ref.Tell("rest of the handler");
                }
            });
            act.On<ManualResetEventSlim>(gate => gate.Wait(Patience));
        }

        foreach (var pill in new[] { true, false })
        {
            var actor = Spawn(Body);
            probe.Watch(actor);
            using var gate = new ManualResetEventSlim();
            actor.Tell(gate);
            actor.Tell(pill ? "1" : "stop");
            actor.Tell("2");
            actor.Tell(PoisonPill.Instance);
            actor.Tell("3");
            gate.Set();
            probe.Expect(pill ? ["1", "2"] : ["stop", "rest of the handler"]);
            Assert.Equal(actor, probe.Expect<Terminated>().ActorRef);
        }
    }

    [Fact]
    public void Disposable_actors_are_disposed_on_restart_and_stop()
    {
        var probe = NewProbe();
        var log = probe.Ref;
        var actor = Sys.ActorOf(Props.Create(() => new Disposable(log)));
        actor.Tell("fail");
        probe.Expect("disposed");
        actor.Tell("ping");
        probe.Expect("ping");
        Sys.Stop(actor);
        probe.Expect("disposed");
    }

    [Fact]
    public void The_wrappers_run_around_the_hooks_and_timers_are_off_inside_them()
    {
        var probe = NewProbe();
        var log = probe.Ref;
        var actor = Sys.ActorOf(Props.Create(() => new Wrapped(log)));
        actor.Tell("swallow");
        actor.Tell("fail");
        actor.Tell("x");
        probe.Expect("around PreStart", "PreStart", "around PreRestart", "PreRestart False", "around PostRestart", "PreStart", "x");
        Sys.Stop(actor);
        probe.Expect("around PostStop");
    }

    [Fact]
    public void Making_an_actor_with_new_fails() =>
        // By reflection: the analyzers in the original's package reject the expression itself (AK1000).
        Assert.Throws<ActorInitializationException>(() =>
            typeof(Disposable).GetConstructors().Single().Invoke(BindingFlags.DoNotWrapExceptions, null, [null], null));

    [Fact]
    public void Watching_is_idempotent_and_a_restart_is_not_a_death()
    {
        var probe = NewProbe();
        var actor = Spawn(act => act.On<Exception>(error => throw error));
        probe.Watch(actor);
        probe.Watch(actor);
        actor.Tell(new InvalidOperationException("x"));
        probe.ExpectNothing();
        Sys.Stop(actor);
        var terminated = probe.Expect<Terminated>();
        Assert.True(terminated.ExistenceConfirmed);
        Assert.Equal(actor, probe.LastSender);
        probe.ExpectNothing();
    }

    [Fact]
    public void Watching_the_dead_reports_at_once_without_confirming_existence()
    {
        var probe = NewProbe();
        var actor = Spawn(_ => { });
        probe.Watch(actor);
        Sys.Stop(actor);
        Assert.True(probe.Expect<Terminated>().ExistenceConfirmed);
        probe.Watch(actor);
        Assert.False(probe.Expect<Terminated>().ExistenceConfirmed);
    }

    [Fact]
    public void Terminated_comes_after_everything_the_dead_actor_sent()
    {
        var probe = NewProbe();
        for (var round = 0; round < 50; round++)
        {
            var actor = Spawn(act => act.On<int>(n =>
            {
                for (var i = 0; i < n; i++)
                {
                    probe.Ref.Tell(i, act.Me);
                }

                act.Ctx.Stop(act.Me);
            }));
            probe.Watch(actor);
            actor.Tell(20);
            for (var i = 0; i < 20; i++)
            {
                Assert.Equal(i, probe.Next());
            }

            probe.Expect<Terminated>();
        }
    }

    [Fact]
    public void WatchWith_sends_its_own_message_unless_a_plain_watch_came_first()
    {
        var probe = NewProbe();
        var custom = Spawn(_ => { });
        var plain = Spawn(_ => { });
        var watcher = Spawn(act =>
        {
            act.On<string>(_ =>
            {
                act.Ctx.WatchWith(custom, 5);
                act.Ctx.Watch(plain);
                act.Ctx.WatchWith(plain, 6);
                probe.Ref.Tell("watching");
            });
            // A Terminated told on would be dropped by the probe: it did not come from a watch.
            act.On<Terminated>(dead => probe.Ref.Tell(dead.ActorRef));
            act.OnAny(message => probe.Ref.Tell(message, act.From));
        });
        watcher.Tell("go");
        probe.Expect("watching");
        Sys.Stop(custom);
        probe.Expect(5);
        Assert.Equal(custom, probe.LastSender);
        Sys.Stop(plain);
        probe.Expect(plain);
    }

    [Fact]
    public void Unwatch_takes_back_a_termination_that_is_already_queued()
    {
        var probe = NewProbe();
        var subject = Spawn(_ => { });
        probe.Watch(subject);
        var watcher = Spawn(act =>
        {
            act.On<ManualResetEventSlim>(gate =>
            {
                act.Ctx.Watch(subject);
                probe.Ref.Tell("watching");
                gate.Wait(Patience);
                act.Ctx.Unwatch(subject);
            });
            act.On<Terminated>(_ => probe.Ref.Tell("terminated"));
            act.OnAny(probe.Ref.Tell);
        });
        using var gate = new ManualResetEventSlim();
        watcher.Tell(gate);
        probe.Expect("watching");
        Sys.Stop(subject);
        probe.Expect<Terminated>();
        gate.Set();
        watcher.Tell("end");
        probe.Expect("end");
    }

    [Fact]
    public void An_unhandled_Terminated_is_a_death_pact()
    {
        var probe = NewProbe();
        var subject = Spawn(_ => { });
        var watcher = Spawn(act => act.On<string>(_ =>
        {
            act.Ctx.Watch(subject);
            probe.Ref.Tell("watching");
        }));
        probe.Watch(watcher);
        watcher.Tell("go");
        probe.Expect("watching");
        Sys.Stop(subject);
        Assert.Equal(watcher, probe.Expect<Terminated>().ActorRef);
    }

    [Fact]
    public void A_childs_name_is_free_when_its_parent_handles_Terminated()
    {
        var probe = NewProbe();
        var parent = Spawn(act =>
        {
            act.On<string>(_ => act.Ctx.Watch(act.Ctx.ActorOf(Act.Props(_ => { }), "same")));
            act.On<int>(_ =>
            {
                act.Ctx.Stop(act.Ctx.Child("same"));
                try
                {
                    act.Ctx.ActorOf(Act.Props(_ => { }), "same");
                }
                catch (InvalidActorNameException)
                {
                    probe.Ref.Tell("still taken");
                }
            });
            act.On<Terminated>(dead =>
            {
                var fresh = act.Ctx.ActorOf(Act.Props(_ => { }), "same");
                probe.Ref.Tell(fresh.Path.Equals(dead.ActorRef.Path) && !fresh.Equals(dead.ActorRef) ? "new incarnation" : "wrong");
            });
        });
        parent.Tell("make");
        parent.Tell(1);
        probe.Expect("still taken", "new incarnation");
    }

    [Fact]
    public void Kill_restarts_nothing_and_stops()
    {
        var probe = NewProbe();
        var actor = Spawn(act => act.Restarted = _ => probe.Ref.Tell("restarted"));
        probe.Watch(actor);
        actor.Tell(Kill.Instance);
        probe.Expect<Terminated>();
    }

    private sealed class Disposable : ReceiveActor, IDisposable
    {
        private readonly IActorRef _log;

        public Disposable(IActorRef log)
        {
            _log = log;
            Receive<string>(text => text == "fail", _ => throw new InvalidOperationException("x"));
            Receive<string>(text => log.Tell(text));
        }

        public void Dispose() => _log.Tell("disposed");
    }

    private sealed class Wrapped : UntypedActor, IWithTimers
    {
        private readonly IActorRef _log;

        public Wrapped(IActorRef log)
        {
            _log = log;
            Timers.StartPeriodicTimer("t", "tick", TimeSpan.FromHours(1));
        }

        public ITimerScheduler Timers { get; set; }

        public override void AroundPreStart()
        {
            _log.Tell("around PreStart");
            base.AroundPreStart();
        }

        public override void AroundPreRestart(Exception cause, object message)
        {
            _log.Tell("around PreRestart");
            base.AroundPreRestart(cause, message);
        }

        public override void AroundPostRestart(Exception cause, object message)
        {
            _log.Tell("around PostRestart");
            base.AroundPostRestart(cause, message);
        }

        public override void AroundPostStop()
        {
            _log.Tell("around PostStop");
            base.AroundPostStop();
        }

        protected override bool AroundReceive(Receive receive, object message) =>
            message is "swallow" || base.AroundReceive(receive, message);

        protected override void PreStart() => _log.Tell("PreStart");

        protected override void PreRestart(Exception reason, object message) => _log.Tell($"PreRestart {Timers.IsTimerActive("t")}");

        protected override void OnReceive(object message)
        {
            if (message is "fail")
            {
                throw new InvalidOperationException("x");
            }

            _log.Tell(message);
        }
    }
}
