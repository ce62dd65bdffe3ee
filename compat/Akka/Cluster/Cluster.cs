// The cluster extension: what users call. The work is done by one actor (ClusterDaemon.cs); State, SelfMember and the callbacks are its
// published view, which may lag behind it. Leaving runs through coordinated shutdown, in the phases whose names begin with cluster.
using System.Collections.Immutable;
using Akka.Actor;
using Akka.Configuration;
using Akka.Event;
using Akka.Remote;

namespace Akka.Cluster;

public class ClusterJoinFailedException : AkkaException
{
    public ClusterJoinFailedException(string message)
        : base(message)
    {
    }
}

public class Cluster : IExtension
{
    private readonly Lock _gate = new();
    private readonly List<Action> _onUp = [];
    private readonly List<Action> _onRemoved = [];
    private readonly InternalActorRefBase _daemon;
    private readonly Lazy<Task> _leave;
    private volatile View _view;
    private volatile bool _wasUp;
    private volatile bool _isTerminated;

    private Cluster(ActorSystemImpl system)
    {
        var provider = system.LocalProvider as RemoteActorRefProvider;
        if (!system.HasCluster || provider is null)
        {
            throw new ConfigurationException(
                $"ActorSystem [{system.Name}] needs to have 'akka.actor.provider' set to 'cluster' in the configuration");
        }

        System = system;
        Log = new BusLogging(system.EventStream, $"Cluster({provider.DefaultAddress})", typeof(Cluster), system.Log);
        Transport = provider.Transport;
        SelfUniqueAddress = new UniqueAddress(provider.DefaultAddress, Transport.Uid);
        SelfRoles = [.. system.Settings.Config.GetStringList("akka.cluster.roles")];
        _view = new View(new ClusterEvent.CurrentClusterState(), Removed());
        _leave = new Lazy<Task>(() =>
        {
            var removed = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            RegisterOnMemberRemoved(() => removed.TrySetResult());
            Leave(SelfAddress);
            return removed.Task;
        });
        _daemon = provider.SystemGuardian.Cell.AttachChild(
            Props.Create(() => new ClusterDaemon(this)), ClusterDaemon.Name, checkName: false);
        AddLeaveTasks(CoordinatedShutdown.Get(system));
    }

    public ExtendedActorSystem System { get; }

    public UniqueAddress SelfUniqueAddress { get; }

    public Address SelfAddress => SelfUniqueAddress.Address;

    public ImmutableHashSet<string> SelfRoles { get; }

    public ClusterEvent.CurrentClusterState State => _view.State;

    /// <summary>This node; its status is Removed before it joined and after it was removed.</summary>
    public Member SelfMember => _view.Self;

    public bool IsTerminated => _isTerminated;

    public bool IsUp => SelfMember.Status == MemberStatus.Up;

    internal ILoggingAdapter Log { get; }

    internal RemoteTransport Transport { get; }

    public static Cluster Get(ActorSystem system) => new Id().Get(system);

    public void Subscribe(IActorRef subscriber, params Type[] to) =>
        Subscribe(subscriber, ClusterEvent.SubscriptionInitialStateMode.InitialStateAsSnapshot, to);

    public void Subscribe(IActorRef subscriber, ClusterEvent.SubscriptionInitialStateMode initialStateMode, params Type[] to)
    {
        if (to.Length == 0)
        {
            throw new ArgumentException("At least one IClusterDomainEvent class is required", nameof(to));
        }

        if (!to.All(typeof(ClusterEvent.IClusterDomainEvent).IsAssignableFrom))
        {
            throw new ArgumentException(
                $"Subscribe to `IClusterDomainEvent` or subclasses, was [{string.Join(", ", to.Select(type => type.Name))}]", nameof(to));
        }

        _daemon.Tell(new ClusterDaemon.Subscribe(subscriber, initialStateMode, to), ActorRefs.NoSender);
    }

    public void Unsubscribe(IActorRef subscriber) => Unsubscribe(subscriber, null);

    public void Unsubscribe(IActorRef subscriber, Type to) =>
        _daemon.Tell(new ClusterDaemon.Unsubscribe(subscriber, to), ActorRefs.NoSender);

    public void SendCurrentClusterState(IActorRef receiver) =>
        _daemon.Tell(new ClusterDaemon.SendState(receiver), ActorRefs.NoSender);

    public void Join(Address address) => _daemon.Tell(new ClusterDaemon.JoinTo(address), ActorRefs.NoSender);

    public Task JoinAsync(Address address, CancellationToken token = default) => JoinedAsync(() => Join(address), token);

    public void JoinSeedNodes(IEnumerable<Address> seedNodes) =>
        _daemon.Tell(new ClusterDaemon.JoinSeeds([.. seedNodes]), ActorRefs.NoSender);

