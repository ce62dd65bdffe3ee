using Mem1.Environments;
using Mem1.Protocol.V1;

namespace Mem1.Learner.Tests;

public sealed class TaskLedgerTests
{
    private readonly CancellationToken _limit = new CancellationTokenSource(TimeSpan.FromSeconds(30)).Token;

    [Fact]
    public async Task A_batch_comes_back_in_the_order_asked_for_and_counts_add_up()
    {
        var ledger = NewLedger();
        var worker = new FakeWorker("w", credit: 100);
        Join(ledger, worker);
        var run = ledger.RunAsync(Requests(5), null, _limit);
        Assert.Equal(new LedgerCounts(0, 5, 0, 0, 0), ledger.Counts);
        foreach (var lease in worker.Leases.AsEnumerable().Reverse()) Play(ledger, worker, lease);
        var batch = await run;
        Assert.Equal(["t0", "t1", "t2", "t3", "t4"], batch.Select(t => t.TaskId));
        Assert.Equal(new LedgerCounts(0, 0, 0, 5, 0), ledger.Counts);
    }

    [Fact]
    public async Task A_batch_whose_last_task_ends_while_an_earlier_end_is_reported_is_taken()
    {
        var ledger = NewLedger();
        var worker = new FakeWorker("w", credit: 100);
        Join(ledger, worker);
        var batch = ledger.Submit(Requests(3), consumedAt: null);
        Play(ledger, worker, worker.Leases[0]);
        var said = new List<int>();
        var taken = await ledger.TakeAsync(
            batch,
            done =>
            {
                said.Add(done);
                if (done < 3) Play(ledger, worker, worker.Leases[done]);
            },
            _limit);
        Assert.Equal(3, taken.Count);
        Assert.Equal([1, 2, 3], said);
    }

    [Fact]
    public async Task Leases_go_only_to_workers_with_credit_and_the_newest_weights()
    {
        long required = 7;
        var ledger = new TaskLedger(() => required, TimeSpan.FromMinutes(1), TestData.Limits, TimeProvider.System);
        var stale = new FakeWorker("stale", credit: 10) { AppliedVersion = 6 };
        var fresh = new FakeWorker("fresh", credit: 2) { AppliedVersion = 7 };
        Join(ledger, stale);
        Join(ledger, fresh);
        var run = ledger.RunAsync(Requests(3), null, _limit);
        Assert.Empty(stale.Leases);
        Assert.Equal(2, fresh.Leases.Count);
        stale.AppliedVersion = 7;
        ledger.Wake();
        Assert.Single(stale.Leases);
        foreach (var worker in new[] { fresh, stale })
            foreach (var lease in worker.Leases) Play(ledger, worker, lease);
        Assert.Equal(3, (await run).Count);
    }

    [Fact]
    public async Task A_paused_ledger_leases_nothing_and_a_limit_holds_over_all_workers()
    {
        var ledger = NewLedger();
        var (one, two) = (new FakeWorker("one", credit: 100), new FakeWorker("two", credit: 100));
        Assert.Null(ledger.Waiting);
        Assert.Equal(AdmissionTerm.Staleness, ledger.Admission.Binds);
        ledger.Paused = true;
        var run = ledger.RunAsync(Requests(6), null, _limit);
        Assert.NotNull(ledger.Waiting);
        Assert.Equal(new AdmissionStatus(6, 0, 0, 0, 0, 0, 0, AdmissionTerm.Paused), ledger.Admission);
        ledger.Paused = false;
        Assert.Equal(AdmissionTerm.NoWorker, ledger.Admission.Binds);
        ledger.Paused = true;
        (one.AppliedVersion, two.AppliedVersion) = (-1, -1);
        Join(ledger, one);
        Join(ledger, two);
        Assert.Equal(new LedgerCounts(6, 0, 0, 0, 0), ledger.Counts);
        ledger.ConcurrencyLimit = 2;
        ledger.Paused = false;
        Assert.Equal(new AdmissionStatus(6, 0, 0, 2, 0, 0, 0, AdmissionTerm.Weights), ledger.Admission);
        (one.AppliedVersion, two.AppliedVersion) = (0, 0);
        ledger.Wake();
        Assert.Equal(new LedgerCounts(4, 2, 0, 0, 0), ledger.Counts);
        Assert.Equal(AdmissionTerm.ConcurrencyLimit, ledger.Admission.Binds);
        Assert.Throws<ArgumentOutOfRangeException>(() => ledger.ConcurrencyLimit = 0);

        // A place that becomes free is taken at once, by whichever worker has room.
        var (player, lease) = one.Leases.Count > 0 ? (one, one.Leases[0]) : (two, two.Leases[0]);
        Play(ledger, player, lease);
        Assert.Equal(new LedgerCounts(3, 2, 1, 0, 0), ledger.Counts);
        ledger.ConcurrencyLimit = null;
        Assert.Equal(new LedgerCounts(0, 5, 1, 0, 0), ledger.Counts);
        foreach (var worker in new[] { one, two })
            foreach (var rest in worker.Leases.Where(l => l != lease)) Play(ledger, worker, rest);
        Assert.Equal(6, (await run).Count);
    }

