// The local actor system. Ends in this order: coordinated shutdown, /user, /system, root, termination callbacks (last registered
// first), scheduler and dispatchers; only then WhenTerminated completes.
using System.Collections.Concurrent;
using Akka.Configuration;
using Akka.Dispatch;
using Akka.Event;
using Akka.Remote;

namespace Akka.Actor;

internal sealed class ActorSystemImpl : ExtendedActorSystem
{
    private readonly TaskCompletionSource _terminated = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly ConcurrentDictionary<Type, Lazy<object>> _extensions = new();
    private readonly Stack<Action> _callbacks = new();
    private readonly Lock _callbackGate = new();
    private readonly DeadLetterLog _deadLetterLog;
    private bool _callbacksRan;

    internal ActorSystemImpl(string name, Config config)
    {
        Name = name;
        Settings = new Settings(config.WithFallback(Defaults.Config));
        AskTimeout = Settings.Config.GetTimeSpan("akka.actor.ask-timeout", Timeout.InfiniteTimeSpan);
        EventStream = new EventStream();
        Log = new BusLogging(
            EventStream, $"ActorSystem({name})", typeof(ActorSystem), Logging.LevelFor(Settings.Config.GetString("akka.loglevel")));
        _deadLetterLog = new DeadLetterLog(Settings.Config, Log);
        Deployment = new Deployment(Settings.Config);
        Dispatchers = new Dispatchers(Settings.Config);
        Mailboxes = new Mailboxes(Settings.Config);
        SchedulerImpl = new SystemScheduler(error => Log.Error(error, "DefaultScheduler: scheduled work failed."));
        LocalProvider = MakeProvider(Settings.Config.GetString("akka.actor.provider"));
        EventStream.StartUnsubscriber(LocalProvider);

        // A level the user set is what he wants to see; the default level would fill the console.
        var printed = Logging.LevelFor(
            Settings.Config.GetString(config.HasPath("akka.loglevel") ? "akka.loglevel" : "akka.stdout-loglevel"));
        var silent = Settings.Config.GetStringList("akka.loggers").Count == 0;
        EventStream.LogSink = entry =>
        {
            if (!silent && entry.LogLevel() >= printed)
            {
                Console.WriteLine(entry);
            }
        };
    }

    public override Settings Settings { get; }

    public override string Name { get; }

    public override EventStream EventStream { get; }

    public override IActorRef DeadLetters => LocalProvider.DeadLetters;

    public override Dispatchers Dispatchers { get; }

    public override IScheduler Scheduler => SchedulerImpl;

    public override ILoggingAdapter Log { get; }

    public override Task WhenTerminated => _terminated.Task;

    public override IActorRefProvider Provider => LocalProvider;

    internal LocalActorRefProvider LocalProvider { get; }

    internal SystemScheduler SchedulerImpl { get; }

    internal Mailboxes Mailboxes { get; }

    internal Deployment Deployment { get; }

    internal TimeSpan AskTimeout { get; }

    internal bool HasCluster { get; private set; }

    public override object GetExtension(IExtensionId extensionId) => RegisterExtension(extensionId);

    public override T GetExtension<T>() => TryGetExtension<T>(out var extension) ? extension : null;

    public override bool TryGetExtension<T>(out T extension)
    {
        extension = _extensions.TryGetValue(typeof(T), out var made) ? (T)made.Value : null;
        return extension is not null;
    }

    public override object RegisterExtension(IExtensionId extension)
    {
        // One that failed to start keeps failing with the same exception.
        var made = _extensions.GetOrAdd(
            extension.ExtensionType,
            _ => new Lazy<object>(() => extension.CreateExtension(this), LazyThreadSafetyMode.ExecutionAndPublication));
        return made.Value;
    }

    public override void RegisterOnTermination(Action code)
    {
        lock (_callbackGate)
        {
            if (_callbacksRan)
            {
                throw new InvalidOperationException("ActorSystem already terminated.");
            }

            _callbacks.Push(code);
        }
    }

    public override Task Terminate()
    {
        if (Settings.Config.GetBoolean("akka.coordinated-shutdown.run-by-actor-system-terminate", true))
        {
            return CoordinatedShutdown.Get(this).Run(CoordinatedShutdown.ActorSystemTerminateReason.Instance);
        }

        return FinalTerminate();
    }

