// Invariants: a goal carries everything the reward needs of its target, so a stored goal pays the same on any machine.

namespace Mem1.Environments.WebShop;

/// <summary>An option a goal asks for.</summary>
/// <param name="Name">Group name, or null in human goals, which name values only.</param>
/// <param name="Value">The value.</param>
internal readonly record struct GoalOption(string? Name, string Value);

/// <summary>What one episode asks the agent to buy.</summary>
internal sealed record ShopGoal
{
    public required string Asin { get; init; }

    public string Category { get; init; } = "";

    public string Query { get; init; } = "";

    /// <summary>Title of the target.</summary>
    public required string Name { get; init; }

    public string ProductCategory { get; init; } = "";

    /// <summary>What the agent reads, price cap included.</summary>
    public required string Instruction { get; init; }

    /// <summary>Attributes that count; repeats count again.</summary>
    public required IReadOnlyList<string> Attributes { get; init; }

    /// <summary>Options that count.</summary>
    public IReadOnlyList<GoalOption> Options { get; init; } = [];

    /// <summary>The highest price that counts as right.</summary>
    public double PriceCap { get; init; } = ShopPricing.NoCap;

    /// <summary>Share in a draw by weight.</summary>
    public double Weight { get; init; } = 1;

    /// <summary>Nouns of the target's title, lower-case.</summary>
    public required IReadOnlyList<string> TitleNouns { get; init; }
}

/// <summary>Which goals a run plays.</summary>
public enum GoalKind
{
    /// <summary>One goal for every combination of options of every product with an instruction; options compare as (name, value).</summary>
    Synthetic,
    /// <summary>One goal for every wish a person wrote; options compare as values.</summary>
    Human,
}