    [Fact]
    public async Task A_returned_lease_is_tried_again_with_the_same_seed_then_quarantined_with_its_reasons()
    {
        var ledger = NewLedger();
        var worker = new FakeWorker("w", credit: 100);
        Join(ledger, worker);
        var run = ledger.RunAsync(Requests(2), null, _limit);
        for (var attempt = 1; attempt <= TaskLedger.MaxAttempts; attempt++)
        {
            var lease = worker.Leases.Last(l => l.TaskId == "t0");
            Assert.Equal(attempt, lease.Attempt);
            Assert.Equal(100UL, lease.Seed);
            ledger.Return("w", lease.EpisodeId, lease.Attempt, $"reason {attempt}");
        }

        Play(ledger, worker, worker.Leases.Last(l => l.TaskId == "t1"));
        Assert.Equal(["t1"], (await run).Select(t => t.TaskId));
        var given = Assert.Single(ledger.Quarantined);
        Assert.Equal(["reason 1", "reason 2", "reason 3"], given.Reasons);
        Assert.Equal(new LedgerCounts(0, 0, 0, 1, 1), ledger.Counts);
    }

    [Fact]
    public async Task A_worker_that_leaves_gives_its_leases_to_another()
    {
        var ledger = NewLedger();
        var first = new FakeWorker("first", credit: 10);
        Join(ledger, first);
        var run = ledger.RunAsync(Requests(4), null, _limit);
        Play(ledger, first, first.Leases[0]);
        var second = new FakeWorker("second", credit: 10);
        Join(ledger, second);
        ledger.Leave(first, forGood: true, "gone");
        Assert.Equal(3, second.Leases.Count);
        Play(ledger, first, first.Leases[1]); // an attempt that is no longer leased is ignored
        foreach (var lease in second.Leases) Play(ledger, second, lease);
        Assert.Equal(4, (await run).Count);
        Assert.Equal(new LedgerCounts(0, 0, 0, 4, 0), ledger.Counts);
    }

    [Fact]
    public async Task A_worker_whose_stream_broke_may_come_back_and_finish()
    {
        var time = new ManualTime();
        var ledger = new TaskLedger(() => 0, TimeSpan.FromMinutes(10), TestData.Limits, time);
        var worker = new FakeWorker("w", credit: 10);
        Join(ledger, worker);
        var run = ledger.RunAsync(Requests(2), null, _limit);
        ledger.Leave(worker, forGood: false, "broke");
        time.Now += TimeSpan.FromSeconds(20);
        ledger.ExpireLeases();
        Assert.Equal(2, ledger.Counts.Leased);
        var again = new FakeWorker("w", credit: 0);
        Join(ledger, again, held: worker.Leases);
        foreach (var lease in worker.Leases) Play(ledger, worker, lease);
        Assert.Equal(2, (await run).Count);
    }

