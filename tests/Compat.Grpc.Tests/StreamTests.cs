// Streams under stress and misuse: early ends, floods, many at once, two hands on one end.

using Google.Protobuf;
using Grpc.Core;

namespace Compat.Grpc.Tests;

public sealed class StreamTests
{
    private static readonly Note s_big = new() { Data = ByteString.CopyFrom(new byte[100_000]) };

    [Theory]
    [InlineData(StatusCode.OK)]
    [InlineData(StatusCode.FailedPrecondition)]
    public async Task A_server_that_answers_early_stops_a_flooding_client_stream(StatusCode code)
    {
        await using var host = await TestHost.StartAsync(new Script
        {
            Up = async (notes, _) =>
            {
                await notes.MoveNext();
                return code == StatusCode.OK ? new Note { Number = 1 } : throw new RpcException(new Status(code, "enough"));
            },
        });
        using var call = host.Client().Up();
        var flood = Task.Run(async () =>
        {
            while (true)
                await call.RequestStream.WriteAsync(s_big);
        });
        if (code == StatusCode.OK)
            Assert.Equal(1, (await call.ResponseAsync.Soon()).Number);
        else
            await call.ResponseAsync.FailsWith(code);
        await flood.FailsWith(code);
        Assert.Equal(code, call.GetStatus().StatusCode);
    }

    [Theory]
    [InlineData(StatusCode.OK)]
    [InlineData(StatusCode.ResourceExhausted)]
    public async Task A_server_that_ends_early_stops_a_flooding_duplex_call(StatusCode code)
    {
        await using var host = await TestHost.StartAsync(new Script
        {
            Both = async (notes, writer, _) =>
            {
                await notes.MoveNext();
                await writer.WriteAsync(new Note { Number = 5 });
                if (code != StatusCode.OK)
                    throw new RpcException(new Status(code, "enough"));
            },
        });
        using var call = host.Client().Both();
        var flood = Task.Run(async () =>
        {
            while (true)
                await call.RequestStream.WriteAsync(s_big);
        });
        Assert.True(await call.ResponseStream.MoveNext().Soon());
        Assert.Equal(5, call.ResponseStream.Current.Number);
        if (code == StatusCode.OK)
            Assert.False(await call.ResponseStream.MoveNext().Soon());
        else
            await call.ResponseStream.MoveNext().FailsWith(code);
        Assert.Equal(code, call.GetStatus().StatusCode);
        await Assert.ThrowsAsync<RpcException>(() => flood.Soon());
        await call.RequestStream.WriteAsync(s_big).FailsWith(code);
    }

