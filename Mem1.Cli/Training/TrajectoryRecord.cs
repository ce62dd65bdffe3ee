// Keeps: one line of trajectories.jsonl is one episode, with its text for people and its tokens for everything else (docs/run-folder.md);
// properties are only ever added, and a line without the newer ones is still read.
using System.Text.Encodings.Web;
using System.Text.Json;
using Mem1.Environments;
using Mem1.Learner;
using Mem1.Model;

namespace Mem1.Cli.Training;

/// <summary>A turn as it is written. Per-token lists are as long as <see cref="GeneratedIds"/>.</summary>
internal sealed record TurnRecord
{
    public string InternalState { get; init; } = "";
    public string Action { get; init; } = "";
    public string Information { get; init; } = "";
    public int ContextTokens { get; init; }
    public int GeneratedTokens { get; init; }
    public int ObservationTokens { get; init; }
    public double? MeanLogProb { get; init; }
    public long? PolicyVersion { get; init; }

    /// <summary>Tokens of the response that are internal state; the rest is the action.</summary>
    public int StateTokens { get; init; }

    /// <summary>Tokens at the start of the response that the next turn does not see.</summary>
    public int DiscardedTokens { get; init; }

    public int[]? GeneratedIds { get; init; }

    /// <summary>Text of each generated token by itself.</summary>
    public string[]? GeneratedPieces { get; init; }

    public int[]? ObservationIds { get; init; }
    public float[]? LogProbs { get; init; }
    public long[]? PolicyVersions { get; init; }

    /// <summary>Of the critic, for the state before each token; null without a critic.</summary>
    public float[]? Values { get; init; }

    /// <summary>As they weighed in the loss; null where the episode was left out of the update.</summary>
    public float[]? Advantages { get; init; }
}

/// <summary>A line of trajectories.jsonl.</summary>
internal sealed record TrajectoryRecord
{
    public const string FileName = "trajectories.jsonl";

