namespace Mem1.Protocol;

/// <summary>Which protocol this release speaks (docs/protocol.md).</summary>
public static class ProtocolVersion
{
    /// <summary>Peers of another one are refused.</summary>
    public const int Major = 1;

    /// <summary>
    /// Grows when fields are added that peers can do without. 1: <c>TaskLease.traceparent</c>, <c>protocol_minor</c>, weights
    /// on connections of their own.
    /// </summary>
    public const int Minor = 1;
}
