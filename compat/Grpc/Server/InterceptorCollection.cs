// Server interceptors in the order they run. An interceptor comes from the services of the call if registered there, else a new one is made
// for every call and disposed after it.

using System.Collections.ObjectModel;
using Grpc.Core.Interceptors;
using Microsoft.Extensions.DependencyInjection;

namespace Grpc.AspNetCore.Server;

public class InterceptorCollection : Collection<InterceptorRegistration>
{
    public void Add<TInterceptor>(params object[] args)
        where TInterceptor : Interceptor => Add(typeof(TInterceptor), args);

    public void Add(Type interceptorType, params object[] args)
    {
        ArgumentNullException.ThrowIfNull(interceptorType);
        ArgumentNullException.ThrowIfNull(args);
        if (!typeof(Interceptor).IsAssignableFrom(interceptorType))
            throw new ArgumentException($"{interceptorType} is no {nameof(Interceptor)}.", nameof(interceptorType));
        Add(new InterceptorRegistration(interceptorType, args));
    }
}

/// <summary>An interceptor type and the constructor arguments that services do not give.</summary>
public class InterceptorRegistration
{
    private readonly object[] _args;
    private readonly Lazy<ObjectFactory> _factory;

    internal InterceptorRegistration(Type type, object[] args)
    {
        Type = type;
        _args = args;
        _factory = new Lazy<ObjectFactory>(() => ActivatorUtilities.CreateFactory(Type, [.. _args.Select(a => a.GetType())]));
    }

    public Type Type { get; }

    /// <summary>The interceptor for one call, and whether it was made for it.</summary>
    internal (Interceptor Instance, bool Owned) Resolve(IServiceProvider services)
    {
        if (_args.Length == 0 && services.GetService(Type) is Interceptor registered)
            return (registered, false);
        return ((Interceptor)_factory.Value(services, _args), true);
    }
}
