// Bounds of message sizes, in both directions on both sides, and compression between our own two ends.

using Google.Protobuf;
using Grpc.Core;
using Grpc.Net.Client;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;

namespace Compat.Grpc.Tests;

public sealed class LimitTests
{
    private static readonly Script s_script = new()
    {
        Unary = (note, _) => Task.FromResult(note.Number == 0 ? note : Sized(note.Number)),
        Up = async (notes, _) =>
        {
            while (await notes.MoveNext())
            {
            }
            return new Note();
        },
        Down = async (note, writer, _) =>
        {
            await writer.WriteAsync(new Note());
            await writer.WriteAsync(Sized(note.Number));
        },
    };

    /// <summary>A message of exactly so many bytes (from 10 to 16383).</summary>
    private static Note Sized(int bytes)
    {
        var note = new Note { Data = ByteString.CopyFrom(new byte[bytes - 5]) };
        return new Note { Data = ByteString.CopyFrom(new byte[bytes - 5 - (note.CalculateSize() - bytes)]) };
    }

    private static async Task<string> DetailOf(Task task)
    {
        var failure = await task.FailsWith(StatusCode.ResourceExhausted);
        return failure.Status.Detail;
    }

    [Fact]
    public async Task A_server_takes_messages_up_to_its_limit()
    {
        const string Detail = "Received message exceeds the maximum configured message size.";
        await using var host = await TestHost.StartAsync(s_script, o => o.MaxReceiveMessageSize = 1000);
        var client = host.Client();
        Assert.Equal(1000, Sized(1000).CalculateSize());
        await client.UnaryAsync(Sized(1000)).ResponseAsync.Soon();
        Assert.Equal(Detail, await DetailOf(client.UnaryAsync(Sized(1001)).ResponseAsync));
        using var up = client.Up();
        await up.RequestStream.WriteAsync(Sized(1000)).Soon();
        // The refusal may overtake the end of the write that it answers.
        if (await Record.ExceptionAsync(() => up.RequestStream.WriteAsync(Sized(1001)).Soon()) is { } early)
            Assert.Equal(StatusCode.ResourceExhausted, Assert.IsType<RpcException>(early).StatusCode);
        Assert.Equal(Detail, await DetailOf(up.ResponseAsync));
    }

    [Fact]
    public async Task A_server_sends_messages_up_to_its_limit()
    {
        const string Detail = "Sending message exceeds the maximum configured message size.";
        await using var host = await TestHost.StartAsync(s_script, o => o.MaxSendMessageSize = 1000);
        var client = host.Client();
        await client.UnaryAsync(new Note { Number = 1000 }).ResponseAsync.Soon();
        Assert.Equal(Detail, await DetailOf(client.UnaryAsync(new Note { Number = 1001 }).ResponseAsync));
        using var down = client.Down(new Note { Number = 1001 });
        Assert.True(await down.ResponseStream.MoveNext().Soon());
        Assert.Equal(Detail, await DetailOf(down.ResponseStream.MoveNext()));
    }

    [Fact]
    public async Task A_client_takes_messages_up_to_its_limit()
    {
        const string Detail = "Received message exceeds the maximum configured message size.";
        await using var host = await TestHost.StartAsync(s_script);
        var client = host.Client(o => o.MaxReceiveMessageSize = 1000);
        await client.UnaryAsync(new Note { Number = 1000 }).ResponseAsync.Soon();
        Assert.Equal(Detail, await DetailOf(client.UnaryAsync(new Note { Number = 1001 }).ResponseAsync));
        using var down = client.Down(new Note { Number = 1001 });
        Assert.True(await down.ResponseStream.MoveNext().Soon());
        Assert.Equal(Detail, await DetailOf(down.ResponseStream.MoveNext()));
    }

    [Fact]
    public async Task A_client_sends_messages_up_to_its_limit()
    {
        const string Detail = "Sending message exceeds the maximum configured message size.";
        await using var host = await TestHost.StartAsync(s_script);
        var client = host.Client(o => o.MaxSendMessageSize = 1000);
        await client.UnaryAsync(Sized(1000)).ResponseAsync.Soon();
        Assert.Equal(Detail, await DetailOf(client.UnaryAsync(Sized(1001)).ResponseAsync));
        using var up = client.Up();
        await up.RequestStream.WriteAsync(Sized(1000)).Soon();
        Assert.Equal(Detail, await DetailOf(up.RequestStream.WriteAsync(Sized(1001))));
    }

    [Fact]
    public async Task Without_limits_large_messages_pass()
    {
        await using var host = await TestHost.StartAsync(
            services => services.AddSingleton(s_script).AddGrpc(o => o.MaxReceiveMessageSize = 1)
                .AddServiceOptions<ScriptedKit>(o => o.MaxReceiveMessageSize = null),
            app => app.MapGrpcService<ScriptedKit>());
        var data = new byte[12_000_000];
        new Random(3).NextBytes(data);
        var note = new Note { Data = ByteString.CopyFrom(data) };
        var client = host.Client(o => o.MaxReceiveMessageSize = null);
        Assert.Equal(note, await client.UnaryAsync(note).ResponseAsync.Soon());
        // A stream may be longer than Kestrel's limit for a request body.
        using var up = client.Up();
        for (var i = 0; i < 4; i++)
            await up.RequestStream.WriteAsync(note).Soon();
        await up.RequestStream.CompleteAsync();
        await up.ResponseAsync.Soon();
    }

    [Theory]
    [InlineData("gzip")]
    [InlineData("deflate")]
    public async Task Both_ends_compress_on_request(string encoding)
    {
        string? header = null;
        await using var host = await TestHost.StartAsync(new Script
        {
            Both = async (notes, writer, context) =>
            {
                header = context.GetHttpContext().Request.Headers["grpc-encoding"];
                await context.WriteResponseHeadersAsync(new Metadata { { "grpc-internal-encoding-request", encoding } });
                await foreach (var note in notes.ReadAllAsync())
                {
                    writer.WriteOptions = new WriteOptions(note.Number % 2 == 0 ? WriteFlags.NoCompress : default);
                    await writer.WriteAsync(note);
                }
            },
        });
        var request = new Metadata { { "grpc-internal-encoding-request", encoding } };
        using var call = host.Client().Both(request);
        for (var i = 0; i < 6; i++)
        {
            var note = new Note { Number = i, Text = new string('x', i * 10_000) };
            call.RequestStream.WriteOptions = new WriteOptions(i % 3 == 0 ? WriteFlags.NoCompress : default);
            await call.RequestStream.WriteAsync(note).Soon();
            Assert.True(await call.ResponseStream.MoveNext().Soon());
            Assert.Equal(note, call.ResponseStream.Current);
        }
        Assert.Equal(encoding, header);
        Assert.Null((await call.ResponseHeadersAsync).Get("grpc-encoding"));
        await call.RequestStream.CompleteAsync();
        Assert.False(await call.ResponseStream.MoveNext().Soon());
    }
}
