// Bodies of requests. Invariants: a streaming body stays open until Complete (half-close) or Abort, and its completion runs inline so that
// END_STREAM is queued before Complete returns; a single message's rented array goes back only when nobody is sending it any more.

using System.Net;
using System.Net.Http.Headers;
using Grpc.Wire;

namespace Grpc.Net.Client;

/// <summary>A body of exactly one framed message. HttpClient may send it again on another connection.</summary>
internal sealed class SingleMessageContent : HttpContent
{
    private readonly MessageSerializer _serializer;
    private readonly ReadOnlyMemory<byte> _message;
    private readonly Lock _gate = new();
    private int _sending;
    private bool _released;

    public SingleMessageContent(MessageSerializer serializer, ReadOnlyMemory<byte> message)
    {
        _serializer = serializer;
        _message = message;
        Headers.ContentType = StreamingContent.GrpcContentType;
    }

    /// <summary>The call has ended.</summary>
    public void Release()
    {
        lock (_gate)
        {
            if (_released)
                return;
            _released = true;
            if (_sending == 0)
                _serializer.Release();
        }
    }

    protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context) =>
        SerializeToStreamAsync(stream, context, CancellationToken.None);

    protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context, CancellationToken cancellationToken)
    {
        lock (_gate)
        {
            if (_released)
                throw new OperationCanceledException("The call has ended.", cancellationToken);
            _sending++;
        }
        try
        {
            await stream.WriteAsync(_message, cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            lock (_gate)
            {
                if (--_sending == 0 && _released)
                    _serializer.Release();
            }
        }
    }

    protected override bool TryComputeLength(out long length)
    {
        length = 0;
        return false;
    }
}

/// <summary>A body that hands its stream to a writer and ends when told.</summary>
internal sealed class StreamingContent : HttpContent
{
    internal static readonly MediaTypeHeaderValue GrpcContentType = new(Wire.Headers.ContentType);

    // Completed inline on purpose: see the head of this file.
    private readonly TaskCompletionSource _completed = new();
    private readonly TaskCompletionSource _opened = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Lock _gate = new();
    private Stream? _stream;
    private bool _taken;

    public StreamingContent()
    {
        Headers.ContentType = GrpcContentType;
    }

    /// <summary>The request stream, once HttpClient has opened it; faults when the call ends before.</summary>
    public async ValueTask<Stream> OpenAsync()
    {
        if (!_opened.Task.IsCompletedSuccessfully)
            await _opened.Task.ConfigureAwait(false);
        lock (_gate)
        {
            _taken = true;
            return _stream!;
        }
    }

    public void Complete() => _completed.TrySetResult();

    public void Abort()
    {
        _completed.TrySetCanceled();
        _opened.TrySetCanceled();
    }

    protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context) =>
        SerializeToStreamAsync(stream, context, CancellationToken.None);

    protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context, CancellationToken cancellationToken)
    {
        // Sends the request headers before there is any message.
        await stream.FlushAsync(cancellationToken).ConfigureAwait(false);
        lock (_gate)
        {
            // HttpClient tries again on a new connection when the old one refused the stream; that is safe only before the first message.
            if (_taken)
                throw new IOException("The connection was lost after part of the request stream had been sent.");
            _stream = stream;
        }
        _opened.TrySetResult();
        using var registration = cancellationToken.UnsafeRegister(static s => ((StreamingContent)s!)._completed.TrySetCanceled(), this);
        await _completed.Task.ConfigureAwait(false);
    }

    protected override bool TryComputeLength(out long length)
    {
        length = 0;
        return false;
    }
}