    [Fact]
    public async Task Leases_of_a_worker_that_stays_away_and_leases_too_old_are_given_to_others()
    {
        var time = new ManualTime();
        var ledger = new TaskLedger(() => 0, TimeSpan.FromMinutes(10), TestData.Limits, time);
        var away = new FakeWorker("away", credit: 1);
        var slow = new FakeWorker("slow", credit: 1);
        Join(ledger, away);
        Join(ledger, slow);
        var run = ledger.RunAsync(Requests(2), null, _limit);
        ledger.Leave(away, forGood: false, "broke");
        var good = new FakeWorker("good", credit: 10);
        Join(ledger, good);
        time.Now += TimeSpan.FromSeconds(31);
        ledger.ExpireLeases();
        Assert.Single(good.Leases);
        time.Now += TimeSpan.FromMinutes(10);
        Play(ledger, good, good.Leases[0]);
        ledger.ExpireLeases();
        Assert.Equal(2, good.Leases.Count);
        Play(ledger, good, good.Leases[1]);
        Assert.Equal(2, (await run).Count);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(-1)]
    public async Task A_clock_that_jumps_ends_no_lease_and_keeps_none_alive(int hours)
    {
        var time = new ManualTime();
        var ledger = new TaskLedger(() => 0, TimeSpan.FromMinutes(10), TestData.Limits, time);
        var away = new FakeWorker("away", credit: 1);
        var slow = new FakeWorker("slow", credit: 1);
        Join(ledger, away);
        Join(ledger, slow);
        var run = ledger.RunAsync(Requests(2), null, _limit);
        ledger.Leave(away, forGood: false, "broke");
        time.Jump(TimeSpan.FromHours(hours));
        ledger.ExpireLeases();
        Assert.Equal(2, ledger.Counts.Leased);
        Assert.All(ledger.Leases, lease => Assert.Equal(TimeSpan.Zero, lease.Age));
        var good = new FakeWorker("good", credit: 10);
        Join(ledger, good);
        time.Now += TimeSpan.FromSeconds(31);
        time.Jump(TimeSpan.FromHours(-2 * hours));
        ledger.ExpireLeases();
        Assert.Single(good.Leases);
        time.Now += TimeSpan.FromMinutes(9.5);
        ledger.ExpireLeases();
        Assert.Equal(2, good.Leases.Count);
        foreach (var lease in good.Leases) Play(ledger, good, lease);
        Assert.Equal(2, (await run).Count);
    }

    [Fact]
    public async Task A_wait_is_explained_in_a_sentence()
    {
        long version = 4;
        var said = new System.Collections.Concurrent.BlockingCollection<string>();
        var ledger = new TaskLedger(() => version, TimeSpan.FromMinutes(10), TestData.Limits, TimeProvider.System, staleness: 1)
        {
            StallLimit = TimeSpan.FromMilliseconds(20),
            Stalled = said.Add,
        };
        var batch = ledger.Submit(Requests(3), consumedAt: 5);
        var taking = ledger.TakeAsync(batch, null, _limit);
        var alone = said.Take(_limit);
        Assert.Matches(@"^Nothing has come for \d+ s: 3 of 3 episodes are awaited; 3 wait for a worker that has a version from 4 on in place", alone);
        Assert.EndsWith("(rollout.staleness is 1) and a free place; no worker is connected.", alone);
        Join(ledger, new FakeWorker("old", credit: 5) { AppliedVersion = 3 });
        var worker = new FakeWorker("w", credit: 2) { AppliedVersion = 4 };
        Join(ledger, worker);
        string sentence;
        do
        {
            sentence = said.Take(_limit);
        }
        while (!sentence.Contains(", w (", StringComparison.Ordinal));

        Assert.Matches(@"; 2 are leased, the oldest, t0, to w for \d+ s \(learner.lease_seconds ends it after 600\); 1 wait for a worker", sentence);
        Assert.EndsWith("; connected: old (version 3, 5 places free), w (version 4, 0 places free).", sentence);
        foreach (var lease in worker.Leases.ToList()) worker.Play(ledger, lease, version: 4);
        var other = new FakeWorker("x", credit: 2) { AppliedVersion = 4 };
        Join(ledger, other);
        other.Play(ledger, other.Leases[0], version: 4);
        Assert.Equal(3, (await taking).Count);
    }

