using System.Text.Json;
using Mem1.Environments.WebShop;
using Xunit;

namespace Mem1.Environments.Tests.WebShop;

public class GoldenTests
{
    [Fact]
    public void TokenSetRatio() => Golden.Check("token_set_ratio", 58, (input, c) =>
    {
        string s1 = input.GetProperty("s1").GetString()!, s2 = input.GetProperty("s2").GetString()!;
        Assert.Equal(c.GetProperty("expected").GetInt32(), FuzzyText.TokenSetRatio(s1, s2, FuzzyRatio.Blocks));
        Assert.Equal(c.GetProperty("expected_indel").GetInt32(), FuzzyText.TokenSetRatio(s1, s2, FuzzyRatio.Subsequence));
    });

    [Fact]
    public void SequenceRatio() => Golden.Check("sequence_ratio", 10, (input, c) =>
    {
        int[] a = FuzzyText.CodePoints(input.GetProperty("a").GetString()!), b = FuzzyText.CodePoints(input.GetProperty("b").GetString()!);
        JsonElement expected = c.GetProperty("expected");
        Assert.Equal(expected.GetProperty("difflib_matched").GetInt32(), FuzzyText.MatchedBlocks(a, b));
        Assert.Equal(expected.GetProperty("lcs_length").GetInt32(), FuzzyText.CommonSubsequence(a, b));
    });

    [Fact]
    public void Clean() => Golden.Check("full_process_force_ascii", 10, (input, c) =>
        Assert.Equal(c.GetProperty("expected").GetString(), FuzzyText.Clean(input.GetProperty("s").GetString()!)));

    [Fact]
    public void PairText() => Golden.Check("python_tuple_str", 7, (input, c) =>
    {
        string text = PythonText.Pair(input.GetProperty("key").GetString()!, input.GetProperty("value").GetString()!);
        Assert.Equal(c.GetProperty("expected").GetProperty("text").GetString(), text);
        Assert.Equal(c.GetProperty("expected").GetProperty("processed").GetString(), FuzzyText.Clean(text));
    });

    [Fact]
    public void Rounding() => Golden.Check("python_round", 7, (input, c) =>
        Assert.Equal(c.GetProperty("expected").GetInt32(), (int)Math.Round(input.GetProperty("x").GetDouble())));

    [Fact]
    public void FloatText() => Golden.Check("python_float_str", 7, (input, c) =>
        Assert.Equal(c.GetProperty("expected").GetString(), PythonText.Float(input.GetProperty("x").GetDouble())));

    [Fact]
    public void Colours() => Golden.Check("normalize_color", 32, (input, c) =>
        Assert.Equal(c.GetProperty("expected").GetString(), ShopColours.Normalize(input.GetProperty("s").GetString()!)));

    [Fact]
    public void ColourPairs() => Golden.Check("normalize_color_tuple", 4, (input, c) =>
    {
        string? colour = ShopColours.NormalizePair(input.GetProperty("key").GetString()!, input.GetProperty("value").GetString()!);
        JsonElement expected = c.GetProperty("expected");
        Assert.Equal(expected.GetProperty("is_tuple").GetBoolean(), colour is null);
        if (colour is not null)
            Assert.Equal(expected.GetProperty("result").GetString(), colour);
    });

    [Fact]
    public void OptionMatches() => Golden.Check("get_option_reward", 20, (input, c) =>
    {
        string[] chosen = input.GetProperty("purchased_values").Strings();
        GoalOption[] goal = input.GetProperty("goal_options").Options();
        Verify(c.GetProperty("expected"), FuzzyRatio.Blocks);
        Verify(c.TryGetProperty("expected_indel", out JsonElement other) ? other : c.GetProperty("expected"), FuzzyRatio.Subsequence);

        void Verify(JsonElement expected, FuzzyRatio ratio)
        {
            int matches = ShopReward.OptionMatches(chosen, goal, ratio);
            Assert.Equal(expected.GetProperty("num_option_matches").GetInt32(), matches);
            double? share = goal.Length == 0 ? null : (double)matches / goal.Length;
            JsonElement value = expected.GetProperty("r_option");
            Assert.Equal(value.ValueKind == JsonValueKind.Null ? null : value.GetDouble(), share);
        }
    });

