// The membership as one node knows it, and how two such views become one. Views carry a vector clock: a later one replaces an earlier
// one, two that diverged are merged. Seen holds who has this very version; it is emptied by every change. Reachability holds who finds
// whom unreachable, with a version per observer, so that an observer's later opinion wins.
using System.Collections.Immutable;
using Akka.Actor;

namespace Akka.Cluster;

internal sealed record Gossip(
    ImmutableSortedDictionary<UniqueAddress, Member> Members,
    ImmutableHashSet<UniqueAddress> Seen,
    Reachability Reachability,
    VectorClock Version)
{
    internal static readonly Gossip Empty = new(
        ImmutableSortedDictionary<UniqueAddress, Member>.Empty, [], Reachability.Empty, VectorClock.Empty);

    /// <summary>Reachability without the opinions of members that are down.</summary>
    internal Reachability Trusted => Reachability.WithoutObservers(
        Members.Values.Where(member => member.Status == MemberStatus.Down).Select(member => member.UniqueAddress));

    internal bool IsUnreachable(Member member) => Reachability.IsUnreachable(member.UniqueAddress);

    // Members of another status are equal, and setting an equal value would change nothing.
    internal Gossip With(Member member) =>
        this with { Members = Members.Remove(member.UniqueAddress).Add(member.UniqueAddress, member) };

    internal Gossip Without(IReadOnlyCollection<UniqueAddress> removed) => new(
        Members.RemoveRange(removed), Seen.Except(removed), Reachability.Without(removed), Version.Without(removed));

    /// <summary>A change made by that node, which nobody else has seen yet.</summary>
    internal Gossip ChangedBy(UniqueAddress node) => this with { Version = Version.Increment(node), Seen = [node] };

    internal Gossip SeenBy(UniqueAddress node) => Seen.Contains(node) ? this : this with { Seen = Seen.Add(node) };

    /// <summary>Whether all who count have seen this version and none of them is unreachable.</summary>
    internal bool HasConverged(UniqueAddress self, ImmutableHashSet<UniqueAddress> exitingConfirmed)
    {
        var trusted = Trusted;
        return Members.Values.All(member =>
            (member.UniqueAddress == self
                || exitingConfirmed.Contains(member.UniqueAddress)
                || member.Status is MemberStatus.Down or MemberStatus.Exiting
                || !trusted.IsUnreachable(member.UniqueAddress))
            && (member.Status is not (MemberStatus.Up or MemberStatus.Leaving)
                || exitingConfirmed.Contains(member.UniqueAddress)
                || Seen.Contains(member.UniqueAddress)));
    }

    /// <summary>The first reachable member, those that are up before those on their way in or out.</summary>
    internal Member Leader(UniqueAddress self, string role = null)
    {
        var trusted = Trusted;
        return Members.Values
            .Where(member => (role is null || member.HasRole(role))
                && (member.UniqueAddress == self || !trusted.IsUnreachable(member.UniqueAddress)))
            .OrderBy(member => member.Status switch
            {
                MemberStatus.Up or MemberStatus.Leaving => 0,
                MemberStatus.WeaklyUp => 1,
                MemberStatus.Joining => 2,
                MemberStatus.Exiting => 3,
                _ => 4,
            })
            .ThenBy(member => member.UniqueAddress)
            .FirstOrDefault();
    }

    internal Gossip Merge(Gossip other)
    {
        var members = ImmutableSortedDictionary.CreateBuilder<UniqueAddress, Member>();
        var gone = new List<UniqueAddress>();
        foreach (var node in Members.Keys.Union(other.Members.Keys).ToArray())
        {
            var (mine, theirs) = (Members.GetValueOrDefault(node), other.Members.GetValueOrDefault(node));
            var only = mine ?? theirs;
            if (mine is not null && theirs is not null)
            {
                members[node] = Member.HighestPriorityOf(mine, theirs);
            }
            else if (only.Status is MemberStatus.Down or MemberStatus.Exiting)
            {
                // The side without it has removed it already.
                gone.Add(node);
            }
            else
            {
                members[node] = only;
            }
        }

        var reachability = Reachability.Merge(members.Keys.ToImmutableHashSet(), other.Reachability);
        return new Gossip(members.ToImmutable(), [], reachability, Version.Merge(other.Version).Without(gone));
    }
}

