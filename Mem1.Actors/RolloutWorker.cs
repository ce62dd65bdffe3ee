// Invariants:
//  * Completion ends exactly once, after the actors, the engine and the channel are gone: normally after a drain or a stop, with a
//    RolloutWorkerException when the worker cannot go on.
using Akka.Actor;
using Akka.Configuration;
using Grpc.Net.Client;
using Mem1.Environments;
using Mem1.Model;
using Mem1.Protocol;
using Mem1.Protocol.Security;
using Mem1.Protocol.V1;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace Mem1.Actors;

/// <summary>A rollout worker: plays the episodes a learner leases to it and streams every turn back.</summary>
public sealed class RolloutWorker : IAsyncDisposable
{
    private const string SerialDispatcher = "mem1-serial";
    private const string PolicyDispatcher = "mem1-policy";

    // Weights come in chunks chosen by the learner; 16 MiB holds any sensible one and still bounds what one message can claim.
    private const int MaxMessageBytes = 16 << 20;

    // Pings find a learner that vanished without closing its connection; half a minute is far below any lease's life.
    private static readonly TimeSpan KeepAliveDelay = TimeSpan.FromSeconds(20);
    private static readonly TimeSpan KeepAliveTimeout = TimeSpan.FromSeconds(10);

    // Decoding keeps one thread busy, so the policy has its own. Akka's logging is off: actors log through ILogger. Process exit is the
    // host's business. A failed root is restarted by the default guardian; RolloutSupervisor.PreRestart ends the worker instead.
    private static readonly Config Settings = ConfigurationFactory.ParseString(
        """
        akka {
          loglevel = OFF
          stdout-loglevel = OFF
          log-dead-letters = off
          log-dead-letters-during-shutdown = off
          actor.provider = local
          coordinated-shutdown.run-by-clr-shutdown-hook = off
        }
        mem1-policy { type = PinnedDispatcher, executor = fork-join-executor, throughput = 1 }
        mem1-serial { type = ForkJoinDispatcher, throughput = 1, dedicated-thread-pool { thread-count = 1, threadtype = background } }
        """);

    private readonly IActorRef _supervisor;
    private readonly RolloutTelemetry _telemetry;

    private RolloutWorker(string workerId, IActorRef supervisor, RolloutTelemetry telemetry, Task completion)
    {
        WorkerId = workerId;
        _supervisor = supervisor;
        _telemetry = telemetry;
        Completion = completion;
    }

    /// <summary>
    /// Ends when the worker has left: normally after a drain (the learner's or the owner's) or a stop, with a
    /// <see cref="RolloutWorkerException"/> when it was refused or failed too often.
    /// </summary>
    public Task Completion { get; }

    /// <summary>What the worker has done so far.</summary>
    public RolloutCounters Counters => _telemetry.Snapshot();

    /// <summary>The worker's name.</summary>
    public string WorkerId { get; }

    /// <summary>Its actors: the supervisor, the policy, the uplink, and the episodes that run or have ended lately.</summary>
    public IReadOnlyList<ActorStatus> Actors => _telemetry.Board.Snapshot();

