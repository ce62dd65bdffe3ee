// Serves requests of one bound method, one class per kind of call. Invariants: the service instance comes from the services of the
// request if registered there, else one is made per call and disposed after it; whatever the handler does, the call ends with a status.

using Grpc.Core;
using Grpc.Core.Interceptors;
using Grpc.Wire;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Http.Timeouts;
using Microsoft.AspNetCore.Server.Kestrel.Core.Features;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace Grpc.AspNetCore.Server;

internal abstract class CallHandler<TService, TRequest, TResponse>(
    Method<TRequest, TResponse> method, EffectiveOptions options, ILogger log)
    where TService : class
    where TRequest : class
    where TResponse : class
{
    private readonly Lazy<ObjectFactory<TService>> _factory = new(() => ActivatorUtilities.CreateFactory<TService>([]));

    protected Method<TRequest, TResponse> Method => method;

    protected EffectiveOptions Options => options;

    public async Task HandleAsync(HttpContext http)
    {
        if (!HttpProtocol.IsHttp2(http.Request.Protocol) && !HttpProtocol.IsHttp3(http.Request.Protocol))
        {
            ServerHeaders.Refuse(http, StatusCodes.Status426UpgradeRequired, new Status(
                StatusCode.Internal, $"Request protocol '{http.Request.Protocol}' is not supported."));
            http.Response.Headers.Upgrade = "h2c";
            return;
        }
        if (!Headers.IsGrpcContentType(http.Request.ContentType))
        {
            ServerHeaders.Refuse(http, StatusCodes.Status415UnsupportedMediaType, new Status(
                StatusCode.Internal, $"Content-Type '{http.Request.ContentType}' is not supported."));
            return;
        }
        LiftLimits(http);
        var context = new HttpContextServerCallContext(http, options);
        var reader = new RequestReader<TRequest>(context, method.RequestMarshaller);
        try
        {
            await InvokeAsync(context, reader).ConfigureAwait(false);
        }
        catch (Exception e)
        {
            if (context.Fail(e))
                log.LogError(e, "Error when executing service method '{Method}'.", method.FullName);
        }
        await context.EndAsync().ConfigureAwait(false);
        reader.Release();
    }

    protected abstract Task InvokeAsync(HttpContextServerCallContext context, RequestReader<TRequest> reader);

    /// <summary>Puts the interceptors around a call, the first one outermost.</summary>
    protected TDelegate Intercept<TDelegate>(TDelegate service, Func<InterceptorRegistration, TDelegate, TDelegate> wrap)
        where TDelegate : Delegate
    {
        var pipeline = service;
        for (var i = options.Interceptors.Count - 1; i >= 0; i--)
            pipeline = wrap(options.Interceptors[i], pipeline);
        return pipeline;
    }

    protected static async Task<T> WithInterceptorAsync<T>(
        InterceptorRegistration registration, ServerCallContext context, Func<Interceptor, Task<T>> call)
    {
        var (interceptor, owned) = registration.Resolve(context.GetHttpContext().RequestServices);
        try
        {
            return await call(interceptor).ConfigureAwait(false);
        }
        finally
        {
            if (owned)
                await DisposeAsync(interceptor).ConfigureAwait(false);
        }
    }

    protected static Task WithInterceptorAsync(
        InterceptorRegistration registration, ServerCallContext context, Func<Interceptor, Task> call) =>
        WithInterceptorAsync(registration, context, async interceptor =>
        {
            await call(interceptor).ConfigureAwait(false);
            return true;
        });

    /// <summary>Calls the service instance of this call.</summary>
    protected Task<T> WithServiceAsync<T, TState>(ServerCallContext context, TState state, Func<TService, TState, Task<T>> call)
    {
        var services = context.GetHttpContext().RequestServices;
        return services.GetService<TService>() is { } registered
            ? call(registered, state)
            : WithOwnServiceAsync(_factory.Value(services, []), state, call);
    }

    private static async Task<T> WithOwnServiceAsync<T, TState>(TService service, TState state, Func<TService, TState, Task<T>> call)
    {
        try
        {
            return await call(service, state).ConfigureAwait(false);
        }
        finally
        {
            await DisposeAsync(service).ConfigureAwait(false);
        }
    }

    private static ValueTask DisposeAsync(object instance)
    {
        if (instance is IAsyncDisposable asynchronous)
            return asynchronous.DisposeAsync();
        (instance as IDisposable)?.Dispose();
        return default;
    }

    /// <summary>The message limit bounds a request better than Kestrel's limits for web pages do.</summary>
    private void LiftLimits(HttpContext http)
    {
        if (http.Features.Get<IHttpMaxRequestBodySizeFeature>() is { IsReadOnly: false } size)
            size.MaxRequestBodySize = null;
        if (method.Type == MethodType.Unary)
            return;
        if (method.Type != MethodType.ServerStreaming && http.Features.Get<IHttpMinRequestBodyDataRateFeature>() is { } rate)
            rate.MinDataRate = null;
        http.Features.Get<IHttpRequestTimeoutFeature>()?.DisableTimeout();
    }
}

