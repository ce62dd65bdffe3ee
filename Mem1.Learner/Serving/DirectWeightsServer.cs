// Keeps: a connection that does not begin as DirectWeights says is HTTP's, with every byte of it; nothing of a request is acted on before its
// token is right; a worker that does not say what it wants, or does not take what it gets, is cut off. A transfer holds no memory of its
// own: the blob's bytes go to the socket, and what waits there is bounded by the kernel (net.ipv4.tcp_wmem).
using System.Buffers;
using System.Net.Sockets;
using Grpc.Core;
using Mem1.Protocol;
using Mem1.Protocol.Security;
using Mem1.Protocol.V1;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core.Features;
using Microsoft.Extensions.Logging;

namespace Mem1.Learner;

/// <summary>Serves weights on connections of their own, at the port of everything else.</summary>
/// <param name="publisher">Of the weights.</param>
/// <param name="token">What callers must show; null lets anybody in.</param>
/// <param name="requestLimit">How long a caller may take to say what it wants.</param>
/// <param name="stallLimit">How long it may take nothing.</param>
/// <param name="stopping">Ends all transfers.</param>
/// <param name="log">Told of refusals.</param>
internal sealed class DirectWeightsServer(
    WeightPublisher publisher, BearerToken? token, TimeSpan requestLimit, TimeSpan stallLimit, CancellationToken stopping, ILogger log)
{
    // Handed to the socket at once: system calls cost little beside so many bytes, and a worker that stands still is noticed within them.
    private const int SentAtOnce = 1 << 20;

    private readonly RefusalLog _refused = new(log, TimeProvider.System);

    /// <summary>Put after TLS and before HTTP.</summary>
    public ConnectionDelegate Before(ConnectionDelegate http) => async connection =>
    {
        bool ours;
        using (var limit = Limit(connection, requestLimit))
        {
            try
            {
                ours = await BeginsAsync(connection, limit.Token).ConfigureAwait(false);
            }
            catch (Exception e) when (e is OperationCanceledException or IOException)
            {
                return; // said too little, or has gone
            }
        }

        if (ours)
            await ServeAsync(connection).ConfigureAwait(false);
        else
            await http(connection).ConfigureAwait(false);
    };

    /// <summary>Whether a connection begins with the magic; if not, nothing is taken from it.</summary>
    private static async ValueTask<bool> BeginsAsync(ConnectionContext connection, CancellationToken cancellationToken)
    {
        var input = connection.Transport.Input;
        while (true)
        {
            var read = await input.ReadAsync(cancellationToken).ConfigureAwait(false);
            var verdict = Verdict(read.Buffer);
            if (verdict == true)
            {
                input.AdvanceTo(read.Buffer.GetPosition(DirectWeights.Magic.Length));
                return true;
            }

            if (verdict == false || read.IsCompleted)
            {
                input.AdvanceTo(read.Buffer.Start);
                return false;
            }

            input.AdvanceTo(read.Buffer.Start, read.Buffer.End);
        }

        static bool? Verdict(in ReadOnlySequence<byte> said)
        {
            Span<byte> begin = stackalloc byte[(int)Math.Min(said.Length, DirectWeights.Magic.Length)];
            said.Slice(0, begin.Length).CopyTo(begin);
            return !DirectWeights.Magic.StartsWith(begin) ? false : begin.Length == DirectWeights.Magic.Length ? true : null;
        }
    }

    private async Task ServeAsync(ConnectionContext connection)
    {
        try
        {
            // From here on nothing goes through the connection's pipe, which would copy it: the socket, or TLS over it, has it all.
            var own = connection.Features.Get<ISslStreamFeature>()?.SslStream as Stream
                ?? (connection.Features.Get<IConnectionSocketFeature>() is { Socket: { } socket } ? new NetworkStream(socket, ownsSocket: false) : null);
            var output = own ?? connection.Transport.Output.AsStream(leaveOpen: true);
            var (transfer, at) = await AnswerAsync(connection, output).ConfigureAwait(false);
            if (transfer is null) return;
            using var stall = Limit(connection, stallLimit);
            while (at < transfer.Sent.Length)
            {
                var next = transfer.Sent.At(at, SentAtOnce);
                stall.CancelAfter(stallLimit);
                await output.WriteAsync(next, stall.Token).ConfigureAwait(false);
                at += next.Length;
            }

            await output.FlushAsync(stall.Token).ConfigureAwait(false);
        }
        catch (Exception e) when (e is OperationCanceledException or IOException or SocketException or ObjectDisposedException or InvalidDataException)
        {
            // The worker has gone or does not read, or the learner stops: the connection ends, and the worker asks again for what it lacks.
            log.LogDebug(e, "A transfer of weights to {Peer} broke off", connection.RemoteEndPoint);
        }
    }

    /// <summary>Reads the request and answers it; null where it is refused.</summary>
    private async Task<(WeightTransfer? Transfer, long At)> AnswerAsync(ConnectionContext connection, Stream output)
    {
        using var limit = Limit(connection, requestLimit);
        var request = await DirectWeights.ReadAsync(
            connection.Transport.Input.AsStream(leaveOpen: true), DirectRequest.Parser, limit.Token).ConfigureAwait(false);
        if (AccessGuard.Refusal(token, request.Authorization) is { } reason)
        {
            _refused.Say($"{connection.RemoteEndPoint}", "weights", reason);
            await SayAsync(new DirectReply { Status = (int)StatusCode.Unauthenticated, Detail = reason }).ConfigureAwait(false);
            return (null, 0);
        }

        WeightTransfer transfer;
        var pull = request.Pull ?? new PullWeightsRequest();
        try
        {
            // A delta takes as long as it takes to make: the connection alone ends that.
            transfer = await WeightTransfer.OpenAsync(publisher, pull, connection.ConnectionClosed).ConfigureAwait(false);
        }
        catch (RpcException e)
        {
            await SayAsync(new DirectReply { Status = (int)e.StatusCode, Detail = e.Status.Detail }).ConfigureAwait(false);
            return (null, 0);
        }

        await SayAsync(new DirectReply { First = transfer.Chunk(pull.Offset, default, first: true) }).ConfigureAwait(false);
        return (transfer, pull.Offset);

        async Task SayAsync(DirectReply reply)
        {
            using var patience = Limit(connection, stallLimit);
            await DirectWeights.WriteAsync(output, default, reply, patience.Token).ConfigureAwait(false);
        }
    }

    private CancellationTokenSource Limit(ConnectionContext connection, TimeSpan limit)
    {
        var source = CancellationTokenSource.CreateLinkedTokenSource(connection.ConnectionClosed, stopping);
        source.CancelAfter(limit);
        return source;
    }
}
