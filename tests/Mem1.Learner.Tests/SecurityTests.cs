// Ways in without the right token or certificate, and callers that mean harm: all are refused while a worker of the run is served.
using System.IO.Compression;
using System.Net;
using System.Net.Http.Headers;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;
using Grpc.Core;
using Grpc.Net.Client;
using Mem1.Environments;
using Mem1.Protocol;
using Mem1.Protocol.Security;
using Mem1.Protocol.V1;
using Mem1.Tests;
using Microsoft.AspNetCore.Builder;

namespace Mem1.Learner.Tests;

public sealed class SecurityTests : IAsyncDisposable
{
    private const string Secret = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    private static readonly (string Name, string Value)[][] s_wrong =
    [
        [],
        [("authorization", "")],
        [("authorization", "Bearer")],
        [("authorization", "Bearer ")],
        [("authorization", Secret)],
        [("authorization", $"Basic {Secret}")],
        [("authorization", $"Token {Secret}")],
        [("authorization", $"Bearer{Secret}")],
        [("authorization", $"Bearer {Secret[..^1]}")],
        [("authorization", $"Bearer {Secret}0")],
        [("authorization", $"Bearer {Secret[..^1]}0")],
        [("authorization", $"Bearer 1{Secret[1..]}")],
        [("authorization", $"Bearer {Secret.ToUpperInvariant()}")],
        [("authorization", $"Bearer \"{Secret}\"")],
        [("authorization", $"Bearer {Secret} {Secret}")],
        [("authorization", $"Bearer {Secret},{Secret}")],
        [("authorization", $"Bearer {Secret}"), ("authorization", "Bearer none")],
        [("authorization", "Bearer none"), ("authorization", $"Bearer {Secret}")],
        [("x-authorization", $"Bearer {Secret}")],
        [("token", Secret)],
        [("proxy-authorization", $"Bearer {Secret}")],
        [("cookie", $"authorization=Bearer {Secret}")],
    ];

    private readonly WeightPublisher _publisher = new(weights => WeightPublisher.Serialise(weights, segmentBytes: 10_007));
    private readonly CancellationToken _limit = new CancellationTokenSource(TimeSpan.FromSeconds(60)).Token;
    private readonly string _folder = Directory.CreateTempSubdirectory("mem1-security-").FullName;
    private LearnerHost? _host;

    [Fact]
    public async Task No_call_gets_in_without_the_token()
    {
        var token = BearerToken.Parse(Secret, "this test");
        var host = await StartAsync(token, null);
        using var channel = GrpcChannel.ForAddress(host.Address);
        var client = new LearnerService.LearnerServiceClient(channel);
        var refused = 0;
        foreach (var headers in s_wrong)
        {
            var metadata = new Metadata();
            foreach (var (name, value) in headers) metadata.Add(name, value);
            using var connect = client.Connect(metadata, cancellationToken: _limit);
            using var pull = client.PullWeights(new PullWeightsRequest(), metadata, cancellationToken: _limit);
            using var describe = client.Describe(new DescribeRequest { ProtocolVersion = 1 }, metadata, cancellationToken: _limit);
            foreach (var outcome in new[] { EndOf(connect.ResponseStream), EndOf(pull.ResponseStream), EndOf(describe.ResponseStream) })
            {
                var refusal = await outcome;
                Assert.Equal(StatusCode.Unauthenticated, refusal.StatusCode);
                Assert.Contains("token", refusal.Status.Detail, StringComparison.Ordinal);
                Assert.DoesNotContain(Secret, refusal.Status.Detail, StringComparison.OrdinalIgnoreCase);
                refused++;
            }
        }

        Assert.True(refused >= 50);
        Assert.Empty(host.Workers);
        await WorkAsync(host, new ChannelSecurity(token, null));

        async Task<RpcException> EndOf<T>(IAsyncStreamReader<T> stream) =>
            await Assert.ThrowsAsync<RpcException>(async () => Assert.False(await stream.MoveNext(_limit)));
    }