    [Fact]
    public void AttributeMatches() => Golden.Check("get_attribute_reward", 12, (input, c) =>
    {
        JsonElement p = input.GetProperty("purchased");
        var product = new ShopProduct
        {
            Asin = "A",
            Title = p.GetProperty("Title").GetString()!,
            Description = p.GetProperty("Description").GetString()!,
            Bullets = p.GetProperty("BulletPoints").Strings(),
            Attributes = p.GetProperty("Attributes").Strings(),
            Prices = [1],
            PriceText = "",
            TitleNouns = [],
        };
        string[] asked = input.GetProperty("goal_attributes").Strings();
        foreach (FuzzyRatio ratio in Enum.GetValues<FuzzyRatio>())
        {
            int matches = ShopReward.AttributeMatches(product, asked, ratio);
            Assert.Equal(c.GetProperty("expected").GetProperty("num_attr_matches").GetInt32(), matches);
            Assert.Equal(c.GetProperty("expected").GetProperty("r_att").GetDouble(), (double)matches / asked.Length);
        }
    });

    [Fact]
    public void TypeReward() => Golden.Check("get_type_reward", 15, (input, c) =>
    {
        var product = new ShopProduct
        {
            Asin = "A",
            Title = "",
            Prices = [1],
            PriceText = "",
            Query = input.GetProperty("purchased_query").GetString()!,
            ProductCategory = input.GetProperty("purchased_product_category").GetString()!,
            TitleNouns = Lower(input.GetProperty("purchased_nouns")),
        };
        var goal = new ShopGoal
        {
            Asin = "B",
            Name = "",
            Instruction = "",
            Attributes = [],
            Query = input.GetProperty("goal_query").GetString()!,
            ProductCategory = input.GetProperty("goal_product_category").GetString()!,
            TitleNouns = Lower(input.GetProperty("goal_nouns")),
        };
        (double factor, bool query, bool category, double title) = ShopReward.Type(product, goal);
        JsonElement expected = c.GetProperty("expected");
        Assert.Equal(expected.GetProperty("r_type").GetDouble(), factor);
        Assert.Equal(expected.GetProperty("query_match").GetBoolean(), query);
        Assert.Equal(expected.GetProperty("category_match").GetBoolean(), category);
        Assert.Equal(expected.GetProperty("title_score").GetDouble(), title);
    });

    [Fact]
    public void Reward() => Golden.Check("get_reward", 18, (input, c) =>
    {
        ShopProduct shop = Golden.Catalogue.Products[Golden.Catalogue.Find(input.GetProperty("purchased_asin").GetString()!)];
        JsonElement changes = input.GetProperty("purchased_overrides");
        string Changed(string field, string value) => changes.TryGetProperty(field, out JsonElement v) ? v.GetString()! : value;
        foreach (JsonProperty change in changes.EnumerateObject())
            Assert.Contains(change.Name, (string[])["name", "Title", "query", "product_category"]);
        var product = new ShopProduct
        {
            Asin = shop.Asin,
            Title = Changed("Title", shop.Title),
            Description = shop.Description,
            Bullets = shop.Bullets,
            Attributes = shop.Attributes,
            Query = Changed("query", shop.Query),
            ProductCategory = Changed("product_category", shop.ProductCategory),
            Prices = shop.Prices,
            PriceText = "",
            TitleNouns = Lower(input.GetProperty("purchased_nouns")),
        };
        JsonElement g = input.GetProperty("goal");
        var goal = new ShopGoal
        {
            Asin = g.GetProperty("asin").GetString()!,
            Name = g.GetProperty("name").GetString()!,
            Instruction = "x",
            Query = g.GetProperty("query").GetString()!,
            ProductCategory = g.GetProperty("product_category").GetString()!,
            Attributes = g.GetProperty("attributes").Strings(),
            Options = g.GetProperty("goal_options").Options(),
            PriceCap = g.GetProperty("price_upper").GetDouble(),
            TitleNouns = Lower(input.GetProperty("goal_nouns")),
        };
        string[] chosen = [.. input.GetProperty("options").EnumerateObject().Select(o => o.Value.GetString()!)];
        foreach (FuzzyRatio ratio in Enum.GetValues<FuzzyRatio>())
        {
            ShopVerdict verdict = ShopReward.Judge(product, input.GetProperty("price").GetDouble(), chosen, goal, ratio);
            Assert.Equal(c.GetProperty("expected").GetProperty("reward").GetDouble(), verdict.Reward);
            SameVerdict(c.GetProperty("expected").GetProperty("info"), verdict);
        }
    });

