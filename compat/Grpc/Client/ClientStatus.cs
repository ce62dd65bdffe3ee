// From what HTTP reports to a gRPC status. Sources: "HTTP to gRPC Status Code Mapping" and the error-code table of the gRPC over HTTP/2
// document. Invariant: grpc-status, where present, wins over everything else.

using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Net.Sockets;
using System.Text;
using Grpc.Core;
using Grpc.Wire;

namespace Grpc.Net.Client;

internal static class ClientStatus
{
    /// <summary>The status in these headers or trailers; null if there is none.</summary>
    public static Status? Read(HttpResponseHeaders headers)
    {
        if (!headers.NonValidated.TryGetValues(Headers.Status, out var values))
            return null;
        if (values.Count != 1 || !int.TryParse(values.ToString(), NumberStyles.None, CultureInfo.InvariantCulture, out var code))
            return new Status(StatusCode.Cancelled, $"Unexpected grpc-status value: {values}");
        var detail = headers.NonValidated.TryGetValues(Headers.Message, out var message) ? Headers.DecodeMessage(message.ToString()) : "";
        // A code that is not in the table counts as unknown.
        return new Status(code is >= 0 and <= 16 ? (StatusCode)code : StatusCode.Unknown, detail);
    }

    /// <summary>Headers or trailers as metadata, without the ones that belong to the protocol.</summary>
    public static Metadata ReadMetadata(HttpResponseHeaders headers)
    {
        var metadata = new Metadata();
        foreach (var header in headers.NonValidated)
        {
            if (IsProtocolHeader(header.Key))
                continue;
            foreach (var value in header.Value)
                Headers.AddReceived(metadata, header.Key, value);
        }
        return metadata;
    }

    /// <summary>What is wrong with a response that carries no grpc-status in its headers; null if nothing is.</summary>
    public static Status? Validate(HttpResponseMessage response)
    {
        if (response.StatusCode != HttpStatusCode.OK)
        {
            return new Status(FromHttp((int)response.StatusCode), $"Bad gRPC response. HTTP status code: {(int)response.StatusCode}");
        }
        var contentType = response.Content.Headers.ContentType?.ToString();
        if (contentType is null)
            return new Status(StatusCode.Cancelled, "Bad gRPC response. Response did not have a content-type header.");
        if (!Headers.IsGrpcContentType(contentType))
            return new Status(StatusCode.Cancelled, $"Bad gRPC response. Invalid content-type value: {contentType}");
        return null;
    }

    /// <summary>The status of an exception that ended a call.</summary>
    public static Status FromException(string doing, Exception exception)
    {
        if (exception is RpcException rpc)
            return rpc.Status;
        var unreachable = false;
        for (var e = exception; e is not null; e = e.InnerException)
        {
            if (e is HttpProtocolException http)
                return new Status(FromErrorCode(http.ErrorCode), $"{doing} {Describe(exception)}", exception);
            unreachable |= e is SocketException or IOException;
        }
        var code = exception is OperationCanceledException ? StatusCode.Cancelled
            : unreachable ? StatusCode.Unavailable : StatusCode.Internal;
        return new Status(code, $"{doing} {Describe(exception)}", exception);
    }

    private static bool IsProtocolHeader(string key) =>
        key.StartsWith(':')
        || key.Equals("content-type", StringComparison.OrdinalIgnoreCase)
        || key.Equals("content-encoding", StringComparison.OrdinalIgnoreCase)
        || key.Equals(Headers.Status, StringComparison.OrdinalIgnoreCase)
        || key.Equals(Headers.Message, StringComparison.OrdinalIgnoreCase)
        || key.Equals(Headers.Encoding, StringComparison.OrdinalIgnoreCase)
        || key.Equals(Headers.AcceptEncoding, StringComparison.OrdinalIgnoreCase);

    private static StatusCode FromHttp(int status) => status switch
    {
        400 or 431 => StatusCode.Internal,
        401 => StatusCode.Unauthenticated,
        403 => StatusCode.PermissionDenied,
        404 => StatusCode.Unimplemented,
        429 or 502 or 503 or 504 => StatusCode.Unavailable,
        _ => StatusCode.Unknown,
    };

    private static StatusCode FromErrorCode(long code) => code switch
    {
        7 => StatusCode.Unavailable,        // REFUSED_STREAM
        8 => StatusCode.Cancelled,          // CANCEL
        11 => StatusCode.ResourceExhausted, // ENHANCE_YOUR_CALM
        12 => StatusCode.PermissionDenied,  // INADEQUATE_SECURITY
        _ => StatusCode.Internal,
    };

    private static string Describe(Exception exception)
    {
        var text = new StringBuilder();
        for (var e = exception; e is not null; e = e.InnerException)
            text.Append(text.Length == 0 ? "" : " ").Append(e.GetType().Name).Append(": ").Append(e.Message);
        return text.ToString();
    }
}
