// THE LEARNING LOOP. Keeps:
//  * staleness 0: the batch of update n is sampled under exactly the version that update n starts from, and only then;
//  * staleness k: batches n+1 to n+k are sampled while update n is learnt; no token is more than k versions older than the weights it
//    trains (the ledger sees to it);
//  * the trajectories of a batch are consumed in the order their tasks were asked for, so timing never changes a result;
//  * an update is whole or not at all: cancellation is looked at between updates and while sampling; what is sampled by then stays in the
//    ledger, for a checkpoint to keep;
//  * what is asked of the loop through its control is done where no batch is half taken, and a paused loop takes none;
//  * everything native lives and dies on the calling thread.
using System.Diagnostics;
using TorchSharp;

namespace Mem1.Learner;

/// <summary>What the loop needs from its surroundings.</summary>
public sealed record TrainingLoopOptions
{
    /// <summary>The tasks of an update (from 1).</summary>
    public required Func<long, IReadOnlyList<TaskRequest>> Tasks { get; init; }
    /// <summary>Called while a batch is sampled: finished episodes and the batch's size.</summary>
    public Action<int, int>? Sampling { get; init; }
    /// <summary>Called with a batch, the update's number and the policy's version right before the update.</summary>
    public Action<IReadOnlyList<Trajectory>, long, long>? Updating { get; init; }
    /// <summary>Called after every update with its metrics and the batch; writes what should outlive the process.</summary>
    public required Action<UpdateMetrics, IReadOnlyList<Trajectory>> Updated { get; init; }
    /// <summary>
    /// Share of all tasks that may be quarantined before the run stops: more than that is a broken environment, not bad luck.
    /// </summary>
    public double QuarantineQuota { get; init; } = 0.05;
    /// <summary>Through which others pause the loop and have something done between updates; null for nobody.</summary>
    public LoopControl? Control { get; init; }
}

/// <summary>Sample, learn, publish; again.</summary>
public sealed class TrainingLoop(TaskLedger ledger, WeightPublisher publisher, PpoTrainer trainer, TrainingLoopOptions options)
{
    // 16 MiB of float32; copies of smaller models do not matter, and collecting would cost as much as an update.
    private const long CollectedParameters = 1 << 22;

    /// <summary>
    /// Runs updates <paramref name="first"/> to <paramref name="last"/>. The publisher must hold the trainer's current weights.
    /// </summary>
    /// <returns>The last update done; first - 1 if none.</returns>
    /// <exception cref="LearnerException">The quarantine quota is exceeded, or every task of a batch failed.</exception>
    public long Run(long first, long last, CancellationToken cancellationToken)
    {
        options.Control?.Open();
        try
        {
            return RunUpdates(first, last, cancellationToken);
        }
        finally
        {
            options.Control?.Close();
        }
    }

