// Heartbeats and what follows from their absence. Each member is watched by its next neighbours in a ring ordered by hash, so that the
// load per node stays bounded while every member has several observers.
using Akka.Actor;
using Akka.Event;
using Akka.Remote;
using static Akka.Cluster.ClusterMessages;

namespace Akka.Cluster;

internal sealed partial class ClusterDaemon
{
    private void SendHeartbeats()
    {
        if (!HasJoined)
        {
            return;
        }

        var neighbours = Neighbours();
        foreach (var gone in _monitored.Keys.Except(neighbours).ToArray())
        {
            _monitored.Remove(gone);
        }

        foreach (var node in neighbours)
        {
            if (!_monitored.TryGetValue(node, out var monitored))
            {
                var detector = new PhiAccrualFailureDetector(_settings.FailureDetector);
                _monitored[node] = monitored = new Monitored(detector, Environment.TickCount64);
            }

            DaemonAt(node.Address).Tell(new Heartbeat(Key(_self)), Self);

            // One that never answers has to be found out too: from here on its silence counts.
            if (!monitored.Detector.IsMonitoring
                && Environment.TickCount64 - monitored.Since > _settings.ExpectedResponseAfter.TotalMilliseconds)
            {
                monitored.Detector.Heartbeat();
            }
        }
    }

    private List<UniqueAddress> Neighbours()
    {
        var ring = _gossip.Members.Keys.OrderBy(node => unchecked((uint)node.Uid * 2654435761u)).ThenBy(node => node).ToList();
        var start = ring.IndexOf(_self);
        var neighbours = new List<UniqueAddress>();
        var reachable = 0;
        for (var i = 1; i < ring.Count && reachable < _settings.MonitoredByMembers; i++)
        {
            var node = ring[(start + i) % ring.Count];
            neighbours.Add(node);
            reachable += _gossip.Reachability.IsUnreachable(node) ? 0 : 1;
        }

        return neighbours;
    }

    private void HeartbeatFrom(UniqueAddress node)
    {
        if (_monitored.TryGetValue(node, out var monitored))
        {
            monitored.Detector.Heartbeat();
        }
    }

    private void Reap()
    {
        if (!HasJoined)
        {
            return;
        }

        var reachability = _gossip.Reachability;
        foreach (var (node, monitored) in _monitored)
        {
            if (!_gossip.Members.TryGetValue(node, out var member))
            {
                continue;
            }

            var isUnreachable = reachability.IsUnreachable(_self, node);
            if (!isUnreachable && !monitored.Detector.IsAvailable())
            {
                _cluster.Log.Warning("Marking node as UNREACHABLE [{0}]", member);
                reachability = reachability.Unreachable(_self, node);
            }
            else if (isUnreachable && monitored.Detector.IsAvailable() && monitored.Detector.IsMonitoring
                && !reachability.IsTerminated(_self, node))
            {
                _cluster.Log.Info("Marking node as REACHABLE [{0}]", member);
                reachability = reachability.Reachable(_self, node);
            }
        }

        if (!ReferenceEquals(reachability, _gossip.Reachability))
        {
            Update(_gossip with { Reachability = reachability });
        }

        Resolve();
    }

    private void Resolve()
    {
        if (_resolver is null || SelfStatus is not (MemberStatus.Up or MemberStatus.Leaving))
        {
            return;
        }

        var down = _resolver.Decide(_gossip, _self, Environment.TickCount64);
        if (down.Count > 0)
        {
            _cluster.Log.Warning("SBR took the decision to down [{0}]", string.Join(", ", down.Select(member => member.Address)));
            Update(down.Aggregate(_gossip, (gossip, member) => gossip.With(member.Copy(MemberStatus.Down))));
        }
    }

    private sealed record Monitored(PhiAccrualFailureDetector Detector, long Since);
}
