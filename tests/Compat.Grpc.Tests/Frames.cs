// gRPC by hand: frames as bytes, for tests that stand on one side of the wire themselves.

using System.Buffers.Binary;
using System.Net;
using System.Net.Http.Headers;

namespace Compat.Grpc.Tests;

internal sealed record RawReply(
    HttpStatusCode Http, string? Status, string? Message, HttpResponseHeaders Headers, List<byte[]> Messages, List<byte> Flags);

internal static class Frames
{
    public static byte[] Message(ReadOnlySpan<byte> payload, byte flag = 0)
    {
        var frame = new byte[5 + payload.Length];
        frame[0] = flag;
        BinaryPrimitives.WriteInt32BigEndian(frame.AsSpan(1), payload.Length);
        payload.CopyTo(frame.AsSpan(5));
        return frame;
    }

    public static byte[] Gzip(ReadOnlySpan<byte> payload)
    {
        using var target = new MemoryStream();
        using (var gzip = new System.IO.Compression.GZipStream(target, System.IO.Compression.CompressionLevel.Optimal))
            gzip.Write(payload);
        return target.ToArray();
    }

    /// <summary>Sends these bytes as a request body, one DATA frame each, and takes the answer apart.</summary>
    public static async Task<RawReply> SendFramedAsync(
        this TestHost host, string method, byte[][] chunks, Action<HttpRequestMessage>? configure = null)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, "/mem1.kit.Kit/" + method)
        {
            Content = new ChunkContent(chunks),
            Version = HttpVersion.Version20,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
        };
        request.Content.Headers.ContentType = new MediaTypeHeaderValue("application/grpc");
        request.Headers.TryAddWithoutValidation("te", "trailers");
        configure?.Invoke(request);
        using var response = await host.Http().SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
        var body = await response.Content.ReadAsByteArrayAsync();
        var messages = new List<byte[]>();
        var flags = new List<byte>();
        for (var at = 0; at < body.Length;)
        {
            var length = BinaryPrimitives.ReadInt32BigEndian(body.AsSpan(at + 1));
            flags.Add(body[at]);
            messages.Add(body.AsSpan(at + 5, length).ToArray());
            at += 5 + length;
        }
        var source = response.Headers.Contains("grpc-status") ? response.Headers : response.TrailingHeaders;
        return new RawReply(
            response.StatusCode, First(source, "grpc-status"), First(source, "grpc-message"), response.Headers, messages, flags);
    }

    private static string? First(HttpResponseHeaders headers, string name) =>
        headers.TryGetValues(name, out var values) ? values.First() : null;

    private sealed class ChunkContent(byte[][] chunks) : HttpContent
    {
        protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context)
        {
            foreach (var chunk in chunks)
            {
                await stream.WriteAsync(chunk);
                await stream.FlushAsync();
            }
        }

        protected override bool TryComputeLength(out long length)
        {
            length = 0;
            return false;
        }
    }
}
