// Finds the methods of a service type and makes a request handler for each. Source of the rules: how generated code binds (the attribute
// names a static method that calls AddMethod once per method, with a null handler for a null implementation).
// Invariant: a method is bound to the override of the generated base class's virtual method, never to one that merely hides it.

using System.Reflection;
using Grpc.Core;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.Logging;

namespace Grpc.AspNetCore.Server;

internal delegate Task<TResponse> UnaryMethod<TService, TRequest, TResponse>(
    TService service, TRequest request, ServerCallContext context);

internal delegate Task<TResponse> ClientStreamingMethod<TService, TRequest, TResponse>(
    TService service, IAsyncStreamReader<TRequest> requestStream, ServerCallContext context);

internal delegate Task ServerStreamingMethod<TService, TRequest, TResponse>(
    TService service, TRequest request, IServerStreamWriter<TResponse> responseStream, ServerCallContext context);

internal delegate Task DuplexStreamingMethod<TService, TRequest, TResponse>(
    TService service, IAsyncStreamReader<TRequest> requestStream, IServerStreamWriter<TResponse> responseStream, ServerCallContext context);

/// <summary>A method ready to be mapped.</summary>
internal sealed record BoundMethod(IMethod Method, RequestDelegate Handler, object[] Metadata);

internal sealed class ServiceBinder<TService>(EffectiveOptions options, ILogger log) : ServiceBinderBase
    where TService : class
{
    private Type _baseType = typeof(TService);

    public List<BoundMethod> Methods { get; } = [];

    public void Bind()
    {
        var bind = FindBindMethod();
        if (bind is null)
        {
            log.LogWarning("No method to bind {Service} was found; it serves nothing.", typeof(TService));
            return;
        }
        _baseType = bind.GetParameters()[1].ParameterType;
        bind.Invoke(null, BindingFlags.DoNotWrapExceptions, null, [this, null], null);
    }

    public override void AddMethod<TRequest, TResponse>(
        Method<TRequest, TResponse> method, UnaryServerMethod<TRequest, TResponse>? handler)
    {
        var (target, info) = Find<UnaryMethod<TService, TRequest, TResponse>>(method, typeof(TRequest), typeof(ServerCallContext));
        Add(method, info, new UnaryCallHandler<TService, TRequest, TResponse>(method, target, options, log));
    }

    public override void AddMethod<TRequest, TResponse>(
        Method<TRequest, TResponse> method, ClientStreamingServerMethod<TRequest, TResponse>? handler)
    {
        var (target, info) = Find<ClientStreamingMethod<TService, TRequest, TResponse>>(
            method, typeof(IAsyncStreamReader<TRequest>), typeof(ServerCallContext));
        Add(method, info, new ClientStreamingCallHandler<TService, TRequest, TResponse>(method, target, options, log));
    }

    public override void AddMethod<TRequest, TResponse>(
        Method<TRequest, TResponse> method, ServerStreamingServerMethod<TRequest, TResponse>? handler)
    {
        var (target, info) = Find<ServerStreamingMethod<TService, TRequest, TResponse>>(
            method, typeof(TRequest), typeof(IServerStreamWriter<TResponse>), typeof(ServerCallContext));
        Add(method, info, new ServerStreamingCallHandler<TService, TRequest, TResponse>(method, target, options, log));
    }

    public override void AddMethod<TRequest, TResponse>(
        Method<TRequest, TResponse> method, DuplexStreamingServerMethod<TRequest, TResponse>? handler)
    {
        var (target, info) = Find<DuplexStreamingMethod<TService, TRequest, TResponse>>(
            method, typeof(IAsyncStreamReader<TRequest>), typeof(IServerStreamWriter<TResponse>), typeof(ServerCallContext));
        Add(method, info, new DuplexStreamingCallHandler<TService, TRequest, TResponse>(method, target, options, log));
    }

    private static MethodInfo? FindBindMethod()
    {
        const BindingFlags Flags = BindingFlags.Public | BindingFlags.Static;
        if (typeof(TService).GetCustomAttribute<BindServiceMethodAttribute>() is { } attribute)
            return attribute.BindType.GetMethod(attribute.BindMethodName, Flags, [typeof(ServiceBinderBase), typeof(TService)]);
        // Code of generators that predate the attribute: the outermost user type is nested in the class that holds BindService.
        var type = typeof(TService);
        while (type.BaseType is { } parent && parent != typeof(object))
            type = parent;
        return type.DeclaringType?.GetMethod("BindService", Flags, [typeof(ServiceBinderBase), type]);
    }

    private (TDelegate Target, MethodInfo Info) Find<TDelegate>(IMethod method, params Type[] parameters)
        where TDelegate : Delegate
    {
        const BindingFlags Flags = BindingFlags.Public | BindingFlags.Instance | BindingFlags.DeclaredOnly;
        for (var type = typeof(TService); type is not null; type = type.BaseType)
        {
            var found = type.GetMethod(method.Name, Flags, parameters);
            if (found is { IsVirtual: true } && found.GetBaseDefinition().DeclaringType == _baseType)
                return (found.CreateDelegate<TDelegate>(), found);
        }
        throw new InvalidOperationException($"Could not find '{method.Name}' on {typeof(TService)}.");
    }

    private void Add<TRequest, TResponse>(IMethod method, MethodInfo info, CallHandler<TService, TRequest, TResponse> handler)
        where TRequest : class
        where TResponse : class
    {
        // Method attributes come last, so that they win over those of the class where the last one counts ([Authorize] and friends).
        object[] metadata =
        [
            .. typeof(TService).GetCustomAttributes(inherit: true),
            .. info.GetCustomAttributes(inherit: true),
            new GrpcMethodMetadata(typeof(TService), method),
        ];
        Methods.Add(new BoundMethod(method, handler.HandleAsync, metadata));
    }
}