    [Fact]
    public async Task A_right_is_had_with_its_own_token_alone()
    {
        var (worker, viewer) = (BearerToken.Parse(Secret, "this test"), BearerToken.Create());
        var host = await StartAsync(worker, null, viewer);
        using var channel = GrpcChannel.ForAddress(host.Address);
        var (joining, looking) = (new LearnerService.LearnerServiceClient(channel), new ObserverService.ObserverServiceClient(channel));
        Func<Metadata, Task>[] join =
        [
            m => First(joining.Connect(m, cancellationToken: _limit).ResponseStream),
            m => First(joining.PullWeights(new PullWeightsRequest(), m, cancellationToken: _limit).ResponseStream),
            m => First(joining.Describe(new DescribeRequest { ProtocolVersion = 1 }, m, cancellationToken: _limit).ResponseStream),
        ];
        Func<Metadata, Task>[] look =
        [
            async m => await looking.GetAsync(new ObserverRequest { Path = "/api/state" }, m, cancellationToken: _limit),
            async m => await looking.CommandAsync(new ObserverCommand { Body = "{}" }, m, cancellationToken: _limit),
            m => First(looking.Follow(new FollowRequest(), m, cancellationToken: _limit).ResponseStream),
        ];
        foreach (var (calls, others) in new[] { (join, viewer), (look, worker) })
        {
            var wrong = s_wrong.Select(w => w.Select(h => (h.Name, Value: h.Value.Replace(Secret, others.Header["Bearer ".Length..])))).Append(
                [("authorization", others.Header)]);
            foreach (var call in calls)
            {
                foreach (var headers in wrong)
                {
                    var metadata = new Metadata();
                    foreach (var (name, value) in headers) metadata.Add(name, value);
                    var refusal = await Assert.ThrowsAsync<RpcException>(() => call(metadata));
                    Assert.Equal(StatusCode.Unauthenticated, refusal.StatusCode);
                    Assert.Contains("token", refusal.Status.Detail, StringComparison.Ordinal);
                }
            }
        }

        // Weights on a connection of their own are for workers too.
        foreach (var shown in new[] { viewer, BearerToken.Create(), null })
        {
            var refusal = await Assert.ThrowsAsync<RpcException>(
                () => DirectWeights.OpenAsync(host.Address, new ChannelSecurity(shown, null), new PullWeightsRequest(), _limit));
            Assert.Equal(StatusCode.Unauthenticated, refusal.StatusCode);
        }

        Assert.Empty(host.Workers);
        await look[0]([new Metadata.Entry("authorization", viewer.Header)]);
        await WorkAsync(host, new ChannelSecurity(worker, null));

        // However the path is spelled, it asks for the right of what answers.
        using var client = new HttpClient();
        foreach (var path in (string[])["/MEM1.v1.learnerservice/describe", "/mem1.v1.LearnerService%2FDescribe", "//mem1.v1.LearnerService/Describe"])
        {
            using var request = new HttpRequestMessage(HttpMethod.Post, host.Address.GetLeftPart(UriPartial.Authority) + path)
            {
                Version = HttpVersion.Version20,
                VersionPolicy = HttpVersionPolicy.RequestVersionExact,
                Content = new ByteArrayContent([0, 0, 0, 0, 2, 8, 1]),
            };
            request.Content.Headers.ContentType = new MediaTypeHeaderValue("application/grpc");
            request.Headers.TryAddWithoutValidation("authorization", viewer.Header);
            using var response = await client.SendAsync(request, _limit);
            Assert.Empty(await response.Content.ReadAsByteArrayAsync(_limit));
        }

        async Task First<T>(IAsyncStreamReader<T> stream) => await stream.MoveNext(_limit);
    }

