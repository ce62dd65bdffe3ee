// What a caller may say about one call.

namespace Grpc.Core;

/// <summary>Immutable; each With method returns a changed copy.</summary>
public struct CallOptions
{
    public CallOptions(
        Metadata? headers = null,
        DateTime? deadline = null,
        CancellationToken cancellationToken = default,
        WriteOptions? writeOptions = null,
        ContextPropagationToken? propagationToken = null,
        CallCredentials? credentials = null)
    {
        if (propagationToken is not null)
            throw new NotSupportedException("Context propagation is not supported; pass deadline and cancellation token themselves.");
        Headers = headers;
        Deadline = deadline;
        CancellationToken = cancellationToken;
        WriteOptions = writeOptions;
        Credentials = credentials;
    }

    public Metadata? Headers { get; private set; }

    public DateTime? Deadline { get; private set; }

    public CancellationToken CancellationToken { get; private set; }

    public WriteOptions? WriteOptions { get; private set; }

    public CallCredentials? Credentials { get; private set; }

    public readonly CallOptions WithHeaders(Metadata headers)
    {
        var copy = this;
        copy.Headers = headers;
        return copy;
    }

    public readonly CallOptions WithDeadline(DateTime deadline)
    {
        var copy = this;
        copy.Deadline = deadline;
        return copy;
    }

    public readonly CallOptions WithCancellationToken(CancellationToken cancellationToken)
    {
        var copy = this;
        copy.CancellationToken = cancellationToken;
        return copy;
    }

    public readonly CallOptions WithWriteOptions(WriteOptions writeOptions)
    {
        var copy = this;
        copy.WriteOptions = writeOptions;
        return copy;
    }

    public readonly CallOptions WithCredentials(CallCredentials credentials)
    {
        var copy = this;
        copy.Credentials = credentials;
        return copy;
    }
}

/// <summary>Only a type for signatures: grpc-dotnet has no working implementation either.</summary>
public abstract class ContextPropagationToken
{
    internal ContextPropagationToken()
    {
    }
}

/// <summary>Only a type for signatures, as <see cref="ContextPropagationToken"/>.</summary>
public class ContextPropagationOptions
{
}
