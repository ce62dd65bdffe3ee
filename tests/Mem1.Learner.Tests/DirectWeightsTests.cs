// Weights on connections of their own, beside HTTP/2 at the same port: the same bytes and the same refusals as over gRPC, and callers that mean
// harm. Segments are small, so that their borders lie everywhere.
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using Grpc.Core;
using Mem1.Model;
using Mem1.Protocol;
using Mem1.Protocol.Security;
using Mem1.Protocol.V1;
using Mem1.Tests;

namespace Mem1.Learner.Tests;

public sealed class DirectWeightsTests : IAsyncDisposable
{
    private const string Secret = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    private readonly CancellationToken _limit = new CancellationTokenSource(TimeSpan.FromSeconds(60)).Token;
    private readonly string _folder = Directory.CreateTempSubdirectory("mem1-direct-").FullName;
    private readonly WeightPublisher _publisher = new(weights => WeightPublisher.Serialise(weights, segmentBytes: 10_007));
    private LearnerHost? _host;

    [Fact]
    public async Task They_are_those_that_come_over_grpc_from_any_byte_on()
    {
        var host = await StartAsync();
        var shape = TestData.Shape(true, 0) with { VocabularySize = 2000 };
        var before = TestData.Weights(shape, 1);
        var after = new ModelWeights(before.Tensors.ToDictionary(
            t => t.Key, t => t.Value with { Data = Array.ConvertAll(t.Value.Data, x => x * (1 + 1e-5f)) }));
        _publisher.Publish(before, 0);
        _publisher.Publish(after, 1);
        using var worker = await Peer.JoinAsync(host, "w", maxEpisodes: 1, _limit);
        Assert.True(worker.Welcome.DirectWeights);
        var whole = await worker.PullAsync(1);
        var length = whole.Bytes.Length;
        Assert.True(_publisher.Find(1)!.Data.Segments.Count > 10);
        foreach (var offset in new long[] { 0, 1, 10_006, 10_007, 10_008, length - 1 })
        {
            var (first, bytes) = await PullAsync(new PullWeightsRequest { PolicyVersion = 1, Offset = offset });
            Assert.Equal((1, offset, length, WeightEncoding.Plain), (first.PolicyVersion, first.Offset, first.TotalBytes, first.Encoding));
            Assert.Equal(SHA256.HashData(whole.Bytes), first.Sha256.ToByteArray());
            Assert.Equal(whole.Bytes[(int)offset..], bytes);
        }

        var delta = await worker.PullAsync(1, have: 0, encoding: WeightEncoding.Delta);
        var direct = await PullAsync(new PullWeightsRequest { PolicyVersion = 1, HaveVersion = 0, Offset = 77 });
        Assert.Equal((WeightEncoding.Delta, delta.Bytes.Length), (direct.First.Encoding, direct.First.TotalBytes));
        Assert.Equal(delta.Bytes[77..], direct.Bytes);

        foreach (var (request, status) in new[]
        {
            (new PullWeightsRequest { PolicyVersion = 7 }, StatusCode.NotFound),
            (new PullWeightsRequest { PolicyVersion = -1 }, StatusCode.NotFound),
            (new PullWeightsRequest { PolicyVersion = 1, Offset = -1 }, StatusCode.OutOfRange),
            (new PullWeightsRequest { PolicyVersion = 1, Offset = length }, StatusCode.OutOfRange),
        })
        {
            var refusal = await Assert.ThrowsAsync<RpcException>(() => PullAsync(request));
            Assert.Equal(status, refusal.StatusCode);
            Assert.NotEmpty(refusal.Status.Detail);
        }

        await worker.LeaveAsync();
    }

    [Fact]
    public async Task They_want_the_token_and_the_certificate_that_calls_want()
    {
        var token = BearerToken.Parse(Secret, "this test");
        using var ours = new TestAuthority("ours", _folder);
        using var theirs = new TestAuthority("theirs", _folder);
        var server = ours.Issue("learner", TestAuthority.Server, ["127.0.0.1"]);
        await StartAsync(options => options with { Token = token, Tls = new TlsFiles(server.Certificate, server.Key, ours.Path) });
        _publisher.Publish(TestData.Weights(TestData.Shape(true, 0) with { VocabularySize = 2000 }, 1), 0);
        var (own, stranger) = (ours.Issue("worker", TestAuthority.Client), theirs.Issue("worker", TestAuthority.Client));
        var right = new TlsFiles(own.Certificate, own.Key, ours.Path);
        var (first, bytes) = await PullAsync(new PullWeightsRequest(), new ChannelSecurity(token, right));
        Assert.Equal(first.Sha256.ToByteArray(), SHA256.HashData(bytes));
        foreach (var (wrong, status) in new[]
        {
            (new ChannelSecurity(null, right), StatusCode.Unauthenticated),
            (new ChannelSecurity(BearerToken.Create(), right), StatusCode.Unauthenticated),
            (new ChannelSecurity(token, new TlsFiles(stranger.Certificate, stranger.Key, ours.Path)), StatusCode.Unavailable),
            (new ChannelSecurity(token, new TlsFiles(null, null, ours.Path)), StatusCode.Unavailable),
            (new ChannelSecurity(token, null), StatusCode.Unavailable), // does not trust this learner
        })
        {
            var refusal = await Assert.ThrowsAsync<RpcException>(() => PullAsync(new PullWeightsRequest(), wrong));
            Assert.Equal(status, refusal.StatusCode);
            Assert.DoesNotContain(Secret, refusal.Status.Detail, StringComparison.OrdinalIgnoreCase);
        }
    }

