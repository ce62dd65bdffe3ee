// Invariants: the draws happen in the original's order (prices of ranges by product, then caps, then one shuffle from its fixed seed),
// so the order of the goals is the published one and prices and caps follow from the seed alone.

namespace Mem1.Environments.WebShop;

/// <summary>Makes the goals of a catalogue as the original does.</summary>
internal static class ShopGoalMaker
{
    // The original seeds its stream with this before the shuffle, and only then.
    private const uint ShuffleSeed = 233;

    // 64 times the goals of the full published catalogue; a product with many large option groups must not fill the memory.
    private const int MostGoalsOfOneProduct = 1 << 20;

    /// <summary>Draws the prices that count, product by product.</summary>
    public static double[] DrawPrices(IReadOnlyList<ShopProduct> products, MersenneTwister random) =>
        [.. products.Select(p => ShopPricing.Draw(p.Prices, random))];

    /// <summary>The goals in product order, before the shuffle.</summary>
    public static List<ShopGoal> Make(
        IReadOnlyList<ShopProduct> products, IReadOnlyList<double> prices, GoalKind kind, MersenneTwister random) =>
        kind == GoalKind.Human ? Human(products, prices, random) : Synthetic(products, prices, random);

    /// <summary>Puts goals into the published order.</summary>
    public static void Shuffle(List<ShopGoal> goals) =>
        new MersenneTwister(ShuffleSeed).Shuffle(System.Runtime.InteropServices.CollectionsMarshal.AsSpan(goals));

    /// <summary>
    /// The original's draw by weight: positions of a running sum that begins with 0, so that goal 0 is never drawn, goal k + 1 has the
    /// weight of goal k and the last has that of the last two.
    /// </summary>
    /// <param name="runningWeights">0, then the running sum of the weights.</param>
    /// <param name="position">A point in [0, total weight].</param>
    public static int IndexAt(IReadOnlyList<double> runningWeights, double position)
    {
        int index = 0;
        while (index < runningWeights.Count && runningWeights[index] <= position)
            index++;
        return Math.Min(index, runningWeights.Count - 2);
    }

    private static List<ShopGoal> Synthetic(IReadOnlyList<ShopProduct> products, IReadOnlyList<double> prices, MersenneTwister random)
    {
        var goals = new List<ShopGoal>();
        for (int i = 0; i < products.Count; i++)
        {
            ShopProduct product = products[i];
            if (product.Instruction is null || product.InstructionAttributes.Count == 0)
                continue;
            double cap = ShopPricing.DrawCap(prices[i], random);
            ShopOption[] groups = [.. product.Options.OrderBy(o => o.Name, PythonText.CodePoints)];
            long combinations = groups.Aggregate(1L, (n, g) => Math.Min(n * g.Values.Count, MostGoalsOfOneProduct + 1L));
            if (combinations > MostGoalsOfOneProduct)
                throw new InvalidOperationException($"Product {product.Asin} has more than {MostGoalsOfOneProduct} option combinations.");
            for (long n = 0; n < combinations; n++)
            {
                GoalOption[] options = Combination(groups, n);
                string wanted = string.Join(", and ", options.Select(o => $"{o.Name}: {o.Value}"));
                string with = options.Length > 0 ? " with " + wanted : "";
                goals.Add(Goal(
                    product, product.Instruction + with + ShopPricing.CapText(cap), product.InstructionAttributes, options, cap));
            }
        }

        var carriers = new Dictionary<string, int>(StringComparer.Ordinal);
        foreach (string attribute in goals.SelectMany(g => g.Attributes))
            carriers[attribute] = carriers.GetValueOrDefault(attribute) + 1;
        return [.. goals.Select(g => g with { Weight = g.Attributes.Sum(a => 1.0 / carriers[a]) / g.Attributes.Count })];
    }

    // The last group varies fastest.
    private static GoalOption[] Combination(ShopOption[] groups, long number)
    {
        var chosen = new GoalOption[groups.Length];
        for (int g = groups.Length - 1; g >= 0; g--)
        {
            (number, long value) = Math.DivRem(number, groups[g].Values.Count);
            chosen[g] = new GoalOption(groups[g].Name, groups[g].Values[(int)value]);
        }
        return chosen;
    }

    private static List<ShopGoal> Human(IReadOnlyList<ShopProduct> products, IReadOnlyList<double> prices, MersenneTwister random)
    {
        var goals = new List<ShopGoal>();
        for (int i = 0; i < products.Count; i++)
        {
            foreach (ShopWish wish in products[i].Wishes)
            {
                if (wish.Attributes.Count == 0)
                    continue;
                double cap = ShopPricing.DrawCap(prices[i], random);
                string instruction = wish.Text.Trim('.') + ShopPricing.CapText(cap);
                goals.Add(Goal(products[i], instruction, wish.Attributes, [.. wish.Options.Select(v => new GoalOption(null, v))], cap));
            }
        }
        return goals;
    }

    private static ShopGoal Goal(
        ShopProduct product, string instruction, IReadOnlyList<string> attributes, IReadOnlyList<GoalOption> options, double cap) => new()
        {
            Asin = product.Asin,
            Category = product.Category,
            Query = product.Query,
            Name = product.Title,
            ProductCategory = product.ProductCategory,
            Instruction = instruction,
            Attributes = attributes,
            Options = options,
            PriceCap = cap,
            TitleNouns = product.TitleNouns,
        };
}
