// The place of an actor in its tree. A path is a root plus names; equality and hash ignore the uid, which tells incarnations
// of one name apart and is compared by references (see IActorRef.cs), not by paths.
using System.Globalization;

namespace Akka.Actor;

public abstract class ActorPath : IEquatable<ActorPath>, IComparable<ActorPath>
{
    private const string Symbols = "\"-_.*$+:@&=,!~';()";

    private string _withoutAddress;
    private string _text;
    private int _hash;

    private protected ActorPath(ActorPath parent, Address address, string name, long uid)
    {
        ParentOrNull = parent;
        Address = address;
        Name = name;
        Uid = uid;
        Depth = parent is null ? 0 : parent.Depth + 1;
    }

    public string Name { get; }

    public Address Address { get; }

    public long Uid { get; }

    public int Depth { get; }

    public ActorPath Parent => ParentOrNull ?? this;

    public ActorPath Root
    {
        get
        {
            var path = this;
            while (path.ParentOrNull is { } parent)
            {
                path = parent;
            }

            return path;
        }
    }

    public IReadOnlyList<string> Elements
    {
        get
        {
            var names = new string[Depth];
            for (var path = this; path.ParentOrNull is not null; path = path.ParentOrNull)
            {
                names[path.Depth - 1] = path.Name;
            }

            return names;
        }
    }

    internal ActorPath ParentOrNull { get; }

    public static ActorPath operator /(ActorPath path, string name) => path.Child(name);

    public static ActorPath operator /(ActorPath path, IEnumerable<string> name) => name.Aggregate(path, (p, n) => p.Child(n));

    public static bool operator ==(ActorPath left, ActorPath right) => left is null ? right is null : left.Equals(right);

    public static bool operator !=(ActorPath left, ActorPath right) => !(left == right);

    public static bool IsValidPathElement(string s)
    {
        if (string.IsNullOrEmpty(s) || s[0] == '$')
        {
            return false;
        }

        for (var i = 0; i < s.Length; i++)
        {
            if (s[i] == '%' && i + 2 < s.Length && char.IsAsciiHexDigit(s[i + 1]) && char.IsAsciiHexDigit(s[i + 2]))
            {
                i += 2;
            }
            else if (!char.IsAsciiLetterOrDigit(s[i]) && !Symbols.Contains(s[i], StringComparison.Ordinal))
            {
                return false;
            }
        }

        return true;
    }

    public static ActorPath Parse(string path) =>
        TryParse(path, out var parsed) ? parsed : throw new UriFormatException($"Can not parse an ActorPath: {path}");

    public static bool TryParse(string path, out ActorPath actorPath)
    {
        actorPath = null;
        if (!Address.TryParse(path, out var address, out var tail))
        {
            return false;
        }

        long uid = 0;
        var hash = tail.LastIndexOf('#');
        if (hash >= 0)
        {
            if (!long.TryParse(tail.AsSpan(hash + 1), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out uid))
            {
                return false;
            }

            tail = tail[..hash];
        }

        actorPath = new RootActorPath(address);
        foreach (var name in tail.Split('/', StringSplitOptions.RemoveEmptyEntries))
        {
            actorPath = new ChildActorPath(actorPath, name, 0);
        }

        actorPath = actorPath.WithUid(uid);
        return true;
    }

    public ActorPath Child(string childName) => new ChildActorPath(this, childName, 0);

    public ActorPath WithUid(long uid) => uid == Uid || ParentOrNull is null ? this : new ChildActorPath(ParentOrNull, Name, uid);

    public string ToStringWithoutAddress() => _withoutAddress ??= Name.Length == 0 && Depth == 0 ? "/" : "/" + string.Join('/', Elements);

    public string ToStringWithUid() => WithUidSuffix(ToString());

    public string ToStringWithAddress() => ToString();

    public string ToStringWithAddress(Address address) =>
        (Address.HasLocalScope ? address : Address) + ToStringWithoutAddress();

    public string ToSerializationFormat() => WithUidSuffix(ToString());

    public string ToSerializationFormatWithAddress(Address address) => WithUidSuffix(ToStringWithAddress(address));

    public bool Equals(ActorPath other)
    {
        if (other is null || Depth != other.Depth)
        {
            return false;
        }

        ActorPath a = this, b = other;
        while (!ReferenceEquals(a, b))
        {
            if (a.Name != b.Name)
            {
                return false;
            }

            if (a.ParentOrNull is null)
            {
                return a.Address == b.Address;
            }

            a = a.ParentOrNull;
            b = b.ParentOrNull;
        }

        return true;
    }

    public int CompareTo(ActorPath other) => other is null ? 1 : string.CompareOrdinal(ToString(), other.ToString());

    public override bool Equals(object obj) => obj is ActorPath other && Equals(other);

    public override int GetHashCode()
    {
        if (_hash == 0)
        {
            var hash = ParentOrNull is null ? Address.GetHashCode() : HashCode.Combine(ParentOrNull.GetHashCode(), Name);
            _hash = hash == 0 ? 1 : hash;
        }

        return _hash;
    }

    public override string ToString() => _text ??= Address + ToStringWithoutAddress();

    private string WithUidSuffix(string text) => Uid == 0 ? text : text + "#" + Uid.ToString(CultureInfo.InvariantCulture);
}

public sealed class RootActorPath : ActorPath
{
    public RootActorPath(Address address, string name = "")
        : base(null, address, name, 0)
    {
    }
}

public sealed class ChildActorPath : ActorPath
{
    public ChildActorPath(ActorPath parentPath, string name, long uid)
        : base(parentPath, parentPath.Address, name, uid)
    {
    }
}
