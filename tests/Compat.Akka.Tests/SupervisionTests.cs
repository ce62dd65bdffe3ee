// Supervision: what each directive keeps and loses, in which order the hooks run, and how retries are counted.
using Akka.Actor;
using Akka.Event;

namespace Compat.Akka.Tests;

public sealed class SupervisionTests : SystemTest
{
    private sealed record Boom(string Text);

    private sealed class Oops(string text) : Exception(text);

    private static void Counter(Act act)
    {
        var count = 0;
        act.On<Boom>(boom => throw new Oops(boom.Text));
        act.On<string>(_ => act.From.Tell(++count));
    }

    private IActorRef ChildOf(SupervisorStrategy strategy, Action<Act> child, out IActorRef parent)
    {
        parent = Spawn(
            act =>
            {
                act.Started = () => act.Ctx.ActorOf(Act.Props(child), "child");
                act.On<string>(_ => act.From.Tell(act.Ctx.Child("child")));
            },
            strategy: strategy);
        return parent.Ask<IActorRef>("child", Patience).Result;
    }

    [Fact]
    public async Task Resume_keeps_the_state_and_loses_the_failing_message()
    {
        var child = ChildOf(new OneForOneStrategy(_ => Directive.Resume), Counter, out _);
        Assert.Equal(1, await child.Ask<int>("a", Patience));
        child.Tell(new Boom("x"));
        Assert.Equal(2, await child.Ask<int>("a", Patience));
    }

    [Fact]
    public async Task Restart_makes_a_fresh_instance_behind_the_same_reference()
    {
        var child = ChildOf(new OneForOneStrategy(_ => Directive.Restart), Counter, out var parent);
        Assert.Equal(1, await child.Ask<int>("a", Patience));
        child.Tell(new Boom("x"));
        Assert.Equal(1, await child.Ask<int>("a", Patience));
        Assert.Equal(child, await parent.Ask<IActorRef>("child", Patience));
    }

    [Fact]
    public void Stop_ends_the_child_and_makes_its_queue_dead_letters()
    {
        var letters = NewProbe();
        Sys.EventStream.Subscribe(letters.Ref, typeof(DeadLetter));
        var gate = new ManualResetEventSlim();
        var child = ChildOf(
            new OneForOneStrategy(_ => Directive.Stop),
            act => act.On<string>(_ =>
            {
                gate.Wait(Patience);
                throw new Oops("end");
            }),
            out _);
        var probe = NewProbe();
        probe.Watch(child);
        child.Tell("first");
        child.Tell("second");
        gate.Set();
        Assert.Equal(child, probe.Expect<Terminated>().ActorRef);
        Assert.Equal("second", letters.Expect<DeadLetter>().Message);
    }

    [Fact]
    public void Escalate_fails_the_parent_with_the_same_exception()
    {
        var probe = NewProbe();
        void Grandchild(Act act)
        {
            act.Started = () => probe.Ref.Tell("up");
            act.Stopped = () => probe.Ref.Tell("child stopped");
        }

        var top = Spawn(
            act =>
            {
                act.Strategy = _ => new OneForOneStrategy(cause =>
                {
                    probe.Ref.Tell(cause.Message);
                    return Directive.Restart;
                });
                act.Started = () => act.Ctx.ActorOf(
                    Act.Props(
                        parent =>
                        {
                            parent.Restarting = (reason, message) =>
                            {
                                probe.Ref.Tell($"restarting {message is not null}");
                                parent.BaseOfPreRestart(reason, message);
                            };
                            parent.Restarted = _ => probe.Ref.Tell("restarted");
                            parent.Started = () => parent.Ctx.ActorOf(Act.Props(Grandchild), "c");
                            parent.OnAny(_ => { });
                        },
                        new OneForOneStrategy(_ => Directive.Escalate)),
                    "p");
            });
        probe.Expect("up");
        Sys.ActorSelection(top.Path / "p" / "c").Tell(Kill.Instance, ActorRefs.NoSender);
        probe.Expect("Kill", "restarting True", "child stopped", "restarted", "up");
    }