    private long RunUpdates(long first, long last, CancellationToken cancellationToken)
    {
        var ahead = new Queue<LedgerBatch>(); // of this update and the next ones, as far as the bound allows
        for (var update = first; update <= last; update++)
        {
            if (cancellationToken.IsCancellationRequested) return update - 1;
            var watch = Stopwatch.StartNew();
            IReadOnlyList<Trajectory> batch;
            try
            {
                SampleAhead(ahead, update, last);
                batch = Take(ahead.Peek(), cancellationToken);
                ahead.Dequeue();
            }
            catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
            {
                return update - 1;
            }

            var sampled = watch.Elapsed;
            var version = publisher.Version;
            CollectWeights();
            options.Updating?.Invoke(batch, update, version);
            var statistics = trainer.Update(batch, update, version);
            var learned = watch.Elapsed - sampled;
            publisher.Publish(trainer.Model.Parameters.Policy(), version + 1);

            long tokens = batch.Sum(t => t.Turns.Sum(turn => (long)t.Prompt.Length + turn.Context.Length + turn.Generated.Length));
            var tasks = ledger.Counts;
            options.Updated(
                new UpdateMetrics
                {
                    Update = update,
                    PolicyVersion = version + 1,
                    RewardMean = batch.Average(t => t.Reward),
                    ExactMatch = UpdateMetrics.ExactMatchOf(batch),
                    TurnsMean = batch.Average(t => t.Turns.Count),
                    PeakTokensMean = batch.Average(t => t.PeakTokens),
                    Statistics = statistics,
                    InvalidFormatRate = batch.Average(t =>
                        t.End is Environments.EpisodeEnd.InvalidFormat or Environments.EpisodeEnd.Length ? 1.0 : 0.0),
                    Episodes = batch.Count,
                    Quarantined = tasks.Quarantined,
                    Ledger = tasks,
                    EnvironmentFailures = batch.Sum(t => (long)t.EnvironmentFailures),
                    Discarded = ledger.Discarded,
                    Refused = ledger.Refused,
                    Staleness = StalenessHistogram.Of(batch, version),
                    WaitSeconds = sampled.TotalSeconds,
                    LearnSeconds = learned.TotalSeconds,
                    RolloutTokensPerSecond =
                        statistics.Tokens / (ledger.Staleness == 0 ? sampled.TotalSeconds : watch.Elapsed.TotalSeconds),
                    LearnerTokensPerSecond = tokens / learned.TotalSeconds,
                    LearnerBusy = trainer.LastBusy,
                    LiveTensors = DisposeScopeManager.Statistics.ThreadTotalLiveCount,
                    RssBytes = ResidentBytes(),
                    Seconds = watch.Elapsed.TotalSeconds,
                },
                batch);
        }

        return Math.Max(first - 1, last);
    }

    /// <summary>Resident memory of this process, in bytes.</summary>
    public static long ResidentBytes()
    {
        using var process = Process.GetCurrentProcess();
        return process.WorkingSet64;
    }

    /// <summary>
    /// Collects the last update's copies of the weights. The collector counts what was allocated, not what it could give back, and lets
    /// dozens of copies pile up before it looks at large objects by itself.
    /// </summary>
    private void CollectWeights()
    {
        if (trainer.Model.Parameters.Values.numel() >= CollectedParameters) GC.Collect(GC.MaxGeneration, GCCollectionMode.Forced, blocking: true);
    }

    /// <summary>Has the batches of this update and of as many more as the bound allows played from now on.</summary>
    private void SampleAhead(Queue<LedgerBatch> ahead, long update, long last)
    {
        var version = publisher.Version;
        foreach (var (batch, i) in ahead.Select((batch, i) => (batch, i))) ledger.Expect(batch, version + i);
        for (var next = update + ahead.Count; next <= Math.Min(last, update + ledger.Staleness); next++)
            ahead.Enqueue(ledger.Submit(options.Tasks(next), version + (next - update)));
    }

    private IReadOnlyList<Trajectory> Take(LedgerBatch waiting, CancellationToken cancellationToken)
    {
        Action<int>? progress = options.Sampling is { } report ? done => report(done, waiting.Size) : null;
        var batch = TakeOrServe(waiting, progress, cancellationToken);
        var counts = ledger.Counts;
        if (batch.Count == 0 || counts.Quarantined > options.QuarantineQuota * Math.Max(counts.Total, waiting.Size))
        {
            var evidence = ledger.Quarantined.LastOrDefault();
            throw new LearnerException(
                $"{counts.Quarantined} of {counts.Total} tasks failed {TaskLedger.MaxAttempts} times each, so the run stops rather than train "
                + $"on what is left; the last was {evidence?.TaskId}: {evidence?.Reasons.LastOrDefault()}");
        }

        return batch;
    }

    /// <summary>Waits for a batch, and does meanwhile what is asked of the loop: the batch stays in the ledger, untouched.</summary>
    private IReadOnlyList<Trajectory> TakeOrServe(LedgerBatch waiting, Action<int>? progress, CancellationToken cancellationToken)
    {
        while (true)
        {
            options.Control?.Serve(cancellationToken);
            using var interrupted = CancellationTokenSource.CreateLinkedTokenSource(
                cancellationToken, options.Control?.Changed ?? CancellationToken.None);
            try
            {
                return ledger.TakeAsync(waiting, progress, interrupted.Token).GetAwaiter().GetResult();
            }
            catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
            {
                // Somebody asks for something.
            }
        }
    }
}
