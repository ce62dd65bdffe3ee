// Keeps: options are immutable and Validate names every contradiction at once.
namespace Mem1.Model.Adapters;

/// <summary>
/// Low-rank adaptation (Hu et al., arXiv 2106.09685): W + alpha/rank * B A, of which only A [rank, in] and B [out, rank] are trained.
/// </summary>
public sealed record LoraOptions
{
    /// <summary>The projections of a block that can be adapted, in the order of computation.</summary>
    public static IReadOnlyList<string> Modules { get; } =
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

    /// <summary>Rank of the update; 0 trains the whole model instead.</summary>
    public int Rank { get; init; }
    /// <summary>The update is scaled by alpha / rank.</summary>
    public double Alpha { get; init; } = 16;
    /// <summary>Which projections of every block are adapted.</summary>
    public IReadOnlyList<string> TargetModules { get; init; } = Modules;
    /// <summary>Share of inputs set to zero in training; only 0, because the learner must compute what the sampler did.</summary>
    public double Dropout { get; init; }

    /// <summary>What the product B A is multiplied with.</summary>
    public double Scale() => Alpha / Rank;

    /// <summary>Every contradiction, a sentence each.</summary>
    public IReadOnlyList<string> Validate()
    {
        var errors = new List<string>();
        // No projection of a model in use is wider; a rank beyond the width is a full matrix and more.
        if (Rank is < 0 or > 65536) errors.Add($"lora.rank is {Rank}; it must be from 0 (no adapter) to 65536.");
        if (!(Alpha > 0 && double.IsFinite(Alpha))) errors.Add($"lora.alpha is {Alpha}; it must be above 0.");
        if (Dropout != 0) errors.Add($"lora.dropout is {Dropout}; it must be 0: the learner must compute what the sampler did.");
        if (TargetModules.Count == 0) errors.Add("lora.target_modules is empty; it must name projections to adapt.");
        foreach (var unknown in TargetModules.Where(m => !Modules.Contains(m)))
            errors.Add($"lora.target_modules has \"{unknown}\"; known are {string.Join(", ", Modules)}.");
        if (TargetModules.Distinct(StringComparer.Ordinal).Count() != TargetModules.Count)
            errors.Add("lora.target_modules names a projection twice.");
        return errors;
    }

    /// <summary>Whether two adapters have the same shape and scale.</summary>
    /// <param name="other">The other one.</param>
    public bool SameAs(LoraOptions other) =>
        Rank == other.Rank && Alpha == other.Alpha && TargetModules.Order(StringComparer.Ordinal).SequenceEqual(
            other.TargetModules.Order(StringComparer.Ordinal));
}
