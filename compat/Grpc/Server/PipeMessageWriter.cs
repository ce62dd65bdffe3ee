// Writes framed messages into the response pipe. Invariant: a message of declared length that is not compressed is serialised straight into
// the pipe's memory; every other one is framed in a rented array first.

using System.Buffers;
using System.IO.Compression;
using System.IO.Pipelines;
using Grpc.Core;
using Grpc.Wire;

namespace Grpc.AspNetCore.Server;

internal sealed class PipeMessageWriter(PipeWriter pipe, int? maxSize) : SerializationContext
{
    private MessageSerializer? _framed;
    private PooledBufferWriter? _undeclared;
    private int? _length;
    private bool _completed;

    /// <summary>The last message failed after part of it had gone into the pipe.</summary>
    public bool LeftIncomplete { get; private set; }

    /// <summary>Returns the number of bytes written, header included.</summary>
    public int Write<T>(Marshaller<T> marshaller, T message, MessageEncoding? encoding, CompressionLevel level)
    {
        if (encoding is not null)
        {
            _framed ??= new MessageSerializer(maxSize);
            try
            {
                var bytes = _framed.Serialize(marshaller, message, encoding, level);
                pipe.Write(bytes.Span);
                return bytes.Length;
            }
            finally
            {
                _framed.Release();
            }
        }
        (_length, _completed) = (null, false);
        try
        {
            marshaller.ContextualSerializer(message, this);
            if (!_completed)
                throw new InvalidOperationException("The serialiser did not complete the message.");
            LeftIncomplete = false;
            return Framing.HeaderSize + _length!.Value;
        }
        finally
        {
            _undeclared?.Release();
        }
    }

    public override void SetPayloadLength(int payloadLength)
    {
        Framing.CheckSendSize(payloadLength, maxSize);
        _length = payloadLength;
    }

    public override IBufferWriter<byte> GetBufferWriter()
    {
        if (LeftIncomplete)
            return pipe;
        if (_length is not { } length)
            return _undeclared ??= new PooledBufferWriter();
        WriteHeader(length);
        LeftIncomplete = true;
        return pipe;
    }

    public override void Complete()
    {
        if (_length is null)
        {
            // Nothing or an undeclared length was written.
            Complete(_undeclared is null ? default : _undeclared.WrittenSpan);
            return;
        }
        if (!LeftIncomplete)
            WriteHeader(_length.Value);
        _completed = true;
    }

    public override void Complete(byte[] payload) => Complete(payload.AsSpan());

    private void Complete(ReadOnlySpan<byte> payload)
    {
        SetPayloadLength(payload.Length);
        WriteHeader(payload.Length);
        pipe.Write(payload);
        _completed = true;
    }

    private void WriteHeader(int length)
    {
        Framing.WriteHeader(pipe.GetSpan(Framing.HeaderSize), compressed: false, length);
        pipe.Advance(Framing.HeaderSize);
    }
}
