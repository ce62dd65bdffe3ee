using System.Net.Http;
using Grpc.Core;
using Grpc.Core.Interceptors;
using Grpc.Net.Client;

namespace Mem1.Protocol.Security;

/// <summary>How a client shows who it is, and whom it trusts.</summary>
/// <param name="Token">Shown with every call; null for none.</param>
/// <param name="Tls">Of https addresses; null trusts what the system trusts and shows no certificate.</param>
public sealed record ChannelSecurity(BearerToken? Token, TlsFiles? Tls)
{
    /// <summary>No token, no certificate.</summary>
    public static ChannelSecurity None { get; } = new(null, null);
}

/// <summary>Makes the channels to a learner.</summary>
public static class LearnerChannel
{
    /// <summary>Completes the options of a channel and opens it.</summary>
    /// <param name="address">http or https.</param>
    /// <param name="security">Who this client is.</param>
    /// <param name="options">Limits of the channel; its handler is set here.</param>
    /// <param name="handler">Settings of the connections; its TLS options are set here.</param>
    public static (GrpcChannel Channel, CallInvoker Invoker) Open(
        Uri address, ChannelSecurity security, GrpcChannelOptions options, SocketsHttpHandler? handler = null)
    {
        handler ??= new SocketsHttpHandler();
        if (security.Tls is { } tls) handler.SslOptions = tls.ClientOptions();
        (options.HttpHandler, options.DisposeHttpClient) = (handler, true);
        var channel = GrpcChannel.ForAddress(address, options);
        return (channel, security.Token is { } token ? channel.Intercept(new TokenInterceptor(token)) : channel.CreateCallInvoker());
    }

    // Call credentials would do the same, but gRPC refuses to send those without TLS; on loopback or in a closed network a token alone is
    // worth having.
    private sealed class TokenInterceptor(BearerToken token) : Interceptor
    {
        public override AsyncUnaryCall<TResponse> AsyncUnaryCall<TRequest, TResponse>(
            TRequest request, ClientInterceptorContext<TRequest, TResponse> context,
            AsyncUnaryCallContinuation<TRequest, TResponse> continuation) => continuation(request, Shown(context));

        public override AsyncServerStreamingCall<TResponse> AsyncServerStreamingCall<TRequest, TResponse>(
            TRequest request, ClientInterceptorContext<TRequest, TResponse> context,
            AsyncServerStreamingCallContinuation<TRequest, TResponse> continuation) => continuation(request, Shown(context));

        public override AsyncDuplexStreamingCall<TRequest, TResponse> AsyncDuplexStreamingCall<TRequest, TResponse>(
            ClientInterceptorContext<TRequest, TResponse> context,
            AsyncDuplexStreamingCallContinuation<TRequest, TResponse> continuation) => continuation(Shown(context));

        private ClientInterceptorContext<TRequest, TResponse> Shown<TRequest, TResponse>(ClientInterceptorContext<TRequest, TResponse> context)
            where TRequest : class
            where TResponse : class
        {
            var headers = new Metadata();
            foreach (var entry in context.Options.Headers ?? []) headers.Add(entry);
            headers.Add(BearerToken.HeaderName, token.Header);
            return new ClientInterceptorContext<TRequest, TResponse>(context.Method, context.Host, context.Options.WithHeaders(headers));
        }
    }
}
