// The client side of gRPC's interoperability tests: one method per case, run against our server and against foreign ones.
// Source: the test descriptions of the gRPC project (interop-test-descriptions).

using Google.Protobuf;
using Grpc.Core;

namespace Compat.Grpc.Tests.Interop;

internal static class InteropCases
{
    private static readonly int[] s_requestSizes = [27182, 8, 1828, 45904];
    private static readonly int[] s_responseSizes = [31415, 9, 2653, 58979];

    public static async Task RunAsync(string name, ChannelBase channel)
    {
        var client = new TestService.TestServiceClient(channel);
        var run = name switch
        {
            "empty_unary" => EmptyUnary(client),
            "large_unary" => LargeUnary(client),
            "client_streaming" => ClientStreaming(client),
            "server_streaming" => ServerStreaming(client),
            "ping_pong" => PingPong(client),
            "empty_stream" => EmptyStream(client),
            "cancel_after_begin" => CancelAfterBegin(client),
            "cancel_after_first_response" => CancelAfterFirstResponse(client),
            "timeout_on_sleeping_server" => TimeoutOnSleepingServer(client),
            "status_code_and_message" => StatusOf(client, "test status message"),
            "special_status_message" => StatusOf(client, "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"),
            "custom_metadata" => CustomMetadata(client),
            "unimplemented_method" => client.UnimplementedCallAsync(new Empty()).ResponseAsync.FailsWith(StatusCode.Unimplemented),
            "unimplemented_service" => new UnimplementedService.UnimplementedServiceClient(channel)
                .UnimplementedCallAsync(new Empty()).ResponseAsync.FailsWith(StatusCode.Unimplemented),
            "client_compressed_unary" => ClientCompressedUnary(client),
            "client_compressed_streaming" => ClientCompressedStreaming(client),
            "server_compressed_unary" => ServerCompressedUnary(client),
            "server_compressed_streaming" => ServerCompressedStreaming(client),
            _ => throw new ArgumentOutOfRangeException(nameof(name)),
        };
        await run.Soon();
    }

    private static Metadata Gzip => new() { { "grpc-internal-encoding-request", "gzip" } };

    private static Payload Zeros(int size) => new() { Body = ByteString.CopyFrom(new byte[size]) };

    private static async Task EmptyUnary(TestService.TestServiceClient client) =>
        Assert.Equal(new Empty(), await client.EmptyCallAsync(new Empty()));

    private static async Task LargeUnary(TestService.TestServiceClient client)
    {
        var response = await client.UnaryCallAsync(new SimpleRequest { ResponseSize = 314159, Payload = Zeros(271828) });
        Assert.Equal(314159, response.Payload.Body.Length);
    }

    private static async Task ClientStreaming(TestService.TestServiceClient client)
    {
        using var call = client.StreamingInputCall();
        foreach (var size in s_requestSizes)
            await call.RequestStream.WriteAsync(new StreamingInputCallRequest { Payload = Zeros(size) });
        await call.RequestStream.CompleteAsync();
        Assert.Equal(74922, (await call.ResponseAsync).AggregatedPayloadSize);
    }

    private static async Task ServerStreaming(TestService.TestServiceClient client)
    {
        var request = new StreamingOutputCallRequest();
        request.ResponseParameters.Add(s_responseSizes.Select(s => new ResponseParameters { Size = s }));
        using var call = client.StreamingOutputCall(request);
        var sizes = new List<int>();
        await foreach (var response in call.ResponseStream.ReadAllAsync())
            sizes.Add(response.Payload.Body.Length);
        Assert.Equal(s_responseSizes, sizes);
    }

    private static async Task PingPong(TestService.TestServiceClient client)
    {
        using var call = client.FullDuplexCall();
        for (var i = 0; i < 4; i++)
        {
            await call.RequestStream.WriteAsync(Ask(s_responseSizes[i], s_requestSizes[i]));
            Assert.True(await call.ResponseStream.MoveNext());
            Assert.Equal(s_responseSizes[i], call.ResponseStream.Current.Payload.Body.Length);
        }
        await call.RequestStream.CompleteAsync();
        Assert.False(await call.ResponseStream.MoveNext());
        Assert.Equal(StatusCode.OK, call.GetStatus().StatusCode);
    }

    private static async Task EmptyStream(TestService.TestServiceClient client)
    {
        using var call = client.FullDuplexCall();
        await call.RequestStream.CompleteAsync();
        Assert.False(await call.ResponseStream.MoveNext());
        Assert.Equal(StatusCode.OK, call.GetStatus().StatusCode);
    }

    private static async Task CancelAfterBegin(TestService.TestServiceClient client)
    {
        using var source = new CancellationTokenSource();
        using var call = client.StreamingInputCall(cancellationToken: source.Token);
        await Task.Delay(50);
        await source.CancelAsync();
        await call.ResponseAsync.FailsWith(StatusCode.Cancelled);
    }

    private static async Task CancelAfterFirstResponse(TestService.TestServiceClient client)
    {
        using var source = new CancellationTokenSource();
        using var call = client.FullDuplexCall(cancellationToken: source.Token);
        await call.RequestStream.WriteAsync(Ask(31415, 27182));
        Assert.True(await call.ResponseStream.MoveNext());
        await source.CancelAsync();
        await call.ResponseStream.MoveNext().FailsWith(StatusCode.Cancelled);
    }

