// Cancellation reaches the other side, from either side, whatever the call is doing, and nothing is left hanging.

using Grpc.Core;

namespace Compat.Grpc.Tests;

public sealed class CancellationTests
{
    /// <summary>A service that blocks in every handler and tells when it has been let go.</summary>
    private sealed class Blocker
    {
        private readonly TaskCompletionSource _entered = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private readonly TaskCompletionSource _released = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public Task Entered => _entered.Task;

        public Task Released => _released.Task;

        public Script Script => new()
        {
            Unary = async (note, context) =>
            {
                await BlockAsync(context);
                return note;
            },
            Up = async (_, context) =>
            {
                await BlockAsync(context);
                return new Note();
            },
            Down = async (note, writer, context) =>
            {
                await writer.WriteAsync(note);
                await BlockAsync(context);
            },
            Both = async (_, writer, context) =>
            {
                await writer.WriteAsync(new Note());
                await BlockAsync(context);
            },
        };

        private async Task BlockAsync(ServerCallContext context)
        {
            _entered.SetResult();
            try
            {
                await Task.Delay(Timeout.InfiniteTimeSpan, context.CancellationToken);
            }
            finally
            {
                _released.SetResult(); // a callback of the token could be gone before its turn: the delay's, registered later, comes first
            }
        }
    }

    [Theory]
    [InlineData(MethodType.Unary, false)]
    [InlineData(MethodType.ClientStreaming, false)]
    [InlineData(MethodType.ServerStreaming, false)]
    [InlineData(MethodType.DuplexStreaming, false)]
    [InlineData(MethodType.Unary, true)]
    [InlineData(MethodType.DuplexStreaming, true)]
    public async Task A_token_cancels_the_call_on_both_sides(MethodType type, bool tls)
    {
        var blocker = new Blocker();
        await using var host = await TestHost.StartAsync(blocker.Script, tls: tls);
        using var source = new CancellationTokenSource();
        var client = host.Client();
        var task = Start(client, type, source.Token, out var status);
        await blocker.Entered.Soon();
        await source.CancelAsync();
        var failure = await task.FailsWith(StatusCode.Cancelled);
        Assert.Equal("Call canceled by the client.", failure.Status.Detail);
        Assert.IsAssignableFrom<OperationCanceledException>(failure.Status.DebugException);
        Assert.Equal(StatusCode.Cancelled, status().StatusCode);
        await blocker.Released.Soon();
    }

