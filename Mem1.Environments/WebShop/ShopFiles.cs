// Invariants: files are read entry by entry; every fault names the file, the entry and the field.

using System.Text.Json;
using Mem1.Environments.Common;

namespace Mem1.Environments.WebShop;

/// <summary>Paths of a catalogue in the published layout; only <see cref="Products"/> and <see cref="Attributes"/> are needed.</summary>
public sealed record ShopFilePaths
{
    /// <summary>JSON array of products: items_shuffle.json, items_shuffle_1000.json, or records as the original holds them.</summary>
    public required string Products { get; init; }

    /// <summary>JSON object from identifier to attributes and instruction: items_ins_v2.json.</summary>
    public required string Attributes { get; init; }

    /// <summary>JSON object from identifier to wishes of people: items_human_ins.json; null for none.</summary>
    public string? Wishes { get; init; }

    /// <summary>
    /// JSON object from product title to the list of its nouns, as a part-of-speech tagger found them; null, or a title that is missing,
    /// has its nouns guessed, and type rewards may then differ from the original's.
    /// </summary>
    public string? TitleNouns { get; init; }
}

/// <summary>Reads the published files.</summary>
internal static class ShopFiles
{
    public static IEnumerable<ShopRecord> Records(string file) => Records(new JsonEntryReader(file, "product file", isObject: false));

    /// <summary>The records; the reader is disposed after the last.</summary>
    public static IEnumerable<ShopRecord> Records(JsonEntryReader opened)
    {
        using JsonEntryReader reader = opened;
        while (reader.Read() is { } document)
        {
            using (document)
            {
                var entry = new Entry(reader, document.RootElement);
                yield return new ShopRecord
                {
                    Asin = entry.Text("asin"),
                    Name = entry.Text("name"),
                    Description = entry.Text("full_description", ""),
                    Bullets = entry.TextOrTexts("small_description"),
                    Prices = entry.Prices("pricing"),
                    Category = entry.Text("category", ""),
                    Query = entry.Text("query", ""),
                    ProductCategory = entry.Text("product_category", ""),
                    Options = entry.Options("customization_options"),
                };
            }
        }
    }

    public static Dictionary<string, ShopAttributes> Attributes(string file)
    {
        using var reader = new JsonEntryReader(file, "attribute file", isObject: true);
        return Attributes(reader);
    }

    public static Dictionary<string, ShopAttributes> Attributes(JsonEntryReader reader)
    {
        var found = new Dictionary<string, ShopAttributes>(StringComparer.Ordinal);
        while (reader.Read() is { } document)
        {
            using (document)
            {
                var entry = new Entry(reader, document.RootElement);
                found[reader.Name!] = new ShopAttributes(
                    entry.Has("attributes") ? entry.Texts("attributes") : null,
                    entry.Has("instruction") ? entry.Text("instruction") : null,
                    entry.Has("instruction_attributes") ? entry.Texts("instruction_attributes") : []);
            }
        }
        return found;
    }

    public static Dictionary<string, IReadOnlyList<ShopWish>> Wishes(string file)
    {
        var found = new Dictionary<string, IReadOnlyList<ShopWish>>(StringComparer.Ordinal);
        using var reader = new JsonEntryReader(file, "file of human instructions", isObject: true);
        while (reader.Read() is { } document)
        {
            using (document)
            {
                if (document.RootElement.ValueKind != JsonValueKind.Array)
                    throw reader.Fault("a list of instructions is expected");
                var wishes = new List<ShopWish>();
                foreach (JsonElement element in document.RootElement.EnumerateArray())
                {
                    var entry = new Entry(reader, element, $"[{wishes.Count}].");
                    wishes.Add(new ShopWish(
                        entry.Text("instruction"), entry.Texts("instruction_attributes"), entry.Texts("instruction_options")));
                }
                found[reader.Name!] = wishes;
            }
        }
        return found;
    }

    public static Dictionary<string, IReadOnlyList<string>> TitleNouns(string file)
    {
        var found = new Dictionary<string, IReadOnlyList<string>>(StringComparer.Ordinal);
        using var reader = new JsonEntryReader(file, "file of title nouns", isObject: true);
        while (reader.Read() is { } document)
        {
            using (document)
                found[reader.Name!] = Entry.Strings(reader, document.RootElement, null);
        }
        return found;
    }

