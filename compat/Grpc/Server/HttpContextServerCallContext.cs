// The server's side of one call. Invariants:
//  * A call ends once: by its handler or by its deadline, whichever takes the gate first. After that nothing is written, and use of the
//    reader or writer is refused.
//  * A message is written to the response pipe in one piece under the gate, so a deadline never cuts one in half.
//  * A response that holds half a message is reset, never completed.

using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Grpc.Core;
using Grpc.Wire;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;

namespace Grpc.AspNetCore.Server;

internal sealed class HttpContextServerCallContext : ServerCallContext
{
    /// <summary>Where the HttpContext is found from a context that wraps this one.</summary>
    public const string HttpContextKey = "__HttpContext";

    private const int Http2InternalError = 2;
    private const int Http2Cancel = 8;

    // Unflushed bytes after which a BufferHint is ignored: one default HTTP/2 window of the peer.
    private const int MostUnflushed = 64 * 1024;

    // System.Threading.Timer takes at most 2^32 - 2 milliseconds; longer waits are cut into pieces.
    private static readonly TimeSpan s_longestTimer = TimeSpan.FromDays(49);

    private readonly EffectiveOptions _options;
    private readonly Lock _gate = new();
    private readonly DateTime _deadline = DateTime.MaxValue;
    private readonly CancellationTokenSource? _cancellation;
    private readonly CancellationTokenRegistration _aborted;
    private readonly Timer? _timer;
    private PipeMessageWriter? _messages;
    private TaskCompletionSource? _deadlineHandled;
    private Metadata? _requestHeaders;
    private Metadata? _responseTrailers;
    private AuthContext? _authContext;
    private MessageEncoding? _responseEncoding;
    private StartState _start;
    private int _flushing;
    private long _unflushed;
    private bool _ended;
    private bool _broken;

