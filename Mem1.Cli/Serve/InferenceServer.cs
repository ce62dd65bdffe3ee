// Keeps: every mistake gets one JSON error in OpenAI's shape; what a request may cost is bounded before the model sees it; a request that
// ends for whatever reason, its client gone included, leaves nothing running.
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Threading.Channels;
using Mem1.Model;
using Mem1.Model.Generation;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;

namespace Mem1.Cli.Serve;

/// <summary>Serves a checkpoint by OpenAI's completions and chat completions.</summary>
internal sealed class InferenceServer : IAsyncDisposable
{
    /// <summary>Largest request: a prompt of a hundred thousand tokens has a tenth of this.</summary>
    public const int MaxBodyBytes = 8 << 20;

    // Up to this size, a body that is too large is read to its end and dropped, so that its sender gets the answer and not a broken
    // connection; a larger one is cut off.
    private const int MaxDroppedBytes = 64 << 20;

    // As many as may wait and be answered at once, several times over.
    private const int MaxConnections = 4096;

    // A key and what clients of all kinds send of themselves.
    private const int MaxHeaderBytes = 16 * 1024;

    // A caller that has not said what it wants by then is cut off.
    private static readonly TimeSpan s_headersLimit = TimeSpan.FromSeconds(10);

    // Nested deeper, a body is none of the requests there are.
    private const int MaxDepth = 16;

    // Requests under way get this long to end when the server stops.
    private static readonly TimeSpan s_stopLimit = TimeSpan.FromSeconds(10);

    private static readonly HashSet<string> s_reload = ["folder", "version"];

    private readonly WebApplication _application;
    private readonly ServedModel _model;
    private readonly long _started = DateTimeOffset.UtcNow.ToUnixTimeSeconds();

    private InferenceServer(ServedModel model, IPAddress address, int port)
    {
        _model = model;
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().ConfigureKestrel(kestrel =>
        {
            kestrel.Listen(address, port);
            kestrel.AddServerHeader = false;
            kestrel.Limits.MaxConcurrentConnections = MaxConnections;
            kestrel.Limits.MaxRequestHeadersTotalSize = MaxHeaderBytes;
            kestrel.Limits.RequestHeadersTimeout = s_headersLimit;
            kestrel.Limits.MaxRequestBodySize = MaxDroppedBytes;
        });
        builder.Services.AddRoutingCore();
        builder.Services.AddLogging();
        builder.Services.Configure<Microsoft.Extensions.Hosting.HostOptions>(host => host.ShutdownTimeout = s_stopLimit);
        _application = builder.Build();
        _application.UseRouting();
        _application.MapPost("/v1/completions", Guarded(context => Complete(context, chat: false)));
        _application.MapPost("/v1/chat/completions", Guarded(context => Complete(context, chat: true)));
        _application.MapPost("/v1/reload", Guarded(Reload));
        _application.MapGet("/v1/models", Guarded(Models));
        _application.MapGet("/health", context => context.Response.WriteAsJsonAsync(
            new { status = "ok", model = _model.Name, policy_version = _model.Loop.Version, requests = _model.Loop.Admitted }));
        _application.MapFallback(Guarded(context => throw new ApiException(
            StatusCodes.Status404NotFound, $"There is no {context.Request.Method} {context.Request.Path} here.", code: "not_found")));
    }

    /// <summary>Where it listens.</summary>
    public Uri Address { get; private set; } = null!;

