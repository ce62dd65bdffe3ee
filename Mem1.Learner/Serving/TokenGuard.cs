using Grpc.Core;
using Grpc.Core.Interceptors;
using Mem1.Protocol.Security;
using Microsoft.Extensions.Logging;

namespace Mem1.Learner;

/// <summary>Lets no call through that does not show the token; nothing of it is read before.</summary>
internal sealed class TokenGuard(BearerToken token, ILogger<TokenGuard> log) : Interceptor
{
    public override Task<TResponse> UnaryServerHandler<TRequest, TResponse>(
        TRequest request, ServerCallContext context, UnaryServerMethod<TRequest, TResponse> continuation)
    {
        Check(context);
        return continuation(request, context);
    }

    public override Task ServerStreamingServerHandler<TRequest, TResponse>(
        TRequest request, IServerStreamWriter<TResponse> responseStream, ServerCallContext context,
        ServerStreamingServerMethod<TRequest, TResponse> continuation)
    {
        Check(context);
        return continuation(request, responseStream, context);
    }

    public override Task<TResponse> ClientStreamingServerHandler<TRequest, TResponse>(
        IAsyncStreamReader<TRequest> requestStream, ServerCallContext context,
        ClientStreamingServerMethod<TRequest, TResponse> continuation)
    {
        Check(context);
        return continuation(requestStream, context);
    }

    public override Task DuplexStreamingServerHandler<TRequest, TResponse>(
        IAsyncStreamReader<TRequest> requestStream, IServerStreamWriter<TResponse> responseStream, ServerCallContext context,
        DuplexStreamingServerMethod<TRequest, TResponse> continuation)
    {
        Check(context);
        return continuation(requestStream, responseStream, context);
    }

    private void Check(ServerCallContext context)
    {
        var shown = context.RequestHeaders.GetAll(BearerToken.HeaderName).Select(e => e.Value).ToList();
        if (Refusal(token, shown) is not { } reason) return;
        log.LogWarning("A call of {Peer} to {Method} is refused: {Reason}", context.Peer, context.Method, reason);
        throw new RpcException(new Status(StatusCode.Unauthenticated, reason));
    }

    /// <summary>What is wrong with what a caller shows; null if nothing is.</summary>
    /// <param name="token">The learner's.</param>
    /// <param name="shown">Every authorization header there was.</param>
    public static string? Refusal(BearerToken token, IReadOnlyList<string> shown) =>
        shown.Count == 1 && token.Matches(shown[0]) ? null
        : shown.Count == 0
            ? "The learner wants a token and none was shown: start the worker with --token-file FILE or the variable MEM1_TOKEN."
            : "The token that was shown is not the learner's: give worker and learner the same one.";
}
