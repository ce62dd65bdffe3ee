// One call over HTTP. Invariants:
//  * The status is set once, under the gate, before any task of the call completes with it; whoever sets it also releases everything
//    the call holds (timer, registration, request body, response).
//  * Ending a call early always reaches the server: the request body ends, the token of every pending HTTP operation fires and the
//    response is disposed, which sends RST_STREAM(CANCEL).
//  * Nothing is thrown to user code but the call's own RpcException, an OperationCanceledException under the channel's option, and the
//    exceptions of misuse.

using System.Net.Http.Headers;
using Grpc.Core;

namespace Grpc.Net.Client;

/// <summary>The part of a call that does not depend on its messages: its life, its deadline and its outcome.</summary>
internal abstract class GrpcCall : ICallState
{
    // System.Threading.Timer takes at most 2^32 - 2 milliseconds; longer waits are cut into pieces.
    private static readonly TimeSpan s_longestTimer = TimeSpan.FromDays(49);

    private readonly CancellationTokenSource _stop = new();
    private readonly CancellationTokenRegistration _cancellation;
    private readonly Timer? _timer;
    private TaskCompletionSource<Metadata>? _headersSource;
    private HttpResponseMessage? _response;
    private HttpResponseHeaders? _headers;
    private HttpResponseHeaders? _trailerHeaders;
    private Metadata? _trailers;
    private Status _status;
    private CancellationToken _cancelledBy;
    private volatile bool _ended;
    private volatile bool _disposed;

