using System.Text.Encodings.Web;
using System.Text.Json;
using Mem1.Learner;

namespace Mem1.Cli.Training;

/// <summary>One try of a <see cref="TraceRecord"/>.</summary>
internal sealed record TryRecord
{
    public int Attempt { get; init; }
    public string Worker { get; init; } = "";
    public int FromTurn { get; init; }

    /// <summary>Null when that was before a restart of the learner.</summary>
    public DateTimeOffset? Leased { get; init; }

    public DateTimeOffset? Ended { get; init; }

    /// <summary>In snake_case.</summary>
    public string How { get; init; } = "";

    public string Reason { get; init; } = "";
}

/// <summary>A line of traces.jsonl: the way of one episode from its task to the update that trained on it.</summary>
internal sealed record TraceRecord
{
    public const string FileName = "traces.jsonl";

    private static readonly JsonSerializerOptions s_format = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        RespectNullableAnnotations = true,
        DefaultIgnoreCondition = System.Text.Json.Serialization.JsonIgnoreCondition.WhenWritingNull,
    };

    public long Update { get; init; }
    public string TraceId { get; init; } = "";
    public string EpisodeId { get; init; } = "";

    /// <summary>consumed or quarantined.</summary>
    public string State { get; init; } = "";

    public IReadOnlyList<TryRecord> Tries { get; init; } = [];
    public int? Turns { get; init; }
    public int? GeneratedTokens { get; init; }
    public double? Reward { get; init; }

    /// <summary>In snake_case.</summary>
    public string? End { get; init; }

    /// <summary>Of its tokens.</summary>
    public long? OldestVersion { get; init; }
    public long? NewestVersion { get; init; }

    /// <summary>When the update that trained on it was done.</summary>
    public DateTimeOffset Written { get; init; }

    /// <summary>Of the weights after the update.</summary>
    public long? PolicyVersion { get; init; }

    /// <summary>Of an episode that was trained on.</summary>
    public static TraceRecord Of(UpdateMetrics update, Trajectory t, DateTimeOffset now)
    {
        var versions = t.Turns.SelectMany(turn => turn.PolicyVersions).ToList();
        return new TraceRecord
        {
            Update = update.Update,
            TraceId = t.TraceId,
            EpisodeId = t.EpisodeId,
            State = "consumed",
            Tries = Of(t.Tries),
            Turns = t.Turns.Count,
            GeneratedTokens = t.GeneratedTokens,
            Reward = t.Reward,
            End = Snake(t.End.ToString()),
            OldestVersion = versions.Count > 0 ? versions.Min() : null,
            NewestVersion = versions.Count > 0 ? versions.Max() : null,
            Written = now,
            PolicyVersion = update.PolicyVersion,
        };
    }

    /// <summary>Of one that was given up before an update.</summary>
    public static TraceRecord Of(UpdateMetrics update, QuarantinedTask task, DateTimeOffset now) => new()
    {
        Update = update.Update,
        TraceId = task.TraceId,
        EpisodeId = task.TaskId,
        State = "quarantined",
        Tries = Of(task.Tries),
        Written = now,
    };

    public string ToJson() => JsonSerializer.Serialize(this, s_format);

    /// <summary>Reads a line; null for one that a crash cut off.</summary>
    public static TraceRecord? Parse(string line)
    {
        try
        {
            return JsonSerializer.Deserialize<TraceRecord>(line, s_format);
        }
        catch (JsonException)
        {
            return null;
        }
    }

    private static TryRecord[] Of(IEnumerable<EpisodeTry> tries) =>
    [
        .. tries.Select(t => new TryRecord
        {
            Attempt = t.Attempt,
            Worker = t.Worker,
            FromTurn = t.FromTurn,
            Leased = t.Leased,
            Ended = t.Ended,
            How = Snake(t.How),
            Reason = t.Reason,
        }),
    ];

    private static string Snake(string name) => JsonNamingPolicy.SnakeCaseLower.ConvertName(name);
}

/// <summary>The lines of a run's traces.jsonl, update by update.</summary>
/// <param name="ledger">Of the run, restored.</param>
internal sealed class TraceLog(TaskLedger ledger)
{
    private int _givenUp = ledger.Quarantined.Count;

    /// <summary>What became of the tasks of a batch, and of those given up since the last one.</summary>
    public IReadOnlyList<TraceRecord> Of(UpdateMetrics update, IReadOnlyList<Trajectory> batch)
    {
        var now = DateTimeOffset.UtcNow;
        var gone = ledger.Quarantined.Skip(_givenUp).Select(task => TraceRecord.Of(update, task, now)).ToList();
        _givenUp += gone.Count;
        return [.. batch.Select(t => TraceRecord.Of(update, t, now)), .. gone];
    }
}