    [Fact]
    public void Hooks_of_a_restart_run_in_order()
    {
        var probe = NewProbe();
        var actor = Spawn(act =>
        {
            var log = probe.Ref;
            log.Tell("ctor");
            act.Started = () => log.Tell("PreStart");
            act.Stopped = () => log.Tell("PostStop");
            act.Restarting = (reason, message) =>
            {
                log.Tell($"PreRestart {reason.Message} {message}");
                act.BaseOfPreRestart(reason, message);
            };
            act.Restarted = reason => log.Tell($"PostRestart {reason.Message}");
            act.On<Boom>(boom => throw new Oops(boom.Text));
            act.On<string>(text => log.Tell(text));
        });
        var boom = new Boom("x");
        actor.Tell(boom);
        actor.Tell("next");
        probe.Expect("ctor", "PreStart", $"PreRestart x {boom}", "PostStop", "ctor", "PostRestart x", "PreStart", "next");
    }

    [Fact]
    public async Task A_limit_without_a_window_counts_for_ever()
    {
        var probe = NewProbe();
        var child = ChildOf(new OneForOneStrategy(2, -1, _ => Directive.Restart), Counter, out _);
        probe.Watch(child);
        for (var i = 0; i < 2; i++)
        {
            child.Tell(new Boom("x"));
            Assert.Equal(1, await child.Ask<int>("a", Patience));
        }

        child.Tell(new Boom("x"));
        Assert.Equal(child, probe.Expect<Terminated>().ActorRef);
    }

    [Fact]
    public void A_limit_of_zero_never_restarts()
    {
        var probe = NewProbe();
        var child = ChildOf(new OneForOneStrategy(0, 1000, _ => Directive.Restart), Counter, out _);
        probe.Watch(child);
        child.Tell(new Boom("x"));
        probe.Expect<Terminated>();
    }

    [Fact]
    public async Task A_window_that_has_passed_starts_a_new_count()
    {
        var probe = NewProbe();
        var child = ChildOf(new OneForOneStrategy(1, 300, _ => Directive.Restart), Counter, out _);
        probe.Watch(child);
        for (var i = 0; i < 3; i++)
        {
            child.Tell(new Boom("x"));
            Assert.Equal(1, await child.Ask<int>("a", Patience));
            await Task.Delay(450, TestContext.Current.CancellationToken);
        }

        child.Tell(new Boom("x"));
        child.Tell(new Boom("x"));
        probe.Expect<Terminated>();
    }

    [Fact]
    public async Task A_window_without_a_limit_allows_one_restart()
    {
        var probe = NewProbe();
        var child = ChildOf(new OneForOneStrategy(null, TimeSpan.FromMinutes(1), _ => Directive.Restart), Counter, out _);
        probe.Watch(child);
        child.Tell(new Boom("x"));
        Assert.Equal(1, await child.Ask<int>("a", Patience));
        child.Tell(new Boom("x"));
        probe.Expect<Terminated>();
    }

    [Theory]
    [InlineData(Directive.Restart, 1)]
    [InlineData(Directive.Resume, 2)]
    public async Task All_for_one_restarts_siblings_but_resumes_only_the_failed_child(Directive directive, int expected)
    {
        var parent = Spawn(
            act => act.On<string>(name => act.From.Tell(act.Ctx.ActorOf(Act.Props(Counter), name))),
            strategy: new AllForOneStrategy(_ => directive));
        var failing = await parent.Ask<IActorRef>("failing", Patience);
        var sibling = await parent.Ask<IActorRef>("sibling", Patience);
        Assert.Equal(1, await sibling.Ask<int>("a", Patience));
        Assert.Equal(1, await failing.Ask<int>("a", Patience));
        failing.Tell(new Boom("x"));
        Assert.Equal(expected, await failing.Ask<int>("a", Patience));
        Assert.Equal(expected, await sibling.Ask<int>("a", Patience));
    }

    [Fact]
    public async Task All_for_one_restarts_a_sibling_without_a_message()
    {
        var probe = NewProbe();
        void Sibling(Act act)
        {
            act.Restarting = (reason, message) => probe.Ref.Tell($"{reason.Message} {message is null}");
            Counter(act);
        }

        var parent = Spawn(
            act => act.On<string>(name => act.From.Tell(act.Ctx.ActorOf(Act.Props(name == "sibling" ? Sibling : Counter), name))),
            strategy: new AllForOneStrategy(_ => Directive.Restart));
        var failing = await parent.Ask<IActorRef>("failing", Patience);
        await parent.Ask<IActorRef>("sibling", Patience);
        failing.Tell(new Boom("why"));
        probe.Expect("why True");
    }

