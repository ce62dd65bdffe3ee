// The ordered end of a system. Phases run one after another in the order their depends-on gives, the tasks of a phase in parallel. A run
// happens once: every later call gets the task of the first. A task that fails or outlasts its phase's timeout is logged and the run
// goes on (recover = on) or ends with the error (recover = off).
using Akka.Configuration;
using Akka.Event;

namespace Akka.Actor;

public sealed class CoordinatedShutdown : IExtension
{
    public const string PhaseBeforeServiceUnbind = "before-service-unbind";
    public const string PhaseServiceUnbind = "service-unbind";
    public const string PhaseServiceRequestsDone = "service-requests-done";
    public const string PhaseServiceStop = "service-stop";
    public const string PhaseBeforeClusterShutdown = "before-cluster-shutdown";
    public const string PhaseClusterShardingShutdownRegion = "cluster-sharding-shutdown-region";
    public const string PhaseClusterLeave = "cluster-leave";
    public const string PhaseClusterExiting = "cluster-exiting";
    public const string PhaseClusterExitingDone = "cluster-exiting-done";
    public const string PhaseClusterShutdown = "cluster-shutdown";
    public const string PhaseBeforeActorSystemTerminate = "before-actor-system-terminate";
    public const string PhaseActorSystemTerminate = "actor-system-terminate";

    private readonly Lock _gate = new();
    private readonly Dictionary<string, Phase> _phases;
    private readonly List<string> _order;
    private readonly Dictionary<string, List<(string Name, Func<Task<Done>> Work)>> _tasks = [];
    private readonly ILoggingAdapter _log;
    private Task<Done> _run;

    private CoordinatedShutdown(ActorSystemImpl system)
    {
        System = system;
        _log = new BusLogging(system.EventStream, nameof(CoordinatedShutdown), typeof(CoordinatedShutdown), system.Log);
        var config = system.Settings.Config.GetConfig("akka.coordinated-shutdown");
        var terminate = config.GetBoolean("terminate-actor-system", true);
        if (!terminate && config.GetBoolean("run-by-actor-system-terminate", true))
        {
            throw new ConfigurationException(
                "akka.coordinated-shutdown.run-by-actor-system-terminate must be off when terminate-actor-system is off.");
        }

        _phases = config.KeysOf("phases").ToDictionary(
            name => name,
            name =>
            {
                var own = config.GetConfig($"phases.\"{name}\"");
                return new Phase(
                    own.GetStringList("depends-on"),
                    own.GetTimeSpan("timeout", config.GetTimeSpan("default-phase-timeout")),
                    own.GetBoolean("recover", true));
            });
        _order = Sort(_phases);
        AddSystemTermination(system, terminate, config.GetBoolean("exit-clr"));
        if (config.GetBoolean("run-by-clr-shutdown-hook", true))
        {
            void OnExit(object sender, EventArgs e)
            {
                try
                {
                    Run(ClrExitReason.Instance).Wait(TotalTimeout);
                }
                catch (AggregateException error)
                {
                    _log.Warning(error.InnerException, "CoordinatedShutdown from process exit failed.");
                }
            }

            AppDomain.CurrentDomain.ProcessExit += OnExit;
            system.RegisterOnTermination(() => AppDomain.CurrentDomain.ProcessExit -= OnExit);
        }
    }

    public ExtendedActorSystem System { get; }

    /// <summary>Why the run was started; null before.</summary>
    public Reason ShutdownReason { get; private set; }

    public TimeSpan TotalTimeout => _order.Where(Known).Aggregate(TimeSpan.Zero, (sum, phase) => sum + _phases[phase].Timeout);

    public static CoordinatedShutdown Get(ActorSystem sys) => new Id().Get(sys);

    public TimeSpan Timeout(string phase) => _phases.TryGetValue(phase, out var known) ? known.Timeout : throw Unknown(phase);

    public void AddTask(string phase, string taskName, Func<Task<Done>> task)
    {
        if (!Known(phase))
        {
            throw Unknown(phase);
        }

        lock (_gate)
        {
            if (!_tasks.TryGetValue(phase, out var tasks))
            {
                _tasks[phase] = tasks = [];
            }

            tasks.Add((taskName, task));
        }
    }

