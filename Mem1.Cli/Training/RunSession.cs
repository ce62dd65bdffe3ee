using Mem1.Actors;
using Mem1.Cli.Configuration;
using Mem1.Environments;
using Mem1.Learner;
using Mem1.Model;
using Mem1.Protocol.Security;
using Mem1.Protocol.V1;
using Microsoft.Extensions.Logging;

namespace Mem1.Cli.Training;

/// <summary>The learner's server and, unless workers come from elsewhere, a rollout worker in the same process, talking real gRPC.</summary>
internal sealed class RunSession : IDisposable
{
    private readonly LearnerHost _host;
    private readonly Func<Task<RolloutWorker>>? _startWorker;
    private readonly ClusterNode? _node;
    private readonly WeightPublisher _publisher;
    private readonly CancellationTokenSource _ended;
    private readonly SemaphoreSlim _oneAtATime = new(1); // who replaces the worker, or disposes of it
    private volatile RolloutWorker? _worker;
    private volatile bool _replacing;
    private bool _disposed;

    /// <summary>Starts both; <c>hosting</c> says what else the learner is to serve, <c>run</c> what its traces are told apart by.</summary>
    public RunSession(
        RunConfig config, DecoderConfig shape, IEnvironmentFactory environments, ITokenizer tokenizer, WeightPublisher publisher,
        long fingerprint, ILoggerFactory? loggers, CancellationToken cancellationToken,
        (BearerToken? Token, TlsFiles? Tls) security = default, Func<LearnerHostOptions, LearnerHostOptions>? hosting = null,
        TurnSpool? spool = null, LedgerRecord? restored = null, Action<string>? stalled = null, string? run = null)
    {
        _publisher = publisher;
        // Before the learner, so that the first worker is told of it.
        _node = !config.Rollout.LocalWorker && config.Cluster.ForLearner(config.Learner.Address, secured: security != default) is { } node
            ? ClusterNode.Start(node, loggers)
            : null;
        var options = new LearnerHostOptions
        {
            Limits = new TrajectoryLimits(shape.VocabularySize, shape.MaxPositions)
            {
                Layout = config.Ppo.Layout,
                PositionsCount = shape.Position == PositionEncoding.Rope,
            },
            Address = config.Learner.Address,
            Port = config.Learner.Port,
            Staleness = config.Rollout.Staleness,
            LeaseLimit = TimeSpan.FromSeconds(config.Learner.LeaseSeconds),
            SilenceLimit = TimeSpan.FromSeconds(config.Learner.SilenceSeconds),
            AbsenceLimit = TimeSpan.FromSeconds(config.Learner.AbsenceSeconds),
            RunFiles = config.Rollout.LocalWorker ? new Dictionary<string, ReadOnlyMemory<byte>>() : RunFiles.Of(config, shape, tokenizer),
            RunFingerprint = RunFiles.Fingerprint(config, tokenizer),
            Spool = spool,
            Restored = restored,
            AdoptLeases = !config.Rollout.LocalWorker,
            StallLimit = TimeSpan.FromSeconds(config.Learner.StallSeconds),
            Stalled = stalled,
            Run = run ?? Guid.NewGuid().ToString("N"),
            Token = security.Token,
            Tls = security.Tls,
            DirectWeights = config.Learner.DirectWeights,
            Cluster = () => _node?.Seed,
            Discarded = environments.DiscardedEnd is { } tag ? response => ResponseParts.Discarded(tokenizer, response, tag) : null,
        };
        try
        {
            _host = LearnerHost.StartAsync(
                hosting?.Invoke(options) ?? options,
                publisher, fingerprint, loggers, cancellationToken)
                .GetAwaiter().GetResult();
        }
        catch
        {
            _node?.DisposeAsync().AsTask().GetAwaiter().GetResult();
            throw;
        }

        if (config.Rollout.LocalWorker)
            _startWorker = () => Worker.StartAsync(config, shape, environments, tokenizer, _host.Address, fingerprint);
        try
        {
            _worker = _startWorker?.Invoke().GetAwaiter().GetResult();
        }
        catch
        {
            _host.DisposeAsync().AsTask().GetAwaiter().GetResult();
            throw;
        }

        _ended = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        if (_worker is { } worker) EndWith(worker);
    }

    /// <summary>What others may have done while the run trains.</summary>
    public LoopControl Control { get; } = new();

    /// <summary>Saves a checkpoint and says where; called through <see cref="Control"/>. Null before the run trains.</summary>
    public Func<string>? SaveCheckpoint { get; set; }

    /// <summary>Keeps the limit of episodes at once for when the run goes on; throws what the disk says. Null keeps nothing.</summary>
    public Action<int?>? KeepConcurrencyLimit { get; set; }

