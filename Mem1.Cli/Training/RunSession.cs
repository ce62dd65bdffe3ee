using Mem1.Actors;
using Mem1.Cli.Configuration;
using Mem1.Environments;
using Mem1.Learner;
using Mem1.Model;
using Mem1.Model.Checkpoints;
using Mem1.Model.Generation;

namespace Mem1.Cli.Training;

/// <summary>The learner's server and a rollout worker in one process, talking real gRPC over loopback.</summary>
internal sealed class RunSession : IDisposable
{
    private readonly LearnerHost _host;
    private readonly RolloutWorker _worker;
    private readonly CancellationTokenSource _ended;

    public RunSession(
        RunConfig config, DecoderConfig shape, IEnvironmentFactory environments, ITokenizer tokenizer, WeightPublisher publisher,
        long fingerprint, CancellationToken cancellationToken)
    {
        _host = LearnerHost.StartAsync(
            new LearnerHostOptions
            {
                Limits = new TrajectoryLimits(shape.VocabularySize, shape.MaxPositions), Port = config.Learner.Port,
                Discarded = environments.DiscardedEnd is { } tag ? response => ResponseParts.Discarded(tokenizer, response, tag) : null,
            },
            publisher, fingerprint, loggers: null, cancellationToken)
            .GetAwaiter().GetResult();
        try
        {
            var threads = config.Serial ? 1 : config.Rollout.Threads > 0 ? config.Rollout.Threads : Environment.ProcessorCount;
            _worker = RolloutWorker.StartAsync(
                new RolloutWorkerOptions
                {
                    LearnerAddress = _host.Address.ToString(),
                    MaxEpisodes = config.Rollout.MaxEpisodes,
                    MaxNewTokens = shape.MaxPositions - 1,
                    MaxObservationTokens = config.Rollout.MaxObservationTokens,
                    MaxContextTokens = shape.MaxPositions,
                    ModelFingerprint = fingerprint,
                    Serial = config.Serial,
                },
                environments, tokenizer,
                (weights, version) => new CpuGenerationEngine(shape, weights, version, tokenizer, threads),
                bytes => Safetensors.FromBytes(bytes.ToArray()))
                .GetAwaiter().GetResult();
        }
        catch
        {
            _host.DisposeAsync().AsTask().GetAwaiter().GetResult();
            throw;
        }

        _ended = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        _ = _worker.Completion.ContinueWith(
            _ => _ended.Cancel(), CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
    }

    /// <summary>Cancelled when the user asks to stop, and when the only worker has ended: nobody would play the tasks any more.</summary>
    public CancellationToken Ended => _ended.Token;

    /// <summary>Throws what ended the worker, if it failed.</summary>
    public void ThrowIfWorkerFailed()
    {
        if (_worker.Completion.IsFaulted) _worker.Completion.GetAwaiter().GetResult();
    }

    public TaskLedger Ledger => _host.Ledger;

    public void Dispose()
    {
        _worker.DisposeAsync().AsTask().GetAwaiter().GetResult();
        _host.DisposeAsync().AsTask().GetAwaiter().GetResult();
        _ended.Dispose();
    }
}
