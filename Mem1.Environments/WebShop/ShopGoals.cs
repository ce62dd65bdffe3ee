// Invariants: goals, caps and counting prices are fixed once made; a saved file gives them back exactly, with the same catalogue.

using System.Text.Json;
using Mem1.Environments.Common;

namespace Mem1.Environments.WebShop;

/// <summary>
/// The goals of a shop in the published order, with their price caps and with the prices that count for products sold at a price range.
/// The original draws caps and prices anew at every start, so its prompts and its rewards disagree between processes; here they follow
/// from a seed and can be stored. Thread-safe.
/// </summary>
public sealed class ShopGoals
{
    private const string Format = "mem1-webshop-goals";
    private const int Version = 1;
    private const string Expected = "every line after the first holds a price or a goal";

    private readonly double[] _prices;

    internal ShopGoals(ShopCatalogue catalogue, GoalKind kind, double[] prices, IReadOnlyList<ShopGoal> goals)
    {
        (Catalogue, Kind, _prices, Goals) = (catalogue, kind, prices, goals);
    }

    /// <summary>The shop.</summary>
    public ShopCatalogue Catalogue { get; }

    /// <summary>Which goals these are.</summary>
    public GoalKind Kind { get; }

    /// <summary>Number of goals.</summary>
    public int Count => Goals.Count;

    /// <summary>What some goals ask for, in their order.</summary>
    /// <param name="first">Number of the first goal.</param>
    /// <param name="count">How many at most.</param>
    public IEnumerable<string> Instructions(int first, int count) => Goals.Skip(first).Take(count).Select(g => g.Instruction);

    internal IReadOnlyList<ShopGoal> Goals { get; }

    /// <summary>The price that counts, by position of the product.</summary>
    internal IReadOnlyList<double> Prices => _prices;

    /// <summary>Makes the goals of a catalogue.</summary>
    /// <param name="catalogue">The shop.</param>
    /// <param name="kind">Which goals.</param>
    /// <param name="seed">Seed of the drawn prices and caps; the order of the goals does not depend on it.</param>
    /// <exception cref="InvalidOperationException">The catalogue has no product that makes a goal, or one that makes too many.</exception>
    public static ShopGoals Make(ShopCatalogue catalogue, GoalKind kind, uint seed)
    {
        var random = new MersenneTwister(seed);
        double[] prices = ShopGoalMaker.DrawPrices(catalogue.Products, random);
        List<ShopGoal> goals = ShopGoalMaker.Make(catalogue.Products, prices, kind, random);
        if (goals.Count == 0)
            throw new InvalidOperationException($"No product of the catalogue has an instruction for {kind} goals.");
        ShopGoalMaker.Shuffle(goals);
        return new ShopGoals(catalogue, kind, prices, goals);
    }

    /// <summary>Writes prices and goals as JSON Lines; the file appears whole or not at all.</summary>
    /// <exception cref="IOException">The file cannot be written.</exception>
    public void Save(string file) => UserFile.WriteWhole((file, stream =>
    {
        Line(stream, writer =>
        {
            writer.WriteString("format", Format);
            writer.WriteNumber("version", Version);
            writer.WriteString("kind", Kind.ToString());
            writer.WriteNumber("products", Catalogue.Count);
            writer.WriteNumber("goals", Count);
        });
        for (int i = 0; i < _prices.Length; i++)
        {
            ShopProduct product = Catalogue.Products[i];
            if (product.Prices.Count == 1)
                continue;
            Line(stream, writer =>
            {
                writer.WriteString("asin", product.Asin);
                writer.WriteNumber("price", _prices[i]);
            });
        }
        foreach (ShopGoal goal in Goals)
        {
            Line(stream, writer =>
            {
                writer.WriteString("asin", goal.Asin);
                writer.WriteString("instruction", goal.Instruction);
                writer.WriteStartArray("attributes");
                foreach (string attribute in goal.Attributes)
                    writer.WriteStringValue(attribute);
                writer.WriteEndArray();
                writer.WriteStartArray("options");
                foreach (GoalOption option in goal.Options)
                {
                    writer.WriteStartObject();
                    if (option.Name is not null)
                        writer.WriteString("name", option.Name);
                    writer.WriteString("value", option.Value);
                    writer.WriteEndObject();
                }
                writer.WriteEndArray();
                writer.WriteNumber("price_cap", goal.PriceCap);
                writer.WriteNumber("weight", goal.Weight);
            });
        }
    }
    ));

