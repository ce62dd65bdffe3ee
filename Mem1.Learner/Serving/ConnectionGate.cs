// Keeps: no address holds more connections than the bound; what it holds is given back when they end, however they end.
using System.Collections.Concurrent;
using System.Net;
using Microsoft.AspNetCore.Connections;

namespace Mem1.Learner;

/// <summary>Bounds the connections of one address, so that no host takes the places of all others.</summary>
/// <param name="most">Of one address.</param>
internal sealed class ConnectionGate(int most)
{
    private readonly ConcurrentDictionary<IPAddress, int> _open = [];

    /// <summary>Closes a connection above the bound before a byte of it is read.</summary>
    public ConnectionDelegate Middleware(ConnectionDelegate next) => async connection =>
    {
        var from = (connection.RemoteEndPoint as IPEndPoint)?.Address ?? IPAddress.None;
        var held = _open.AddOrUpdate(from, 1, static (_, n) => n + 1);
        try
        {
            if (held <= most) await next(connection).ConfigureAwait(false);
            else connection.Abort();
        }
        finally
        {
            Leave(from);
        }
    };

    private void Leave(IPAddress from)
    {
        while (_open.TryGetValue(from, out var held))
        {
            if (held > 1 ? _open.TryUpdate(from, held - 1, held) : _open.TryRemove(KeyValuePair.Create(from, held))) return;
        }
    }
}
