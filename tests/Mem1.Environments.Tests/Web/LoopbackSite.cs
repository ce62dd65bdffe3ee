using System.Collections.Concurrent;
using System.Net;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;

namespace Mem1.Environments.Tests.Web;

/// <summary>A server on loopback that answers as a test says, and remembers what it was asked.</summary>
internal sealed class LoopbackSite : IAsyncDisposable
{
    private readonly WebApplication _application;

    private LoopbackSite(WebApplication application)
    {
        _application = application;
        string address = application.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.Single();
        Endpoint = new IPEndPoint(IPAddress.Loopback, new Uri(address).Port);
    }

    public IPEndPoint Endpoint { get; }

    public string Root => $"http://127.0.0.1:{Endpoint.Port}";

    public ConcurrentQueue<string> Asked { get; } = [];

    public static async Task<LoopbackSite> StartAsync(Func<HttpContext, Task> answer)
    {
        WebApplicationBuilder builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().ConfigureKestrel(k => k.Listen(IPAddress.Loopback, 0));
        WebApplication application = builder.Build();
        LoopbackSite? site = null;
        application.Run(context =>
        {
            site!.Asked.Enqueue(context.Request.Path + context.Request.QueryString);
            return answer(context);
        });
        await application.StartAsync();
        return site = new LoopbackSite(application);
    }

    public static async Task Html(HttpContext context, string html, string type = "text/html")
    {
        context.Response.ContentType = type;
        await context.Response.WriteAsync(html);
    }

    public ValueTask DisposeAsync() => _application.DisposeAsync();
}
