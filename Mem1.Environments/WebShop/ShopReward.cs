// Invariants: the reward is the original's double, bit for bit: one integer sum, one division, one product.

namespace Mem1.Environments.WebShop;

/// <summary>What a purchase was worth, and why.</summary>
internal sealed record ShopVerdict
{
    /// <summary>In [0, 1]; 1 is a success.</summary>
    public required double Reward { get; init; }

    /// <summary>Factor for the type of product: 0, 0.1, 0.5 or 1.</summary>
    public required double Type { get; init; }

    public required bool QueryMatch { get; init; }

    public required bool CategoryMatch { get; init; }

    /// <summary>Share of the goal's title nouns the purchase has.</summary>
    public required double TitleScore { get; init; }

    public required int AttributeMatches { get; init; }

    public required int Attributes { get; init; }

    public required int OptionMatches { get; init; }

    public required int Options { get; init; }

    public required bool PriceMatch { get; init; }
}

/// <summary>WebShop's reward: type × (attributes + options + price) / (attributes asked + options asked + 1).</summary>
internal static class ShopReward
{
    // A fuzzy score must lie above this to count as a match.
    private const int FuzzyThreshold = 85;

    private const double NoNounsScore = 0.2;

    /// <summary>Judges a purchase.</summary>
    /// <param name="product">What was bought.</param>
    /// <param name="price">The price that counts, drawn for ranges.</param>
    /// <param name="values">The chosen option values; their groups do not count.</param>
    /// <param name="goal">What was asked for.</param>
    /// <param name="ratio">Which similarity the fuzzy score rests on.</param>
    public static ShopVerdict Judge(ShopProduct product, double price, IReadOnlyCollection<string> values, ShopGoal goal, FuzzyRatio ratio)
    {
        (double type, bool query, bool category, double title) = Type(product, goal);
        int attributes = AttributeMatches(product, goal.Attributes, ratio);
        int options = OptionMatches(values, goal.Options, ratio);
        bool affordable = price <= goal.PriceCap;
        double share = (double)(attributes + options + (affordable ? 1 : 0)) / (goal.Attributes.Count + goal.Options.Count + 1);
        return new ShopVerdict
        {
            Reward = share * type,
            Type = type,
            QueryMatch = query,
            CategoryMatch = category,
            TitleScore = title,
            AttributeMatches = attributes,
            Attributes = goal.Attributes.Count,
            OptionMatches = options,
            Options = goal.Options.Count,
            PriceMatch = affordable,
        };
    }

    /// <summary>The type part: shared title nouns decide, and override a shared query or category.</summary>
    public static (double Factor, bool Query, bool Category, double Title) Type(ShopProduct product, ShopGoal goal)
    {
        bool query = product.Query == goal.Query;
        HashSet<string> levels = Levels(product.ProductCategory);
        levels.IntersectWith(Levels(goal.ProductCategory));
        bool category = levels.Count >= 2;
        double title = NoNounsScore;
        if (goal.TitleNouns.Count > 0)
        {
            var shared = new HashSet<string>(product.TitleNouns, StringComparer.Ordinal);
            shared.IntersectWith(goal.TitleNouns);
            // The original divides distinct shared nouns by all of the goal's, repeats included.
            title = (double)shared.Count / goal.TitleNouns.Count;
        }
        double factor = query || category || title > 0.2 ? 1 : 0.5;
        if (title < 0.1)
            factor = 0.1;
        if (title == 0)
            factor = 0;
        return (factor, query, category, title);
    }

    /// <summary>How many of the asked attributes the product has, by its attribute list or by its texts.</summary>
    public static int AttributeMatches(ShopProduct product, IReadOnlyList<string> asked, FuzzyRatio ratio)
    {
        string title = PythonText.Lower(product.Title);
        string bullets = PythonText.Lower(string.Join(' ', product.Bullets));
        string description = PythonText.Lower(product.Description);
        return asked.Count(attribute =>
            product.Attributes.Any(a => FuzzyText.TokenSetRatio(a, attribute, ratio) > FuzzyThreshold) ||
            title.Contains(attribute, StringComparison.Ordinal) ||
            bullets.Contains(attribute, StringComparison.Ordinal) ||
            description.Contains(attribute, StringComparison.Ordinal));
    }

    /// <summary>
    /// How many of the asked options the chosen values satisfy. The two sides are normalised differently in synthetic goals, where the
    /// original compares a value with the text of a (name, value) pair.
    /// </summary>
    public static int OptionMatches(IReadOnlyCollection<string> values, IReadOnlyList<GoalOption> asked, FuzzyRatio ratio)
    {
        string[] chosen = [.. values.Select(ShopColours.Normalize)];
        return asked.Count(option =>
        {
            string goal = option.Name is null
                ? ShopColours.Normalize(option.Value)
                : ShopColours.NormalizePair(option.Name, option.Value) ?? PythonText.Pair(option.Name, option.Value);
            return chosen.Any(value => FuzzyText.TokenSetRatio(value, goal, ratio) > FuzzyThreshold);
        });
    }

    private static HashSet<string> Levels(string path) =>
        new(path.Split('›').Select(PythonText.Strip), StringComparer.Ordinal);
}
