// Keeps: a row holds all that a report needs, so that reports are made from rows alone, those of an earlier run among them.
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace Mem1.Cli.Evaluation;

/// <summary>A continuation that was asked of the model.</summary>
/// <param name="Kind">"turn", or "summary" for one that rewrites the memory and is not played.</param>
/// <param name="ContextTokens">Tokens it continued, prompt included.</param>
/// <param name="GeneratedTokens">Tokens drawn.</param>
/// <param name="StateTokens">How many of them are internal state.</param>
/// <param name="ObservationTokens">Tokens of the answer, clipped; 0 at the end of the episode.</param>
/// <param name="Finish">"stop", "end_of_text" or "length".</param>
/// <param name="Response">As the environment read it.</param>
/// <param name="Observation">As the environment answered it.</param>
internal sealed record TurnRecord(
    string Kind, int ContextTokens, int GeneratedTokens, int StateTokens, int ObservationTokens, string Finish, string Response,
    string Observation);

/// <summary>An episode as results.jsonl has it, a line each.</summary>
/// <param name="Agent">The context policy.</param>
/// <param name="Objectives">How many the task has.</param>
/// <param name="Episode">Number among those of its agent and objectives; the same number is the same task for every agent.</param>
/// <param name="TaskId">The task.</param>
/// <param name="End">Why it ended, in snake case.</param>
/// <param name="Reward">The environment's.</param>
/// <param name="ExactMatch">Per objective.</param>
/// <param name="F1">Per objective.</param>
/// <param name="Answer">The final answer; empty without one.</param>
/// <param name="GoldenAnswers">Of each objective.</param>
/// <param name="PromptTokens">Length of the prompt.</param>
/// <param name="Failures">Failures of the environment that became observations.</param>
/// <param name="Seconds">By the clock, with other episodes in the batch.</param>
/// <param name="Turns">Continuations in time order.</param>
internal sealed record EpisodeRecord(
    string Agent, int Objectives, int Episode, string TaskId, string End, double Reward, IReadOnlyList<double> ExactMatch,
    IReadOnlyList<double> F1, string Answer, IReadOnlyList<IReadOnlyList<string>> GoldenAnswers, int PromptTokens, int Failures,
    double Seconds, IReadOnlyList<TurnRecord> Turns)
{
    /// <summary>End of an episode whose environment did not answer by its deadline, however often it was asked.</summary>
    public const string EnvironmentTimeout = "environment_timeout";

    /// <summary>End of an episode whose environment threw, however often it was asked.</summary>
    public const string EnvironmentError = "environment_error";

    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        RespectRequiredConstructorParameters = true,
        RespectNullableAnnotations = true,
    };

    /// <summary>How the environment failed for good; null where it did not.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? Failure { get; init; }

    /// <summary>Calls of the environment that failed and were made again.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)]
    public int Retries { get; init; }

    /// <summary>Whether the environment ended it, and not what the agent did.</summary>
    [JsonIgnore]
    public bool EnvironmentFailed => End is EnvironmentTimeout or EnvironmentError;

    /// <summary>What tells episodes of an evaluation apart.</summary>
    [JsonIgnore]
    public (string Agent, int Objectives, int Episode) Key => (Agent, Objectives, Episode);

    /// <summary>One line of JSON, without its end.</summary>
    public string ToJson() => JsonSerializer.Serialize(this, Json);

    /// <summary>Reads a line; null when it is not one of these.</summary>
    public static EpisodeRecord? FromJson(string line)
    {
        try
        {
            return JsonSerializer.Deserialize<EpisodeRecord>(line, Json);
        }
        catch (JsonException)
        {
            return null;
        }
    }
}
