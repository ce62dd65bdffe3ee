// Deadlines are kept by both sides: the client stops waiting, the server stops the handler and answers for it.

using System.Diagnostics;
using Grpc.Core;

namespace Compat.Grpc.Tests;

public sealed class DeadlineTests
{
    private static Task Forever(ServerCallContext context) => Task.Delay(Timeout.InfiniteTimeSpan, context.CancellationToken);

    [Fact]
    public async Task All_four_kinds_end_at_the_deadline_and_the_handler_hears_of_it()
    {
        var heard = new List<Task>();
        async Task Wait(ServerCallContext context)
        {
            var source = new TaskCompletionSource();
            lock (heard)
                heard.Add(source.Task);
            using var registration = context.CancellationToken.Register(source.SetResult);
            await Forever(context);
        }
        await using var host = await TestHost.StartAsync(new Script
        {
            Unary = async (note, context) =>
            {
                await Wait(context);
                return note;
            },
            Up = async (_, context) =>
            {
                await Wait(context);
                return new Note();
            },
            Down = (_, _, context) => Wait(context),
            Both = (_, _, context) => Wait(context),
        });
        var client = host.Client();
        // Long enough for the first connection on a loaded machine.
        DateTime Deadline() => DateTime.UtcNow.AddMilliseconds(700);

        using var unary = client.UnaryAsync(new Note(), deadline: Deadline());
        using var up = client.Up(deadline: Deadline());
        using var down = client.Down(new Note(), deadline: Deadline());
        using var both = client.Both(deadline: Deadline());
        await unary.ResponseAsync.FailsWith(StatusCode.DeadlineExceeded);
        await up.ResponseAsync.FailsWith(StatusCode.DeadlineExceeded);
        await down.ResponseStream.MoveNext().FailsWith(StatusCode.DeadlineExceeded);
        await both.ResponseStream.MoveNext().FailsWith(StatusCode.DeadlineExceeded);
        await up.RequestStream.WriteAsync(new Note()).FailsWith(StatusCode.DeadlineExceeded);
        Assert.Equal(StatusCode.DeadlineExceeded, unary.GetStatus().StatusCode);
        await Task.WhenAll(heard).Soon();
        Assert.Equal(4, heard.Count);
    }

