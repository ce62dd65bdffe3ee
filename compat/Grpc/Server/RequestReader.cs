// Cuts a request body into messages, deserialised straight from the body's pipe. Invariant: what was read from the pipe is handed back
// before the next read and at the end of the call.

using System.Buffers;
using System.IO.Pipelines;
using Grpc.Core;
using Grpc.Wire;

namespace Grpc.AspNetCore.Server;

internal sealed class RequestReader<T>(HttpContextServerCallContext context, Marshaller<T> marshaller) : IAsyncStreamReader<T>
    where T : class
{
    // Bytes consumed before the pipe is told, which is what opens the client's window again: a small part of Kestrel's 768 KiB window, so
    // that a steady stream never stalls, and enough to spare most small messages the trip through the pipe.
    private const int AdvanceStep = 32 * 1024;

    private static readonly Task<bool> s_true = Task.FromResult(true);

    private readonly PipeReader _pipe = context.HttpContext.Request.BodyReader;
    private readonly MessageDeserializer _deserializer = new();
    private ReadOnlySequence<byte> _held;
    private long _heldLength;
    private bool _holding;
    private bool _completed;
    private T? _current;
    private int _reading;

    public T Current => _current!;

    public Task<bool> MoveNext(CancellationToken cancellationToken)
    {
        if (cancellationToken.IsCancellationRequested)
            return Task.FromCanceled<bool>(cancellationToken);
        if (Interlocked.Exchange(ref _reading, 1) != 0)
        {
            return Task.FromException<bool>(
                new InvalidOperationException("Can't read the next message because the previous read is still in progress."));
        }
        if (context.IsEnded)
        {
            Volatile.Write(ref _reading, 0);
            return Task.FromException<bool>(new InvalidOperationException("Can't read messages after the request is complete."));
        }
        _current = null;
        try
        {
            if (_holding && TryTake(out _current))
            {
                Volatile.Write(ref _reading, 0);
                return s_true;
            }
        }
        catch (Exception e)
        {
            Volatile.Write(ref _reading, 0);
            return Task.FromException<bool>(e);
        }
        return MoveNextCoreAsync(cancellationToken);
    }

    /// <summary>The only message of a call whose request is no stream; waits for the end of the body.</summary>
    public async ValueTask<T> ReadSingleAsync()
    {
        var message = await ReadAsync(CancellationToken.None).ConfigureAwait(false)
            ?? throw Framing.Fail(StatusCode.Internal, "Incomplete message.");
        if (!await IsAtEndAsync().ConfigureAwait(false))
            throw Framing.Fail(StatusCode.Internal, "Additional data after the message received.");
        return message;
    }

    /// <summary>Hands unread bytes back to the pipe.</summary>
    public void Release()
    {
        if (!_holding)
            return;
        _holding = false;
        _pipe.AdvanceTo(_held.Start);
        _held = default;
    }

    private async Task<bool> MoveNextCoreAsync(CancellationToken cancellationToken)
    {
        try
        {
            _current = await ReadAsync(cancellationToken).ConfigureAwait(false);
            return _current is not null;
        }
        finally
        {
            Volatile.Write(ref _reading, 0);
        }
    }

    private async ValueTask<T?> ReadAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            if (!_holding)
                await ReadPipeAsync(cancellationToken).ConfigureAwait(false);
            if (TryTake(out var message))
                return message;
            if (_completed)
            {
                if (_held.IsEmpty)
                    return null;
                throw Framing.Fail(StatusCode.Internal, "Incomplete message.");
            }
            // All that is held was looked at and is not enough.
            _holding = false;
            _pipe.AdvanceTo(_held.Start, _held.End);
        }
    }

    private async ValueTask<bool> IsAtEndAsync()
    {
        while (true)
        {
            if (!_holding)
                await ReadPipeAsync(CancellationToken.None).ConfigureAwait(false);
            if (!_held.IsEmpty)
                return false;
            if (_completed)
                return true;
            _holding = false;
            _pipe.AdvanceTo(_held.Start, _held.End);
        }
    }

    private async ValueTask ReadPipeAsync(CancellationToken cancellationToken)
    {
        var result = await _pipe.ReadAsync(cancellationToken).ConfigureAwait(false);
        (_held, _heldLength, _holding, _completed) = (result.Buffer, result.Buffer.Length, true, result.IsCompleted);
        if (result.IsCanceled)
            throw new OperationCanceledException("The read of the request body was cancelled.");
    }

    /// <summary>Takes one message from what is held; false if it is not there completely.</summary>
    private bool TryTake(out T? message)
    {
        message = null;
        if (_held.Length < Framing.HeaderSize)
            return false;
        Span<byte> header = stackalloc byte[Framing.HeaderSize];
        _held.Slice(0, Framing.HeaderSize).CopyTo(header);
        var (compressed, length) = Framing.ReadHeader(header, context.MaxReceiveMessageSize);
        if (_held.Length - Framing.HeaderSize < length)
            return false;
        var payload = _held.Slice(Framing.HeaderSize, length);
        var encoding = compressed ? context.RequestEncoding() : null;
        message = _deserializer.Deserialize(marshaller, payload, encoding, context.MaxReceiveMessageSize);
        _held = _held.Slice(payload.End);
        if (_heldLength - _held.Length >= AdvanceStep && !_completed)
        {
            _holding = false;
            _pipe.AdvanceTo(_held.Start);
        }
        return true;
    }
}
