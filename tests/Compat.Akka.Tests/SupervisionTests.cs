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
}