    public Task<Done> Run(Reason reason, string fromPhase = null)
    {
        if (fromPhase is not null && !Known(fromPhase))
        {
            throw Unknown(fromPhase);
        }

        lock (_gate)
        {
            if (_run is null)
            {
                ShutdownReason = reason;
                var phases = fromPhase is null ? _order : _order.Skip(_order.IndexOf(fromPhase)).ToList();
                _run = Task.Run(() => RunPhases(phases));
            }

            return _run;
        }
    }

    private static List<string> Sort(Dictionary<string, Phase> phases)
    {
        var order = new List<string>();
        var open = new HashSet<string>();
        void Visit(string name)
        {
            if (order.Contains(name))
            {
                return;
            }

            if (!open.Add(name))
            {
                throw new ArgumentException(
                    $"Cycle detected in graph of phases. It must be a DAG. Phase [{name}] depends transitively on itself.");
            }

            if (phases.TryGetValue(name, out var phase))
            {
                foreach (var earlier in phase.DependsOn)
                {
                    Visit(earlier);
                }
            }

            order.Add(name);
        }

        foreach (var name in phases.Keys)
        {
            Visit(name);
        }

        return order;
    }

    private static ConfigurationException Unknown(string phase) =>
        new($"Unknown phase [{phase}]. All phases (along with their optional dependencies) must be defined in configuration.");

    private bool Known(string phase) => _phases.ContainsKey(phase);

    private void AddSystemTermination(ActorSystemImpl system, bool terminate, bool exit)
    {
        AddTask(PhaseActorSystemTerminate, "terminate-system", async () =>
        {
            if (terminate)
            {
                await system.FinalTerminate().ConfigureAwait(false);
            }

            if (exit)
            {
                _ = Task.Run(() => Environment.Exit(0));
            }

            return Done.Instance;
        });
    }

    private async Task<Done> RunPhases(List<string> phases)
    {
        foreach (var name in phases)
        {
            (string Name, Func<Task<Done>> Work)[] tasks;
            lock (_gate)
            {
                tasks = _tasks.TryGetValue(name, out var added) ? [.. added] : [];
            }

            if (tasks.Length == 0)
            {
                continue;
            }

            var phase = _phases[name];
            _log.Debug("Performing phase [{0}] with [{1}] tasks.", name, tasks.Length);
            await Task.WhenAll(tasks.Select(task => RunTask(name, phase, task.Name, task.Work))).ConfigureAwait(false);
        }

        return Done.Instance;
    }

    private async Task RunTask(string phaseName, Phase phase, string name, Func<Task<Done>> work)
    {
        try
        {
            // The body starts on the pool, so that one that blocks before its first await delays no other task of the phase.
            await Task.Run(work).WaitAsync(phase.Timeout).ConfigureAwait(false);
        }
        catch (TimeoutException error)
        {
            _log.Warning("Task [{0}] in phase [{1}] timed out after {2} ms.", name, phaseName, phase.Timeout.TotalMilliseconds);
            if (!phase.Recover)
            {
                throw new TimeoutException($"Coordinated shutdown phase [{phaseName}] timed out after {phase.Timeout}", error);
            }
        }
        catch (Exception error) when (phase.Recover)
        {
            _log.Warning("Task [{0}] in phase [{1}] failed: {2}", name, phaseName, error.Message);
        }
    }

    private sealed record Phase(IList<string> DependsOn, TimeSpan Timeout, bool Recover);

    private sealed class Id : ExtensionIdProvider<CoordinatedShutdown>
    {
        public override CoordinatedShutdown CreateExtension(ExtendedActorSystem system) => new((ActorSystemImpl)system);
    }

    public class Reason
    {
        protected Reason()
        {
        }
    }

    public class UnknownReason : Reason
    {
        public static readonly Reason Instance = new UnknownReason();
    }

    public class ActorSystemTerminateReason : Reason
    {
        public static readonly Reason Instance = new ActorSystemTerminateReason();
    }

    public class ClrExitReason : Reason
    {
        public static readonly Reason Instance = new ClrExitReason();
    }

    public class ClusterDowningReason : Reason
    {
        public static readonly Reason Instance = new ClusterDowningReason();
    }

    public class ClusterLeavingReason : Reason
    {
        public static readonly Reason Instance = new ClusterLeavingReason();
    }

    public class ClusterJoinUnsuccessfulReason : Reason
    {
        public static readonly Reason Instance = new ClusterJoinUnsuccessfulReason();
    }
}