    [Fact]
    public async Task A_scheme_is_the_same_in_any_case_and_a_token_is_not_printed()
    {
        var token = BearerToken.Parse($" {Secret}\n", "this test");
        Assert.True(token.Matches($"bearer {Secret}"));
        Assert.False(token.Matches(null));
        Assert.DoesNotContain(Secret, $"{token} {new ChannelSecurity(token, null)}", StringComparison.Ordinal);
        Assert.NotEqual(BearerToken.Create().Header, BearerToken.Create().Header);
        var file = Path.Combine(_folder, "token");
        foreach (var (text, says) in new[] { ("short", "has 5 characters"), (new string('a', 5000), "characters"), (Secret + " x", "no blanks") })
        {
            await File.WriteAllTextAsync(file, text, _limit);
            var refusal = Assert.Throws<SecurityException>(() => BearerToken.FromFile(file));
            Assert.Contains(says, refusal.Message, StringComparison.Ordinal);
            Assert.DoesNotContain(Secret, refusal.Message, StringComparison.Ordinal);
        }

        Assert.Contains("cannot be read", Assert.Throws<SecurityException>(() => BearerToken.FromFile(_folder + "/none")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task With_an_authority_only_its_clients_get_in_and_only_its_learner_is_trusted()
    {
        using var ours = new TestAuthority("ours", _folder);
        using var theirs = new TestAuthority("theirs", _folder);
        var server = ours.Issue("learner", TestAuthority.Server, ["127.0.0.1"]);
        var host = await StartAsync(null, new TlsFiles(server.Certificate, server.Key, ours.Path));
        var worker = ours.Issue("worker", TestAuthority.Client);
        await WorkAsync(host, new ChannelSecurity(null, new TlsFiles(worker.Certificate, worker.Key, ours.Path)));

        var stranger = theirs.Issue("worker", TestAuthority.Client);
        var expired = ours.Issue("old", TestAuthority.Client, days: -1);
        var early = ours.Issue("early", TestAuthority.Client, from: 2, days: 3);
        TlsFiles[] wrong =
        [
            new(null, null, ours.Path), // shows none
            new(stranger.Certificate, stranger.Key, ours.Path),
            new(expired.Certificate, expired.Key, ours.Path),
            new(early.Certificate, early.Key, ours.Path),
            new(server.Certificate, server.Key, ours.Path), // a server's is no client's
            new(worker.Certificate, worker.Key, theirs.Path), // does not trust this learner
            new(worker.Certificate, worker.Key, null), // nor does the system
        ];
        foreach (var tls in wrong) await RefusedAsync(host.Address, tls);
        await RefusedAsync(new UriBuilder(host.Address) { Scheme = "http" }.Uri, null);
        Assert.Empty(host.Workers);

        // A learner that shows a right certificate for another host, or one made for clients.
        foreach (var other in new[] { ours.Issue("elsewhere", TestAuthority.Server, ["10.0.0.1"]), ours.Issue("c", TestAuthority.Client, ["127.0.0.1"]) })
        {
            await host.DisposeAsync();
            host = await StartAsync(null, new TlsFiles(other.Certificate, other.Key, ours.Path));
            await RefusedAsync(host.Address, new TlsFiles(worker.Certificate, worker.Key, ours.Path));
        }
    }

    [Fact]
    public void A_renewed_certificate_is_shown_without_a_restart_and_a_broken_one_never()
    {
        using var authority = new TestAuthority("ca", _folder);
        var clock = new SteppedTime();
        var (certificate, key) = authority.Issue("learner", TestAuthority.Server, ["127.0.0.1"]);
        var files = new TlsFiles(certificate, key, authority.Path, clock);
        var first = Shown();
        authority.Issue("learner", TestAuthority.Server, ["127.0.0.1"]);
        Assert.Equal(first, Shown()); // not looked at yet
        clock.Step(TimeSpan.FromSeconds(6));
        var second = Shown();
        Assert.NotEqual(first, second);
        var good = File.ReadAllText(key);
        File.WriteAllText(key, "rubbish");
        clock.Step(TimeSpan.FromSeconds(6));
        Assert.Equal(second, Shown());
        Assert.Contains(key, Assert.Throws<SecurityException>(() => new TlsFiles(certificate, key, null)).Message, StringComparison.Ordinal);
        File.WriteAllText(key, good);
        File.WriteAllText(authority.Path, "");
        Assert.Contains("holds no certificate", Assert.Throws<SecurityException>(() => new TlsFiles(certificate, key, authority.Path)).Message,
            StringComparison.Ordinal);

        string Shown() => files.ServerOptions().ServerCertificateContext!.TargetCertificate.Thumbprint;
    }

    [Fact]
    public async Task Callers_that_mean_harm_leave_the_learner_serving_others()
    {
        var token = BearerToken.Parse(Secret, "this test");
        var host = await StartAsync(token, null);
        var at = new IPEndPoint(IPAddress.Loopback, host.Address.Port);
        var sockets = new List<Socket>();
        try
        {
            var preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"u8.ToArray();
            for (var i = 0; i < 150; i++)
            {
                var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
                sockets.Add(socket);
                await socket.ConnectAsync(at, _limit);
                // A third says nothing, a third begins its preface and stops, a third sends what is none.
                var said = (i % 3) switch { 0 => [], 1 => preface[..(i % preface.Length)], _ => Rubbish(i) };
                if (said.Length > 0) await socket.SendAsync(said, _limit);
            }

            // Hellos by the hundred, none with the token.
            using var channel = GrpcChannel.ForAddress(host.Address);
            var client = new LearnerService.LearnerServiceClient(channel);
            var flood = Enumerable.Range(0, 300).Select(async i =>
            {
                using var call = client.Connect(cancellationToken: _limit);
                try
                {
                    await call.RequestStream.WriteAsync(new WorkerMessage { Hello = new Hello { WorkerId = $"w{i}", ProtocolVersion = 1, MaxEpisodes = 1 } });
                }
                catch (RpcException)
                {
                    // Refused before it had been read.
                }

                return (await Assert.ThrowsAsync<RpcException>(() => call.ResponseStream.MoveNext(_limit))).StatusCode;
            }).ToList();
            await WorkAsync(host, new ChannelSecurity(token, null));
            // So many refused streams on one connection make the server close it, and what was on its way with it.
            Assert.All(await Task.WhenAll(flood), status => Assert.Contains(status, (StatusCode[])[StatusCode.Unauthenticated, StatusCode.Unavailable]));
            using var impostor = new Peer(host, _limit);
            var refusal = await impostor.RefusedAsync(new WorkerMessage { Hello = new Hello { WorkerId = "w", ProtocolVersion = 1, MaxEpisodes = 1 } });
            Assert.Equal(StatusCode.Unauthenticated, refusal.StatusCode);
            Assert.Empty(host.Workers);

            // A message of 256 MiB that takes a quarter of a MiB on the wire, from one that has the token.
            Assert.Equal(((int)StatusCode.ResourceExhausted).ToString(System.Globalization.CultureInfo.InvariantCulture), await BombAsync(host.Address, token));
            await WorkAsync(host, new ChannelSecurity(token, null));
        }
        finally
        {
            foreach (var socket in sockets) socket.Dispose();
        }
    }

    public async ValueTask DisposeAsync()
    {
        if (_host is not null) await _host.DisposeAsync();
        Directory.Delete(_folder, recursive: true);
    }

    private async Task<LearnerHost> StartAsync(BearerToken? token, TlsFiles? tls, BearerToken? viewer = null)
    {
        _host = await LearnerHost.StartAsync(
            new LearnerHostOptions
            {
                Limits = TestData.Limits,
                Token = token,
                Tls = tls,
                ViewerToken = viewer,
                Endpoints = routes => routes.MapGrpcService<Looking>(),
            },
            _publisher, 77, null, _limit);
        if (_publisher.Version < 0) _publisher.Publish(TestData.Weights(TestData.Shape(true, 0), 1), 0);
        return _host;
    }

    /// <summary>A worker joins, plays an episode and leaves.</summary>
    private async Task WorkAsync(LearnerHost host, ChannelSecurity security)
    {
        using var worker = await Peer.JoinAsync(host, "right", maxEpisodes: 1, _limit, security);
        var id = Guid.NewGuid().ToString("N");
        var run = host.Ledger.RunAsync(
            [new TaskRequest(new EnvironmentTask(id, [new Objective("o", "what?", ["that"])]), 1, 1, 1, 8, false)], null, _limit);
        await worker.ReadyAsync(version: 0, credit: 1);
        await worker.PlayAsync(await worker.LeaseAsync());
        Assert.Equal(id, Assert.Single(await run).TaskId);
        await worker.LeaveAsync();
    }

    private async Task RefusedAsync(Uri address, TlsFiles? tls)
    {
        var (channel, invoker) = LearnerChannel.Open(address, new ChannelSecurity(null, tls), new GrpcChannelOptions());
        using var ours = channel;
        using var call = new LearnerService.LearnerServiceClient(invoker).Describe(
            new DescribeRequest { ProtocolVersion = 1 }, cancellationToken: _limit);
        var refusal = await Assert.ThrowsAsync<RpcException>(() => call.ResponseStream.MoveNext(_limit));
        Assert.True(refusal.StatusCode is StatusCode.Unavailable or StatusCode.Internal or StatusCode.Cancelled, refusal.Status.ToString());
    }

    private static byte[] Rubbish(int seed)
    {
        var bytes = new byte[200];
        new Random(seed).NextBytes(bytes);
        return bytes;
    }

    private async Task<string> BombAsync(Uri address, BearerToken token)
    {
        using var packed = new MemoryStream();
        using (var gzip = new GZipStream(packed, CompressionLevel.SmallestSize, leaveOpen: true))
        {
            var zeros = new byte[1 << 20];
            for (var i = 0; i < 256; i++) gzip.Write(zeros);
        }

        byte[] framed = [1, .. BitConverter.GetBytes(IPAddress.HostToNetworkOrder((int)packed.Length)), .. packed.ToArray()];
        using var client = new HttpClient();
        using var request = new HttpRequestMessage(HttpMethod.Post, new Uri(address, "/mem1.v1.LearnerService/Describe"))
        {
            Version = HttpVersion.Version20,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
            Content = new ByteArrayContent(framed),
        };
        request.Content.Headers.ContentType = new MediaTypeHeaderValue("application/grpc");
        request.Headers.TryAddWithoutValidation("grpc-encoding", "gzip");
        request.Headers.TryAddWithoutValidation("te", "trailers");
        request.Headers.TryAddWithoutValidation("authorization", token.Header);
        using var response = await client.SendAsync(request, _limit);
        await response.Content.ReadAsByteArrayAsync(_limit);
        return (response.TrailingHeaders.TryGetValues("grpc-status", out var status) || response.Headers.TryGetValues("grpc-status", out status))
            ? status.Single() : "none";
    }

    /// <summary>Answers whoever gets this far.</summary>
    private sealed class Looking : ObserverService.ObserverServiceBase
    {
        public override Task<ObserverReply> Get(ObserverRequest request, ServerCallContext context) => Task.FromResult(new ObserverReply());
        public override Task<ObserverReply> Command(ObserverCommand request, ServerCallContext context) => Task.FromResult(new ObserverReply());
        public override Task Follow(FollowRequest request, IServerStreamWriter<ObserverEvent> responseStream, ServerCallContext context) =>
            responseStream.WriteAsync(new ObserverEvent());
    }

    private sealed class SteppedTime : TimeProvider
    {
        private long _now;

        public override long GetTimestamp() => _now;

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public void Step(TimeSpan by) => _now += by.Ticks;
    }
}