    private static async Task TimeoutOnSleepingServer(TestService.TestServiceClient client)
    {
        using var call = client.FullDuplexCall(deadline: DateTime.UtcNow.AddMilliseconds(1));
        try
        {
            await call.RequestStream.WriteAsync(new StreamingOutputCallRequest { Payload = Zeros(27182) });
        }
        catch (RpcException e)
        {
            // The deadline may pass before the write.
            Assert.Equal(StatusCode.DeadlineExceeded, e.StatusCode);
        }
        await call.ResponseStream.MoveNext().FailsWith(StatusCode.DeadlineExceeded);
    }

    private static async Task StatusOf(TestService.TestServiceClient client, string message)
    {
        var status = new EchoStatus { Code = 2, Message = message };
        var failure = await client.UnaryCallAsync(new SimpleRequest { ResponseStatus = status }).ResponseAsync
            .FailsWith(StatusCode.Unknown);
        Assert.Equal(message, failure.Status.Detail);
        using var call = client.FullDuplexCall();
        await call.RequestStream.WriteAsync(new StreamingOutputCallRequest { ResponseStatus = status });
        await call.RequestStream.CompleteAsync();
        failure = await call.ResponseStream.MoveNext().FailsWith(StatusCode.Unknown);
        Assert.Equal(message, failure.Status.Detail);
    }

    private static async Task CustomMetadata(TestService.TestServiceClient client)
    {
        const string Initial = "x-grpc-test-echo-initial";
        const string Trailing = "x-grpc-test-echo-trailing-bin";
        var metadata = new Metadata { { Initial, "test_initial_metadata_value" }, { Trailing, new byte[] { 0xab, 0xab, 0xab } } };

        using var unary = client.UnaryCallAsync(new SimpleRequest { ResponseSize = 314159, Payload = Zeros(271828) }, metadata);
        await unary;
        Assert.Equal("test_initial_metadata_value", (await unary.ResponseHeadersAsync).GetValue(Initial));
        Assert.Equal(new byte[] { 0xab, 0xab, 0xab }, unary.GetTrailers().GetValueBytes(Trailing));

        using var duplex = client.FullDuplexCall(metadata);
        await duplex.RequestStream.WriteAsync(Ask(314159, 271828));
        await duplex.RequestStream.CompleteAsync();
        Assert.True(await duplex.ResponseStream.MoveNext());
        Assert.False(await duplex.ResponseStream.MoveNext());
        Assert.Equal("test_initial_metadata_value", (await duplex.ResponseHeadersAsync).GetValue(Initial));
        Assert.Equal(new byte[] { 0xab, 0xab, 0xab }, duplex.GetTrailers().GetValueBytes(Trailing));
    }

    private static async Task ClientCompressedUnary(TestService.TestServiceClient client)
    {
        var request = new SimpleRequest
        {
            ExpectCompressed = new BoolValue { Value = true },
            ResponseSize = 314159,
            Payload = Zeros(271828),
        };
        await client.UnaryCallAsync(request).ResponseAsync.FailsWith(StatusCode.InvalidArgument);
        Assert.Equal(314159, (await client.UnaryCallAsync(request, Gzip)).Payload.Body.Length);
        request.ExpectCompressed.Value = false;
        Assert.Equal(314159, (await client.UnaryCallAsync(request)).Payload.Body.Length);
    }

    private static async Task ClientCompressedStreaming(TestService.TestServiceClient client)
    {
        var compressed = new StreamingInputCallRequest { ExpectCompressed = new BoolValue { Value = true }, Payload = Zeros(27182) };
        using (var probe = client.StreamingInputCall())
        {
            await probe.RequestStream.WriteAsync(compressed);
            await probe.ResponseAsync.FailsWith(StatusCode.InvalidArgument);
        }
        using var call = client.StreamingInputCall(Gzip);
        await call.RequestStream.WriteAsync(compressed);
        call.RequestStream.WriteOptions = new WriteOptions(WriteFlags.NoCompress);
        await call.RequestStream.WriteAsync(
            new StreamingInputCallRequest { ExpectCompressed = new BoolValue { Value = false }, Payload = Zeros(45904) });
        await call.RequestStream.CompleteAsync();
        Assert.Equal(73086, (await call.ResponseAsync).AggregatedPayloadSize);
    }

    private static async Task ServerCompressedUnary(TestService.TestServiceClient client)
    {
        foreach (var compressed in (bool[])[true, false])
        {
            var request = new SimpleRequest
            {
                ResponseCompressed = new BoolValue { Value = compressed },
                ResponseSize = 314159,
                Payload = Zeros(271828),
            };
            Assert.Equal(314159, (await client.UnaryCallAsync(request)).Payload.Body.Length);
        }
    }

    private static async Task ServerCompressedStreaming(TestService.TestServiceClient client)
    {
        var request = new StreamingOutputCallRequest();
        request.ResponseParameters.Add(new ResponseParameters { Compressed = new BoolValue { Value = true }, Size = 31415 });
        request.ResponseParameters.Add(new ResponseParameters { Compressed = new BoolValue { Value = false }, Size = 92653 });
        using var call = client.StreamingOutputCall(request);
        Assert.True(await call.ResponseStream.MoveNext());
        Assert.Equal(31415, call.ResponseStream.Current.Payload.Body.Length);
        Assert.True(await call.ResponseStream.MoveNext());
        Assert.Equal(92653, call.ResponseStream.Current.Payload.Body.Length);
        Assert.False(await call.ResponseStream.MoveNext());
    }

    private static StreamingOutputCallRequest Ask(int responseSize, int requestSize)
    {
        var request = new StreamingOutputCallRequest { Payload = Zeros(requestSize) };
        request.ResponseParameters.Add(new ResponseParameters { Size = responseSize });
        return request;
    }
}
