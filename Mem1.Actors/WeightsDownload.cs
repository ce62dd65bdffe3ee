// Invariants:
//  * What is returned has the announced length and hash; nothing is allocated beyond the bound, whatever the learner announces.
using System.Security.Cryptography;
using Grpc.Core;
using Mem1.Protocol.V1;

namespace Mem1.Actors;

/// <summary>Pulls one version of the weights.</summary>
internal static class WeightsDownload
{
    /// <summary>Downloads and verifies a version.</summary>
    /// <exception cref="InvalidDataException">The chunks contradict what they announce.</exception>
    /// <exception cref="RpcException">The call failed.</exception>
    public static async Task<byte[]> PullAsync(
        LearnerService.LearnerServiceClient client, long version, long maxBytes, DateTime deadline, CancellationToken cancellationToken)
    {
        using var call = client.PullWeights(
            new PullWeightsRequest { PolicyVersion = version }, deadline: deadline, cancellationToken: cancellationToken);
        byte[]? blob = null;
        byte[] expected = [];
        var received = 0;
        await foreach (var chunk in call.ResponseStream.ReadAllAsync(cancellationToken).ConfigureAwait(false))
        {
            if (blob is null)
            {
                if (chunk.TotalBytes < 1 || chunk.TotalBytes > maxBytes)
                {
                    throw new InvalidDataException(
                        $"The weights of version {version} are announced with {chunk.TotalBytes} bytes; 1 to {maxBytes} are accepted.");
                }
                if (chunk.Sha256.Length != SHA256.HashSizeInBytes)
                {
                    throw new InvalidDataException(
                        $"The first chunk of version {version} carries a hash of {chunk.Sha256.Length} bytes; SHA-256 has " +
                        $"{SHA256.HashSizeInBytes}.");
                }
                blob = GC.AllocateUninitializedArray<byte>((int)chunk.TotalBytes);
                expected = chunk.Sha256.ToByteArray();
            }
            if (chunk.PolicyVersion != version)
                throw new InvalidDataException($"A chunk of version {chunk.PolicyVersion} came where version {version} was asked for.");
            if (chunk.Data.Length > blob.Length - received)
                throw new InvalidDataException($"The weights of version {version} are longer than the announced {blob.Length} bytes.");
            chunk.Data.Span.CopyTo(blob.AsSpan(received));
            received += chunk.Data.Length;
        }
        if (blob is null || received != blob.Length)
            throw new InvalidDataException($"The weights of version {version} ended after {received} of {blob?.Length ?? 0} bytes.");
        if (!SHA256.HashData(blob).AsSpan().SequenceEqual(expected))
            throw new InvalidDataException($"The weights of version {version} do not have the announced SHA-256.");
        return blob;
    }
}
