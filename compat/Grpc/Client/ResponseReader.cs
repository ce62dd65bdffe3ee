// Cuts a response body into messages. Invariants: bytes pass through one rented buffer, deserialised in place; the buffer never grows past
// what has really arrived by more than one step, whatever length a header claims.

using System.Buffers;
using Grpc.Core;
using Grpc.Wire;

namespace Grpc.Net.Client;

internal sealed class ResponseReader
{
    // HttpClient hands out at most one 16 KiB DATA frame's worth per read in practice; a frame plus its header fits.
    private const int SmallBuffer = 16 * 1024 + 512;

    // Beyond this an announced message grows the buffer by doubling as its bytes arrive, so that a header alone costs no memory.
    private const int TrustedLength = 4 * 1024 * 1024;

    private readonly Stream _stream;
    private readonly MessageDeserializer _deserializer = new();
    private readonly string? _encodingName;
    private readonly int? _maxSize;
    private byte[] _buffer = [];
    private int _start;
    private int _end;

    public ResponseReader(Stream stream, string? encodingName, int? maxSize)
    {
        _stream = stream;
        _encodingName = encodingName;
        _maxSize = maxSize;
    }

    /// <summary>The next message, or null at the end of the body.</summary>
    public async ValueTask<T?> ReadAsync<T>(Marshaller<T> marshaller, CancellationToken cancellationToken)
        where T : class
    {
        if (!await FillAsync(Framing.HeaderSize, cancellationToken).ConfigureAwait(false))
        {
            Release();
            return null;
        }
        var (compressed, length) = Framing.ReadHeader(_buffer.AsSpan(_start, Framing.HeaderSize), _maxSize);
        var encoding = compressed ? FindEncoding() : null;
        var total = checked(Framing.HeaderSize + length);
        await FillAsync(total, cancellationToken).ConfigureAwait(false);
        var payload = new ReadOnlySequence<byte>(_buffer, _start + Framing.HeaderSize, length);
        var message = _deserializer.Deserialize(marshaller, payload, encoding, _maxSize);
        _start += total;
        if (_start == _end && _buffer.Length > 4 * SmallBuffer)
            Release();
        return message;
    }

    /// <summary>Gives the buffer back; the reader may go on and rents a new one.</summary>
    public void Release()
    {
        if (_buffer.Length > 0)
            ArrayPool<byte>.Shared.Return(_buffer);
        _buffer = [];
        _start = _end = 0;
    }

    /// <summary>Makes so many bytes available at the start; false at a clean end of the body.</summary>
    private async ValueTask<bool> FillAsync(int count, CancellationToken cancellationToken)
    {
        while (_end - _start < count)
        {
            MakeRoom(count);
            var read = await _stream.ReadAsync(_buffer.AsMemory(_end), cancellationToken).ConfigureAwait(false);
            if (read == 0)
            {
                if (_start == _end && count == Framing.HeaderSize)
                    return false;
                throw Framing.Fail(StatusCode.Internal, "Incomplete message.");
            }
            _end += read;
        }
        return true;
    }

    private void MakeRoom(int count)
    {
        if (_start == _end)
            _start = _end = 0;
        var held = _end - _start;
        var capacity = (int)Math.Min(count, Math.Max(TrustedLength, 2L * held));
        if (_buffer.Length - _start >= capacity)
            return;
        var target = _buffer.Length >= capacity ? _buffer : ArrayPool<byte>.Shared.Rent(Math.Max(capacity, SmallBuffer));
        Buffer.BlockCopy(_buffer, _start, target, 0, held);
        if (target != _buffer && _buffer.Length > 0)
            ArrayPool<byte>.Shared.Return(_buffer);
        (_buffer, _start, _end) = (target, 0, held);
    }

    private MessageEncoding FindEncoding()
    {
        if (_encodingName is null or MessageEncoding.Identity)
            throw Framing.Fail(StatusCode.Internal, "The response holds a compressed message but names no encoding in grpc-encoding.");
        return MessageEncoding.Find(_encodingName)
            ?? throw Framing.Fail(StatusCode.Unimplemented, $"Unsupported grpc-encoding value '{_encodingName}'. "
                + $"Supported encodings: {MessageEncoding.SupportedEncodings}");
    }
}