    public HttpContextServerCallContext(HttpContext http, EffectiveOptions options)
    {
        HttpContext = http;
        _options = options;
        http.Response.ContentType = Headers.ContentType;
        if (!http.Request.Headers.TryGetValue(Headers.Timeout, out var text) || Headers.DecodeTimeout(text) is not { } timeout)
            return;
        _deadline = DateTime.UtcNow + timeout;
        _cancellation = new CancellationTokenSource();
        _aborted = http.RequestAborted.UnsafeRegister(static s => ((CancellationTokenSource)s!).Cancel(), _cancellation);
        _timer = new Timer(
            static s => ((HttpContextServerCallContext)s!).OnTimer(), this, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        StartTimer(timeout);
    }

    private enum StartState
    {
        NotStarted,
        Starting,
        Started,
    }

    public HttpContext HttpContext { get; }

    public int? MaxReceiveMessageSize => _options.MaxReceiveMessageSize;

    protected override string MethodCore => HttpContext.Request.Path.Value!;

    protected override string HostCore => HttpContext.Request.Host.Value!;

    protected override string PeerCore
    {
        get
        {
            var connection = HttpContext.Connection;
            return connection.RemoteIpAddress switch
            {
                null => "unknown",
                { AddressFamily: AddressFamily.InterNetworkV6 } v6 => $"ipv6:[{v6}]:{connection.RemotePort}",
                var v4 => $"ipv4:{v4}:{connection.RemotePort}",
            };
        }
    }

    protected override DateTime DeadlineCore => _deadline;

    protected override Metadata RequestHeadersCore => _requestHeaders ??= ServerHeaders.ReadMetadata(HttpContext.Request.Headers);

    protected override CancellationToken CancellationTokenCore => _cancellation?.Token ?? HttpContext.RequestAborted;

    protected override Metadata ResponseTrailersCore => _responseTrailers ??= [];

    protected override Status StatusCore { get; set; } = Status.DefaultSuccess;

    protected override WriteOptions? WriteOptionsCore { get; set; }

    protected override AuthContext AuthContextCore => _authContext ??= CreateAuthContext(HttpContext.Connection.ClientCertificate);

    protected override IDictionary<object, object> UserStateCore
    {
        get
        {
            HttpContext.Items[HttpContextKey] = HttpContext;
            return HttpContext.Items!;
        }
    }

    /// <summary>The encoding of compressed request messages, or the status that answers a message nobody can inflate.</summary>
    public MessageEncoding RequestEncoding()
    {
        string? name = HttpContext.Request.Headers[Headers.Encoding];
        if (name is null or MessageEncoding.Identity)
            throw Framing.Fail(StatusCode.Internal, "Request sent a compressed message but names no encoding in grpc-encoding.");
        if (MessageEncoding.Find(name) is { } encoding)
            return encoding;
        lock (_gate)
        {
            if (_start == StartState.NotStarted && !_ended)
                HttpContext.Response.Headers[Headers.AcceptEncoding] = MessageEncoding.SupportedEncodings;
        }
        throw Framing.Fail(
            StatusCode.Unimplemented,
            $"Unsupported grpc-encoding value '{name}'. Supported encodings: {MessageEncoding.SupportedEncodings}");
    }

    /// <summary>Is the reader or writer used too late?</summary>
    public bool IsEnded
    {
        get
        {
            lock (_gate)
                return _ended;
        }
    }

    /// <summary>Writes one message and flushes it unless told that more follows at once.</summary>
    public async Task WriteMessageAsync<T>(Marshaller<T> marshaller, T message, bool flush)
    {
        if (_start != StartState.Started)
            await StartResponseAsync(null).ConfigureAwait(false);
        lock (_gate)
        {
            ThrowIfCannotWrite();
            WriteToPipe(marshaller, message);
        }
        if (flush || _unflushed > MostUnflushed)
            await FlushAsync().ConfigureAwait(false);
    }

    /// <summary>Turns what a handler threw into the status of the call; returns whether it was unexpected.</summary>
    public bool Fail(Exception exception)
    {
        if (exception is RpcException rpc)
        {
            Status = rpc.Status;
            foreach (var entry in rpc.Trailers)
                ResponseTrailers.Add(entry);
            return false;
        }
        if (exception is OperationCanceledException or IOException && CancellationToken.IsCancellationRequested)
        {
            Status = Status.DefaultCancelled;
            return false;
        }
        var details = _options.EnableDetailedErrors ? $" {exception.GetType().Name}: {exception.Message}" : "";
        Status = new Status(StatusCode.Unknown, "Exception was thrown by handler." + details, exception);
        return true;
    }

    /// <summary>Ends the call after its handler; completes when the response is as complete as it gets here.</summary>
    public async Task EndAsync()
    {
        Task? deadline = null;
        var reset = false;
        lock (_gate)
        {
            if (_ended)
            {
                deadline = _deadlineHandled!.Task;
            }
            else
            {
                _ended = true;
                reset = _broken;
                if (!reset)
                    WriteOutcome();
            }
        }
        _timer?.Dispose();
        if (deadline is not null)
            await deadline.ConfigureAwait(false);
        else if (reset)
            Reset(Http2InternalError);
        await _aborted.DisposeAsync().ConfigureAwait(false);
    }

    /// <summary>Gives the call up because a token of the handler fired in the middle of a write.</summary>
    public void CancelByHandler() => Reset(Http2Cancel);

    protected override async Task WriteResponseHeadersAsyncCore(Metadata responseHeaders)
    {
        ArgumentNullException.ThrowIfNull(responseHeaders);
        if (_start != StartState.NotStarted)
            throw new InvalidOperationException("Response headers can only be sent once per call.");
        await StartResponseAsync(responseHeaders).ConfigureAwait(false);
        await FlushAsync().ConfigureAwait(false);
    }

    protected override ContextPropagationToken CreatePropagationTokenCore(ContextPropagationOptions? options) =>
        throw new NotImplementedException("CreatePropagationToken will be implemented in a future version.");

    private async Task StartResponseAsync(Metadata? headers)
    {
        lock (_gate)
        {
            ThrowIfCannotWrite();
            if (_start != StartState.NotStarted)
                throw new InvalidOperationException("The response is being started by another write.");
            var response = HttpContext.Response.Headers;
            ChooseResponseEncoding(headers, response);
            if (headers is not null)
                ServerHeaders.Append(response, headers);
            _start = StartState.Starting;
        }
        await HttpContext.Response.StartAsync().ConfigureAwait(false);
        lock (_gate)
            _start = StartState.Started;
    }

    private void ChooseResponseEncoding(Metadata? headers, IHeaderDictionary response)
    {
        var asked = headers?.GetValue(Headers.EncodingRequest);
        var name = asked ?? _options.CompressionAlgorithm;
        if (name is null or MessageEncoding.Identity)
            return;
        if (asked is null && !ClientAccepts(name))
            return;
        _responseEncoding = MessageEncoding.Find(name)
            ?? throw new InvalidOperationException($"Could not find compression provider for '{name}'.");
        response[Headers.Encoding] = name;
    }

    private bool ClientAccepts(string name)
    {
        foreach (var line in HttpContext.Request.Headers[Headers.AcceptEncoding])
        {
            foreach (var part in line.AsSpan().Split(','))
            {
                if (line.AsSpan(part).Trim().SequenceEqual(name))
                    return true;
            }
        }
        return false;
    }

    private void ThrowIfCannotWrite()
    {
        if (_deadlineHandled is not null)
            throw new OperationCanceledException("The deadline of the call has passed.", CancellationToken);
        if (_ended)
            throw new InvalidOperationException("Can't write the message because the request is complete.");
        if (_broken)
            throw new InvalidOperationException("Can't write the message because an earlier one was left incomplete.");
    }

    private void WriteToPipe<T>(Marshaller<T> marshaller, T message)
    {
        var compress = _responseEncoding is not null && ((WriteOptions?.Flags ?? default) & WriteFlags.NoCompress) == 0;
        _messages ??= new PipeMessageWriter(HttpContext.Response.BodyWriter, _options.MaxSendMessageSize);
        try
        {
            _unflushed += _messages.Write(marshaller, message, compress ? _responseEncoding : null, _options.CompressionLevel);
        }
        catch
        {
            _broken = _messages.LeftIncomplete;
            throw;
        }
    }

    private async Task FlushAsync()
    {
        _unflushed = 0;
        Interlocked.Increment(ref _flushing);
        try
        {
            await HttpContext.Response.BodyWriter.FlushAsync(CancellationToken).ConfigureAwait(false);
        }
        finally
        {
            Interlocked.Decrement(ref _flushing);
        }
    }

    private void WriteOutcome()
    {
        try
        {
            WriteStatus(Status);
        }
        catch (InvalidOperationException e)
        {
            // Kestrel refuses a value with a character that HTTP does not allow.
            _responseTrailers = null;
            WriteStatus(new Status(StatusCode.Internal, "The response trailers cannot be sent: " + e.Message));
        }
    }

    private void WriteStatus(Status status)
    {
        if (_start == StartState.NotStarted)
            ServerHeaders.WriteStatus(HttpContext.Response.Headers, status, _responseTrailers);
        else if (HttpContext.Features.Get<IHttpResponseTrailersFeature>() is { } feature)
            ServerHeaders.WriteStatus(feature.Trailers, status, _responseTrailers);
    }

    private void Reset(int errorCode)
    {
        if (HttpContext.Features.Get<IHttpResetFeature>() is { } feature)
            feature.Reset(errorCode);
        else
            HttpContext.Abort();
    }

    private void StartTimer(TimeSpan remaining)
    {
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

    private void OnTimer()
    {
        var remaining = _deadline - DateTime.UtcNow;
        if (remaining > TimeSpan.Zero)
        {
            StartTimer(remaining);
            return;
        }
        bool tell;
        lock (_gate)
        {
            if (_ended)
                return;
            _ended = true;
            _deadlineHandled = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            // While headers or a flush are under way the response cannot take trailers; the reset alone says it then, and the
            // client's own deadline has passed as well.
            tell = !_broken && _start != StartState.Starting && Volatile.Read(ref _flushing) == 0
                && !HttpContext.RequestAborted.IsCancellationRequested;
            if (tell)
            {
                _responseTrailers = null;
                WriteStatus(new Status(StatusCode.DeadlineExceeded, "Deadline Exceeded"));
            }
        }
        _ = EndByDeadlineAsync(tell);
    }

    private async Task EndByDeadlineAsync(bool tell)
    {
        var told = Task.CompletedTask;
        try
        {
            if (tell)
                told = HttpContext.Response.CompleteAsync();
            await _cancellation!.CancelAsync().ConfigureAwait(false);
            await told.ConfigureAwait(false);
        }
        catch (Exception)
        {
            // Callbacks of the handler, or a connection that is going away: the reset below ends the call all the same.
        }
        finally
        {
            Reset(Http2Cancel);
            _deadlineHandled!.SetResult();
        }
    }

    private static AuthContext CreateAuthContext(X509Certificate2? certificate)
    {
        const string CommonName = "x509_common_name";
        const string AlternativeName = "x509_subject_alternative_name";
        var properties = new Dictionary<string, List<AuthProperty>>(StringComparer.Ordinal);
        if (certificate is null)
            return new AuthContext(null, properties);
        foreach (var extension in certificate.Extensions.OfType<X509SubjectAlternativeNameExtension>())
        {
            foreach (var name in extension.EnumerateDnsNames())
                Add(AlternativeName, name);
        }
        if (certificate.GetNameInfo(X509NameType.SimpleName, forIssuer: false) is { Length: > 0 } commonName)
            Add(CommonName, commonName);
        var identity = properties.ContainsKey(AlternativeName) ? AlternativeName : properties.ContainsKey(CommonName) ? CommonName : null;
        return new AuthContext(identity, properties);

        void Add(string property, string value)
        {
            if (!properties.TryGetValue(property, out var values))
                properties[property] = values = [];
            values.Add(AuthProperty.Create(property, Encoding.UTF8.GetBytes(value)));
        }
    }
}