    /// <summary>Starts a worker. It returns at once; the worker connects, and reconnects, on its own.</summary>
    /// <param name="options">Settings.</param>
    /// <param name="environments">Makes the environments of the leases.</param>
    /// <param name="tokenizer">The model's tokenizer.</param>
    /// <param name="engineFactory">Makes an engine from weights and their version; called again after a crash.</param>
    /// <param name="weightsParser">Reads the learner's weights (a safetensors file) from a stream that knows its length.</param>
    /// <param name="loggerFactory">Where to log; nowhere if null.</param>
    /// <param name="time">The clock; the system's if null.</param>
    /// <param name="jitter">Randomness of back-off waits, used by one thread; seeded by the system if null.</param>
    /// <param name="cluster">
    /// Joins the cluster the learner tells of, and reports this worker's actors there; the caller's to dispose of. Null to stay out.
    /// </param>
    /// <exception cref="RolloutWorkerException">The options contradict themselves or the environment.</exception>
    public static Task<RolloutWorker> StartAsync(
        RolloutWorkerOptions options,
        IEnvironmentFactory environments,
        ITokenizer tokenizer,
        Func<ModelWeights, long, IGenerationEngine> engineFactory,
        Func<Stream, ModelWeights> weightsParser,
        ILoggerFactory? loggerFactory = null,
        TimeProvider? time = null,
        Random? jitter = null,
        ClusterNode? cluster = null)
    {
        var loggers = loggerFactory ?? NullLoggerFactory.Instance;
        var clock = time ?? TimeProvider.System;
        var problems = options.Validate().ToList();
        var closing = tokenizer.Encode(environments.ObservationEnd).Length;
        if (options.MaxObservationTokens <= closing)
        {
            problems.Add($"MaxObservationTokens is {options.MaxObservationTokens}; the tag {environments.ObservationEnd} alone takes " +
                $"{closing} tokens.");
        }
        if (problems.Count > 0)
            throw new RolloutWorkerException(string.Join(Environment.NewLine, problems));

        var telemetry = new RolloutTelemetry(options.WorkerId);
        var address = new Uri(options.LearnerAddress);
        var (channel, invoker) = LearnerChannel.Open(
            address, options.Security, new GrpcChannelOptions { MaxReceiveMessageSize = MaxMessageBytes },
            new SocketsHttpHandler
            {
                EnableMultipleHttp2Connections = true,
                KeepAlivePingDelay = KeepAliveDelay,
                KeepAlivePingTimeout = KeepAliveTimeout,
            });
        var completion = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var services = new SupervisorServices(
            new EpisodeServices(options, environments, tokenizer, telemetry, clock, loggers),
            new UplinkServices(
                options, new LearnerService.LearnerServiceClient(invoker),
                (request, cancellation) => DirectWeights.OpenAsync(address, options.Security, request, cancellation),
                weightsParser, telemetry, clock, jitter ?? new Random(), loggers, cluster),
            engineFactory,
            options.Serial ? SerialDispatcher : null,
            options.Serial ? SerialDispatcher : PolicyDispatcher,
            completion);

        cluster?.Report(options.WorkerId, telemetry.Board.Snapshot);
        if (cluster is not null) telemetry.Board.Failing += cluster.ReportSoon;
        var system = ActorSystem.Create("mem1-rollout", Settings);
        var props = Props.Create(() => new RolloutSupervisor(services));
        var supervisor = system.ActorOf(options.Serial ? props.WithDispatcher(SerialDispatcher) : props, "rollout");
        return Task.FromResult(new RolloutWorker(
            options.WorkerId, supervisor, telemetry, RunAsync(system, channel, telemetry, completion.Task)));
    }

    /// <summary>Stops the worker and waits until it has left.</summary>
    /// <param name="drain">
    /// True: take no more leases, finish the running episodes, wait for their acknowledgements. False: hand the running episodes back.
    /// </param>
    public Task StopAsync(bool drain = true)
    {
        const string reason = "it was told to stop.";
        _supervisor.Tell(drain ? new Drain(reason) : new StopNow(reason), ActorRefs.NoSender);
        return Completion;
    }

    /// <summary>
    /// Stops the worker between two turns: takes no more leases, finishes the turn under way of every episode, waits for the acknowledgements,
    /// hands the episodes back, so that others go on from those turns, and leaves. <see cref="StopAsync"/> with false cuts it short.
    /// </summary>
    public Task HandBackAsync()
    {
        _supervisor.Tell(new HandBack("it was told to stop."), ActorRefs.NoSender);
        return Completion;
    }

    /// <summary>Whether the supervisor of the worker's actors takes messages: false when it has not done so in time, or is gone.</summary>
    /// <param name="patience">How long to wait for it.</param>
    /// <param name="cancellationToken">Gives up waiting.</param>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public async Task<bool> AnswersAsync(TimeSpan patience, CancellationToken cancellationToken)
    {
        try
        {
            var identity = await _supervisor.Ask<ActorIdentity>(new Identify(null), patience, cancellationToken).ConfigureAwait(false);
            return identity.Subject is not null;
        }
        catch (AskTimeoutException)
        {
            return false;
        }
    }

    /// <summary>Stops the worker at once, unless it has ended; its failure, if it had one, is left to <see cref="Completion"/>.</summary>
    public async ValueTask DisposeAsync() => await StopAsync(drain: false).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);

    private static async Task RunAsync(ActorSystem system, GrpcChannel channel, RolloutTelemetry telemetry, Task completion)
    {
        try
        {
            await completion.ConfigureAwait(false);
        }
        finally
        {
            await system.Terminate().ConfigureAwait(false);
            await system.WhenTerminated.ConfigureAwait(false);
            channel.Dispose();
            telemetry.Dispose();
        }
    }
}
