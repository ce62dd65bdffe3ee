using Mem1.Environments;
using Mem1.Model;
using Mem1.Protocol.V1;
using static TorchSharp.torch;

namespace Mem1.Learner.Tests;

public sealed class TrainingLoopTests : IDisposable
{
    private const int BatchSize = 20;

    private readonly DecoderConfig _shape = TestData.Shape(rope: true, convolution: 0);
    private readonly CancellationTokenSource _stop = new(TimeSpan.FromSeconds(60));
    private readonly WeightPublisher _publisher = new(weights => WeightPublisher.Serialise(weights, segmentBytes: 10_007));
    private readonly List<UpdateMetrics> _metrics = [];

    [Fact]
    public void Every_update_samples_under_the_version_it_starts_from_and_publishes_the_next()
    {
        Assert.Equal(3, Run(first: 1, last: 3, refused: _ => false));
        Assert.Equal([1L, 2, 3], _metrics.Select(m => m.Update));
        Assert.Equal([1L, 2, 3], _metrics.Select(m => m.PolicyVersion));
        Assert.Equal(3, _publisher.Version);
        Assert.All(_metrics, m => Assert.Equal((BatchSize, 0L, 0), (m.Episodes, m.Statistics.StalenessMax, m.Quarantined)));
        Assert.Equal(_metrics[1].LiveTensors, _metrics[2].LiveTensors); // nothing piles up from update to update
    }

    [Fact]
    public void A_few_tasks_that_fail_are_left_out_and_counted()
    {
        Assert.Equal(1, Run(first: 1, last: 1, refused: id => id == "u1-7"));
        Assert.Equal((BatchSize - 1, 1), (_metrics[0].Episodes, _metrics[0].Quarantined));
    }

    [Fact]
    public void Too_many_tasks_that_fail_end_the_run_with_the_reason_and_no_update()
    {
        var stopped = Assert.Throws<LearnerException>(() => Run(first: 1, last: 1, refused: id => id is "u1-3" or "u1-4"));
        Assert.Contains("2 of 20 tasks failed", stopped.Message, StringComparison.Ordinal);
        Assert.Contains("the search engine is down", stopped.Message, StringComparison.Ordinal);
        Assert.Empty(_metrics);
        Assert.Equal(0, _publisher.Version);
    }

    [Fact]
    public void A_cancelled_run_says_how_far_it_came()
    {
        Assert.Equal(2, Run(first: 1, last: 9, refused: _ => false, stopAfter: 2));
        Assert.Equal(2, _metrics.Count);
    }

    [Fact]
    public void A_run_that_is_further_than_asked_for_stays_where_it_is() => Assert.Equal(10, Run(first: 11, last: 5, refused: _ => false));

    [Fact]
    public async Task What_is_asked_of_the_loop_is_done_between_updates_on_its_thread_and_changes_nothing()
    {
        var control = new LoopControl();
        Assert.Throws<LearnerException>(() => { _ = control.RunAsync(() => 1); });
        control.Paused = true;
        var thread = 0;
        var ran = Task.Run(() =>
        {
            thread = Environment.CurrentManagedThreadId;
            return Run(first: 1, last: 3, refused: _ => false, control: control);
        });
        Task<(int, int)>? asked = null;
        while (asked is null)
        {
            try
            {
                asked = control.RunAsync(() => (_metrics.Count, Environment.CurrentManagedThreadId));
            }
            catch (LearnerException)
            {
                await Task.Delay(5); // it does not run yet
            }
        }

        Assert.Equal((0, thread), await asked.WaitAsync(_stop.Token)); // paused: it waits, and still does what is asked
        await Assert.ThrowsAsync<IOException>(() => control.RunAsync<int>(() => throw new IOException("full")).WaitAsync(_stop.Token));
        Assert.False(ran.IsCompleted);
        control.Paused = false;
        Assert.Equal(3, await ran.WaitAsync(_stop.Token));
        Assert.Equal([1L, 2, 3], _metrics.Select(m => m.Update));
        Assert.Throws<LearnerException>(() => { _ = control.RunAsync(() => 1); });
    }

    [Fact]
    public async Task A_paused_loop_can_be_stopped()
    {
        var control = new LoopControl { Paused = true };
        var ran = Task.Run(() => Run(first: 1, last: 3, refused: _ => false, control: control));
        await Task.Delay(50);
        await _stop.CancelAsync();
        Assert.Equal(0, await ran);
    }

    public void Dispose() => _stop.Dispose();

    private long Run(long first, long last, Func<string, bool> refused, long stopAfter = long.MaxValue, LoopControl? control = null)
    {
        var weights = TestData.Weights(_shape, 1);
        using var trainer = new PpoTrainer(
            new TorchDecoder(_shape, weights, CPU), null, new SegmentsLayout(), new PpoOptions { MiniBatches = 2 }, temperature: 1, seed: 1);
        _publisher.Publish(trainer.Model.Parameters.Snapshot(policyOnly: true), first - 1);
        var ledger = new TaskLedger(() => _publisher.Version, TimeSpan.FromMinutes(1), TestData.Limits, TimeProvider.System);
        ledger.Join(new Player(ledger, _publisher, refused), new HashSet<(string, int)>());
        var loop = new TrainingLoop(ledger, _publisher, trainer, new TrainingLoopOptions
        {
            Control = control,
            Tasks = update => [.. Enumerable.Range(0, BatchSize).Select(i => new TaskRequest(
                new EnvironmentTask($"u{update}-{i}", [new Objective("o", "q", ["a"])]), (ulong)i, 1, 1, 8, false))],
            Updated = (metrics, batch) =>
            {
                Assert.Equal(metrics.Episodes, batch.Count);
                _metrics.Add(metrics);
                if (metrics.Update == stopAfter) _stop.Cancel();
            },
        });
        return loop.Run(first, last, _stop.Token);
    }

    /// <summary>A worker that plays every lease at once, on a thread of its own, but gives some back.</summary>
    private sealed class Player(TaskLedger ledger, WeightPublisher publisher, Func<string, bool> refused) : ILeaseTarget
    {
        public string WorkerId => "player";

        public long AppliedVersion => publisher.Version;

        public int Credit => 100;

        public void End()
        {
        }

        public bool TrySend(TaskLease lease)
        {
            var version = publisher.Version;
            _ = Task.Run(() =>
            {
                if (refused(lease.TaskId))
                {
                    ledger.Return(WorkerId, lease.EpisodeId, lease.Attempt, "the search engine is down");
                    return;
                }

                var played = TestData.Trajectory(new Random((int)lease.Seed), 31, 2, lease.EpisodeId, reward: lease.Seed % 2);
                foreach (var turn in TrajectoryAssemblerTests.ToMessages(played, lease.Attempt))
                {
                    for (var i = 0; i < turn.PolicyVersions.Count; i++) turn.PolicyVersions[i] = version;
                    ledger.Add(WorkerId, turn);
                }
            });
            return true;
        }
    }
}
