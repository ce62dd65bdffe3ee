// What compat/Grpc does by the protocol where grpc-dotnet 2.80 does not. Left out of the other package mode, where these would fail.

using Google.Protobuf;
using Grpc.Core;
using Grpc.Wire;

namespace Compat.Grpc.Tests.SubsetOnly;

public sealed class CorrectedTests
{
    private static readonly Script s_echo = new() { Unary = (note, _) => Task.FromResult(note) };

    [Fact]
    public async Task Repeated_binary_metadata_stays_apart()
    {
        await using var host = await TestHost.StartAsync(new Script
        {
            Unary = (note, context) =>
            {
                foreach (var entry in context.RequestHeaders.GetAll("x-r-bin"))
                    context.ResponseTrailers.Add(entry);
                return Task.FromResult(note);
            },
        });
        byte[][] values = [[1], [], [2, 3], [255, 254, 253]];
        var sent = new Metadata();
        foreach (var value in values)
            sent.Add("x-r-bin", value);
        using var call = host.Client().UnaryAsync(new Note(), sent);
        await call.ResponseAsync.Soon();
        Assert.Equal(values, call.GetTrailers().GetAll("x-r-bin").Select(e => e.ValueBytes));
    }

    [Fact]
    public async Task Empty_and_repeated_text_metadata_survives_the_server()
    {
        await using var host = await TestHost.StartAsync(new Script
        {
            Unary = async (note, context) =>
            {
                await context.WriteResponseHeadersAsync(new Metadata { { "x-empty", "" }, { "x-two", "1" }, { "x-two", "2" } });
                context.ResponseTrailers.Add("x-empty", "");
                return note;
            },
        });
        using var call = host.Client().UnaryAsync(new Note());
        await call.ResponseAsync.Soon();
        var headers = await call.ResponseHeadersAsync;
        Assert.Equal("", headers.GetValue("x-empty"));
        Assert.Equal(["1", "2"], headers.GetAll("x-two").Select(e => e.Value));
        Assert.Equal("", call.GetTrailers().GetValue("x-empty"));
    }