    public override void Stop(IActorRef actor)
    {
        var target = (InternalActorRefBase)actor;
        if (target.Parent is LocalActorRef parent && (
            ReferenceEquals(parent, LocalProvider.Guardian) || ReferenceEquals(parent, LocalProvider.SystemGuardian)))
        {
            parent.Cell.Stop(target);
        }
        else
        {
            target.Stop();
        }
    }

    public override IActorRef ActorOf(Props props, string name = null) => LocalProvider.Guardian.Cell.ActorOf(props, name);

    public override ActorSelection ActorSelection(ActorPath actorPath) => LocalProvider.Select(LocalProvider.Root, actorPath.ToString());

    public override ActorSelection ActorSelection(string actorPath) => LocalProvider.Select(LocalProvider.Root, actorPath);

    public override string ToString() => LocalProvider.RootPath.Address.ToString();

    internal void Start()
    {
        LocalProvider.Start(GuardianStrategy(), OnRootTerminated);
        CoordinatedShutdown.Get(this);
        if (HasCluster)
        {
            Cluster.Cluster.Get(this);
        }
    }

    /// <summary>Ends the actors, without the phases of coordinated shutdown.</summary>
    internal Task FinalTerminate()
    {
        LocalProvider.Guardian.Stop();
        return WhenTerminated;
    }

    internal void PublishDeadLetter(object message, IActorRef sender, IActorRef recipient)
    {
        sender ??= DeadLetters;
        switch (message)
        {
            case AllDeadLetters letter:
                EventStream.Publish(letter);
                break;
            case ActorSelectionMessage selection:
                PublishDeadLetter(selection.Message, sender, recipient);
                break;
            case Identify identify:
                sender.Tell(new ActorIdentity(identify.MessageId, null), ActorRefs.NoSender);
                break;
            case TimerTick tick:
                PublishDeadLetter(tick.Message, sender, recipient);
                break;
            case IDeadLetterSuppression suppressed:
                EventStream.Publish(new SuppressedDeadLetter(suppressed, sender, recipient));
                break;
            default:
                var undelivered = new DeadLetter(message, sender, recipient);
                EventStream.Publish(undelivered);
                _deadLetterLog.Note(undelivered);
                break;
        }
    }

    private LocalActorRefProvider MakeProvider(string name)
    {
        switch (name)
        {
            case "local" or "Akka.Actor.LocalActorRefProvider":
                return new LocalActorRefProvider(this);
            case "remote" or "Akka.Remote.RemoteActorRefProvider, Akka.Remote":
                return new RemoteActorRefProvider(this);
            case "cluster" or "Akka.Cluster.ClusterActorRefProvider, Akka.Cluster":
                HasCluster = true;
                return new RemoteActorRefProvider(this);
            default:
                throw new ConfigurationException($"akka.actor.provider is [{name}]; it must be local, remote or cluster.");
        }
    }

    private SupervisorStrategy GuardianStrategy() => Settings.Config.GetString("akka.actor.guardian-supervisor-strategy") switch
    {
        "Akka.Actor.StoppingSupervisorStrategy" => SupervisorStrategy.StoppingStrategy,
        "Akka.Actor.DefaultSupervisorStrategy" => SupervisorStrategy.DefaultStrategy,
        var name when Type.GetType(name) is { } type && Activator.CreateInstance(type) is SupervisorStrategyConfigurator made =>
            made.Create(),
        var name => throw new ConfigurationException($"akka.actor.guardian-supervisor-strategy names the unknown type [{name}]."),
    };

    private void OnRootTerminated()
    {
        // Not on the root's own thread: callbacks are user code and may block.
        _ = Task.Run(() =>
        {
            Exception firstError = null;
            while (NextCallback() is { } callback)
            {
                try
                {
                    callback();
                }
                catch (Exception error)
                {
                    firstError ??= error;
                }
            }

            SchedulerImpl.Shutdown();
            Dispatchers.Shutdown();
            if (firstError is null)
            {
                _terminated.TrySetResult();
            }
            else
            {
                _terminated.TrySetException(firstError);
            }
        });
    }

    private Action NextCallback()
    {
        lock (_callbackGate)
        {
            if (_callbacks.TryPop(out var callback))
            {
                return callback;
            }

            _callbacksRan = true;
            return null;
        }
    }
}

public abstract class SupervisorStrategyConfigurator
{
    public abstract SupervisorStrategy Create();
}