    [Fact]
    public void Pricing() => Golden.Check("load_pricing", 14, (input, c) =>
    {
        JsonElement expected = c.GetProperty("expected");
        bool read = ShopPricing.TryParse(input.GetProperty("pricing").GetString(), out IReadOnlyList<double> prices);
        Assert.Equal(!expected.TryGetProperty("error", out _), read);
        if (!read)
            return;
        Assert.Equal([.. expected.GetProperty("pricing").EnumerateArray().Select(p => p.GetDouble())], prices);
        Assert.Equal(expected.GetProperty("Price").GetString(), ShopPricing.Text(prices));
        if (expected.TryGetProperty("price", out JsonElement price))
            Assert.Equal(price.GetDouble(), ShopPricing.Draw(prices, new MersenneTwister(1)));
        else
            Assert.InRange(ShopPricing.Draw(prices, new MersenneTwister(1)), prices[0], prices[1]);
    });

    [Fact]
    public void PriceCaps() => Golden.Check("price_upper_candidates", 13, (input, c) =>
    {
        double price = input.GetProperty("price").GetDouble();
        JsonElement expected = c.GetProperty("expected");
        double[] candidates = ShopPricing.Candidates(price);
        Assert.Equal([.. expected.GetProperty("candidates").EnumerateArray().Select(p => p.GetDouble())], candidates);
        double[] possible = expected.TryGetProperty("upper_distribution", out JsonElement distribution)
            ? [.. distribution.EnumerateArray().Select(d => d[0].GetDouble())]
            : [ShopPricing.NoCap];
        var random = new MersenneTwister(5);
        var drawn = Enumerable.Range(0, 200).Select(_ => ShopPricing.DrawCap(price, random)).ToHashSet();
        Assert.Equal(possible.Order(), drawn.Order());
        Assert.Equal(
            expected.GetProperty("suffix_texts").Strings().Order(StringComparer.Ordinal),
            drawn.Select(ShopPricing.CapText).Order(StringComparer.Ordinal));
    });

    [Fact]
    public void Products() => Golden.Check("load_products", 6, (input, c) =>
    {
        JsonElement expected = c.GetProperty("expected");
        if (expected.ValueKind == JsonValueKind.Array)
        {
            Assert.Equal(c.GetProperty("count").GetInt32(), Golden.Catalogue.Count);
            Assert.Equal(0, Golden.Catalogue.GuessedTitles);
            Assert.Equal(
                expected.Strings(),
                Golden.Catalogue.Products.Select(p => p.Asin).Where(a => a.StartsWith("B0SYN", StringComparison.Ordinal)));
            return;
        }
        ShopProduct product = Golden.Catalogue.Products[Golden.Catalogue.Find(input.GetProperty("asin").GetString()!)];
        Assert.Equal(expected.GetProperty("query").GetString(), product.Query);
        Assert.Equal(expected.GetProperty("Title").GetString(), product.Title);
        Assert.Equal(expected.GetProperty("Description").GetString(), product.Description);
        Assert.Equal(expected.GetProperty("BulletPoints").Strings(), product.Bullets);
        Assert.Equal([.. expected.GetProperty("pricing").EnumerateArray().Select(p => p.GetDouble())], product.Prices);
        Assert.Equal(expected.GetProperty("Price").GetString(), product.PriceText);
        Assert.Equal(expected.GetProperty("Attributes").Strings(), product.Attributes);
        JsonProperty[] groups = [.. expected.GetProperty("options").EnumerateObject()];
        Assert.Equal(groups.Select(g => g.Name), product.Options.Select(o => o.Name));
        foreach ((JsonProperty group, ShopOption option) in groups.Zip(product.Options))
            Assert.Equal(group.Value.Strings(), option.Values);
    });

