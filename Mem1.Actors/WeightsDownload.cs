// Invariants:
//  * What is returned has the announced hash; nothing is allocated beyond the bound, whatever the learner announces.
//  * A transfer that breaks goes on where it was, as long as every attempt brings something; one that stands still is the caller's failure.
using System.Security.Cryptography;
using Grpc.Core;
using Mem1.Protocol;
using Mem1.Protocol.V1;

namespace Mem1.Actors;

/// <summary>A version of the weights that a worker holds whole.</summary>
internal sealed record HeldWeights(long Version, ReadOnlyMemory<byte> Blob);

/// <summary>Pulls one version of the weights.</summary>
internal static class WeightsDownload
{
    /// <summary>Downloads and verifies a version.</summary>
    /// <param name="client">Of the learner.</param>
    /// <param name="version">Which.</param>
    /// <param name="held">Against which the learner may send a delta; null for the whole blob.</param>
    /// <param name="maxBytes">Largest transfer and largest blob.</param>
    /// <param name="deadline">Of the whole download.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <returns>The safetensors file.</returns>
    /// <exception cref="InvalidDataException">The chunks contradict what they announce.</exception>
    /// <exception cref="RpcException">The call failed before it brought anything.</exception>
    public static async Task<byte[]> PullAsync(
        LearnerService.LearnerServiceClient client, long version, HeldWeights? held, long maxBytes, DateTime deadline,
        CancellationToken cancellationToken)
    {
        var transfer = new Transfer(version, maxBytes);
        while (true)
        {
            var before = transfer.Received;
            try
            {
                var request = new PullWeightsRequest { PolicyVersion = version, Offset = transfer.Received };
                if (held is not null) request.HaveVersion = held.Version;
                using var call = client.PullWeights(request, deadline: deadline, cancellationToken: cancellationToken);
                await foreach (var chunk in call.ResponseStream.ReadAllAsync(cancellationToken).ConfigureAwait(false)) transfer.Take(chunk);
                break;
            }
            catch (RpcException e) when (e.StatusCode is StatusCode.Unavailable or StatusCode.Internal or StatusCode.Unknown
                && transfer.Received > before && !cancellationToken.IsCancellationRequested)
            {
                // The stream broke on the way; what has arrived stays. OUT_OF_RANGE would say that the transfer is another one now.
            }
        }

        return transfer.Finish(held);
    }

    private sealed class Transfer(long version, long maxBytes)
    {
        private byte[]? _data;
        private byte[] _expected = [];
        private WeightEncoding _encoding;
        private int _received;

        public int Received => _received;

        public void Take(WeightsChunk chunk)
        {
            if (chunk.PolicyVersion != version)
                throw new InvalidDataException($"A chunk of version {chunk.PolicyVersion} came where version {version} was asked for.");
            if (_data is null) Begin(chunk);
            if (chunk.Offset != _received || chunk.TotalBytes != _data!.Length || chunk.Encoding != _encoding)
            {
                throw new InvalidDataException(
                    $"A chunk of version {version} is at {chunk.Offset} of {chunk.TotalBytes} bytes ({chunk.Encoding}) where {_received} of "
                    + $"{_data!.Length} ({_encoding}) was expected.");
            }

            if (chunk.Data.Length > _data.Length - _received)
                throw new InvalidDataException($"The weights of version {version} are longer than the announced {_data.Length} bytes.");
            chunk.Data.Span.CopyTo(_data.AsSpan(_received));
            _received += chunk.Data.Length;
        }

        public byte[] Finish(HeldWeights? held)
        {
            if (_data is null || _received != _data.Length)
                throw new InvalidDataException($"The weights of version {version} ended after {_received} of {_data?.Length ?? 0} bytes.");
            var blob = _encoding switch
            {
                WeightEncoding.Plain => _data,
                WeightEncoding.Delta when held is not null => WeightDelta.Apply(held.Blob.Span, _data),
                _ => throw new InvalidDataException($"The weights of version {version} came as {_encoding}, which was not asked for."),
            };
            if (!SHA256.HashData(blob).AsSpan().SequenceEqual(_expected))
                throw new InvalidDataException($"The weights of version {version} do not have the announced SHA-256.");
            return blob;
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

            _data = GC.AllocateUninitializedArray<byte>((int)chunk.TotalBytes);
            _expected = chunk.Sha256.ToByteArray();
            _encoding = chunk.Encoding;
        }
    }
}
