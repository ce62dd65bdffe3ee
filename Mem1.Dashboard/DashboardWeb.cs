// Keeps: every answer carries the content security policy; nothing but GET, and POST of commands; a command counts only as JSON of this
// page or of a program: no other web page can send one, since no cookie and no form carries the token, and its origin would give it away;
// who has not the right to what is asked for is told so from the headers alone. The page itself holds nothing of the run and is free.
using System.Net;
using System.Text;
using Mem1.Protocol.Security;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.AspNetCore.WebUtilities;

namespace Mem1.Dashboard;

/// <summary>The dashboard over HTTP.</summary>
/// <param name="backend">Who answers.</param>
/// <param name="viewer">What those must show that look; null lets anybody look.</param>
/// <param name="stopping">Cancelled when the dashboard stops.</param>
/// <param name="keepAlive">How often a browser that listens hears something.</param>
internal sealed class DashboardWeb(IDashboardBackend backend, BearerToken? viewer, CancellationToken stopping, TimeSpan keepAlive)
{
    public const string CommandPath = "/api/commands";

    /// <summary>A command is a line; Kestrel reads no more than this of any request.</summary>
    public const int MaxBody = 4096;

    private const string Bearer = "Bearer ";

    public void Map(WebApplication application)
    {
        application.Use(Guard);
        application.UseRouting();
        application.MapGet("/health", context => Write(context, ApiAnswer.Text("ok\n")));
        application.MapGet("/ready", context => Write(context, backend.NotReady is { } why
            ? ApiAnswer.Text(why + "\n", status: StatusCodes.Status503ServiceUnavailable) : ApiAnswer.Text("ready\n")));
        application.MapGet("/metrics", ToViewers(GetAsync));
        application.MapGet("/api/{**path}", ToViewers(GetAsync));
        application.MapPost(CommandPath, CommandAsync);
        application.MapGet("/events", ToViewers(EventsAsync));
        application.MapGet("/{**path}", context =>
        {
            if (!Page.TryGet(context.Request.RouteValues["path"] as string ?? "", out var content, out var type))
                return Write(context, ApiAnswer.Missing("There is nothing here; docs/dashboard.md lists the paths."));
            return Write(context, new ApiAnswer(StatusCodes.Status200OK, type, content));
        });
    }

    private async Task GetAsync(HttpContext context)
    {
        var answer = await backend.GetAsync(Request(context.Request.Path, context.Request.QueryString.Value), context.RequestAborted)
            .ConfigureAwait(false);
        await Write(context, answer).ConfigureAwait(false);
    }

    /// <summary>A GET as backends take it.</summary>
    public static ApiRequest Request(string path, string? query) =>
        new(path, QueryHelpers.ParseQuery(query).ToDictionary(p => p.Key, p => p.Value.ToString(), StringComparer.Ordinal));

    private async Task CommandAsync(HttpContext context)
    {
        var request = context.Request;
        if (request.ContentType?.Split(';')[0].Trim() != "application/json")
        {
            await Write(context, ApiAnswer.Of(
                new { Outcome = "refused", Text = "A command is sent as application/json." }, StatusCodes.Status415UnsupportedMediaType))
                .ConfigureAwait(false);
            return;
        }

        var origin = request.Headers.Origin.ToString();
        var site = request.Headers["Sec-Fetch-Site"].ToString();
        if ((origin.Length > 0 && origin != $"{request.Scheme}://{request.Host}") || site is not ("" or "same-origin" or "none"))
        {
            await Write(context, ApiAnswer.Of(
                new { Outcome = "refused", Text = "Another web page may not send commands." }, StatusCodes.Status403Forbidden))
                .ConfigureAwait(false);
            return;
        }

        var given = request.Headers.Authorization.ToString();
        var token = given.StartsWith(Bearer, StringComparison.Ordinal) ? given[Bearer.Length..] : null;
        var from = context.Connection.RemoteIpAddress is { } address
            ? (address.IsIPv4MappedToIPv6 ? address.MapToIPv4() : address).ToString() : "unknown";
        var answer = backend.Refusal(token, from);
        if (answer is null)
        {
            using var reader = new StreamReader(request.Body, Encoding.UTF8);
            var body = await reader.ReadToEndAsync(context.RequestAborted).ConfigureAwait(false);
            answer = await backend.CommandAsync(body, token, from, context.RequestAborted).ConfigureAwait(false);
        }

        if (answer.Status == StatusCodes.Status401Unauthorized) context.Response.Headers.WWWAuthenticate = "Bearer";
        await Write(context, answer).ConfigureAwait(false);
    }

