// What a checkpoint keeps of tasks under way, and how they go on.
using Google.Protobuf;
using Mem1.Environments;
using Mem1.Protocol.V1;

namespace Mem1.Learner.Tests;

public sealed class LedgerCheckpointTests
{
    private readonly CancellationToken _limit = new CancellationTokenSource(TimeSpan.FromSeconds(30)).Token;

    [Fact]
    public async Task What_was_played_is_kept_and_what_was_under_way_goes_on_from_its_last_whole_turn()
    {
        var straight = await Straight();

        var first = NewLedger();
        var worker = Join(first, "w");
        first.Submit(Requests(5), consumedAt: 0);
        worker.Play(first, worker.Leases[0], turns: 3);
        worker.Play(first, worker.Leases[1], turns: 3, upTo: 2);
        first.Return("w", "t3", 1, "once");
        for (var attempt = 1; attempt <= TaskLedger.MaxAttempts; attempt++) first.Return("w", "t4", attempt, $"reason {attempt}");
        var counts = first.Counts;
        Assert.Equal(new LedgerCounts(0, 3, 1, 0, 1), counts);
        Assert.True(first.HoldsTurns);

        var second = NewLedger();
        second.Restore(LedgerRecord.Parser.ParseFrom(first.Save().ToByteArray()));
        Assert.Equal((0, 1), (second.Counts.Consumed, second.Counts.Quarantined));
        Assert.Equal(1 + TaskLedger.MaxAttempts, second.Discarded[DiscardCause.Returned]);
        var fresh = Join(second, "other");
        var batch = second.Submit(Requests(5), consumedAt: 0);
        Assert.Equal(counts, second.Counts);
        Assert.Equal(
            [("t1", 2, 2), ("t2", 2, 0), ("t3", 3, 0)], fresh.Leases.Select(l => (l.TaskId, l.Attempt, l.Prefix.Count)).Order());
        foreach (var lease in fresh.Leases) fresh.Play(second, lease, turns: 3);
        var taken = await second.TakeAsync(batch, null, _limit);
        Assert.Equal(["t0", "t1", "t2", "t3"], taken.Select(t => t.TaskId));
        foreach (var (want, got) in straight.Zip(taken)) Same(want, got);
        Assert.Equal(["reason 1", "reason 2", "reason 3"], Assert.Single(second.Quarantined).Reasons);
        Assert.Equal(new LedgerCounts(0, 0, 0, 4, 1), second.Counts);
        Assert.False(second.HoldsTurns);
    }

    [Fact]
    public async Task Rewards_groups_seeds_and_right_answers_outlive_a_restart()
    {
        static List<TaskRequest> Grouped() =>
        [
            .. Requests(4).Select((r, i) => r with { SamplingSeed = (ulong)(7 + i), Group = $"g{i / 2}", RightAnswer = [1, 2, i] }),
        ];
        static List<SubTrajectory> Turns(TaskLease lease)
        {
            var turns = FakeWorker.Turns(lease, turns: 3);
            for (var i = 0; i < 2; i++) turns[i].TurnReward = 0.25f + i;
            turns[2].Outcome.FormatReward = -0.125;
            return turns;
        }

        var first = NewLedger();
        var worker = Join(first, "w");
        first.Submit(Grouped(), consumedAt: 0);
        foreach (var turn in Turns(worker.Leases[0])) first.Add("w", turn);
        foreach (var turn in Turns(worker.Leases[1]).Take(2)) first.Add("w", turn);

        var second = NewLedger();
        second.Restore(LedgerRecord.Parser.ParseFrom(first.Save().ToByteArray()));
        var other = Join(second, "other");
        var batch = second.Submit(Grouped(), consumedAt: 0);
        Assert.Equal([0, 0, 2], other.Leases.Select(l => l.Prefix.Count).Order()); // the first is whole and not leased again
        Assert.Equal([8, 9, 10], other.Leases.Select(l => (int)l.SamplingSeed).Order());
        foreach (var lease in other.Leases)
            foreach (var turn in Turns(lease).Skip(lease.Prefix.Count)) second.Add("other", turn);
        var taken = await second.TakeAsync(batch, null, _limit);
        Assert.Equal(4, taken.Count);
        for (var i = 0; i < 4; i++)
        {
            Assert.Equal($"g{i / 2}", taken[i].Group);
            Assert.Equal([1, 2, i], taken[i].RightAnswer);
            Assert.Equal(-0.125, taken[i].FormatReward);
            Assert.Equal([0.25f, 1.25f, 0], taken[i].Turns.Select(t => (float)t.Reward));
        }
    }