    protected GrpcCall(GrpcChannel channel, in CallOptions options)
    {
        Channel = channel;
        Options = options;
        Deadline = options.Deadline ?? DateTime.MaxValue;
        if (Deadline.Kind != DateTimeKind.Utc && Deadline != DateTime.MaxValue && Deadline != DateTime.MinValue)
        {
            throw new InvalidOperationException(
                "Deadline must have a kind DateTimeKind.Utc or be equal to DateTime.MaxValue or DateTime.MinValue.");
        }
        channel.Add(this);
        if (Deadline != DateTime.MaxValue)
        {
            var remaining = Deadline - DateTime.UtcNow;
            if (remaining <= TimeSpan.Zero)
            {
                End(new Status(StatusCode.DeadlineExceeded, ""), null);
                return;
            }
            _timer = new Timer(static s => ((GrpcCall)s!).OnTimer(), this, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
            StartTimer(remaining);
        }
        if (options.CancellationToken.CanBeCanceled)
        {
            _cancellation = options.CancellationToken.UnsafeRegister(static (s, t) => ((GrpcCall)s!).Cancel(t), this);
            if (_ended)
                _cancellation.Unregister();
        }
    }

    protected GrpcChannel Channel { get; }

    protected CallOptions Options { get; }

    protected DateTime Deadline { get; }

    protected Lock Gate { get; } = new();

    protected CancellationToken StopToken => _stop.Token;

    protected bool Ended => _ended;

    protected bool Disposed => _disposed;

    protected HttpResponseMessage Response => _response!;

    public Task<Metadata> ResponseHeadersAsync
    {
        get
        {
            lock (Gate)
            {
                if (_headersSource is null)
                {
                    _headersSource = new TaskCompletionSource<Metadata>(TaskCreationOptions.RunContinuationsAsynchronously);
                    if (_headers is not null)
                        CompleteHeaders(_headersSource, _headers);
                    else if (_ended)
                        FailHeaders(_headersSource);
                }
                return _headersSource.Task;
            }
        }
    }

    public Status GetStatus() => _ended
        ? _status
        : throw new InvalidOperationException("Unable to get the status because the call is not complete.");

    public Metadata GetTrailers()
    {
        if (!_ended || _trailerHeaders is null)
            throw new InvalidOperationException("Can't get the call trailers because the call has not completed successfully.");
        lock (Gate)
            return _trailers ??= ClientStatus.ReadMetadata(_trailerHeaders);
    }

    public void Dispose()
    {
        _disposed = true;
        End(new Status(StatusCode.Cancelled, "gRPC call disposed."), null);
    }

    /// <summary>The exception that tells user code how the call ended.</summary>
    protected Exception Outcome()
    {
        var status = _status;
        var trailers = Metadata.Empty;
        try
        {
            if (_trailerHeaders is not null)
                trailers = GetTrailers();
        }
        catch (RpcException)
        {
            // Trailers that are not base64 where they should be must not hide the status; GetTrailers says what is wrong with them.
        }
        var exception = new RpcException(status, trailers);
        return Channel.ThrowsOperationCanceled && status.StatusCode is StatusCode.Cancelled or StatusCode.DeadlineExceeded
            ? new OperationCanceledException(exception.Message, exception, _cancelledBy)
            : exception;
    }

    /// <summary>Ends the call because a token fired.</summary>
    protected void Cancel(CancellationToken token)
    {
        var cause = new OperationCanceledException("The operation was canceled.", token);
        End(new Status(StatusCode.Cancelled, "Call canceled by the client.", cause), null, cancelledBy: token);
    }

    /// <summary>Ends the call because something threw.</summary>
    protected void Fail(string doing, Exception exception) => End(ClientStatus.FromException(doing, exception), null);

    /// <summary>The response headers have arrived and are good.</summary>
    protected void SetHeaders(HttpResponseHeaders headers)
    {
        lock (Gate)
        {
            _headers = headers;
            if (_headersSource is not null)
                CompleteHeaders(_headersSource, headers);
        }
    }

    /// <summary>Takes the response over; false if the call has ended meanwhile, and then the response is gone.</summary>
    protected bool SetResponse(HttpResponseMessage response)
    {
        lock (Gate)
        {
            _response = response;
            if (!_ended)
                return true;
        }
        response.Dispose();
        return false;
    }

    /// <summary>Sets the outcome if there is none yet and lets everything go.</summary>
    /// <param name="status">The outcome.</param>
    /// <param name="trailers">Read into metadata when asked for; null if none were received.</param>
    /// <param name="complete">The response was read to its end, so nothing has to be cancelled.</param>
    /// <param name="cancelledBy">The token that ended the call.</param>
    protected void End(Status status, HttpResponseHeaders? trailers, bool complete = false, CancellationToken cancelledBy = default)
    {
        // The server may have noticed the deadline first and reset the stream, or answered before this side's timer fired.
        if (status.StatusCode == StatusCode.Cancelled && !_disposed && !cancelledBy.IsCancellationRequested && DateTime.UtcNow >= Deadline)
            status = new Status(StatusCode.DeadlineExceeded, "", status.DebugException);
        HttpResponseMessage? response;
        lock (Gate)
        {
            if (_ended)
                return;
            _status = status;
            _trailerHeaders = trailers;
            _cancelledBy = cancelledBy;
            _ended = true;
            response = _response;
            if (_headers is null && _headersSource is not null)
                FailHeaders(_headersSource);
        }
        _timer?.Dispose();
        _cancellation.Unregister();
        Channel.Remove(this);
        ReleaseRequest();
        if (!complete)
        {
            _stop.Cancel();
            response?.Dispose();
        }
    }

    /// <summary>Ends the request body, whatever state it is in.</summary>
    protected abstract void ReleaseRequest();

    private static void CompleteHeaders(TaskCompletionSource<Metadata> source, HttpResponseHeaders headers)
    {
        try
        {
            source.TrySetResult(ClientStatus.ReadMetadata(headers));
        }
        catch (RpcException e)
        {
            source.TrySetException(e);
        }
    }

    private void FailHeaders(TaskCompletionSource<Metadata> source)
    {
        source.TrySetException(Outcome());
        _ = source.Task.Exception; // observed: user code need not ask for headers of a failed call
    }

    private void OnTimer()
    {
        var remaining = Deadline - DateTime.UtcNow;
        if (remaining > TimeSpan.Zero)
            StartTimer(remaining);
        else
            End(new Status(StatusCode.DeadlineExceeded, ""), null);
    }

    private void StartTimer(TimeSpan remaining)
    {
        // Rounded up: a timer that fires early would only be started again.
        var wait = remaining < s_longestTimer ? TimeSpan.FromMilliseconds(Math.Ceiling(remaining.TotalMilliseconds)) : s_longestTimer;
        try
        {
            _timer!.Change(wait, Timeout.InfiniteTimeSpan);
        }
        catch (ObjectDisposedException)
        {
            // The call ended while its timer fired.
        }
    }
}
