// Keeps: listens on loopback only and answers only requests that name loopback, so that no page of another site can reach it under a name
// of its own; holds a bounded number of visits, the oldest go first; every text of a shop is escaped on its way into a page.
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using Mem1.Environments.WebShop;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;

namespace Mem1.Cli.Shop;

/// <summary>One visit that is open in a browser.</summary>
/// <param name="Id">Not to be guessed.</param>
/// <param name="Goal">Number of the goal.</param>
/// <param name="Visit">The episode; lock it to use it.</param>
internal sealed record OpenVisit(string Id, int Goal, ShopVisit Visit)
{
    /// <summary>The actions so far.</summary>
    public List<string> Actions { get; } = [];

    /// <summary>What the last action brought about; null before the first.</summary>
    public ShopOutcome? Last { get; set; }
}

/// <summary>Episodes of WebShop in a browser: <c>mem1 shop --serve</c>.</summary>
internal sealed class ShopServer : IAsyncDisposable
{
    /// <summary>Visits held at once; each takes some kilobytes.</summary>
    internal const int MostVisits = 200;

    /// <summary>Characters of an action; the longest option of the published shop has some hundred.</summary>
    internal const int LongestAction = 2000;

    // An action of that length, escaped.
    private const int MaxBodyBytes = 32 * 1024;

    private const string NoForm = "The request is not a form that this page sends.";

    // A browser keeps connections open; nobody waits for them.
    private static readonly TimeSpan s_stopLimit = TimeSpan.FromSeconds(2);

    private readonly WebApplication _application;

    private ShopServer(WebApplication application, Uri address) => (_application, Address) = (application, address);

    /// <summary>Where it listens.</summary>
    public Uri Address { get; }

