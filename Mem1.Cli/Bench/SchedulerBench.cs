// Keeps: one stream of episodes, the same durations for every way; virtual time only, so the machine's speed and load change nothing. "Ours" is
// the product's TaskLedger, asked and answered as TrainingLoop and a worker's session do it; only time and the policy are made up.
using System.Globalization;
using Mem1.Environments;
using Mem1.Learner;
using Mem1.Protocol.V1;

namespace Mem1.Cli.Bench;

/// <summary>A way of scheduling.</summary>
/// <param name="Way">lock-step, batch by batch, or asynchronous with its staleness bound.</param>
/// <param name="Episodes">Played.</param>
/// <param name="EpisodesPerSecond">In virtual time.</param>
/// <param name="IdleShare">Of the workers' places, over the whole run, the time of the updates included.</param>
/// <param name="ShareOfIdeal">Of the episodes per second with which no place would ever be idle.</param>
/// <param name="TimesLockStep">Episodes per second, over those of lock-step.</param>
/// <param name="Staleness">Episodes by the age of their oldest token, in versions; null where nothing is ever stale.</param>
/// <param name="PastTheBound">Episodes consumed with a token past the bound.</param>
internal sealed record SchedulerRow(
    string Way, int Episodes, double EpisodesPerSecond, double IdleShare, double ShareOfIdeal, double TimesLockStep, long[]? Staleness,
    long PastTheBound);

/// <summary>What <c>mem1 bench scheduler</c> reports.</summary>
/// <param name="Places">Episodes that the workers play at once.</param>
/// <param name="Batch">Episodes of an update.</param>
/// <param name="UpdateSeconds">Virtual time of an update.</param>
/// <param name="IdealEpisodesPerSecond">Places over the mean duration of an episode.</param>
/// <param name="Rows">The ways.</param>
internal sealed record SchedulerReport(
    int Places, int Batch, double UpdateSeconds, double IdealEpisodesPerSecond, IReadOnlyList<SchedulerRow> Rows)
{
    public string Table()
    {
        var c = CultureInfo.InvariantCulture;
        var head = string.Create(
            c, $"{Places} places, batches of {Batch}, updates of {UpdateSeconds:0.0} s; ideal {IdealEpisodesPerSecond:0.000} episodes/s (virtual time)\n");
        return head + "way               episodes/s   idle  of ideal  x lock-step  past bound  oldest token, in versions\n"
            + string.Concat(Rows.Select(r => string.Create(
                c, $"{r.Way,-16} {r.EpisodesPerSecond,11:0.000} {r.IdleShare,6:0.0%} {r.ShareOfIdeal,9:0.0%} {r.TimesLockStep,12:0.00} {r.PastTheBound,11}")
                + $"  {(r.Staleness is null ? "-" : string.Join(' ', r.Staleness))}\n"));
    }
}

/// <summary>Simulates rollout workers.</summary>
internal static class SchedulerBench
{
    // Eight workers of eight places; an update takes two rounds of them. The shape of the load decides the ratios, not its size.
    private const int Workers = 8, PlacesEach = 8, Places = Workers * PlacesEach, Batch = 128;

    // Episodes of 1 to 20 turns (MEM1 with 1 to 16 objectives). Medians and spreads (sigma of the logarithm) of a turn: response tokens,
    // seconds a token, seconds of a search.
    private const int MaxTurns = 20;
    private const double Tokens = 60, TokensSpread = 0.7, TokenSeconds = 0.02, TokenSpread = 0.35, SearchSeconds = 0.3, SearchSpread = 0.8;

    // An update, as a share of the time in which all places play a batch: a learner that keeps up with room to spare.
    private const double UpdateShare = 0.3;

    // Until a worker has new weights in place, in seconds.
    private const double LongestSwap = 2;

