// Callers that mean harm, by the ways HTTP/2 and gRPC give them: whatever they do, a worker of the run is served meanwhile and afterwards.
using System.Net;
using System.Net.Http.Headers;
using Grpc.Core;
using Grpc.Net.Client;
using Mem1.Environments;
using Mem1.Protocol.Security;
using Mem1.Protocol.V1;
using Microsoft.AspNetCore.Connections;

namespace Mem1.Learner.Tests;

/// <summary>A learner that all of them attack, one after the other: what one has begun goes on while the next one comes.</summary>
public sealed class AttackedLearner : IAsyncLifetime
{
    private readonly WeightPublisher _publisher = new(weights => WeightPublisher.Serialise(weights));

    internal BearerToken Token { get; } = BearerToken.Create();

    internal LearnerHost Host { get; private set; } = null!;

    internal List<RawHttp2> Attackers { get; } = [];

    public async ValueTask InitializeAsync()
    {
        Host = await LearnerHost.StartAsync(
            new LearnerHostOptions { Limits = TestData.Limits, Token = Token }, _publisher, 77, null, TestContext.Current.CancellationToken);
        _publisher.Publish(TestData.Weights(TestData.Shape(true, 0), 1), 0);
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var attacker in Attackers) attacker.Dispose();
        await Host.DisposeAsync();
    }
}

public sealed class AttackTests(AttackedLearner attacked) : IClassFixture<AttackedLearner>
{
    private readonly CancellationToken _limit = new CancellationTokenSource(TimeSpan.FromSeconds(60)).Token;

    public static TheoryData<string> Ways => [
        "preface", "length", "settings", "pings", "window", "headers", "continuation", "streams", "resets", "padding", "hpack", "slow", "hello",
    ];

    [Theory]
    [MemberData(nameof(Ways))]
    public async Task An_attacker_leaves_the_learner_serving_others(string way)
    {
        for (var i = 0; i < 4; i++) await AttackAsync(way, i);
        await WorkAsync();
    }

    [Fact]
    public async Task One_address_cannot_take_every_place()
    {
        const int most = 3;
        var (passed, gone) = (0, new TaskCompletionSource());
        var gate = new ConnectionGate(most).Middleware(_ =>
        {
            passed++;
            return gone.Task;
        });
        DefaultConnectionContext From(string address) => new() { RemoteEndPoint = new IPEndPoint(IPAddress.Parse(address), 1) };
        var served = Enumerable.Range(0, most).Select(_ => gate(From("10.0.0.1"))).ToList();
        var refused = From("10.0.0.1");
        var closed = new TaskCompletionSource();
        refused.ConnectionClosed.Register(closed.SetResult);
        await gate(refused);
        await closed.Task.WaitAsync(_limit);
        Assert.Equal(most, passed);
        served.Add(gate(From("10.0.0.2"))); // another one has its own
        Assert.Equal(most + 1, passed);
        gone.SetResult();
        await Task.WhenAll(served);
        await gate(From("10.0.0.1")); // and its places are free again when they are left
        Assert.Equal(most + 2, passed);
    }

