// Where an actor system lives. Host and port are both absent (local scope) or both given; the host is kept in lower case, so
// equality of addresses is equality of the four parts.
using System.Globalization;

namespace Akka.Actor;

public sealed class Address : IEquatable<Address>, IComparable<Address>
{
    private string _text;

    public Address(string protocol, string system, string host = null, int? port = null)
    {
        Protocol = protocol;
        System = system;
        Host = host?.ToLowerInvariant();
        Port = port;
    }

    public string Protocol { get; }

    public string System { get; }

    public string Host { get; }

    public int? Port { get; }

    public bool HasLocalScope => string.IsNullOrEmpty(Host);

    public bool HasGlobalScope => !HasLocalScope;

    public static bool operator ==(Address left, Address right) => left is null ? right is null : left.Equals(right);

    public static bool operator !=(Address left, Address right) => !(left == right);

    public static Address Parse(string address) =>
        TryParse(address, out var parsed) ? parsed : throw new UriFormatException($"Can't parse [{address}] as an actor system address.");

    public static bool TryParse(string path, out Address address) => TryParse(path, out address, out _);

    public static bool TryParse(string path, out Address address, out string absolutUri)
    {
        address = null;
        absolutUri = null;
        if (string.IsNullOrEmpty(path))
        {
            return false;
        }

        var schemeEnd = path.IndexOf("://", StringComparison.Ordinal);
        if (schemeEnd <= 0)
        {
            return false;
        }

        var protocol = path[..schemeEnd];
        var rest = path[(schemeEnd + 3)..];
        var slash = rest.IndexOf('/', StringComparison.Ordinal);
        var authority = slash < 0 ? rest : rest[..slash];
        absolutUri = slash < 0 ? "/" : rest[slash..];
        var at = authority.IndexOf('@', StringComparison.Ordinal);
        if (at < 0)
        {
            if (authority.Length == 0 || authority.Contains(':', StringComparison.Ordinal) || authority.Any(char.IsWhiteSpace))
            {
                return false;
            }

            address = new Address(protocol, authority);
            return true;
        }

        var colon = authority.LastIndexOf(':');
        if (at == 0 || colon < at + 2 || !int.TryParse(
            authority.AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture, out var port))
        {
            return false;
        }

        address = new Address(protocol, authority[..at], authority[(at + 1)..colon], port);
        return true;
    }

    public Address WithProtocol(string protocol) => new(protocol, System, Host, Port);

    public string HostPort() => ToString()[(Protocol.Length + 3)..];

    public int CompareTo(Address other)
    {
        if (other is null)
        {
            return 1;
        }

        var order = string.CompareOrdinal(Protocol, other.Protocol);
        order = order != 0 ? order : string.CompareOrdinal(System, other.System);
        order = order != 0 ? order : string.CompareOrdinal(Host ?? "", other.Host ?? "");
        return order != 0 ? order : (Port ?? 0).CompareTo(other.Port ?? 0);
    }

    public bool Equals(Address other) =>
        other is not null
        && (ReferenceEquals(this, other)
            || (Port == other.Port && Host == other.Host && System == other.System && Protocol == other.Protocol));

    public override bool Equals(object obj) => obj is Address other && Equals(other);

    public override int GetHashCode() => HashCode.Combine(Protocol, System, Host, Port);

    public override string ToString() => _text ??= HasLocalScope ? $"{Protocol}://{System}" : $"{Protocol}://{System}@{Host}:{Port}";
}
