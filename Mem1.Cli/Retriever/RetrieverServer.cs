// Keeps: every answer is the protocol's JSON or {"detail": one sentence}; what a request may cost is bounded before anything is searched; a
// request without the token is refused from its headers alone.
using System.Net;
using System.Net.Sockets;
using System.Text.Json;
using Mem1.Environments.Retrieval;
using Mem1.Protocol.Security;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using HttpProtocols = Microsoft.AspNetCore.Server.Kestrel.Core.HttpProtocols;

namespace Mem1.Cli.Retriever;

/// <summary>Serves an index by the protocol of MEM1 and Search-R1: POST /retrieve; GET /health; and GET /ready, which searches.</summary>
internal sealed class RetrieverServer : IAsyncDisposable
{
    /// <summary>Largest request: a thousand queries of four thousand characters.</summary>
    public const int MaxBodyBytes = 4 << 20;

    /// <summary>Queries in a request.</summary>
    public const int MaxQueries = 1024;

    /// <summary>Passages for one query.</summary>
    public const int MaxTopK = 1000;

    /// <summary>Passages in a reply: some ten megabytes.</summary>
    public const int MaxPassages = 16_384;

    // Up to this size, a body that is too large is read to its end and dropped, so that its sender gets the answer and not a broken
    // connection; a larger one is cut off.
    private const int MaxDroppedBytes = 64 << 20;

    // Workers keep a connection or some open; the bound is there for those that open them for nothing.
    private const int MaxConnections = 4096;

    // A token and what clients of all kinds send of themselves.
    private const int MaxHeaderBytes = 16 * 1024;

    // A caller that has not said what it wants by then is cut off; slow bodies are cut off by Kestrel's own limit (240 bytes/s after 5 s).
    private static readonly TimeSpan s_headersLimit = TimeSpan.FromSeconds(10);

    // Requests under way get this long to end when the server stops.
    private static readonly TimeSpan s_stopLimit = TimeSpan.FromSeconds(10);

    private static readonly string TooLarge = $"The body is longer than {MaxBodyBytes} bytes; send fewer queries at once.";

    private readonly WebApplication _application;

    private RetrieverServer(WebApplication application, Uri address) => (_application, Address) = (application, address);

    /// <summary>Where it listens.</summary>
    public Uri Address { get; }

