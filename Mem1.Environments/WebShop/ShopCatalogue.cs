// Invariants: immutable after it is made, so that any number of episodes on any threads share one; products keep the order of their file.

namespace Mem1.Environments.WebShop;

/// <summary>The products of a shop and its search engine. Thread-safe.</summary>
public sealed class ShopCatalogue
{
    private readonly Dictionary<string, int> _byAsin = new(StringComparer.Ordinal);
    private readonly Lazy<ShopSearchIndex> _index;
    private readonly Lazy<Dictionary<string, int[]>> _byAttribute;

    internal ShopCatalogue(IReadOnlyList<ShopProduct> products, int guessedTitles)
    {
        Products = products;
        GuessedTitles = guessedTitles;
        for (int i = 0; i < products.Count; i++)
            _byAsin.Add(products[i].Asin, i);
        _index = new(() => new ShopSearchIndex([.. Products.Select(p => (p.Asin, p.SearchText()))]));
        _byAttribute = new(() => Enumerable.Range(0, Products.Count)
            .SelectMany(i => Products[i].Attributes.Distinct(StringComparer.Ordinal).Select(a => (Attribute: a, Product: i)))
            .GroupBy(p => p.Attribute, p => p.Product, StringComparer.Ordinal)
            .ToDictionary(g => g.Key, g => g.ToArray(), StringComparer.Ordinal));
    }

    /// <summary>Number of products.</summary>
    public int Count => Products.Count;

    /// <summary>
    /// Products whose title nouns had to be guessed because no file lists them; with any, rewards may differ from the original's.
    /// </summary>
    public int GuessedTitles { get; }

    internal IReadOnlyList<ShopProduct> Products { get; }

    internal ShopSearchIndex Index => _index.Value;

    /// <summary>Positions of the products with each attribute.</summary>
    internal IReadOnlyDictionary<string, int[]> ByAttribute => _byAttribute.Value;

    /// <summary>Reads a catalogue in the published layout.</summary>
    /// <param name="paths">Its files.</param>
    /// <param name="most">How many records to read at most; null reads all.</param>
    /// <param name="progress">Told of the number of products now and then.</param>
    /// <exception cref="DataFormatException">A file is missing or malformed, or holds no product.</exception>
    public static ShopCatalogue Load(ShopFilePaths paths, int? most = null, IProgress<int>? progress = null)
    {
        var maker = new ShopProductMaker(
            ShopFiles.Attributes(paths.Attributes),
            paths.Wishes is null ? new Dictionary<string, IReadOnlyList<ShopWish>>() : ShopFiles.Wishes(paths.Wishes),
            paths.TitleNouns is null ? new Dictionary<string, IReadOnlyList<string>>() : ShopFiles.TitleNouns(paths.TitleNouns));
        var products = new List<ShopProduct>();
        foreach (ShopRecord record in ShopFiles.Records(paths.Products).Take(most ?? int.MaxValue))
        {
            if (maker.Make(record) is not { } product)
                continue;
            products.Add(product);
            // Often enough for a progress line, too seldom to cost anything.
            if (products.Count % 1000 == 0)
                progress?.Report(products.Count);
        }
        if (products.Count == 0)
            throw new DataFormatException(paths.Products, "it holds no product");
        return new ShopCatalogue(products, maker.Guessed);
    }

    /// <summary>What products say, one text each: for training a tokenizer.</summary>
    public IEnumerable<string> Texts() => Products.Select(p => string.Join(
        '\n',
        [p.Asin, p.Title, p.PriceText, p.Description, .. p.Bullets, .. p.Options.Select(o => $"{o.Name}: {string.Join(", ", o.Values)}")]));

    /// <summary>Position of a product; -1 when there is none.</summary>
    internal int Find(string asin) => _byAsin.GetValueOrDefault(asin, -1);
}