    public Task JoinSeedNodesAsync(IEnumerable<Address> seedNodes, CancellationToken token = default) =>
        JoinedAsync(() => JoinSeedNodes(seedNodes), token);

    public void Leave(Address address) => _daemon.Tell(new ClusterDaemon.LeaveNow(address), ActorRefs.NoSender);

    /// <summary>Completes when this node was removed.</summary>
    public Task LeaveAsync() => _isTerminated ? Task.CompletedTask : _leave.Value;

    public Task LeaveAsync(CancellationToken cancellationToken) => LeaveAsync().WaitAsync(cancellationToken);

    public void Down(Address address) => _daemon.Tell(new ClusterDaemon.DownNow(address), ActorRefs.NoSender);

    public void RegisterOnMemberUp(Action callback) => Register(_onUp, () => _wasUp, callback);

    public void RegisterOnMemberRemoved(Action callback) => Register(_onRemoved, () => _isTerminated, callback);

    /// <summary>What the daemon says is so now.</summary>
    internal void Publish(ClusterEvent.CurrentClusterState state, Member self)
    {
        Action[] callbacks = [];
        lock (_gate)
        {
            _view = new View(state, self ?? Removed());
            if (!_wasUp && IsUp)
            {
                _wasUp = true;
                callbacks = [.. _onUp];
                _onUp.Clear();
            }
        }

        RunAll(callbacks);
    }

    /// <summary>The daemon has ended: this node is in no cluster any more.</summary>
    internal void Ended()
    {
        Action[] callbacks;
        lock (_gate)
        {
            _view = new View(new ClusterEvent.CurrentClusterState(), Removed());
            _isTerminated = true;
            callbacks = [.. _onRemoved];
            _onRemoved.Clear();
        }

        RunAll(callbacks);
    }

    internal void ShutDown(CoordinatedShutdown.Reason reason) => CoordinatedShutdown.Get(System).Run(reason);

    private Member Removed() => new(SelfUniqueAddress, MemberStatus.Removed, SelfRoles);

    private void Register(List<Action> callbacks, Func<bool> isSo, Action callback)
    {
        lock (_gate)
        {
            if (!isSo())
            {
                callbacks.Add(callback);
                return;
            }
        }

        callback();
    }

    private void RunAll(Action[] callbacks)
    {
        if (callbacks.Length == 0)
        {
            return;
        }

        // User code: not on the daemon's thread.
        _ = Task.Run(() =>
        {
            foreach (var callback in callbacks)
            {
                try
                {
                    callback();
                }
                catch (Exception error)
                {
                    Log.Error(error, "A callback of {0} failed.", SelfAddress);
                }
            }
        });
    }

    private Task JoinedAsync(Action join, CancellationToken token)
    {
        if (_isTerminated)
        {
            throw new ClusterJoinFailedException("Cluster has already been terminated.");
        }

        if (IsUp)
        {
            return Task.CompletedTask;
        }

        var joined = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var registration = token.Register(() => joined.TrySetException(
            new ClusterJoinFailedException($"Node has not managed to join the cluster using provided addresses: {SelfAddress}")));
        RegisterOnMemberUp(() => joined.TrySetResult());
        RegisterOnMemberRemoved(() => joined.TrySetException(
            new ClusterJoinFailedException($"Node has not managed to join the cluster; it was shut down: {SelfAddress}")));
        joined.Task.ContinueWith(_ => registration.Unregister(), TaskScheduler.Default);
        join();
        return joined.Task;
    }

    private void AddLeaveTasks(CoordinatedShutdown shutdown)
    {
        Task<Done> AskDaemon(object question) => _isTerminated
            ? Task.FromResult(Done.Instance)
            : _daemon.Ask<Done>(question, shutdown.TotalTimeout);
        shutdown.AddTask(CoordinatedShutdown.PhaseClusterLeave, "leave", () => AskDaemon(new ClusterDaemon.AwaitLeaving()));
        shutdown.AddTask(CoordinatedShutdown.PhaseClusterExiting, "wait-exiting", () => AskDaemon(new ClusterDaemon.AwaitExiting()));
        shutdown.AddTask(
            CoordinatedShutdown.PhaseClusterExitingDone, "exiting-completed", () => AskDaemon(new ClusterDaemon.ExitingDone()));
        shutdown.AddTask(CoordinatedShutdown.PhaseClusterShutdown, "wait-shutdown", async () =>
        {
            await _daemon.GracefulStop(shutdown.Timeout(CoordinatedShutdown.PhaseClusterShutdown)).ConfigureAwait(false);
            return Done.Instance;
        });
    }

    private sealed record View(ClusterEvent.CurrentClusterState State, Member Self);

    private sealed class Id : ExtensionIdProvider<Cluster>
    {
        public override Cluster CreateExtension(ExtendedActorSystem system) => new((ActorSystemImpl)system);
    }
}
