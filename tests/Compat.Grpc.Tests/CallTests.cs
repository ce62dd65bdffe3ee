// The four kinds of call on their normal way: messages, headers, trailers, status.

using Google.Protobuf;
using Grpc.Core;

namespace Compat.Grpc.Tests;

public sealed class CallTests
{
    private static readonly Script s_echo = new()
    {
        Unary = (note, _) => Task.FromResult(note),
        Up = async (notes, context) =>
        {
            var sum = 0;
            await foreach (var note in notes.ReadAllAsync(context.CancellationToken))
                sum += note.Number;
            return new Note { Number = sum };
        },
        Down = async (note, writer, _) =>
        {
            for (var i = 0; i < note.Number; i++)
                await writer.WriteAsync(new Note { Number = i });
        },
        Both = async (notes, writer, _) =>
        {
            await foreach (var note in notes.ReadAllAsync())
                await writer.WriteAsync(note);
        },
    };

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task All_four_kinds_carry_messages(bool tls)
    {
        await using var host = await TestHost.StartAsync(s_echo, tls: tls);
        var client = host.Client();

        using var unary = client.UnaryAsync(new Note { Text = "hé", Number = 7 });
        Assert.Equal("hé", (await unary.ResponseAsync.Soon()).Text);
        Assert.Equal(StatusCode.OK, unary.GetStatus().StatusCode);
        Assert.Equal("", unary.GetStatus().Detail);
        Assert.Equal(7, client.Unary(new Note { Number = 7 }).Number);

        using var up = client.Up();
        for (var i = 1; i <= 10; i++)
            await up.RequestStream.WriteAsync(new Note { Number = i }).Soon();
        await up.RequestStream.CompleteAsync().Soon();
        Assert.Equal(55, (await up.ResponseAsync.Soon()).Number);
        Assert.Equal(StatusCode.OK, up.GetStatus().StatusCode);

        using var down = client.Down(new Note { Number = 5 });
        var numbers = new List<int>();
        await foreach (var note in down.ResponseStream.ReadAllAsync())
            numbers.Add(note.Number);
        Assert.Equal([0, 1, 2, 3, 4], numbers);
        Assert.Equal(StatusCode.OK, down.GetStatus().StatusCode);

        using var both = client.Both();
        for (var i = 0; i < 5; i++)
        {
            await both.RequestStream.WriteAsync(new Note { Number = i }).Soon();
            Assert.True(await both.ResponseStream.MoveNext().Soon());
            Assert.Equal(i, both.ResponseStream.Current.Number);
        }
        await both.RequestStream.CompleteAsync().Soon();
        Assert.False(await both.ResponseStream.MoveNext().Soon());
        Assert.False(await both.ResponseStream.MoveNext().Soon());
        Assert.Equal(StatusCode.OK, both.GetStatus().StatusCode);
    }

    [Fact]
    public async Task An_empty_message_is_a_message()
    {
        await using var host = await TestHost.StartAsync(s_echo);
        var client = host.Client();
        Assert.Equal(new Note(), await client.UnaryAsync(new Note()).ResponseAsync.Soon());
        using var both = client.Both();
        await both.RequestStream.WriteAsync(new Note());
        Assert.True(await both.ResponseStream.MoveNext().Soon());
        Assert.Equal(new Note(), both.ResponseStream.Current);
    }

    [Theory]
    [InlineData(100)]
    [InlineData(16 * 1024)]
    [InlineData(1_000_003)]
    [InlineData(4 * 1024 * 1024 - 64)]
    public async Task Messages_of_any_size_arrive_unchanged(int size)
    {
        await using var host = await TestHost.StartAsync(s_echo);
        var data = new byte[size];
        new Random(size).NextBytes(data);
        var note = new Note { Data = ByteString.CopyFrom(data) };
        var client = host.Client();
        Assert.Equal(note, await client.UnaryAsync(note).ResponseAsync.Soon());
        using var both = client.Both();
        for (var i = 0; i < 3; i++)
        {
            await both.RequestStream.WriteAsync(note).Soon();
            Assert.True(await both.ResponseStream.MoveNext().Soon());
            Assert.Equal(note, both.ResponseStream.Current);
        }
    }

    [Fact]
    public async Task Messages_of_mixed_sizes_keep_their_order()
    {
        await using var host = await TestHost.StartAsync(s_echo);
        var random = new Random(1);
        var notes = Enumerable.Range(0, 400).Select(i => new Note
        {
            Number = i,
            Data = ByteString.CopyFrom(new byte[random.Next(random.Next(8) switch { 0 => 200_000, 1 => 20_000, _ => 40 })]),
        }).ToList();
        using var both = host.Client().Both();
        var writing = Task.Run(async () =>
        {
            foreach (var note in notes)
            {
                both.RequestStream.WriteOptions = new WriteOptions(note.Number % 3 == 0 ? WriteFlags.BufferHint : default);
                await both.RequestStream.WriteAsync(note);
            }
            await both.RequestStream.CompleteAsync();
        });
        var received = new List<Note>();
        await foreach (var note in both.ResponseStream.ReadAllAsync())
            received.Add(note);
        await writing.Soon();
        Assert.Equal(notes, received);
    }

