// How a channel connects and what it accepts.

using Grpc.Core;

namespace Grpc.Net.Client;

public sealed class GrpcChannelOptions
{
    /// <summary>Null follows the address: insecure for http, TLS for https.</summary>
    public ChannelCredentials? Credentials { get; set; }

    /// <summary>In bytes of one message; null is no limit.</summary>
    public int? MaxSendMessageSize { get; set; }

    /// <summary>In bytes of one message, before and after inflation; null is no limit.</summary>
    public int? MaxReceiveMessageSize { get; set; } = 4 * 1024 * 1024;

    /// <summary>Excludes <see cref="HttpHandler"/>.</summary>
    public HttpClient? HttpClient { get; set; }

    /// <summary>Used as it is; without it the channel makes a SocketsHttpHandler that opens further connections past 100 streams.</summary>
    public HttpMessageHandler? HttpHandler { get; set; }

    /// <summary>Disposing the channel disposes the given client or handler too.</summary>
    public bool DisposeHttpClient { get; set; }

    /// <summary>Cancelled calls, and calls past their deadline, throw OperationCanceledException instead of RpcException.</summary>
    public bool ThrowOperationCanceledOnCancellation { get; set; }

    /// <summary>Applies call credentials without TLS as well.</summary>
    public bool UnsafeUseInsecureChannelCallCredentials { get; set; }
}
