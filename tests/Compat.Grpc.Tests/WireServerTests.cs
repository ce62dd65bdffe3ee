// The server against requests made by hand: framing, protocol headers, compression and the refusals of bad ones.

using System.Globalization;
using System.Net;
using Google.Protobuf;
using Grpc.Core;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;

namespace Compat.Grpc.Tests;

public sealed class WireServerTests
{
    private static readonly Script s_script = new()
    {
        Unary = (note, _) => Task.FromResult(note),
        Up = async (notes, _) =>
        {
            var texts = new List<string>();
            while (await notes.MoveNext())
                texts.Add(notes.Current.Text);
            return new Note { Text = string.Join(",", texts), Number = texts.Count };
        },
        Down = async (note, writer, context) =>
        {
            foreach (var entry in context.RequestHeaders)
            {
                var value = entry.IsBinary ? Convert.ToHexString(entry.ValueBytes) : entry.Value;
                await writer.WriteAsync(new Note { Text = entry.Key + "=" + value });
            }
        },
    };

    private static byte[] Bytes(string text) => new Note { Text = text }.ToByteArray();

    [Fact]
    public async Task Frames_may_be_cut_anywhere()
    {
        await using var host = await TestHost.StartAsync(s_script);
        var all = Frames.Message(Bytes("one")).Concat(Frames.Message([])).Concat(Frames.Message(Bytes("three"))).ToArray();
        var reply = await host.SendFramedAsync("Up", [.. all.Select(b => new[] { b })]).Soon();
        Assert.Equal("0", reply.Status);
        Assert.Equal("one,,three", Note.Parser.ParseFrom(reply.Messages.Single()).Text);
        Assert.Null(reply.Message);
        Assert.Equal(HttpStatusCode.OK, reply.Http);

        reply = await host.SendFramedAsync("Up", [all]).Soon();
        Assert.Equal("one,,three", Note.Parser.ParseFrom(reply.Messages.Single()).Text);
        reply = await host.SendFramedAsync("Up", []).Soon();
        Assert.Equal(0, Note.Parser.ParseFrom(reply.Messages.Single()).Number);
        reply = await host.SendFramedAsync("Unary", [.. Frames.Message(Bytes("u")).Select(b => new[] { b })]).Soon();
        Assert.Equal("u", Note.Parser.ParseFrom(reply.Messages.Single()).Text);
    }

    [Theory]
    [InlineData("Unary", new byte[] { }, "13")] // no message at all
    [InlineData("Unary", new byte[] { 0, 0, 0, 0, 4, 1 }, "13")] // half a message
    [InlineData("Unary", new byte[] { 0, 0, 0 }, "13")] // half a header
    [InlineData("Unary", new byte[] { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }, "13")] // two messages
    [InlineData("Unary", new byte[] { 1, 0, 0, 0, 0 }, "13")] // compressed, but with what?
    [InlineData("Unary", new byte[] { 0, 0, 64, 0, 1 }, "8")] // one byte over 4 MiB
    public async Task Bad_framing_ends_the_call_with_a_status(string method, byte[] body, string status)
    {
        await using var host = await TestHost.StartAsync(s_script);
        var reply = await host.SendFramedAsync(method, [body]).Soon();
        Assert.Equal(HttpStatusCode.OK, reply.Http);
        Assert.Equal(status, reply.Status);
        Assert.Empty(reply.Messages);
    }

    [Fact]
    public async Task Only_gRPC_over_HTTP2_is_served()
    {
        await using var host = await TestHost.StartAsync(s_script);
        var reply = await host.SendFramedAsync(
            "Unary", [Frames.Message([])], r => r.Content!.Headers.ContentType = new("application/json")).Soon();
        Assert.Equal(HttpStatusCode.UnsupportedMediaType, reply.Http);
        foreach (var good in new[] { "application/grpc+proto", "application/grpc; a=b" })
        {
            reply = await host.SendFramedAsync("Unary", [Frames.Message([])], r =>
            {
                r.Content!.Headers.Remove("content-type");
                r.Content.Headers.TryAddWithoutValidation("content-type", good);
            }).Soon();
            Assert.Equal("0", reply.Status);
        }

        await using var old = await TestHost.StartAsync(
            services => services.AddSingleton(s_script).AddGrpc(),
            app => app.MapGrpcService<ScriptedKit>(),
            protocols: HttpProtocols.Http1);
        using var request = new HttpRequestMessage(HttpMethod.Post, "/mem1.kit.Kit/Unary")
        {
            Content = new ByteArrayContent(Frames.Message([])),
            Version = HttpVersion.Version11,
        };
        request.Content.Headers.ContentType = new("application/grpc");
        using var response = await old.Http(HttpVersion.Version11).SendAsync(request).Soon();
        Assert.Equal(HttpStatusCode.UpgradeRequired, response.StatusCode);
    }

