// From a call to its HTTP request.

using Grpc.AspNetCore.Server;
using Microsoft.AspNetCore.Http;

namespace Grpc.Core;

public static class ServerCallContextExtensions
{
    /// <summary>Also works for a context that wraps the server's own and passes its user state on.</summary>
    public static HttpContext GetHttpContext(this ServerCallContext serverCallContext)
    {
        ArgumentNullException.ThrowIfNull(serverCallContext);
        if (serverCallContext is HttpContextServerCallContext own)
            return own.HttpContext;
        return serverCallContext.UserState.TryGetValue(HttpContextServerCallContext.HttpContextKey, out var found)
            && found is HttpContext http
            ? http
            : throw new InvalidOperationException("Could not get HttpContext from ServerCallContext. HttpContext can only be accessed "
                + "when gRPC services are hosted by ASP.NET Core.");
    }
}
