// AddAkka and what its delegate can say, and the hosted service that starts the system with the host and ends it with the host.
using System.Globalization;
using Akka.Actor;
using Akka.Configuration;
using Akka.DependencyInjection;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Akka.Hosting;

public static class AkkaHostingExtensions
{
    public static IServiceCollection AddAkka(
        this IServiceCollection services, string actorSystemName, Action<AkkaConfigurationBuilder> builder) =>
        services.AddAkka(actorSystemName, (configuration, _) => builder(configuration));

    public static IServiceCollection AddAkka(
        this IServiceCollection services, string actorSystemName, Action<AkkaConfigurationBuilder, IServiceProvider> builder)
    {
        services.AddSingleton(provider =>
        {
            var configuration = new AkkaConfigurationBuilder(services, actorSystemName);
            builder(configuration, provider);
            return configuration;
        });
        services.AddSingleton(provider => provider.GetRequiredService<AkkaConfigurationBuilder>().Build(provider));
        services.AddSingleton(provider => ActorRegistry.For(provider.GetRequiredService<ActorSystem>()));
        services.AddSingleton<IActorRegistry>(provider => provider.GetRequiredService<ActorRegistry>());
        services.AddSingleton<IReadOnlyActorRegistry>(provider => provider.GetRequiredService<ActorRegistry>());
        services.AddSingleton(typeof(IRequiredActor<>), typeof(RequiredActor<>));
        services.AddHostedService<AkkaHostedService>();
        return services;
    }

    public static AkkaConfigurationBuilder AddHocon(this AkkaConfigurationBuilder builder, Config hocon, HoconAddMode addMode) =>
        builder.AddConfiguration(hocon, addMode);

    public static AkkaConfigurationBuilder WithActorAskTimeout(this AkkaConfigurationBuilder builder, TimeSpan timeout)
    {
        var text = timeout == Timeout.InfiniteTimeSpan
            ? "infinite"
            : timeout.TotalMilliseconds.ToString(CultureInfo.InvariantCulture) + "ms";
        return builder.AddConfiguration(ConfigurationFactory.ParseString($"akka.actor.ask-timeout = {text}"), HoconAddMode.Prepend);
    }

    public static AkkaConfigurationBuilder WithActors(
        this AkkaConfigurationBuilder builder, Action<ActorSystem, IActorRegistry> actorStarter) =>
        builder.StartActors(actorStarter);

    public static AkkaConfigurationBuilder WithActors(
        this AkkaConfigurationBuilder builder, Action<ActorSystem, IActorRegistry, IDependencyResolver> actorStarter) =>
        builder.StartActors(actorStarter);

    public static AkkaConfigurationBuilder WithActors(this AkkaConfigurationBuilder builder, ActorStarter actorStarter) =>
        builder.StartActors(actorStarter);

    public static AkkaConfigurationBuilder WithActors(this AkkaConfigurationBuilder builder, ActorStarterWithResolver actorStarter) =>
        builder.StartActors(actorStarter);
}

public static class LoggingExtensions
{
    public static AkkaConfigurationBuilder ConfigureLoggers(this AkkaConfigurationBuilder builder, Action<LoggerConfigBuilder> configurator)
    {
        var loggers = new LoggerConfigBuilder();
        configurator(loggers);
        return loggers.Build(builder);
    }

    /// <summary>Sends log events to the logger factory of the host.</summary>
    public static LoggerConfigBuilder AddLoggerFactory(this LoggerConfigBuilder configBuilder) =>
        configBuilder.AddFactory(services => services.GetRequiredService<ILoggerFactory>());

    public static LoggerConfigBuilder AddLoggerFactory(this LoggerConfigBuilder configBuilder, ILoggerFactory loggerFactory) =>
        configBuilder.AddFactory(_ => loggerFactory);
}

public class AkkaHostedService : IHostedService
{
    private readonly AkkaConfigurationBuilder _configuration;
    private readonly IServiceProvider _services;
    private readonly IHostApplicationLifetime _lifetime;
    private readonly ILogger<AkkaHostedService> _log;
    private ActorSystem _system;

    public AkkaHostedService(
        AkkaConfigurationBuilder configurationBuilder,
        IServiceProvider serviceProvider,
        ILogger<AkkaHostedService> logger,
        IHostApplicationLifetime applicationLifetime = null)
    {
        _configuration = configurationBuilder;
        _services = serviceProvider;
        _lifetime = applicationLifetime;
        _log = logger;
    }

    public virtual async Task StartAsync(CancellationToken cancellationToken)
    {
        try
        {
            _system = _services.GetRequiredService<ActorSystem>();
            _ = StopHostWithSystem();
            await _configuration.StartAsync(_system).ConfigureAwait(false);
        }
        catch (Exception error)
        {
            _log.LogCritical(error, "Unable to start the actor system.");
            throw;
        }
    }

    public virtual async Task StopAsync(CancellationToken cancellationToken)
    {
        if (_system is not null)
        {
            var run = CoordinatedShutdown.Get(_system).Run(CoordinatedShutdown.ClrExitReason.Instance);
            await run.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    private async Task StopHostWithSystem()
    {
        try
        {
            await _system.WhenTerminated.ConfigureAwait(false);
        }
        finally
        {
            // A node that was thrown out of its cluster must not look like one that ended well.
            if (CoordinatedShutdown.Get(_system).ShutdownReason
                is CoordinatedShutdown.ClusterDowningReason or CoordinatedShutdown.ClusterLeavingReason)
            {
                Environment.ExitCode = -1;
            }

            _lifetime?.StopApplication();
        }
    }
}
