// The bound on staleness, with workers that are slow, lag behind the weights, fail and vanish.
using Mem1.Environments;
using Mem1.Protocol.V1;

namespace Mem1.Learner.Tests;

public sealed class StalenessTests
{
    private readonly CancellationToken _limit = new CancellationTokenSource(TimeSpan.FromSeconds(30)).Token;

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(4)]
    public async Task Batches_ahead_are_leased_as_far_as_the_bound_allows_and_no_further(int staleness)
    {
        long version = 0;
        var ledger = NewLedger(() => version, staleness);
        var worker = Join(ledger, "w", 1000);
        var batches = Enumerable.Range(0, 8).Select(i => ledger.Submit(Requests(i, 3), consumedAt: i)).ToList();
        for (; version < 8; worker.AppliedVersion = ++version, ledger.Wake())
        {
            Assert.Equal(3 * Math.Min(8, staleness + version + 1), worker.Leases.Count); // (eta + version + 1) * B, all in all
            foreach (var lease in worker.Leases.Where(l => l.TaskId.StartsWith($"b{version}-", StringComparison.Ordinal)).ToList())
                worker.Play(ledger, lease, version: Math.Max(0, version - staleness));
            Assert.Equal(3, (await ledger.TakeAsync(batches[(int)version], null, _limit)).Count);
        }

        Assert.Equal(new LedgerCounts(0, 0, 0, 24, 0), ledger.Counts);
        Assert.All(ledger.Discarded.Values, count => Assert.Equal(0, count));
    }

    [Fact]
    public void A_worker_whose_weights_lag_gets_no_task_that_would_become_too_old()
    {
        var ledger = NewLedger(() => 5, staleness: 1);
        var lagging = Join(ledger, "lagging", 100, applied: 4);
        ledger.Submit(Requests(5, 2), consumedAt: 5);
        ledger.Submit(Requests(6, 2), consumedAt: 6);
        Assert.Equal(2, lagging.Leases.Count);
        var fresh = Join(ledger, "fresh", 100, applied: 5);
        Assert.Equal(["b6-0", "b6-1"], fresh.Leases.Select(l => l.TaskId));
        var ahead = Join(ledger, "of a run that is over", 100, applied: 9); // its versions are not of this run
        ledger.Submit(Requests(7, 1), consumedAt: 6);
        Assert.Empty(ahead.Leases);
    }

    [Fact]
    public async Task What_is_too_old_at_consumption_is_swept_counted_and_played_again()
    {
        long version = 3;
        var ledger = NewLedger(() => version, staleness: 1);
        var worker = Join(ledger, "w", 100, applied: 3);
        var batch = ledger.Submit(Requests(0, 3), consumedAt: 3);
        var old = worker.Leases.ToList();
        worker.Play(ledger, old[0], version: 3);
        worker.Play(ledger, old[1], version: 1); // an honest worker cannot; the ledger takes no one's word
        worker.Play(ledger, old[2], version: 2);
        var progress = new List<int>();
        var taking = ledger.TakeAsync(batch, progress.Add, _limit);
        Assert.Equal(1, ledger.Discarded[DiscardCause.Stale]);
        Assert.Equal(new LedgerCounts(0, 1, 2, 0, 0), ledger.Counts);
        Assert.Empty(worker.Leases[^1].Prefix);
        worker.Play(ledger, worker.Leases[^1], version: 3);
        Assert.Equal(["b0-0", "b0-1", "b0-2"], (await taking).Select(t => t.TaskId));
    }

    [Fact]
    public void Turns_that_would_be_too_old_by_the_end_are_not_gone_on_from()
    {
        long version = 0;
        var first = NewLedger(() => version, staleness: 1);
        var worker = Join(first, "w", 100);
        first.Submit(Requests(0, 1), consumedAt: 1);
        worker.Play(first, worker.Leases[0], turns: 3, upTo: 1, version: 0);
        foreach (var (expected, at) in new[] { (1, 1L), (0, 2L) })
        {
            version = 1;
            var second = NewLedger(() => version, staleness: 1);
            second.Restore(first.Save());
            var other = Join(second, "w", 100, applied: 1);
            second.Submit(Requests(0, 1), consumedAt: at);
            Assert.Equal(expected, Assert.Single(other.Leases).Prefix.Count);
            Assert.Equal(1 - expected, second.Discarded[DiscardCause.Unresumable]);
        }
    }

    [Fact]
    public async Task An_update_that_changes_no_weights_moves_the_batches_after_it()
    {
        var ledger = NewLedger(() => 7, staleness: 1);
        var worker = Join(ledger, "w", 100, applied: 7);
        var batch = ledger.Submit(Requests(0, 1), consumedAt: 9);
        Assert.Empty(worker.Leases);
        ledger.Expect(batch, 8);
        worker.Play(ledger, Assert.Single(worker.Leases), version: 7);
        Assert.Single(await ledger.TakeAsync(batch, null, _limit));
    }

    [Theory]
    [InlineData(0, 1)]
    [InlineData(1, 2)]
    [InlineData(4, 3)]
    public async Task A_hundred_thousand_episodes_with_random_delays_and_faults_never_pass_the_bound(int staleness, int seed)
    {
        // Together with the other rows 1e5 in every test run; `mem1 test --faults` plays 1e6.
        const int size = 32;
        var updates = (Environment.GetEnvironmentVariable("MEM1_FAULTS") == "1" ? 1_000_000 : 100_000) / 3 / size;
        var random = new Random(seed);
        long version = 0;
        var time = new ManualTime();
        var ledger = new TaskLedger(() => version, TimeSpan.FromMinutes(1), TestData.Limits, time, staleness: staleness);
        var workers = Enumerable.Range(0, 4).Select(i => Join(ledger, $"w{i}", 3 * size)).ToList();
        var ages = new long[staleness + 1];
        var ahead = new Queue<LedgerBatch>();
        long consumed = 0;
        for (var update = 0; update < updates; update++)
        {
            var i = 0;
            foreach (var batch in ahead) ledger.Expect(batch, version + i++);
            for (var next = update + ahead.Count; next <= update + staleness; next++)
                ahead.Enqueue(ledger.Submit(Requests(next, size), version + (next - update)));
            var taking = ledger.TakeAsync(ahead.Peek(), null, TestContext.Current.CancellationToken);
            while (!taking.IsCompleted)
            {
                if (ledger.Counts is { Pending: > 0 } or { Leased: > 0 })
                {
                    Act();
                }
                else
                {
                    await taking; // the last one was just played: only its reader has to run
                }

                // Only now and then, for counting takes time: the counts add up, and the admission formula holds in sum.
                if (random.Next(50) == 0)
                {
                    var counts = ledger.Counts;
                    Assert.Equal(size * (update + ahead.Count), counts.Total);
                    Assert.True(counts.Leased + counts.Buffered + counts.Consumed + counts.Quarantined <= size * (staleness + update + 1));
                }
            }

            ahead.Dequeue();
            foreach (var trajectory in await taking)
            {
                var age = version - trajectory.OldestVersion;
                Assert.InRange(age, 0, staleness);
                ages[age]++;
                consumed++;
            }

            if (random.Next(20) > 0) version++; // now and then an update changes no weights
        }

        Assert.Equal(consumed, ages.Sum());
        var last = ledger.Counts;
        Assert.Equal(updates * size, last.Consumed + last.Quarantined - QuarantinedAhead());
        Assert.Equal(0, ledger.Discarded[DiscardCause.Stale]); // admission alone keeps the bound; the sweep found nothing to do
        Assert.True(ages[^1] > 0, "The bound was never reached.");
        return;

        int QuarantinedAhead() => ahead.Sum(b => b.Entries.Count(e => e.State == EntryState.Quarantined));

        void Act()
        {
            var worker = workers[random.Next(workers.Count)];
            switch (random.Next(1000))
            {
                case < 10:
                    time.Now += TimeSpan.FromSeconds(random.Next(15));
                    ledger.ExpireLeases();
                    return;
                case < 12:
                    // It vanishes with all it holds, and comes back with nothing.
                    ledger.Leave(worker, forGood: true, "gone");
                    worker.Leases.Clear();
                    ledger.Join(worker, new HashSet<(string, int)>());
                    return;
                case < 120:
                    worker.AppliedVersion = Math.Max(worker.AppliedVersion, version - random.Next(staleness + 2));
                    ledger.Wake();
                    return;
            }

            if (worker.Leases.Count == 0) return;
            var at = random.Next(worker.Leases.Count);
            var lease = worker.Leases[at];
            if (random.Next(200) == 0)
            {
                worker.Leases.RemoveAt(at);
                ledger.Return(worker.WorkerId, lease.EpisodeId, lease.Attempt, "failed");
                return;
            }

            // Some turns now, under the version it has now; the rest at another time.
            var played = lease.Prefix.Count;
            foreach (var turn in FakeWorker.Turns(lease, turns: 2, worker.AppliedVersion).Skip(played).Take(1 + random.Next(2)))
            {
                ledger.Add(worker.WorkerId, turn);
                lease.Prefix.Add(turn);
            }

            if (lease.Prefix.Count == 2) worker.Leases.RemoveAt(at);
        }
    }

    private static TaskLedger NewLedger(Func<long> version, int staleness) =>
        new(version, TimeSpan.FromMinutes(1), TestData.Limits, TimeProvider.System, staleness: staleness);

    private static FakeWorker Join(TaskLedger ledger, string name, int credit, long applied = 0)
    {
        var worker = new FakeWorker(name, credit) { AppliedVersion = applied };
        ledger.Join(worker, new HashSet<(string, int)>());
        return worker;
    }

    private static List<TaskRequest> Requests(long batch, int count) =>
        [.. Enumerable.Range(0, count).Select(i => new TaskRequest(
            new EnvironmentTask($"b{batch}-{i}", [new Objective("o", "q", ["a"])]), (ulong)((100 * batch) + i), 1, 1, 8, false))];
}
