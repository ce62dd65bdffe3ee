// One node of a cluster as its gossip describes it. Equal members are the same incarnation, whatever their status; the order of members
// is that of host, port and uid.
using System.Collections.Immutable;
using Akka.Actor;

namespace Akka.Cluster;

public enum MemberStatus
{
    Joining = 0,
    Up = 1,
    Leaving = 2,
    Exiting = 3,
    Down = 4,
    Removed = 5,
    WeaklyUp = 6,
}

public class UniqueAddress : IComparable<UniqueAddress>, IEquatable<UniqueAddress>, IComparable
{
    public UniqueAddress(Address address, int uid)
    {
        Address = address;
        Uid = uid;
    }

    public Address Address { get; }

    public int Uid { get; }

    public static bool operator ==(UniqueAddress left, UniqueAddress right) => left is null ? right is null : left.Equals(right);

    public static bool operator !=(UniqueAddress left, UniqueAddress right) => !(left == right);

    public int CompareTo(UniqueAddress uniqueAddress)
    {
        if (uniqueAddress is null)
        {
            return 1;
        }

        var order = Member.AddressOrdering.Compare(Address, uniqueAddress.Address);
        return order != 0 ? order : Uid.CompareTo(uniqueAddress.Uid);
    }

    public int CompareTo(object obj) => CompareTo((UniqueAddress)obj);

    public bool Equals(UniqueAddress other) => other is not null && Uid == other.Uid && Address == other.Address;

    public override bool Equals(object obj) => obj is UniqueAddress other && Equals(other);

    public override int GetHashCode() => Uid;

    public override string ToString() => $"UniqueAddress: ({Address}, {Uid})";
}

public class Member : IComparable<Member>, IComparable
{
    /// <summary>By host, then by port.</summary>
    public static readonly IComparer<Address> AddressOrdering = Comparer<Address>.Create((a, b) =>
    {
        var order = string.CompareOrdinal(a.Host ?? "", b.Host ?? "");
        return order != 0 ? order : (a.Port ?? 0).CompareTo(b.Port ?? 0);
    });

    /// <summary>The oldest first.</summary>
    public static readonly IComparer<Member> AgeOrdering =
        Comparer<Member>.Create((a, b) => a.Equals(b) ? 0 : a.IsOlderThan(b) ? -1 : 1);

    internal Member(UniqueAddress uniqueAddress, MemberStatus status, ImmutableHashSet<string> roles, int upNumber = int.MaxValue)
    {
        UniqueAddress = uniqueAddress;
        Status = status;
        Roles = roles;
        UpNumber = upNumber;
    }

    public UniqueAddress UniqueAddress { get; }

    public MemberStatus Status { get; }

    public ImmutableHashSet<string> Roles { get; }

    public Address Address => UniqueAddress.Address;

    /// <summary>Counts up in the order members became Up; the highest value before.</summary>
    internal int UpNumber { get; }

    public bool HasRole(string role) => Roles.Contains(role);

    public bool IsOlderThan(Member other) =>
        UpNumber == other.UpNumber ? AddressOrdering.Compare(Address, other.Address) < 0 : UpNumber < other.UpNumber;

    public int CompareTo(Member other) => UniqueAddress.CompareTo(other?.UniqueAddress);

    public int CompareTo(object obj) => CompareTo((Member)obj);

    public override bool Equals(object obj) => obj is Member other && UniqueAddress == other.UniqueAddress;

    public override int GetHashCode() => UniqueAddress.GetHashCode();

    public override string ToString() =>
        $"Member(address = {Address}, Uid={UniqueAddress.Uid} status = {Status}, role=[{string.Join(",", Roles)}])";

    internal Member Copy(MemberStatus status) =>
        Allowed(Status, status)
            ? new Member(UniqueAddress, status, Roles, UpNumber)
            : throw new InvalidOperationException($"Invalid member status transition {Status} -> {status}");

    internal Member CopyUp(int upNumber) => new(UniqueAddress, MemberStatus.Up, Roles, upNumber);

    /// <summary>Of two descriptions of one member, the one further on its way.</summary>
    internal static Member HighestPriorityOf(Member a, Member b) => a.Status == b.Status
        ? a.IsOlderThan(b) ? a : b
        : Array.IndexOf(s_priority, a.Status) < Array.IndexOf(s_priority, b.Status) ? a : b;

    private static readonly MemberStatus[] s_priority =
    [
        MemberStatus.Removed, MemberStatus.Down, MemberStatus.Exiting, MemberStatus.Leaving, MemberStatus.Up, MemberStatus.WeaklyUp,
        MemberStatus.Joining,
    ];

    private static bool Allowed(MemberStatus from, MemberStatus to) => from == to || from switch
    {
        MemberStatus.Joining =>
            to is MemberStatus.WeaklyUp or MemberStatus.Up or MemberStatus.Leaving or MemberStatus.Down or MemberStatus.Removed,
        MemberStatus.WeaklyUp => to is MemberStatus.Up or MemberStatus.Leaving or MemberStatus.Down or MemberStatus.Removed,
        MemberStatus.Up => to is MemberStatus.Leaving or MemberStatus.Down or MemberStatus.Removed,
        MemberStatus.Leaving => to is MemberStatus.Exiting or MemberStatus.Down or MemberStatus.Removed,
        MemberStatus.Exiting => to is MemberStatus.Removed or MemberStatus.Down,
        MemberStatus.Down => to is MemberStatus.Removed,
        _ => false,
    };
}