    [Fact]
    public async Task Headers_and_trailers_travel_both_ways()
    {
        await using var host = await TestHost.StartAsync(new Script
        {
            Unary = async (note, context) =>
            {
                var headers = new Metadata();
                foreach (var entry in context.RequestHeaders)
                {
                    if (entry.Key.StartsWith("x-", StringComparison.Ordinal))
                        headers.Add(entry);
                }
                await context.WriteResponseHeadersAsync(headers);
                context.ResponseTrailers.Add("x-trailer", "t");
                context.ResponseTrailers.Add("x-trailer-bin", [0, 255, 7]);
                return note;
            },
        });
        var sent = new Metadata { { "X-Upper", "v" }, { "x-data-bin", new byte[] { 1, 2, 3, 254 } } };
        using var call = host.Client().UnaryAsync(new Note(), sent);
        var headers = await call.ResponseHeadersAsync.Soon();
        await call.ResponseAsync.Soon();
        Assert.Equal("v", headers.GetValue("x-upper"));
        Assert.Equal(new byte[] { 1, 2, 3, 254 }, headers.GetValueBytes("x-data-bin"));
        Assert.Null(headers.Get("content-type"));
        Assert.Equal("t", call.GetTrailers().GetValue("X-Trailer"));
        Assert.Equal(new byte[] { 0, 255, 7 }, call.GetTrailers().GetValueBytes("x-trailer-bin"));
        Assert.Null(call.GetTrailers().Get("grpc-status"));
    }

    [Fact]
    public async Task Response_headers_arrive_before_any_message()
    {
        var release = new TaskCompletionSource();
        await using var host = await TestHost.StartAsync(new Script
        {
            Both = async (notes, writer, context) =>
            {
                await context.WriteResponseHeadersAsync(new Metadata { { "x-early", "1" } });
                await release.Task;
            },
        });
        using var call = host.Client().Both();
        Assert.Equal("1", (await call.ResponseHeadersAsync.Soon()).GetValue("x-early"));
        release.SetResult();
        Assert.False(await call.ResponseStream.MoveNext().Soon());
    }

    [Fact]
    public async Task Response_headers_can_be_written_once_and_only_first()
    {
        var errors = new List<Exception>();
        await using var host = await TestHost.StartAsync(new Script
        {
            Unary = async (note, context) =>
            {
                await context.WriteResponseHeadersAsync([]);
                errors.Add(await Assert.ThrowsAsync<InvalidOperationException>(() => context.WriteResponseHeadersAsync([])));
                return note;
            },
            Down = async (note, writer, context) =>
            {
                await writer.WriteAsync(note);
                errors.Add(await Assert.ThrowsAsync<InvalidOperationException>(() => context.WriteResponseHeadersAsync([])));
            },
        });
        var client = host.Client();
        await client.UnaryAsync(new Note()).ResponseAsync.Soon();
        using var down = client.Down(new Note());
        Assert.True(await down.ResponseStream.MoveNext().Soon());
        Assert.False(await down.ResponseStream.MoveNext().Soon());
        Assert.Equal(2, errors.Count);
    }

    [Theory]
    [InlineData(StatusCode.NotFound, "no such thing")]
    [InlineData(StatusCode.Unknown, "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n")]
    [InlineData(StatusCode.Internal, "100 % of %zz")]
    [InlineData(StatusCode.Aborted, "")]
    public async Task A_handlers_RpcException_is_the_status_of_the_call(StatusCode code, string detail)
    {
        RpcException Error() => new(new Status(code, detail), new Metadata { { "x-why", "because" } });
        await using var host = await TestHost.StartAsync(new Script
        {
            Unary = (_, _) => throw Error(),
            Up = async (notes, _) =>
            {
                await notes.MoveNext();
                throw Error();
            },
            Down = async (note, writer, _) =>
            {
                await writer.WriteAsync(note);
                throw Error();
            },
            Both = (_, _, _) => throw Error(),
        });
        var client = host.Client();

        using var unary = client.UnaryAsync(new Note());
        var failure = await unary.ResponseAsync.FailsWith(code);
        Assert.Equal(detail, failure.Status.Detail);
        Assert.Equal("because", failure.Trailers.GetValue("x-why"));
        Assert.Equal(code, unary.GetStatus().StatusCode);
        Assert.Equal("because", unary.GetTrailers().GetValue("x-why"));
        Assert.Equal(code, Assert.Throws<RpcException>(() => client.Unary(new Note())).StatusCode);

        using var up = client.Up();
        await up.RequestStream.WriteAsync(new Note()).Soon();
        Assert.Equal(detail, (await up.ResponseAsync.FailsWith(code)).Status.Detail);

        using var down = client.Down(new Note { Number = 3 });
        Assert.True(await down.ResponseStream.MoveNext().Soon());
        Assert.Equal(3, down.ResponseStream.Current.Number);
        failure = await down.ResponseStream.MoveNext().FailsWith(code);
        Assert.Equal(detail, failure.Status.Detail);
        Assert.Equal("because", failure.Trailers.GetValue("x-why"));

        using var both = client.Both();
        await both.ResponseStream.MoveNext().FailsWith(code);
    }

