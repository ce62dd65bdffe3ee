// What the cluster daemons of two nodes say to each other, in types that travel as JSON. A node is written as address, '#' and uid.
using System.Collections.Immutable;
using System.Globalization;
using Akka.Actor;
using Akka.Event;

namespace Akka.Cluster;

internal static class ClusterMessages
{
    internal static string Key(UniqueAddress node) => string.Create(CultureInfo.InvariantCulture, $"{node.Address}#{node.Uid}");

    internal static UniqueAddress Node(string key)
    {
        var split = key.LastIndexOf('#');
        return new UniqueAddress(Address.Parse(key[..split]), int.Parse(key.AsSpan(split + 1), CultureInfo.InvariantCulture));
    }

    internal static WireMember Pack(Member member) =>
        new(Key(member.UniqueAddress), member.Status, [.. member.Roles], member.UpNumber);

    internal static Member Unpack(WireMember member) => new(Node(member.Node), member.Status, [.. member.Roles], member.UpNumber);

    internal static WireGossip Pack(Gossip gossip) => new(
        [.. gossip.Members.Values.Select(Pack)],
        [.. gossip.Seen.Select(Key)],
        [.. gossip.Reachability.Records.Select(record => new WireRecord(Key(record.Key.Observer), Key(record.Key.Subject), record.Value))],
        gossip.Reachability.Versions.ToDictionary(entry => Key(entry.Key), entry => entry.Value),
        gossip.Version.Counts.ToDictionary(entry => Key(entry.Key), entry => entry.Value));

    internal static Gossip Unpack(WireGossip gossip) => new(
        gossip.Members.Select(Unpack).ToImmutableSortedDictionary(member => member.UniqueAddress, member => member),
        [.. gossip.Seen.Select(Node)],
        new Reachability(
            gossip.Unreachable.ToImmutableDictionary(record => (Node(record.Observer), Node(record.Subject)), record => record.Terminated),
            gossip.ReachabilityVersions.ToImmutableDictionary(entry => Node(entry.Key), entry => entry.Value)),
        new VectorClock(gossip.Version.ToImmutableSortedDictionary(entry => Node(entry.Key), entry => entry.Value)));

    internal sealed record WireMember(string Node, MemberStatus Status, string[] Roles, int UpNumber);

    internal sealed record WireRecord(string Observer, string Subject, bool Terminated);

    internal sealed record WireGossip(
        WireMember[] Members,
        string[] Seen,
        WireRecord[] Unreachable,
        Dictionary<string, long> ReachabilityVersions,
        Dictionary<string, long> Version);

    /// <summary>Is that address in a cluster?</summary>
    internal sealed record InitJoin : IDeadLetterSuppression;

    internal sealed record InitJoinAck(string Address) : IDeadLetterSuppression;

    internal sealed record InitJoinNack(string Address) : IDeadLetterSuppression;

    internal sealed record JoinRequest(WireMember Member) : IDeadLetterSuppression;

    internal sealed record Welcome(string From, WireGossip Gossip) : IDeadLetterSuppression;

    internal sealed record GossipEnvelope(string From, string To, WireGossip Gossip) : IDeadLetterSuppression;

    internal sealed record ExitingConfirmed(string Node) : IDeadLetterSuppression;

    internal sealed record Heartbeat(string From) : IDeadLetterSuppression;

    internal sealed record HeartbeatReply(string From) : IDeadLetterSuppression;
}