    /// <summary>Runs it.</summary>
    /// <param name="episodes">Of each way, in whole batches.</param>
    /// <param name="bounds">Staleness bounds.</param>
    /// <param name="progress">Told what happens.</param>
    public static SchedulerReport Run(int episodes, int[] bounds, Action<string> progress)
    {
        var batches = Math.Max(1, episodes / Batch);
        episodes = batches * Batch;
        progress("the ideal");
        var work = 0.0;
        for (var i = 0; i < episodes; i++) work += Turns(i).Sum(t => t.Policy + t.Search);
        var ideal = Places / (work / episodes);
        var update = UpdateShare * Batch / ideal;
        var rows = new List<SchedulerRow>();
        void Add(string way, double seconds, long[]? ages, long past)
        {
            var rate = episodes / seconds;
            rows.Add(new SchedulerRow(
                way, episodes, rate, 1 - (rate / ideal), rate / ideal, rows.Count == 0 ? 1 : rate / rows[0].EpisodesPerSecond, ages, past));
        }

        progress("lock-step");
        Add("lock-step", Enumerable.Range(0, batches).Sum(b => LockStep(b) + update), null, 0);
        progress("batch by batch");
        Add("batch by batch", Enumerable.Range(0, batches).Sum(b => BatchByBatch(b) + update), null, 0);
        foreach (var bound in bounds)
        {
            progress($"asynchronous, staleness {bound}");
            var (seconds, ages) = new Asynchronous(bound, update, batches).Run();
            Add($"staleness {bound}", seconds, ages, ages.Skip(bound + 1).Sum());
        }

        return new SchedulerReport(Places, Batch, update, ideal, rows);
    }

    /// <summary>The turns of an episode: a function of its number.</summary>
    private static (double Policy, double Search)[] Turns(int episode)
    {
        var random = new SeededRandom((ulong)episode + 1);
        var turns = new (double, double)[1 + (int)(random.Uniform() * MaxTurns)];
        for (var j = 0; j < turns.Length; j++)
        {
            turns[j] = (
                random.LogNormal(Tokens, TokensSpread) * random.LogNormal(TokenSeconds, TokenSpread),
                random.LogNormal(SearchSeconds, SearchSpread));
        }

        return turns;
    }

    /// <summary>As the original does it: everybody waits for the slowest response, then for the slowest search, until the last has ended.</summary>
    private static double LockStep(int batch)
    {
        var seconds = 0.0;
        for (var wave = 0; wave < Batch; wave += Places)
        {
            var playing = Enumerable.Range((batch * Batch) + wave, Places).Select(Turns).ToArray();
            for (var j = 0; j < MaxTurns; j++)
            {
                double policy = 0, search = 0;
                foreach (var turns in playing)
                {
                    if (j >= turns.Length) continue;
                    (policy, search) = (Math.Max(policy, turns[j].Policy), Math.Max(search, turns[j].Search));
                }

                seconds += policy + search;
            }
        }

        return seconds;
    }

    /// <summary>Every place takes the next episode as it becomes free, but the update waits for all, and they for it.</summary>
    private static double BatchByBatch(int batch)
    {
        var free = new PriorityQueue<int, double>(Enumerable.Range(0, Places).Select(p => (p, 0.0)));
        var last = 0.0;
        for (var i = 0; i < Batch; i++)
        {
            free.TryDequeue(out var place, out var at);
            at += Turns((batch * Batch) + i).Sum(t => t.Policy + t.Search);
            free.Enqueue(place, at);
            last = Math.Max(last, at);
        }

        return last;
    }

    /// <summary>SplitMix64 and Box-Muller: quick to seed, which happens once an episode.</summary>
    private sealed class SeededRandom(ulong seed)
    {
        private ulong _state = seed * 0x9E3779B97F4A7C15;

        public double Uniform()
        {
            var z = _state += 0x9E3779B97F4A7C15;
            z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
            z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
            return ((z ^ (z >> 31)) >> 11) * (1.0 / (1UL << 53));
        }

        public double LogNormal(double median, double spread) =>
            median * Math.Exp(spread * Math.Sqrt(-2 * Math.Log(1 - Uniform())) * Math.Cos(2 * Math.PI * Uniform()));
    }

    /// <summary>The real ledger in virtual time.</summary>
    private sealed class Asynchronous
    {
        private readonly int _bound, _batches;
        private readonly double _update;
        private readonly TaskLedger _ledger;
        private readonly Place[] _workers;
        private readonly Queue<(Place Worker, TaskLease Lease)> _leased = new();
        private readonly PriorityQueue<Action, double> _events = new();
        private readonly Queue<LedgerBatch> _ahead = new();
        private readonly long[] _ages;
        private long _version;
        private double _now;
        private int _submitted, _done;
        private bool _learning;

