// Invariants: the catalogue depends on the seed and the size alone; products go through the same rules as those of files; every path of
// the shop has at least one product that takes it (the special ones), whatever the seed.

using System.Runtime.InteropServices;
using Mem1.Environments.Common;

namespace Mem1.Environments.WebShop;

/// <summary>A made-up catalogue, so that the shop runs without any download.</summary>
public static class GeneratedShop
{
    /// <summary>Kinds of products there are: fifteen, from sneakers to nuts.</summary>
    public const int Kinds = 15;

    // Keeps the catalogue's stream apart from others with the same seed.
    private const ulong Purpose = 0x73686f70;

    // Share of products that carry an instruction; 415 of 1,000 in the published set.
    private const double InstructionShare = 0.45;

    private static readonly string[] s_brands =
        ["Alder Lane", "Brightfen", "Corvane", "Dunmoor", "Ellery Park", "Fernhollow", "Graywick", "Hazelby", "Ironvale", "Juniper Row"];

    private static readonly string[] s_colours =
        ["black", "white", "navy blue", "sky blue", "red", "forest green", "gray", "dark brown", "ivory", "pink"];

    private static readonly string[] s_descriptions =
        ["For everyday use.", "A gift that lasts, packed with care.", "", "   ",
         "Tested by hand before it ships. One year of service included."];

