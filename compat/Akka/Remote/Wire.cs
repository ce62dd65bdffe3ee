// Frames between nodes: a length (4 bytes, little endian), a kind (1 byte), a body. A connection carries messages one way, from the
// side that opened it; the other way it carries only the answer to the handshake, acknowledgements and heartbeat replies.
using System.Buffers.Binary;
using System.Text;
using Akka.Actor;

namespace Akka.Remote;

internal enum FrameKind : byte
{
    /// <summary>From the opener, first: version, its address, its uid, the address it wants.</summary>
    Hello = 1,

    /// <summary>The answer: the uid of this side.</summary>
    Welcome,

    /// <summary>The other answer: whether for quarantine, and the reason as text.</summary>
    Refused,

    /// <summary>Recipient, sender, message.</summary>
    Message,

    /// <summary>Sequence number, kind, watchee (or recipient), watcher, two flags.</summary>
    System,

    /// <summary>All system messages up to this number are handled.</summary>
    Acknowledge,

    Heartbeat,

    HeartbeatReply,

    /// <summary>The sender ends in an orderly way.</summary>
    Goodbye,
}

internal enum SystemKind : byte
{
    Watch = 1,
    Unwatch,
    DeathWatchNotification,
    Terminate,
}

/// <summary>The connection was lost, refused, or spoke something else.</summary>
internal sealed class AssociationException(string message, Exception cause = null) : AkkaException(message, cause);

internal static class Wire
{
    internal const byte Version = 1;

    /// <summary>Room beside the payload for paths and numbers, and enough for a handshake.</summary>
    internal const int EnvelopeAllowance = 16 * 1024;

    private const int HeaderLength = 4;

    /// <summary>One whole frame.</summary>
    internal static byte[] Frame(FrameKind kind, Action<BinaryWriter> body = null)
    {
        using var stream = new MemoryStream();
        using var writer = new BinaryWriter(stream, Encoding.UTF8);
        writer.Write(0);
        writer.Write((byte)kind);
        body?.Invoke(writer);
        writer.Flush();
        var frame = stream.ToArray();
        BinaryPrimitives.WriteInt32LittleEndian(frame, frame.Length - HeaderLength);
        return frame;
    }

    /// <summary>The next frame without its length; null at the end of the stream.</summary>
    /// <param name="stream">A connection.</param>
    /// <param name="limit">The longest frame that is kept, in bytes; a longer one is read past.</param>
    /// <param name="tooLong">Told the length of one that was read past.</param>
    /// <param name="cancellation">Ends the wait.</param>
    internal static async Task<byte[]> ReadAsync(Stream stream, int limit, Action<int> tooLong, CancellationToken cancellation)
    {
        var header = new byte[HeaderLength];
        while (true)
        {
            var got = await stream.ReadAtLeastAsync(header, HeaderLength, throwOnEndOfStream: false, cancellation).ConfigureAwait(false);
            if (got == 0)
            {
                return null;
            }

            if (got < HeaderLength)
            {
                throw new AssociationException("The connection broke inside a frame.");
            }

            var length = BinaryPrimitives.ReadInt32LittleEndian(header);
            if (length <= 0)
            {
                throw new AssociationException($"A frame of {length} bytes is not possible.");
            }

            if (length <= limit)
            {
                var frame = new byte[length];
                await stream.ReadExactlyAsync(frame, cancellation).ConfigureAwait(false);
                return frame;
            }

            tooLong(length);
            await SkipAsync(stream, length, cancellation).ConfigureAwait(false);
        }
    }

    /// <summary>A reader over what follows the kind.</summary>
    internal static BinaryReader BodyOf(byte[] frame) => new(new MemoryStream(frame, 1, frame.Length - 1, writable: false), Encoding.UTF8);

    private static async Task SkipAsync(Stream stream, int length, CancellationToken cancellation)
    {
        var scratch = new byte[Math.Min(length, EnvelopeAllowance)];
        while (length > 0)
        {
            var part = scratch.AsMemory(0, Math.Min(length, scratch.Length));
            await stream.ReadExactlyAsync(part, cancellation).ConfigureAwait(false);
            length -= part.Length;
        }
    }
}