    [Fact]
    public async Task A_learner_that_offers_none_says_so()
    {
        var host = await StartAsync(options => options with { DirectWeights = false });
        _publisher.Publish(TestData.Weights(TestData.Shape(true, 0), 1), 0);
        using var worker = await Peer.JoinAsync(host, "w", maxEpisodes: 1, _limit);
        Assert.False(worker.Welcome.DirectWeights);
        var refusal = await Assert.ThrowsAsync<RpcException>(() => PullAsync(new PullWeightsRequest()));
        Assert.Equal(StatusCode.Unavailable, refusal.StatusCode);
        await worker.LeaveAsync();
    }

    [Fact]
    public async Task Requests_that_are_none_end_their_connections_and_nothing_else()
    {
        var host = await StartAsync();
        _publisher.Publish(TestData.Weights(TestData.Shape(true, 0), 1), 0);
        var random = new Random(8);
        var magic = DirectWeights.Magic.ToArray();
        for (var round = 0; round < 60; round++)
        {
            var rubbish = new byte[random.Next(1, 100)];
            random.NextBytes(rubbish);
            byte[] said = (round % 4) switch
            {
                0 => [.. magic, 0xff, 0xff, 0xff, 0xff, .. rubbish], // a message of 4 GiB
                1 => [.. magic, (byte)rubbish.Length, 0, 0, 0, .. rubbish],
                2 => [.. magic, 50, 0, 0, 0, 1], // and no more
                _ => [.. magic[..random.Next(magic.Length)], .. rubbish],
            };
            using var socket = await ConnectAsync(host);
            await socket.SendAsync(said, _limit);
            socket.Shutdown(SocketShutdown.Send);
            try
            {
                // Whatever comes, it ends, and it is no weights.
                var got = 0;
                for (int n; (n = await socket.ReceiveAsync(new byte[4096], _limit)) > 0;) got += n;
                Assert.InRange(got, 0, 500);
            }
            catch (SocketException)
            {
                // Reset: a refusal as good as any.
            }
        }

        using var worker = await Peer.JoinAsync(host, "w", maxEpisodes: 1, _limit);
        Assert.Equal((await worker.PullAsync(0)).Bytes, (await PullAsync(new PullWeightsRequest())).Bytes);
        await worker.LeaveAsync();
    }

    [Fact]
    public async Task One_that_takes_nothing_is_cut_off_and_a_learner_that_stops_waits_for_none()
    {
        // More than sockets hold.
        var large = new byte[48 << 20];
        var publisher = new WeightPublisher(_ => ByteBlob.Of(large));
        publisher.Publish(new ModelWeights(new Dictionary<string, WeightTensor>()), 0);
        await StartAsync(options => options with { SilenceLimit = TimeSpan.FromSeconds(1) }, publisher);
        var (_, idle) = await DirectWeights.OpenAsync(_host!.Address, ChannelSecurity.None, new PullWeightsRequest(), _limit);
        await using (idle)
        {
            await Task.Delay(TimeSpan.FromSeconds(2), _limit);
            Assert.True(await CountAsync(idle) < large.Length);
        }

        await _host.DisposeAsync();
        await StartAsync(options => options, publisher);
        var (_, waiting) = await DirectWeights.OpenAsync(_host!.Address, ChannelSecurity.None, new PullWeightsRequest(), _limit);
        await using (waiting)
        {
            var watch = Stopwatch.StartNew();
            await _host.DisposeAsync();
            _host = null;
            Assert.True(watch.Elapsed < TimeSpan.FromSeconds(4), $"{watch.Elapsed}"); // Kestrel gives connections 5 s
            Assert.True(await CountAsync(waiting) < large.Length);
        }
    }

    public async ValueTask DisposeAsync()
    {
        if (_host is not null) await _host.DisposeAsync();
        Directory.Delete(_folder, recursive: true);
    }

    private async Task<LearnerHost> StartAsync(Func<LearnerHostOptions, LearnerHostOptions>? change = null, WeightPublisher? publisher = null)
    {
        var options = new LearnerHostOptions { Limits = TestData.Limits };
        return _host = await LearnerHost.StartAsync(change?.Invoke(options) ?? options, publisher ?? _publisher, 77, null, _limit);
    }

    private async Task<Socket> ConnectAsync(LearnerHost host)
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        await socket.ConnectAsync(new IPEndPoint(IPAddress.Loopback, host.Address.Port), _limit);
        return socket;
    }

    private async Task<(WeightsChunk First, byte[] Bytes)> PullAsync(PullWeightsRequest request, ChannelSecurity? security = null)
    {
        var (first, body) = await DirectWeights.OpenAsync(_host!.Address, security ?? ChannelSecurity.None, request, _limit);
        await using var _ = body;
        var bytes = new MemoryStream();
        await body.CopyToAsync(bytes, _limit);
        return (first, bytes.ToArray());
    }

    private async Task<long> CountAsync(Stream stream)
    {
        long got = 0;
        try
        {
            var buffer = new byte[1 << 20];
            for (int n; (n = await stream.ReadAsync(buffer, _limit)) > 0;) got += n;
        }
        catch (IOException)
        {
            // Cut off.
        }

        return got;
    }
}
