// Ask, PipeTo, GracefulStop, selections and Identify.
using Akka.Actor;
using Akka.Event;

namespace Compat.Akka.Tests;

public sealed class ConversationTests : SystemTest
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    private IActorRef Echo(string name = null) => Spawn(act => act.OnAny(message => act.From.Tell(message)), name);

    [Fact]
    public async Task Ask_returns_the_reply_from_inside_and_outside_an_actor()
    {
        var echo = Echo();
        Assert.Equal("x", await echo.Ask<string>("x", Patience));
        Assert.Equal("x", await echo.Ask("x", Patience));
        var relay = Spawn(act => act.OnAsync<string>(async text =>
        {
            var reply = await echo.Ask<string>(text, Patience);
            act.From.Tell(reply + "!");
        }));
        Assert.Equal("y!", await relay.Ask<string>("y", Patience));
    }

    [Fact]
    public async Task Ask_times_out_and_a_late_reply_is_a_dead_letter()
    {
        var probe = NewProbe();
        Sys.EventStream.Subscribe(probe.Ref, typeof(DeadLetter));
        using var gate = new ManualResetEventSlim();
        var slow = Spawn(act => act.On<ManualResetEventSlim>(wait =>
        {
            wait.Wait(Patience);
            act.From.Tell("late");
        }));
        await Assert.ThrowsAsync<AskTimeoutException>(() => slow.Ask<string>(gate, TimeSpan.FromMilliseconds(50)));
        gate.Set();
        Assert.Equal("late", probe.Expect<DeadLetter>().Message);
    }

    [Fact]
    public async Task Ask_of_the_dead_times_out_and_a_cancelled_one_is_cancelled()
    {
        var actor = Echo();
        Assert.True(await actor.GracefulStop(Patience));
        await Assert.ThrowsAsync<AskTimeoutException>(() => actor.Ask("x", TimeSpan.FromMilliseconds(30)));
        using var source = new CancellationTokenSource();
        var silent = Spawn(act => act.OnAny(_ => { }));
        var question = silent.Ask<string>("x", Patience, source.Token);
        Assert.False(question.IsCompleted);
        await source.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => question);
    }

    [Fact]
    public async Task Ask_treats_failures_and_wrong_types_by_the_type_asked_for()
    {
        var echo = Echo();
        var failure = new Status.Failure(new InvalidTimeZoneException("why"));
        await Assert.ThrowsAsync<InvalidTimeZoneException>(() => echo.Ask<string>(failure, Patience));
        Assert.Same(failure, await echo.Ask<object>(failure, Patience));
        await Assert.ThrowsAsync<ArgumentException>(() => echo.Ask<string>(5, Patience));
    }

    [Fact]
    public async Task Extra_replies_are_dead_letters()
    {
        var probe = NewProbe();
        Sys.EventStream.Subscribe(probe.Ref, typeof(DeadLetter));
        var twice = Spawn(act => act.On<string>(_ =>
        {
            act.From.Tell(1);
            act.From.Tell(2);
        }));
        Assert.Equal(1, await twice.Ask<int>("x", Patience));
        Assert.Equal(2, probe.Expect<DeadLetter>().Message);
    }

    [Fact]
    public async Task PipeTo_sends_the_result_or_the_bare_failure()
    {
        var probe = NewProbe();
        await Task.FromResult("done").PipeTo(probe.Ref);
        probe.Expect("done");
        Assert.Equal(Sys.DeadLetters, probe.LastSender);
        await Task.FromException<string>(new InvalidTimeZoneException("why")).PipeTo(probe.Ref, probe.Ref);
        Assert.IsType<InvalidTimeZoneException>(probe.Expect<Status.Failure>().Cause);
        Assert.Equal(probe.Ref, probe.LastSender);
        await Task.FromCanceled<string>(new CancellationToken(true)).PipeTo(probe.Ref);
        Assert.IsType<TaskCanceledException>(probe.Expect<Status.Failure>().Cause);
        await Task.FromResult(3).PipeTo(probe.Ref, success: n => n + 1, failure: error => error.Message);
        probe.Expect(4);
        await Task.FromException<int>(new InvalidTimeZoneException("why")).PipeTo(probe.Ref, failure: error => error.Message);
        probe.Expect("why");
        await Task.FromResult(3).PipeTo<int>(probe.Ref, success: _ => throw new InvalidTimeZoneException("in success"));
        Assert.Equal("in success", probe.Expect<Status.Failure>().Cause.Message);
    }

    [Fact]
    public async Task PipeTo_of_a_plain_task_sends_nothing_on_success()
    {
        var probe = NewProbe();
        await Task.CompletedTask.PipeTo(probe.Ref);
        probe.ExpectNothing(50);
        await Task.CompletedTask.PipeTo(probe.Ref, success: () => "ok");
        probe.Expect("ok");
        await Task.FromException(new InvalidTimeZoneException("why")).PipeTo(probe.Ref);
        Assert.Equal("why", probe.Expect<Status.Failure>().Cause.Message);
    }

    [Fact]
    public async Task GracefulStop_says_whether_the_actor_stopped_in_time()
    {
        var actor = Echo();
        Assert.True(await actor.GracefulStop(Patience));
        Assert.True(await actor.GracefulStop(Patience));
        using var gate = new ManualResetEventSlim();
        var busy = Spawn(act => act.On<ManualResetEventSlim>(wait => wait.Wait(Patience)));
        busy.Tell(gate);
        Assert.False(await busy.GracefulStop(TimeSpan.FromMilliseconds(60)));
        gate.Set();
        var custom = Spawn(act => act.On<string>(_ => act.Ctx.Stop(act.Me)));
        Assert.True(await custom.GracefulStop(Patience, "stop"));
    }

    [Fact]
    public async Task Identify_and_selections_find_actors_by_path()
    {
        var parent = Spawn(
            act =>
            {
                act.Ctx.ActorOf(Act.Props(child => child.OnAny(message => child.From.Tell($"{child.Me.Path.Name} {message}"))), "a1");
                act.Ctx.ActorOf(Act.Props(child => child.OnAny(message => child.From.Tell($"{child.Me.Path.Name} {message}"))), "a2");
                act.On<string>(path => act.Ctx.ActorSelection(path).Tell("rel", act.From));
            },
            "parent");
        var identity = await parent.Ask<ActorIdentity>(new Identify("id"), Patience);
        Assert.Equal("id", identity.MessageId);
        Assert.Equal(parent, identity.Subject);
        Assert.Equal(parent, await Sys.ActorSelection("/user/parent").ResolveOne(Patience, Token));
        Assert.Equal(parent, await Sys.ActorSelection(parent.Path).ResolveOne(Patience, Token));
        Assert.Equal(parent, await Sys.ActorSelection(parent.Path.ToString()).ResolveOne(Patience, Token));
        await Assert.ThrowsAsync<ActorNotFoundException>(
            () => Sys.ActorSelection("/user/nobody").ResolveOne(TimeSpan.FromMilliseconds(500), Token));
        Assert.Equal("a1 x", await Sys.ActorSelection("/user/parent/a1").Ask<string>("x", Patience));
        var probe = NewProbe();
        Sys.ActorSelection("/user/parent/*").Tell("y", probe.Ref);
        Assert.Equal(["a1 y", "a2 y"], new[] { (string)probe.Next(), (string)probe.Next() }.Order());
        Sys.ActorSelection("/user/p*t/?2").Tell("z", probe.Ref);
        probe.Expect("a2 z");
        parent.Tell("a1", probe.Ref);
        parent.Tell("../parent/a2", probe.Ref);
        Assert.Equal(["a1 rel", "a2 rel"], new[] { (string)probe.Next(), (string)probe.Next() }.Order());
    }

    [Fact]
    public void A_selection_that_finds_nobody_is_a_dead_letter_at_the_missing_path()
    {
        var probe = NewProbe();
        Sys.EventStream.Subscribe(probe.Ref, typeof(DeadLetter));
        Sys.ActorSelection("/user/missing/deeper").Tell("x", ActorRefs.NoSender);
        var letter = probe.Expect<DeadLetter>();
        Assert.Equal("x", letter.Message);
        Assert.Equal("/user/missing/deeper", letter.Recipient.Path.ToStringWithoutAddress());
    }

    [Fact]
    public async Task A_selection_follows_the_name_and_a_reference_the_incarnation()
    {
        var first = Echo("named");
        var selection = Sys.ActorSelection("/user/named");
        var probe = NewProbe();
        probe.Watch(first);
        Sys.Stop(first);
        probe.Expect<Terminated>();
        IActorRef second = null;
        for (var attempt = 0; second is null; attempt++)
        {
            try
            {
                second = Echo("named");
            }
            catch (InvalidActorNameException) when (attempt < 1000)
            {
                // Outside the parent, a name is free only some time after the death is seen.
                await Task.Delay(5, Token);
            }
        }

        Assert.NotEqual(first, second);
        Assert.Equal(first.Path, second.Path);
        Assert.Equal("x", await selection.Ask<string>("x", Patience));
        await Assert.ThrowsAsync<AskTimeoutException>(() => first.Ask("x", TimeSpan.FromMilliseconds(30)));
    }
}
