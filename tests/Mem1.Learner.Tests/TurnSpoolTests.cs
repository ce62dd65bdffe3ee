// The write-ahead log of the ledger: what it keeps, what a cut leaves of it, and how a ledger goes on from it.
using Mem1.Environments;
using Mem1.Protocol.V1;

namespace Mem1.Learner.Tests;

public sealed class TurnSpoolTests : IDisposable
{
    private readonly CancellationToken _limit = new CancellationTokenSource(TimeSpan.FromSeconds(30)).Token;
    private readonly string _folder = Directory.CreateTempSubdirectory("mem1 spool ").FullName;
    private readonly List<string> _notes = [];

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task What_is_appended_is_read_again_in_order_over_segments_and_lives()
    {
        using (var spool = Open(1))
        {
            for (var i = 0; i < 5; i++) spool.Append(Record(i));
            await spool.FlushAsync(_limit);
            Assert.Equal(2, spool.Rotate());
            for (var i = 5; i < 9; i++) spool.Append(Record(i));
        }

        using (var second = Open(1))
        {
            Assert.Equal(Enumerable.Range(0, 9), Numbers(second));
            Assert.Empty(second.TakeRecovered()); // once
            second.Append(Record(9));
        }

        using (var third = Open(2)) Assert.Equal(Enumerable.Range(5, 5), Numbers(third)); // a checkpoint covers the first segment
        using (var last = Open(2))
        {
            last.DeleteBefore(4);
            await last.FlushAsync(_limit);
        }

        Assert.Empty(_notes);
        using var late = Open(2); // the checkpoint it fits to is gone
        Assert.Empty(Numbers(late));
        Assert.Contains("begins after the checkpoint", Assert.Single(_notes));
    }

    [Fact]
    public void A_write_that_was_cut_anywhere_loses_what_was_not_whole_and_nothing_else()
    {
        using (var spool = Open(1))
            for (var i = 0; i < 3; i++) spool.Append(Record(i));
        var path = Directory.GetFiles(_folder).Order(StringComparer.Ordinal).First();
        var whole = File.ReadAllBytes(path);
        var record = (whole.Length - 16) / 3;
        for (var length = 0; length <= whole.Length; length++)
        {
            File.WriteAllBytes(path, whole[..length]);
            var (records, torn) = SpoolSegment.Read(path, 1);
            Assert.Equal(Math.Max(0, (length - 16) / record), records.Count);
            Assert.Equal(length < 16 ? length : (length - 16) % record, torn);
        }

        for (var at = 0; at < whole.Length; at++)
        {
            var spoilt = (byte[])whole.Clone();
            spoilt[at] ^= 0x10;
            File.WriteAllBytes(path, spoilt);
            Assert.Equal(at < 16 ? 0 : (at - 16) / record, SpoolSegment.Read(path, 1).Records.Count);
        }

        File.WriteAllBytes(path, whole);
        Assert.Empty(SpoolSegment.Read(path, 2).Records); // a file under another number
    }

    [Fact]
    public async Task Nobody_is_told_before_it_is_on_the_disk()
    {
        using var spool = Open(1);
        for (var i = 0; i < 20; i++)
        {
            var told = new TaskCompletionSource<int>(TaskCreationOptions.RunContinuationsAsynchronously);
            spool.Append(Record(i));
            var path = Path.Combine(_folder, "00000001.log");
            spool.WhenDurable(() => told.SetResult(SpoolSegment.Read(path, 1).Records.Count));
            Assert.Equal(i + 1, await told.Task.WaitAsync(_limit));
        }
    }

    [Fact]
    public async Task A_disk_that_is_gone_tells_nobody_and_ends_the_wait_with_a_sentence()
    {
        var folder = Path.Combine(_folder, "inner");
        using var spool = TurnSpool.Open(folder, 1, new DiskPatience(TimeSpan.Zero, _notes.Add), _notes.Add);
        await spool.FlushAsync(_limit);
        Directory.Delete(folder, recursive: true);
        spool.Rotate();
        var told = false;
        spool.WhenDurable(() => told = true);
        var failure = await Assert.ThrowsAsync<LearnerException>(() => spool.FlushAsync(_limit));
        Assert.Contains("cannot be written", failure.Message);
        Assert.Contains("--resume", failure.Message);
        Assert.False(told);
    }