    /// <summary>
    /// The task of a recorded episode, by the episode's id, and what is to be done with the episode once it is played again; called through
    /// <see cref="Control"/>. Null before the run trains.
    /// </summary>
    public Func<string, (TaskRequest Task, Action<Trajectory> Played)>? TaskOfEpisode { get; set; }

    /// <summary>Cancelled when the user asks to stop, and when the only worker has ended: nobody would play the tasks any more.</summary>
    public CancellationToken Ended => _ended.Token;

    /// <summary>Throws what ended the worker, if it failed.</summary>
    public void ThrowIfWorkerFailed()
    {
        if (_worker is { Completion.IsFaulted: true }) _worker.Completion.GetAwaiter().GetResult();
    }

    public TaskLedger Ledger => _host.Ledger;

    /// <summary>The learner's node of the cluster; null where there is none.</summary>
    public ClusterNode? Cluster => _node;

    /// <summary>The workers that are connected.</summary>
    public IReadOnlyList<WorkerStatus> Workers => _host.Workers;

    /// <summary>The worker of this process; null when workers come from elsewhere.</summary>
    public RolloutWorker? LocalWorker => _worker;

    /// <summary>Keeps to the limit of episodes at once that was set before the run was stopped, and has the next one kept.</summary>
    /// <exception cref="UserErrorException">What was kept is damaged.</exception>
    public void KeepLimit(RunFolder folder, Action<string> note)
    {
        KeepConcurrencyLimit = folder.WriteConcurrencyLimit;
        if (folder.ReadConcurrencyLimit() is not { } limit) return;
        Ledger.ConcurrencyLimit = limit;
        note(FormattableString.Invariant(
            $"At most {limit} episodes are played at once, as somebody set from the dashboard before ({folder.LimitsPath})."));
    }

    /// <summary>Tells a worker of another process to finish what it plays and leave; false when there is none of that name.</summary>
    public bool DrainWorker(string workerId, string reason) => _host.Drain(workerId, reason);

    /// <summary>Has an actor of a connected worker begin anew; false when there is no worker of that name.</summary>
    public bool RestartActor(string workerId, string name, string reason) => _host.RestartActor(workerId, name, reason);

    /// <summary>
    /// Lets the worker of this process finish what it plays, and starts another one in its place: the run has no other.
    /// </summary>
    /// <returns>The name of the new one; null when the run has ended meanwhile.</returns>
    /// <exception cref="RolloutWorkerException">The worker has failed.</exception>
    public async Task<string?> ReplaceLocalWorkerAsync()
    {
        await _oneAtATime.WaitAsync().ConfigureAwait(false);
        try
        {
            if (_disposed || _worker is not { } old || old.Completion.IsCompleted) return null;
            _replacing = true;
            await old.StopAsync(drain: true).ConfigureAwait(false);
            if (_ended.IsCancellationRequested) return null;
            var next = await _startWorker!().ConfigureAwait(false);
            _worker = next;
            _replacing = false;
            EndWith(next);
            return next.WorkerId;
        }
        finally
        {
            if (_replacing)
            {
                _replacing = false;
                if (!_disposed) _ended.Cancel();
            }

            _oneAtATime.Release();
        }
    }

    /// <summary>Newest version of the policy.</summary>
    public long PolicyVersion => _publisher.Version;

    /// <summary>Where workers of other processes find the learner.</summary>
    public Uri Address => _host.Address;

    /// <summary>Sends the workers of other processes home: the run is finished.</summary>
    public void Drain() => _host.DrainAsync("The run is finished.").GetAwaiter().GetResult();

    public void Dispose()
    {
        // A worker that finishes its episodes to be replaced is stopped at once: the run is over.
        if (!_oneAtATime.Wait(0))
        {
            _ended.Cancel();
            _worker?.DisposeAsync().AsTask().GetAwaiter().GetResult();
            _oneAtATime.Wait();
        }

        _disposed = true;
        var leaving = _node?.DisposeAsync().AsTask() ?? Task.CompletedTask; // takes about a second, which ending the rest takes too
        _worker?.DisposeAsync().AsTask().GetAwaiter().GetResult();
        _host.DisposeAsync().AsTask().GetAwaiter().GetResult();
        leaving.GetAwaiter().GetResult();
        _ended.Dispose();
    }

    /// <summary>When the worker ends by itself, so does the run.</summary>
    private void EndWith(RolloutWorker worker) => worker.Completion.ContinueWith(
        _ =>
        {
            if (!_replacing) _ended.Cancel();
        },
        CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
}
