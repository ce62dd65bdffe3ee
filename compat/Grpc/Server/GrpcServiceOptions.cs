// Options of all services and of one service; what a service does not set it takes from the former.

using System.IO.Compression;

namespace Grpc.AspNetCore.Server;

public class GrpcServiceOptions
{
    private int? _maxReceive;
    private int? _maxSend;

    /// <summary>In bytes of one message, before and after inflation; null is no limit. 4 MiB unless set.</summary>
    public int? MaxReceiveMessageSize
    {
        get => _maxReceive;
        set => (_maxReceive, MaxReceiveIsSet) = (value, true);
    }

    /// <summary>In bytes of one message; null, the default, is no limit.</summary>
    public int? MaxSendMessageSize
    {
        get => _maxSend;
        set => (_maxSend, MaxSendIsSet) = (value, true);
    }

    /// <summary>Adds type and message of a handler's exception to the status. They may hold secrets.</summary>
    public bool? EnableDetailedErrors { get; set; }

    /// <summary>"gzip" or "deflate"; used for clients that accept it.</summary>
    public string? ResponseCompressionAlgorithm { get; set; }

    public CompressionLevel? ResponseCompressionLevel { get; set; }

    public InterceptorCollection Interceptors { get; } = [];

    internal bool MaxReceiveIsSet { get; private set; }

    internal bool MaxSendIsSet { get; private set; }
}

/// <summary>Options of the service <typeparamref name="TService"/> only.</summary>
public class GrpcServiceOptions<TService> : GrpcServiceOptions
    where TService : class
{
}

/// <summary>The options that hold for one service.</summary>
internal sealed class EffectiveOptions
{
    private const int DefaultMaxReceive = 4 * 1024 * 1024;

    public EffectiveOptions(GrpcServiceOptions global, GrpcServiceOptions service)
    {
        MaxReceiveMessageSize = service.MaxReceiveIsSet ? service.MaxReceiveMessageSize
            : global.MaxReceiveIsSet ? global.MaxReceiveMessageSize : DefaultMaxReceive;
        MaxSendMessageSize = service.MaxSendIsSet ? service.MaxSendMessageSize : global.MaxSendMessageSize;
        EnableDetailedErrors = service.EnableDetailedErrors ?? global.EnableDetailedErrors ?? false;
        CompressionAlgorithm = service.ResponseCompressionAlgorithm ?? global.ResponseCompressionAlgorithm;
        CompressionLevel = service.ResponseCompressionLevel ?? global.ResponseCompressionLevel ?? CompressionLevel.Fastest;
        Interceptors = [.. global.Interceptors, .. service.Interceptors];
        if (CompressionAlgorithm is { } name && name != Wire.MessageEncoding.Identity && Wire.MessageEncoding.Find(name) is null)
            throw new InvalidOperationException($"The configured response compression algorithm '{name}' is not supported.");
    }

    public int? MaxReceiveMessageSize { get; }

    public int? MaxSendMessageSize { get; }

    public bool EnableDetailedErrors { get; }

    public string? CompressionAlgorithm { get; }

    public CompressionLevel CompressionLevel { get; }

    public IReadOnlyList<InterceptorRegistration> Interceptors { get; }
}