    private static readonly Kind[] s_kinds =
    [
        Make(
            "fashion", "Clothing, Shoes & Jewelry › Men › Shoes › Sneakers",
            "men's sneakers", ["Running Shoes", "Walking Shoes", "Trail Shoes"],
            ["machine washable", "rubber sole", "arch support", "non slip", "day comfort"], 20, 120,
            ("Size", ["8", "8.5", "9", "9.5", "10 Wide"]),
            ("Color", s_colours)),
        Make(
            "fashion", "Clothing, Shoes & Jewelry › Women › Clothing › Dresses",
            "women's dresses", ["Summer Dress", "Wrap Dress", "Maxi Dress"],
            ["hand wash", "long sleeve", "elastic waist", "polyester spandex", "daily wear"], 15, 90,
            ("Size", ["X-Small", "Small", "Medium", "Large", "XX-Large"]),
            ("Color", s_colours)),
        Make(
            "fashion", "Clothing, Shoes & Jewelry › Men › Clothing › Shirts",
            "men's t-shirts", ["Cotton T-Shirt", "Pocket T-Shirt", "Polo Shirt"],
            ["machine wash", "cotton spandex", "short sleeve", "classic fit", "tumble dry"], 8, 45,
            ("Fit Type", ["Men", "Youth"]),
            ("Size", ["Small", "Medium", "Large"])),
        Make(
            "beauty", "Beauty & Personal Care › Hair Care › Shampoo & Conditioner › Shampoos",
            "shampoo", ["Repair Shampoo", "Herbal Shampoo", "Scalp Shampoo"],
            ["sulfate free", "tea tree", "natural ingredients", "damaged hair", "cruelty free"], 6, 40,
            ("Size", ["8 Fl Oz", "16 Fl Oz", "16 Fl Oz (Pack of 2)"])),
        Make(
            "beauty", "Beauty & Personal Care › Makeup › Lips › Lipstick",
            "lipsticks", ["Matte Lipstick", "Satin Lipstick", "Lip Balm"],
            ["long lasting", "paraben free", "easy apply", "vitamin e"], 4, 30,
            ("Color", ["Rose", "Plum", "Coral/Peach", "1877black", "Berry"])),
        Make(
            "beauty", "Beauty & Personal Care › Skin Care › Face › Creams & Moisturizers",
            "face moisturizers", ["Day Cream", "Night Cream", "Face Lotion"],
            ["oil free", "hyaluronic acid", "fragrance free", "sensitive skin", "fine lines"], 9, 70,
            ("Size", ["1 Ounce", "1.7 Ounce", "3.4 Ounce"]),
            ("Style", ["Standard", "Travel"])),
        Make(
            "electronics", "Electronics › Computers & Accessories › Cables & Accessories › Power Cables",
            "power cables", ["Charging Cable", "Braided Cable", "Power Cord"],
            ["fast charging", "aluminum alloy", "plug play", "heavy duty"], 5, 35,
            ("Length", ["3ft/1m", "6ft/2m", "10ft/3m"]),
            ("Style", ["Standard", "Right Angle"])),
        Make(
            "electronics", "Electronics › Headphones › Earbud Headphones",
            "headphones", ["Earbuds", "Headphones", "Neckband"],
            ["noise cancelling", "hands free", "stereo sound", "wireless charging", "high definition"], 18, 250,
            ("Color", ["Black", "Titanium", "White", "Blue"])),
        Make(
            "electronics", "Electronics › Television & Video › Televisions › LED & LCD TVs",
            "televisions", ["Smart Television", "Slim Television"],
            ["high speed", "quad core", "dual band", "ultra hd"], 180, 1300,
            ("Size", ["32 inch", "43 inch", "55 inch"])),
        Make(
            "garden", "Home & Kitchen › Furniture › Living Room Furniture › Sofas & Couches",
            "sofas and couches", ["Velvet Sofa", "Linen Couch", "Sleeper Sofa"],
            ["solid wood", "high density", "easy assemble", "living room", "memory foam"], 240, 1100,
            ("Color", ["Emerald Green", "Royal Blue", "Light Gray", "Beige"])),
        Make(
            "garden", "Home & Kitchen › Bedding › Decorative Pillows › Throw Pillow Covers",
            "throw pillow covers", ["Pillow Cover", "Cushion Cover"],
            ["double sided", "super soft", "machine washable", "living room"], 6, 36,
            ("Size", ["16 in x 16 in", "18 in x 18 in", "20 in x 20 in"]),
            ("Color", ["Ginkgo Light", "Stone", "Rust", "Teal"])),
        Make(
            "garden", "Home & Kitchen › Storage & Organization › Shelving",
            "bookcases", ["Bookcase", "Wall Shelf", "Corner Rack"],
            ["space saving", "wall mounted", "easy clean", "storage unit"], 25, 260,
            ("Size", ["3 Shelves", "4 Shelves", "5 Shelves"])),
        Make(
            "grocery", "Grocery & Gourmet Food › Beverages › Bottled Beverages › Protein Drinks",
            "protein drinks", ["Protein Shake", "Protein Drink"],
            ["gluten free", "soy free", "plant based", "low carb", "non gmo"], 12, 60,
            ("Flavor Name", ["Dark Chocolate", "Vanilla", "Peppermint Mocha"]),
            ("Size", ["Pack of 4", "Pack of 12"])),
        Make(
            "grocery", "Grocery & Gourmet Food › Pantry Staples › Syrups",
            "coffee syrups", ["Coffee Syrup", "Caramel Syrup"],
            ["sugar free", "keto friendly", "artificial flavors", "zero calorie"], 6, 28,
            ("Flavor", ["Crème Brûlée", "Café Mocha", "Hazelnut"])),
        Make(
            "grocery", "Grocery & Gourmet Food › Snack Foods › Nuts & Seeds",
            "nuts & seeds", ["Almonds", "Cashews", "Trail Mix"],
            ["dairy free", "certified organic", "resealable bag", "protein serving"], 7, 48,
            ("Size", ["8 Ounce", "16 Ounce (Pack of 1)", "2 Pound"])),
    ];

