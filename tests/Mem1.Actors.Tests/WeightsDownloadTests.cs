using System.Security.Cryptography;
using Google.Protobuf;
using Grpc.Core;
using Grpc.Net.Client;
using Mem1.Protocol;
using Mem1.Protocol.V1;

namespace Mem1.Actors.Tests;

/// <summary>Weights from a connection of their own that a test plays, into segments that are small, beside a learner that serves gRPC.</summary>
public sealed class WeightsDownloadTests
{
    private static readonly DateTime s_never = DateTime.UtcNow.AddDays(1);

    private readonly List<PullWeightsRequest> _asked = [];

    [Theory]
    [InlineData(1, 64)]
    [InlineData(100, 7)]
    [InlineData(1000, 1000)]
    public async Task AConnectionThatBreaksAgainAndAgainBringsThemAll(int eachTime, int segment)
    {
        var blob = Bytes(1000);
        var pulled = await PullAsync(blob, (request, first) => (first, blob[(int)request.Offset..][..Math.Min(eachTime, blob.Length - (int)request.Offset)]), segment);
        Assert.Equal(blob, pulled.Blob.Part(0, blob.Length).ToArray());
        Assert.Null(pulled.DirectFailure);
        Assert.Equal(Enumerable.Range(0, blob.Length / eachTime).Select(i => (long)i * eachTime), _asked.Select(a => a.Offset));
    }

    [Fact]
    public async Task ADifferenceComesTheSameWay()
    {
        var (before, blob) = (Bytes(1000), Bytes(1000));
        before[17]++;
        var delta = WeightDeltaTests.Encode(before, blob);
        var pulled = await PullAsync(
            blob,
            (request, first) =>
            {
                (first.TotalBytes, first.Encoding) = (delta.Length, WeightEncoding.Delta);
                return (first, delta[(int)request.Offset..]);
            },
            held: new HeldWeights(4, ByteBlob.Of(before)));
        Assert.Equal(blob, pulled.Blob.Part(0, blob.Length).ToArray());
        Assert.Equal(4, Assert.Single(_asked).HaveVersion);
    }

    [Theory]
    [InlineData("bytes", "SHA-256")]
    [InlineData("hash", "SHA-256")]
    [InlineData("short hash", "hash of 3 bytes")]
    [InlineData("version", "version 6")]
    [InlineData("huge", "1 to 4000 are accepted")]
    [InlineData("none", "1 to 4000 are accepted")]
    [InlineData("offset", "is at 1 of")]
    [InlineData("delta", "not asked for")]
    [InlineData("changed", "of 999 bytes")]
    public async Task WhatIsWrongIsSaidAndNeverTaken(string what, string says)
    {
        var blob = Bytes(1000);
        var failure = await Assert.ThrowsAsync<InvalidDataException>(() => PullAsync(blob, (request, first) =>
        {
            var body = blob[(int)request.Offset..];
            if (what == "bytes") body[500]++;
            if (what == "hash") first.Sha256 = ByteString.CopyFrom(new byte[32]);
            if (what == "short hash") first.Sha256 = ByteString.CopyFrom(new byte[3]);
            if (what == "version") first.PolicyVersion++;
            if (what == "huge") first.TotalBytes = 4001;
            if (what == "none") first.TotalBytes = 0;
            if (what == "offset") first.Offset++;
            if (what == "delta") first.Encoding = WeightEncoding.Delta;
            if (what == "changed" && request.Offset == 0) body = body[..10];
            if (what == "changed" && request.Offset > 0) first.TotalBytes = 999;
            return (first, body);
        }));
        Assert.Contains(says, failure.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task WhereItBringsNothingGrpcBringsTheRest()
    {
        await using var learner = new FakeLearner();
        await learner.StartAsync();
        using var channel = GrpcChannel.ForAddress(learner.Address);
        var client = new LearnerService.LearnerServiceClient(channel);
        var blob = FakeLearner.Blob(5);
        foreach (var some in new[] { 0, 123 })
        {
            learner.Requests.Clear();
            var download = new WeightsDownload(client, (request, _) => request.Offset < some
                ? Task.FromResult((First(request, blob), (Stream)new MemoryStream(blob, 0, some)))
                : throw new RpcException(new Status(StatusCode.Unavailable, "A proxy knows HTTP/2 alone.")), maxBytes: 4000, segmentBytes: 100);
            var pulled = await download.PullAsync(5, held: null, s_never, TestContext.Current.CancellationToken);
            Assert.Equal(blob, pulled.Blob.Part(0, blob.Length).ToArray());
            Assert.Contains("proxy", pulled.DirectFailure!.Message, StringComparison.Ordinal);
            Assert.Equal(some, Assert.Single(learner.Requests).Offset);
        }

        // What the learner refuses directly it would refuse over gRPC.
        var refused = new WeightsDownload(
            client, (_, _) => throw new RpcException(new Status(StatusCode.NotFound, "gone")), maxBytes: 4000);
        learner.Requests.Clear();
        var refusal = await Assert.ThrowsAsync<RpcException>(
            () => refused.PullAsync(5, held: null, s_never, TestContext.Current.CancellationToken));
        Assert.Equal((StatusCode.NotFound, 0), (refusal.StatusCode, learner.Requests.Count));
    }

    [Fact]
    public async Task AWorkerWhoseConnectionForWeightsIsNotUnderstoodUsesGrpcUntilItsNextWelcome()
    {
        await using var rig = new Rig();
        rig.Learner.Direct = true; // a lie: its server speaks HTTP/2 alone
        await rig.StartAsync();
        foreach (var version in new[] { 2L, 3L })
        {
            rig.Learner.Publish(version);
            await rig.Until(() => rig.Learner.Applied.Contains(version), $"version {version} is in place");
        }

        Assert.Equal(0, rig.Worker.Counters.WeightsFailures);
        await rig.DrainAsync();
    }

    private static byte[] Bytes(int count)
    {
        var bytes = new byte[count];
        new Random(9).NextBytes(bytes);
        return bytes;
    }

    private static WeightsChunk First(PullWeightsRequest request, byte[] blob) => new()
    {
        PolicyVersion = request.PolicyVersion,
        TotalBytes = blob.Length,
        Offset = request.Offset,
        Sha256 = ByteString.CopyFrom(SHA256.HashData(blob)),
    };

    private async Task<DownloadedWeights> PullAsync(
        byte[] blob, Func<PullWeightsRequest, WeightsChunk, (WeightsChunk First, byte[] Body)> play, int segment = 64, HeldWeights? held = null)
    {
        Task<(WeightsChunk, Stream)> Open(PullWeightsRequest request, CancellationToken cancellationToken)
        {
            _asked.Add(request);
            var (first, body) = play(request, First(request, blob));
            return Task.FromResult((first, (Stream)new MemoryStream(body)));
        }

        using var nobody = GrpcChannel.ForAddress("http://127.0.0.1:1");
        var download = new WeightsDownload(new LearnerService.LearnerServiceClient(nobody), Open, maxBytes: 4000, segment);
        return await download.PullAsync(5, held, s_never, TestContext.Current.CancellationToken);
    }
}
