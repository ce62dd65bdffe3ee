// A channel: one server address over one HTTP handler. Invariants: a handler that was given is never changed and is disposed only if asked;
// disposing the channel ends every call that still runs on it.

using System.Collections.Concurrent;
using Grpc.Core;

namespace Grpc.Net.Client;

/// <summary>Makes calls to one address. Safe for concurrent use; costly to make, so keep it.</summary>
public sealed class GrpcChannel : ChannelBase, IDisposable
{
    private readonly HttpMessageInvoker _invoker;
    private readonly bool _disposeInvoker;
    private readonly ConcurrentDictionary<IMethod, Uri> _uris = new();
    private readonly HashSet<GrpcCall> _activeCalls = [];
    private bool _disposed;

    private GrpcChannel(Uri address, GrpcChannelOptions options)
        : base(TargetOf(address))
    {
        var secure = address.Scheme switch
        {
            "http" => false,
            "https" => true,
            _ => throw new InvalidOperationException($"The address '{address}' must start with http:// or https://."),
        };
        if (options.HttpClient is not null && options.HttpHandler is not null)
            throw new ArgumentException("HttpClient and HttpHandler have been configured. Only one of them can be used.", nameof(options));
        if (options.Credentials is { } credentials && credentials.IsSecure != secure)
        {
            throw new InvalidOperationException(
                $"The credentials of the channel do not fit the scheme of its address '{address}': TLS needs https, Insecure needs http.");
        }
        Address = new Uri(address.GetLeftPart(UriPartial.Authority));
        CallCredentials = options.Credentials?.CallCredentials;
        AppliesCallCredentials = secure || options.UnsafeUseInsecureChannelCallCredentials;
        MaxSendMessageSize = options.MaxSendMessageSize;
        MaxReceiveMessageSize = options.MaxReceiveMessageSize;
        ThrowsOperationCanceled = options.ThrowOperationCanceledOnCancellation;
        _invoker = options.HttpClient ?? new HttpMessageInvoker(
            options.HttpHandler ?? new SocketsHttpHandler { EnableMultipleHttp2Connections = true },
            disposeHandler: options.HttpHandler is null || options.DisposeHttpClient);
        _disposeInvoker = options.HttpClient is null || options.DisposeHttpClient;
    }

    public static GrpcChannel ForAddress(string address) => ForAddress(address, new GrpcChannelOptions());

    public static GrpcChannel ForAddress(string address, GrpcChannelOptions channelOptions)
    {
        ArgumentNullException.ThrowIfNull(address);
        return ForAddress(new Uri(address), channelOptions);
    }

    public static GrpcChannel ForAddress(Uri address) => ForAddress(address, new GrpcChannelOptions());

    public static GrpcChannel ForAddress(Uri address, GrpcChannelOptions channelOptions)
    {
        ArgumentNullException.ThrowIfNull(address);
        ArgumentNullException.ThrowIfNull(channelOptions);
        return new GrpcChannel(address, channelOptions);
    }

    internal Uri Address { get; }

    internal CallCredentials? CallCredentials { get; }

    internal bool AppliesCallCredentials { get; }

    internal int? MaxSendMessageSize { get; }

    internal int? MaxReceiveMessageSize { get; }

    internal bool ThrowsOperationCanceled { get; }

    public override CallInvoker CreateCallInvoker()
    {
        ObjectDisposedException.ThrowIf(Volatile.Read(ref _disposed), this);
        return new HttpCallInvoker(this);
    }

    public void Dispose()
    {
        GrpcCall[] running;
        lock (_activeCalls)
        {
            if (_disposed)
                return;
            _disposed = true;
            running = [.. _activeCalls];
            _activeCalls.Clear();
        }
        foreach (var call in running)
            call.Dispose();
        if (_disposeInvoker)
            _invoker.Dispose();
    }

    internal Uri UriOf(IMethod method)
    {
        // Methods live in static fields of generated code, so this map stays small.
        if (_uris.TryGetValue(method, out var uri))
            return uri;
        return _uris.GetOrAdd(method, new Uri(Address, method.FullName));
    }

    internal Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken) =>
        _invoker is HttpClient client
            ? client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, cancellationToken)
            : _invoker.SendAsync(request, cancellationToken);

    internal void Add(GrpcCall call)
    {
        lock (_activeCalls)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            _activeCalls.Add(call);
        }
    }

    internal void Remove(GrpcCall call)
    {
        lock (_activeCalls)
            _activeCalls.Remove(call);
    }

    private static string TargetOf(Uri address) => address.IsAbsoluteUri
        ? $"{address.IdnHost}:{address.Port}"
        : throw new ArgumentException($"The address '{address}' is not absolute.", nameof(address));

    /// <summary>Starts calls on the channel.</summary>
    private sealed class HttpCallInvoker(GrpcChannel channel) : CallInvoker
    {
        public override TResponse BlockingUnaryCall<TRequest, TResponse>(
            Method<TRequest, TResponse> method, string? host, CallOptions options, TRequest request) =>
            AsyncUnaryCall(method, host, options, request).ResponseAsync.GetAwaiter().GetResult();

        public override AsyncUnaryCall<TResponse> AsyncUnaryCall<TRequest, TResponse>(
            Method<TRequest, TResponse> method, string? host, CallOptions options, TRequest request)
        {
            var call = new GrpcCall<TRequest, TResponse>(channel, method, options);
            return new AsyncUnaryCall<TResponse>(call.StartWithSingleResponse(request), call);
        }

        public override AsyncServerStreamingCall<TResponse> AsyncServerStreamingCall<TRequest, TResponse>(
            Method<TRequest, TResponse> method, string? host, CallOptions options, TRequest request)
        {
            var call = new GrpcCall<TRequest, TResponse>(channel, method, options);
            call.StartWithResponseStream(request);
            return new AsyncServerStreamingCall<TResponse>(call, call);
        }

        public override AsyncClientStreamingCall<TRequest, TResponse> AsyncClientStreamingCall<TRequest, TResponse>(
            Method<TRequest, TResponse> method, string? host, CallOptions options)
        {
            var call = new GrpcCall<TRequest, TResponse>(channel, method, options);
            return new AsyncClientStreamingCall<TRequest, TResponse>(call, call.StartWithSingleResponse(null), call);
        }

        public override AsyncDuplexStreamingCall<TRequest, TResponse> AsyncDuplexStreamingCall<TRequest, TResponse>(
            Method<TRequest, TResponse> method, string? host, CallOptions options)
        {
            var call = new GrpcCall<TRequest, TResponse>(channel, method, options);
            call.StartWithResponseStream(null);
            return new AsyncDuplexStreamingCall<TRequest, TResponse>(call, call, call);
        }
    }
}
