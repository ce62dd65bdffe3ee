// Keeps: what a transfer sends depends on nothing but the versions asked for, so that one which broke goes on at any byte, over gRPC or
// directly; every refusal is a status with a sentence.
using Google.Protobuf;
using Grpc.Core;
using Mem1.Protocol;
using Mem1.Protocol.V1;

namespace Mem1.Learner;

/// <summary>What a worker that asked for weights is sent.</summary>
/// <param name="Blob">The version.</param>
/// <param name="Sent">Its bytes, or a difference that leads to them.</param>
/// <param name="Encoding">Which of the two.</param>
internal sealed record WeightTransfer(WeightBlob Blob, ByteBlob Sent, WeightEncoding Encoding)
{
    /// <summary>Finds what was asked for.</summary>
    /// <exception cref="RpcException">The version is not held, or the offset is not within the transfer.</exception>
    public static async Task<WeightTransfer> OpenAsync(
        WeightPublisher publisher, PullWeightsRequest request, CancellationToken cancellationToken)
    {
        if (publisher.Find(request.PolicyVersion) is not { } blob)
        {
            throw new RpcException(new Status(
                StatusCode.NotFound, $"Policy version {request.PolicyVersion} is not held (newest: {publisher.Version})."));
        }

        // Making a delta takes as long as compressing the blob: not on the thread that serves the call.
        var delta = request.HasHaveVersion
            ? await Task.Run(() => publisher.Delta(request.HaveVersion, blob.Version), cancellationToken).ConfigureAwait(false)
            : null;
        var transfer = new WeightTransfer(blob, delta ?? blob.Data, delta is null ? WeightEncoding.Plain : WeightEncoding.Delta);
        if (request.Offset < 0 || request.Offset >= transfer.Sent.Length)
        {
            throw new RpcException(new Status(
                StatusCode.OutOfRange,
                $"The transfer of version {blob.Version} has {transfer.Sent.Length} bytes; {request.Offset} is not within it."));
        }

        return transfer;
    }

    /// <summary>A chunk of it.</summary>
    /// <param name="at">Where its data begins.</param>
    /// <param name="data">Sent without a copy: a blob is never written to.</param>
    /// <param name="first">Whether it is the first one that is sent, which says what all of them lead to.</param>
    public WeightsChunk Chunk(long at, ReadOnlyMemory<byte> data, bool first)
    {
        var chunk = new WeightsChunk
        {
            PolicyVersion = Blob.Version,
            TotalBytes = Sent.Length,
            Offset = at,
            Encoding = Encoding,
            Data = UnsafeByteOperations.UnsafeWrap(data),
        };
        if (first) chunk.Sha256 = ByteString.CopyFrom(Blob.Sha256);
        return chunk;
    }
}