    [Fact]
    public async Task A_deadline_in_the_middle_of_a_stream_ends_it()
    {
        await using var host = await TestHost.StartAsync(new Script
        {
            Down = async (note, writer, context) =>
            {
                await writer.WriteAsync(note);
                await Forever(context);
            },
        });
        using var call = host.Client().Down(new Note(), deadline: DateTime.UtcNow.AddSeconds(1));
        Assert.True(await call.ResponseStream.MoveNext().Soon());
        await call.ResponseStream.MoveNext().FailsWith(StatusCode.DeadlineExceeded);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task The_server_answers_by_itself_when_the_deadline_passes(bool started)
    {
        var handlerEnd = new TaskCompletionSource();
        await using var host = await TestHost.StartAsync(new Script
        {
            // Deaf to its token: the status must not wait for the handler.
            Down = async (note, writer, _) =>
            {
                if (started)
                    await writer.WriteAsync(note);
                await handlerEnd.Task;
            },
        });
        var reply = await host.SendFramedAsync("Down", [Frames.Message([])], r => r.Headers.Add("grpc-timeout", "200m")).Soon();
        Assert.Equal("4", reply.Status);
        Assert.Equal("Deadline Exceeded", reply.Message);
        Assert.Equal(started ? 1 : 0, reply.Messages.Count);
        handlerEnd.SetResult();
    }

    [Fact]
    public async Task Output_after_the_deadline_is_ignored()
    {
        var outcome = new TaskCompletionSource<Exception>();
        await using var host = await TestHost.StartAsync(new Script
        {
            Down = async (note, writer, context) =>
            {
                try
                {
                    await Forever(context);
                }
                catch (OperationCanceledException)
                {
                    try
                    {
                        await writer.WriteAsync(note);
                    }
                    catch (Exception e)
                    {
                        outcome.SetResult(e);
                    }
                }
            },
        });
        using var call = host.Client().Down(new Note(), deadline: DateTime.UtcNow.AddMilliseconds(500));
        await call.ResponseStream.MoveNext().FailsWith(StatusCode.DeadlineExceeded);
        Assert.True(await outcome.Task.Soon() is OperationCanceledException or InvalidOperationException);
    }

    [Fact]
    public async Task The_server_sees_the_deadline_of_the_client()
    {
        await using var host = await TestHost.StartAsync(new Script
        {
            Unary = (_, context) => Task.FromResult(new Note { Text = context.Deadline.ToString("O") }),
        });
        var deadline = DateTime.UtcNow.AddMinutes(10);
        var seen = DateTime.Parse(
            (await host.Client().UnaryAsync(new Note(), deadline: deadline).ResponseAsync.Soon()).Text,
            null, System.Globalization.DateTimeStyles.RoundtripKind);
        Assert.Equal(DateTimeKind.Utc, seen.Kind);
        // Three significant figures of ten minutes, plus the way.
        Assert.InRange(seen - deadline, TimeSpan.FromSeconds(-1), TimeSpan.FromSeconds(20));
    }

    [Fact]
    public async Task A_deadline_that_has_passed_never_touches_the_network()
    {
        await using var host = await TestHost.StartAsync(new Script { Unary = (_, _) => throw new InvalidOperationException("reached") });
        var client = host.Client();
        await client.UnaryAsync(new Note(), deadline: DateTime.UtcNow.AddSeconds(-1)).ResponseAsync.FailsWith(StatusCode.DeadlineExceeded);
        await client.UnaryAsync(new Note(), deadline: DateTime.MinValue).ResponseAsync.FailsWith(StatusCode.DeadlineExceeded);
        using var both = client.Both(deadline: DateTime.UtcNow.AddSeconds(-1));
        await both.RequestStream.WriteAsync(new Note()).FailsWith(StatusCode.DeadlineExceeded);
        await both.ResponseStream.MoveNext().FailsWith(StatusCode.DeadlineExceeded);
        await both.ResponseHeadersAsync.FailsWith(StatusCode.DeadlineExceeded);
    }

    [Fact]
    public async Task A_deadline_must_be_utc()
    {
        await using var host = await TestHost.StartAsync(new Script { Unary = (note, _) => Task.FromResult(note) });
        var client = host.Client();
        await Assert.ThrowsAsync<InvalidOperationException>(
            async () => await client.UnaryAsync(new Note(), deadline: DateTime.Now.AddHours(1)).ResponseAsync);
        await client.UnaryAsync(new Note(), deadline: DateTime.MaxValue).ResponseAsync.Soon();
        // Beyond what one timer can wait.
        await client.UnaryAsync(new Note(), deadline: DateTime.UtcNow.AddYears(2)).ResponseAsync.Soon();
    }

    [Fact]
    public async Task A_reset_by_the_server_at_the_deadline_is_the_deadline()
    {
        await using var host = await TestHost.StartRawAsync(async http =>
        {
            await Task.Delay(300);
            http.Features.Get<Microsoft.AspNetCore.Http.Features.IHttpResetFeature>()!.Reset(8);
        });
        var started = Stopwatch.StartNew();
        await host.Client().UnaryAsync(new Note(), deadline: DateTime.UtcNow.AddMilliseconds(295)).ResponseAsync
            .FailsWith(StatusCode.DeadlineExceeded);
        Assert.True(started.ElapsedMilliseconds >= 250);
    }

    [Fact]
    public async Task An_unreachable_server_is_unavailable_long_before_the_deadline()
    {
        var host = await TestHost.StartAsync(new Script());
        var address = host.Address;
        await host.DisposeAsync();
        using var channel = global::Grpc.Net.Client.GrpcChannel.ForAddress(address);
        await new Kit.KitClient(channel).UnaryAsync(new Note(), deadline: DateTime.UtcNow.AddMinutes(5)).ResponseAsync
            .FailsWith(StatusCode.Unavailable);
    }
}