    [Fact]
    public void AttributeIndex() => Golden.Check("attribute_index", 1, (_, c) =>
    {
        var expected = c.GetProperty("expected").EnumerateObject().ToDictionary(p => p.Name, p => p.Value.GetInt32());
        Assert.Equal(
            expected.OrderBy(p => p.Key, StringComparer.Ordinal),
            Golden.Catalogue.ByAttribute.ToDictionary(p => p.Key, p => p.Value.Length).OrderBy(p => p.Key, StringComparer.Ordinal));
    });

    [Fact]
    public void RandomStream() => Golden.Check("python_random", 4, (input, c) =>
    {
        var random = new MersenneTwister(input.GetProperty("seed").GetUInt32());
        JsonElement expected = c.GetProperty("expected");
        string op = input.GetProperty("op").GetString()!;
        foreach (JsonElement value in expected.EnumerateArray())
        {
            if (op.StartsWith("getrandbits", StringComparison.Ordinal))
            {
                Assert.Equal(value.GetUInt32(), random.NextUInt32());
            }
            else if (op.StartsWith("random", StringComparison.Ordinal))
            {
                Assert.Equal(value.GetDouble(), random.NextDouble());
            }
            else if (op.StartsWith("uniform", StringComparison.Ordinal))
            {
                Assert.Equal(value.GetDouble(), random.Uniform(19.99, 27.99));
            }
            else
            {
                (double first, double second) = random.SampleTwo<double>([50, 60, 70, 80]);
                Assert.Equal([value[0].GetDouble(), value[1].GetDouble()], (double[])[first, second]);
            }
        }
    });

    [Fact]
    public void Shuffles() => Golden.Check("shuffle_seed233", 4, (input, c) =>
        Assert.Equal([.. c.GetProperty("expected").EnumerateArray().Select(x => x.GetInt32())], Shuffled(input)));

    [Fact]
    public void ShufflesOfPublishedSizes() => Golden.Check("shuffle_seed233_head", 2, (input, c) =>
    {
        int[] order = Shuffled(input);
        JsonElement expected = c.GetProperty("expected");
        Assert.Equal([.. expected.GetProperty("first20").EnumerateArray().Select(x => x.GetInt32())], order[..20]);
        Assert.Equal([.. expected.GetProperty("last5").EnumerateArray().Select(x => x.GetInt32())], order[^5..]);
        Assert.Equal(expected.GetProperty("position_of_0").GetInt32(), Array.IndexOf(order, 0));
    });

    [Fact]
    public void WeightedIndex() => Golden.Check("random_idx_mapping", 6, (input, c) => Assert.Equal(
        c.GetProperty("expected").GetInt32(),
        ShopGoalMaker.IndexAt(
            [.. input.GetProperty("cum_weights").EnumerateArray().Select(x => x.GetDouble())], input.GetProperty("pos").GetDouble())));

    [Fact]
    public void GoalsBeforeTheShuffle() => Golden.Check("goals", 2, (input, c) =>
    {
        var random = new MersenneTwister(input.GetProperty("rng_seed_before_load").GetUInt32());
        double[] prices = ShopGoalMaker.DrawPrices(Golden.Catalogue.Products, random);
        GoalKind kind = input.GetProperty("human").GetBoolean() ? GoalKind.Human : GoalKind.Synthetic;
        List<ShopGoal> goals = ShopGoalMaker.Make(Golden.Catalogue.Products, prices, kind, random);
        JsonElement[] expected = [.. c.GetProperty("expected").EnumerateArray()];
        Assert.Equal(expected.Length, goals.Count);
        foreach ((JsonElement e, ShopGoal goal) in expected.Zip(goals))
            SameGoal(e, goal);
    });