    /// <summary>Starts to listen.</summary>
    /// <param name="model">Not disposed by this.</param>
    /// <param name="address">IP address to listen on.</param>
    /// <param name="port">Port; 0 for any that is free.</param>
    /// <param name="cancellationToken">Stops the start.</param>
    /// <exception cref="UserErrorException">The address cannot be bound.</exception>
    public static async Task<InferenceServer> Start(ServedModel model, IPAddress address, int port, CancellationToken cancellationToken)
    {
        var server = new InferenceServer(model, address, port);
        try
        {
            await server._application.StartAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (Exception e) when (e is IOException or SocketException)
        {
            await server._application.DisposeAsync().ConfigureAwait(false);
            throw new UserErrorException(
                $"The server cannot listen on {address}:{port} ({e.InnerException?.Message ?? e.Message}); free the port or choose another "
                + "with --port.");
        }

        server.Address = new Uri(
            server._application.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First());
        return server;
    }

    /// <summary>Stops listening; requests under way may end.</summary>
    public async ValueTask DisposeAsync()
    {
        await _application.StopAsync().ConfigureAwait(false);
        await _application.DisposeAsync().ConfigureAwait(false);
    }

    private RequestDelegate Guarded(RequestDelegate handle) => async context =>
    {
        try
        {
            Authorise(context);
            await handle(context).ConfigureAwait(false);
        }
        catch (ApiException e)
        {
            await Refuse(context, e).ConfigureAwait(false);
        }
        catch (JsonException e)
        {
            await Refuse(context, ApiException.Bad(
                $"The body is not valid JSON (line {(e.LineNumber ?? 0) + 1}, byte {(e.BytePositionInLine ?? 0) + 1}).")).ConfigureAwait(
                    false);
        }
        catch (BadHttpRequestException e)
        {
            await Refuse(context, e.StatusCode == StatusCodes.Status413PayloadTooLarge
                ? TooLarge() : new ApiException(
                    e.StatusCode, $"The request is not valid HTTP ({e.Message.TrimEnd('.')}).")).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (context.RequestAborted.IsCancellationRequested)
        {
            // The client is gone: there is nobody to answer.
        }
    };

    private void Authorise(HttpContext context)
    {
        if (_model.Options.ApiKey is not { } key) return;
        var sent = Encoding.UTF8.GetBytes(context.Request.Headers.Authorization.ToString());
        if (!CryptographicOperations.FixedTimeEquals(SHA256.HashData(sent), SHA256.HashData(Encoding.UTF8.GetBytes($"Bearer {key}"))))
        {
            throw new ApiException(
                StatusCodes.Status401Unauthorized, "The API key is missing or wrong; send it as Authorization: Bearer KEY.",
                    code: "invalid_api_key");
        }
    }

    private Task Models(HttpContext context) => context.Response.WriteAsJsonAsync(new
    {
        @object = "list",
        data = new[]
        {
            new
            {
                id = _model.Name, @object = "model", created = _started, owned_by = "mem1", max_model_len = _model.Shape.MaxPositions,
                policy_version = _model.Loop.Version,
            },
        },
    });

    private async Task Reload(HttpContext context)
    {
        if (_model.Options.Weights is null && context.Connection.RemoteIpAddress is { } from && !IPAddress.IsLoopback(from))
        {
            throw new ApiException(
                StatusCodes.Status403Forbidden,
                    "Clients of other machines may load weights only below a folder that the server was given (--weights).");
        }

        using var json = JsonDocument.Parse(await ReadBody(context).ConfigureAwait(false), new JsonDocumentOptions { MaxDepth = MaxDepth });
        var fields = new RequestFields(json.RootElement, s_reload);
        var folder = fields.Text("folder");
        if (string.IsNullOrEmpty(folder) || folder.Contains('\0', StringComparison.Ordinal))
            throw ApiException.Bad("\"folder\" must name a checkpoint's folder on the server's machine.", "folder");
        var (before, now) = await _model.Reload(folder, fields.Whole("version", 0, long.MaxValue), context.RequestAborted).ConfigureAwait(
            false);
        await context.Response.WriteAsJsonAsync(new { model = _model.Name, previous_version = before, policy_version = now })
            .ConfigureAwait(false);
    }

    private async Task Complete(HttpContext context, bool chat)
    {
        CompletionRequest request;
        using (var json = JsonDocument.Parse(
            await ReadBody(context).ConfigureAwait(false), new JsonDocumentOptions { MaxDepth = MaxDepth }))
            request = CompletionRequest.Read(json.RootElement, chat, _model.Shape, _model.Tokenizer);
        if (request.Model is { } wanted && wanted != _model.Name)
        {
            throw new ApiException(
                StatusCodes.Status404NotFound, $"There is no model \"{wanted}\"; this server has \"{_model.Name}\".", "model",
                    "model_not_found");
        }

        var events = Channel.CreateUnbounded<JobEvent>(new UnboundedChannelOptions { SingleReader = true, SingleWriter = true });
        var jobs = Jobs(request, events.Writer);
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(context.RequestAborted);
        deadline.CancelAfter(_model.Options.Deadline);
        if (!_model.Loop.TryAdmit(jobs))
        {
            context.Response.Headers.RetryAfter = "1";
            throw new ApiException(
                StatusCodes.Status429TooManyRequests,
                $"The server has {_model.Loop.Admitted} continuations under way and takes {_model.Options.Batch + _model.Options.Queue}; "
                + "try again later.",
                code: "queue_full");
        }

        try
        {
            var answer = new Answer(
                request, _model.Tokenizer, (chat ? "chatcmpl-" : "cmpl-") + Guid.NewGuid().ToString("N"), _model.Name,
                DateTimeOffset.UtcNow.ToUnixTimeSeconds());
            if (request.Stream) await Stream(context, answer, request, jobs.Length, events.Reader, deadline.Token).ConfigureAwait(false);
            else await Whole(context, answer, jobs.Length, events.Reader, deadline.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!context.RequestAborted.IsCancellationRequested)
        {
            throw new ApiException(
                StatusCodes.Status504GatewayTimeout,
                FormattableString.Invariant(
                    $"The request took more than {_model.Options.Deadline.TotalSeconds:0.###} seconds; ask for fewer tokens."),
                code: "deadline_exceeded");
        }
        finally
        {
            _model.Loop.Cancel(jobs);
        }
    }

    private Job[] Jobs(CompletionRequest request, ChannelWriter<JobEvent> to)
    {
        var seed = request.Seed ?? BitConverter.ToUInt64(RandomNumberGenerator.GetBytes(sizeof(ulong)));
        // The first choice takes the seed as it is, so that one request is one stream of the engine's; the others take streams of their
        // own.
        return
        [
            .. Enumerable.Range(0, request.Prompts.Count * request.Choices).Select(i => new Job(
                i,
                new GenerationRequest(
                    _model.Loop.NextId(), request.Prompts[i / request.Choices], request.Sampling, request.Stops,
                    i == 0 ? seed : RandomStream.Bits(seed, (ulong)i))
                {
                    TopLogProbs = request.TopLogProbs,
                    SharedPrompt = request.Choices > 1 ? request.Prompts[i / request.Choices].Length : 0,
                },
                to)),
        ];
    }

    private static async Task Whole(
        HttpContext context, Answer answer, int jobs, ChannelReader<JobEvent> events, CancellationToken cancellationToken)
    {
        StringBuilder[] pieces = [.. Enumerable.Range(0, jobs).Select(_ => new StringBuilder())];
        for (var left = jobs; left > 0;)
        {
            var told = await events.ReadAsync(cancellationToken).ConfigureAwait(false);
            if (told.Failure is { } failure) throw failure;
            pieces[told.Job.Index].Append(answer.Add(told));
            if (told.Finish is not null) left--;
        }

        context.Response.ContentType = "application/json";
        await context.Response.Body.WriteAsync(answer.Whole(pieces), cancellationToken).ConfigureAwait(false);
    }

    private static async Task Stream(
        HttpContext context, Answer answer, CompletionRequest request, int jobs, ChannelReader<JobEvent> events,
            CancellationToken cancellationToken)
    {
        for (var left = jobs; left > 0;)
        {
            var told = await events.ReadAsync(cancellationToken).ConfigureAwait(false);
            if (told.Failure is { } failure) throw failure;
            var piece = answer.Add(told);
            await Send(context, answer.Chunk(told.Job.Index, piece), cancellationToken).ConfigureAwait(false);
            if (told.Finish is not null) left--;
        }

        if (request.StreamUsage) await Send(context, answer.UsageChunk(), cancellationToken).ConfigureAwait(false);
        await Send(context, "[DONE]"u8.ToArray(), cancellationToken).ConfigureAwait(false);
    }

    /// <summary>One server-sent event.</summary>
    private static async Task Send(HttpContext context, byte[] data, CancellationToken cancellationToken)
    {
        if (!context.Response.HasStarted)
        {
            context.Response.ContentType = "text/event-stream; charset=utf-8";
            context.Response.Headers.CacheControl = "no-cache";
        }

        await context.Response.Body.WriteAsync((byte[])[.. "data: "u8, .. data, .. "\n\n"u8], cancellationToken).ConfigureAwait(false);
        await context.Response.Body.FlushAsync(cancellationToken).ConfigureAwait(false);
    }

    private static async Task<ReadOnlyMemory<byte>> ReadBody(HttpContext context)
    {
        // A web page can make a browser post to this machine, but not with this type, unless the server allows it.
        if (!context.Request.HasJsonContentType())
        {
            throw new ApiException(
                StatusCodes.Status415UnsupportedMediaType, "The body must be JSON, sent with the header Content-Type: application/json.");
        }

        var body = new MemoryStream();
        var part = new byte[65536];
        var tooLarge = false;
        while (await context.Request.Body.ReadAsync(part, context.RequestAborted).ConfigureAwait(false) is > 0 and var read)
        {
            tooLarge |= body.Length + read > MaxBodyBytes;
            if (!tooLarge) body.Write(part, 0, read);
        }

        return tooLarge ? throw TooLarge() : body.GetBuffer().AsMemory(0, (int)body.Length);
    }

    private static ApiException TooLarge() =>
        new(StatusCodes.Status413PayloadTooLarge, $"The body is longer than {MaxBodyBytes} bytes; send less at once.");

    private static Task Refuse(HttpContext context, ApiException e)
    {
        // A stream under way can only say so in its next event.
        if (context.Response.HasStarted)
            return Send(context, JsonSerializer.SerializeToUtf8Bytes(e.Body), context.RequestAborted);
        context.Response.StatusCode = e.Status;
        return context.Response.WriteAsJsonAsync(e.Body);
    }
}
