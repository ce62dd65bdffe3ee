using System.Net;
using System.Net.Sockets;
using Mem1.Actors;

namespace Mem1.Cli.Configuration;

/// <summary>The cluster of a run: learner and workers of several processes see one another (docs/cluster.md). Data needs none of it.</summary>
public sealed record ClusterConfig
{
    /// <summary>
    /// Whether mem1 learner founds a cluster and its workers join it; if not given, it does unless it asks for a token or speaks TLS, which
    /// the nodes' own port knows nothing of. mem1 train, one process, never does.
    /// </summary>
    public bool? Enabled { get; init; }
    /// <summary>Name or IPv4 address by which workers reach the learner's node; learner.address if not given, or the machine's own where that is
    /// 0.0.0.0.</summary>
    public string? Host { get; init; }
    /// <summary>Port of the learner's node; 0 takes a free one, which workers are told.</summary>
    public int Port { get; init; }
    /// <summary>Port by which workers reach the learner's node where that is not cluster.port: behind a mapping of ports.</summary>
    public int? PublicPort { get; init; }
    /// <summary>Name or IPv4 address by which the others reach a worker's node; the one that its traffic leaves from if not given.</summary>
    public string? WorkerHost { get; init; }
    /// <summary>Port of a worker's node; 0 takes a free one.</summary>
    public int WorkerPort { get; init; }
    /// <summary>Seconds without a heartbeat after which a node is called unreachable.</summary>
    public double HeartbeatPauseSeconds { get; init; } = 10;
    /// <summary>Seconds after which nodes that stay cut off from the learner are removed; they join again when they can.</summary>
    public double DownAfterSeconds { get; init; } = 20;

    /// <summary>The learner's node; null where there is none.</summary>
    /// <param name="address">IP address the learner listens on.</param>
    /// <param name="secured">Whether it asks for a token or speaks TLS.</param>
    public ClusterNodeOptions? ForLearner(string address, bool secured)
    {
        if (!(Enabled ?? !secured)) return null;
        var listens = IPAddress.Parse(address);
        // Nodes speak IPv4; where the learner listens on one IPv6 address only, its node takes the machine's own IPv4 address.
        var own = IPAddress.IsLoopback(listens) ? IPAddress.Loopback.ToString()
            : listens.Equals(IPAddress.Any) || listens.Equals(IPAddress.IPv6Any) ? IPAddress.Any.ToString()
            : listens.AddressFamily == AddressFamily.InterNetwork ? address
            : null;
        return Common(NodeRoles.Learner) with
        {
            Founds = true,
            Host = Host ?? (own == IPAddress.Any.ToString() ? null : own),
            BindAddress = own,
            Port = Port,
            PublicPort = PublicPort,
        };
    }

    /// <summary>A worker's node, which opens no port before the learner tells it of a cluster; null where there is none.</summary>
    public ClusterNodeOptions? ForWorker() => Enabled ?? true
        ? Common(NodeRoles.Rollout) with
        {
            Host = WorkerHost,
            BindAddress = WorkerHost is null ? null : IPAddress.Any.ToString(),
            Port = WorkerPort,
        }
        : null;

    /// <summary>Every contradiction, a sentence each.</summary>
    public IReadOnlyList<string> Validate()
    {
        var errors = new List<string>();
        if (Host is not null && !ClusterNodeOptions.IsHost(Host)) errors.Add($"cluster.host is \"{Host}\"; it must be a name or an IPv4 address.");
        if (WorkerHost is not null && !ClusterNodeOptions.IsHost(WorkerHost))
            errors.Add($"cluster.worker_host is \"{WorkerHost}\"; it must be a name or an IPv4 address.");
        if (Port is < 0 or > 65535) errors.Add($"cluster.port is {Port}; it must be in 0 to 65535.");
        if (PublicPort is < 1 or > 65535) errors.Add($"cluster.public_port is {PublicPort}; it must be in 1 to 65535.");
        if (PublicPort is not null && Port == 0) errors.Add("cluster.public_port is set but cluster.port is 0: a mapping needs a port of its own.");
        if (WorkerPort is < 0 or > 65535) errors.Add($"cluster.worker_port is {WorkerPort}; it must be in 0 to 65535.");
        if (HeartbeatPauseSeconds is not (>= 0.5 and <= 3600))
            errors.Add($"cluster.heartbeat_pause_seconds is {HeartbeatPauseSeconds}; it must be in 0.5 to 3600.");
        if (DownAfterSeconds is not (>= 0.5 and <= 3600))
            errors.Add($"cluster.down_after_seconds is {DownAfterSeconds}; it must be in 0.5 to 3600.");
        return errors;
    }

    private ClusterNodeOptions Common(string role) => new()
    {
        Roles = [role],
        HeartbeatPause = TimeSpan.FromSeconds(HeartbeatPauseSeconds),
        DownAfter = TimeSpan.FromSeconds(DownAfterSeconds),
    };
}