    /// <summary>Starts to listen on loopback.</summary>
    /// <param name="goals">The shop.</param>
    /// <param name="first">The goal that the start page offers.</param>
    /// <param name="options">How pages look and rewards are reckoned.</param>
    /// <param name="port">0 takes a free one.</param>
    /// <param name="cancellationToken">Stops starting.</param>
    /// <exception cref="UserErrorException">The port is taken.</exception>
    public static async Task<ShopServer> StartAsync(
        ShopGoals goals, int first, WebShopOptions options, int port, CancellationToken cancellationToken)
    {
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().ConfigureKestrel(kestrel =>
        {
            kestrel.Listen(IPAddress.Loopback, port);
            kestrel.AddServerHeader = false;
            kestrel.Limits.MaxRequestBodySize = MaxBodyBytes;
        });
        builder.Services.AddRoutingCore();
        builder.Services.AddLogging();
        builder.Services.Configure<Microsoft.Extensions.Hosting.HostOptions>(host => host.ShutdownTimeout = s_stopLimit);
        var application = builder.Build();
        var visits = new Visits(goals, first, options);
        application.Use(Guard);
        application.UseRouting();
        application.MapGet("/", visits.Start);
        application.MapGet("/shop.css", Css);
        application.MapPost("/visits", visits.Enter);
        application.MapGet("/visits/{id}", visits.Show);
        application.MapPost("/visits/{id}", visits.Act);
        application.MapFallback(context => Refuse(context, StatusCodes.Status404NotFound, "There is no such page."));
        try
        {
            await application.StartAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (Exception e) when (e is IOException or SocketException)
        {
            await application.DisposeAsync().ConfigureAwait(false);
            throw new UserErrorException(
                $"The shop cannot listen on 127.0.0.1:{port} ({e.InnerException?.Message ?? e.Message}); "
                + "free the port or choose another with --port.", e);
        }

        var bound = application.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First();
        return new ShopServer(application, new Uri(bound));
    }

    /// <summary>Stops listening.</summary>
    public async ValueTask DisposeAsync()
    {
        await _application.StopAsync().ConfigureAwait(false);
        await _application.DisposeAsync().ConfigureAwait(false);
    }

    private static async Task Guard(HttpContext context, RequestDelegate next)
    {
        var headers = context.Response.Headers;
        // No script anywhere, nothing from elsewhere, and no frame around it.
        headers.ContentSecurityPolicy =
            "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
        headers.XContentTypeOptions = "nosniff";
        headers["Referrer-Policy"] = "no-referrer";
        headers.CacheControl = "no-store";
        var request = context.Request;
        if (!IsLoopback(request.Host.Host))
        {
            await Refuse(context, StatusCodes.Status421MisdirectedRequest, "This page is served to this machine only.")
                .ConfigureAwait(false);
            return;
        }

        // "null" is what a browser says for a page without an address, which this is not.
        if (request.Headers.Origin is [{ } origin] && origin != $"{request.Scheme}://{request.Host}")
        {
            await Refuse(context, StatusCodes.Status403Forbidden, "The request comes from another site.").ConfigureAwait(false);
            return;
        }

        if (HttpMethods.IsPost(request.Method) && !request.HasFormContentType)
        {
            await Refuse(context, StatusCodes.Status400BadRequest, NoForm).ConfigureAwait(false);
            return;
        }

        try
        {
            await next(context).ConfigureAwait(false);
        }
        catch (Exception e) when (e is BadHttpRequestException or InvalidDataException)
        {
            var status = (e as BadHttpRequestException)?.StatusCode ?? StatusCodes.Status400BadRequest;
            await Refuse(context, status, NoForm).ConfigureAwait(false);
        }
    }

    private static bool IsLoopback(string host) =>
        host.Equals("localhost", StringComparison.OrdinalIgnoreCase)
        || (IPAddress.TryParse(host, out var address) && IPAddress.IsLoopback(address));

    private static Task Css(HttpContext context)
    {
        context.Response.ContentType = "text/css; charset=utf-8";
        return context.Response.WriteAsync(ShopHtml.Css);
    }

    private static Task Html(HttpContext context, string html)
    {
        context.Response.ContentType = "text/html; charset=utf-8";
        return context.Response.WriteAsync(html);
    }

    private static Task Refuse(HttpContext context, int status, string sentence)
    {
        context.Response.StatusCode = status;
        return Html(context, ShopHtml.Problem(sentence));
    }

    /// <summary>The visits and their requests.</summary>
    private sealed class Visits(ShopGoals goals, int first, WebShopOptions options)
    {
        private readonly Lock _lock = new();
        private readonly Dictionary<string, OpenVisit> _open = new(StringComparer.Ordinal);
        private readonly Queue<string> _order = new();

        public Task Start(HttpContext context) => Html(context, ShopHtml.Start(goals, first));

        public async Task Enter(HttpContext context)
        {
            var form = await context.Request.ReadFormAsync(context.RequestAborted).ConfigureAwait(false);
            if (!int.TryParse(form["goal"], CultureInfo.InvariantCulture, out var goal) || goal < 0 || goal >= goals.Count)
            {
                await Refuse(context, StatusCodes.Status400BadRequest, $"The goals are 0 to {goals.Count - 1}.").ConfigureAwait(false);
                return;
            }

            var rich = form["rich"] == "on" ? ShopObservation.TextRich : options.Observation;
            var id = Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(16));
            var visit = new OpenVisit(id, goal, new ShopVisit(goals, goal, options with { Observation = rich }));
            lock (_lock)
            {
                _open.Add(id, visit);
                _order.Enqueue(id);
                if (_order.Count > MostVisits) _open.Remove(_order.Dequeue());
            }

            SeeOther(context, id);
        }

        public Task Show(HttpContext context)
        {
            if (Find(context) is not { } visit) return Gone(context);
            string html;
            lock (visit) html = ShopHtml.Visit(visit);
            return Html(context, html);
        }

        public async Task Act(HttpContext context)
        {
            if (Find(context) is not { } visit)
            {
                await Gone(context).ConfigureAwait(false);
                return;
            }

            var form = await context.Request.ReadFormAsync(context.RequestAborted).ConfigureAwait(false);
            // The search field holds keywords, everything else a whole action.
            var action = form.TryGetValue("keywords", out var keywords) ? $"search[{keywords}]" : form["action"].ToString();
            if (string.IsNullOrWhiteSpace(action) || action.Length > LongestAction)
            {
                await Refuse(context, StatusCodes.Status400BadRequest, $"An action has 1 to {LongestAction} characters.")
                    .ConfigureAwait(false);
                return;
            }

            lock (visit)
            {
                // A page that was left open may send an action after the end.
                if (!visit.Visit.Ended)
                {
                    visit.Last = visit.Visit.Step(action.Trim());
                    visit.Actions.Add(action.Trim());
                }
            }

            SeeOther(context, visit.Id);
        }

        private OpenVisit? Find(HttpContext context)
        {
            lock (_lock) return _open.GetValueOrDefault((string)context.GetRouteValue("id")!);
        }

        private static Task Gone(HttpContext context) =>
            Refuse(context, StatusCodes.Status404NotFound, "This visit is over; begin another.");

        // The page is asked for anew, so that reloading it repeats no action.
        private static void SeeOther(HttpContext context, string id)
        {
            context.Response.StatusCode = StatusCodes.Status303SeeOther;
            context.Response.Headers.Location = $"/visits/{id}";
        }
    }
}
