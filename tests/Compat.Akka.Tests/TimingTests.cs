// Timers, the scheduler, the receive timeout and the stash.
using Akka.Actor;
using Akka.Event;

namespace Compat.Akka.Tests;

public sealed class TimingTests : SystemTest
{
    private static readonly TimeSpan Short = TimeSpan.FromMilliseconds(40);
    private static readonly TimeSpan Long = TimeSpan.FromHours(1);

    [Fact]
    public void A_periodic_timer_ticks_until_cancelled_and_has_no_sender()
    {
        var probe = NewProbe();
        var actor = Spawn(act =>
        {
            act.Timers.StartPeriodicTimer("t", 1, Short);
            act.On<int>(_ => probe.Ref.Tell(act.From.Path.Name));
            act.On<string>(_ =>
            {
                act.Timers.Cancel("t");
                probe.Ref.Tell(act.Timers.IsTimerActive("t"));
            });
        });
        probe.Expect("deadLetters", "deadLetters");
        actor.Tell("cancel");
        while (probe.Next() is not false)
        {
        }

        probe.ExpectNothing();
    }

    [Fact]
    public void A_replaced_or_cancelled_timer_is_never_seen_even_when_its_tick_is_queued()
    {
        var probe = NewProbe();
        var actor = Spawn(act =>
        {
            act.Timers.StartSingleTimer("a", "old", Short);
            act.Timers.StartSingleTimer("b", "cancelled", Short);
            act.On<ManualResetEventSlim>(gate =>
            {
                probe.Ref.Tell("blocking");
                gate.Wait(Patience);
                act.Timers.StartSingleTimer("a", "new", Short);
                act.Timers.Cancel("b");
            });
            act.OnAny(probe.Ref.Tell);
        });
        using var gate = new ManualResetEventSlim();
        actor.Tell(gate);
        probe.Expect("blocking");
        Thread.Sleep(200);
        gate.Set();
        probe.Expect("new");
        probe.ExpectNothing();
    }

    [Fact]
    public void A_single_timer_may_start_itself_again_from_its_handler()
    {
        var probe = NewProbe();
        Spawn(act =>
        {
            act.Timers.StartSingleTimer("t", 1, TimeSpan.FromMilliseconds(5));
            act.On<int>(n =>
            {
                probe.Ref.Tell($"{n} {act.Timers.IsTimerActive("t")}");
                act.Timers.StartSingleTimer("t", n + 1, TimeSpan.FromMilliseconds(5));
            });
        });
        probe.Expect("1 False", "2 False", "3 False");
    }

    [Fact]
    public void Timers_end_with_a_restart_but_not_with_a_resume()
    {
        foreach (var directive in new[] { Directive.Restart, Directive.Resume })
        {
            var probe = NewProbe();
            var starts = 0;
            var parent = Spawn(
                top => top.Started = () => probe.Ref.Tell(top.Ctx.ActorOf(Act.Props(act =>
                {
                    if (Interlocked.Increment(ref starts) == 1)
                    {
                        act.Timers.StartPeriodicTimer("t", "tick", Short);
                    }

                    act.On<Exception>(error => throw error);
                    act.On<string>(text => probe.Ref.Tell(text));
                    act.On<int>(_ => probe.Ref.Tell(act.Timers.IsTimerActive("t")));
                }))),
                strategy: new OneForOneStrategy(_ => directive));
            var actor = (IActorRef)probe.Next();
            probe.Expect("tick");
            actor.Tell(new InvalidOperationException("x"));
            actor.Tell(1);
            object seen;
            while ((seen = probe.Next()) is "tick")
            {
            }

            Assert.Equal(directive == Directive.Resume, seen);
            if (directive == Directive.Restart)
            {
                probe.ExpectNothing();
            }
            else
            {
                probe.Expect("tick");
            }
        }
    }