    [Theory]
    [InlineData(MethodType.Unary)]
    [InlineData(MethodType.ClientStreaming)]
    [InlineData(MethodType.ServerStreaming)]
    [InlineData(MethodType.DuplexStreaming)]
    public async Task With_the_option_cancellation_throws_with_the_callers_token(MethodType type)
    {
        var blocker = new Blocker();
        await using var host = await TestHost.StartAsync(blocker.Script);
        using var source = new CancellationTokenSource();
        var client = host.Client(o => o.ThrowOperationCanceledOnCancellation = true);
        var task = Start(client, type, source.Token, out var status);
        await blocker.Entered.Soon();
        await source.CancelAsync();
        var failure = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => task.Soon());
        Assert.Equal(source.Token, failure.CancellationToken);
        Assert.Equal(StatusCode.Cancelled, status().StatusCode);
        await blocker.Released.Soon();
    }

    [Fact]
    public async Task With_the_option_the_deadline_throws_too()
    {
        await using var host = await TestHost.StartAsync(new Blocker().Script);
        var client = host.Client(o => o.ThrowOperationCanceledOnCancellation = true);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(
            () => client.UnaryAsync(new Note(), deadline: DateTime.UtcNow.AddMilliseconds(200)).ResponseAsync.Soon());
    }

    [Fact]
    public async Task A_token_cancelled_before_the_call_never_reaches_the_server()
    {
        await using var host = await TestHost.StartAsync(new Script { Unary = (_, _) => throw new InvalidOperationException("reached") });
        await host.Client().UnaryAsync(new Note(), cancellationToken: new CancellationToken(true)).ResponseAsync
            .FailsWith(StatusCode.Cancelled);
    }

    [Theory]
    [InlineData(MethodType.Unary)]
    [InlineData(MethodType.ClientStreaming)]
    [InlineData(MethodType.ServerStreaming)]
    [InlineData(MethodType.DuplexStreaming)]
    public async Task Dispose_cancels_the_call_on_both_sides(MethodType type)
    {
        var blocker = new Blocker();
        await using var host = await TestHost.StartAsync(blocker.Script);
        var client = host.Client();
        IDisposable call;
        Func<Task> pending;
        Func<Status> status;
        switch (type)
        {
            case MethodType.Unary:
                var unary = client.UnaryAsync(new Note());
                (call, pending, status) = (unary, () => unary.ResponseAsync, unary.GetStatus);
                break;
            case MethodType.ClientStreaming:
                var up = client.Up();
                (call, pending, status) = (up, () => up.ResponseAsync, up.GetStatus);
                break;
            case MethodType.ServerStreaming:
                var down = client.Down(new Note());
                Assert.True(await down.ResponseStream.MoveNext().Soon());
                var downRead = down.ResponseStream.MoveNext();
                (call, pending, status) = (down, () => downRead, down.GetStatus);
                break;
            default:
                var both = client.Both();
                Assert.True(await both.ResponseStream.MoveNext().Soon());
                var bothRead = both.ResponseStream.MoveNext();
                (call, pending, status) = (both, () => bothRead, both.GetStatus);
                break;
        }
        await blocker.Entered.Soon();
        call.Dispose();
        await pending().FailsWith(StatusCode.Cancelled);
        Assert.Equal("gRPC call disposed.", status().Detail);
        await blocker.Released.Soon();
        call.Dispose();
    }

    [Fact]
    public async Task Reader_and_writer_are_unusable_after_Dispose()
    {
        await using var host = await TestHost.StartAsync(new Blocker().Script);
        var call = host.Client().Both();
        Assert.True(await call.ResponseStream.MoveNext().Soon());
        call.Dispose();
        await Assert.ThrowsAsync<ObjectDisposedException>(() => call.ResponseStream.MoveNext().Soon());
        await Assert.ThrowsAsync<ObjectDisposedException>(() => call.RequestStream.WriteAsync(new Note()).Soon());
    }

    [Fact]
    public async Task The_token_of_a_read_cancels_the_whole_call()
    {
        var blocker = new Blocker();
        await using var host = await TestHost.StartAsync(blocker.Script);
        using var call = host.Client().Both();
        Assert.True(await call.ResponseStream.MoveNext().Soon());
        using var source = new CancellationTokenSource();
        var read = call.ResponseStream.MoveNext(source.Token);
        await source.CancelAsync();
        await read.FailsWith(StatusCode.Cancelled);
        await call.RequestStream.WriteAsync(new Note()).FailsWith(StatusCode.Cancelled);
        await blocker.Released.Soon();
    }

    [Fact]
    public async Task The_token_of_a_write_cancels_the_whole_call()
    {
        var blocker = new Blocker();
        await using var host = await TestHost.StartAsync(blocker.Script);
        using var call = host.Client().Both();
        Assert.True(await call.ResponseStream.MoveNext().Soon());
        using var source = new CancellationTokenSource();
        // The server reads nothing, so the window fills and a write blocks.
        var big = new Note { Data = Google.Protobuf.ByteString.CopyFrom(new byte[300_000]) };
        var write = Task.Run(async () =>
        {
            while (true)
                await call.RequestStream.WriteAsync(big, source.Token);
        });
        await Task.Delay(200);
        Assert.False(write.IsCompleted);
        await source.CancelAsync();
        await write.FailsWith(StatusCode.Cancelled);
        await call.ResponseStream.MoveNext().FailsWith(StatusCode.Cancelled);
        await blocker.Released.Soon();
    }

    [Fact]
    public async Task A_servers_read_and_write_fail_when_the_client_is_gone()
    {
        var read = new TaskCompletionSource<Exception>();
        var write = new TaskCompletionSource<Exception>();
        await using var host = await TestHost.StartAsync(new Script
        {
            Both = async (notes, writer, context) =>
            {
                await writer.WriteAsync(new Note());
                try
                {
                    while (await notes.MoveNext())
                    {
                    }
                }
                catch (Exception e)
                {
                    read.SetResult(e);
                }
                try
                {
                    while (true)
                        await writer.WriteAsync(new Note());
                }
                catch (Exception e)
                {
                    write.SetResult(e);
                }
            },
        });
        var call = host.Client().Both();
        Assert.True(await call.ResponseStream.MoveNext().Soon());
        call.Dispose();
        Assert.True(await read.Task.Soon() is IOException or OperationCanceledException);
        Assert.IsAssignableFrom<OperationCanceledException>(await write.Task.Soon());
    }

    [Fact]
    public async Task The_token_of_a_servers_write_resets_the_call()
    {
        var seen = new TaskCompletionSource();
        await using var host = await TestHost.StartAsync(new Script
        {
            Down = async (note, writer, context) =>
            {
                await writer.WriteAsync(note);
                await seen.Task;
                await writer.WriteAsync(note, new CancellationToken(true));
            },
        });
        using var call = host.Client().Down(new Note());
        Assert.True(await call.ResponseStream.MoveNext().Soon());
        seen.SetResult();
        await Assert.ThrowsAsync<RpcException>(() => call.ResponseStream.MoveNext().Soon());
        Assert.NotEqual(StatusCode.OK, call.GetStatus().StatusCode);
    }

    [Fact]
    public async Task Complete_and_Dispose_at_once_still_ends_the_request_stream()
    {
        var ends = 0;
        var calls = 20;
        var done = new TaskCompletionSource();
        await using var host = await TestHost.StartAsync(new Script
        {
            Both = async (notes, writer, _) =>
            {
                await writer.WriteAsync(new Note());
                try
                {
                    while (await notes.MoveNext())
                    {
                    }
                    Interlocked.Increment(ref ends);
                }
                finally
                {
                    if (Interlocked.Decrement(ref calls) == 0)
                        done.SetResult();
                }
            },
        });
        var client = host.Client();
        for (var i = 0; i < 20; i++)
        {
            var call = client.Both();
            Assert.True(await call.ResponseStream.MoveNext().Soon());
            await call.RequestStream.CompleteAsync().Soon();
            call.Dispose();
        }
        await done.Task.Soon();
        // END_STREAM is on its way before the reset; a reader that has not looked yet may still meet the reset.
        Assert.InRange(ends, 1, 20);
    }

    [Fact]
    public async Task Disposing_the_channel_ends_its_calls()
    {
        var blocker = new Blocker();
        await using var host = await TestHost.StartAsync(blocker.Script);
        var channel = host.Channel();
        var client = new Kit.KitClient(channel);
        var call = client.Both();
        Assert.True(await call.ResponseStream.MoveNext().Soon());
        var read = call.ResponseStream.MoveNext();
        await blocker.Entered.Soon();
        channel.Dispose();
        await read.FailsWith(StatusCode.Cancelled);
        Assert.Equal("gRPC call disposed.", call.GetStatus().Detail);
        await blocker.Released.Soon();
        Assert.Throws<ObjectDisposedException>(() => client.UnaryAsync(new Note()));
        Assert.Throws<ObjectDisposedException>(() => channel.CreateCallInvoker());
        channel.Dispose();
    }

    [Fact]
    public async Task Tokens_hold_no_call_after_its_end()
    {
        await using var host = await TestHost.StartAsync(new Script { Unary = (note, _) => Task.FromResult(note) });
        var client = host.Client();
        using var source = new CancellationTokenSource();
        var call = client.UnaryAsync(new Note(), deadline: DateTime.UtcNow.AddMinutes(1), cancellationToken: source.Token);
        await call.ResponseAsync.Soon();
        await source.CancelAsync();
        Assert.Equal(StatusCode.OK, call.GetStatus().StatusCode);
        call.Dispose();
        Assert.Equal(StatusCode.OK, call.GetStatus().StatusCode);
    }

    private static Task Start(Kit.KitClient client, MethodType type, CancellationToken token, out Func<Status> status)
    {
        switch (type)
        {
            case MethodType.Unary:
                var unary = client.UnaryAsync(new Note(), cancellationToken: token);
                status = unary.GetStatus;
                return unary.ResponseAsync;
            case MethodType.ClientStreaming:
                var up = client.Up(cancellationToken: token);
                status = up.GetStatus;
                return up.ResponseAsync;
            case MethodType.ServerStreaming:
                var down = client.Down(new Note(), cancellationToken: token);
                status = down.GetStatus;
                return ReadToEnd(down.ResponseStream);
            default:
                var both = client.Both(cancellationToken: token);
                status = both.GetStatus;
                return ReadToEnd(both.ResponseStream);
        }

        static async Task ReadToEnd(IAsyncStreamReader<Note> reader)
        {
            while (await reader.MoveNext())
            {
            }
        }
    }
}
