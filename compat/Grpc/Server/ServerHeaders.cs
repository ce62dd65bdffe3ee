// Reading and writing HTTP headers on the server. Invariant: a status goes into the headers while the response has not started (Kestrel
// then sends Trailers-Only by itself) and into the trailers afterwards.

using System.Globalization;
using Grpc.Core;
using Grpc.Wire;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Primitives;

namespace Grpc.AspNetCore.Server;

internal static class ServerHeaders
{
    /// <summary>Answers without a call: status in the headers, nothing else.</summary>
    public static void Refuse(HttpContext http, int httpStatus, Status status)
    {
        http.Response.StatusCode = httpStatus;
        http.Response.ContentType = Headers.ContentType;
        WriteStatus(http.Response.Headers, status, null);
    }

    public static void WriteStatus(IHeaderDictionary target, Status status, Metadata? trailers)
    {
        if (trailers is not null)
            Append(target, trailers);
        target[Headers.Status] = ((int)status.StatusCode).ToString(CultureInfo.InvariantCulture);
        if (string.IsNullOrEmpty(status.Detail))
            target.Remove(Headers.Message);
        else
            target[Headers.Message] = Headers.EncodeMessage(status.Detail);
    }

    /// <summary>Adds metadata; repeated keys become repeated lines, and empty values are kept.</summary>
    public static void Append(IHeaderDictionary target, Metadata metadata)
    {
        foreach (var entry in metadata)
        {
            if (entry.Key == Headers.EncodingRequest)
                continue;
            var before = target.TryGetValue(entry.Key, out var values) ? values : StringValues.Empty;
            target[entry.Key] = StringValues.Concat(before, entry.HeaderValue);
        }
    }

    public static Metadata ReadMetadata(IHeaderDictionary headers)
    {
        var metadata = new Metadata();
        foreach (var (key, values) in headers)
        {
            if (IsProtocolHeader(key))
                continue;
            foreach (var value in values)
                Headers.AddReceived(metadata, key, value ?? "");
        }
        return metadata;
    }

    private static bool IsProtocolHeader(string key) =>
        key.StartsWith(':') || key.ToLowerInvariant() is Headers.Encoding or Headers.AcceptEncoding or Headers.Timeout
            or "content-type" or "content-encoding" or "te" or "host" or "accept-encoding";
}
