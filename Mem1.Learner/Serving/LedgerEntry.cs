// Keeps: what a task's lease says never changes between tries but for the number of the try and the turns it goes on from.
using Mem1.Protocol.V1;

namespace Mem1.Learner;

internal enum EntryState
{
    Pending,
    Leased,
    Buffered,
    Quarantined,
}

/// <summary>A task in the ledger. Guarded by the ledger's lock.</summary>
internal sealed class LedgerEntry(TaskRequest request, LedgerBatch batch)
{
    // Failures and ends of workers are bounded; what became too old or was never begun is not, and the last ones say enough.
    private const int MaxTries = 64;

    private readonly List<EpisodeTry> _tries = [];

    public string Id => request.Task.Id;
    public string Group => request.Group;
    public int[] RightAnswer => request.RightAnswer;
    public LedgerBatch Batch { get; } = batch;
    public EntryState State { get; set; }
    public int Attempt { get; set; }
    public ILeaseTarget? Holder { get; set; }
    /// <summary>Timestamp of the ledger's clock, which no change of the time of day moves.</summary>
    public long LeasedAt { get; set; }
    public LinkedListNode<LedgerEntry>? Node { get; set; }
    public Trajectory? Trajectory { get; set; }
    public List<string> Reasons { get; } = [];
    /// <summary>How many of <see cref="Reasons"/> are ends of workers.</summary>
    public int Losses { get; set; }

    public HashSet<string> FailedOn { get; } = new(StringComparer.Ordinal);

    /// <summary>The turns held of the last try, in the order they came.</summary>
    public List<SubTrajectory> Turns { get; } = [];

    /// <summary>How many of <see cref="Turns"/> the last lease went on from.</summary>
    public int PrefixTurns { get; set; }

    /// <summary>What a turn says that its lease does not; null when they agree.</summary>
    public string? Contradiction(SubTrajectory sub)
    {
        var where = $"Sub-trajectory {sub.EpisodeId}/{sub.Turn}";
        if (sub.TaskId != Id) return $"{where} names another task than its lease.";
        if (sub.Evaluation != request.Evaluation) return $"{where} takes a training episode for an evaluation, or the other way round.";
        if (sub.Outcome is { } outcome && outcome.ExactMatch.Count != request.Task.Objectives.Count)
            return $"{where} scores {outcome.ExactMatch.Count} objectives of a task that has {request.Task.Objectives.Count}.";
        return null;
    }

    /// <summary>The tries of this life of the learner, in order.</summary>
    public IReadOnlyList<EpisodeTry> Tries => _tries;

    /// <summary>A try begins.</summary>
    public void Began(string worker, DateTimeOffset? now)
    {
        if (_tries.Count == MaxTries) _tries.RemoveAt(0);
        _tries.Add(new EpisodeTry(Attempt, worker, now) { FromTurn = PrefixTurns });
    }

    /// <summary>The try under way has ended, or, for one that is finished, will not count.</summary>
    public void Ended(string how, string reason, DateTimeOffset now)
    {
        if (_tries.Count == 0 || _tries[^1].Attempt != Attempt) Began(Holder?.WorkerId ?? PlayedBy, null);
        _tries[^1] = _tries[^1] with { Ended = now, How = how, Reason = reason };
    }

    /// <summary>Whether its turns wait for weights that are being made again (<see cref="TaskLedger.Restore"/>).</summary>
    public bool IsParked { get; set; }

    /// <summary>Who played it before the restart; empty for nobody.</summary>
    public string PlayedBy { get; set; } = "";

    /// <summary>The newest version of the turns held; -1 when there are none.</summary>
    public long NewestVersion() => Turns.SelectMany(t => t.PolicyVersions).DefaultIfEmpty(-1).Max();

    /// <summary>The oldest version of the turns held; beyond every version when there are none.</summary>
    public long OldestVersion() => Turns.SelectMany(t => t.PolicyVersions).DefaultIfEmpty(long.MaxValue).Min();

    /// <summary>The lease without the turns it goes on from.</summary>
    public TaskLease Terms()
    {
        var body = new TaskBody { Environment = request.Task.Environment };
        foreach (var o in request.Task.Objectives)
        {
            var objective = new ObjectiveBody { Id = o.Id, Question = o.Question };
            objective.GoldenAnswers.AddRange(o.GoldenAnswers);
            body.Objectives.Add(objective);
        }

        var lease = new TaskLease
        {
            TaskId = Id,
            EpisodeId = Id,
            Attempt = Attempt,
            Seed = request.Seed,
            Task = body,
            Sampling = new SamplingParameters
            {
                Temperature = request.Temperature,
                TopP = request.TopP,
                MaxNewTokens = request.MaxNewTokens,
            },
            Evaluation = request.Evaluation,
        };
        if (request.SamplingSeed is { } seed) lease.SamplingSeed = seed;
        return lease;
    }
}