    /// <summary>One JSON object and where it stands.</summary>
    private readonly struct Entry
    {
        private readonly JsonEntryReader _reader;
        private readonly JsonElement _element;
        private readonly string _place;

        public Entry(JsonEntryReader reader, JsonElement element, string place = "")
        {
            (_reader, _element, _place) = (reader, element, place);
            if (element.ValueKind != JsonValueKind.Object)
            {
                throw reader.Fault(
                    $"a JSON object is expected but {Json.Describe(element)} is there", place.Length > 0 ? place[..^1] : null);
            }
        }

        public static IReadOnlyList<string> Strings(JsonEntryReader reader, JsonElement list, string? place)
        {
            if (list.ValueKind != JsonValueKind.Array)
                throw reader.Fault($"a list of strings is expected but {Json.Describe(list)} is there", place);
            var texts = new List<string>(list.GetArrayLength());
            foreach (JsonElement item in list.EnumerateArray())
                texts.Add(String(reader, item, $"{place}[{texts.Count}]"));
            return texts;
        }

        public bool Has(string field) => Get(field, out _);

        /// <summary>A string field; null counts as missing.</summary>
        public string Text(string field, string? missing = null)
        {
            if (!Get(field, out JsonElement value) || value.ValueKind == JsonValueKind.Null)
                return missing ?? throw _reader.Fault("it is missing", _place + field);
            return String(_reader, value, _place + field);
        }

        public IReadOnlyList<string> Texts(string field) =>
            Get(field, out JsonElement value)
                ? Strings(_reader, value, _place + field)
                : throw _reader.Fault("it is missing", _place + field);

        public IReadOnlyList<string> TextOrTexts(string field)
        {
            if (!Get(field, out JsonElement value) || value.ValueKind == JsonValueKind.Null)
                return [];
            return value.ValueKind == JsonValueKind.String
                ? [String(_reader, value, _place + field)]
                : Strings(_reader, value, _place + field);
        }

        /// <summary>A price text, or the list of numbers that a loaded record holds instead.</summary>
        public IReadOnlyList<double> Prices(string field)
        {
            if (!Get(field, out JsonElement value))
                value = default;
            if (value.ValueKind == JsonValueKind.Array)
            {
                var prices = new List<double>();
                foreach (JsonElement item in value.EnumerateArray())
                {
                    if (item.ValueKind != JsonValueKind.Number || !item.TryGetDouble(out double price) || !double.IsFinite(price))
                        throw _reader.Fault($"a number is expected but {Json.Describe(item)} is there", $"{_place}{field}[{prices.Count}]");
                    prices.Add(price);
                }
                if (prices.Count > 0)
                    return prices.Count > 2 ? prices[..2] : prices;
            }
            string? text = value.ValueKind switch
            {
                JsonValueKind.Undefined or JsonValueKind.Null or JsonValueKind.Array => null,
                _ => String(_reader, value, _place + field),
            };
            return ShopPricing.TryParse(text, out IReadOnlyList<double> read)
                ? read
                : throw _reader.Fault($"\"{text}\" is no price; one reads like $12.99 or $5.00 - $8.00", _place + field);
        }

        public IReadOnlyList<(string Name, IReadOnlyList<string> Values)> Options(string field)
        {
            if (!Get(field, out JsonElement value) || value.ValueKind is JsonValueKind.Null or JsonValueKind.String)
                return [];
            if (value.ValueKind != JsonValueKind.Object)
                throw _reader.Fault($"a JSON object of option groups is expected but {Json.Describe(value)} is there", _place + field);
            var groups = new List<(string, IReadOnlyList<string>)>();
            foreach (JsonProperty group in value.EnumerateObject())
            {
                if (group.Value.ValueKind == JsonValueKind.Null)
                    continue;
                string name = Name(group, _place + field);
                string place = $"{_place}{field}.{name}";
                if (group.Value.ValueKind != JsonValueKind.Array)
                    throw _reader.Fault($"a list of options is expected but {Json.Describe(group.Value)} is there", place);
                var values = new List<string>();
                foreach (JsonElement option in group.Value.EnumerateArray())
                    values.Add(new Entry(_reader, option, $"{place}[{values.Count}].").Text("value"));
                groups.Add((name, values));
            }
            return groups;
        }

        // Names are compared as they are unescaped, which fails on half of a surrogate pair.
        private bool Get(string field, out JsonElement value)
        {
            try
            {
                return _element.TryGetProperty(field, out value);
            }
            catch (InvalidOperationException e)
            {
                throw _reader.Fault("a name in it is not well-formed Unicode", _place.Length > 0 ? _place[..^1] : null, e);
            }
        }

        private string Name(JsonProperty property, string place)
        {
            try
            {
                return property.Name;
            }
            catch (InvalidOperationException e)
            {
                throw _reader.Fault("a name in it is not well-formed Unicode", place, e);
            }
        }

        private static string String(JsonEntryReader reader, JsonElement value, string place)
        {
            if (value.ValueKind != JsonValueKind.String)
                throw reader.Fault($"a string is expected but {Json.Describe(value)} is there", place);
            return Json.TryText(value) ?? throw reader.Fault("it holds half of a surrogate pair, which is not a character", place);
        }
    }
}