internal sealed class UnaryCallHandler<TService, TRequest, TResponse> : CallHandler<TService, TRequest, TResponse>
    where TService : class
    where TRequest : class
    where TResponse : class
{
    private readonly UnaryServerMethod<TRequest, TResponse> _pipeline;

    public UnaryCallHandler(
        Method<TRequest, TResponse> method,
        UnaryMethod<TService, TRequest, TResponse> target,
        EffectiveOptions options,
        ILogger log)
        : base(method, options, log)
    {
        _pipeline = Intercept<UnaryServerMethod<TRequest, TResponse>>(
            (request, context) => WithServiceAsync(
                context, (target, request, context), static (service, s) => s.target(service, s.request, s.context)),
            static (registration, next) => (request, context) => WithInterceptorAsync(
                registration, context, interceptor => interceptor.UnaryServerHandler(request, context, next)));
    }

    protected override async Task InvokeAsync(HttpContextServerCallContext context, RequestReader<TRequest> reader)
    {
        var request = await reader.ReadSingleAsync().ConfigureAwait(false);
        await SingleResponse.WriteAsync(context, Method, await _pipeline(request, context).ConfigureAwait(false)).ConfigureAwait(false);
    }
}

internal sealed class ClientStreamingCallHandler<TService, TRequest, TResponse> : CallHandler<TService, TRequest, TResponse>
    where TService : class
    where TRequest : class
    where TResponse : class
{
    private readonly ClientStreamingServerMethod<TRequest, TResponse> _pipeline;

    public ClientStreamingCallHandler(
        Method<TRequest, TResponse> method,
        ClientStreamingMethod<TService, TRequest, TResponse> target,
        EffectiveOptions options,
        ILogger log)
        : base(method, options, log)
    {
        _pipeline = Intercept<ClientStreamingServerMethod<TRequest, TResponse>>(
            (requests, context) => WithServiceAsync(
                context, (target, requests, context), static (service, s) => s.target(service, s.requests, s.context)),
            static (registration, next) => (requests, context) => WithInterceptorAsync(
                registration, context, interceptor => interceptor.ClientStreamingServerHandler(requests, context, next)));
    }

    protected override async Task InvokeAsync(HttpContextServerCallContext context, RequestReader<TRequest> reader) =>
        await SingleResponse.WriteAsync(context, Method, await _pipeline(reader, context).ConfigureAwait(false)).ConfigureAwait(false);
}

internal sealed class ServerStreamingCallHandler<TService, TRequest, TResponse> : CallHandler<TService, TRequest, TResponse>
    where TService : class
    where TRequest : class
    where TResponse : class
{
    private readonly ServerStreamingServerMethod<TRequest, TResponse> _pipeline;

    public ServerStreamingCallHandler(
        Method<TRequest, TResponse> method,
        ServerStreamingMethod<TService, TRequest, TResponse> target,
        EffectiveOptions options,
        ILogger log)
        : base(method, options, log)
    {
        _pipeline = Intercept<ServerStreamingServerMethod<TRequest, TResponse>>(
            (request, responses, context) => WithServiceAsync(
                context,
                (target, request, responses, context),
                static (service, s) => s.target(service, s.request, s.responses, s.context).AsResult()),
            static (registration, next) => (request, responses, context) => WithInterceptorAsync(
                registration, context, interceptor => interceptor.ServerStreamingServerHandler(request, responses, context, next)));
    }

    protected override async Task InvokeAsync(HttpContextServerCallContext context, RequestReader<TRequest> reader)
    {
        var request = await reader.ReadSingleAsync().ConfigureAwait(false);
        await _pipeline(request, new ResponseWriter<TResponse>(context, Method.ResponseMarshaller), context).ConfigureAwait(false);
    }
}

internal sealed class DuplexStreamingCallHandler<TService, TRequest, TResponse> : CallHandler<TService, TRequest, TResponse>
    where TService : class
    where TRequest : class
    where TResponse : class
{
    private readonly DuplexStreamingServerMethod<TRequest, TResponse> _pipeline;

    public DuplexStreamingCallHandler(
        Method<TRequest, TResponse> method,
        DuplexStreamingMethod<TService, TRequest, TResponse> target,
        EffectiveOptions options,
        ILogger log)
        : base(method, options, log)
    {
        _pipeline = Intercept<DuplexStreamingServerMethod<TRequest, TResponse>>(
            (requests, responses, context) => WithServiceAsync(
                context,
                (target, requests, responses, context),
                static (service, s) => s.target(service, s.requests, s.responses, s.context).AsResult()),
            static (registration, next) => (requests, responses, context) => WithInterceptorAsync(
                registration, context, interceptor => interceptor.DuplexStreamingServerHandler(requests, responses, context, next)));
    }

    protected override Task InvokeAsync(HttpContextServerCallContext context, RequestReader<TRequest> reader) =>
        _pipeline(reader, new ResponseWriter<TResponse>(context, Method.ResponseMarshaller), context);
}

internal static class SingleResponse
{
    /// <summary>Leaves the flush to the end of the call, so that message and trailers travel together.</summary>
    public static Task WriteAsync<TRequest, TResponse>(
        HttpContextServerCallContext context, Method<TRequest, TResponse> method, TResponse? response)
        where TResponse : class
    {
        if (response is null)
            throw Framing.Fail(StatusCode.Cancelled, "No message returned from method.");
        return context.WriteMessageAsync(method.ResponseMarshaller, response, flush: false);
    }

    /// <summary>Streaming handlers return nothing; the pipeline carries one kind of task.</summary>
    public static Task<bool> AsResult(this Task task)
    {
        return task.IsCompletedSuccessfully ? Task.FromResult(true) : Wait(task);

        static async Task<bool> Wait(Task task)
        {
            await task.ConfigureAwait(false);
            return true;
        }
    }
}
