// Invariants: it listens on loopback only; whatever is asked gets an answer of HTTP; it takes no signals and writes nothing to the console.

using System.Net;
using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;

namespace Mem1.Environments.Web;

/// <summary>Serves a local web: its pages, a robots.txt, and a search in SearxNG's JSON format at /search.</summary>
public sealed class LocalWebServer : IAsyncDisposable
{
    // What a SearxNG instance shows on one page of results.
    private const int ResultsPerPage = 20;

    private readonly WebApplication _application;

    private LocalWebServer(WebApplication application, IPEndPoint endpoint)
    {
        _application = application;
        HostOverrides = new Dictionary<string, IPEndPoint>(StringComparer.OrdinalIgnoreCase) { [LocalWeb.Host] = endpoint };
    }

    /// <summary>Where clients must connect to reach the web's host, on whatever port it listens.</summary>
    public IReadOnlyDictionary<string, IPEndPoint> HostOverrides { get; }

    /// <summary>Address of the search.</summary>
    public static Uri SearchAddress { get; } = new($"http://{LocalWeb.Host}/search");

    /// <summary>Starts to serve on a free port.</summary>
    public static async Task<LocalWebServer> StartAsync(LocalWeb web, CancellationToken cancellationToken = default)
    {
        WebApplicationBuilder builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore();
        builder.WebHost.ConfigureKestrel(kestrel =>
        {
            kestrel.AddServerHeader = false;
            kestrel.Listen(IPAddress.Loopback, 0, listen => listen.Protocols = HttpProtocols.Http1);
        });
        builder.Services.AddSingleton<IHostLifetime, NoLifetime>();
        WebApplication application = builder.Build();
        application.Run(context => AnswerAsync(web, context));
        try
        {
            await application.StartAsync(cancellationToken);
        }
        catch
        {
            await application.DisposeAsync();
            throw;
        }
        string address = application.Services.GetRequiredService<IServer>().Features
            .Get<IServerAddressesFeature>()!.Addresses.Single();
        return new LocalWebServer(application, new IPEndPoint(IPAddress.Loopback, new Uri(address).Port));
    }

    /// <summary>Stops serving.</summary>
    public ValueTask DisposeAsync() => _application.DisposeAsync();

    private static Task AnswerAsync(LocalWeb web, HttpContext context)
    {
        string path = context.Request.Path.Value ?? "/";
        if (!HttpMethods.IsGet(context.Request.Method))
            return SendAsync(context, 405, "text/plain; charset=utf-8", "Only GET is understood.");
        return path switch
        {
            "/search" => SearchAsync(web, context),
            "/robots.txt" => SendAsync(context, 200, "text/plain; charset=utf-8", "User-agent: *\nDisallow: /search\n"),
            "/" => SendAsync(
                context, 200, "text/html; charset=utf-8",
                "<title>Towns</title><h1>Towns</h1><ul>"
                + string.Concat(web.Pages.Select(p => $"<li><a href=\"{p.Path}\">{p.Title}</a>")) + "</ul>"),
            _ => web.Html(path) is { } html
                ? SendAsync(context, 200, "text/html; charset=utf-8", html)
                : SendAsync(context, 404, "text/html; charset=utf-8", "<title>Not found</title><p>There is no such page."),
        };
    }

    private static Task SearchAsync(LocalWeb web, HttpContext context)
    {
        string query = context.Request.Query["q"].ToString();
        // An instance refuses formats its settings do not list, and queries without words.
        if (context.Request.Query["format"] != "json")
            return SendAsync(context, 403, "text/plain; charset=utf-8", "Only the format json is served.");
        if (query.Length == 0)
            return SendAsync(context, 400, "text/plain; charset=utf-8", "The query q is missing.");
        var hits = web.Search(query, ResultsPerPage);
        string json = JsonSerializer.Serialize(new Dictionary<string, object>
        {
            ["query"] = query,
            ["number_of_results"] = hits.Count,
            ["results"] = hits.Select(h => new Dictionary<string, object>
            {
                ["url"] = $"http://{LocalWeb.Host}{h.Page.Path}",
                ["title"] = h.Page.Title,
                ["content"] = h.Page.Description,
                ["engine"] = "towns",
                ["category"] = "general",
                ["score"] = h.Score,
            }).ToArray(),
            ["answers"] = Array.Empty<object>(),
            ["corrections"] = Array.Empty<object>(),
            ["infoboxes"] = Array.Empty<object>(),
            ["suggestions"] = Array.Empty<object>(),
            ["unresponsive_engines"] = Array.Empty<object>(),
        });
        return SendAsync(context, 200, "application/json", json);
    }

    private static async Task SendAsync(HttpContext context, int status, string type, string body)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(body);
        context.Response.StatusCode = status;
        context.Response.ContentType = type;
        context.Response.ContentLength = bytes.Length;
        await context.Response.Body.WriteAsync(bytes, context.RequestAborted);
    }

    /// <summary>The process's signals belong to the program.</summary>
    private sealed class NoLifetime : IHostLifetime
    {
        public Task WaitForStartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
    }
}
