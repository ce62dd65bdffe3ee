// Length-prefixed messages: one flag byte (1 = compressed), four bytes big-endian length, payload.
// Invariants: a length is checked against the limit before memory is taken for it; header and payload leave in one piece; a rented array
// goes back exactly once.

using System.Buffers;
using System.Buffers.Binary;
using System.IO.Compression;
using Grpc.Core;

namespace Grpc.Wire;

internal static class Framing
{
    public const int HeaderSize = 5;

    public static void WriteHeader(Span<byte> header, bool compressed, int length)
    {
        header[0] = compressed ? (byte)1 : (byte)0;
        BinaryPrimitives.WriteInt32BigEndian(header[1..], length);
    }

    /// <summary>Reads flag and length of a message about to be received, or throws the status that answers a bad one.</summary>
    public static (bool Compressed, int Length) ReadHeader(ReadOnlySpan<byte> header, int? maxSize)
    {
        if (header[0] > 1)
            throw Fail(StatusCode.Internal, $"Unexpected compressed flag value {header[0]} in message header.");
        var length = BinaryPrimitives.ReadUInt32BigEndian(header[1..]);
        if (length > (uint)(maxSize ?? int.MaxValue))
            throw ReceivedTooBig();
        return (header[0] == 1, (int)length);
    }

    public static void CheckSendSize(long size, int? maxSize)
    {
        if (size > maxSize)
            throw Fail(StatusCode.ResourceExhausted, "Sending message exceeds the maximum configured message size.");
    }

    public static RpcException ReceivedTooBig() =>
        Fail(StatusCode.ResourceExhausted, "Received message exceeds the maximum configured message size.");

    public static RpcException Fail(StatusCode code, string detail, Exception? cause = null) => new(new Status(code, detail, cause));
}

/// <summary>Serialises one message at a time, framed, into a rented array.</summary>
internal sealed class MessageSerializer : SerializationContext
{
    private readonly int? _maxSize;
    private PooledBufferWriter _buffer = new();
    private bool _completed;

    public MessageSerializer(int? maxSize)
    {
        _maxSize = maxSize;
    }

    /// <summary>The framed message; valid until <see cref="Release"/>.</summary>
    public ReadOnlyMemory<byte> Serialize<T>(
        Marshaller<T> marshaller, T message, MessageEncoding? encoding, CompressionLevel level = CompressionLevel.Fastest)
    {
        Release();
        _completed = false;
        marshaller.ContextualSerializer(message, this);
        if (!_completed)
            throw new InvalidOperationException("The serialiser did not complete the message.");
        if (_buffer.WrittenCount == 0)
            ReserveHeader(0);
        var length = _buffer.WrittenCount - Framing.HeaderSize;
        Framing.CheckSendSize(length, _maxSize);
        if (encoding is not null)
        {
            var compressed = new PooledBufferWriter();
            compressed.Reserve(Framing.HeaderSize + (length / 2) + 64);
            compressed.Advance(Framing.HeaderSize);
            encoding.Compress(_buffer.WrittenMemory[Framing.HeaderSize..], compressed, level);
            _buffer.Release();
            _buffer = compressed;
        }
        Framing.WriteHeader(_buffer.WrittenSpan, encoding is not null, _buffer.WrittenCount - Framing.HeaderSize);
        return _buffer.WrittenMemory;
    }

    public void Release() => _buffer.Release();

    public override void SetPayloadLength(int payloadLength)
    {
        Framing.CheckSendSize(payloadLength, _maxSize);
        if (_buffer.WrittenCount == 0)
            ReserveHeader(payloadLength);
    }

    public override IBufferWriter<byte> GetBufferWriter()
    {
        if (_buffer.WrittenCount == 0)
            ReserveHeader(0);
        return _buffer;
    }

    public override void Complete() => _completed = true;

    public override void Complete(byte[] payload)
    {
        Framing.CheckSendSize(payload.Length, _maxSize);
        ReserveHeader(payload.Length);
        payload.CopyTo(_buffer.GetSpan(payload.Length));
        _buffer.Advance(payload.Length);
        _completed = true;
    }

    private void ReserveHeader(int payloadLength)
    {
        if (payloadLength > Array.MaxLength - Framing.HeaderSize)
            Framing.CheckSendSize(payloadLength, Array.MaxLength - Framing.HeaderSize);
        _buffer.Reserve(Framing.HeaderSize + payloadLength);
        _buffer.Advance(Framing.HeaderSize);
    }
}

/// <summary>Hands received bytes to a deserialiser; inflates them first if they were compressed.</summary>
internal sealed class MessageDeserializer : DeserializationContext
{
    private ReadOnlySequence<byte> _payload;

    public override int PayloadLength => (int)_payload.Length;

    public override ReadOnlySequence<byte> PayloadAsReadOnlySequence() => _payload;

    public override byte[] PayloadAsNewBuffer() => _payload.ToArray();

    /// <param name="marshaller">Of the message.</param>
    /// <param name="payload">Without the header.</param>
    /// <param name="encoding">Null for a message that is not compressed.</param>
    /// <param name="maxSize">Bounds the inflated size too.</param>
    public T Deserialize<T>(Marshaller<T> marshaller, in ReadOnlySequence<byte> payload, MessageEncoding? encoding, int? maxSize)
    {
        var inflated = encoding?.Decompress(payload, maxSize);
        try
        {
            _payload = inflated is null ? payload : new ReadOnlySequence<byte>(inflated.WrittenMemory);
            return marshaller.ContextualDeserializer(this);
        }
        catch (Exception e) when (e is not RpcException)
        {
            throw Framing.Fail(StatusCode.Internal, $"Failed to deserialize message. {e.GetType().Name}: {e.Message}", e);
        }
        finally
        {
            _payload = default;
            inflated?.Release();
        }
    }
}
