// Keeps: a call without the right of its service is answered from its headers alone, before a byte of its messages is read or unpacked;
// which right a service asks for hangs on its endpoint, not on how the path is spelled; a flood of refused calls is a line a second in the
// log.
using Mem1.Protocol.Security;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

namespace Mem1.Learner;

/// <summary>Lets through only calls that show the token of what they ask for: one to join as a worker, one to look.</summary>
/// <param name="workers">What workers show; null lets anybody join.</param>
/// <param name="viewers">What those show that only look; null for the token of workers.</param>
/// <param name="log">Told of refused calls.</param>
/// <param name="time">Clock.</param>
internal sealed class AccessGuard(BearerToken? workers, BearerToken? viewers, ILogger<AccessGuard> log, TimeProvider time)
{
    /// <summary>Marks the endpoints that take the token of workers; all others take that of viewers.</summary>
    public static readonly object Joining = new JoiningMark();

    // They go into a header: plain ASCII, no percent sign.
    private const string
        NoWorkerToken = "The learner wants a token and none was shown: start the worker with --token-file FILE or the variable MEM1_TOKEN.",
        NotTheWorkerToken = "The token that was shown is not the learner's: give worker and learner the same one.",
        NoViewerToken = "Looking at this learner takes its viewers' token and none was shown: start the dashboard with --token-file FILE.",
        NotTheViewerToken = "The token that was shown is not that of the learner's viewers (--viewer-token-file of the learner).";

    private readonly RefusalLog _refused = new(log, time);

    /// <summary>One call.</summary>
    public Task InvokeAsync(HttpContext context, RequestDelegate next)
    {
        var joins = viewers is null || context.GetEndpoint()?.Metadata.GetMetadata<JoiningMark>() is not null;
        var wanted = joins ? workers : viewers;
        var shown = context.Request.Headers.Authorization;
        // Twice is not once: a proxy and this server might take different ones for the caller's.
        if (wanted is null || (shown.Count == 1 && wanted.Matches(shown[0]))) return next(context);
        var reason = (joins, shown.Count) switch
        {
            (true, 0) => NoWorkerToken,
            (true, _) => NotTheWorkerToken,
            (false, 0) => NoViewerToken,
            (false, _) => NotTheViewerToken,
        };
        _refused.Say($"{context.Connection.RemoteIpAddress}:{context.Connection.RemotePort}", Short(context.Request.Path.Value), reason);
        var response = context.Response;
        response.StatusCode = StatusCodes.Status200OK;
        response.ContentType = "application/grpc";
        // In the headers, for there are no messages: what gRPC over HTTP/2 calls Trailers-Only. 16 is UNAUTHENTICATED.
        response.Headers["grpc-status"] = "16";
        response.Headers["grpc-message"] = reason;
        return Task.CompletedTask;
    }

    /// <summary>What is wrong with what one shows who wants to be a worker, outside HTTP; null if nothing is.</summary>
    /// <param name="token">Of workers; null lets anybody in.</param>
    /// <param name="shown">As the header has it; empty for nothing.</param>
    public static string? Refusal(BearerToken? token, string shown) =>
        token is null || token.Matches(shown) ? null : shown.Length == 0 ? NoWorkerToken : NotTheWorkerToken;

    // A path comes from the caller, who is nobody yet.
    private static string Short(string? path) =>
        new([.. (path ?? "").Take(100).Select(c => c is > ' ' and <= '~' ? c : '?')]);

    private sealed class JoiningMark;
}
