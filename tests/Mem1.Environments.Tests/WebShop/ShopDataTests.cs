using System.Text;
using Mem1.Environments.WebShop;
using Xunit;

namespace Mem1.Environments.Tests.WebShop;

public class ShopDataTests
{
    [Fact]
    public void PublishedSmallSetGivesItsGoals()
    {
        ShopCatalogue catalogue = Published();
        Assert.Equal(1000, catalogue.Count);
        ShopGoals goals = ShopGoals.Make(catalogue, GoalKind.Synthetic, 42);
        // The count the authors print for this set, and facts measured on it with the original generator.
        Assert.Equal(6910, goals.Count);
        Assert.Equal(415, goals.Goals.Select(g => g.Asin).Distinct().Count());
        Assert.Equal(15, goals.Goals.Count(g => g.PriceCap == ShopPricing.NoCap));
        Assert.Equal(93, catalogue.Products.Count(p => p.Prices.Count == 2));
        Assert.Equal([558, 312, 300, 300, 270], goals.Goals.GroupBy(g => g.Asin).Select(g => g.Count()).OrderDescending().Take(5));
        Assert.Equal(146, goals.Goals.Take(500).Select(g => g.Asin).Distinct().Count());
        Assert.Equal(393, goals.Goals.Take(500).Count(g => g.Category == "fashion"));
    }

    [Fact]
    public void PublishedOptionsFailAsInTheOriginal()
    {
        ShopGoals goals = ShopGoals.Make(Published(), GoalKind.Synthetic, 42);
        int unreachable = goals.Goals.Count(
            g => ShopReward.OptionMatches([.. g.Options.Select(o => o.Value)], g.Options, FuzzyRatio.Subsequence) < g.Options.Count);
        Assert.Equal(458, unreachable);
    }

    [Fact]
    public void GoalsSurviveTheirFile()
    {
        using var folder = new TempFolder();
        foreach (bool human in (bool[])[false, true])
        {
            ShopGoals goals = Golden.Goals(human, 7);
            goals.Save(folder.File("goals.jsonl"));
            ShopGoals loaded = ShopGoals.Load(folder.File("goals.jsonl"), Golden.Catalogue);
            Assert.Equal(goals.Kind, loaded.Kind);
            Assert.Equal(goals.Prices, loaded.Prices);
            Assert.Equal(goals.Count, loaded.Count);
            foreach ((ShopGoal before, ShopGoal after) in goals.Goals.Zip(loaded.Goals))
                Assert.Equivalent(before, after, strict: true);
        }
    }

    [Fact]
    public void OrderOfGoalsDoesNotDependOnTheSeedButCapsDo()
    {
        ShopGoals one = Golden.Goals(false, 1), two = Golden.Goals(false, 2);
        Assert.Equal(
            one.Goals.Select(g => (g.Asin, string.Join(';', g.Options))), two.Goals.Select(g => (g.Asin, string.Join(';', g.Options))));
        Assert.NotEqual(one.Goals.Select(g => g.PriceCap), two.Goals.Select(g => g.PriceCap));
    }

    [Theory]
    [InlineData("{}", "must be one JSON array")]
    [InlineData("", "the product file is empty")]
    [InlineData("  \n", "not valid JSON")]
    [InlineData("[{\"asin\": \"A1\"}]", "entry 0, name: it is missing")]
    [InlineData("[{\"asin\": \"A1\", \"name\": 5}]", "entry 0, name: a string is expected")]
    [InlineData("[{\"asin\": \"A1\", \"name\": \"N\", \"pricing\": \"12.99\"}]", "entry 0, pricing: \"12.99\" is no price")]
    [InlineData("[{\"asin\": \"A1\", \"name\": \"N\", \"pricing\": [1, \"2\"]}]", "entry 0, pricing[1]: a number is expected")]
    [InlineData("[{\"asin\": \"A1\", \"name\": \"N\"}, 7]", "entry 1: a JSON object is expected")]
    [InlineData("[{\"asin\": \"A1\", \"name\": \"N\", \"customization_options\": {\"Size\": [{}]}}]",
        "customization_options.Size[0].value: it is missing")]
    [InlineData("[{\"asin\": \"A1\", \"name\": \"N\"", "not valid JSON")]
    [InlineData("[{\"asin\": \"A1\", \"name\": \"N\"},", "not valid JSON")]
    [InlineData("[{\"asin\": \"A1\", \"name\": \"\\ud800\"}]", "half of a surrogate pair")]
    [InlineData("[]", "it holds no product")]
    [InlineData("[{\"asin\": \"nan\", \"name\": \"N\"}]", "it holds no product")]
    public void FaultsOfAProductFileSayWhere(string text, string expected)
    {
        using var folder = new TempFolder();
        var paths = new ShopFilePaths { Products = folder.Write("items.json", text), Attributes = folder.Write("ins.json", "{}") };
        var e = Assert.Throws<DataFormatException>(() => ShopCatalogue.Load(paths));
        Assert.Contains(expected, e.Message);
        Assert.StartsWith(paths.Products, e.Message);
    }

