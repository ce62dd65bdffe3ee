// Invariants:
//  * One actor system of its own from start to end. What befalls it (it is cut off, given up, quarantined) ends this system and nothing
//    else of the process.
//  * Those cut off from the learner go down, whatever their number; the learner's side stays. So there is one cluster per learner.
using System.Globalization;
using System.Net;
using System.Net.NetworkInformation;
using System.Net.Sockets;
using Akka.Actor;
using Akka.Cluster;
using Akka.Configuration;

namespace Mem1.Actors;

/// <summary>One life of a node in a cluster; a node that is cut off and comes back has another.</summary>
internal sealed class NodeLife
{
    /// <summary>Name of the actor systems; nodes of another name are not let in.</summary>
    public const string SystemName = "mem1";

    private const string Protocol = "akka.tcp";

    private readonly ActorSystem _system;
    private readonly Cluster _cluster;
    private IActorRef? _reporter; // of a joiner

    private NodeLife(ActorSystem system)
    {
        _system = system;
        _cluster = Cluster.Get(system);
        Self = MembershipActor.IdOf(_cluster.SelfUniqueAddress);
        _cluster.RegisterOnMemberUp(() => WasUp = true);
    }

    /// <summary>This node.</summary>
    public NodeId Self { get; }

    /// <summary>Whether it has been a full member.</summary>
    public bool WasUp { get; private set; }

    /// <summary>Ends with the actor system.</summary>
    public Task Ended => _system.WhenTerminated;

    /// <summary>Whether the cluster gave this node up.</summary>
    public bool WasDowned =>
        ReferenceEquals(CoordinatedShutdown.Get(_system).ShutdownReason, CoordinatedShutdown.ClusterDowningReason.Instance);

    /// <summary>Binds the port and begins to join.</summary>
    /// <param name="options">Validated.</param>
    /// <param name="port">To listen on; 0 for a free one.</param>
    /// <param name="seed">A node of the cluster to join; null to found one.</param>
    /// <param name="reports">Where a founder keeps what the others report.</param>
    /// <param name="source">What a joiner reports; null while it has nothing to say.</param>
    /// <param name="changed">Told what happens in the cluster, on a thread of the actors.</param>
    /// <param name="time">For the times of what happens.</param>
    /// <exception cref="Exception">The port cannot be bound, or there is no address to be reached by.</exception>
    public static NodeLife Start(
        ClusterNodeOptions options, int port, NodeId? seed, NodeReports reports,
        Func<(string WorkerId, IReadOnlyList<ActorStatus> Actors)?> source, Action<MembershipEvent> changed, TimeProvider time)
    {
        var host = options.Host ?? (seed is null ? OwnAddress() : AddressTowards(seed));
        var system = ActorSystem.Create(SystemName, Settings(options, host, port));
        try
        {
            var life = new NodeLife(system);
            var cluster = life._cluster;
            system.ActorOf(Props.Create(() => new MembershipActor(cluster, changed, time)), "membership");
            if (seed is null)
            {
                system.ActorOf(Props.Create(() => new ReportReceiver(cluster, reports)), ReportReceiver.ActorName);
                cluster.Join(cluster.SelfAddress);
            }
            else
            {
                var at = new Address(Protocol, SystemName, seed.Host, seed.Port);
                var receiver = $"{at}/user/{ReportReceiver.ActorName}";
                var interval = options.ReportInterval;
                life._reporter = system.ActorOf(Props.Create(() => new ReportSender(cluster, receiver, interval, source)), "reporter");
                cluster.JoinSeedNodes([at]);
            }

            return life;
        }
        catch
        {
            _ = system.Terminate();
            throw;
        }
    }

    /// <summary>The members as this node sees them; empty before it has joined and after it has left.</summary>
    public IReadOnlyList<ClusterMember> Members()
    {
        var state = _cluster.State;
        var unreachable = state.Unreachable.Select(m => m.UniqueAddress).ToHashSet();
        return
        [
            .. state.Members.Where(m => m.Status != MemberStatus.Removed).Select(m =>
            {
                var id = MembershipActor.IdOf(m.UniqueAddress);
                return new ClusterMember(
                    id, [.. m.Roles.Order(StringComparer.Ordinal)], StateOf(m.Status), !unreachable.Contains(m.UniqueAddress), id == Self);
            }),
        ];
    }

    /// <summary>Reports now rather than at the next interval.</summary>
    public void ReportSoon() => _reporter?.Tell(ReportSender.Urgent, ActorRefs.NoSender);