    [Fact]
    public async Task Messages_before_an_early_end_are_all_delivered_though_the_client_floods()
    {
        await using var host = await TestHost.StartAsync(new Script
        {
            Both = async (notes, writer, _) =>
            {
                for (var i = 0; i < 200; i++)
                    await writer.WriteAsync(new Note { Number = i });
            },
        });
        using var call = host.Client().Both();
        var flood = Task.Run(async () =>
        {
            while (true)
                await call.RequestStream.WriteAsync(s_big);
        });
        for (var i = 0; i < 200; i++)
        {
            Assert.True(await call.ResponseStream.MoveNext().Soon());
            Assert.Equal(i, call.ResponseStream.Current.Number);
        }
        Assert.False(await call.ResponseStream.MoveNext().Soon());
        await Assert.ThrowsAsync<RpcException>(() => flood.Soon());
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task More_streams_than_one_connection_takes_run_at_once(bool tls)
    {
        const int Streams = 150;
        var arrived = 0;
        var all = new TaskCompletionSource();
        await using var host = await TestHost.StartAsync(
            new Script
            {
                Both = async (notes, writer, _) =>
                {
                    if (Interlocked.Increment(ref arrived) == Streams)
                        all.SetResult();
                    await foreach (var note in notes.ReadAllAsync())
                        await writer.WriteAsync(note);
                },
            },
            tls: tls);
        var client = host.Client();
        var calls = Enumerable.Range(0, Streams).Select(_ => client.Both()).ToList();
        await all.Task.Soon();
        await Task.WhenAll(calls.Select(async (call, index) =>
        {
            for (var i = 0; i < 5; i++)
            {
                await call.RequestStream.WriteAsync(new Note { Number = index * 10 + i });
                Assert.True(await call.ResponseStream.MoveNext());
                Assert.Equal(index * 10 + i, call.ResponseStream.Current.Number);
            }
            await call.RequestStream.CompleteAsync();
            Assert.False(await call.ResponseStream.MoveNext());
            call.Dispose();
        })).Soon();
    }

    [Fact]
    public async Task Unary_calls_in_parallel_get_their_own_answers()
    {
        await using var host = await TestHost.StartAsync(new Script
        {
            Unary = async (note, _) =>
            {
                await Task.Yield();
                return new Note { Number = note.Number, Data = note.Data };
            },
        });
        var client = host.Client();
        await Task.WhenAll(Enumerable.Range(0, 16).Select(async worker =>
        {
            var random = new Random(worker);
            for (var i = 0; i < 50; i++)
            {
                var data = new byte[random.Next(10_000)];
                random.NextBytes(data);
                var note = new Note { Number = worker * 1000 + i, Data = ByteString.CopyFrom(data) };
                Assert.Equal(note, await client.UnaryAsync(note, deadline: DateTime.UtcNow.AddMinutes(1)));
            }
        })).Soon();
    }

    [Fact]
    public async Task One_write_and_one_read_at_a_time()
    {
        await using var host = await TestHost.StartAsync(new Script
        {
            Both = (_, _, context) => Task.Delay(Timeout.InfiniteTimeSpan, context.CancellationToken),
        });
        using var call = host.Client().Both();
        var read = call.ResponseStream.MoveNext();
        Assert.Equal(
            "Can't read the next message because the previous read is still in progress.",
            (await Assert.ThrowsAsync<InvalidOperationException>(() => call.ResponseStream.MoveNext().Soon())).Message);
        Task write;
        do
            write = call.RequestStream.WriteAsync(s_big);
        while (await Task.WhenAny(write, Task.Delay(300)) == write);
        Assert.Equal(
            "Can't write the message because the previous write is in progress.",
            (await Assert.ThrowsAsync<InvalidOperationException>(() => call.RequestStream.WriteAsync(s_big).Soon())).Message);
        await Assert.ThrowsAsync<InvalidOperationException>(() => call.RequestStream.CompleteAsync().Soon());
        call.Dispose();
        await Assert.ThrowsAsync<RpcException>(() => read.Soon());
        await Assert.ThrowsAsync<RpcException>(() => write.Soon());
    }

    [Fact]
    public async Task A_completed_request_stream_takes_no_more()
    {
        await using var host = await TestHost.StartAsync(new Script { Both = (_, _, context) => Task.CompletedTask });
        using var call = host.Client().Both();
        await call.RequestStream.CompleteAsync().Soon();
        await call.RequestStream.CompleteAsync().Soon();
        Assert.Equal(
            "Request stream has already been completed.",
            (await Assert.ThrowsAsync<InvalidOperationException>(() => call.RequestStream.WriteAsync(new Note()).Soon())).Message);
        await Assert.ThrowsAsync<ArgumentNullException>(() => call.RequestStream.WriteAsync(null!));
        Assert.Null(call.ResponseStream.Current);
        Assert.False(await call.ResponseStream.MoveNext().Soon());
        Assert.Null(call.ResponseStream.Current);
    }

    [Fact]
    public async Task A_servers_reader_and_writer_end_with_its_handler()
    {
        IAsyncStreamReader<Note>? reader = null;
        IServerStreamWriter<Note>? writer = null;
        await using var host = await TestHost.StartAsync(new Script
        {
            Both = async (notes, responses, _) =>
            {
                await notes.MoveNext();
                (reader, writer) = (notes, responses);
            },
        });
        using var call = host.Client().Both();
        await call.RequestStream.WriteAsync(new Note()).Soon();
        Assert.False(await call.ResponseStream.MoveNext().Soon());
        await Assert.ThrowsAsync<InvalidOperationException>(() => reader!.MoveNext().Soon());
        await Assert.ThrowsAsync<InvalidOperationException>(() => writer!.WriteAsync(new Note()).Soon());
    }

    [Fact]
    public async Task A_server_writes_one_message_at_a_time()
    {
        var refused = new TaskCompletionSource<Exception>();
        await using var host = await TestHost.StartAsync(new Script
        {
            Down = async (_, writer, _) =>
            {
                Task write;
                do
                    write = writer.WriteAsync(s_big);
                while (await Task.WhenAny(write, Task.Delay(300)) == write);
                try
                {
                    await writer.WriteAsync(new Note());
                }
                catch (Exception e)
                {
                    refused.SetResult(e);
                }
                await write;
            },
        });
        using var call = host.Client().Down(new Note());
        // The client reads nothing until the second write was refused.
        Assert.IsType<InvalidOperationException>(await refused.Task.Soon());
        while (await call.ResponseStream.MoveNext().Soon())
            Assert.Equal(s_big, call.ResponseStream.Current);
    }

    [Fact]
    public async Task Buffered_messages_come_with_the_next_flush()
    {
        var release = new TaskCompletionSource();
        await using var host = await TestHost.StartAsync(new Script
        {
            Down = async (note, writer, _) =>
            {
                writer.WriteOptions = new WriteOptions(WriteFlags.BufferHint);
                for (var i = 0; i < 10; i++)
                    await writer.WriteAsync(new Note { Number = i });
                writer.WriteOptions = null;
                await writer.WriteAsync(new Note { Number = 10 });
                await release.Task;
            },
        });
        using var call = host.Client().Down(new Note());
        for (var i = 0; i <= 10; i++)
        {
            Assert.True(await call.ResponseStream.MoveNext().Soon());
            Assert.Equal(i, call.ResponseStream.Current.Number);
        }
        release.SetResult();
        Assert.False(await call.ResponseStream.MoveNext().Soon());
    }

    [Fact]
    public async Task Back_pressure_holds_the_writer_until_the_reader_reads()
    {
        var written = 0;
        await using var host = await TestHost.StartAsync(new Script
        {
            Down = async (_, writer, _) =>
            {
                for (; written < 400; written++)
                    await writer.WriteAsync(s_big);
            },
        });
        using var call = host.Client().Down(new Note());
        await call.ResponseHeadersAsync.Soon();
        await Task.Delay(500);
        Assert.InRange(Volatile.Read(ref written), 0, 399);
        var received = 0;
        while (await call.ResponseStream.MoveNext().Soon())
            received++;
        Assert.Equal(400, received);
    }

    [Fact]
    public async Task A_failed_call_leaves_no_unobserved_exception()
    {
        await using var host = await TestHost.StartAsync(new Script
        {
            Up = (_, _) => throw new RpcException(new Status(StatusCode.NotFound, "unobserved probe")),
        });
        var unobserved = new List<string>();
        void Watch(object? sender, UnobservedTaskExceptionEventArgs e)
        {
            lock (unobserved)
                unobserved.Add(e.Exception.ToString());
        }
        TaskScheduler.UnobservedTaskException += Watch;
        try
        {
            await FailAsync(host.Client());
            for (var i = 0; i < 3; i++)
            {
                GC.Collect();
                GC.WaitForPendingFinalizers();
                await Task.Delay(50);
            }
        }
        finally
        {
            TaskScheduler.UnobservedTaskException -= Watch;
        }
        Assert.DoesNotContain(unobserved, text => text.Contains("unobserved probe", StringComparison.Ordinal));

        static async Task FailAsync(Kit.KitClient client)
        {
            var call = client.Up();
            try
            {
                while (true)
                    await call.RequestStream.WriteAsync(new Note()).Soon();
            }
            catch (RpcException e)
            {
                Assert.Equal(StatusCode.NotFound, e.StatusCode);
            }
            call.Dispose();
        }
    }
}