    private async Task EventsAsync(HttpContext context)
    {
        using var client = backend.Hub.Connect();
        if (client is null)
        {
            await Write(context, ApiAnswer.Text(
                $"More than {EventHub.MaxClients} browsers listen already.\n", status: StatusCodes.Status503ServiceUnavailable))
                .ConfigureAwait(false);
            return;
        }

        using var ended = CancellationTokenSource.CreateLinkedTokenSource(context.RequestAborted, stopping);
        context.Response.ContentType = "text/event-stream";
        try
        {
            await WriteAsync(context, new ServerEvent("hello", backend.Hello()), ended.Token).ConfigureAwait(false);
            await client.ReadAsync(
                keepAlive,
                async e =>
                {
                    if (e is { } happened)
                    {
                        await WriteAsync(context, happened, ended.Token).ConfigureAwait(false);
                        return;
                    }

                    await context.Response.WriteAsync(": still here\n\n", ended.Token).ConfigureAwait(false);
                    await context.Response.Body.FlushAsync(ended.Token).ConfigureAwait(false);
                },
                ended.Token).ConfigureAwait(false);
        }
        catch (Exception e) when (e is OperationCanceledException or IOException)
        {
            // The browser is gone, or the server stops.
        }
    }

    private static async Task WriteAsync(HttpContext context, ServerEvent e, CancellationToken cancellationToken)
    {
        // Our JSON has no line breaks.
        await context.Response.WriteAsync($"event: {e.Name}\ndata: {e.Data}\n\n", Encoding.UTF8, cancellationToken).ConfigureAwait(false);
        await context.Response.Body.FlushAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Answers only those that may look.</summary>
    private RequestDelegate ToViewers(RequestDelegate answer) => context =>
    {
        var shown = context.Request.Headers.Authorization;
        if (viewer is null || (shown.Count == 1 && viewer.Matches(shown[0]))) return answer(context);
        context.Response.Headers.WWWAuthenticate = "Bearer";
        return Write(context, ApiAnswer.Of(
            new { Error = shown.Count == 0 ? "Looking takes the viewers' token." : "That is not the viewers' token." },
            StatusCodes.Status401Unauthorized));
    };

    private static Task Write(HttpContext context, ApiAnswer answer)
    {
        context.Response.StatusCode = answer.Status;
        context.Response.ContentType = answer.ContentType;
        return context.Response.Body.WriteAsync(answer.Body, context.RequestAborted).AsTask();
    }

    private async Task Guard(HttpContext context, RequestDelegate next)
    {
        var headers = context.Response.Headers;
        headers.ContentSecurityPolicy = DashboardServer.ContentSecurityPolicy;
        headers.XContentTypeOptions = "nosniff";
        headers["Referrer-Policy"] = "no-referrer";
        headers["Cross-Origin-Resource-Policy"] = "same-origin";
        headers.CacheControl = "no-store";
        var host = context.Request.Host.Host.Trim('[', ']');
        if (!IPAddress.TryParse(host, out _) && !host.Equals("localhost", StringComparison.OrdinalIgnoreCase))
        {
            context.Response.StatusCode = StatusCodes.Status421MisdirectedRequest;
            await context.Response.WriteAsync("Ask for this by its address or localhost.", Encoding.UTF8).ConfigureAwait(false);
            return;
        }

        var isCommand = HttpMethods.IsPost(context.Request.Method) && context.Request.Path == CommandPath;
        if (!isCommand && !HttpMethods.IsGet(context.Request.Method) && !HttpMethods.IsHead(context.Request.Method))
        {
            context.Response.StatusCode = StatusCodes.Status405MethodNotAllowed;
            headers.Allow = "GET";
            return;
        }

        await next(context).ConfigureAwait(false);
    }
}
