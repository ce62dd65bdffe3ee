// A client of HTTP/2 that keeps none of its rules: frames written out byte by byte (RFC 9113, sections 4 and 6; RFC 7541, section 6.2.2).
using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Mem1.Learner.Tests;

internal sealed class RawHttp2 : IDisposable
{
    public const byte Data = 0, Headers = 1, Priority = 2, Reset = 3, Settings = 4, Ping = 6, GoAway = 7, WindowUpdate = 8, Continuation = 9;
    public const byte EndStream = 1, EndHeaders = 4, Padded = 8;

    public static readonly byte[] Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"u8.ToArray();

    private readonly Socket _socket = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);

    private RawHttp2()
    {
    }

    public static async Task<RawHttp2> ConnectAsync(Uri at, CancellationToken limit)
    {
        var client = new RawHttp2();
        await client._socket.ConnectAsync(new IPEndPoint(IPAddress.Loopback, at.Port), limit);
        return client;
    }

    /// <summary>As a client begins that means well.</summary>
    public static async Task<RawHttp2> GreetAsync(Uri at, CancellationToken limit)
    {
        var client = await ConnectAsync(at, limit);
        await client.SendAsync([.. Preface, .. Frame(Settings, 0, 0, [])], limit);
        return client;
    }

    public static byte[] Frame(byte type, byte flags, int stream, ReadOnlySpan<byte> payload, int? claimed = null)
    {
        var length = claimed ?? payload.Length;
        var frame = new byte[9 + payload.Length];
        (frame[0], frame[1], frame[2], frame[3], frame[4]) = ((byte)(length >> 16), (byte)(length >> 8), (byte)length, type, flags);
        BinaryPrimitives.WriteInt32BigEndian(frame.AsSpan(5), stream);
        payload.CopyTo(frame.AsSpan(9));
        return frame;
    }

    /// <summary>Literal fields, not indexed, not Huffman coded.</summary>
    public static byte[] Fields(params (string Name, string Value)[] fields)
    {
        var bytes = new List<byte>();
        foreach (var (name, value) in fields)
        {
            bytes.Add(0);
            foreach (var text in (string[])[name, value])
            {
                var n = Encoding.ASCII.GetBytes(text);
                if (n.Length < 127)
                {
                    bytes.Add((byte)n.Length);
                }
                else
                {
                    bytes.Add(127);
                    var rest = n.Length - 127;
                    for (; rest >= 128; rest >>= 7) bytes.Add((byte)((rest & 127) | 128));
                    bytes.Add((byte)rest);
                }

                bytes.AddRange(n);
            }
        }

        return [.. bytes];
    }

    public static byte[] Call(string method = "Connect", params (string Name, string Value)[] more) => Fields([
        (":method", "POST"), (":scheme", "http"), (":path", $"/mem1.v1.LearnerService/{method}"), (":authority", "learner"),
        ("content-type", "application/grpc"), ("te", "trailers"), .. more]);

    public async Task SendAsync(byte[] bytes, CancellationToken limit)
    {
        for (var at = 0; at < bytes.Length;) at += await _socket.SendAsync(bytes.AsMemory(at), limit);
    }

    /// <summary>Sends until the other side has had enough, or all is sent. Whether it was taken to the end.</summary>
    public async Task<bool> PourAsync(IEnumerable<byte[]> frames, CancellationToken limit)
    {
        try
        {
            foreach (var frame in frames) await SendAsync(frame, limit);
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }

    /// <summary>Waits until the other side closes; false if it still listens after a time.</summary>
    public async Task<bool> IsClosedAsync(TimeSpan within, CancellationToken limit)
    {
        using var soon = CancellationTokenSource.CreateLinkedTokenSource(limit);
        soon.CancelAfter(within);
        var buffer = new byte[16384];
        try
        {
            while (await _socket.ReceiveAsync(buffer, soon.Token) > 0)
            {
            }

            return true;
        }
        catch (SocketException)
        {
            return true;
        }
        catch (OperationCanceledException) when (!limit.IsCancellationRequested)
        {
            return false;
        }
    }

    public void Dispose() => _socket.Dispose();
}