    /// <summary>Reads goals that were saved with the same catalogue.</summary>
    /// <exception cref="DataFormatException">The file is missing, malformed, or belongs to another catalogue.</exception>
    public static ShopGoals Load(string file, ShopCatalogue catalogue)
    {
        using var reader = new JsonLineReader(file, "goal file", Expected);
        GoalKind kind;
        long count;
        using (JsonDocument header = reader.Read() ?? throw reader.Fault("it is empty"))
        {
            if (reader.Text(header.RootElement, "format") != Format || Number(reader, header.RootElement, "version") != Version)
                throw reader.Fault($"it is no {Format} file of version {Version}");
            if (!Enum.TryParse(reader.Text(header.RootElement, "kind"), out kind) || !Enum.IsDefined(kind))
                throw reader.Fault("it names no kind of goals", "kind");
            if (Number(reader, header.RootElement, "products") != catalogue.Count)
                throw reader.Fault($"it was made for another catalogue: this one has {catalogue.Count} products", "products");
            count = (long)Number(reader, header.RootElement, "goals");
        }

        double[] prices = [.. catalogue.Products.Select(p => p.Prices.Count == 1 ? p.Prices[0] : double.NaN)];
        var goals = new List<ShopGoal>();
        while (reader.Read() is { } document)
        {
            using (document)
            {
                JsonElement line = document.RootElement;
                string asin = reader.Text(line, "asin");
                int at = catalogue.Find(asin);
                if (at < 0)
                    throw reader.Fault($"the catalogue has no product {asin}", "asin");
                if (line.TryGetProperty("price", out _))
                    prices[at] = Number(reader, line, "price");
                else
                    goals.Add(Goal(reader, line, catalogue.Products[at]));
            }
        }
        if (goals.Count != count || count == 0)
            throw new DataFormatException(file, $"it announces {count} goals but holds {goals.Count}; it is cut off or edited");
        int missing = Array.FindIndex(prices, double.IsNaN);
        if (missing >= 0)
            throw new DataFormatException(file, $"it holds no price for product {catalogue.Products[missing].Asin}");
        return new ShopGoals(catalogue, kind, prices, goals);
    }

    private static ShopGoal Goal(JsonLineReader reader, JsonElement line, ShopProduct product)
    {
        if (!line.TryGetProperty("options", out JsonElement options) || options.ValueKind != JsonValueKind.Array)
            throw reader.Fault("a list is expected", "options");
        var wanted = new List<GoalOption>();
        foreach (JsonElement option in options.EnumerateArray())
        {
            if (option.ValueKind != JsonValueKind.Object || !option.TryGetProperty("value", out JsonElement value)
                || value.ValueKind != JsonValueKind.String || Json.TryText(value) is not { } text)
            {
                throw reader.Fault("an object with a value is expected", $"options[{wanted.Count}]");
            }
            string? name = option.TryGetProperty("name", out JsonElement given) && given.ValueKind == JsonValueKind.String
                ? Json.TryText(given)
                : null;
            wanted.Add(new GoalOption(name, text));
        }
        return new ShopGoal
        {
            Asin = product.Asin,
            Category = product.Category,
            Query = product.Query,
            Name = product.Title,
            ProductCategory = product.ProductCategory,
            Instruction = reader.Text(line, "instruction"),
            Attributes = reader.Texts(line, "attributes"),
            Options = wanted,
            PriceCap = Number(reader, line, "price_cap"),
            Weight = Number(reader, line, "weight"),
            TitleNouns = product.TitleNouns,
        };
    }

    private static double Number(JsonLineReader reader, JsonElement line, string field) =>
        line.TryGetProperty(field, out JsonElement value) && value.ValueKind == JsonValueKind.Number
            && value.TryGetDouble(out double number) && double.IsFinite(number)
            ? number
            : throw reader.Fault("a number is expected", field);

    private static void Line(Stream stream, Action<Utf8JsonWriter> write)
    {
        using (var writer = new Utf8JsonWriter(stream))
        {
            writer.WriteStartObject();
            write(writer);
            writer.WriteEndObject();
        }
        stream.WriteByte((byte)'\n');
    }
}