    [Theory]
    [InlineData(false, "Exception was thrown by handler.")]
    [InlineData(true, "Exception was thrown by handler. InvalidOperationException: secret")]
    public async Task Any_other_exception_is_unknown_and_shown_only_on_demand(bool detailed, string expected)
    {
        await using var host = await TestHost.StartAsync(
            new Script { Unary = (_, _) => throw new InvalidOperationException("secret") }, o => o.EnableDetailedErrors = detailed);
        Assert.Equal(expected, (await host.Client().UnaryAsync(new Note()).ResponseAsync.FailsWith(StatusCode.Unknown)).Status.Detail);
    }

    [Fact]
    public async Task A_null_response_is_cancelled()
    {
        await using var host = await TestHost.StartAsync(new Script { Unary = (_, _) => Task.FromResult<Note>(null!) });
        var failure = await host.Client().UnaryAsync(new Note()).ResponseAsync.FailsWith(StatusCode.Cancelled);
        Assert.Equal("No message returned from method.", failure.Status.Detail);
    }

    [Fact]
    public async Task A_status_set_by_the_handler_wins_over_its_message()
    {
        await using var host = await TestHost.StartAsync(new Script
        {
            Unary = (note, context) =>
            {
                context.Status = new Status(StatusCode.DataLoss, "half");
                return Task.FromResult(note);
            },
        });
        Assert.Equal("half", (await host.Client().UnaryAsync(new Note()).ResponseAsync.FailsWith(StatusCode.DataLoss)).Status.Detail);
    }

    [Fact]
    public async Task Methods_and_services_nobody_implements_are_unimplemented()
    {
        await using var host = await TestHost.StartAsync(new Script());
        await host.Client().UnaryAsync(new Note()).ResponseAsync.FailsWith(StatusCode.Unimplemented);
        var channel = host.Channel();
        var elsewhere = new Interop.TestService.TestServiceClient(channel);
        Assert.Equal(
            "Service is unimplemented.",
            (await elsewhere.EmptyCallAsync(new Interop.Empty()).ResponseAsync.FailsWith(StatusCode.Unimplemented)).Status.Detail);
        var marshaller = Marshallers.Create(m => m.ToByteArray(), Note.Parser.ParseFrom);
        var method = new Method<Note, Note>(MethodType.Unary, "mem1.kit.Kit", "Nothing", marshaller, marshaller);
        using var call = channel.CreateCallInvoker().AsyncUnaryCall(method, null, default, new Note());
        Assert.Equal("Method is unimplemented.", (await call.ResponseAsync.FailsWith(StatusCode.Unimplemented)).Status.Detail);
    }

    [Fact]
    public async Task A_server_context_knows_its_call()
    {
        ServerCallContext? seen = null;
        string? peer = null;
        await using var host = await TestHost.StartAsync(new Script
        {
            Unary = (note, context) =>
            {
                seen = context;
                peer = context.Peer;
                Assert.Equal("/mem1.kit.Kit/Unary", context.Method);
                Assert.Equal(DateTime.MaxValue, context.Deadline);
                Assert.NotNull(context.RequestHeaders.GetValue("user-agent"));
                Assert.Null(context.RequestHeaders.Get("content-type"));
                Assert.Null(context.RequestHeaders.Get("te"));
                Assert.False(context.AuthContext.IsPeerAuthenticated);
                Assert.False(context.CancellationToken.IsCancellationRequested);
                Assert.Equal("/mem1.kit.Kit/Unary", context.GetHttpContext().Request.Path.Value);
                context.UserState["k"] = "v";
                Assert.Equal("v", context.GetHttpContext().Items["k"]);
                return Task.FromResult(new Note { Text = context.Host });
            },
        });
        Assert.Equal($"localhost:{host.Port}", (await host.Client().UnaryAsync(new Note()).ResponseAsync.Soon()).Text);
        Assert.NotNull(seen);
        Assert.StartsWith("ipv4:127.0.0.1:", peer);
    }

    [Fact]
    public async Task Status_and_trailers_are_refused_before_the_end()
    {
        var release = new TaskCompletionSource();
        await using var host = await TestHost.StartAsync(new Script
        {
            Unary = async (note, _) =>
            {
                await release.Task;
                return note;
            },
        });
        using var call = host.Client().UnaryAsync(new Note());
        Assert.Throws<InvalidOperationException>(() => call.GetStatus());
        Assert.Throws<InvalidOperationException>(() => call.GetTrailers());
        release.SetResult();
        await call.ResponseAsync.Soon();
        Assert.Equal(StatusCode.OK, call.GetStatus().StatusCode);
        Assert.Empty(call.GetTrailers());
    }
}
