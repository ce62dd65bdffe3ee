// Invariants:
//  * What is returned has the announced hash; memory is taken as bytes arrive, and never beyond the bound, whatever the learner announces.
//  * A transfer that breaks goes on where it was, as long as every attempt brings something; one that stands still is the caller's failure.
//  * Where a connection of its own brings nothing, gRPC is asked for the same bytes, and the caller is told.
using System.Net.Sockets;
using System.Security.Cryptography;
using Grpc.Core;
using Mem1.Protocol;
using Mem1.Protocol.V1;

namespace Mem1.Actors;

/// <summary>A version of the weights that a worker holds whole.</summary>
internal sealed record HeldWeights(long Version, ByteBlob Blob);

/// <summary>Opens a transfer on a connection of its own, as <see cref="DirectWeights.OpenAsync"/> does.</summary>
internal delegate Task<(WeightsChunk First, Stream Body)> OpenDirect(PullWeightsRequest request, CancellationToken cancellationToken);

/// <summary>What a download brought.</summary>
/// <param name="Blob">The safetensors file.</param>
/// <param name="DirectFailure">Why it came over gRPC although it was to come directly; null when it did not.</param>
internal sealed record DownloadedWeights(ByteBlob Blob, RpcException? DirectFailure);

/// <summary>Pulls one version of the weights.</summary>
/// <param name="client">Of the learner.</param>
/// <param name="direct">Tried first; null where the learner does not offer it.</param>
/// <param name="maxBytes">Largest transfer and largest blob.</param>
/// <param name="segmentBytes">Size of the segments of the blob.</param>
internal sealed class WeightsDownload(
    LearnerService.LearnerServiceClient client, OpenDirect? direct, long maxBytes, int segmentBytes = ByteBlob.StandardSegmentBytes)
{
    // Read from a socket, or hashed, at once: system calls and tasks cost little beside so many bytes.
    internal const int AtOnce = 1 << 20;

    // A connection that brings nothing for so long is given up, as the pings of a gRPC connection would have it.
    private static readonly TimeSpan s_stallLimit = TimeSpan.FromSeconds(30);

    // Before the first byte of a difference the learner makes it, which takes a minute for the largest models.
    private static readonly TimeSpan s_makingLimit = TimeSpan.FromMinutes(5);

    /// <summary>Downloads and verifies a version.</summary>
    /// <param name="version">Which.</param>
    /// <param name="held">Against which the learner may send a delta; null for the whole blob.</param>
    /// <param name="deadline">Of a call.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="InvalidDataException">The chunks contradict what they announce.</exception>
    /// <exception cref="RpcException">The call failed before it brought anything.</exception>
    public async Task<DownloadedWeights> PullAsync(
        long version, HeldWeights? held, DateTime deadline, CancellationToken cancellationToken)
    {
        var transfer = new Transfer(version, held, maxBytes, segmentBytes);
        await using var _ = transfer.ConfigureAwait(false);
        RpcException? failure = null;
        while (true)
        {
            var before = transfer.Received;
            var request = new PullWeightsRequest { PolicyVersion = version, Offset = before };
            if (held is not null) request.HaveVersion = held.Version;
            try
            {
                if (direct is not null && failure is null)
                {
                    await TakeDirectAsync(transfer, request, cancellationToken).ConfigureAwait(false);
                }
                else
                {
                    using var call = client.PullWeights(request, deadline: deadline, cancellationToken: cancellationToken);
                    await foreach (var chunk in call.ResponseStream.ReadAllAsync(cancellationToken).ConfigureAwait(false)) transfer.Take(chunk);
                }

                break;
            }
            catch (RpcException e) when (e.StatusCode is StatusCode.Unavailable or StatusCode.Internal or StatusCode.Unknown
                && transfer.Received > before && !cancellationToken.IsCancellationRequested)
            {
                // The stream broke on the way; what has arrived stays. OUT_OF_RANGE would say that the transfer is another one now.
            }
            catch (RpcException e) when (direct is not null && failure is null && e.StatusCode == StatusCode.Unavailable
                && !cancellationToken.IsCancellationRequested)
            {
                failure = e;
            }
        }

        return new DownloadedWeights(await transfer.FinishAsync().ConfigureAwait(false), failure);
    }

    private async Task TakeDirectAsync(Transfer transfer, PullWeightsRequest request, CancellationToken cancellationToken)
    {
        using var stall = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        stall.CancelAfter(request.HasHaveVersion ? s_makingLimit : s_stallLimit);
        try
        {
            var (first, body) = await direct!(request, stall.Token).ConfigureAwait(false);
            await using var _ = body.ConfigureAwait(false);
            transfer.Take(first);
            while (!transfer.IsWhole)
            {
                stall.CancelAfter(s_stallLimit);
                var count = await body.ReadAsync(transfer.Free(AtOnce), stall.Token).ConfigureAwait(false);
                if (count == 0) throw new EndOfStreamException("The connection ended before its weights did.");
                transfer.Advance(count);
            }
        }
        catch (Exception e) when (e is IOException or SocketException
            || (e is OperationCanceledException && !cancellationToken.IsCancellationRequested))
        {
            throw new RpcException(new Status(StatusCode.Unavailable, $"The connection for weights broke: {e.Message}", e));
        }
    }

    /// <summary>What has arrived. It is hashed meanwhile, on another thread.</summary>
    private sealed class Transfer(long version, HeldWeights? held, long maxBytes, int segmentBytes) : IAsyncDisposable
    {
        private readonly IncrementalHash _hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        private ByteBlobWriter? _data;
        private byte[] _expected = [];
        private WeightEncoding _encoding;
        private Task _hashed = Task.CompletedTask;
        private int _unhashed;

        public long Received => _data?.Position ?? 0;

        public bool IsWhole => _data is not null && _data.Position == _data.Length;

        public void Take(WeightsChunk chunk)
        {
            if (chunk.PolicyVersion != version)
                throw new InvalidDataException($"A chunk of version {chunk.PolicyVersion} came where version {version} was asked for.");
            if (_data is null) Begin(chunk);
            if (chunk.Offset != _data!.Position || chunk.TotalBytes != _data.Length || chunk.Encoding != _encoding)
            {
                throw new InvalidDataException(
                    $"A chunk of version {version} is at {chunk.Offset} of {chunk.TotalBytes} bytes ({chunk.Encoding}) where {_data.Position} of "
                    + $"{_data.Length} ({_encoding}) was expected.");
            }

            if (chunk.Data.Length > _data.Length - _data.Position)
                throw new InvalidDataException($"The weights of version {version} are longer than the announced {_data.Length} bytes.");
            for (var rest = chunk.Data.Span; rest.Length > 0;)
            {
                var free = Free(rest.Length);
                rest[..free.Length].CopyTo(free.Span);
                Advance(free.Length);
                rest = rest[free.Length..];
            }
        }

        /// <summary>Where the next bytes go.</summary>
        public Memory<byte> Free(int most) => _data!.Free(most);

        /// <summary>So many more have arrived there.</summary>
        public void Advance(int count)
        {
            _data!.Advance(count);
            _unhashed += count;
            if (_unhashed < AtOnce && !_data.IsAtBorder) return;
            if (_encoding == WeightEncoding.Plain) _hashed = HashAsync(_hashed, _data.Last(_unhashed));
            _unhashed = 0;
        }

        public async Task<ByteBlob> FinishAsync()
        {
            if (!IsWhole) throw new InvalidDataException($"The weights of version {version} ended after {Received} of {_data?.Length ?? 0} bytes.");
            var blob = _data!.Finish();
            byte[] hash;
            switch (_encoding)
            {
                case WeightEncoding.Plain:
                    await _hashed.ConfigureAwait(false);
                    hash = _hash.GetHashAndReset();
                    break;
                case WeightEncoding.Delta when held is not null:
                    (blob, hash) = await Task.Run(() =>
                    {
                        var made = WeightDelta.Apply(held.Blob, blob);
                        return (made, made.Sha256());
                    }).ConfigureAwait(false);
                    break;
                default:
                    throw new InvalidDataException($"The weights of version {version} came as {_encoding}, which was not asked for.");
            }

            if (!hash.AsSpan().SequenceEqual(_expected))
                throw new InvalidDataException($"The weights of version {version} do not have the announced SHA-256.");
            return blob;
        }

        public async ValueTask DisposeAsync()
        {
            await _hashed.ConfigureAwait(false);
            _hash.Dispose();
        }

        private async Task HashAsync(Task before, ReadOnlyMemory<byte> bytes)
        {
            await before.ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
            _hash.AppendData(bytes.Span);
        }

        private void Begin(WeightsChunk chunk)
        {
            if (chunk.TotalBytes < 1 || chunk.TotalBytes > maxBytes)
            {
                throw new InvalidDataException(
                    $"The weights of version {version} are announced with {chunk.TotalBytes} bytes; 1 to {maxBytes} are accepted.");
            }

            if (chunk.Sha256.Length != SHA256.HashSizeInBytes)
            {
                throw new InvalidDataException(
                    $"The first chunk of version {version} carries a hash of {chunk.Sha256.Length} bytes; SHA-256 has {SHA256.HashSizeInBytes}.");
            }

            _data = new ByteBlobWriter(chunk.TotalBytes, segmentBytes);
            _expected = chunk.Sha256.ToByteArray();
            _encoding = chunk.Encoding;
        }
    }
}
