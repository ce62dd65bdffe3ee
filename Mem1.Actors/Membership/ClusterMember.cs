namespace Mem1.Actors;

/// <summary>A node of a cluster: one process from its joining to its leaving.</summary>
/// <param name="Host">As it says it itself.</param>
/// <param name="Port">Of its cluster port.</param>
/// <param name="Incarnation">Tells it from an earlier or later one at the same address.</param>
public sealed record NodeId(string Host, int Port, int Incarnation)
{
    /// <summary>Host and port, then the incarnation in hexadecimal.</summary>
    public override string ToString() => FormattableString.Invariant($"{Host}:{Port} ({Incarnation:x8})");
}

/// <summary>How far a node is on its way through the cluster.</summary>
public enum NodeState
{
    /// <summary>Asked to be let in.</summary>
    Joining,
    /// <summary>Let in while not everybody could agree to it.</summary>
    WeaklyUp,
    /// <summary>A full member.</summary>
    Up,
    /// <summary>Has said that it leaves.</summary>
    Leaving,
    /// <summary>Everybody knows that it leaves.</summary>
    Exiting,
    /// <summary>Given up by the others.</summary>
    Down,
}

/// <summary>A member of the cluster as one node sees it at one moment.</summary>
/// <param name="Id">Which.</param>
/// <param name="Roles">What it is for.</param>
/// <param name="State">How far it is on its way.</param>
/// <param name="Reachable">Whether its heartbeats arrive at those that watch it.</param>
/// <param name="IsSelf">Whether it is the node that looks.</param>
public sealed record ClusterMember(NodeId Id, IReadOnlyList<string> Roles, NodeState State, bool Reachable, bool IsSelf)
{
    /// <summary>Name of the worker on it; null for other roles, and before its first report.</summary>
    public string? WorkerId { get; init; }
    /// <summary>Since the last report; null before the first.</summary>
    public TimeSpan? ReportAge { get; init; }
}

/// <summary>What happened to a node.</summary>
public enum NodeChange
{
    /// <summary>It asked to be let in.</summary>
    Joined,
    /// <summary>It is a full member.</summary>
    Up,
    /// <summary>It has said that it leaves.</summary>
    Leaving,
    /// <summary>It is on its way out.</summary>
    Exiting,
    /// <summary>Its heartbeats do not arrive any more.</summary>
    Unreachable,
    /// <summary>Its heartbeats arrive again.</summary>
    Reachable,
    /// <summary>The others have given it up.</summary>
    Downed,
    /// <summary>It is gone after leaving in good order.</summary>
    Left,
    /// <summary>It is gone after it was given up.</summary>
    Removed,
}

/// <summary>A change of the membership as one node saw it.</summary>
/// <param name="Node">Whose.</param>
/// <param name="Roles">What that node is for.</param>
/// <param name="Change">What happened.</param>
/// <param name="At">When it was seen here.</param>
public sealed record MembershipEvent(NodeId Node, IReadOnlyList<string> Roles, NodeChange Change, DateTimeOffset At)
{
    /// <summary>Name of the worker on the node; null for other roles, and where it was not known yet.</summary>
    public string? WorkerId { get; init; }

    /// <summary>For people to read.</summary>
    public override string ToString() =>
        $"{string.Join("+", Roles)} node {(WorkerId is null ? "" : WorkerId + " at ")}{Node} " + Change switch
        {
            NodeChange.Joined => "joins the cluster",
            NodeChange.Up => "is up",
            NodeChange.Leaving => "leaves",
            NodeChange.Exiting => "is leaving",
            NodeChange.Unreachable => "is unreachable",
            NodeChange.Reachable => "is reachable again",
            NodeChange.Downed => "is given up",
            NodeChange.Left => "has left",
            _ => "is removed",
        };
}