    [Fact]
    public async Task All_for_one_stop_ends_every_child()
    {
        var probe = NewProbe();
        var parent = Spawn(
            act => act.On<string>(name => act.From.Tell(act.Ctx.ActorOf(Act.Props(Counter), name))),
            strategy: new AllForOneStrategy(_ => Directive.Stop));
        var failing = await parent.Ask<IActorRef>("failing", Patience);
        var sibling = await parent.Ask<IActorRef>("sibling", Patience);
        probe.Watch(failing);
        probe.Watch(sibling);
        failing.Tell(new Boom("x"));
        var dead = new HashSet<IActorRef> { probe.Expect<Terminated>().ActorRef, probe.Expect<Terminated>().ActorRef };
        Assert.True(dead.SetEquals([failing, sibling]));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_constructor_or_PreStart_that_fails_stops_the_actor_without_PostStop(bool inConstructor)
    {
        var probe = NewProbe();
        Exception seen = null;
        var decider = NewProbe();
        Spawn(
            act => act.Started = () => probe.Ref.Tell(act.Ctx.Watch(act.Ctx.ActorOf(Act.Props(child =>
            {
                child.Stopped = () => probe.Ref.Tell("PostStop");
                child.Started = () => throw new Oops("start");
                if (inConstructor)
                {
                    throw new Oops("ctor");
                }
            })))),
            strategy: new OneForOneStrategy(cause =>
            {
                seen = cause;
                decider.Ref.Tell("decided");
                return SupervisorStrategy.DefaultDecider.Decide(cause);
            }));
        var child = (IActorRef)probe.Next();
        decider.Expect("decided");
        Assert.IsType<ActorInitializationException>(seen);
        Assert.Equal(inConstructor ? "ctor" : "start", seen.GetBaseException().Message);
        probe.Watch(child);
        Assert.Equal(child, probe.Expect<Terminated>().ActorRef);
    }

    [Theory]
    [InlineData(Directive.Restart)]
    [InlineData(Directive.Resume)]
    public async Task A_failed_creation_is_tried_again_under_restart_and_resume(Directive directive)
    {
        var attempts = 0;
        var child = ChildOf(
            new OneForOneStrategy(_ => directive),
            act =>
            {
                if (Interlocked.Increment(ref attempts) == 1)
                {
                    throw new Oops("first");
                }

                Counter(act);
            },
            out _);
        Assert.Equal(1, await child.Ask<int>("a", Patience));
        Assert.Equal(2, attempts);
    }

    [Fact]
    public void A_constructor_that_fails_during_a_restart_stops_the_actor_by_default()
    {
        var attempts = 0;
        var probe = NewProbe();
        var actor = Spawn(act =>
        {
            if (Interlocked.Increment(ref attempts) > 1)
            {
                throw new Oops("again");
            }

            Counter(act);
        });
        probe.Watch(actor);
        actor.Tell(new Boom("x"));
        probe.Expect<Terminated>();
        Assert.Equal(2, attempts);
    }

    [Fact]
    public async Task A_failing_PreRestart_does_not_stop_the_restart()
    {
        var actor = Spawn(act =>
        {
            act.Restarting = (_, _) => throw new Oops("hook");
            Counter(act);
        });
        Assert.Equal(1, await actor.Ask<int>("a", Patience));
        actor.Tell(new Boom("x"));
        Assert.Equal(1, await actor.Ask<int>("a", Patience));
    }

    [Fact]
    public void A_failing_PostStop_still_tells_the_watchers()
    {
        var probe = NewProbe();
        var actor = Spawn(act => act.Stopped = () => throw new Oops("hook"));
        probe.Watch(actor);
        Sys.Stop(actor);
        probe.Expect<Terminated>();
    }

    [Fact]
    public async Task A_strategy_in_Props_wins_over_the_actors_own()
    {
        var parent = Spawn(
            act =>
            {
                act.Strategy = _ => SupervisorStrategy.StoppingStrategy;
                act.On<string>(_ => act.From.Tell(act.Ctx.ActorOf(Act.Props(Counter))));
            },
            strategy: new OneForOneStrategy(_ => Directive.Resume));
        var child = await parent.Ask<IActorRef>("make", Patience);
        Assert.Equal(1, await child.Ask<int>("a", Patience));
        child.Tell(new Boom("x"));
        Assert.Equal(2, await child.Ask<int>("a", Patience));
    }

    [Fact]
    public async Task Children_survive_a_restart_only_when_PreRestart_skips_its_base()
    {
        foreach (var keep in new[] { true, false })
        {
            var probe = NewProbe();
            var parent = Spawn(act =>
            {
                if (keep)
                {
                    act.Restarting = (_, _) => { };
                }

                act.On<Boom>(boom => throw new Oops(boom.Text));
                act.On<string>(name => act.From.Tell(act.Ctx.ActorOf(Act.Props(child =>
                {
                    child.Restarted = _ => probe.Ref.Tell("restarted");
                    child.Stopped = () => probe.Ref.Tell("stopped");
                    child.On<int>(_ => child.From.Tell("here"));
                }), name)));
                act.On<int>(_ => act.From.Tell(act.Ctx.Child("c")));
            });
            var child = await parent.Ask<IActorRef>("c", Patience);
            parent.Tell(new Boom("x"));
            if (keep)
            {
                // The survivor is restarted after its parent; its own PreRestart calls PostStop.
                probe.Expect("stopped", "restarted");
                Assert.Equal(child, await parent.Ask<IActorRef>(1, Patience));
            }
            else
            {
                probe.Expect("stopped");
                Assert.True((await parent.Ask<IActorRef>(1, Patience)).IsNobody());
            }
        }
    }

    [Fact]
    public void Nothing_below_a_failing_actor_runs_until_its_parent_has_decided()
    {
        var probe = NewProbe();
        var deciding = new ManualResetEventSlim();
        var go = new ManualResetEventSlim();
        var top = Spawn(
            act => act.Started = () => act.Ctx.ActorOf(
                Act.Props(parent =>
                {
                    parent.Started = () => probe.Ref.Tell(parent.Ctx.ActorOf(Act.Props(child => child.OnAny(probe.Ref.Tell))));
                    parent.On<Boom>(boom => throw new Oops(boom.Text));
                }),
                "p"),
            strategy: new OneForOneStrategy(_ =>
            {
                deciding.Set();
                go.Wait(Patience);
                return Directive.Resume;
            }));
        var grandchild = (IActorRef)probe.Next();
        Sys.ActorSelection(top.Path / "p").Tell(new Boom("x"), ActorRefs.NoSender);
        Assert.True(deciding.Wait(Patience));
        grandchild.Tell("late");
        probe.ExpectNothing();
        go.Set();
        probe.Expect("late");
    }

    [Fact]
    public async Task The_decider_runs_with_the_failed_child_as_sender()
    {
        IActorRef sender = null;
        var decided = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var parent = Spawn(act =>
        {
            act.Strategy = me => new OneForOneStrategy(_ =>
            {
                sender = me.From;
                decided.SetResult();
                return Directive.Stop;
            });
            act.On<string>(_ => act.From.Tell(act.Ctx.ActorOf(Act.Props(Counter))));
        });
        var child = await parent.Ask<IActorRef>("make", Patience);
        child.Tell(new Boom("x"));
        await decided.Task.WaitAsync(Patience, TestContext.Current.CancellationToken);
        Assert.Equal(child, sender);
    }

    [Fact]
    public async Task Several_children_that_fail_at_once_are_all_handled()
    {
        var parent = Spawn(act => act.On<string>(_ => act.From.Tell(act.Ctx.ActorOf(Act.Props(Counter)))));
        var children = new List<IActorRef>();
        for (var i = 0; i < 50; i++)
        {
            children.Add(await parent.Ask<IActorRef>("make", Patience));
        }

        for (var round = 0; round < 3; round++)
        {
            children.ForEach(child => child.Tell(new Boom("x")));
            Assert.All(await Task.WhenAll(children.Select(child => child.Ask<int>("a", Patience))), count => Assert.Equal(1, count));
        }
    }

    [Fact]
    public void A_failure_is_logged_as_an_error_and_a_resume_as_a_warning()
    {
        var probe = NewProbe();
        Sys.EventStream.Subscribe(probe.Ref, typeof(Error));
        Sys.EventStream.Subscribe(probe.Ref, typeof(Warning));
        var restarted = ChildOf(new OneForOneStrategy(_ => Directive.Restart), Counter, out _);
        restarted.Tell(new Boom("logged"));
        var error = probe.Expect<Error>();
        Assert.Equal("logged", error.Message.ToString());
        Assert.IsType<Oops>(error.Cause);
        ChildOf(new OneForOneStrategy(_ => Directive.Resume), Counter, out _).Tell(new Boom("resumed"));
        Assert.Equal("resumed", probe.Expect<Warning>().Message.ToString());
    }
}
