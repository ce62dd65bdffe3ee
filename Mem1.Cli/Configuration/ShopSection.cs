using Mem1.Environments.WebShop;

namespace Mem1.Cli.Configuration;

/// <summary>What WebShop sells and asks for: files in the published layout, or a made-up shop.</summary>
public sealed record ShopSection
{
    /// <summary>Product file (items_shuffle*.json); without it the shop is made up.</summary>
    public string? Products { get; init; }
    /// <summary>Attribute file (items_ins_v2*.json), with products.</summary>
    public string? Attributes { get; init; }
    /// <summary>File of human instructions (items_human_ins.json), with products.</summary>
    public string? HumanGoals { get; init; }
    /// <summary>File with the nouns of each title; guessed without it.</summary>
    public string? TitleNouns { get; init; }
    /// <summary>Goals that were stored with mem1 shop --save-goals, in place of making them.</summary>
    public string? StoredGoals { get; init; }
    /// <summary>synthetic (every combination of options of a product, as MEM1 trains) or human (wishes that people wrote).</summary>
    public GoalKind Goals { get; init; } = GoalKind.Synthetic;
    /// <summary>How many records of the product file are read; 0 reads all.</summary>
    public int MostProducts { get; init; }
    /// <summary>Kinds of products in the made-up shop, 1 to 15.</summary>
    public int Kinds { get; init; } = GeneratedShop.Kinds;
    /// <summary>Products of each kind of the made-up shop.</summary>
    public int ProductsPerKind { get; init; } = 40;
    /// <summary>Seed of the made-up shop.</summary>
    public ulong CatalogueSeed { get; init; } = 1;
    /// <summary>Seed of price limits, and of the price that counts where a product has a range.</summary>
    public int PriceSeed { get; init; } = 42;

    /// <summary>Whether a file of a shop is named.</summary>
    public bool HasFiles() => Files().Any(f => !string.IsNullOrEmpty(f.Path));

    /// <summary>The section with every path changed.</summary>
    public ShopSection WithPaths(Func<string?, string?> change) => this with
    {
        Products = change(Products),
        Attributes = change(Attributes),
        HumanGoals = change(HumanGoals),
        TitleNouns = change(TitleNouns),
        StoredGoals = change(StoredGoals),
    };

    /// <summary>Every contradiction, a sentence each.</summary>
    public IReadOnlyList<string> Validate()
    {
        const string Prefix = "environment.shop.";
        var errors = new List<string>();
        var own = !string.IsNullOrEmpty(Products);
        if (own == string.IsNullOrEmpty(Attributes))
            errors.Add($"{Prefix}products and {Prefix}attributes go together, but only {(own ? "products" : "attributes")} is set.");
        foreach (var (key, path) in Files().Where(f => f.Key is "human_goals" or "title_nouns" && !own && !string.IsNullOrEmpty(f.Path)))
            errors.Add($"{Prefix}{key} is set but {Prefix}products is not: the made-up shop has no use for it.");
        if (own && Goals == GoalKind.Human && string.IsNullOrEmpty(HumanGoals) && string.IsNullOrEmpty(StoredGoals))
            errors.Add($"{Prefix}goals is human but {Prefix}human_goals, the file that holds them, is missing.");
        if (MostProducts < 0) errors.Add($"{Prefix}most_products is {MostProducts}; it must be 0 (all) or more.");
        // A letter names the kind and four digits the product within it.
        if (ProductsPerKind is < 1 or > 10_000) errors.Add($"{Prefix}products_per_kind is {ProductsPerKind}; it must be in 1 to 10000.");
        if (Kinds is < 1 or > GeneratedShop.Kinds) errors.Add($"{Prefix}kinds is {Kinds}; it must be in 1 to {GeneratedShop.Kinds}.");
        if (PriceSeed < 0) errors.Add($"{Prefix}price_seed is {PriceSeed}; it must not be negative.");
        return errors;
    }

    private IEnumerable<(string Key, string? Path)> Files() =>
    [
        ("products", Products), ("attributes", Attributes), ("human_goals", HumanGoals), ("title_nouns", TitleNouns),
        ("stored_goals", StoredGoals),
    ];
}
