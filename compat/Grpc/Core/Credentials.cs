// Channel credentials (is the connection protected) and call credentials (metadata that proves who calls).

using System.Collections.ObjectModel;

namespace Grpc.Core;

public abstract class ChannelCredentials
{
    public static ChannelCredentials Insecure { get; } = new InsecureCredentials();

    public static ChannelCredentials SecureSsl { get; } = new SslCredentials();

    /// <summary>Secure credentials that also apply call credentials to every call.</summary>
    public static ChannelCredentials Create(ChannelCredentials channelCredentials, CallCredentials callCredentials) =>
        new CompositeCredentials(channelCredentials, callCredentials);

    internal abstract bool IsSecure { get; }

    internal virtual CallCredentials? CallCredentials => null;

    private sealed class InsecureCredentials : ChannelCredentials
    {
        internal override bool IsSecure => false;
    }

    private sealed class CompositeCredentials : ChannelCredentials
    {
        private readonly ChannelCredentials _channel;

        public CompositeCredentials(ChannelCredentials channel, CallCredentials call)
        {
            ArgumentNullException.ThrowIfNull(channel);
            ArgumentNullException.ThrowIfNull(call);
            _channel = channel;
            CallCredentials = channel.CallCredentials is { } inner ? CallCredentials.Compose(inner, call) : call;
        }

        internal override bool IsSecure => _channel.IsSecure;

        internal override CallCredentials? CallCredentials { get; }
    }
}

public sealed class SslCredentials : ChannelCredentials
{
    internal override bool IsSecure => true;
}

/// <summary>Adds metadata to a call, for instance a token; it may be asynchronous.</summary>
public delegate Task AsyncAuthInterceptor(AuthInterceptorContext context, Metadata metadata);

/// <summary>The call that credentials are wanted for.</summary>
public class AuthInterceptorContext
{
    public AuthInterceptorContext(string serviceUrl, string methodName, CancellationToken cancellationToken = default)
    {
        ServiceUrl = serviceUrl;
        MethodName = methodName;
        CancellationToken = cancellationToken;
    }

    public string ServiceUrl { get; }

    public string MethodName { get; }

    public CancellationToken CancellationToken { get; }
}

public abstract class CallCredentials
{
    public static CallCredentials FromInterceptor(AsyncAuthInterceptor interceptor)
    {
        ArgumentNullException.ThrowIfNull(interceptor);
        return new InterceptorCredentials(interceptor);
    }

    public static CallCredentials Compose(params CallCredentials[] credentials)
    {
        ArgumentNullException.ThrowIfNull(credentials);
        if (credentials.Length < 2)
            throw new ArgumentException("At least two credentials are needed to compose them.", nameof(credentials));
        return new ComposedCredentials(credentials);
    }

    /// <summary>Adds the metadata of these credentials, in order of composition.</summary>
    internal abstract Task ApplyAsync(AuthInterceptorContext context, Metadata metadata);

    private sealed class InterceptorCredentials(AsyncAuthInterceptor interceptor) : CallCredentials
    {
        internal override Task ApplyAsync(AuthInterceptorContext context, Metadata metadata) => interceptor(context, metadata);
    }

    private sealed class ComposedCredentials(CallCredentials[] parts) : CallCredentials
    {
        private readonly ReadOnlyCollection<CallCredentials> _parts = Array.AsReadOnly((CallCredentials[])parts.Clone());

        internal override async Task ApplyAsync(AuthInterceptorContext context, Metadata metadata)
        {
            foreach (var part in _parts)
                await part.ApplyAsync(context, metadata).ConfigureAwait(false);
        }
    }
}
