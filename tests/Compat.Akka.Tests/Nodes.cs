// Several actor systems in one process, joined over loopback TCP. Each binds a free port; failure detection is shortened, so that what
// takes seconds in production takes fractions of one here.
using Akka.Actor;
using Akka.Configuration;

namespace Compat.Akka.Tests;

public abstract class NodesTest : IAsyncLifetime
{
    /// <summary>Long enough for a busy machine; no test waits for it unless it fails.</summary>
    protected static readonly TimeSpan Patience = TimeSpan.FromSeconds(20);

    private readonly List<ActorSystem> _systems = [];

    protected static CancellationToken Token => TestContext.Current.CancellationToken;

    /// <summary>Starts a node with provider remote.</summary>
    protected ActorSystem Remote(string config = "", int port = 0, string name = "net") => Start(
        $$"""
        {{config}}
        akka.actor.provider = remote
        akka.remote.dot-netty.tcp.port = {{port}}
        akka.remote.watch-failure-detector {
          heartbeat-interval = 100ms
          acceptable-heartbeat-pause = 3s
          unreachable-nodes-reaper-interval = 100ms
        }
        """,
        name);

    protected ActorSystem Start(string config, string name)
    {
        var system = ActorSystem.Create(name, ConfigurationFactory.ParseString(config).WithFallback(ConfigurationFactory.ParseString(
            """
            akka.loglevel = OFF
            akka.stdout-loglevel = OFF
            akka.remote.dot-netty.tcp.hostname = "127.0.0.1"
            akka.remote.retry-gate-closed-for = 300ms
            akka.cluster {
              periodic-tasks-initial-delay = 100ms
              gossip-interval = 100ms
              leader-actions-interval = 100ms
              unreachable-nodes-reaper-interval = 100ms
              seed-node-timeout = 500ms
              retry-unsuccessful-join-after = 500ms
              failure-detector { heartbeat-interval = 100ms, acceptable-heartbeat-pause = 5s }
              split-brain-resolver.stable-after = 500ms
            }
            """)));
        _systems.Add(system);
        return system;
    }

    protected static Address AddressOf(ActorSystem system) => ((ExtendedActorSystem)system).Provider.DefaultAddress;

    /// <summary>The path of a top-level actor as another node says it.</summary>
    protected static string PathOf(ActorSystem system, string name) => $"{AddressOf(system)}/user/{name}";

    protected static IActorRef Spawn(ActorSystem system, Action<Act> body, string name) => system.ActorOf(Act.Props(body), name);

    protected static Task<IActorRef> Find(ActorSystem from, ActorSystem at, string name) =>
        from.ActorSelection(PathOf(at, name)).ResolveOne(Patience);

    protected static async Task Until(Func<bool> condition, string what)
    {
        var end = DateTime.UtcNow + Patience;
        while (!condition())
        {
            Assert.True(DateTime.UtcNow < end, "in vain: " + what);
            await Task.Delay(20, Token);
        }
    }

    public ValueTask InitializeAsync() => ValueTask.CompletedTask;

    public async ValueTask DisposeAsync()
    {
        await Task.WhenAll(_systems.Select(system => system.Terminate())).WaitAsync(TimeSpan.FromSeconds(40));
        GC.SuppressFinalize(this);
    }
}