    [Fact]
    public void Turns_that_are_refused_are_counted_by_cause_also_over_a_restart()
    {
        (RefusalCause Cause, Action<SubTrajectory> Lie)[] lies =
        [
            (RefusalCause.Versions, s => s.PolicyVersions.Clear()),
            (RefusalCause.Versions, s => s.PolicyVersions[0] = 9),
            (RefusalCause.Lengths, s => s.LogProbs.RemoveAt(0)),
            (RefusalCause.Segments, s => s.Segments[^1].Kind = (SegmentKind)99),
            (RefusalCause.Tokens, s => s.Segments[0].Tokens[0] = -1),
            (RefusalCause.LogProbs, s => s.LogProbs[0] = float.NaN),
            (RefusalCause.Scores, s => s.TurnReward = float.NaN),
            (RefusalCause.Order, s => s.Turn = -1),
            (RefusalCause.Lease, s => s.TaskId = "another"),
            (RefusalCause.Late, s => s.Attempt = 5),
        ];
        var ledger = NewLedger();
        var worker = Join(ledger, "w");
        ledger.Submit(Requests(lies.Length + 3), consumedAt: 0);
        var leases = worker.Leases.ToList();
        foreach (var (lease, (_, lie)) in leases.Zip(lies))
        {
            var turn = FakeWorker.Turns(lease)[0];
            lie(turn);
            ledger.Add("w", turn);
        }

        // A turn that comes twice, before and after its episode is complete; a context that is not the turn before; turns after the end.
        var twice = FakeWorker.Turns(leases[lies.Length]);
        foreach (var turn in new[] { twice[0], twice[0], twice[1], twice[1] }) ledger.Add("w", turn);
        var strange = FakeWorker.Turns(leases[lies.Length + 1]);
        strange[1].Segments[1].Tokens[0] ^= 1;
        foreach (var turn in strange) ledger.Add("w", turn);
        var beyond = FakeWorker.Turns(leases[lies.Length + 2], turns: 3);
        ledger.Add("w", beyond[2]);
        beyond[1].End = beyond[2].End;
        beyond[1].Outcome = beyond[2].Outcome.Clone();
        ledger.Add("w", beyond[1]);

        var expected = Enum.GetValues<RefusalCause>().ToDictionary(c => c, c => (long)lies.Count(l => l.Cause == c));
        expected[RefusalCause.Duplicate] = 2;
        expected[RefusalCause.Context] = 1;
        expected[RefusalCause.Order] += 1;
        Assert.Equal(expected, ledger.Refused);
        var restarted = NewLedger();
        restarted.Restore(LedgerRecord.Parser.ParseFrom(ledger.Save().ToByteArray()));
        Assert.Equal(expected, restarted.Refused);
    }

    [Fact]
    public void Failures_before_a_restart_count_after_it()
    {
        var first = NewLedger();
        Join(first, "w");
        first.Submit(Requests(1), consumedAt: 0);
        first.Return("w", "t0", 1, "one");
        first.Return("w", "t0", 2, "two");
        var second = NewLedger();
        second.Restore(first.Save());
        Join(second, "w");
        second.Submit(Requests(1), consumedAt: 0);
        second.Return("w", "t0", 4, "three"); // the third try was under way at the stop
        Assert.Equal(["one", "two", "three"], Assert.Single(second.Quarantined).Reasons);
    }

    [Fact]
    public void Turns_sampled_under_other_settings_are_not_gone_on_from()
    {
        var first = NewLedger();
        var worker = Join(first, "w");
        first.Submit(Requests(2), consumedAt: 0);
        foreach (var lease in worker.Leases) worker.Play(first, lease, upTo: 1);
        var second = NewLedger();
        second.Restore(first.Save());
        worker = Join(second, "w");
        second.Submit([Requests(2)[0] with { Temperature = 0.5f }, Requests(2)[1]], consumedAt: 0);
        Assert.Equal([0, 1], worker.Leases.Select(l => l.Prefix.Count));
        Assert.Equal(1, second.Discarded[DiscardCause.Unresumable]);
    }

    [Fact]
    public void What_is_not_asked_for_yet_stays_in_the_next_checkpoint()
    {
        var first = NewLedger();
        var worker = Join(first, "w");
        first.Submit(Requests(2), consumedAt: 0);
        worker.Play(first, worker.Leases[1], upTo: 1);
        var second = NewLedger();
        second.Restore(first.Save());
        Assert.True(second.HoldsTurns);
        Assert.Equal(first.Save(), second.Save());
    }