    [Fact]
    public void GoalOrder() => Golden.Check("goals_order", 2, (input, c) =>
    {
        var random = new MersenneTwister(7);
        double[] prices = ShopGoalMaker.DrawPrices(Golden.Catalogue.Products, random);
        GoalKind kind = input.GetProperty("human").GetBoolean() ? GoalKind.Human : GoalKind.Synthetic;
        List<ShopGoal> goals = ShopGoalMaker.Make(Golden.Catalogue.Products, prices, kind, random);
        List<ShopGoal> shuffled = [.. goals];
        ShopGoalMaker.Shuffle(shuffled);
        Assert.Equal(
            [.. c.GetProperty("expected").EnumerateArray().Select(x => x.GetInt32())],
            shuffled.Select(g => goals.FindIndex(x => ReferenceEquals(x, g))));
    });

    [Fact]
    public void IndexContents() => Golden.Check("index_contents", 3, (input, c) => Assert.Equal(
        c.GetProperty("expected").GetString(),
        Golden.Catalogue.Products[Golden.Catalogue.Find(input.GetProperty("asin").GetString()!)].SearchText()));

    [Fact]
    public void Analysis() => Golden.Check("analyze_contents", 14, (input, c) =>
        Assert.Equal(c.GetProperty("expected").Strings(), ShopAnalyzer.Terms(input.GetProperty("text").GetString()!)));

    [Fact]
    public void LengthQuantisation() => Golden.Check("bm25_length_quantisation", 1, (_, c) =>
    {
        foreach (JsonElement row in c.GetProperty("expected").EnumerateArray())
            Assert.Equal(row.GetProperty("decoded").GetInt32(), ShopSearchIndex.Quantise(row.GetProperty("length").GetInt32()));
    });

    [Fact]
    public void Rankings() => Golden.Check("search_ranking", 12, (input, c) =>
    {
        ShopSearchIndex index = Golden.Catalogue.Index;
        Assert.Equal(c.GetProperty("docCount").GetInt32(), index.Count);
        Assert.Equal(c.GetProperty("sumTotalTermFreq").GetInt64(), index.Total);
        var hits = index.Search(input.GetProperty("query").GetString()!, input.GetProperty("k").GetInt32());
        JsonElement expected = c.GetProperty("expected");
        Assert.Equal(expected.GetProperty("total").GetInt32(), hits.Count);
        JsonElement[] top = [.. expected.GetProperty("top").EnumerateArray()];
        Assert.Equal(top.Select(t => t[0].GetString()), hits.Take(top.Length).Select(h => Golden.Catalogue.Products[h.Document].Asin));
        foreach ((JsonElement t, var hit) in top.Zip(hits))
            Assert.Equal(t[1].GetDouble(), hit.Score, c.GetProperty("score_tolerance").GetDouble());
    });

    [Fact]
    public void Actions() => Golden.Check("parse_action", 13, (input, c) =>
    {
        ShopAction action = ShopAction.Parse(input.GetProperty("action").GetString()!);
        Assert.Equal(c.GetProperty("expected").GetProperty("name").GetString(), action.Name);
        Assert.Equal(c.GetProperty("expected").GetProperty("arg").GetString(), action.Argument);
    });

