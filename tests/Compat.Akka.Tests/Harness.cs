// What the tests share: a system that is torn down, and a probe, an actor that keeps what it is told for the test thread to look at. Only
// public API of the original library, so that the same tests run against it.
using System.Collections.Concurrent;
using Akka.Actor;
using Akka.Configuration;

namespace Compat.Akka.Tests;

public abstract class SystemTest : IDisposable
{
    /// <summary>Long enough for a busy machine; no test waits for it unless it fails.</summary>
    protected static readonly TimeSpan Patience = TimeSpan.FromSeconds(15);

    private readonly ActorSystem _system;

    protected SystemTest(string config = "")
    {
        _system = ActorSystem.Create(
            "test", ConfigurationFactory.ParseString(config + "\nakka.loglevel = OFF\nakka.stdout-loglevel = OFF"));
    }

    protected ActorSystem Sys => _system;

    protected Probe NewProbe() => new(_system);

    protected IActorRef Spawn(Action<Act> body, string name = null, SupervisorStrategy strategy = null) =>
        _system.ActorOf(Act.Props(body, strategy), name);

    public void Dispose()
    {
        Assert.True(_system.Terminate().Wait(Patience), "the system did not terminate");
        GC.SuppressFinalize(this);
    }
}

/// <summary>An actor whose handlers a test gives as a delegate, run in its constructor.</summary>
public sealed class Act : ReceiveActor, IWithTimers, IWithStash
{
    public Act(Action<Act> body) => body(this);

    public ITimerScheduler Timers { get; set; }

    public IStash Stash { get; set; }

    public Action Started { get; set; } = () => { };

    public Action Stopped { get; set; } = () => { };

    public Func<Act, SupervisorStrategy> Strategy { get; set; }

    /// <summary>Replaces PreRestart; call BaseOfPreRestart for the original behaviour.</summary>
    public Action<Exception, object> Restarting { get; set; }

    public Action<Exception> Restarted { get; set; } = _ => { };

    public IActorRef Me => Self;

    public IActorRef From => Sender;

    public IActorContext Ctx => Context;

    public static Props Props(Action<Act> body, SupervisorStrategy strategy = null) =>
        global::Akka.Actor.Props.Create(() => new Act(body), strategy);

    public void On<T>(Action<T> handler) => Receive(handler);

    public void OnAsync<T>(Func<T, Task> handler) => ReceiveAsync(handler);

    public void OnAny(Action<object> handler) => ReceiveAny(handler);

    public void Switch(Action configure) => Become(configure);

    public void Push(Action configure) => BecomeStacked(configure);

    public void Pop() => UnbecomeStacked();

    public void BaseOfPreRestart(Exception reason, object message) => base.PreRestart(reason, message);

    protected override void PreStart() => Started();

    protected override void PostStop() => Stopped();

    protected override void PreRestart(Exception reason, object message)
    {
        if (Restarting is null)
        {
            base.PreRestart(reason, message);
        }
        else
        {
            Restarting(reason, message);
        }
    }

    protected override void PostRestart(Exception reason)
    {
        Restarted(reason);
        base.PostRestart(reason);
    }

    protected override SupervisorStrategy SupervisorStrategy() => Strategy?.Invoke(this) ?? base.SupervisorStrategy();
}

public sealed class Probe
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(15);
    private readonly BlockingCollection<(object Message, IActorRef Sender)> _seen = [];

    public Probe(ActorSystem system)
    {
        var seen = _seen;
        Ref = system.ActorOf(Props.Create(() => new Recorder(seen)));
    }

    public IActorRef Ref { get; }

    public IActorRef LastSender { get; private set; }

    public void Watch(IActorRef subject)
    {
        Ref.Tell(new WatchIt(subject));
        Assert.Same(subject, Expect<WatchIt>().Subject);
    }

    public object Next()
    {
        Assert.True(_seen.TryTake(out var seen, Patience), "no message came");
        LastSender = seen.Sender;
        return seen.Message;
    }

    /// <summary>Takes a message that is there already; false when there is none.</summary>
    public bool TryNext() => TryNext(out _);

    public bool TryNext(out object message)
    {
        var taken = _seen.TryTake(out var seen);
        message = seen.Message;
        return taken;
    }

    public T Expect<T>() => Assert.IsType<T>(Next());

    public void Expect(params object[] expected)
    {
        foreach (var one in expected)
        {
            Assert.Equal(one, Next());
        }
    }

    public void ExpectNothing(int milliseconds = 150)
    {
        if (_seen.TryTake(out var seen, milliseconds))
        {
            Assert.Fail($"unexpected message {seen.Message}");
        }
    }

    private sealed record WatchIt(IActorRef Subject);

    private sealed class Recorder : ReceiveActor
    {
        public Recorder(BlockingCollection<(object Message, IActorRef Sender)> seen)
        {
            Receive<WatchIt>(it =>
            {
                Context.Watch(it.Subject);
                seen.Add((it, Sender));
            });
            ReceiveAny(message => seen.Add((message, Sender)));
        }
    }
}