    [Fact]
    public async Task Turns_that_cannot_be_gone_on_from_are_dropped_and_cost_no_failure()
    {
        var first = NewLedger();
        var worker = Join(first, "w");
        first.Submit(Requests(1), consumedAt: 0);
        worker.Play(first, worker.Leases[0], upTo: 1);
        var ledger = NewLedger();
        ledger.Restore(first.Save());
        worker = Join(ledger, "w");
        var batch = ledger.Submit(Requests(1), consumedAt: 0);
        Assert.Single(worker.Leases[0].Prefix);
        ledger.Return("w", "t0", 2, "the environment answers differently");
        Assert.Empty(worker.Leases[1].Prefix);
        worker.Play(ledger, worker.Leases[1]);
        Same((await Straight(count: 1, turns: 2))[0], Assert.Single(await ledger.TakeAsync(batch, null, _limit)));
        Assert.Empty(ledger.Quarantined);
        Assert.Equal(1, ledger.Discarded[DiscardCause.Unresumable]);
        Assert.Equal(0, ledger.Discarded[DiscardCause.Returned]);
    }

    [Fact]
    public async Task The_turns_of_a_worker_that_is_gone_are_gone_on_from_by_another()
    {
        var ledger = NewLedger();
        var gone = Join(ledger, "gone");
        var batch = ledger.Submit(Requests(2), consumedAt: 0);
        gone.Play(ledger, gone.Leases[0], turns: 3, upTo: 2);
        var other = Join(ledger, "other");
        ledger.Leave(gone, forGood: true, "it left");
        Assert.Equal([2, 0], other.Leases.OrderBy(l => l.TaskId, StringComparer.Ordinal).Select(l => l.Prefix.Count));
        foreach (var lease in other.Leases) other.Play(ledger, lease, turns: 3);
        foreach (var (want, got) in (await Straight(2)).Zip(await ledger.TakeAsync(batch, null, _limit))) Same(want, got);
        Assert.Equal(2, ledger.Discarded[DiscardCause.WorkerGone]);
    }

    [Fact]
    public void A_record_with_turns_that_contradict_themselves_costs_these_turns_alone()
    {
        var random = new Random(3);
        for (var trial = 0; trial < 200; trial++)
        {
            var first = NewLedger();
            var worker = Join(first, "w");
            first.Submit(Requests(3), consumedAt: 0);
            foreach (var lease in worker.Leases) worker.Play(first, lease, turns: 3, upTo: random.Next(4));
            var record = first.Save();
            foreach (var turn in record.Entries.SelectMany(e => e.Turns).Where(_ => random.Next(3) == 0))
            {
                switch (random.Next(4))
                {
                    case 0: turn.PolicyVersions[0] = 5; break;
                    case 1: turn.LogProbs.Add(-1); break;
                    case 2: turn.Turn += random.Next(-1, 2); break;
                    default: turn.Segments[0].Tokens[0] = 1000; break;
                }
            }

            var second = NewLedger();
            second.Restore(record);
            var again = Join(second, "w");
            second.Submit(Requests(3), consumedAt: 0);
            Assert.Equal(3, second.Counts.Leased + second.Counts.Buffered);
            foreach (var lease in again.Leases) again.Play(second, lease, turns: 3);
            Assert.Equal(3, second.Counts.Total);
        }
    }

    private async Task<IReadOnlyList<Trajectory>> Straight(int count = 5, int turns = 3)
    {
        var ledger = NewLedger();
        var worker = Join(ledger, "w");
        var batch = ledger.Submit(Requests(count), consumedAt: 0);
        foreach (var lease in worker.Leases.ToList()) worker.Play(ledger, lease, turns);
        return await ledger.TakeAsync(batch, null, _limit);
    }

    private static void Same(Trajectory want, Trajectory got)
    {
        Assert.Equal(want.TaskId, got.TaskId);
        Assert.Equal(want.Prompt, got.Prompt);
        Assert.Equal(want.Reward, got.Reward);
        Assert.Equal(want.Turns.Count, got.Turns.Count);
        foreach (var (a, b) in want.Turns.Zip(got.Turns))
        {
            Assert.Equal(a.Context, b.Context);
            Assert.Equal(a.Generated, b.Generated);
            Assert.Equal(a.LogProbs, b.LogProbs);
            Assert.Equal(a.PolicyVersions, b.PolicyVersions);
            Assert.Equal(a.Observation, b.Observation);
        }
    }

    private static FakeWorker Join(TaskLedger ledger, string name)
    {
        var worker = new FakeWorker(name, credit: 100);
        ledger.Join(worker, new HashSet<(string, int)>());
        return worker;
    }

    private static TaskLedger NewLedger() => new(() => 0, TimeSpan.FromMinutes(1), TestData.Limits, TimeProvider.System);

    private static List<TaskRequest> Requests(int count) =>
        [.. Enumerable.Range(0, count).Select(i => new TaskRequest(
            new EnvironmentTask($"t{i}", [new Objective("o", "q", ["a"])]), (ulong)(100 + i), 1, 1, 8, false))];
}
