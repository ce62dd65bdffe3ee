// Keeps: the bytes are read whole and nothing else is done with them: what the machine's loopback carries at most.
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;

namespace Mem1.Cli.Bench;

/// <summary>Bytes over plain loopback sockets in this process: what everything else is a share of.</summary>
internal static class RawTcp
{
    // Large enough that system calls cost little; larger ones were no faster.
    private const int Piece = 256 * 1024;

    /// <summary>Sends the same bytes to several receivers at once, each over a connection of its own.</summary>
    /// <returns>Seconds until the last has them all.</returns>
    public static async Task<double> SendAsync(int receivers, long bytesEach, byte[][] destinations, CancellationToken cancellationToken)
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        var address = (IPEndPoint)listener.LocalEndpoint;
        var watch = Stopwatch.StartNew();
        var receiving = Enumerable.Range(0, receivers).Select(i => Task.Run(
            async () =>
            {
                using var socket = new Socket(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
                await socket.ConnectAsync(address, cancellationToken).ConfigureAwait(false);
                var into = destinations[i];
                for (long got = 0; got < bytesEach;)
                {
                    var at = (int)(got % into.Length);
                    var n = await socket.ReceiveAsync(
                        into.AsMemory(at, Math.Min(Piece, into.Length - at)), cancellationToken).ConfigureAwait(false);
                    if (n == 0) throw new IOException("A loopback connection ended early.");
                    got += n;
                }
            },
            cancellationToken)).ToList();
        var sending = Enumerable.Range(0, receivers).Select(_ => Task.Run(
            async () =>
            {
                using var socket = await listener.AcceptSocketAsync(cancellationToken).ConfigureAwait(false);
                var from = new byte[Piece];
                for (var left = bytesEach; left > 0;)
                    left -= await socket.SendAsync(from.AsMemory(0, (int)Math.Min(Piece, left)), cancellationToken).ConfigureAwait(false);
            },
            cancellationToken)).ToList();
        await Task.WhenAll([.. receiving, .. sending]).ConfigureAwait(false);
        return watch.Elapsed.TotalSeconds;
    }
}