    /// <summary>Makes a catalogue.</summary>
    /// <param name="seed">Seed of everything random in it.</param>
    /// <param name="productsPerKind">How many products of each kind; about half have an instruction.</param>
    /// <param name="kinds">How many kinds of products; at most <see cref="Kinds"/>.</param>
    public static ShopCatalogue Create(ulong seed = 1, int productsPerKind = 40, int kinds = Kinds)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(productsPerKind);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(kinds);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(kinds, Kinds);
        var random = new SeededRandom(Purpose, seed);
        var records = new List<ShopRecord>();
        var attributes = new Dictionary<string, ShopAttributes>(StringComparer.Ordinal);
        var wishes = new Dictionary<string, IReadOnlyList<ShopWish>>(StringComparer.Ordinal);
        var nouns = new Dictionary<string, IReadOnlyList<string>>(StringComparer.Ordinal);
        for (int k = 0; k < kinds; k++)
        {
            for (int i = 0; i < productsPerKind; i++)
                records.Add(Product($"M1{(char)('A' + k)}{i:0000}", s_kinds[k], random, attributes, wishes, nouns));
        }
        random.Shuffle(CollectionsMarshal.AsSpan(records));
        // After the shuffle: of two records with one identifier the first counts.
        records.AddRange(Special(attributes, wishes, nouns));
        var maker = new ShopProductMaker(attributes, wishes, nouns);
        return new ShopCatalogue([.. records.Select(maker.Make).OfType<ShopProduct>()], maker.Guessed);
    }

    private static ShopRecord Product(
        string asin, Kind kind, SeededRandom random, Dictionary<string, ShopAttributes> attributes,
        Dictionary<string, IReadOnlyList<ShopWish>> wishes, Dictionary<string, IReadOnlyList<string>> nouns)
    {
        string brand = random.Choose(s_brands), thing = random.Choose(kind.Things);
        string[] own = Draw(kind.Attributes, 2 + random.Next(kind.Attributes.Length - 1), random);
        string title = $"{brand} {thing} with {Title(own[0])}, Model {asin[3..]}";
        nouns[title] = [.. brand.Split(' '), .. thing.Split(' ', '-'), .. Title(own[0]).Split(' ')[^1..], "Model"];

        var options = new List<(string Name, IReadOnlyList<string> Values)>();
        foreach ((string name, string[] values) in kind.Options)
        {
            if (!random.Chance(0.15))
                options.Add((name, Draw(values, Math.Min(values.Length, 2 + random.Next(3)), random)));
        }

        // Prices in cents, so that their text is short.
        double low = Math.Round(kind.LeastPrice + ((kind.MostPrice - kind.LeastPrice) * random.NextDouble()), 2);
        double[] prices = random.Chance(0.1) ? [low, Math.Round(low * 1.4, 2)] : [low];
        string[] asked = Draw(own, 1 + random.Next(Math.Min(3, own.Length)), random);
        string? instruction = null;
        if (random.Chance(InstructionShare))
        {
            string rest = asked.Length > 1 ? $"{string.Join(", ", asked[1..])} " : "";
            instruction = $"Find me {rest}{kind.Query} with {asked[0]}";
            string[] wanted = [.. options.Select(o => ShopValue(random.Choose(o.Values)))];
            string like = wanted.Length > 0 ? $", {string.Join(", ", wanted)}" : "";
            string wish = $"i am looking for {thing.ToLowerInvariant()} that is {string.Join(" and ", asked)}{like}.";
            wishes[asin] = [new ShopWish(wish, asked, wanted)];
        }
        attributes[asin] = new ShopAttributes(own, instruction, instruction is null ? [] : asked);
        return new ShopRecord
        {
            Asin = asin,
            Name = title,
            Description = random.Choose(s_descriptions),
            Bullets = [.. own.Select(a => $"Made to be {a}, year after year "), "Designed in small batches "],
            Prices = prices,
            Category = kind.Category,
            Query = random.Chance(0.2) ? $" {Title(kind.Query)} " : kind.Query,
            ProductCategory = kind.Path,
            Options = options,
        };
    }

    /// <summary>One product for each path that drawn products do not surely take.</summary>
    private static IEnumerable<ShopRecord> Special(
        Dictionary<string, ShopAttributes> attributes, Dictionary<string, IReadOnlyList<ShopWish>> wishes,
        Dictionary<string, IReadOnlyList<string>> nouns)
    {
        const string Path = "Home & Kitchen › Kitchen & Dining › Gadgets";
        nouns["Nameless"] = [];
        nouns["Case Case Case Cover"] = ["Case", "Case", "Case", "Cover"];
        attributes["M1S0003"] = new(["easy clean"], "Find me easy clean gadgets", ["easy clean"]);
        attributes["M1S0004"] = new(["heavy duty"], "Find me heavy duty gadgets", ["heavy duty"]);
        attributes["M1S0005"] = new(["stainless steel"], "Find me stainless steel gadgets", ["stainless steel"]);
        attributes["M1S0006"] = new(["wall mounted"], "Find me wall mounted gadgets", ["wall mounted"]);
        attributes["M1S0007"] = new(["non stick"], "Find me non stick gadgets", ["non stick"]);
        attributes["M1S0008"] = new([], null, []);
        wishes["M1S0005"] =
        [
            new("...i want a stainless steel kettle.", ["stainless steel"], []),
            new("a kettle, please", [], ["silver"]),
            new("show me a stainless steel kettle under a good price", ["stainless steel"], ["silver"]),
        ];

        // Skipped: no identifier, and one too long.
        yield return Gadget("nan", "Skipped", 10);
        yield return Gadget("M1S00000001", "Skipped", 10);
        // Without attributes of its own and without nouns; its nouns are listed as none.
        yield return Gadget("M1S0002", "Nameless", 10) with { ProductCategory = "Gadgets" };
        // Values that are buttons, stand in two groups, hold brackets, quotes or a no-break space.
        yield return Gadget("M1S0003", "Case Case Case Cover", 10) with
        {
            Options =
                [("Color", ["clear", "gold", "12\" long", "two\u00a0tone"]), ("Style", ["gold", "reviews", "large [us 11]", "men\u2019s"])],
        };
        yield return Gadget("M1S0003", "A second product of one identifier", 10);
        // Just below, at and above the last price caps.
        yield return Gadget("M1S0004", "Stand Mixer Pro", 975.5);
        yield return Gadget("M1S0005", "Steel Kettle Deluxe", 985) with { Options = [("Finish", ["Silver", "Standard"])], Bullets = [""] };
        yield return Gadget("M1S0006", "Copper Range Hood", 1299) with { Description = "Every piece is unique.\nMade to measure." };
        yield return Gadget("M1S0007", "Non-Stick Pan", 30) with { Options = [("Size", []), ("Depth", ["5 cm"])] };
        yield return Gadget("M1S0008", "Plain Spoon", 0.1) with { Bullets = [] };

        static ShopRecord Gadget(string asin, string name, double price) => new()
        {
            Asin = asin,
            Name = name,
            Description = "A kitchen gadget.",
            Bullets = ["For every kitchen "],
            Prices = [price],
            Category = "garden",
            Query = "kitchen gadgets",
            ProductCategory = Path,
        };
    }

    private static string ShopValue(string value) => value.Replace("/", " | ", StringComparison.Ordinal).ToLowerInvariant();

    private static string Title(string text) =>
        string.Join(' ', text.Split(' ').Select(w => w.Length == 0 ? w : char.ToUpperInvariant(w[0]) + w[1..]));

    private static string[] Draw(IReadOnlyList<string> from, int count, SeededRandom random)
    {
        string[] all = [.. from];
        random.Shuffle<string>(all);
        return all[..Math.Min(count, all.Length)];
    }

    private static Kind Make(
        string category, string path, string query, string[] things, string[] attributes, double least, double most,
        params (string Name, string[] Values)[] options) => new(category, path, query, things, attributes, least, most, options);

    private sealed record Kind(
        string Category, string Path, string Query, string[] Things, string[] Attributes, double LeastPrice, double MostPrice,
        (string Name, string[] Values)[] Options);
}