    [Fact]
    public async Task Inflation_is_bounded_on_both_sides()
    {
        var bomb = Frames.Message(Frames.Gzip(new Note { Data = ByteString.CopyFrom(new byte[5 << 20]) }.ToByteArray()), flag: 1);
        Assert.True(bomb.Length < 50_000);
        await using var server = await TestHost.StartAsync(s_echo);
        var reply = await server.SendFramedAsync("Unary", [bomb], r => r.Headers.Add("grpc-encoding", "gzip")).Soon();
        Assert.Equal("8", reply.Status);

        await using var raw = await TestHost.StartRawAsync(async http =>
        {
            http.Response.ContentType = "application/grpc";
            http.Response.Headers["grpc-encoding"] = "gzip";
            await http.Response.Body.WriteAsync(bomb);
            Microsoft.AspNetCore.Http.ResponseTrailerExtensions.AppendTrailer(http.Response, "grpc-status", "0");
        });
        await raw.Client().UnaryAsync(new Note()).ResponseAsync.FailsWith(StatusCode.ResourceExhausted);
        // Exactly at the limit it passes.
        var size = new Note { Data = ByteString.CopyFrom(new byte[5 << 20]) }.CalculateSize();
        await raw.Client(o => o.MaxReceiveMessageSize = size).UnaryAsync(new Note()).ResponseAsync.Soon();
        await raw.Client(o => o.MaxReceiveMessageSize = size - 1).UnaryAsync(new Note()).ResponseAsync
            .FailsWith(StatusCode.ResourceExhausted);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Trailers_that_HTTP_does_not_allow_end_the_call_as_internal(bool started)
    {
        await using var host = await TestHost.StartAsync(new Script
        {
            Down = async (note, writer, context) =>
            {
                if (started)
                    await writer.WriteAsync(note);
                context.ResponseTrailers.Add("x-bad", "line\nbreak");
            },
        });
        using var call = host.Client().Down(new Note());
        if (started)
            Assert.True(await call.ResponseStream.MoveNext().Soon());
        await call.ResponseStream.MoveNext().FailsWith(StatusCode.Internal);
    }

    [Fact]
    public async Task Bad_base64_in_trailers_hides_no_status()
    {
        await using var raw = await TestHost.StartRawAsync(http =>
        {
            http.Response.ContentType = "application/grpc";
            http.Response.Headers["grpc-status"] = "5";
            http.Response.Headers["x-bad-bin"] = "*";
            return Task.CompletedTask;
        });
        using var call = raw.Client().UnaryAsync(new Note());
        await call.ResponseAsync.FailsWith(StatusCode.NotFound);
        Assert.Equal(StatusCode.Internal, Assert.Throws<RpcException>(() => call.GetTrailers()).StatusCode);

        await using var host = await TestHost.StartAsync(new Script
        {
            Unary = (_, context) => Task.FromResult(new Note { Number = context.RequestHeaders.Count }),
        });
        var reply = await host.SendFramedAsync(
            "Unary", [Frames.Message([])], r => r.Headers.TryAddWithoutValidation("x-bad-bin", "*")).Soon();
        Assert.Equal("13", reply.Status);
    }

    [Fact]
    public async Task Damaged_compressed_data_is_internal()
    {
        await using var host = await TestHost.StartAsync(s_echo);
        var packed = Frames.Gzip(new byte[1000]);
        foreach (var bad in new[] { packed[..^9], [1, 2, 3, 4] })
        {
            var body = Frames.Message(bad, flag: 1);
            var reply = await host.SendFramedAsync("Unary", [body], r => r.Headers.Add("grpc-encoding", "gzip")).Soon();
            Assert.Equal("13", reply.Status);
        }
    }

    [Fact]
    public async Task Unary_requests_may_exceed_Kestrels_body_limit()
    {
        await using var host = await TestHost.StartAsync(s_echo, o => o.MaxReceiveMessageSize = null);
        var note = new Note { Data = ByteString.CopyFrom(new byte[31 << 20]) };
        var echoed = await host.Client(o => o.MaxReceiveMessageSize = null).UnaryAsync(note).ResponseAsync.Soon();
        Assert.Equal(note, echoed);
    }

    [Fact]
    public async Task The_shortest_timeout_is_a_deadline()
    {
        await using var host = await TestHost.StartAsync(new Script
        {
            Unary = async (note, context) =>
            {
                await Task.Delay(Timeout.InfiniteTimeSpan, context.CancellationToken);
                return note;
            },
        });
        var reply = await host.SendFramedAsync("Unary", [Frames.Message([])], r => r.Headers.Add("grpc-timeout", "1n")).Soon();
        Assert.Equal("4", reply.Status);
    }

    [Theory]
    [InlineData(new byte[] { 0, 255, 255, 255, 255 }, StatusCode.ResourceExhausted)] // 4 GiB
    [InlineData(new byte[] { 2, 0, 0, 0, 0 }, StatusCode.Internal)] // no such flag
    [InlineData(new byte[] { 0, 0, 0, 0, 2, 255, 255 }, StatusCode.Internal)] // not protobuf
    public async Task Bad_bytes_have_the_same_status_on_both_sides(byte[] body, StatusCode expected)
    {
        await using var server = await TestHost.StartAsync(s_echo);
        Assert.Equal(((int)expected).ToString(), (await server.SendFramedAsync("Unary", [body]).Soon()).Status);
        await using var raw = await TestHost.StartRawAsync(async http =>
        {
            http.Response.ContentType = "application/grpc";
            await http.Response.Body.WriteAsync(body);
            Microsoft.AspNetCore.Http.ResponseTrailerExtensions.AppendTrailer(http.Response, "grpc-status", "0");
        });
        await raw.Client().UnaryAsync(new Note()).ResponseAsync.FailsWith(expected);
    }

    [Fact]
    public async Task A_long_announced_message_costs_no_memory_before_it_arrives()
    {
        var gone = new TaskCompletionSource();
        await using var raw = await TestHost.StartRawAsync(async http =>
        {
            http.Response.ContentType = "application/grpc";
            await http.Response.Body.WriteAsync(new byte[] { 0, 127, 0, 0, 0, 1, 2, 3 });
            await http.Response.Body.FlushAsync();
            http.RequestAborted.Register(gone.SetResult);
            await gone.Task;
        });
        using var call = raw.Client(o => o.MaxReceiveMessageSize = null).Down(new Note());
        await call.ResponseHeadersAsync.Soon();
        var before = GC.GetTotalAllocatedBytes();
        var read = call.ResponseStream.MoveNext();
        await Task.Delay(200);
        // The counter is the process's, and other tests run beside this one: half of the 2 GiB announced tells the two cases apart.
        Assert.InRange(GC.GetTotalAllocatedBytes() - before, 0, 1L << 30);
        call.Dispose();
        await read.FailsWith(StatusCode.Cancelled);
        await gone.Task.Soon();
    }

    [Theory]
    [InlineData(-5, "1n")]
    [InlineData(0, "1n")]
    [InlineData(0.1, "1m")]
    [InlineData(1, "1m")]
    [InlineData(999, "999m")]
    [InlineData(1000, "1S")]
    [InlineData(1234, "1240m")]
    [InlineData(1500, "1500m")]
    [InlineData(100_000, "100S")]
    [InlineData(100_001, "101S")]
    [InlineData(3_600_000, "1H")]
    [InlineData(90_000, "90S")]
    [InlineData(120_000, "2M")]
    [InlineData(864_000_000, "240H")]
    [InlineData(1e14, "99999999S")]
    public void Timeouts_are_written_rounded_up(double milliseconds, string expected) =>
        Assert.Equal(expected, Headers.EncodeTimeout(TimeSpan.FromMilliseconds(milliseconds)));

    [Fact]
    public void A_timeout_read_back_is_never_shorter_and_at_most_a_percent_longer()
    {
        var random = new Random(7);
        for (var i = 0; i < 20_000; i++)
        {
            var timeout = TimeSpan.FromTicks((long)Math.Pow(10, 4 + (random.NextDouble() * 10)));
            var read = Headers.DecodeTimeout(Headers.EncodeTimeout(timeout))!.Value;
            Assert.InRange(read, timeout, (timeout * 1.0101) + TimeSpan.FromMilliseconds(1));
        }
    }

    [Fact]
    public void Any_message_survives_percent_encoding()
    {
        var random = new Random(8);
        for (var i = 0; i < 5_000; i++)
        {
            var runes = Enumerable.Range(0, random.Next(12)).Select(_ => random.Next(4) switch
            {
                0 => new System.Text.Rune(random.Next(0x20)),
                1 => new System.Text.Rune('%'),
                2 => new System.Text.Rune(0x1F600 + random.Next(64)),
                _ => new System.Text.Rune(random.Next(0xD800)),
            });
            var message = string.Concat(runes);
            var encoded = Headers.EncodeMessage(message);
            Assert.All(encoded, c => Assert.InRange(c, ' ', '~'));
            Assert.Equal(message, Headers.DecodeMessage(encoded));
        }
        Assert.Equal("%EF%BF%BD", Headers.EncodeMessage("\ud800"));
        Assert.Equal("%zz%", Headers.DecodeMessage("%zz%"));
    }
}
