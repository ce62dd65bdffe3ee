// Invariants: a product never changes after the catalogue is built; every text is what pages and rewards use, already normalised.

namespace Mem1.Environments.WebShop;

/// <summary>An option group of a product: "size", say.</summary>
/// <param name="Name">Its name, lower-case.</param>
/// <param name="Values">Its values, lower-case, in the order of the page.</param>
internal sealed record ShopOption(string Name, IReadOnlyList<string> Values);

/// <summary>A person's wish for one product, as collected for the original's human goals.</summary>
/// <param name="Text">The wish.</param>
/// <param name="Attributes">Attributes it names; without any it makes no goal.</param>
/// <param name="Options">Values it names, without their groups.</param>
internal sealed record ShopWish(string Text, IReadOnlyList<string> Attributes, IReadOnlyList<string> Options);

/// <summary>One product, as pages show it and as the reward sees it.</summary>
internal sealed class ShopProduct
{
    /// <summary>What a product without attributes is given.</summary>
    public const string NoAttribute = "DUMMY_ATTR";

    private static readonly IReadOnlyList<string> s_noAttributes = [NoAttribute];

    public required string Asin { get; init; }

    public required string Title { get; init; }

    public string Description { get; init; } = "";

    public IReadOnlyList<string> Bullets { get; init; } = [];

    /// <summary>One price, or the two ends of a range.</summary>
    public required IReadOnlyList<double> Prices { get; init; }

    public required string PriceText { get; init; }

    /// <summary>Department: beauty, electronics, garden, fashion or grocery in the published files.</summary>
    public string Category { get; init; } = "";

    /// <summary>The search under which the product was found; products of one query count as one type.</summary>
    public string Query { get; init; } = "";

    /// <summary>Path of categories, levels joined by " › ".</summary>
    public string ProductCategory { get; init; } = "";

    public IReadOnlyList<ShopOption> Options { get; init; } = [];

    public IReadOnlyList<string> Attributes { get; init; } = s_noAttributes;

    /// <summary>Nouns of the title in lower case, repeats included; what the type part of the reward compares.</summary>
    public required IReadOnlyList<string> TitleNouns { get; init; }

    /// <summary>Instruction of the synthetic goals; null makes none.</summary>
    public string? Instruction { get; init; }

    public IReadOnlyList<string> InstructionAttributes { get; init; } = [];

    /// <summary>Wishes of the human goals.</summary>
    public IReadOnlyList<ShopWish> Wishes { get; init; } = [];

    /// <summary>What the search engine indexes, lower-case: title, description, the first bullet and the options.</summary>
    public string SearchText()
    {
        string options = string.Join(", and ", Options.Select(o => $"{o.Name}: {string.Join(", ", o.Values)}"));
        return PythonText.Lower($"{Title} {Description} {(Bullets.Count > 0 ? Bullets[0] : "")} {options}");
    }
}

/// <summary>A product's record before anything is derived from it.</summary>
internal sealed record ShopRecord
{
    public required string Asin { get; init; }

    public required string Name { get; init; }

    public string Description { get; init; } = "";

    public IReadOnlyList<string> Bullets { get; init; } = [];

    public required IReadOnlyList<double> Prices { get; init; }

    public string Category { get; init; } = "";

    public string Query { get; init; } = "";

    public string ProductCategory { get; init; } = "";

    /// <summary>Option groups in the order of the record, values as written.</summary>
    public IReadOnlyList<(string Name, IReadOnlyList<string> Values)> Options { get; init; } = [];
}

/// <summary>What the attribute file says of a product.</summary>
internal sealed record ShopAttributes(IReadOnlyList<string>? Attributes, string? Instruction, IReadOnlyList<string> InstructionAttributes);

/// <summary>Makes products of records by the original's rules.</summary>
internal sealed class ShopProductMaker(
    IReadOnlyDictionary<string, ShopAttributes> attributes, IReadOnlyDictionary<string, IReadOnlyList<ShopWish>> wishes,
    IReadOnlyDictionary<string, IReadOnlyList<string>> titleNouns)
{
    // Longer identifiers are none of the shop's.
    private const int LongestAsin = 10;

    private readonly HashSet<string> _seen = new(StringComparer.Ordinal);

    /// <summary>Products whose title had no noun list and whose nouns were guessed.</summary>
    public int Guessed { get; private set; }

    /// <summary>The product, or null when the record is skipped: no or a bad identifier, or one seen before.</summary>
    public ShopProduct? Make(ShopRecord record)
    {
        if (record.Asin is "nan" or "" || record.Asin.Length > LongestAsin || !_seen.Add(record.Asin))
            return null;
        ShopAttributes? known = attributes.GetValueOrDefault(record.Asin);
        if (!titleNouns.TryGetValue(record.Name, out IReadOnlyList<string>? nouns))
        {
            nouns = TitleNouns.Guess(record.Name);
            Guessed++;
        }
        return new ShopProduct
        {
            Asin = record.Asin,
            Title = record.Name,
            Description = record.Description,
            Bullets = record.Bullets,
            Prices = record.Prices,
            PriceText = ShopPricing.Text(record.Prices),
            Category = record.Category,
            Query = PythonText.Strip(PythonText.Lower(record.Query)),
            ProductCategory = record.ProductCategory,
            Options = Options(record.Options),
            Attributes = known?.Attributes ?? [ShopProduct.NoAttribute],
            TitleNouns = [.. nouns.Select(PythonText.Lower)],
            Instruction = known?.Instruction,
            InstructionAttributes = known?.InstructionAttributes ?? [],
            Wishes = wishes.GetValueOrDefault(record.Asin) ?? [],
        };
    }

    // Of two groups with one name the last counts, at the place of the first.
    private static List<ShopOption> Options(IReadOnlyList<(string Name, IReadOnlyList<string> Values)> groups)
    {
        var options = new List<ShopOption>(groups.Count);
        foreach ((string name, IReadOnlyList<string> values) in groups)
        {
            var option = new ShopOption(PythonText.Lower(name), [.. values.Select(Value)]);
            int same = options.FindIndex(o => o.Name == option.Name);
            if (same < 0)
                options.Add(option);
            else
                options[same] = option;
        }
        return options;

        static string Value(string value) =>
            PythonText.Lower(PythonText.Strip(value).Replace("/", " | ", StringComparison.Ordinal));
    }
}