    [Fact]
    public void Episodes() => Golden.Check("text_env_episode", 9, (input, c) =>
    {
        bool human = input.GetProperty("human_goals").GetBoolean();
        ShopGoals goals = Golden.Goals(human, input.GetProperty("rng_seed_before_construct").GetUInt32());
        bool plain = input.GetProperty("observation_mode").GetString() == "text";
        ShopObservation mode = plain ? ShopObservation.Text : ShopObservation.TextRich;
        var rules = new ShopRules(input.GetProperty("show_attrs").GetBoolean(), Shortcuts: true);
        var session = new ShopSession(goals, input.GetProperty("session").GetInt32(), rules);
        int Number(string name) => input.TryGetProperty(name, out JsonElement value) ? value.GetInt32() : 0;
        var history = new ShopHistory(Number("num_prev_obs"), Number("num_prev_actions"));
        JsonElement expected = c.GetProperty("expected");
        SameGoal(expected.GetProperty("goal"), session.Goal);
        foreach (JsonElement step in expected.GetProperty("steps").EnumerateArray())
        {
            string action = step.GetProperty("action").GetString()!;
            if (action == "<reset>")
            {
                Assert.Equal(step.GetProperty("observation").GetString(), history.Next(null, ShopPages.Render(session, mode)));
            }
            else
            {
                ShopVerdict? before = session.Verdict;
                Assert.Equal(step.GetProperty("reward").GetDouble(), session.Step(action));
                Assert.Equal(step.GetProperty("done").GetBoolean(), !ReferenceEquals(before, session.Verdict));
                Assert.Equal(step.GetProperty("observation").GetString(), history.Next(action, ShopPages.Render(session, mode)));
            }
            Assert.Equal(step.GetProperty("url").GetString(), session.Url);
            Assert.Equal(step.GetProperty("available").GetProperty("has_search_bar").GetBoolean(), session.HasSearchBar);
            Assert.Equal(step.GetProperty("available").GetProperty("clickables").Strings(), session.Clickables());
        }
        Assert.Equal(
            expected.GetProperty("actions_count").EnumerateObject().Select(p => (p.Name, p.Value.GetInt32())).Order(),
            session.Counts.Select(p => (p.Key, p.Value)).Order());
        if (expected.GetProperty("verbose_info").ValueKind == JsonValueKind.Null)
            Assert.Null(session.Verdict);
        else
            SameVerdict(expected.GetProperty("verbose_info"), session.Verdict!);
    });

    private static int[] Shuffled(JsonElement input)
    {
        int[] order = [.. Enumerable.Range(0, input.GetProperty("n").GetInt32())];
        new MersenneTwister(233).Shuffle<int>(order);
        return order;
    }

    private static string[] Lower(JsonElement nouns) => [.. nouns.Strings().Select(PythonText.Lower)];

    private static void SameGoal(JsonElement expected, ShopGoal goal)
    {
        Assert.Equal(expected.GetProperty("asin").GetString(), goal.Asin);
        Assert.Equal(expected.GetProperty("category").GetString(), goal.Category);
        Assert.Equal(expected.GetProperty("query").GetString(), goal.Query);
        Assert.Equal(expected.GetProperty("name").GetString(), goal.Name);
        Assert.Equal(expected.GetProperty("product_category").GetString(), goal.ProductCategory);
        Assert.Equal(expected.GetProperty("instruction_text").GetString(), goal.Instruction);
        Assert.Equal(expected.GetProperty("attributes").Strings(), goal.Attributes);
        Assert.Equal(expected.GetProperty("price_upper").GetDouble(), goal.PriceCap);
        Assert.Equal(expected.GetProperty("goal_options").Options(), goal.Options);
        Assert.Equal(expected.GetProperty("weight").GetDouble(), goal.Weight);
    }

    private static void SameVerdict(JsonElement expected, ShopVerdict verdict)
    {
        double total = verdict.Attributes + verdict.Options + 1;
        Assert.Equal(expected.GetProperty("r_type").GetDouble(), verdict.Type);
        Assert.Equal(expected.GetProperty("r_att").GetDouble(), (double)verdict.AttributeMatches / verdict.Attributes);
        Assert.Equal(expected.GetProperty("w_att").GetDouble(), verdict.Attributes / total);
        Assert.Equal(expected.GetProperty("query_match").GetBoolean(), verdict.QueryMatch);
        Assert.Equal(expected.GetProperty("category_match").GetBoolean(), verdict.CategoryMatch);
        Assert.Equal(expected.GetProperty("title_score").GetDouble(), verdict.TitleScore);
        Assert.Equal(expected.GetProperty("r_price").GetBoolean(), verdict.PriceMatch);
        Assert.Equal(expected.GetProperty("w_price").GetDouble(), 1 / total);
        Assert.Equal(expected.TryGetProperty("r_option", out JsonElement options), verdict.Options > 0);
        if (verdict.Options == 0)
            return;
        Assert.Equal(options.GetDouble(), (double)verdict.OptionMatches / verdict.Options);
        Assert.Equal(expected.GetProperty("w_option").GetDouble(), verdict.Options / total);
    }
}
