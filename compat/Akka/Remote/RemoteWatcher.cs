// Who watches whom across nodes. Keeps every watch of an actor elsewhere until its end is known: told by its node, by the failure
// detector, or by the cluster. Each is told once. Nodes of the cluster are judged by the cluster's own failure detection, the others by
// heartbeats from here.
using System.Collections.Immutable;
using Akka.Actor;
using Akka.Configuration;
using Akka.Dispatch.SysMsg;
using Akka.Event;

namespace Akka.Remote;

internal sealed class RemoteWatcher
{
    private readonly RemoteTransport _transport;
    private readonly Config _settings;
    private readonly TimeSpan _expectedResponse;
    private readonly Lock _gate = new();
    private readonly Dictionary<Address, Node> _nodes = [];
    private readonly HashSet<(IActorRef Watchee, IActorRef Watcher)> _incoming = [];
    private readonly CancellationTokenSource _stop = new();

    internal RemoteWatcher(RemoteTransport transport, Config settings)
    {
        _transport = transport;
        _settings = settings;
        _expectedResponse = settings.GetTimeSpan("expected-response-after");
        _ = EveryAsync(settings.GetTimeSpan("heartbeat-interval"), SendHeartbeats);
        _ = EveryAsync(settings.GetTimeSpan("unreachable-nodes-reaper-interval"), Reap);
    }

    /// <summary>The nodes whose end the cluster declares.</summary>
    internal ImmutableHashSet<Address> ClusterMembers { get; set; } = [];

    internal void Watch(InternalActorRefBase watchee, InternalActorRefBase watcher)
    {
        lock (_gate)
        {
            var address = watchee.Path.Address;
            if (!_nodes.TryGetValue(address, out var node))
            {
                _nodes[address] = node = new Node(_settings);
            }

            node.Watches.Add((watchee, watcher));
        }
    }

    internal void Unwatch(InternalActorRefBase watchee, InternalActorRefBase watcher)
    {
        lock (_gate)
        {
            Remove(watchee.Path.Address, (watchee, watcher));
        }
    }

    /// <summary>Notes that an actor elsewhere watches one here.</summary>
    internal Watch AddIncoming(InternalActorRefBase watchee, InternalActorRefBase watcher)
    {
        lock (_gate)
        {
            _incoming.Add((watchee, watcher));
        }

        return new Watch(watchee, watcher);
    }

    internal void RemoveIncoming(IActorRef watchee, IActorRef watcher)
    {
        lock (_gate)
        {
            _incoming.Remove((watchee, watcher));
        }
    }

    /// <summary>The node of the watchee says that it has ended.</summary>
    internal void Terminated(InternalActorRefBase watchee, string watcher, bool confirmed, bool addressTerminated)
    {
        (InternalActorRefBase Watchee, InternalActorRefBase Watcher)[] told;
        lock (_gate)
        {
            if (!_nodes.TryGetValue(watchee.Path.Address, out var node))
            {
                return;
            }

            // Who watches a path without uid watches whatever lives there.
            told = node.Watches
                .Where(watch => watch.Watchee.Path.Equals(watchee.Path)
                    && (watch.Watchee.Path.Uid == 0 || watch.Watchee.Path.Uid == watchee.Path.Uid)
                    && watch.Watcher.Path.ToSerializationFormatWithAddress(_transport.LocalAddress) == watcher)
                .ToArray();
            foreach (var watch in told)
            {
                Remove(watchee.Path.Address, watch);
            }
        }

        foreach (var watch in told)
        {
            watch.Watcher.SendSystemMessage(new DeathWatchNotification(watch.Watchee, confirmed, addressTerminated));
        }
    }

    /// <summary>The node is gone for good: every watch of its actors ends, and so does every watch it holds here.</summary>
    internal void AddressTerminated(Address address)
    {
        (InternalActorRefBase Watchee, InternalActorRefBase Watcher)[] told = [];
        (IActorRef Watchee, IActorRef Watcher)[] dropped;
        lock (_gate)
        {
            if (_nodes.Remove(address, out var node))
            {
                told = [.. node.Watches];
            }

            dropped = _incoming.Where(watch => watch.Watcher.Path.Address == address).ToArray();
            _incoming.ExceptWith(dropped);
        }

        foreach (var (watchee, watcher) in told)
        {
            watcher.SendSystemMessage(new DeathWatchNotification(watchee, existenceConfirmed: false, addressTerminated: true));
        }

        foreach (var (watchee, watcher) in dropped)
        {
            ((InternalActorRefBase)watchee).SendSystemMessage(new Unwatch((InternalActorRefBase)watchee, (InternalActorRefBase)watcher));
        }
    }

    /// <summary>Another incarnation lives at the address: it is asked about everything that is watched there.</summary>
    internal void WatchAgain(Address address)
    {
        (InternalActorRefBase Watchee, InternalActorRefBase Watcher)[] watches = [];
        lock (_gate)
        {
            if (_nodes.TryGetValue(address, out var node))
            {
                watches = [.. node.Watches];
            }
        }

        foreach (var (watchee, watcher) in watches)
        {
            _transport.SendWatch(watchee, watcher);
        }
    }

    internal void HeartbeatFrom(Address address)
    {
        lock (_gate)
        {
            if (_nodes.TryGetValue(address, out var node))
            {
                node.Detector.Heartbeat();
            }
        }
    }

    internal void Stop() => _stop.Cancel();

    private void Remove(Address address, (InternalActorRefBase, InternalActorRefBase) watch)
    {
        if (_nodes.TryGetValue(address, out var node) && node.Watches.Remove(watch) && node.Watches.Count == 0)
        {
            _nodes.Remove(address);
        }
    }

    private void SendHeartbeats()
    {
        var members = ClusterMembers;
        var addresses = new List<Address>();
        lock (_gate)
        {
            foreach (var (address, node) in _nodes)
            {
                if (members.Contains(address))
                {
                    continue;
                }

                addresses.Add(address);
                node.FirstHeartbeat ??= Environment.TickCount64;

                // A node that never answers has to be found out too: from here on its silence counts.
                if (!node.Detector.IsMonitoring
                    && Environment.TickCount64 - node.FirstHeartbeat > _expectedResponse.TotalMilliseconds)
                {
                    node.Detector.Heartbeat();
                }
            }
        }

        addresses.ForEach(_transport.SendHeartbeat);
    }

    private void Reap()
    {
        var members = ClusterMembers;
        Address[] gone;
        lock (_gate)
        {
            gone = _nodes.Where(entry => !members.Contains(entry.Key) && !entry.Value.Detector.IsAvailable())
                .Select(entry => entry.Key)
                .ToArray();
        }

        foreach (var address in gone)
        {
            _transport.Log.Warning("Detected unreachable: [{0}]", address);
            _transport.Quarantine(address, null, "Deemed unreachable by remote failure detector");
            AddressTerminated(address);
        }
    }

    private async Task EveryAsync(TimeSpan interval, Action work)
    {
        using var timer = new PeriodicTimer(interval);
        try
        {
            while (await timer.WaitForNextTickAsync(_stop.Token).ConfigureAwait(false))
            {
                work();
            }
        }
        catch (OperationCanceledException)
        {
            // The end of the system.
        }
    }

    private sealed class Node(Config settings)
    {
        internal HashSet<(InternalActorRefBase Watchee, InternalActorRefBase Watcher)> Watches { get; } = [];

        internal PhiAccrualFailureDetector Detector { get; } = new(settings);

        internal long? FirstHeartbeat { get; set; }
    }
}
