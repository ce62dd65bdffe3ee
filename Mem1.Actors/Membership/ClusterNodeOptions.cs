// Invariants:
//  * Immutable; Validate reports every contradiction at once and changes nothing.
using System.Text.RegularExpressions;

namespace Mem1.Actors;

/// <summary>The roles that nodes of a cluster have.</summary>
public static class NodeRoles
{
    /// <summary>Trains; founds the cluster.</summary>
    public const string Learner = "learner";
    /// <summary>Plays episodes.</summary>
    public const string Rollout = "rollout";
    /// <summary>Shows a run.</summary>
    public const string Dashboard = "dashboard";
    /// <summary>Searches for environments.</summary>
    public const string Retriever = "retriever";
}

/// <summary>Settings of one node of the cluster.</summary>
public sealed partial record ClusterNodeOptions
{
    /// <summary>What the node is for: names of <see cref="NodeRoles"/>.</summary>
    public required IReadOnlyList<string> Roles { get; init; }

    /// <summary>Whether the node begins a cluster of its own, which others join; otherwise it waits to be told of one.</summary>
    public bool Founds { get; init; }

    /// <summary>
    /// Name or IPv4 address by which other nodes reach this one; null takes the address of this machine that traffic to the seed leaves
    /// from, or, for a node that founds, the first that is not loopback.
    /// </summary>
    public string? Host { get; init; }

    /// <summary>IPv4 address to bind; null binds <see cref="Host"/>.</summary>
    public string? BindAddress { get; init; }

    /// <summary>Port to listen on; 0 takes a free one and keeps it for as long as the process lives.</summary>
    public int Port { get; init; }

    /// <summary>Port by which other nodes reach this one, where it is not the one it listens on (behind a mapping of ports); null if it is.</summary>
    public int? PublicPort { get; init; }

    /// <summary>How long a node may send no heartbeat before the others call it unreachable.</summary>
    public TimeSpan HeartbeatPause { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>How long the view of who is reachable must stand still before those cut off from the learner are removed.</summary>
    public TimeSpan DownAfter { get; init; } = TimeSpan.FromSeconds(20);

    /// <summary>How long leaving in good order may take.</summary>
    public TimeSpan LeaveLimit { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>Time between two reports of a node's actors; longer in clusters of more than fifty nodes.</summary>
    public TimeSpan ReportInterval { get; init; } = TimeSpan.FromSeconds(2);

    /// <summary>Time between two rounds of gossip and of the leader's decisions: what joining and leaving take a few of.</summary>
    public TimeSpan GossipInterval { get; init; } = TimeSpan.FromMilliseconds(500);

    /// <summary>Checks the settings, each one and against each other.</summary>
    /// <returns>One sentence per contradiction; empty when there is none.</returns>
    public IReadOnlyList<string> Validate()
    {
        var problems = new List<string>();
        if (Roles.Count == 0 || !Roles.All(r => RoleName().IsMatch(r)))
            problems.Add($"Roles are \"{string.Join(", ", Roles)}\"; at least one is needed, in lower-case letters.");
        if (Host is not null && !IsHost(Host))
            problems.Add($"Host is \"{Host}\"; it must be a name or an IPv4 address.");
        if (BindAddress is not null && !IsHost(BindAddress))
            problems.Add($"BindAddress is \"{BindAddress}\"; it must be an IPv4 address.");
        if (Port is < 0 or > 65535)
            problems.Add($"Port is {Port}; it must be in 0 to 65535.");
        if (PublicPort is < 1 or > 65535)
            problems.Add($"PublicPort is {PublicPort}; it must be in 1 to 65535.");
        Positive(HeartbeatPause, nameof(HeartbeatPause));
        Positive(DownAfter, nameof(DownAfter));
        Positive(LeaveLimit, nameof(LeaveLimit));
        Positive(ReportInterval, nameof(ReportInterval));
        Positive(GossipInterval, nameof(GossipInterval));
        return problems;

        void Positive(TimeSpan value, string name)
        {
            if (value <= TimeSpan.Zero || value > LongestWait)
                problems.Add($"{name} is {value}; it must be longer than zero and at most {LongestWait}.");
        }
    }

    /// <summary>Whether a text can stand for a host in the address of a node: a name or an IPv4 address.</summary>
    public static bool IsHost(string text) => HostName().IsMatch(text);

    // A cluster that takes longer than a day to notice anything is none.
    private static readonly TimeSpan LongestWait = TimeSpan.FromDays(1);

    [GeneratedRegex(@"\A[a-z][a-z-]{0,30}\z")]
    private static partial Regex RoleName();

    [GeneratedRegex(@"\A[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?\z")]
    private static partial Regex HostName();
}
