// Keeps: what is written can be read back to the same numbers, those that are not finite included; a step can be computed again from a
// saved step and the weights beside it alone.
using System.Text.Json;
using System.Text.Json.Serialization;

namespace Mem1.Learner;

/// <summary>Steps in a row had no finite loss or gradient.</summary>
/// <param name="steps">How many.</param>
/// <param name="step">The last of them.</param>
/// <param name="weights">The model as it was in that step, value head included.</param>
public sealed class DivergedException(int steps, SavedStep step, Mem1.Model.ModelWeights weights)
    : Exception($"Training has diverged: loss or gradient was not finite in {steps} steps in a row, the last of update {step.Update}.")
{
    /// <summary>The last of the steps.</summary>
    public SavedStep Step => step;

    /// <summary>The model as it was in that step, value head included.</summary>
    public Mem1.Model.ModelWeights Weights => weights;
}

/// <summary>Everything an optimiser step was computed from but the weights; per trajectory and generated token where not said.</summary>
public sealed record SavedStep
{
    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.SnakeCaseLower) },
        RespectRequiredConstructorParameters = true,
        RespectNullableAnnotations = true,
    };

    /// <summary>Number of the update.</summary>
    public required long Update { get; init; }
    /// <summary>Version of the weights before the update.</summary>
    public required long PolicyVersion { get; init; }
    /// <summary>Which trajectories the step was over.</summary>
    public required IReadOnlyList<int> Members { get; init; }
    /// <summary>What the weights of the divergence were multiplied with.</summary>
    public required double KlFactor { get; init; }
    /// <summary>The whole batch.</summary>
    public required IReadOnlyList<Trajectory> Trajectories { get; init; }
    /// <summary>Log-probs and values under the weights the update started from.</summary>
    public required IReadOnlyList<TokenScores> Scores { get; init; }
    /// <summary>Log-probs of the reference policy.</summary>
    public required IReadOnlyList<float[]>? Reference { get; init; }
    /// <summary>As the loss took them.</summary>
    public required IReadOnlyList<double[]> Advantages { get; init; }
    /// <summary>What the critic should have said.</summary>
    public required IReadOnlyList<double[]>? Returns { get; init; }

    /// <summary>Writes it as JSON.</summary>
    public void Write(string path)
    {
        using var stream = File.Create(path);
        JsonSerializer.Serialize(stream, this, Json);
    }

    /// <summary>Reads what <see cref="Write"/> wrote.</summary>
    /// <exception cref="LearnerException">The file is missing, or no saved step.</exception>
    public static SavedStep Read(string path)
    {
        try
        {
            using var stream = File.OpenRead(path);
            var step = JsonSerializer.Deserialize<SavedStep>(stream, Json) ?? throw new JsonException("it is null");
            step.RequireWhole();
            return step;
        }
        catch (Exception e) when (e is IOException or JsonException or UnauthorizedAccessException)
        {
            throw new LearnerException($"{path} cannot be read as a saved step ({e.Message.ReplaceLineEndings(" ").TrimEnd('.')}).", e);
        }
    }

    private void RequireWhole()
    {
        if (Members.Any(i => i < 0 || i >= Trajectories.Count)) throw new JsonException("members names a trajectory that is not there");
        var counts = Trajectories.Select(t => t.GeneratedTokens).ToArray();
        void Require(string name, IEnumerable<int>? lengths)
        {
            if (lengths is not null && !lengths.SequenceEqual(counts)) throw new JsonException($"{name} does not fit the trajectories");
        }

        Require("log_probs of the trajectories", Trajectories.Select(t => t.Turns.Sum(turn => turn.LogProbs.Length)));
        Require("scores", Scores.Select(s => s.LogProbs.Length));
        Require("scores", Scores.Select(s => s.Values.Length));
        Require("reference", Reference?.Select(r => r.Length));
        Require("advantages", Advantages.Select(a => a.Length));
        Require("returns", Returns?.Select(r => r.Length));
    }
}