    [Fact]
    public async Task Cancelling_a_batch_empties_the_ledger_of_it()
    {
        var ledger = NewLedger();
        var worker = new FakeWorker("w", credit: 1);
        Join(ledger, worker);
        using var stop = new CancellationTokenSource();
        var run = ledger.RunAsync(Requests(3), null, stop.Token);
        await stop.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => run);
        Assert.Equal(new LedgerCounts(0, 0, 0, 0, 0), ledger.Counts);
        Play(ledger, worker, worker.Leases[0]); // late turns are taken and forgotten
        Assert.Equal(0, ledger.Counts.Total);
    }

    [Fact]
    public async Task Random_faults_lose_and_duplicate_nothing()
    {
        for (var seed = 0; seed < 50; seed++)
        {
            var random = new Random(seed);
            var time = new ManualTime();
            var ledger = new TaskLedger(() => 0, TimeSpan.FromMinutes(1), TestData.Limits, time);
            var workers = Enumerable.Range(0, 3).Select(i => new FakeWorker($"w{i}", credit: 1000)).ToList();
            foreach (var w in workers) Join(ledger, w);
            var run = ledger.RunAsync(Requests(30), null, _limit);
            for (var step = 0; step < 2000 && !run.IsCompleted; step++)
            {
                var open = workers.SelectMany(w => w.Leases.Select(l => (w, l))).ToList();
                if (open.Count == 0) continue;
                var (worker, lease) = open[random.Next(open.Count)];
                switch (random.Next(20))
                {
                    case 0:
                        ledger.Return(worker.WorkerId, lease.EpisodeId, lease.Attempt, "returned");
                        break;
                    case 1:
                        time.Now += TimeSpan.FromSeconds(random.Next(40));
                        ledger.ExpireLeases();
                        break;
                    default:
                        Play(ledger, worker, lease);
                        break;
                }

                var counts = ledger.Counts;
                Assert.Equal(30, counts.Total);
            }

            var batch = await run;
            Assert.Equal(batch.Count, batch.Select(t => t.TaskId).Distinct().Count());
            Assert.Equal(30, batch.Count + ledger.Quarantined.Count);
            Assert.Equal(new LedgerCounts(0, 0, 0, batch.Count, 30 - batch.Count), ledger.Counts);
        }
    }

    [Fact]
    public async Task A_lease_lost_on_its_way_is_leased_again_when_its_worker_comes_back_without_it()
    {
        var ledger = NewLedger();
        var worker = new FakeWorker("w", credit: 10);
        Join(ledger, worker);
        var run = ledger.RunAsync(Requests(2), null, _limit);
        var again = new FakeWorker("w", credit: 10);
        Join(ledger, again, held: [worker.Leases[0]]); // the new session may be there before the old one is known to be gone
        ledger.Leave(worker, forGood: false, "broke");
        var lease = Assert.Single(again.Leases);
        Assert.Equal((worker.Leases[1].TaskId, 2), (lease.TaskId, lease.Attempt));
        ledger.ExpireLeases();
        Assert.Equal(2, ledger.Counts.Leased);
        Play(ledger, worker, worker.Leases[0]);
        Play(ledger, again, lease);
        Assert.Equal(2, (await run).Count);
    }

    [Fact]
    public async Task Leases_that_never_arrive_do_not_count_against_their_task()
    {
        var ledger = NewLedger();
        var worker = new FakeWorker("w", credit: 10);
        Join(ledger, worker);
        var run = ledger.RunAsync(Requests(1), null, _limit);
        for (var i = 0; i < 2 * TaskLedger.MaxAttempts; i++) Join(ledger, worker = new FakeWorker("w", credit: 10));
        var lease = Assert.Single(worker.Leases);
        Assert.Equal((2 * TaskLedger.MaxAttempts) + 1, lease.Attempt);
        Play(ledger, worker, lease);
        Assert.Single(await run);
        Assert.Empty(ledger.Quarantined);
    }

    [Fact]
    public async Task Workers_that_end_cost_a_task_nothing_until_it_seems_to_end_them()
    {
        var ledger = NewLedger();
        var run = ledger.RunAsync(Requests(2), null, _limit);
        for (var life = 0; life < TaskLedger.MaxLosses; life++) // each task has every other worker, so half of them
        {
            Assert.Equal(2, ledger.Counts.Pending);
            var worker = new FakeWorker($"w{life}", credit: 1);
            Join(ledger, worker);
            ledger.Leave(worker, forGood: true, "killed");
        }

        Assert.Empty(ledger.Quarantined);
        var last = new FakeWorker("last", credit: 10);
        Join(ledger, last);
        Assert.Equal(2, last.Leases.Count);
        foreach (var lease in last.Leases) Play(ledger, last, lease);
        Assert.Equal(2, (await run).Count);

        var deadly = ledger.RunAsync(Requests(1), null, _limit);
        ledger.Leave(last, forGood: true, "killed");
        for (var life = 1; life < TaskLedger.MaxLosses; life++)
        {
            Assert.Empty(ledger.Quarantined);
            var worker = new FakeWorker($"v{life}", credit: 1);
            Join(ledger, worker);
            ledger.Leave(worker, forGood: true, "killed");
        }

        Assert.Empty(await deadly);
        Assert.Equal(TaskLedger.MaxLosses, Assert.Single(ledger.Quarantined).Reasons.Count);
    }

    [Fact]
    public void A_new_session_of_a_worker_ends_the_old_one()
    {
        var ledger = NewLedger();
        var (first, second, other) = (new FakeWorker("w", credit: 1), new FakeWorker("w", credit: 1), new FakeWorker("x", credit: 1));
        Join(ledger, first);
        Join(ledger, other);
        Join(ledger, second);
        Assert.True(first.IsEnded);
        Assert.False(second.IsEnded || other.IsEnded);
        ledger.Leave(first, forGood: false, "broke");
        _ = ledger.RunAsync(Requests(2), null, _limit);
        Assert.Empty(first.Leases);
        Assert.Single(second.Leases);
    }

    [Fact]
    public async Task A_task_that_failed_on_a_worker_goes_to_another_first()
    {
        var ledger = NewLedger();
        var first = new FakeWorker("first", credit: 100);
        Join(ledger, first);
        var run = ledger.RunAsync(Requests(1), null, _limit);
        var second = new FakeWorker("second", credit: 1);
        Join(ledger, second);
        ledger.Return("first", "t0", 1, new string('x', 100_000));
        ledger.Return("second", "t0", 2, "again");
        Assert.Equal([1, 3], first.Leases.Select(l => l.Attempt)); // nobody else has a place left
        ledger.Return("first", "t0", 3, "and again");
        Assert.Empty(await run);
        Assert.Equal([500, 5, 9], Assert.Single(ledger.Quarantined).Reasons.Select(r => r.Length));
    }

    [Fact]
    public async Task A_task_twice_is_refused_and_nothing_of_its_batch_stays()
    {
        var ledger = NewLedger();
        var twice = Requests(2).Concat(Requests(1)).ToList();
        await Assert.ThrowsAsync<ArgumentException>(() => ledger.RunAsync(twice, null, _limit));
        Assert.Equal(0, ledger.Counts.Total);
        Assert.Empty(await ledger.RunAsync([], null, _limit));
    }

    [Fact]
    public async Task Progress_is_reported_outside_the_lock_and_its_failure_is_the_callers()
    {
        var ledger = NewLedger();
        var worker = new FakeWorker("w", credit: 10);
        Join(ledger, worker);
        var seen = new List<int>();
        var run = ledger.RunAsync(
            Requests(3),
            done =>
            {
                seen.Add(done);
                Assert.True(Task.Run(() => ledger.Counts).Wait(TimeSpan.FromSeconds(20), _limit)); // another thread gets in meanwhile
            },
            _limit);
        foreach (var lease in worker.Leases.ToList()) Play(ledger, worker, lease);
        Assert.Equal(3, (await run).Count);
        Assert.Equal([1, 2, 3], seen);

        var more = new FakeWorker("w", credit: 10);
        Join(ledger, more);
        var failing = ledger.RunAsync(Requests(1), _ => throw new InvalidOperationException("the terminal is gone"), _limit);
        Play(ledger, more, more.Leases[0]); // it does not reach whoever delivers the turn
        await Assert.ThrowsAsync<InvalidOperationException>(() => failing);
    }

    [Fact]
    public async Task Episodes_of_a_group_get_one_task_and_seed_and_draws_of_their_own()
    {
        var ledger = NewLedger();
        var worker = new FakeWorker("w", credit: 10);
        Join(ledger, worker);
        var run = ledger.RunAsync(
            [.. Requests(3).Select((r, i) => i < 2 ? r with { Seed = 7, SamplingSeed = (ulong)(900 + i), Group = "g" } : r)], null, _limit);
        Assert.Equal([7UL, 7, 102], worker.Leases.Select(l => l.Seed));
        Assert.Equal([900UL, 901], worker.Leases.Take(2).Select(l => l.SamplingSeed));
        Assert.False(worker.Leases[2].HasSamplingSeed);
        foreach (var lease in worker.Leases.ToList()) Play(ledger, worker, lease);
        Assert.Equal(["g", "g", ""], (await run).Select(t => t.Group));
    }

    private static void Join(TaskLedger ledger, FakeWorker worker, IEnumerable<TaskLease>? held = null) =>
        ledger.Join(worker, (held ?? []).Select(l => (l.EpisodeId, l.Attempt)).ToHashSet());

    private static TaskLedger NewLedger() => new(() => 0, TimeSpan.FromMinutes(1), TestData.Limits, TimeProvider.System);

    private static List<TaskRequest> Requests(int count) =>
        [.. Enumerable.Range(0, count).Select(i => new TaskRequest(
            new EnvironmentTask($"t{i}", [new Objective("o", "q", ["a"])]), (ulong)(100 + i), 1, 1, 8, false))];

    private static void Play(TaskLedger ledger, FakeWorker worker, TaskLease lease) => worker.Play(ledger, lease);
}
