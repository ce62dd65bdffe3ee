// The part of a call that knows its messages: sends the request, reads responses, and is itself the reader and writer that user code holds.
// Invariants: at most one read and one write at a time; a message that arrived before an error is delivered before it, except after
// cancellation or the deadline.

using System.Net;
using System.Runtime.InteropServices;
using Grpc.Core;
using Grpc.Wire;

namespace Grpc.Net.Client;

internal sealed class GrpcCall<TRequest, TResponse> : GrpcCall, IClientStreamWriter<TRequest>, IAsyncStreamReader<TResponse>
    where TRequest : class
    where TResponse : class
{
    private const string Starting = "Error starting gRPC call.";
    private const string Reading = "Error reading next message.";
    private const string Writing = "Error sending next message.";

    // The version is that of the package this stands in for.
    private static readonly string s_userAgent =
        $"grpc-dotnet/2.80.0 (Mem1.Compat.Grpc; CLR {Environment.Version}; {(OperatingSystem.IsWindows() ? "windows" : "unix")}; "
        + $"{RuntimeInformation.ProcessArchitecture.ToString().ToLowerInvariant()})";

    private readonly Method<TRequest, TResponse> _method;
    private MessageSerializer? _serializer;
    private MessageEncoding? _encoding;
    private SingleMessageContent? _singleMessage;
    private StreamingContent? _requestBody;
    private ResponseReader? _reader;
    private Task? _sent;
    private Task? _singleResponse;
    private TResponse? _current;
    private bool _requestCompleted;
    private int _writing;
    private int _reading;

    public GrpcCall(GrpcChannel channel, Method<TRequest, TResponse> method, in CallOptions options)
        : base(channel, options)
    {
        _method = method;
        WriteOptions = options.WriteOptions;
    }

    public WriteOptions? WriteOptions { get; set; }

    public TResponse Current => _current!;

    /// <summary>Sends; the task ends with the only response. A null request means that requests are streamed.</summary>
    public Task<TResponse> StartWithSingleResponse(TRequest? request)
    {
        PrepareRequest(request);
        var task = ReadSingleResponseAsync(request);
        Volatile.Write(ref _singleResponse, task);
        Interlocked.MemoryBarrier();
        if (Ended)
            Observe(task);
        return task;
    }

    /// <summary>Sends; responses are then read by <see cref="MoveNext"/>.</summary>
    public void StartWithResponseStream(TRequest? request)
    {
        PrepareRequest(request);
        _sent = SendAsync(request);
    }

    public Task WriteAsync(TRequest message) => WriteAsync(message, CancellationToken.None);

    public Task WriteAsync(TRequest message, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(message);
        if (cancellationToken.IsCancellationRequested)
            Cancel(cancellationToken);
        if (Disposed)
            return Task.FromException(new ObjectDisposedException(nameof(GrpcCall)));
        if (Interlocked.Exchange(ref _writing, 1) != 0)
        {
            return Task.FromException(
                new InvalidOperationException("Can't write the message because the previous write is in progress."));
        }
        Exception? refusal = Volatile.Read(ref _requestCompleted)
            ? new InvalidOperationException("Request stream has already been completed.")
            : Ended ? Outcome() : null;
        if (refusal is null)
            return WriteCoreAsync(message, cancellationToken);
        Volatile.Write(ref _writing, 0);
        return Task.FromException(refusal);
    }

    public Task CompleteAsync()
    {
        if (Disposed)
            return Task.FromException(new ObjectDisposedException(nameof(GrpcCall)));
        if (Interlocked.Exchange(ref _writing, 1) != 0)
        {
            return Task.FromException(
                new InvalidOperationException("Can't complete the client stream writer because the previous write is in progress."));
        }
        Volatile.Write(ref _requestCompleted, true);
        Volatile.Write(ref _writing, 0);
        _requestBody!.Complete();
        return Task.CompletedTask;
    }

    public Task<bool> MoveNext(CancellationToken cancellationToken)
    {
        if (Disposed)
            return Task.FromException<bool>(new ObjectDisposedException(nameof(GrpcCall)));
        if (cancellationToken.IsCancellationRequested)
            Cancel(cancellationToken);
        if (Interlocked.Exchange(ref _reading, 1) != 0)
        {
            return Task.FromException<bool>(
                new InvalidOperationException("Can't read the next message because the previous read is still in progress."));
        }
        _current = null;
        return MoveNextCoreAsync(cancellationToken);
    }

    protected override void ReleaseRequest()
    {
        _singleMessage?.Release();
        _requestBody?.Abort();
    }

    /// <summary>
    /// Marks a failure as seen: a caller that learnt of it from its writer, or disposed the call, need not look at the response as well.
    /// </summary>
    private static void Observe(Task task)
    {
        if (!task.IsCompletedSuccessfully)
        {
            _ = task.ContinueWith(
                static t => _ = t.Exception, CancellationToken.None,
                TaskContinuationOptions.OnlyOnFaulted | TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
        }
    }

    private void PrepareRequest(TRequest? request)
    {
        if (request is null && _method.Type is MethodType.Unary or MethodType.ServerStreaming)
            throw new ArgumentNullException(nameof(request));
        if (request is null)
            _requestBody = new StreamingContent();
        if (Ended)
            ReleaseRequest();
    }

    private async Task WriteCoreAsync(TRequest message, CancellationToken cancellationToken)
    {
        using var registration = cancellationToken.UnsafeRegister(static (s, t) => ((GrpcCall<TRequest, TResponse>)s!).Cancel(t), this);
        try
        {
            var stream = await _requestBody!.OpenAsync().ConfigureAwait(false);
            var flags = WriteOptions?.Flags ?? default;
            var framed = Serialize(message, flags);
            await stream.WriteAsync(framed, StopToken).ConfigureAwait(false);
            if ((flags & WriteFlags.BufferHint) == 0)
                await FlushAsync(stream).ConfigureAwait(false);
        }
        catch (Exception e)
        {
            throw Ended ? Outcome() : await ExplainWriteFailureAsync(e).ConfigureAwait(false);
        }
        finally
        {
            _serializer?.Release();
            Volatile.Write(ref _writing, 0);
        }
    }

    /// <summary>
    /// Sends what is buffered. The message is already on its way, so a server that answers it at once and closes the stream before the
    /// flush returns has not made the write fail: the outcome comes to the reader and to the next write.
    /// </summary>
    private async Task FlushAsync(Stream stream)
    {
        try
        {
            await stream.FlushAsync(StopToken).ConfigureAwait(false);
        }
        catch (Exception) when (!StopToken.IsCancellationRequested)
        {
        }
    }

    /// <summary>Frames one message; if that fails the call ends with the reason.</summary>
    private ReadOnlyMemory<byte> Serialize(TRequest message, WriteFlags flags)
    {
        try
        {
            var encoding = (flags & WriteFlags.NoCompress) == 0 ? _encoding : null;
            return _serializer!.Serialize(_method.RequestMarshaller, message, encoding);
        }
        catch (Exception e)
        {
            End(ClientStatus.FromException(Writing, e), null);
            throw;
        }
    }

    /// <summary>A write failed although the call goes on: the connection broke or the server has ended the call early.</summary>
    private async Task<Exception> ExplainWriteFailureAsync(Exception e)
    {
        // Where the response is read by the call itself, its status says which; where user code reads, the status may lie behind
        // messages not read yet, so the call is left to the reader.
        await (_singleResponse ?? _sent!).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        return Ended ? Outcome() : new RpcException(new Status(
            StatusCode.Cancelled, "The server ended the call before the request stream was complete; its responses hold the status.", e));
    }

    private async Task<bool> MoveNextCoreAsync(CancellationToken cancellationToken)
    {
        using var registration = cancellationToken.UnsafeRegister(static (s, t) => ((GrpcCall<TRequest, TResponse>)s!).Cancel(t), this);
        try
        {
            await _sent!.ConfigureAwait(false);
            if (!Ended)
            {
                var message = await _reader!.ReadAsync(_method.ResponseMarshaller, StopToken).ConfigureAwait(false);
                if (message is not null && !Ended)
                {
                    _current = message;
                    return true;
                }
                if (message is null)
                    EndWithTrailers();
            }
        }
        catch (Exception e)
        {
            Fail(Reading, e);
        }
        finally
        {
            if (Ended)
                _reader?.Release();
            Volatile.Write(ref _reading, 0);
        }
        return GetStatus().StatusCode == StatusCode.OK ? false : throw Outcome();
    }

    private async Task<TResponse> ReadSingleResponseAsync(TRequest? request)
    {
        await SendAsync(request).ConfigureAwait(false);
        TResponse? response = null;
        if (!Ended)
        {
            try
            {
                response = await _reader!.ReadAsync(_method.ResponseMarshaller, StopToken).ConfigureAwait(false);
                var second = response is null
                    ? null
                    : await _reader.ReadAsync(_method.ResponseMarshaller, StopToken).ConfigureAwait(false);
                if (second is null)
                    EndWithTrailers(needsMessage: response is null);
                else
                    End(new Status(StatusCode.Internal, "Unexpected data after finished reading message."), null);
            }
            catch (Exception e)
            {
                Fail(Reading, e);
            }
            finally
            {
                _reader!.Release();
            }
        }
        if (GetStatus().StatusCode == StatusCode.OK)
            return response!;
        Interlocked.MemoryBarrier();
        if (Volatile.Read(ref _singleResponse) is { } self)
            Observe(self);
        throw Outcome();
    }

    /// <summary>The body was read to its end: the outcome is in the trailers.</summary>
    private void EndWithTrailers(bool needsMessage = false)
    {
        var status = ClientStatus.Read(Response.TrailingHeaders) ?? new Status(StatusCode.Cancelled, "No grpc-status found on response.");
        if (needsMessage && status.StatusCode == StatusCode.OK)
            status = new Status(StatusCode.Internal, "Failed to deserialize response message.");
        End(status, Response.TrailingHeaders, complete: true);
    }

    /// <summary>Sends the request and takes the response headers. Never throws: afterwards the call has ended or has a reader.</summary>
    private async Task SendAsync(TRequest? request)
    {
        if (Ended)
            return;
        try
        {
            var message = CreateRequest();
            if (Channel.AppliesCallCredentials && (Options.Credentials ?? Channel.CallCredentials) is not null)
                await ApplyCredentialsAsync(message).ConfigureAwait(false);
            if (!AttachContent(message, request))
                return;
            var response = await SendAsync(message).ConfigureAwait(false);
            if (response is null || !SetResponse(response))
                return;
            if (ClientStatus.Read(response.Headers) is { } status)
            {
                if (status.StatusCode == StatusCode.OK && _method.Type is MethodType.Unary or MethodType.ClientStreaming)
                    status = new Status(StatusCode.Internal, "Failed to deserialize response message.");
                // Trailers-Only: one HEADERS frame is headers and trailers at once.
                if (status.StatusCode == StatusCode.OK)
                    SetHeaders(response.Headers);
                End(status, response.Headers, complete: true);
                return;
            }
            if (ClientStatus.Validate(response) is { } refusal)
            {
                End(refusal, response.Headers);
                return;
            }
            var body = await response.Content.ReadAsStreamAsync(StopToken).ConfigureAwait(false);
            var encoding = response.Headers.NonValidated.TryGetValues(Headers.Encoding, out var names) ? names.ToString() : null;
            _reader = new ResponseReader(body, encoding, Channel.MaxReceiveMessageSize);
            SetHeaders(response.Headers);
        }
        catch (Exception e)
        {
            Fail(Starting, e);
        }
    }

    private async Task<HttpResponseMessage?> SendAsync(HttpRequestMessage message)
    {
        try
        {
            return await Channel.SendAsync(message, StopToken).ConfigureAwait(false);
        }
        catch (OperationCanceledException e) when (!Ended && e.InnerException is not TimeoutException && DateTime.UtcNow < Deadline)
        {
            // Nobody here cancelled. HttpClient says so, without the error code, when the server resets a stream whose request body
            // is still being sent; calling that Cancelled would blame the caller.
            End(new Status(StatusCode.Unavailable, "The server reset the call while its request was being sent.", e), null);
            return null;
        }
    }

    private HttpRequestMessage CreateRequest()
    {
        var message = new HttpRequestMessage(HttpMethod.Post, Channel.UriOf(_method))
        {
            Version = HttpVersion.Version20,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
        };
        var headers = message.Headers;
        headers.TryAddWithoutValidation("te", "trailers");
        headers.TryAddWithoutValidation("user-agent", s_userAgent);
        headers.TryAddWithoutValidation(Headers.AcceptEncoding, MessageEncoding.AcceptEncoding);
        if (Deadline != DateTime.MaxValue)
            headers.TryAddWithoutValidation(Headers.Timeout, Headers.EncodeTimeout(Deadline - DateTime.UtcNow));
        if (Options.Headers is { Count: > 0 } metadata)
            AddMetadata(message, metadata);
        return message;
    }

    private void AddMetadata(HttpRequestMessage message, Metadata metadata)
    {
        foreach (var entry in metadata)
        {
            if (entry.Key != Headers.EncodingRequest)
            {
                message.Headers.TryAddWithoutValidation(entry.Key, entry.HeaderValue);
                continue;
            }
            if (entry.Value != MessageEncoding.Identity)
            {
                _encoding = MessageEncoding.Find(entry.Value)
                    ?? throw new InvalidOperationException($"Could not find compression provider for '{entry.Value}'.");
            }
            message.Headers.TryAddWithoutValidation(Headers.Encoding, entry.Value);
        }
    }

    private async Task ApplyCredentialsAsync(HttpRequestMessage message)
    {
        var added = new Metadata();
        var address = Channel.Address;
        var port = address is { Scheme: "https", Port: 443 } ? "" : $":{address.Port}";
        var url = $"{address.Scheme}://{address.Host}{port}";
        var context = new AuthInterceptorContext($"{url}/{_method.ServiceName}", _method.Name, StopToken);
        if (Channel.CallCredentials is { } ofChannel)
            await ofChannel.ApplyAsync(context, added).ConfigureAwait(false);
        if (Options.Credentials is { } ofCall)
            await ofCall.ApplyAsync(context, added).ConfigureAwait(false);
        AddMetadata(message, added);
    }

    /// <summary>False if the call has ended meanwhile.</summary>
    private bool AttachContent(HttpRequestMessage message, TRequest? request)
    {
        _serializer = new MessageSerializer(Channel.MaxSendMessageSize);
        if (request is null)
        {
            message.Content = _requestBody;
            return !Ended;
        }
        var framed = Serialize(request, WriteOptions?.Flags ?? default);
        var content = new SingleMessageContent(_serializer, framed);
        message.Content = content;
        _singleMessage = content;
        // End may have looked for the content before it was there.
        if (!Ended)
            return true;
        content.Release();
        return false;
    }
}
