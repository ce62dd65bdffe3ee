// Handler selection, Become, the context off its thread, and asynchronous handlers.
using Akka.Actor;
using Akka.Event;

namespace Compat.Akka.Tests;

public sealed class BehaviourTests : SystemTest
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public void Handlers_are_tried_in_order_by_type_and_predicate()
    {
        var probe = NewProbe();
        var log = probe.Ref;
        var actor = Sys.ActorOf(Props.Create(() => new Ordered(log)));
        foreach (var message in new object[] { 5, 50, "x", "skip", new List<int>(), 1.5 })
        {
            actor.Tell(message);
        }

        probe.Expect("int 5", "big 50", "text x", "any text skip", "collection", "any 1.5");
    }

    [Fact]
    public void A_message_without_a_handler_is_published_as_unhandled()
    {
        var probe = NewProbe();
        var dead = NewProbe();
        Sys.EventStream.Subscribe(probe.Ref, typeof(AllDeadLetters));
        Sys.EventStream.Subscribe(dead.Ref, typeof(DeadLetter));
        var actor = Spawn(act => act.On<int>(_ => { }));
        actor.Tell("x", probe.Ref);
        var unhandled = probe.Expect<UnhandledMessage>();
        Assert.Equal("x", unhandled.Message);
        Assert.Equal(actor, unhandled.Recipient);
        dead.ExpectNothing(50);
    }

    [Fact]
    public async Task Nothing_may_be_declared_after_a_catch_all_or_outside_construction()
    {
        var failures = new List<Exception>();
        var done = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        Spawn(
            act => act.Started = () =>
            {
                act.Ctx.ActorOf(Act.Props(child =>
                {
                    child.OnAny(_ => { });
                    child.On<int>(_ => { });
                }));
                var late = act.Ctx.ActorOf(Act.Props(child => child.On<string>(_ => child.On<int>(_ => { }))));
                late.Tell("x");
            },
            strategy: new OneForOneStrategy(cause =>
            {
                lock (failures)
                {
                    failures.Add(cause.GetBaseException());
                    if (failures.Count == 2)
                    {
                        done.SetResult();
                    }
                }

                return Directive.Stop;
            }));
        await done.Task.WaitAsync(Patience, Token);
        Assert.All(failures, failure => Assert.IsType<InvalidOperationException>(failure));
    }

    [Fact]
    public void Become_replaces_the_top_but_never_the_first_behaviour()
    {
        var probe = NewProbe();
        var actor = Spawn(act =>
        {
            void Named(string name)
            {
                act.On<string>(command =>
                {
                    switch (command)
                    {
                        case "who":
                            probe.Ref.Tell(name);
                            break;
                        case "pop":
                            act.Pop();
                            break;
                        case var push when push.StartsWith('+'):
                            act.Push(() => Named(push[1..]));
                            break;
                        default:
                            act.Switch(() => Named(command));
                            break;
                    }
                });
                act.On<Exception>(error => throw error);
            }

            Named("initial");
        });
        void Say(params object[] messages) => Array.ForEach(messages, message => actor.Tell(message));
        Say("who", "B", "who", "C", "who", "pop", "who", "pop", "who");
        probe.Expect("initial", "B", "C", "initial", "initial");
        Say("+D", "+E", "who", "pop", "who", "pop", "who");
        probe.Expect("E", "D", "initial");
        Say("B", new InvalidOperationException("x"), "who");
        probe.Expect("initial");
    }

    [Fact]
    public void Become_in_the_constructor_applies_to_the_first_message()
    {
        var probe = NewProbe();
        Spawn(act =>
        {
            act.OnAny(_ => probe.Ref.Tell("constructor"));
            act.Switch(() => act.OnAny(_ => probe.Ref.Tell("became")));
        }).Tell("x");
        probe.Expect("became");
    }

    [Fact]
    public void The_context_is_not_there_off_the_actors_thread()
    {
        var probe = NewProbe();
        Spawn(act => act.On<string>(text => Task.Run(
            () =>
            {
                try
                {
                    _ = act.Me;
                }
                catch (NotSupportedException)
                {
                    probe.Ref.Tell("refused", ActorRefs.NoSender);
                }
            },
            Token))).Tell("x");
        probe.Expect("refused");
    }

    [Fact]
    public void A_null_sender_becomes_dead_letters_and_forward_keeps_the_sender()
    {
        var probe = NewProbe();
        var last = Spawn(act => act.On<string>(_ => probe.Ref.Tell(act.From)));
        var middle = Spawn(act => act.On<string>(text => last.Forward(text)));
        middle.Tell("x", probe.Ref);
        probe.Expect(probe.Ref);
        last.Tell("x", null);
        probe.Expect(Sys.DeadLetters);
        Assert.Throws<ArgumentNullException>(() => last.Tell(null));
    }

    [Fact]
    public void An_asynchronous_handler_keeps_everything_else_out_until_it_ends()
    {
        var probe = NewProbe();
        var release = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var actor = Spawn(act =>
        {
            act.OnAsync<int>(async n =>
            {
                probe.Ref.Tell($"before {n} {act.From.Equals(probe.Ref)}");
                await release.Task;
                await Task.Yield();
                probe.Ref.Tell($"after {n} {act.From.Equals(probe.Ref)} {act.Me.Path.Name == act.Ctx.Self.Path.Name}");
            });
            act.On<string>(text => probe.Ref.Tell(text));
        });
        actor.Tell(1, probe.Ref);
        actor.Tell("between", Sys.DeadLetters);
        actor.Tell(2, probe.Ref);
        probe.Expect("before 1 True");
        probe.ExpectNothing(50);
        release.SetResult();
        probe.Expect("after 1 True True", "between", "before 2 True", "after 2 True True");
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_failure_of_an_asynchronous_handler_is_supervised_like_any_other(bool beforeAwait)
    {
        var probe = NewProbe();
        var actor = Spawn(act =>
        {
            act.Restarting = (reason, message) => probe.Ref.Tell($"{reason.GetType().Name} {message} {act.From.Equals(probe.Ref)}");
            act.OnAsync<int>(async _ =>
            {
                if (!beforeAwait)
                {
                    await Task.Delay(10, Token);
                }

                throw new InvalidTimeZoneException("x");
            });
            act.On<string>(text => probe.Ref.Tell(text));
        });
        actor.Tell(7, probe.Ref);
        actor.Tell("next");
        probe.Expect("InvalidTimeZoneException 7 True", "next");
    }

    [Fact]
    public void A_stop_ends_a_pending_handler_at_once_and_a_pill_waits_for_it()
    {
        foreach (var pill in new[] { true, false })
        {
            var probe = NewProbe();
            var release = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            var actor = Spawn(act =>
            {
                act.Stopped = () => probe.Ref.Tell("PostStop");
                act.OnAsync<int>(async _ =>
                {
                    probe.Ref.Tell("before");
                    await release.Task;
                    probe.Ref.Tell("after");
                });
            });
            actor.Tell(1);
            probe.Expect("before");
            if (pill)
            {
                actor.Tell(PoisonPill.Instance);
                probe.ExpectNothing(50);
                release.SetResult();
                probe.Expect("after", "PostStop");
            }
            else
            {
                Sys.Stop(actor);
                probe.Expect("PostStop");
                release.SetResult();
                probe.ExpectNothing(50);
            }
        }
    }

    [Fact]
    public void The_receive_timeout_starts_again_after_an_asynchronous_handler()
    {
        var probe = NewProbe();
        Spawn(act =>
        {
            act.Started = () => act.Ctx.SetReceiveTimeout(TimeSpan.FromMilliseconds(100));
            act.OnAsync<int>(async _ =>
            {
                await Task.Delay(300, Token);
                probe.Ref.Tell("done");
            });
            act.On<ReceiveTimeout>(_ =>
            {
                act.Ctx.SetReceiveTimeout(null);
                probe.Ref.Tell("silence");
            });
        }).Tell(1);
        probe.Expect("done", "silence");
    }

    [Fact]
    public void Continuations_inside_an_asynchronous_handler_never_overlap()
    {
        var probe = NewProbe();
        Spawn(act => act.OnAsync<int>(async _ =>
        {
            var inside = 0;
            var most = 0;
            async Task Step()
            {
                for (var i = 0; i < 50; i++)
                {
                    await Task.Yield();
                    most = Math.Max(most, ++inside);
                    Thread.SpinWait(100);
                    inside--;
                }
            }

            await Task.WhenAll(Step(), Step(), Step());
            probe.Ref.Tell(most);
        })).Tell(1);
        probe.Expect(1);
    }

    [Fact]
    public async Task A_child_that_fails_while_its_parent_awaits_is_handled_afterwards()
    {
        var parent = Spawn(act =>
        {
            var child = act.Ctx.ActorOf(Act.Props(one =>
            {
                one.On<Exception>(error => throw error);
                one.On<string>(_ => one.From.Tell("fresh"));
            }));
            act.OnAsync<string>(async _ =>
            {
                var asker = act.From;
                child.Tell(new InvalidOperationException("x"));
                await Task.Delay(30, Token);
                child.Tell("x", asker);
            });
        });
        Assert.Equal("fresh", await parent.Ask<string>("go", Patience));
    }

    private sealed class Ordered : ReceiveActor
    {
        public Ordered(IActorRef log)
        {
            Receive<int>(n => log.Tell($"big {n}"), n => n > 10);
            Receive<int>(n => log.Tell($"int {n}"));
            Receive<string>(text =>
            {
                if (text == "skip")
                {
                    return false;
                }

                log.Tell($"text {text}");
                return true;
            });
            Receive<string>(text => text.Length > 0, text => log.Tell($"any text {text}"));
            Receive<System.Collections.ICollection>(_ => log.Tell("collection"));
            ReceiveAny(other => log.Tell(FormattableString.Invariant($"any {other}")));
        }
    }
}