    [Fact]
    public void A_timer_may_send_a_poison_pill()
    {
        var probe = NewProbe();
        var actor = Spawn(act => act.Timers.StartSingleTimer("t", PoisonPill.Instance, TimeSpan.FromMilliseconds(100)));
        probe.Watch(actor);
        probe.Expect<Terminated>();
    }

    [Fact]
    public void The_scheduler_keeps_the_order_of_due_times_and_honours_cancellation()
    {
        var probe = NewProbe();
        Sys.Scheduler.ScheduleTellOnce(TimeSpan.FromMilliseconds(200), probe.Ref, "late", ActorRefs.NoSender);
        Sys.Scheduler.ScheduleTellOnce(TimeSpan.FromMilliseconds(50), probe.Ref, "early", ActorRefs.NoSender);
        var cancelled = Sys.Scheduler.ScheduleTellOnceCancelable(TimeSpan.FromMilliseconds(100), probe.Ref, "never", ActorRefs.NoSender);
        cancelled.Cancel();
        probe.Expect("early", "late");
        var repeated = Sys.Scheduler.ScheduleTellRepeatedlyCancelable(
            TimeSpan.Zero, TimeSpan.FromMilliseconds(20), probe.Ref, "again", probe.Ref);
        probe.Expect("again", "again", "again");
        Assert.Equal(probe.Ref, probe.LastSender);
        repeated.Cancel();
        Thread.Sleep(100);
        while (probe.TryNext())
        {
        }

        probe.ExpectNothing();
    }

    [Fact]
    public void The_scheduler_rejects_times_that_make_no_sense()
    {
        var probe = NewProbe();
        Assert.Throws<ArgumentOutOfRangeException>(() =>
            Sys.Scheduler.ScheduleTellOnce(TimeSpan.FromMilliseconds(-2), probe.Ref, "x", ActorRefs.NoSender));
        Assert.Throws<ArgumentOutOfRangeException>(() =>
            Sys.Scheduler.ScheduleTellRepeatedly(TimeSpan.Zero, TimeSpan.Zero, probe.Ref, "x", ActorRefs.NoSender));
    }

    [Fact]
    public void The_receive_timeout_repeats_until_it_is_turned_off_and_survives_a_restart()
    {
        var probe = NewProbe();
        var first = true;
        var actor = Spawn(act =>
        {
            if (first)
            {
                act.Started = () => act.Ctx.SetReceiveTimeout(Short);
                first = false;
            }

            act.On<ReceiveTimeout>(_ => probe.Ref.Tell(act.From.Equals(act.Me) ? "silence" : "wrong sender"));
            act.On<Exception>(error => throw error);
            act.On<string>(_ =>
            {
                act.Ctx.SetReceiveTimeout(null);
                probe.Ref.Tell("off");
            });
        });
        probe.Expect("silence", "silence");
        actor.Tell(new InvalidOperationException("x"));
        probe.Expect("silence", "silence");
        actor.Tell("off");
        while (probe.Next() is not "off")
        {
        }

        probe.ExpectNothing();
    }

    [Fact]
    public void Messages_that_do_not_influence_it_leave_the_receive_timeout_alone()
    {
        var probe = NewProbe();
        var actor = Spawn(act =>
        {
            act.Started = () => act.Ctx.SetReceiveTimeout(TimeSpan.FromMilliseconds(300));
            act.On<ReceiveTimeout>(_ => probe.Ref.Tell("silence"));
            act.On<Transparent>(_ => { });
        });
        using var chatter = new Timer(_ => actor.Tell(new Transparent()), null, 0, 20);
        probe.Expect("silence");
    }