    private static readonly JsonSerializerOptions Format = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        RespectNullableAnnotations = true,
    };

    public long Update { get; init; }
    public string EpisodeId { get; init; } = "";

    /// <summary>As in logs and traces.jsonl; null in older files.</summary>
    public string? TraceId { get; init; }

    public string TaskId { get; init; } = "";
    public double Reward { get; init; }

    /// <summary>Why it ended, in snake_case.</summary>
    public string End { get; init; } = "";

    public IReadOnlyList<double> ExactMatch { get; init; } = [];
    public IReadOnlyList<double> F1 { get; init; } = [];
    public string Answer { get; init; } = "";
    public string Prompt { get; init; } = "";
    public int PromptTokens { get; init; }

    /// <summary>The layout it was trained under, in snake_case; null in older files.</summary>
    public string? Layout { get; init; }

    public int[]? PromptIds { get; init; }
    public IReadOnlyList<TurnRecord> Turns { get; init; } = [];

    /// <summary>Whether the tokens are there.</summary>
    public bool HasTokens => PromptIds is not null && Turns.All(t => t is
    {
        GeneratedIds: not null, ObservationIds: not null, LogProbs: not null, PolicyVersions: not null,
    });

    public static TrajectoryRecord Of(long update, LayoutKind layout, Trajectory t, TokenEstimates? estimates, ITokenizer tokenizer)
    {
        var turns = new List<TurnRecord>(t.Turns.Count);
        var at = 0;
        for (var j = 0; j < t.Turns.Count; j++)
        {
            var (turn, from) = (t.Turns[j], at);
            at += turn.Generated.Length;
            turns.Add(new TurnRecord
            {
                InternalState = tokenizer.Decode(turn.Generated.AsSpan(0, turn.StateLength)),
                Action = tokenizer.Decode(turn.Generated.AsSpan(turn.StateLength)),
                Information = tokenizer.Decode(turn.Observation),
                ContextTokens = turn.Context.Length,
                GeneratedTokens = turn.Generated.Length,
                ObservationTokens = turn.Observation.Length,
                MeanLogProb = turn.LogProbs.Length == 0 ? null : turn.LogProbs.Average(),
                PolicyVersion = turn.PolicyVersions.Length == 0 ? null : turn.PolicyVersions.Max(),
                StateTokens = turn.StateLength,
                DiscardedTokens = j + 1 < t.Turns.Count && layout != LayoutKind.Full
                    ? turn.Generated.Length + turn.Observation.Length - t.Turns[j + 1].Context.Length
                    : 0,
                GeneratedIds = turn.Generated,
                GeneratedPieces = [.. turn.Generated.Select(id => tokenizer.Decode([id]))],
                ObservationIds = turn.Observation,
                LogProbs = turn.LogProbs,
                PolicyVersions = turn.PolicyVersions,
                Values = estimates?.Values?[from..at],
                Advantages = estimates is null ? null : Array.ConvertAll(estimates.Advantages[from..at], a => (float)a),
            });
        }

        return new TrajectoryRecord
        {
            Update = update,
            EpisodeId = t.EpisodeId,
            TraceId = t.TraceId.Length > 0 ? t.TraceId : null,
            TaskId = t.TaskId,
            Reward = t.Reward,
            End = JsonNamingPolicy.SnakeCaseLower.ConvertName(t.End.ToString()),
            ExactMatch = t.ExactMatch,
            F1 = t.F1,
            Answer = t.Answer,
            Prompt = tokenizer.Decode(t.Prompt),
            PromptTokens = t.Prompt.Length,
            Layout = JsonNamingPolicy.SnakeCaseLower.ConvertName(layout.ToString()),
            PromptIds = t.Prompt,
            Turns = turns,
        };
    }

    public string ToJson() => JsonSerializer.Serialize(this, Format);

    /// <summary>Reads a line.</summary>
    /// <param name="line">As written.</param>
    /// <param name="where">File and line, for the message.</param>
    /// <exception cref="UserErrorException">It is not a trajectory.</exception>
    public static TrajectoryRecord Parse(string line, string where)
    {
        TrajectoryRecord? record;
        try
        {
            record = JsonSerializer.Deserialize<TrajectoryRecord>(line, Format);
        }
        catch (JsonException e)
        {
            throw new UserErrorException($"{where} is not a trajectory ({e.Message.ReplaceLineEndings(" ").TrimEnd('.')}).", e);
        }

        if (record is null or { EpisodeId: "" }) throw new UserErrorException($"{where} is not a trajectory: it has no episode_id.");
        foreach (var turn in record.Turns.Where(t => t.GeneratedIds is not null))
        {
            var count = turn.GeneratedIds!.Length;
            int?[] lengths =
            [
                turn.GeneratedPieces?.Length, turn.LogProbs?.Length, turn.PolicyVersions?.Length, turn.Values?.Length,
                turn.Advantages?.Length,
            ];
            if (lengths.Any(l => l is { } n && n != count) || turn.StateTokens < 0 || turn.StateTokens > count)
                throw new UserErrorException($"{where} contradicts itself: a turn of {count} tokens has lists of other lengths.");
            if (turn.DiscardedTokens < 0 || turn.DiscardedTokens > count + (turn.ObservationIds?.Length ?? 0))
            {
                throw new UserErrorException(
                    $"{where} contradicts itself: discarded_tokens is {turn.DiscardedTokens} in a turn of {count}.");
            }
        }

        return record;
    }

    /// <summary>The trajectory, where the tokens are there.</summary>
    public Trajectory ToTrajectory()
    {
        if (!HasTokens) throw new InvalidOperationException("The record has no tokens.");
        var turns = new List<Turn>(Turns.Count);
        int[] context = [];
        var forgets = !string.Equals(Layout, nameof(LayoutKind.Full), StringComparison.OrdinalIgnoreCase);
        foreach (var t in Turns)
        {
            turns.Add(new Turn(context, t.GeneratedIds!, t.StateTokens, t.LogProbs!, t.PolicyVersions!, t.ObservationIds!));
            int[] all = [.. t.GeneratedIds!, .. t.ObservationIds!];
            context = forgets ? all[t.DiscardedTokens..] : [.. context, .. all];
        }

        _ = Enum.TryParse<EpisodeEnd>(End.Replace("_", "", StringComparison.Ordinal), ignoreCase: true, out var end);
        return new Trajectory(EpisodeId, TaskId, PromptIds!, turns, Reward, end, ExactMatch, F1, Answer, Evaluation: false);
    }
}
