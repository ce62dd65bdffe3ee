// Actors whose constructors are filled from the service container, besides the arguments given.
using Akka.Actor;
using Microsoft.Extensions.DependencyInjection;

namespace Akka.DependencyInjection;

public interface IDependencyResolver
{
    T GetService<T>();

    object GetService(Type type);

    Props Props(Type type, params object[] args);

    Props Props<T>(params object[] args)
        where T : ActorBase;
}

public sealed class DependencyResolver : IExtension
{
    private DependencyResolver(IDependencyResolver resolver) => Resolver = resolver;

    public IDependencyResolver Resolver { get; }

    public static DependencyResolver For(ActorSystem actorSystem) =>
        actorSystem.TryGetExtension<DependencyResolver>(out var resolver)
            ? resolver
            : throw new InvalidOperationException("Unable to resolve dependencies: the system was not made by AddAkka.");

    public Props Props<T>(params object[] args)
        where T : ActorBase => Resolver.Props<T>(args);

    public Props Props(Type type, params object[] args) => Resolver.Props(type, args);

    internal static DependencyResolver Install(ActorSystem system, IServiceProvider services) =>
        new Id(new ServiceProviderResolver(services)).Get(system);

    private sealed class Id(IDependencyResolver resolver) : ExtensionIdProvider<DependencyResolver>
    {
        public override DependencyResolver CreateExtension(ExtendedActorSystem system) => new(resolver);
    }

    private sealed class ServiceProviderResolver(IServiceProvider services) : IDependencyResolver
    {
        public T GetService<T>() => services.GetService<T>();

        public object GetService(Type type) => services.GetService(type);

        public Props Props<T>(params object[] args)
            where T : ActorBase => Props(typeof(T), args);

        public Props Props(Type type, params object[] args) => Actor.Props.CreateBy(new Producer(services, type, args));
    }

    private sealed class Producer(IServiceProvider services, Type type, object[] args) : IIndirectActorProducer
    {
        public Type ActorType => type;

        public ActorBase Produce() => (ActorBase)ActivatorUtilities.CreateInstance(services, type, args);

        public void Release(ActorBase actor)
        {
        }
    }
}