    [Fact]
    public void A_full_disk_is_waited_for_and_said_once()
    {
        var patience = new DiskPatience(TimeSpan.FromMinutes(1), _notes.Add);
        var tries = 0;
        patience.Do("it", () => { if (++tries < 4) throw Full(); }, _limit);
        Assert.Equal(4, tries);
        Assert.True(patience.Waited > TimeSpan.Zero);
        Assert.Equal(2, _notes.Count);
        Assert.StartsWith("The disk is full: it cannot be written (no room).", _notes[0]);

        // Other failures, no patience, and a stop meanwhile: thrown at once.
        Assert.Throws<IOException>(() => patience.Do("it", () => throw new IOException("other"), _limit));
        Assert.Throws<LearnerException>(() => new DiskPatience(TimeSpan.Zero, _notes.Add)
            .Do("it", () => throw new LearnerException("wrapped", Full()), _limit));
        using var stop = new CancellationTokenSource();
        tries = 0;
        Assert.Throws<IOException>(() => patience.Do("it", () => { if (++tries == 2) stop.Cancel(); throw Full(); }, stop.Token));
        Assert.Equal(2, tries);

        static IOException Full() => new("no room", 28);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    public void Checkpoint_and_spool_give_the_ledger_of_now_whatever_happened(int seed)
    {
        var random = new Random(seed);
        LedgerRecord? checkpoint = null;
        LedgerRecord now;
        var time = new ManualTime();
        using (var spool = Open(1))
        {
            var ledger = new TaskLedger(() => 0, TimeSpan.FromMinutes(1), TestData.Limits, time, staleness: 1) { Spool = spool };
            ledger.Published(0, [1, 2]);
            FakeWorker[] workers = [Join(ledger, "a"), Join(ledger, "b"), Join(ledger, "c")];
            ledger.Submit(Requests(0, 20), consumedAt: 0);
            ledger.Submit(Requests(1, 20), consumedAt: 1);
            for (var step = 0; step < 400; step++)
            {
                var i = random.Next(workers.Length);
                var worker = workers[i];
                var lease = worker.Leases.Count == 0 ? null : worker.Leases[random.Next(worker.Leases.Count)];
                switch (random.Next(14))
                {
                    case 0 when lease is not null:
                        ledger.Return(worker.WorkerId, lease.EpisodeId, lease.Attempt, "no", leaving: random.Next(2) == 0);
                        break;
                    case 1:
                        ledger.Leave(worker, forGood: random.Next(2) == 0, "left");
                        workers[i] = new FakeWorker(worker.WorkerId, 100);
                        ledger.Join(workers[i], worker.Leases.Where(_ => random.Next(2) == 0).Select(l => (l.EpisodeId, l.Attempt)).ToHashSet());
                        workers[i].Leases.AddRange(worker.Leases);
                        break;
                    case 2:
                        time.Now += TimeSpan.FromSeconds(random.Next(20));
                        ledger.ExpireLeases();
                        break;
                    case 3 when lease is not null && random.Next(3) == 0:
                        var bad = FakeWorker.Turns(lease, 3)[0];
                        bad.LogProbs[0] = float.NaN;
                        ledger.Add(worker.WorkerId, bad);
                        break;
                    case 4 when step > 100 && checkpoint is null:
                        checkpoint = ledger.Save();
                        break;
                    default:
                        if (lease is null) break;
                        var turns = FakeWorker.Turns(lease, 3);
                        ledger.Add(worker.WorkerId, turns[random.Next(3)]); // in any order, again and again
                        break;
                }
            }

            now = ledger.Save();
        }

        Assert.NotNull(checkpoint);
        foreach (var from in new[] { new LedgerRecord(), checkpoint })
        {
            using var again = TurnSpool.Open(_folder, from.SpoolFrom == 0 ? 1 : from.SpoolFrom, new DiskPatience(TimeSpan.Zero, _notes.Add), _notes.Add);
            var records = again.TakeRecovered();
            var replayed = SpoolReplay.Apply(from, records);
            Assert.Equal(Normal(now), Normal(replayed));
        }

        // Who gave up when is told apart, refused turns are not spooled, and nobody asks who played what is whole.
        static LedgerRecord Normal(LedgerRecord record)
        {
            var normal = record.Clone();
            normal.SpoolFrom = 0;
            normal.Refused.Clear();
            foreach (var cause in Enum.GetNames<DiscardCause>()) normal.Discarded.TryAdd(cause, 0);
            var given = normal.Quarantined.Concat(normal.GivenUp).OrderBy(q => q.TaskId, StringComparer.Ordinal).ToList();
            normal.Quarantined.Clear();
            normal.GivenUp.Clear();
            normal.Quarantined.AddRange(given);
            foreach (var entry in normal.Entries.Where(e => e.Turns.Count == 3)) entry.WorkerId = "";
            var entries = normal.Entries.OrderBy(e => e.Terms.EpisodeId, StringComparer.Ordinal).ToList();
            normal.Entries.Clear();
            normal.Entries.AddRange(entries);
            return normal;
        }
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Updates_after_the_checkpoint_are_done_again_without_playing_if_they_give_the_same_weights(bool same)
    {
        // Update n trains on batch n, which was sampled under versions n-1 (the task's first turn) and n, and gives version n+1.
        long version = 0;
        var straight = new List<IReadOnlyList<Trajectory>>();
        string[] under;
        using (var spool = Open(1))
        {
            var first = NewLedger(() => version, spool);
            first.Published(0, [0]);
            var worker = Join(first, "w");
            var ahead = first.Submit(Requests(0, 3), consumedAt: 0);
            for (; version < 3; version++)
            {
                if (version > 0) first.Published(version, [(byte)version]);
                worker.AppliedVersion = version;
                first.Wake();
                var next = first.Submit(Requests((int)version + 1, 3), consumedAt: version + 1);
                foreach (var lease in Open(worker, "u" + version)) Play(first, worker, lease, version, from: lease.TaskId.StartsWith("u0", StringComparison.Ordinal) ? 0 : 1, to: 3);
                foreach (var lease in Open(worker, "u" + (version + 1))) Play(first, worker, lease, version, from: 0, to: 1);
                straight.Add(await first.TakeAsync(ahead, null, _limit));
                ahead = next;
            }

            first.Published(3, [3]);
            foreach (var lease in Open(worker, "u3").Take(2)) Play(first, worker, lease, 3, from: 1, to: 2);
            await spool.FlushAsync(_limit);
            under = [.. first.Leases.Select(l => l.EpisodeId).Order(StringComparer.Ordinal)];
        } // and here the learner is killed; its last checkpoint was before the first update

        version = 0;
        using var reopened = Open(1);
        var second = NewLedger(() => version, reopened);
        second.Restore(SpoolReplay.Apply(new LedgerRecord(), reopened.TakeRecovered()));
        var lineage = second.Lineage;
        second.Published(0, [0]);
        var again = new List<LedgerBatch> { second.Submit(Requests(0, 3), consumedAt: 0) };
        var turnsPlayed = 0;
        for (; version < 3; version++)
        {
            if (version > 0) second.Published(version, [(byte)(version + (same || version < 2 ? 0 : 100))]);
            again.Add(second.Submit(Requests((int)version + 1, 3), consumedAt: version + 1));
            var taking = second.TakeAsync(again[(int)version], null, _limit);
            Assert.Equal(!same && version >= 2, second.Recovered.IsCompleted);
            if (second.Recovered.IsCompleted)
            {
                var other = Join(second, $"other{version}", version);
                foreach (var lease in other.Leases)
                {
                    Assert.True(lease.Prefix.Count <= 1); // of the version before, which was the same
                    Play(second, other, lease, version, lease.Prefix.Count, 3);
                    turnsPlayed += 3 - lease.Prefix.Count;
                }
            }

            var taken = await taking;
            if (same || version < 2) Assert.Equal(straight[(int)version].SelectMany(Tokens), taken.SelectMany(Tokens));
            Assert.All(taken, t => Assert.InRange(t.OldestVersion, Math.Max(0, version - 1), version));
        }

        Assert.Equal(9, second.Counts.Consumed);
        Assert.Equal(same, lineage == second.Lineage);
        Assert.Equal(same, turnsPlayed == 0);
        second.Published(3, [3]);
        if (!same) return;

        // What was being played is still the worker's: it says hello, sends what it has, and its try counts.
        var waiting = second.TakeAsync(again[3], null, _limit);
        Assert.True(second.Recovered.IsCompleted);
        Assert.Equal(under, second.Leases.Select(l => l.EpisodeId).Order(StringComparer.Ordinal));
        var back = new FakeWorker("w", 100) { AppliedVersion = 3 };
        second.Join(back, second.Leases.Select(l => (l.EpisodeId, l.Attempt)).ToHashSet());
        Assert.Empty(back.Leases);
        foreach (var lease in second.Leases)
        {
            var terms = Lease(Requests(3, 3).Single(r => r.Task.Id == lease.EpisodeId), lease.Attempt);
            foreach (var turn in Turns(terms, 3).Skip(1)) second.Add("w", turn); // the second of some for the second time
        }

        Assert.Equal(3, (await waiting).Count);
        Assert.Equal(new LedgerCounts(0, 0, 0, 12, 0), second.Counts);
        Assert.All(second.Discarded.Values, count => Assert.Equal(0, count));
    }

    [Fact]
    public void A_try_that_a_worker_holds_of_another_life_is_not_numbered_again()
    {
        var ledger = new TaskLedger(() => 0, TimeSpan.FromMinutes(1), TestData.Limits, TimeProvider.System);
        ledger.Submit(Requests(0, 2), consumedAt: 0);
        var worker = new FakeWorker("w", 100);
        ledger.Join(worker, new HashSet<(string, int)> { ("u0-0", 4) });
        Assert.Equal([("u0-0", 5), ("u0-1", 1)], worker.Leases.Select(l => (l.EpisodeId, l.Attempt)).Order());
    }

    [Fact]
    public void A_closed_ledger_takes_and_acknowledges_nothing()
    {
        var ledger = new TaskLedger(() => 0, TimeSpan.FromMinutes(1), TestData.Limits, TimeProvider.System);
        ledger.Submit(Requests(0, 2), consumedAt: 0);
        var worker = Join(ledger, "w");
        var told = 0;
        var turns = FakeWorker.Turns(worker.Leases[0]);
        ledger.Add("w", turns[0], () => told++);
        var before = ledger.Save();
        ledger.Close();
        ledger.Add("w", turns[1], () => told++);
        ledger.Return("w", worker.Leases[1].EpisodeId, 1, "no");
        ledger.Leave(worker, forGood: true, "left");
        Assert.Equal(1, told);
        Assert.Equal(before, ledger.Save());
    }

    private TurnSpool Open(long from) => TurnSpool.Open(_folder, from, new DiskPatience(TimeSpan.Zero, _notes.Add), _notes.Add);

    private static SpoolRecord Record(int number) => new() { Release = new ReleaseNote { EpisodeId = $"episode {number}" } };

    private static IEnumerable<int> Numbers(TurnSpool spool) => spool.TakeRecovered()
        .Select(r => int.Parse(r.Release.EpisodeId["episode ".Length..], System.Globalization.CultureInfo.InvariantCulture));

    private static TaskLedger NewLedger(Func<long> version, TurnSpool spool) =>
        new(version, TimeSpan.FromMinutes(1), TestData.Limits, TimeProvider.System, staleness: 1) { Spool = spool, AdoptLeases = true };

    private static FakeWorker Join(TaskLedger ledger, string name, long version = 0)
    {
        var worker = new FakeWorker(name, credit: 100) { AppliedVersion = version };
        ledger.Join(worker, new HashSet<(string, int)>());
        return worker;
    }

    private static IEnumerable<TaskLease> Open(FakeWorker worker, string batch) =>
        worker.Leases.Where(l => l.TaskId.StartsWith(batch, StringComparison.Ordinal)).ToList();

    private static void Play(TaskLedger ledger, FakeWorker worker, TaskLease lease, long version, int from, int to)
    {
        foreach (var turn in Turns(lease, version)[from..to]) ledger.Add(worker.WorkerId, turn);
    }

    private static List<SubTrajectory> Turns(TaskLease lease, long version) => FakeWorker.Turns(lease, 3, version);

    private static IEnumerable<int> Tokens(Trajectory trajectory) =>
        trajectory.Turns.SelectMany(t => t.Generated.Concat(t.PolicyVersions.Select(v => (int)v)));

    private static TaskLease Lease(TaskRequest request, int attempt) =>
        new() { TaskId = request.Task.Id, EpisodeId = request.Task.Id, Attempt = attempt, Seed = request.Seed };

    private static List<TaskRequest> Requests(int batch, int count) =>
        [.. Enumerable.Range(0, count).Select(i => new TaskRequest(
            new EnvironmentTask($"u{batch}-{i}", [new Objective("o", "q", ["a"])]), (ulong)((100 * batch) + i), 1, 1, 8, false))];
}