/// <summary>Who finds whom unreachable. Only the unreachable pairs are kept.</summary>
internal sealed record Reachability(
    ImmutableDictionary<(UniqueAddress Observer, UniqueAddress Subject), bool> Records, ImmutableDictionary<UniqueAddress, long> Versions)
{
    internal static readonly Reachability Empty = new(
        ImmutableDictionary<(UniqueAddress, UniqueAddress), bool>.Empty, ImmutableDictionary<UniqueAddress, long>.Empty);

    internal bool IsUnreachable(UniqueAddress subject) => Records.Keys.Any(pair => pair.Subject == subject);

    internal bool IsUnreachable(UniqueAddress observer, UniqueAddress subject) => Records.ContainsKey((observer, subject));

    /// <summary>Whether that incarnation has ended for certain, so that it cannot become reachable again.</summary>
    internal bool IsTerminated(UniqueAddress observer, UniqueAddress subject) => Records.GetValueOrDefault((observer, subject));

    internal Reachability Unreachable(UniqueAddress observer, UniqueAddress subject, bool terminated = false) =>
        Changed(observer, Records.SetItem((observer, subject), terminated));

    internal Reachability Reachable(UniqueAddress observer, UniqueAddress subject) =>
        Changed(observer, Records.Remove((observer, subject)));

    internal Reachability Without(IReadOnlyCollection<UniqueAddress> nodes) => new(
        Records.RemoveRange(Records.Keys.Where(pair => nodes.Contains(pair.Observer) || nodes.Contains(pair.Subject))),
        Versions.RemoveRange(nodes));

    internal Reachability WithoutObservers(IEnumerable<UniqueAddress> nodes)
    {
        var excluded = nodes.ToHashSet();
        return excluded.Count == 0
            ? this
            : this with { Records = Records.RemoveRange(Records.Keys.Where(pair => excluded.Contains(pair.Observer))) };
    }

    internal Reachability Merge(ImmutableHashSet<UniqueAddress> allowed, Reachability other)
    {
        var records = ImmutableDictionary.CreateBuilder<(UniqueAddress, UniqueAddress), bool>();
        var versions = ImmutableDictionary.CreateBuilder<UniqueAddress, long>();
        foreach (var observer in Versions.Keys.Union(other.Versions.Keys).Where(allowed.Contains))
        {
            var (mine, theirs) = (Versions.GetValueOrDefault(observer), other.Versions.GetValueOrDefault(observer));
            versions[observer] = Math.Max(mine, theirs);
            foreach (var (pair, terminated) in (mine > theirs ? this : other).Records)
            {
                if (pair.Observer == observer && allowed.Contains(pair.Subject))
                {
                    records[pair] = terminated;
                }
            }
        }

        return new Reachability(records.ToImmutable(), versions.ToImmutable());
    }

    private Reachability Changed(
        UniqueAddress observer, ImmutableDictionary<(UniqueAddress Observer, UniqueAddress Subject), bool> records) =>
        new(records, Versions.SetItem(observer, Versions.GetValueOrDefault(observer) + 1));
}

/// <summary>How many changes each node has made to a view.</summary>
internal sealed record VectorClock(ImmutableSortedDictionary<UniqueAddress, long> Counts)
{
    internal enum Ordering
    {
        Same,
        Before,
        After,
        Concurrent,
    }

    internal static VectorClock Empty { get; } = new(ImmutableSortedDictionary<UniqueAddress, long>.Empty);

    internal VectorClock Increment(UniqueAddress node) => new(Counts.SetItem(node, Counts.GetValueOrDefault(node) + 1));

    internal VectorClock Without(IEnumerable<UniqueAddress> nodes) => new(Counts.RemoveRange(nodes));

    internal VectorClock Merge(VectorClock other)
    {
        var merged = Counts.ToBuilder();
        foreach (var (node, count) in other.Counts)
        {
            merged[node] = Math.Max(count, Counts.GetValueOrDefault(node));
        }

        return new VectorClock(merged.ToImmutable());
    }

    internal Ordering CompareTo(VectorClock other)
    {
        var (ahead, behind) = (false, false);
        foreach (var node in Counts.Keys.Union(other.Counts.Keys))
        {
            var (mine, theirs) = (Counts.GetValueOrDefault(node), other.Counts.GetValueOrDefault(node));
            ahead |= mine > theirs;
            behind |= mine < theirs;
        }

        return (ahead, behind) switch
        {
            (false, false) => Ordering.Same,
            (true, false) => Ordering.After,
            (false, true) => Ordering.Before,
            _ => Ordering.Concurrent,
        };
    }
}