    [Fact]
    public async Task Who_shows_no_token_is_answered_before_a_byte_of_the_message_is_there()
    {
        using var client = new HttpClient();
        foreach (var method in (string[])["LearnerService/Connect", "LearnerService/PullWeights", "LearnerService/Describe", "Nothing/Here"])
        {
            using var never = new EndlessContent();
            using var request = new HttpRequestMessage(HttpMethod.Post, new Uri(attacked.Host.Address, $"/mem1.v1.{method}"))
            {
                Version = HttpVersion.Version20,
                VersionPolicy = HttpVersionPolicy.RequestVersionExact,
                Content = never,
            };
            request.Content.Headers.ContentType = new MediaTypeHeaderValue("application/grpc");
            using var answer = await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, _limit);
            Assert.Equal("16", answer.Headers.GetValues("grpc-status").Single());
            never.End();
        }
    }

    [Fact]
    public async Task Oversize_headers_are_refused_and_more_streams_than_there_may_be_wait_their_turn()
    {
        var (channel, invoker) = LearnerChannel.Open(attacked.Host.Address, new ChannelSecurity(attacked.Token, null), new GrpcChannelOptions());
        using var ours = channel;
        var client = new LearnerService.LearnerServiceClient(invoker);
        var metadata = new Metadata { { "x-long", new string('a', 20_000) } };
        using (var oversize = client.Describe(new DescribeRequest { ProtocolVersion = 1 }, metadata, cancellationToken: _limit))
            await Assert.ThrowsAsync<RpcException>(async () => await oversize.ResponseStream.MoveNext(_limit));

        // Sixteen streams that say nothing; the seventeenth call waits for one of them to end.
        var silent = Enumerable.Range(0, 16).Select(_ => client.Connect(cancellationToken: _limit)).ToList();
        using var waiting = client.Describe(new DescribeRequest { ProtocolVersion = 1 }, cancellationToken: _limit);
        await WorkAsync(); // on a connection of its own
        foreach (var call in silent) call.Dispose();
        await waiting.ResponseStream.MoveNext(_limit);
    }

    private async Task AttackAsync(string way, int seed)
    {
        var at = attacked.Host.Address;
        var random = new Random(seed);
        var rubbish = new byte[100];
        random.NextBytes(rubbish);
        var greeted = way != "preface";
        var attacker = greeted ? await RawHttp2.GreetAsync(at, _limit) : await RawHttp2.ConnectAsync(at, _limit);
        attacked.Attackers.Add(attacker); // its connection stays open while the worker plays
        var authorised = RawHttp2.Call("Connect", ("authorization", attacked.Token.Header));
        var (frames, mustEnd) = way switch
        {
            // HTTP/1, TLS, a preface with a byte that is wrong, rubbish.
            "preface" => (Once(seed switch
            {
                0 => "GET / HTTP/1.1\r\nHost: learner\r\n\r\n"u8.ToArray(),
                1 => [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3, .. rubbish],
                2 => [.. RawHttp2.Preface[..^3], (byte)'x', (byte)'\r', (byte)'\n'],
                _ => rubbish,
            }), false),
            "length" => (Once(RawHttp2.Frame(RawHttp2.Headers, RawHttp2.EndHeaders, 1, rubbish, claimed: 0xFFFFFF)), true),
            "settings" => (Many(5_000, _ => RawHttp2.Frame(RawHttp2.Settings, 0, 0, [0, 4, 0, 0, (byte)random.Next(256), 0])), false),
            "pings" => (Many(20_000, _ => RawHttp2.Frame(RawHttp2.Ping, 0, 0, rubbish.AsSpan(0, 8))), false),
            "window" => (Many(2, _ => RawHttp2.Frame(RawHttp2.WindowUpdate, 0, 0, [0x7F, 0xFF, 0xFF, 0xFF])), true),
            "headers" => (Once(RawHttp2.Frame(
                RawHttp2.Headers, RawHttp2.EndHeaders, 1, RawHttp2.Call("Connect", ("x-long", new string('a', 15_000))))), false),
            // A block of headers that never ends.
            "continuation" => (Once(RawHttp2.Frame(RawHttp2.Headers, 0, 1, authorised)).Concat(Many(
                2_000, i => RawHttp2.Frame(RawHttp2.Continuation, 0, 1, RawHttp2.Fields(($"x-{i}", new string('b', 1000)))))), true),
            "streams" => (Many(2_000, i => RawHttp2.Frame(RawHttp2.Headers, RawHttp2.EndHeaders, (2 * i) + 1, RawHttp2.Call())), false),
            // CVE-2023-44487: opened and given up at once, so that the bound on streams never counts.
            "resets" => (Many(3_000, i => [
                .. RawHttp2.Frame(RawHttp2.Headers, RawHttp2.EndHeaders, (2 * i) + 1, authorised),
                .. RawHttp2.Frame(RawHttp2.Reset, 0, (2 * i) + 1, [0, 0, 0, 8])]), true),
            "padding" => (Once(RawHttp2.Frame(RawHttp2.Headers, RawHttp2.EndHeaders | RawHttp2.Padded, 1, [255, .. authorised])), true),
            "hpack" => (Once(RawHttp2.Frame(RawHttp2.Headers, RawHttp2.EndHeaders, 1, [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F, .. rubbish])), true),
            // One with the token that sends its first message a byte at a time, and stops.
            "slow" => (Once(RawHttp2.Frame(RawHttp2.Headers, RawHttp2.EndHeaders, 1, authorised)).Concat(Many(
                30, i => RawHttp2.Frame(RawHttp2.Data, 0, 1, [i == 3 ? (byte)16 : (byte)0]))), false),
            // One with the token whose hello is rubbish, of any announced length.
            "hello" => (Once([
                .. RawHttp2.Frame(RawHttp2.Headers, RawHttp2.EndHeaders, 1, authorised),
                .. RawHttp2.Frame(RawHttp2.Data, 0, 1, [
                    0, seed == 0 ? (byte)0x7F : (byte)0, seed == 1 ? (byte)0xFF : (byte)0, 0, seed == 2 ? (byte)0 : (byte)100, .. rubbish]),
            ]), false),
            _ => throw new ArgumentOutOfRangeException(nameof(way), way, null),
        };
        var taken = await attacker.PourAsync(frames, _limit);
        if (mustEnd && taken) Assert.True(await attacker.IsClosedAsync(TimeSpan.FromSeconds(20), _limit), $"{way} {seed} goes on");
    }

    private static IEnumerable<byte[]> Once(byte[] bytes) => [bytes];

    private static IEnumerable<byte[]> Many(int count, Func<int, byte[]> frame) => Enumerable.Range(0, count).Select(frame);

    /// <summary>A worker joins, plays an episode and leaves.</summary>
    private async Task WorkAsync()
    {
        using var worker = await Peer.JoinAsync(attacked.Host, "right", maxEpisodes: 1, _limit, new ChannelSecurity(attacked.Token, null));
        var id = Guid.NewGuid().ToString("N");
        var run = attacked.Host.Ledger.RunAsync(
            [new TaskRequest(new EnvironmentTask(id, [new Objective("o", "what?", ["that"])]), 1, 1, 1, 8, false)], null, _limit);
        await worker.ReadyAsync(version: 0, credit: 1);
        await worker.PlayAsync(await worker.LeaseAsync());
        Assert.Equal(id, Assert.Single(await run).TaskId);
        await worker.LeaveAsync();
    }

    /// <summary>A body of which nothing ever comes.</summary>
    private sealed class EndlessContent : HttpContent
    {
        private readonly TaskCompletionSource _never = new();

        public void End() => _never.TrySetResult();

        protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context) => _never.Task;

        protected override bool TryComputeLength(out long length)
        {
            length = 0;
            return false;
        }
    }
}