    [Fact]
    public void EntriesLongerThanTheBufferAreRead()
    {
        using var folder = new TempFolder();
        var text = new StringBuilder("\ufeff[");
        for (int i = 0; i < 40; i++)
            text.Append(i > 0 ? " ,\n " : "").Append($"{{\"asin\": \"A{i}\", \"name\": \"Thing é {i}\", \"full_description\": \"{new string('x', i * 7919)}\"}}");
        var paths = new ShopFilePaths { Products = folder.Write("items.json", text + "]\n"), Attributes = folder.Write("ins.json", "{}") };
        ShopCatalogue catalogue = ShopCatalogue.Load(paths);
        Assert.Equal(40, catalogue.Count);
        Assert.Equal(40, catalogue.GuessedTitles);
        Assert.All(catalogue.Products.Index(), p => Assert.Equal(p.Index * 7919, p.Item.Description.Length));
        Assert.Equal(7, ShopCatalogue.Load(paths, most: 7).Count);
    }

    [Fact]
    public void CutFilesNeverLoadSilently()
    {
        using var folder = new TempFolder();
        string whole = Golden.Root.GetProperty("catalog").GetProperty("items").GetRawText();
        string attributes = folder.Write("ins.json", "{}");
        for (int cut = 1; cut < whole.Length; cut += 991)
        {
            var paths = new ShopFilePaths { Products = folder.Write("items.json", whole[..cut]), Attributes = attributes };
            Assert.Throws<DataFormatException>(() => ShopCatalogue.Load(paths));
        }
    }

    [Fact]
    public void CutOrForeignGoalFilesAreRefused()
    {
        using var folder = new TempFolder();
        ShopGoals goals = Golden.Goals(false, 7);
        goals.Save(folder.File("goals.jsonl"));
        string[] lines = File.ReadAllLines(folder.File("goals.jsonl"));
        foreach ((string[] kept, string expected) in ((string[], string)[])
            [(lines[..^1], "cut off"), ([lines[0], .. lines[2..]], "no price"), (lines[1..], "line 1"), ([], "it is empty"),
             ([lines[0].Replace("67", "66", StringComparison.Ordinal), .. lines[1..]], "another catalogue")])
        {
            File.WriteAllLines(folder.File("other.jsonl"), kept);
            var e = Assert.Throws<DataFormatException>(() => ShopGoals.Load(folder.File("other.jsonl"), Golden.Catalogue));
            Assert.Contains(expected, e.Message);
        }
    }

    /// <summary>The small published set, where MEM1_WEBSHOP_DATA names the folder that holds it.</summary>
    internal static ShopCatalogue Published()
    {
        string? folder = Environment.GetEnvironmentVariable("MEM1_WEBSHOP_DATA");
        if (string.IsNullOrEmpty(folder) || !Directory.Exists(folder))
            Assert.Skip("MEM1_WEBSHOP_DATA names no folder with webshop-products-1000.json and items_ins_v2_1000.json.");
        return ShopCatalogue.Load(new ShopFilePaths
        {
            Products = Path.Combine(folder, "webshop-products-1000.json"),
            Attributes = Path.Combine(folder, "items_ins_v2_1000.json"),
        });
    }
}
