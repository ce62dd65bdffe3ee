// Routes of gRPC services. Invariants: one POST route per bound method; whatever else a gRPC client asks for is answered UNIMPLEMENTED,
// by one route of the application for unknown services and one of each service for unknown methods.

using Grpc.AspNetCore.Server;
using Grpc.Core;
using Grpc.Wire;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.AspNetCore.Routing.Patterns;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace Grpc.AspNetCore.Server
{
    /// <summary>Endpoint metadata: which method of which service a route serves.</summary>
    public sealed class GrpcMethodMetadata
    {
        public GrpcMethodMetadata(Type serviceType, IMethod method)
        {
            ServiceType = serviceType;
            Method = method;
        }

        public Type ServiceType { get; }

        public IMethod Method { get; }
    }

    /// <summary>Applies conventions to all routes of one service.</summary>
    public sealed class GrpcServiceEndpointConventionBuilder : Microsoft.AspNetCore.Builder.IEndpointConventionBuilder
    {
        private readonly List<Microsoft.AspNetCore.Builder.IEndpointConventionBuilder> _routes;

        internal GrpcServiceEndpointConventionBuilder(List<Microsoft.AspNetCore.Builder.IEndpointConventionBuilder> routes)
        {
            _routes = routes;
        }

        public void Add(Action<Microsoft.AspNetCore.Builder.EndpointBuilder> convention)
        {
            foreach (var route in _routes)
                route.Add(convention);
        }
    }

    /// <summary>Of one application; its presence shows that AddGrpc was called.</summary>
    internal sealed class GrpcEndpoints
    {
        private bool _unknownServicesMapped;

        public bool TakeUnknownServices()
        {
            var first = !_unknownServicesMapped;
            _unknownServicesMapped = true;
            return first;
        }
    }

    /// <summary>Lets only gRPC requests through.</summary>
    internal sealed class GrpcRequestConstraint : IRouteConstraint
    {
        public bool Match(
            HttpContext? httpContext, IRouter? route, string routeKey, RouteValueDictionary values, RouteDirection routeDirection) =>
            httpContext is not null
            && HttpMethods.IsPost(httpContext.Request.Method)
            && Headers.IsGrpcContentType(httpContext.Request.ContentType);
    }
}

namespace Microsoft.AspNetCore.Builder
{
    public static class GrpcEndpointRouteBuilderExtensions
    {
        public static GrpcServiceEndpointConventionBuilder MapGrpcService<
            [System.Diagnostics.CodeAnalysis.DynamicallyAccessedMembers(
                System.Diagnostics.CodeAnalysis.DynamicallyAccessedMemberTypes.All)] TService>(this IEndpointRouteBuilder builder)
            where TService : class
        {
            ArgumentNullException.ThrowIfNull(builder);
            var services = builder.ServiceProvider;
            var endpoints = services.GetService<GrpcEndpoints>() ?? throw new InvalidOperationException(
                "Unable to find the required services. Please add all the required services by calling "
                + "'IServiceCollection.AddGrpc' inside the call to 'ConfigureServices(...)' in the application startup code.");
            var options = new EffectiveOptions(
                services.GetRequiredService<IOptions<GrpcServiceOptions>>().Value,
                services.GetRequiredService<IOptions<GrpcServiceOptions<TService>>>().Value);
            var log = services.GetRequiredService<ILoggerFactory>().CreateLogger("Grpc.AspNetCore.Server.ServerCallHandler");
            var binder = new ServiceBinder<TService>(options, log);
            binder.Bind();
            var routes = new List<IEndpointConventionBuilder>();
            foreach (var method in binder.Methods)
            {
                var route = builder.MapPost(method.Method.FullName, method.Handler);
                route.WithDisplayName($"gRPC - {method.Method.FullName}");
                route.WithMetadata(method.Metadata);
                routes.Add(route);
            }
            foreach (var service in binder.Methods.Select(m => m.Method.ServiceName).Distinct(StringComparer.Ordinal))
                routes.Add(MapUnimplemented(builder, service + "/{method}", "Method is unimplemented."));
            if (endpoints.TakeUnknownServices())
                MapUnimplemented(builder, "{service}/{method}", "Service is unimplemented.");
            return new GrpcServiceEndpointConventionBuilder(routes);
        }

        private static IEndpointConventionBuilder MapUnimplemented(IEndpointRouteBuilder builder, string pattern, string detail)
        {
            var route = RoutePatternFactory.Parse(pattern, defaults: null, parameterPolicies: new { method = new GrpcRequestConstraint() });
            return builder
                .Map(route, http =>
                {
                    ServerHeaders.Refuse(http, StatusCodes.Status200OK, new Status(StatusCode.Unimplemented, detail));
                    return Task.CompletedTask;
                })
                .WithDisplayName("gRPC - " + detail);
        }
    }
}
