using System.Text.Json;
using Mem1.Environments.WebShop;
using Xunit;

namespace Mem1.Environments.Tests.WebShop;

/// <summary>Expected values of the original WebShop over an invented catalogue (data/webshop/golden.json).</summary>
internal static class Golden
{
    private static readonly Lazy<JsonDocument> s_document = new(
        () => JsonDocument.Parse(File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "data", "webshop", "golden.json"))));

    private static readonly Lazy<ShopCatalogue> s_catalogue = new(Load);

    public static JsonElement Root => s_document.Value.RootElement;

    /// <summary>The catalogue, through the loaders of the published layout.</summary>
    public static ShopCatalogue Catalogue => s_catalogue.Value;

    public static ShopGoals Goals(bool human, uint seed) =>
        ShopGoals.Make(Catalogue, human ? GoalKind.Human : GoalKind.Synthetic, seed);

    /// <summary>Runs every case of a function; reports all that differ, and fails when there are fewer cases than expected.</summary>
    public static void Check(string function, int count, Action<JsonElement, JsonElement> check)
    {
        var cases = Root.GetProperty("cases").EnumerateArray().Where(c => c.GetProperty("function").GetString() == function).ToList();
        Assert.Equal(count, cases.Count);
        var differing = new List<string>();
        foreach (JsonElement c in cases)
        {
            try
            {
                check(c.GetProperty("input"), c);
            }
            catch (Xunit.Sdk.XunitException e)
            {
                differing.Add($"{c.GetProperty("name").GetString()}: {e.Message}");
            }
        }
        Assert.True(differing.Count == 0, $"{differing.Count} of {count}:\n{string.Join('\n', differing)}");
    }

    public static string[] Strings(this JsonElement list) => [.. list.EnumerateArray().Select(x => x.GetString()!)];

    public static GoalOption[] Options(this JsonElement options) => options.ValueKind == JsonValueKind.Object
        ? [.. options.EnumerateObject().Select(p => new GoalOption(p.Name, p.Value.GetString()!))]
        : [.. options.Strings().Select(v => new GoalOption(null, v))];

    private static ShopCatalogue Load()
    {
        using var folder = new TempFolder();
        JsonElement catalogue = Root.GetProperty("catalog");
        return ShopCatalogue.Load(new ShopFilePaths
        {
            Products = folder.Write("items.json", catalogue.GetProperty("items").GetRawText()),
            Attributes = folder.Write("ins.json", catalogue.GetProperty("items_ins").GetRawText()),
            Wishes = folder.Write("human.json", catalogue.GetProperty("human_ins").GetRawText()),
            TitleNouns = folder.Write("nouns.json", catalogue.GetProperty("title_nouns").GetRawText()),
        });
    }
}
