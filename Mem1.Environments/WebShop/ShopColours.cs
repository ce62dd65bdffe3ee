// Invariants: the order of the list is part of the reward: the first colour word found wins.

namespace Mem1.Environments.WebShop;

/// <summary>How WebShop reduces colour phrases to one word before it compares options.</summary>
internal static class ShopColours
{
    private static readonly string[] s_words =
    [
        "alabaster", "apricot", "aqua", "ash", "asphalt", "azure", "banana", "beige", "black", "blue", "blush", "bordeaux", "bronze",
        "brown", "burgundy", "camel", "camo", "caramel", "champagne", "charcoal", "cheetah", "chestnut", "chocolate", "christmas",
        "coffee", "cognac", "copper", "coral", "cranberry", "cream", "crystal", "dark", "denim", "eggplant", "elephant", "espresso",
        "fuchsia", "gold", "granite", "grape", "graphite", "grass", "gray", "green", "grey", "heather", "indigo", "ivory", "ivy",
        "khaki", "lavender", "lemon", "leopard", "light", "lilac", "lime", "magenta", "maroon", "mauve", "merlot", "midnight", "mint",
        "mocha", "multicolor", "mushroom", "mustard", "natural", "navy", "nude", "olive", "orange", "peach", "pewter", "pink", "plum",
        "purple", "rainbow", "red", "rose", "royal", "rust", "sand", "sapphire", "seashell", "silver", "skull", "slate", "steel",
        "stone", "stonewash", "sunflower", "tan", "taupe", "teal", "tiger", "turquoise", "violet", "walnut", "wheat", "white", "wine",
        "yellow",
    ];

    /// <summary>The first colour word that stands anywhere in the text, inside a word too ("tan" in "standard"); else all of it.</summary>
    public static string Normalize(string text) =>
        Array.Find(s_words, colour => text.Contains(colour, StringComparison.Ordinal)) ?? text;

    /// <summary>
    /// The same for a (name, value) pair, where a colour must equal one of the two; null when none does and the pair stays a pair.
    /// </summary>
    public static string? NormalizePair(string name, string value) => Array.Find(s_words, colour => colour == name || colour == value);
}
