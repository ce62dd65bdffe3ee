namespace Mem1.Cli.Configuration;

/// <summary>How many objectives training tasks have from some update on.</summary>
public sealed record CurriculumStage
{
    /// <summary>The first update it holds for.</summary>
    public int FromUpdate { get; init; } = 1;
    /// <summary>Fewest objectives of a training task.</summary>
    public int MinObjectives { get; init; } = 1;
    /// <summary>Most objectives of a training task; the number is drawn evenly.</summary>
    public int MaxObjectives { get; init; } = 1;
}
