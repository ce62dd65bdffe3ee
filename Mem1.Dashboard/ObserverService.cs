// Keeps: what is asked here is answered by the dashboard itself, with the same bounds; a follower that does not read loses events, is told
// so, and never holds anybody up; every stream ends when the learner's server or the dashboard stops.
using Google.Protobuf;
using Grpc.Core;
using Mem1.Protocol.V1;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;

namespace Mem1.Dashboard;

/// <summary>Has a gRPC server answer dashboards of other processes.</summary>
public static class ObserverEndpoint
{
    /// <summary>Registers what the service needs. The server must have gRPC.</summary>
    /// <param name="services">Of the server.</param>
    /// <param name="dashboard">Who answers.</param>
    public static void AddTo(IServiceCollection services, DashboardServer dashboard) =>
        services.AddSingleton(dashboard).AddSingleton<ObserverService>();

    /// <summary>Maps the service.</summary>
    /// <param name="routes">Of the server.</param>
    public static void Map(IEndpointRouteBuilder routes) => routes.MapGrpcService<ObserverService>();
}

/// <summary>The dashboard over gRPC (observer.proto).</summary>
internal sealed class ObserverService(DashboardServer dashboard, IHostApplicationLifetime server)
    : Protocol.V1.ObserverService.ObserverServiceBase
{
    /// <summary>How often a follower hears something, so that it knows a dead connection from a quiet run.</summary>
    public static readonly TimeSpan StillHere = TimeSpan.FromSeconds(4);

    private readonly IDashboardBackend _backend = dashboard.Backend;

    public override async Task<ObserverReply> Get(ObserverRequest request, ServerCallContext context)
    {
        if (request.Path != "/metrics" && !request.Path.StartsWith("/api/", StringComparison.Ordinal))
            throw new RpcException(new Status(StatusCode.InvalidArgument, "Only paths below /api and /metrics are answered."));
        return Reply(await _backend.GetAsync(
            DashboardWeb.Request(request.Path, request.Query), context.CancellationToken).ConfigureAwait(false));
    }

    public override async Task Follow(FollowRequest request, IServerStreamWriter<ObserverEvent> responseStream, ServerCallContext context)
    {
        using var client = _backend.Hub.Connect()
            ?? throw new RpcException(new Status(StatusCode.ResourceExhausted, $"More than {EventHub.MaxClients} listen already."));
        using var ended = CancellationTokenSource.CreateLinkedTokenSource(
            context.CancellationToken, server.ApplicationStopping, dashboard.Stopping);
        Task Write(ServerEvent? e) => responseStream.WriteAsync(
            e is { } happened ? new ObserverEvent { Name = happened.Name, Data = happened.Data } : new ObserverEvent(), ended.Token);
        try
        {
            await Write(new ServerEvent("hello", _backend.Hello())).ConfigureAwait(false);
            await client.ReadAsync(StillHere, Write, ended.Token).ConfigureAwait(false);
        }
        catch (Exception e) when (e is OperationCanceledException or InvalidOperationException or IOException)
        {
            if (!context.CancellationToken.IsCancellationRequested)
                throw new RpcException(new Status(StatusCode.Unavailable, "The learner is stopping."));
        }
    }

    public override async Task<ObserverReply> Command(ObserverCommand request, ServerCallContext context)
    {
        if (request.Body.Length > DashboardWeb.MaxBody)
            throw new RpcException(new Status(StatusCode.InvalidArgument, $"A command has at most {DashboardWeb.MaxBody} characters."));
        var from = request.From.Length is > 0 and <= 64 && !request.From.Any(char.IsControl) ? request.From : "unknown";
        return Reply(await _backend.CommandAsync(
            request.Body, request.HasToken ? request.Token : null, $"{from} by way of {context.Peer}", context.CancellationToken)
            .ConfigureAwait(false));
    }

    private static ObserverReply Reply(ApiAnswer answer) => new()
    {
        Status = answer.Status,
        ContentType = answer.ContentType,
        Body = UnsafeByteOperations.UnsafeWrap(answer.Body), // never written to again
    };
}