    /// <summary>Starts to listen.</summary>
    /// <param name="index">What to search; not disposed by this.</param>
    /// <param name="address">IP address to listen on.</param>
    /// <param name="port">Port; 0 for any that is free.</param>
    /// <param name="topK">Passages for a query when the request does not say.</param>
    /// <param name="token">What callers must show; null lets in whoever reaches the port.</param>
    /// <param name="cancellationToken">Stops the start.</param>
    /// <exception cref="UserErrorException">The address cannot be bound.</exception>
    public static async Task<RetrieverServer> Start(
        ISearchIndex index, IPAddress address, int port, int topK, BearerToken? token, CancellationToken cancellationToken)
    {
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().ConfigureKestrel(kestrel =>
        {
            kestrel.Listen(address, port, listen => listen.Protocols = HttpProtocols.Http1);
            kestrel.AddServerHeader = false;
            kestrel.Limits.MaxConcurrentConnections = MaxConnections;
            kestrel.Limits.MaxRequestHeadersTotalSize = MaxHeaderBytes;
            kestrel.Limits.RequestHeadersTimeout = s_headersLimit;
            kestrel.Limits.MaxRequestBodySize = MaxDroppedBytes;
        });
        builder.Services.AddRoutingCore();
        builder.Services.AddLogging();
        builder.Services.Configure<Microsoft.Extensions.Hosting.HostOptions>(host => host.ShutdownTimeout = s_stopLimit);
        var application = builder.Build();
        application.UseRouting();
        application.MapPost("/retrieve", (HttpContext context) => Refusal(context, token) ?? Retrieve(context, index, topK));
        application.MapGet("/health", (HttpContext context) =>
            context.Response.WriteAsJsonAsync(new { status = "ok", passages = index.Count }));
        application.MapGet("/ready", (HttpContext context) =>
        {
            index.Search("anything", 1, context.RequestAborted); // what is wrong with the index becomes status 500
            return context.Response.WriteAsJsonAsync(new { status = "ok" });
        });
        try
        {
            await application.StartAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (Exception e) when (e is IOException or SocketException)
        {
            await application.DisposeAsync().ConfigureAwait(false);
            throw new UserErrorException(
                $"The retriever cannot listen on {address}:{port} ({e.InnerException?.Message ?? e.Message}); free the port or "
                + "choose another with --port.");
        }

        var bound = application.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First();
        return new RetrieverServer(application, new Uri(bound));
    }

    /// <summary>Stops listening; requests under way may end.</summary>
    public async ValueTask DisposeAsync()
    {
        await _application.StopAsync().ConfigureAwait(false);
        await _application.DisposeAsync().ConfigureAwait(false);
    }

    /// <summary>The answer to a request whose body is not to be read; null for one that is.</summary>
    private static Task? Refusal(HttpContext context, BearerToken? token)
    {
        var shown = context.Request.Headers.Authorization;
        if (token is not null && (shown.Count != 1 || !token.Matches(shown[0])))
        {
            context.Response.Headers.WWWAuthenticate = "Bearer";
            return Refuse(context, StatusCodes.Status401Unauthorized, shown.Count == 0
                ? "This retriever wants a token; send it as Authorization: Bearer TOKEN." : "That is not the retriever's token.");
        }

        // What unpacks to much more than was sent is not unpacked.
        return context.Request.Headers.ContentEncoding.Count == 0 ? null : Refuse(
            context, StatusCodes.Status415UnsupportedMediaType, "The body must be plain JSON; Content-Encoding is not taken.");
    }

    private static async Task Retrieve(HttpContext context, ISearchIndex index, int standardTopK)
    {
        RetrieveRequest request;
        try
        {
            if (await ReadBody(context).ConfigureAwait(false) is not { } body)
            {
                await Refuse(context, StatusCodes.Status413PayloadTooLarge, TooLarge).ConfigureAwait(false);
                return;
            }

            using var json = JsonDocument.Parse(body);
            request = RetrieveRequest.Read(json.RootElement, standardTopK);
        }
        catch (RetrieveRequestException e)
        {
            await Refuse(context, StatusCodes.Status400BadRequest, e.Message).ConfigureAwait(false);
            return;
        }
        catch (JsonException e)
        {
            await Refuse(
                context, StatusCodes.Status400BadRequest,
                $"The body is not valid JSON (line {(e.LineNumber ?? 0) + 1}, byte {(e.BytePositionInLine ?? 0) + 1}).")
                .ConfigureAwait(false);
            return;
        }
        catch (BadHttpRequestException e)
        {
            var sentence = e.StatusCode == StatusCodes.Status413PayloadTooLarge
                ? TooLarge
                : $"The request is not valid HTTP ({e.Message.TrimEnd('.')}).";
            await Refuse(context, e.StatusCode, sentence).ConfigureAwait(false);
            return;
        }

        var results = new IReadOnlyList<SearchHit>[request.Queries.Count];
        // On threads of the pool: a search computes and never waits, and a request of many queries may use all cores.
        await Parallel.ForAsync(0, results.Length, context.RequestAborted, (i, cancellationToken) =>
        {
            results[i] = index.Search(request.Queries[i], request.TopK, cancellationToken);
            return ValueTask.CompletedTask;
        }).ConfigureAwait(false);
        context.Response.ContentType = "application/json";
        await using var writer = new Utf8JsonWriter(context.Response.BodyWriter);
        writer.WriteStartObject();
        writer.WriteStartArray("result");
        foreach (var hits in results)
        {
            writer.WriteStartArray();
            foreach (var hit in hits) Write(writer, hit, request.ReturnScores);
            writer.WriteEndArray();
            await writer.FlushAsync(context.RequestAborted).ConfigureAwait(false);
        }

        writer.WriteEndArray();
        writer.WriteEndObject();
    }

    /// <summary>The whole body, or null when it is too large.</summary>
    private static async Task<ReadOnlyMemory<byte>?> ReadBody(HttpContext context)
    {
        var body = new MemoryStream();
        var part = new byte[65536];
        var tooLarge = false;
        while (await context.Request.Body.ReadAsync(part, context.RequestAborted).ConfigureAwait(false) is > 0 and var read)
        {
            tooLarge |= body.Length + read > MaxBodyBytes;
            if (!tooLarge) body.Write(part, 0, read);
        }

        // Not in one expression: null would become an empty body.
        if (tooLarge) return null;
        return body.GetBuffer().AsMemory(0, (int)body.Length);
    }

    /// <summary>With scores {"document": {...}, "score": s}, without them the document alone.</summary>
    private static void Write(Utf8JsonWriter writer, SearchHit hit, bool score)
    {
        if (score)
        {
            writer.WriteStartObject();
            writer.WriteStartObject("document");
        }
        else
        {
            writer.WriteStartObject();
        }

        writer.WriteString("id", hit.Passage.Id);
        writer.WriteString("contents", hit.Passage.Contents);
        writer.WriteEndObject();
        if (!score) return;
        writer.WriteNumber("score", hit.Score);
        writer.WriteEndObject();
    }

    private static Task Refuse(HttpContext context, int status, string sentence)
    {
        context.Response.StatusCode = status;
        return context.Response.WriteAsJsonAsync(new { detail = sentence });
    }
}
