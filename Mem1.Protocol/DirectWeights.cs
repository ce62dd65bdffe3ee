// Keeps: what is said before the weights is bounded on both sides; nothing that is not from a learner of this protocol is taken for weights;
// what is opened and not handed out is closed.
using System.Buffers.Binary;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using Google.Protobuf;
using Grpc.Core;
using Mem1.Protocol.Security;
using Mem1.Protocol.V1;

namespace Mem1.Protocol;

/// <summary>
/// Weights on a connection of their own, read from the socket straight into their place (<c>DirectRequest</c> of rollout.proto).
/// </summary>
public static class DirectWeights
{
    /// <summary>Longest request or reply in bytes: a token, a reason, a hash and a few numbers.</summary>
    public const int MaxMessageBytes = 8 * 1024;

    // As the pings of a worker's gRPC connection.
    private const int KeepAliveSeconds = 20;

    /// <summary>
    /// How a connection begins. No HTTP does, and none waits for more of it: as long as the preface of HTTP/2, which begins with <c>PRI</c>,
    /// and to HTTP/1.1 a request of a version that there is not.
    /// </summary>
    public static ReadOnlySpan<byte> Magic => "MEM1 * WEIGHTS/1.0\r\n\r\n\r\n"u8;

    /// <summary>Asks for weights.</summary>
    /// <param name="learner">Its address, as for gRPC.</param>
    /// <param name="security">Who asks, and whom it trusts.</param>
    /// <param name="request">What for.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <returns>The answer, and the stream that holds exactly what is left of the transfer; to be disposed of by the caller.</returns>
    /// <exception cref="RpcException">
    /// The learner's refusal, with the status that the call would have; <see cref="StatusCode.Unavailable"/> where there is no learner, or
    /// something between that does not let this through.
    /// </exception>
    public static async Task<(WeightsChunk First, Stream Body)> OpenAsync(
        Uri learner, ChannelSecurity security, PullWeightsRequest request, CancellationToken cancellationToken)
    {
        Stream? stream = null;
        try
        {
            stream = await ConnectAsync(learner, security, cancellationToken).ConfigureAwait(false);
            await WriteAsync(
                stream, Magic.ToArray(), new DirectRequest { Pull = request, Authorization = security.Token?.Header ?? "" },
                cancellationToken).ConfigureAwait(false);
            var reply = await ReadAsync(stream, DirectReply.Parser, cancellationToken).ConfigureAwait(false);
            if (reply.Status != (int)StatusCode.OK) throw new RpcException(new Status((StatusCode)reply.Status, reply.Detail));
            var body = stream;
            stream = null;
            return (reply.First ?? new WeightsChunk(), body);
        }
        catch (Exception e) when (e is IOException or SocketException or AuthenticationException or InvalidDataException)
        {
            throw new RpcException(new Status(StatusCode.Unavailable, $"No weights directly from {learner.Authority}: {e.Message}", e));
        }
        finally
        {
            if (stream is not null) await stream.DisposeAsync().ConfigureAwait(false);
        }
    }

    /// <summary>Writes a message with its length before it, in one piece.</summary>
    /// <param name="stream">Where to.</param>
    /// <param name="before">What goes before that.</param>
    /// <param name="message">What.</param>
    /// <param name="cancellationToken">Gives up.</param>
    public static async Task WriteAsync(Stream stream, ReadOnlyMemory<byte> before, IMessage message, CancellationToken cancellationToken)
    {
        var bytes = new byte[before.Length + sizeof(uint) + message.CalculateSize()];
        before.CopyTo(bytes);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(before.Length), (uint)(bytes.Length - before.Length - sizeof(uint)));
        message.WriteTo(bytes.AsSpan(before.Length + sizeof(uint)));
        await stream.WriteAsync(bytes, cancellationToken).ConfigureAwait(false);
        await stream.FlushAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Reads such a message.</summary>
    /// <exception cref="InvalidDataException">It is too long or none.</exception>
    /// <exception cref="EndOfStreamException">The connection ended before it was whole.</exception>
    public static async Task<T> ReadAsync<T>(Stream stream, MessageParser<T> parser, CancellationToken cancellationToken)
        where T : class, IMessage<T>
    {
        var prefix = new byte[sizeof(uint)];
        await stream.ReadExactlyAsync(prefix, cancellationToken).ConfigureAwait(false);
        var length = BinaryPrimitives.ReadUInt32LittleEndian(prefix);
        if (length > MaxMessageBytes)
            throw new InvalidDataException($"A message of {length} bytes is announced where at most {MaxMessageBytes} are accepted.");
        var bytes = new byte[length];
        await stream.ReadExactlyAsync(bytes, cancellationToken).ConfigureAwait(false);
        try
        {
            return parser.ParseFrom(bytes);
        }
        catch (InvalidProtocolBufferException e)
        {
            throw new InvalidDataException("What came is not a message of this protocol.", e);
        }
    }

    private static async Task<Stream> ConnectAsync(Uri learner, ChannelSecurity security, CancellationToken cancellationToken)
    {
        var socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        Stream? stream = null;
        try
        {
            await socket.ConnectAsync(learner.IdnHost, learner.Port, cancellationToken).ConfigureAwait(false);
            // A learner that vanished while it had nothing to say is noticed.
            socket.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.KeepAlive, true);
            socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveTime, KeepAliveSeconds);
            stream = new NetworkStream(socket, ownsSocket: true);
            if (learner.Scheme != Uri.UriSchemeHttps) return stream;
            var options = security.Tls?.ClientOptions() ?? new SslClientAuthenticationOptions();
            options.TargetHost = learner.IdnHost;
            var tls = new SslStream(stream);
            stream = tls;
            await tls.AuthenticateAsClientAsync(options, cancellationToken).ConfigureAwait(false);
            return stream;
        }
        catch
        {
            if (stream is not null) await stream.DisposeAsync().ConfigureAwait(false);
            socket.Dispose();
            throw;
        }
    }
}
