// Collects what AddAkka's delegate says and makes the one actor system of a container from it. Nothing happens before the system is first
// asked for; then: configuration, system, starters in order, start-up tasks in order.
using Akka.Actor;
using Akka.Configuration;
using Akka.DependencyInjection;
using Akka.Event;
using Akka.Util;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using LogLevel = Akka.Event.LogLevel;

namespace Akka.Hosting;

public enum HoconAddMode
{
    Append,
    Prepend,
    Replace,
}

public delegate Task ActorStarter(ActorSystem system, IActorRegistry registry);

public delegate Task ActorStarterWithResolver(ActorSystem system, IActorRegistry registry, IDependencyResolver resolver);

public delegate Task StartupTask(ActorSystem system, IActorRegistry registry);

public sealed class AkkaConfigurationBuilder
{
    private readonly string _systemName;
    private readonly List<ActorStarterWithResolver> _starters = [];
    private readonly List<StartupTask> _startupTasks = [];
    private readonly List<IExtensionId> _extensions = [];
    private readonly List<Func<IServiceProvider, Action<LogEvent>>> _sinks = [];
    private bool _consoleLogging = true;

    public AkkaConfigurationBuilder(IServiceCollection serviceCollection, string actorSystemName)
    {
        ArgumentNullException.ThrowIfNull(serviceCollection);
        _systemName = actorSystemName;
    }

    public Option<Config> Configuration { get; private set; } = Option<Config>.None;

    public AkkaConfigurationBuilder StartActors(Action<ActorSystem, IActorRegistry> starter)
    {
        _starters.Add((system, registry, _) =>
        {
            starter(system, registry);
            return Task.CompletedTask;
        });
        return this;
    }

    public AkkaConfigurationBuilder StartActors(Action<ActorSystem, IActorRegistry, IDependencyResolver> starter)
    {
        _starters.Add((system, registry, resolver) =>
        {
            starter(system, registry, resolver);
            return Task.CompletedTask;
        });
        return this;
    }

    public AkkaConfigurationBuilder StartActors(ActorStarter starter)
    {
        _starters.Add((system, registry, _) => starter(system, registry));
        return this;
    }

    public AkkaConfigurationBuilder StartActors(ActorStarterWithResolver starter)
    {
        _starters.Add(starter);
        return this;
    }

    public AkkaConfigurationBuilder AddStartup(Action<ActorSystem, IActorRegistry> startupTask) => AddStartup((system, registry) =>
    {
        startupTask(system, registry);
        return Task.CompletedTask;
    });

    public AkkaConfigurationBuilder AddStartup(StartupTask startupTask)
    {
        _startupTasks.Add(startupTask);
        return this;
    }

    public AkkaConfigurationBuilder WithExtension<T>()
        where T : IExtensionId
    {
        _extensions.Add((IExtensionId)Activator.CreateInstance(typeof(T)));
        return this;
    }

    internal AkkaConfigurationBuilder AddConfiguration(Config hocon, HoconAddMode mode)
    {
        var before = Configuration.GetOrElse(Config.Empty);
        Configuration = new Option<Config>(mode switch
        {
            HoconAddMode.Append => before.WithFallback(hocon),
            HoconAddMode.Prepend => hocon.WithFallback(before),
            _ => hocon,
        });
        return this;
    }

    internal void SetLoggers(bool console, IEnumerable<Func<IServiceProvider, Action<LogEvent>>> sinks)
    {
        _consoleLogging = console;
        _sinks.Clear();
        _sinks.AddRange(sinks);
    }

    internal ActorSystem Build(IServiceProvider services)
    {
        var system = ActorSystem.Prepare(_systemName, Configuration.GetOrElse(Config.Empty));
        var sinks = _sinks.ConvertAll(make => make(services));
        if (_consoleLogging)
        {
            sinks.Add(system.EventStream.LogSink);
        }

        system.EventStream.LogSink = entry => sinks.ForEach(sink => sink(entry));
        ActorRegistry.For(system);
        DependencyResolver.Install(system, services);
        system.Start();
        _extensions.ForEach(extension => system.RegisterExtension(extension));
        return system;
    }

    internal async Task StartAsync(ActorSystem system)
    {
        var registry = ActorRegistry.For(system);
        var resolver = DependencyResolver.For(system).Resolver;
        foreach (var starter in _starters)
        {
            await starter(system, registry, resolver).ConfigureAwait(false);
        }

        foreach (var task in _startupTasks)
        {
            await task(system, registry).ConfigureAwait(false);
        }
    }
}

/// <summary>Which loggers a hosted system has. It starts with the console logger.</summary>
public sealed class LoggerConfigBuilder
{
    private readonly List<Func<IServiceProvider, Action<LogEvent>>> _sinks = [];
    private bool _console = true;

    internal LoggerConfigBuilder()
    {
    }

    public LogLevel LogLevel { get; set; } = LogLevel.InfoLevel;

    public LoggerConfigBuilder ClearLoggers()
    {
        _console = false;
        _sinks.Clear();
        return this;
    }

    internal LoggerConfigBuilder AddFactory(Func<IServiceProvider, ILoggerFactory> factoryOf)
    {
        _sinks.Add(services =>
        {
            var factory = factoryOf(services);
            return entry => Write(factory, entry);
        });
        return this;
    }

    internal AkkaConfigurationBuilder Build(AkkaConfigurationBuilder builder)
    {
        builder.SetLoggers(_console, _sinks);
        var level = LogLevel.ToString().Replace("Level", "", StringComparison.Ordinal);
        return builder.AddConfiguration(ConfigurationFactory.ParseString($"akka.loglevel = {level}"), HoconAddMode.Prepend);
    }

    private static void Write(ILoggerFactory factory, LogEvent entry)
    {
        var level = entry.LogLevel() switch
        {
            LogLevel.DebugLevel => Microsoft.Extensions.Logging.LogLevel.Debug,
            LogLevel.InfoLevel => Microsoft.Extensions.Logging.LogLevel.Information,
            LogLevel.WarningLevel => Microsoft.Extensions.Logging.LogLevel.Warning,
            _ => Microsoft.Extensions.Logging.LogLevel.Error,
        };
        var logger = factory.CreateLogger(entry.LogClass.FullName ?? entry.LogClass.Name);
        logger.Log(level, entry.Cause, "[{LogSource}] {Message}", entry.LogSource, entry.Message);
    }
}
