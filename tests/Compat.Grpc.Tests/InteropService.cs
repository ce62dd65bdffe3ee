// The server side of gRPC's interoperability tests, as their descriptions ask for it.

using Google.Protobuf;
using Grpc.Core;

namespace Compat.Grpc.Tests.Interop;

public sealed class InteropService : TestService.TestServiceBase
{
    private const string EchoInitial = "x-grpc-test-echo-initial";
    private const string EchoTrailing = "x-grpc-test-echo-trailing-bin";

    public override Task<Empty> EmptyCall(Empty request, ServerCallContext context) => Task.FromResult(new Empty());

    public override async Task<SimpleResponse> UnaryCall(SimpleRequest request, ServerCallContext context)
    {
        CheckCompression(request.ExpectCompressed, context);
        await EchoMetadataAsync(context, compress: request.ResponseCompressed is not null);
        ThrowIfAsked(request.ResponseStatus);
        if (request.ResponseCompressed is { Value: false })
            context.WriteOptions = new WriteOptions(WriteFlags.NoCompress);
        return new SimpleResponse { Payload = Zeros(request.ResponseSize) };
    }

    public override async Task StreamingOutputCall(
        StreamingOutputCallRequest request, IServerStreamWriter<StreamingOutputCallResponse> responseStream, ServerCallContext context)
    {
        await EchoMetadataAsync(context, compress: request.ResponseParameters.Any(p => p.Compressed is not null));
        await WriteAsync(request, responseStream, context);
    }

    public override async Task<StreamingInputCallResponse> StreamingInputCall(
        IAsyncStreamReader<StreamingInputCallRequest> requestStream, ServerCallContext context)
    {
        var sum = 0;
        await foreach (var request in requestStream.ReadAllAsync())
        {
            CheckCompression(request.ExpectCompressed, context);
            sum += request.Payload.Body.Length;
        }
        return new StreamingInputCallResponse { AggregatedPayloadSize = sum };
    }

    public override async Task FullDuplexCall(
        IAsyncStreamReader<StreamingOutputCallRequest> requestStream,
        IServerStreamWriter<StreamingOutputCallResponse> responseStream,
        ServerCallContext context)
    {
        await EchoMetadataAsync(context, compress: false);
        await foreach (var request in requestStream.ReadAllAsync())
        {
            ThrowIfAsked(request.ResponseStatus);
            await WriteAsync(request, responseStream, context);
        }
    }

    private static async Task WriteAsync(
        StreamingOutputCallRequest request, IServerStreamWriter<StreamingOutputCallResponse> responses, ServerCallContext context)
    {
        foreach (var parameters in request.ResponseParameters)
        {
            responses.WriteOptions = new WriteOptions(parameters.Compressed is { Value: true } ? default : WriteFlags.NoCompress);
            if (parameters.IntervalUs > 0)
                await Task.Delay(TimeSpan.FromMicroseconds(parameters.IntervalUs), context.CancellationToken);
            await responses.WriteAsync(new StreamingOutputCallResponse { Payload = Zeros(parameters.Size) });
        }
    }

    private static async Task EchoMetadataAsync(ServerCallContext context, bool compress)
    {
        var headers = new Metadata();
        if (context.RequestHeaders.Get(EchoInitial) is { } initial)
            headers.Add(initial);
        if (context.RequestHeaders.Get(EchoTrailing) is { } trailing)
            context.ResponseTrailers.Add(trailing);
        if (compress)
            headers.Add("grpc-internal-encoding-request", "gzip");
        if (headers.Count > 0)
            await context.WriteResponseHeadersAsync(headers);
    }

    /// <summary>The flag of a single message is not visible here, so the probe is judged by the encoding of the call.</summary>
    private static void CheckCompression(BoolValue? expected, ServerCallContext context)
    {
        var encoding = context.GetHttpContext().Request.Headers["grpc-encoding"].ToString();
        if (expected is { Value: true } && encoding is ("" or "identity"))
            throw new RpcException(new Status(StatusCode.InvalidArgument, "The request is not compressed."));
    }

    private static void ThrowIfAsked(EchoStatus? status)
    {
        if (status is not null && status.Code != 0)
            throw new RpcException(new Status((StatusCode)status.Code, status.Message));
    }

    private static Payload Zeros(int size) => new() { Body = ByteString.CopyFrom(new byte[size]) };
}
