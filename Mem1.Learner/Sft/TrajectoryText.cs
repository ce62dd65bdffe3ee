// Keeps: an episode as text is the prompt and, turn by turn, what the model wrote and what it was shown, each once; whatever form a file
// has, the thought is never written twice and nothing is left out or added.
using System.Text.Json;
using Mem1.Environments;

namespace Mem1.Learner;

/// <summary>One turn as text.</summary>
/// <param name="InternalState">What the model wrote up to the end of its state; may be empty.</param>
/// <param name="Action">What it wrote after that.</param>
/// <param name="Information">What it was shown then; empty on the last turn.</param>
public sealed record TurnText(string InternalState, string Action, string Information);

/// <summary>An episode as text.</summary>
/// <param name="Prompt">Everything before the first response.</param>
/// <param name="Turns">In time order; never empty.</param>
/// <param name="Reward">Null where the file does not say.</param>
/// <param name="ExactMatch">0 or 1 per objective; null where the file does not say.</param>
/// <param name="TaskId">Empty where the file does not say.</param>
public sealed record TrajectoryText(
    string Prompt, IReadOnlyList<TurnText> Turns, double? Reward, IReadOnlyList<double>? ExactMatch, string TaskId)
{
    private const string StateEnd = "</think>";

    /// <summary>
    /// Reads an object of a run's trajectories.jsonl ("prompt" and "turns"), or a row of the original implementation's rollouts ("q", "t0",
    /// "r0", "i0", "t1", ... and "Exact_match"). There r holds the whole response and t the thought once more: r alone is taken, unless the
    /// thought is not in it.
    /// </summary>
    /// <param name="root">The object.</param>
    /// <param name="file">Named in errors.</param>
    /// <param name="line">Named in errors.</param>
    /// <exception cref="DataFormatException">A field is missing or of another kind.</exception>
    public static TrajectoryText Parse(JsonElement root, string file, long line)
    {
        if (root.ValueKind != JsonValueKind.Object) throw new DataFormatException(file, "a JSON object is expected", line);
        if (root.TryGetProperty("q", out _)) return ParseOriginal(root, file, line);
        var prompt = Text(root, "prompt", file, line);
        if (prompt.Length == 0) throw new DataFormatException(file, "the prompt is empty", line, "prompt");
        if (!root.TryGetProperty("turns", out var list) || list.ValueKind != JsonValueKind.Array || list.GetArrayLength() == 0)
            throw new DataFormatException(file, "a list of turns is expected", line, "turns");
        var turns = new List<TurnText>();
        foreach (var turn in list.EnumerateArray())
        {
            var where = $"turns[{turns.Count}]";
            if (turn.ValueKind != JsonValueKind.Object) throw new DataFormatException(file, "an object is expected", line, where);
            var read = new TurnText(
                Text(turn, "internal_state", file, line, where), Text(turn, "action", file, line, where), Text(turn, "information", file, line, where));
            if (read.InternalState.Length + read.Action.Length == 0)
                throw new DataFormatException(file, "the turn has neither internal state nor action", line, where);
            turns.Add(read);
        }

        return new TrajectoryText(
            prompt, turns, Number(root, "reward", file, line), Numbers(root, "exact_match", file, line),
            root.TryGetProperty("task_id", out var id) && id.ValueKind == JsonValueKind.String ? id.GetString()! : "");
    }

    private static TrajectoryText ParseOriginal(JsonElement root, string file, long line)
    {
        var prompt = Text(root, "q", file, line);
        if (prompt.Length == 0) throw new DataFormatException(file, "the prompt is empty", line, "q");
        var turns = new List<TurnText>();
        // The last response of an episode that ended without an action was not stored: its thought alone is no turn.
        for (var j = 0; root.TryGetProperty($"r{j}", out var r) && r.ValueKind != JsonValueKind.Null; j++)
        {
            var response = Text(root, $"r{j}", file, line);
            var thought = root.TryGetProperty($"t{j}", out _) ? Text(root, $"t{j}", file, line) : "";
            if (!response.Contains(StateEnd, StringComparison.Ordinal)) response = thought + response;
            if (response.Length == 0) throw new DataFormatException(file, "the response is empty", line, $"r{j}");
            var end = response.IndexOf(StateEnd, StringComparison.Ordinal);
            var split = end < 0 ? 0 : end + StateEnd.Length;
            turns.Add(new TurnText(
                response[..split], response[split..],
                root.TryGetProperty($"i{j}", out var i) && i.ValueKind != JsonValueKind.Null ? Text(root, $"i{j}", file, line) : ""));
        }

        if (turns.Count == 0) throw new DataFormatException(file, "the row has no response (r0)", line);
        return new TrajectoryText(prompt, turns, Number(root, "Exact_match", file, line), null, "");
    }

    private static string Text(JsonElement element, string field, string file, long line, string? within = null)
    {
        var place = within is null ? field : $"{within}.{field}";
        if (!element.TryGetProperty(field, out var value)) throw new DataFormatException(file, "the field is missing", line, place);
        try
        {
            return value.ValueKind == JsonValueKind.String ? value.GetString()! : throw new DataFormatException(file, "a text is expected", line, place);
        }
        catch (InvalidOperationException e)
        {
            throw new DataFormatException(file, "the text is not valid Unicode", line, place, e);
        }
    }

    private static double? Number(JsonElement root, string field, string file, long line) =>
        !root.TryGetProperty(field, out var value) ? null : value.ValueKind switch
        {
            JsonValueKind.Null => null,
            JsonValueKind.Number => value.GetDouble(),
            JsonValueKind.True => 1,
            JsonValueKind.False => 0,
            _ => throw new DataFormatException(file, "a number is expected", line, field),
        };

    private static double[]? Numbers(JsonElement root, string field, string file, long line)
    {
        if (!root.TryGetProperty(field, out var value) || value.ValueKind == JsonValueKind.Null) return null;
        if (value.ValueKind != JsonValueKind.Array || value.EnumerateArray().Any(v => v.ValueKind != JsonValueKind.Number))
            throw new DataFormatException(file, "a list of numbers is expected", line, field);
        return [.. value.EnumerateArray().Select(v => v.GetDouble())];
    }
}