    [Fact]
    public void Unstashed_messages_come_first_in_their_old_order_with_their_senders()
    {
        var probe = NewProbe();
        var actor = Spawn(act =>
        {
            act.On<int>(_ => act.Stash.Stash());
            act.On<ManualResetEventSlim>(gate =>
            {
                gate.Wait(Patience);
                act.Stash.UnstashAll();
                act.Switch(() => act.OnAny(message => probe.Ref.Tell(message, act.From)));
            });
        });
        using var gate = new ManualResetEventSlim();
        actor.Tell(1, probe.Ref);
        actor.Tell(2, probe.Ref);
        actor.Tell(gate);
        actor.Tell("newer");
        gate.Set();
        probe.Expect(1);
        Assert.Equal(probe.Ref, probe.LastSender);
        probe.Expect(2, "newer");
    }

    [Fact]
    public void A_restart_puts_the_stash_back_in_front()
    {
        var probe = NewProbe();
        var starts = 0;
        var actor = Spawn(act =>
        {
            if (Interlocked.Increment(ref starts) == 1)
            {
                act.On<int>(_ => act.Stash.Stash());
                act.On<Exception>(error => throw error);
            }
            else
            {
                act.OnAny(probe.Ref.Tell);
            }
        });
        actor.Tell(1);
        actor.Tell(2);
        actor.Tell(new InvalidOperationException("x"));
        actor.Tell("after");
        probe.Expect(1, 2, "after");
    }

    [Fact]
    public void A_stop_makes_the_stash_dead_letters()
    {
        var probe = NewProbe();
        Sys.EventStream.Subscribe(probe.Ref, typeof(DeadLetter));
        var actor = Spawn(act => act.On<int>(_ => act.Stash.Stash()));
        actor.Tell(1);
        actor.Tell(PoisonPill.Instance);
        Assert.Equal(1, probe.Expect<DeadLetter>().Message);
    }

    [Fact]
    public void Stashing_the_same_delivery_twice_or_beyond_the_capacity_fails()
    {
        var probe = NewProbe();
        var same = new object();
        Action<Act> body = act =>
        {
            act.On<string>(_ =>
            {
                act.Stash.Stash();
                act.Stash.Stash();
            });
            act.OnAny(_ => act.Stash.Stash());
            act.Restarting = (reason, _) =>
            {
                act.Stash.ClearStash();
                probe.Ref.Tell(reason.GetType());
            };
        };
        var actor = Sys.ActorOf(Act.Props(body).WithStashCapacity(2));
        actor.Tell("twice");
        probe.Expect(typeof(IllegalActorStateException));
        actor.Tell(same);
        actor.Tell(same);
        actor.Tell(same);
        probe.Expect(typeof(StashOverflowException));
    }

    [Fact]
    public void Unstashing_by_predicate_drops_the_rest_and_one_by_one_takes_the_oldest()
    {
        var probe = NewProbe();
        var actor = Spawn(act =>
        {
            act.On<int>(_ => act.Stash.Stash());
            act.On<string>(text =>
            {
                act.Push(() => act.OnAny(probe.Ref.Tell));
                if (text == "some")
                {
                    act.Stash.UnstashAll(envelope => (int)envelope.Message % 2 == 0);
                }
                else
                {
                    act.Stash.Unstash();
                }

                probe.Ref.Tell(act.Stash.Count);
            });
        });
        for (var i = 1; i <= 4; i++)
        {
            actor.Tell(i);
        }

        actor.Tell("some");
        probe.Expect(0, 2, 4);
        var oldest = Spawn(act =>
        {
            act.On<int>(_ => act.Stash.Stash());
            act.On<string>(_ =>
            {
                act.Stash.Unstash();
                act.Switch(() => act.OnAny(probe.Ref.Tell));
                probe.Ref.Tell(act.Stash.Count);
            });
        });
        oldest.Tell(7);
        oldest.Tell(8);
        oldest.Tell("one");
        probe.Expect(1, 7);
        probe.ExpectNothing();
    }

    [Fact]
    public void Timers_far_in_the_future_do_not_delay_the_end_of_the_system() =>
        Spawn(act => act.Timers.StartSingleTimer("t", "never", Long));

    private sealed record Transparent : INotInfluenceReceiveTimeout;
}
