// AddAkka on a generic host: start order, registry, required actors, injected constructors, logging and shutdown.
using System.Collections.Concurrent;
using Akka;
using Akka.Actor;
using Akka.Cluster;
using Akka.Cluster.Hosting;
using Akka.DependencyInjection;
using Akka.Event;
using Akka.Hosting;
using Akka.Remote.Hosting;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Compat.Akka.Tests;

public sealed class HostingTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(15);

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    private static IHost Host(Action<AkkaConfigurationBuilder, IServiceProvider> akka, Action<IServiceCollection> services = null)
    {
        var builder = new HostApplicationBuilder();
        builder.Logging.ClearProviders();
        services?.Invoke(builder.Services);
        builder.Services.AddAkka("hosted", (configuration, provider) =>
        {
            configuration.AddHocon("akka.loglevel = OFF\nakka.stdout-loglevel = OFF", HoconAddMode.Prepend);
            akka(configuration, provider);
        });
        return builder.Build();
    }

    [Fact]
    public async Task The_host_starts_the_actors_and_its_end_runs_coordinated_shutdown()
    {
        var log = new ConcurrentQueue<string>();
        using var host = Host((akka, _) => akka
            .WithActors((system, registry) =>
            {
                log.Enqueue("first");
                registry.Register<Greeter>(system.ActorOf(Props.Create(() => new Greeter("hello")), "greeter"));
            })
            .WithActors(async (system, registry) =>
            {
                await Task.Yield();
                log.Enqueue("second");
            })
            .AddStartup((system, registry) => log.Enqueue("startup")));
        await host.StartAsync(Token);
        Assert.Equal(["first", "second", "startup"], log);
        var required = host.Services.GetRequiredService<IRequiredActor<Greeter>>();
        Assert.Equal("hello x", await required.ActorRef.Ask<string>("x", Patience));
        Assert.Same(required.ActorRef, await required.GetAsync(Token));
        var system = host.Services.GetRequiredService<ActorSystem>();
        Assert.Equal("hosted", system.Name);
        await host.StopAsync(Token);
        await system.WhenTerminated.WaitAsync(Patience, Token);
        Assert.Same(CoordinatedShutdown.ClrExitReason.Instance, CoordinatedShutdown.Get(system).ShutdownReason);
    }

    [Fact]
    public async Task A_hosted_node_joins_with_its_roles_and_leaves_with_the_host()
    {
        using var host = Host((akka, _) => akka
            .WithRemoting("127.0.0.1", 0)
            .WithClustering(new ClusterOptions
            {
                Roles = ["learner", "retriever"],
                MinimumNumberOfMembers = 1,
                MinimumNumberOfMembersPerRole = new Dictionary<string, int> { ["learner"] = 1 },
            }));
        await host.StartAsync(Token);
        var system = host.Services.GetRequiredService<ActorSystem>();
        var cluster = Cluster.Get(system);
        await cluster.JoinAsync(cluster.SelfAddress, Token).WaitAsync(Patience, Token);
        Assert.Equal(["learner", "retriever"], cluster.SelfRoles.Order());
        Assert.Equal("127.0.0.1", cluster.SelfAddress.Host);
        await host.StopAsync(Token);
        await system.WhenTerminated.WaitAsync(Patience, Token);
        Assert.True(cluster.IsTerminated);
    }

    [Fact]
    public async Task A_malformed_seed_is_refused_when_the_host_starts()
    {
        using var host = Host((akka, _) => akka
            .WithClustering(new ClusterOptions { SeedNodes = ["not an address"] })
            .WithRemoting("127.0.0.1", 0));
        await Assert.ThrowsAsync<UriFormatException>(() => host.StartAsync(Token));
    }

    [Fact]
    public async Task The_host_stops_when_its_system_ends()
    {
        using var host = Host((_, _) => { });
        await host.StartAsync(Token);
        var lifetime = host.Services.GetRequiredService<IHostApplicationLifetime>();
        var stopping = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        lifetime.ApplicationStopping.Register(() => stopping.SetResult());
        await host.Services.GetRequiredService<ActorSystem>().Terminate().WaitAsync(Patience, Token);
        await stopping.Task.WaitAsync(Patience, Token);
        await host.StopAsync(Token);
    }

    [Fact]
    public async Task Start_up_errors_reach_the_caller()
    {
        using var host = Host((akka, _) => akka.WithActors((_, _) => throw new InvalidTimeZoneException("x")));
        await Assert.ThrowsAsync<InvalidTimeZoneException>(() => host.StartAsync(Token));
        await host.Services.GetRequiredService<ActorSystem>().Terminate().WaitAsync(Patience, Token);
    }

    [Fact]
    public async Task Constructors_are_filled_from_the_container()
    {
        using var host = Host(
            (akka, _) => akka.WithActors(
                (system, registry, resolver) => registry.Register<Greeter>(system.ActorOf(resolver.Props<Greeter>()))),
            services => services.AddSingleton("injected"));
        await host.StartAsync(Token);
        Assert.Equal("injected x", await host.Services.GetRequiredService<IActorRegistry>().Get<Greeter>().Ask<string>("x", Patience));
        var system = host.Services.GetRequiredService<ActorSystem>();
        var made = system.ActorOf(DependencyResolver.For(system).Props<Greeter>("given"));
        Assert.Equal("given x", await made.Ask<string>("x", Patience));
        await host.StopAsync(Token);
    }

    [Fact]
    public async Task The_registry_keeps_one_reference_per_key_and_lets_others_wait()
    {
        var registry = new ActorRegistry();
        Assert.Throws<MissingActorRegistryEntryException>(() => registry.Get<Greeter>());
        Assert.False(registry.TryGet<Greeter>(out var missing));
        Assert.True(missing.IsNobody());
        var waiting = registry.GetAsync<Greeter>(Token);
        Assert.False(waiting.IsCompleted);
        using var system = ActorSystem.Create("registry", "akka.loglevel = OFF\nakka.stdout-loglevel = OFF");
        var actor = system.ActorOf(Props.Create(() => new Greeter("a")));
        registry.Register<Greeter>(actor);
        Assert.Equal(actor, await waiting.WaitAsync(Patience, Token));
        Assert.Throws<DuplicateActorRegistryException>(() => registry.Register<Greeter>(actor));
        registry.Register<Greeter>(system.DeadLetters, overwrite: true);
        Assert.Equal(system.DeadLetters, registry.Get<Greeter>());
    }

    [Fact]
    public async Task Log_lines_go_to_the_logger_factory_of_the_host()
    {
        var lines = new LineLog();
        using var host = Host(
            (akka, _) => akka.ConfigureLoggers(loggers =>
            {
                loggers.LogLevel = global::Akka.Event.LogLevel.WarningLevel;
                loggers.ClearLoggers();
                loggers.AddLoggerFactory();
            }),
            services => services.AddLogging(logging => logging.AddProvider(lines)));
        await host.StartAsync(Token);
        var log = host.Services.GetRequiredService<ActorSystem>().Log;
        log.Info("quiet");
        log.Warning("loud {0}", 1);
        Assert.True(SpinWait.SpinUntil(() => lines.Lines.Any(line => line.Contains("loud 1", StringComparison.Ordinal)), Patience));
        Assert.DoesNotContain(lines.Lines, line => line.Contains("quiet", StringComparison.Ordinal));
        await host.StopAsync(Token);
    }

    private sealed class Greeter : ReceiveActor
    {
        public Greeter(string greeting) => Receive<string>(name => Sender.Tell($"{greeting} {name}"));
    }

    private sealed class LineLog : ILoggerProvider, ILogger
    {
        public ConcurrentQueue<string> Lines { get; } = new();

        public ILogger CreateLogger(string categoryName) => this;

        public IDisposable BeginScope<TState>(TState state) => null;

        public bool IsEnabled(Microsoft.Extensions.Logging.LogLevel logLevel) => true;

        public void Log<TState>(
            Microsoft.Extensions.Logging.LogLevel logLevel,
            EventId eventId,
            TState state,
            Exception exception,
            Func<TState, Exception, string> formatter) =>
            Lines.Enqueue(formatter(state, exception));

        public void Dispose()
        {
        }
    }
}