    /// <summary>Leaves in good order, or is given up after a while: the others find out.</summary>
    public async Task LeaveAsync(TimeSpan limit)
    {
        var leaving = CoordinatedShutdown.Get(_system).Run(CoordinatedShutdown.ClrExitReason.Instance);
        await Task.WhenAny(leaving, Task.Delay(limit)).ConfigureAwait(false);
    }

    /// <summary>Ends without a word: the cluster is gone, or has given this node up.</summary>
    public async Task AbandonAsync(TimeSpan limit)
    {
        // Phases that wait for the others' agreement are skipped; nobody is there to agree.
        var ending = CoordinatedShutdown.Get(_system).Run(
            CoordinatedShutdown.UnknownReason.Instance, CoordinatedShutdown.PhaseBeforeActorSystemTerminate);
        await Task.WhenAny(Task.WhenAll(ending, Ended), Task.Delay(limit)).ConfigureAwait(false);
    }

    private static NodeState StateOf(MemberStatus status) => status switch
    {
        MemberStatus.Joining => NodeState.Joining,
        MemberStatus.WeaklyUp => NodeState.WeaklyUp,
        MemberStatus.Up => NodeState.Up,
        MemberStatus.Leaving => NodeState.Leaving,
        MemberStatus.Exiting => NodeState.Exiting,
        _ => NodeState.Down,
    };

    // Of the resolver's strategies only this one keeps the learner's side whatever the numbers: its oldest member of role learner decides,
    // also when it is alone. Akka's logging is off: what matters is logged from the events. A gossip message of a thousand members takes
    // about 100 KB and has to fit a frame. Process exit is the host's business.
    private static Config Settings(ClusterNodeOptions options, string host, int port) => ConfigurationFactory.ParseString(string.Create(
        CultureInfo.InvariantCulture,
        $$"""
        akka {
          loglevel = OFF
          stdout-loglevel = OFF
          log-dead-letters = off
          log-dead-letters-during-shutdown = off
          actor.provider = cluster
          coordinated-shutdown.run-by-clr-shutdown-hook = off
          remote.retry-gate-closed-for = 1s
          remote.dot-netty.tcp {
            hostname = "{{options.BindAddress ?? host}}"
            public-hostname = "{{host}}"
            port = {{port}}
            public-port = {{options.PublicPort ?? 0}}
            maximum-frame-size = 1048576b
          }
          cluster {
            roles = [{{string.Join(", ", options.Roles)}}]
            gossip-interval = {{Milliseconds(options.GossipInterval)}}
            leader-actions-interval = {{Milliseconds(options.GossipInterval)}}
            periodic-tasks-initial-delay = {{Milliseconds(options.GossipInterval)}}
            seed-node-timeout = 2s
            retry-unsuccessful-join-after = 2s
            failure-detector {
              heartbeat-interval = 1s
              acceptable-heartbeat-pause = {{Milliseconds(options.HeartbeatPause)}}
            }
            split-brain-resolver {
              active-strategy = keep-oldest
              stable-after = {{Milliseconds(options.DownAfter)}}
              down-all-when-unstable = off
              keep-oldest { role = {{NodeRoles.Learner}}, down-if-alone = off }
            }
          }
        }
        """));

    private static string Milliseconds(TimeSpan time) => string.Create(CultureInfo.InvariantCulture, $"{Math.Max(1, (long)time.TotalMilliseconds)}ms");

    /// <summary>The address of this machine from which traffic to the seed leaves: the one the seed's machine can answer.</summary>
    private static string AddressTowards(NodeId seed)
    {
        // Connecting a datagram socket sends nothing; it only asks the routing table.
        using var probe = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
        probe.Connect(seed.Host, seed.Port);
        return ((IPEndPoint)probe.LocalEndPoint!).Address.ToString();
    }

    private static string OwnAddress() =>
        NetworkInterface.GetAllNetworkInterfaces()
            .Where(i => i.OperationalStatus == OperationalStatus.Up && i.NetworkInterfaceType != NetworkInterfaceType.Loopback)
            .SelectMany(i => i.GetIPProperties().UnicastAddresses)
            .Select(a => a.Address)
            .FirstOrDefault(a => a.AddressFamily == AddressFamily.InterNetwork && !IPAddress.IsLoopback(a))
            ?.ToString() ?? IPAddress.Loopback.ToString();
}