        public Asynchronous(int bound, double update, int batches)
        {
            (_bound, _update, _batches, _ages) = (bound, update, batches, new long[bound + 2]);
            _ledger = new TaskLedger(
                () => _version, TimeSpan.FromDays(1), new TrajectoryLimits(8, 8), TimeProvider.System, discarded: null, bound);
            _workers = [.. Enumerable.Range(0, Workers).Select(i => new Place($"worker {i}", _leased))];
        }

        public (double Seconds, long[] Ages) Run()
        {
            foreach (var worker in _workers) _ledger.Join(worker, new HashSet<(string, int)>());
            SampleAhead();
            Settle();
            while (_done < _batches && _events.TryDequeue(out var happens, out var at))
            {
                _now = at;
                happens();
                Settle();
            }

            return (_now, _ages);
        }

        /// <summary>Starts what was leased and learns from what is complete.</summary>
        private void Settle()
        {
            if (!_learning && _ahead.TryPeek(out var next) && next.Done == next.Size) Learn(_ahead.Dequeue());
            while (_leased.TryDequeue(out var begun))
            {
                var (worker, lease) = begun;
                var oldest = worker.AppliedVersion;
                _events.Enqueue(
                    () =>
                    {
                        _ledger.Add(worker.WorkerId, Played(lease, oldest, worker.AppliedVersion));
                        worker.Credit++;
                        _ledger.Wake();
                    },
                    _now + Turns((int)lease.Seed).Sum(t => t.Policy + t.Search));
            }
        }

        private void Learn(LedgerBatch batch)
        {
            // Complete: it does not wait. What is past the bound it would send back, and the batch would no longer be complete.
            var taking = _ledger.TakeAsync(batch, null, CancellationToken.None);
            if (!taking.IsCompleted) throw new InvalidOperationException("The ledger played a task again that was admitted within the bound.");
            foreach (var t in taking.GetAwaiter().GetResult())
            {
                var oldest = t.Turns.Min(turn => turn.PolicyVersions.Min());
                _ages[Math.Clamp(_version - oldest, 0, _bound + 1)]++;
            }

            _learning = true;
            _events.Enqueue(
                () =>
                {
                    (_learning, _version) = (false, _version + 1);
                    _done++;
                    var version = _version;
                    for (var i = 0; i < _workers.Length; i++)
                    {
                        var worker = _workers[i];
                        _events.Enqueue(
                            () =>
                            {
                                worker.AppliedVersion = Math.Max(worker.AppliedVersion, version);
                                _ledger.Wake();
                            },
                            _now + (LongestSwap * (i + 1) / Workers));
                    }

                    SampleAhead();
                },
                _now + _update);
        }

        /// <summary>As TrainingLoop.SampleAhead.</summary>
        private void SampleAhead()
        {
            foreach (var (batch, i) in _ahead.Select((batch, i) => (batch, i))) _ledger.Expect(batch, _version + i);
            while (_ahead.Count <= _bound && _submitted < _batches)
            {
                var first = _submitted++ * Batch;
                var requests = Enumerable.Range(first, Batch).Select(i => new TaskRequest(
                    new EnvironmentTask(i.ToString(CultureInfo.InvariantCulture), [new Objective("o", "q", ["a"])]), (ulong)i, 1, 1, 4, false));
                _ahead.Enqueue(_ledger.Submit([.. requests], _version + _ahead.Count));
            }
        }

        private static SubTrajectory Played(TaskLease lease, long oldest, long newest) => new()
        {
            EpisodeId = lease.EpisodeId,
            TaskId = lease.TaskId,
            Attempt = lease.Attempt,
            Segments =
            {
                new Segment { Kind = SegmentKind.Prompt, Tokens = { 1 } },
                new Segment { Kind = SegmentKind.Action, Generated = true, Tokens = { 2, 3 } },
            },
            LogProbs = { -1, -1 },
            PolicyVersions = { oldest, newest },
            End = EndReason.Answered,
            TurnReward = 1,
            Outcome = new EpisodeOutcome { Reward = 1, ExactMatch = { 1 }, F1 = { 1 }, Answer = "a" },
        };
    }

    private sealed class Place(string id, Queue<(Place Worker, TaskLease Lease)> leased) : ILeaseTarget
    {
        public string WorkerId => id;

        public long AppliedVersion { get; set; }

        public int Credit { get; set; } = PlacesEach;

        public bool TrySend(TaskLease lease)
        {
            Credit--;
            leased.Enqueue((this, lease));
            return true;
        }

        public void End()
        {
        }
    }
}