    [Theory]
    [InlineData("100H", 360000)]
    [InlineData("90M", 5400)]
    [InlineData("77S", 77)]
    [InlineData("99999999m", 99999.999)]
    [InlineData("99999999u", 99.999999)]
    [InlineData("x", double.PositiveInfinity)]
    [InlineData("10", double.PositiveInfinity)]
    [InlineData("-1S", double.PositiveInfinity)]
    [InlineData("1.5S", double.PositiveInfinity)]
    [InlineData("S", double.PositiveInfinity)]
    public async Task Timeouts_are_read_in_every_unit(string timeout, double seconds)
    {
        await using var host = await TestHost.StartAsync(new Script
        {
            Unary = (_, context) => Task.FromResult(new Note
            {
                Text = context.Deadline == DateTime.MaxValue
                    ? "none"
                    : (context.Deadline - DateTime.UtcNow).TotalSeconds.ToString(CultureInfo.InvariantCulture),
            }),
        });
        var reply = await host.SendFramedAsync(
            "Unary", [Frames.Message([])], r => r.Headers.TryAddWithoutValidation("grpc-timeout", timeout)).Soon();
        var text = Note.Parser.ParseFrom(reply.Messages.Single()).Text;
        if (double.IsInfinity(seconds))
            Assert.Equal("none", text);
        else
            Assert.InRange(double.Parse(text, CultureInfo.InvariantCulture), seconds - 20, seconds);
    }

    [Fact]
    public async Task A_status_without_messages_is_trailers_only()
    {
        await using var host = await TestHost.StartAsync(new Script
        {
            Down = (_, _, context) =>
            {
                context.ResponseTrailers.Add("x-t", "1");
                return Task.CompletedTask;
            },
            Unary = (_, _) => throw new RpcException(new Status(StatusCode.NotFound, "ü%\n")),
        });
        var reply = await host.SendFramedAsync("Down", [Frames.Message([])]).Soon();
        Assert.Equal("0", reply.Headers.GetValues("grpc-status").Single());
        Assert.Equal("1", reply.Headers.GetValues("x-t").Single());
        reply = await host.SendFramedAsync("Unary", [Frames.Message([])]).Soon();
        Assert.Equal("5", reply.Headers.GetValues("grpc-status").Single());
        Assert.Equal("%C3%BC%25%0A", reply.Message);
    }

    [Fact]
    public async Task Compressed_requests_are_inflated()
    {
        await using var host = await TestHost.StartAsync(s_script);
        var packed = Frames.Message(Frames.Gzip(Bytes("packed")), flag: 1);
        var reply = await host.SendFramedAsync(
            "Up", [packed, Frames.Message(Bytes("plain"))], r => r.Headers.Add("grpc-encoding", "gzip")).Soon();
        Assert.Equal("packed,plain", Note.Parser.ParseFrom(reply.Messages.Single()).Text);
        reply = await host.SendFramedAsync("Unary", [packed], r => r.Headers.Add("grpc-encoding", "identity")).Soon();
        Assert.Equal("13", reply.Status);
        reply = await host.SendFramedAsync("Unary", [packed], r => r.Headers.Add("grpc-encoding", "snappy")).Soon();
        Assert.Equal("12", reply.Status);
        Assert.Contains("gzip", reply.Headers.GetValues("grpc-accept-encoding").Single(), StringComparison.Ordinal);
        // A plain message does not mind an unknown encoding.
        reply = await host.SendFramedAsync("Unary", [Frames.Message(Bytes("p"))], r => r.Headers.Add("grpc-encoding", "snappy")).Soon();
        Assert.Equal("0", reply.Status);
    }

    [Theory]
    [InlineData("gzip", 1)]
    [InlineData("identity,deflate , gzip", 1)]
    [InlineData("identity", 0)]
    [InlineData(null, 0)]
    public async Task Responses_are_compressed_for_clients_that_accept_it(string? accept, int flag)
    {
        await using var host = await TestHost.StartAsync(s_script, o =>
        {
            o.ResponseCompressionAlgorithm = "gzip";
            o.ResponseCompressionLevel = System.IO.Compression.CompressionLevel.Optimal;
        });
        var reply = await host.SendFramedAsync("Unary", [Frames.Message(Bytes(new string('a', 5000)))], r =>
        {
            if (accept is not null)
                r.Headers.TryAddWithoutValidation("grpc-accept-encoding", accept);
        }).Soon();
        Assert.Equal("0", reply.Status);
        Assert.Equal(flag, reply.Flags.Single());
        Assert.Equal(flag == 1, reply.Headers.Contains("grpc-encoding"));
        Assert.Equal(flag == 1, reply.Messages.Single().Length < 1000);
    }

    [Fact]
    public async Task Request_metadata_is_what_the_caller_sent()
    {
        await using var host = await TestHost.StartAsync(s_script);
        var reply = await host.SendFramedAsync("Down", [Frames.Message([])], r =>
        {
            r.Headers.Add("x-a", "1");
            r.Headers.Add("authorization", "Bearer t");
            r.Headers.TryAddWithoutValidation("x-padded-bin", "AQI=");
            r.Headers.TryAddWithoutValidation("x-bare-bin", "AQI");
            r.Headers.Add("grpc-timeout", "1H");
            r.Headers.Add("grpc-accept-encoding", "gzip");
        }).Soon();
        var texts = reply.Messages.Select(m => Note.Parser.ParseFrom(m).Text).Order(StringComparer.Ordinal);
        Assert.Equal(["authorization=Bearer t", "x-a=1", "x-bare-bin=0102", "x-padded-bin=0102"], texts);
    }
}
