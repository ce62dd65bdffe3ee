using Mem1.Actors;
using Mem1.Cli.Configuration;
using Mem1.Environments;
using Mem1.Learner;
using Mem1.Model;
using Mem1.Protocol.Security;
using Microsoft.Extensions.Logging;

namespace Mem1.Cli.Training;

/// <summary>The learner's server and, unless workers come from elsewhere, a rollout worker in the same process, talking real gRPC.</summary>
internal sealed class RunSession : IDisposable
{
    private readonly LearnerHost _host;
    private readonly RolloutWorker? _worker;
    private readonly WeightPublisher _publisher;
    private readonly CancellationTokenSource _ended;

    public RunSession(
        RunConfig config, DecoderConfig shape, IEnvironmentFactory environments, ITokenizer tokenizer, WeightPublisher publisher,
        long fingerprint, ILoggerFactory? loggers, CancellationToken cancellationToken,
        (BearerToken? Token, TlsFiles? Tls) security = default)
    {
        _publisher = publisher;
        _host = LearnerHost.StartAsync(
            new LearnerHostOptions
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
                Token = security.Token,
                Tls = security.Tls,
                Discarded = environments.DiscardedEnd is { } tag ? response => ResponseParts.Discarded(tokenizer, response, tag) : null,
            },
            publisher, fingerprint, loggers, cancellationToken)
            .GetAwaiter().GetResult();
        try
        {
            if (config.Rollout.LocalWorker)
                _worker = Worker.StartAsync(config, shape, environments, tokenizer, _host.Address, fingerprint).GetAwaiter().GetResult();
        }
        catch
        {
            _host.DisposeAsync().AsTask().GetAwaiter().GetResult();
            throw;
        }

        _ended = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        _ = _worker?.Completion.ContinueWith(
            _ => _ended.Cancel(), CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
    }

    /// <summary>Cancelled when the user asks to stop, and when the only worker has ended: nobody would play the tasks any more.</summary>
    public CancellationToken Ended => _ended.Token;

    /// <summary>Throws what ended the worker, if it failed.</summary>
    public void ThrowIfWorkerFailed()
    {
        if (_worker is { Completion.IsFaulted: true }) _worker.Completion.GetAwaiter().GetResult();
    }

    public TaskLedger Ledger => _host.Ledger;

    /// <summary>The workers that are connected.</summary>
    public IReadOnlyList<WorkerStatus> Workers => _host.Workers;

    /// <summary>The worker of this process; null when workers come from elsewhere.</summary>
    public RolloutWorker? LocalWorker => _worker;

    /// <summary>Newest version of the policy.</summary>
    public long PolicyVersion => _publisher.Version;

    /// <summary>Where workers of other processes find the learner.</summary>
    public Uri Address => _host.Address;

    /// <summary>Sends the workers of other processes home: the run is finished.</summary>
    public void Drain() => _host.DrainAsync("The run is finished.").GetAwaiter().GetResult();

    public void Dispose()
    {
        _worker?.DisposeAsync().AsTask().GetAwaiter().GetResult();
        _host.DisposeAsync().AsTask().GetAwaiter().GetResult();
        _ended.Dispose();
    }
}
