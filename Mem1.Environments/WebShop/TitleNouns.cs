// Invariants: a guess depends on the title alone.

using System.Collections.Frozen;
using System.Text;

namespace Mem1.Environments.WebShop;

/// <summary>
/// The fallback for products whose nouns no file lists. The original tags titles with a neural part-of-speech model that has no
/// counterpart here, so rewards equal the original's only with listed nouns. Titles are written in title case, where such a tagger
/// calls nearly everything a proper noun; the guess therefore keeps every word that begins with a letter, except function words,
/// common descriptive adjectives and participles. The reward asks only whether the shared part is 0, below 0.1 or above 0.2.
/// </summary>
internal static class TitleNouns
{
    private static readonly FrozenSet<string> s_others = FrozenSet.ToFrozenSet(
    [
        // Function words.
        "a", "an", "and", "any", "are", "as", "at", "be", "by", "each", "for", "from", "i", "if", "in", "into", "is", "it", "its", "me",
        "more", "most", "my", "no", "non", "not", "of", "off", "on", "only", "or", "other", "our", "out", "over", "per", "plus", "than",
        "that", "the", "their", "these", "this", "to", "under", "up", "very", "w", "was", "when", "which", "will", "with", "without",
        "you", "your", "s", "t", "x", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve",
        // Adjectives and participles that describe goods of every kind.
        "adjustable", "all", "anti", "artificial", "authentic", "automatic", "beautiful", "best", "big", "breathable", "bright", "casual",
        "classic", "clear", "comfortable", "compatible", "cute", "deep", "delicious", "different", "digital", "double", "durable", "easy",
        "elastic", "electric", "elegant", "extra", "fast", "fine", "flat", "flexible", "foldable", "free", "fresh", "full", "funny",
        "good", "great", "handmade", "hard", "heavy", "high", "hot", "large", "lightweight", "long", "loose", "low", "made", "mini",
        "modern", "multi", "natural", "new", "old", "organic", "original", "perfect", "portable", "professional", "quick", "raw", "real",
        "rechargeable", "removable", "replaceable", "reusable", "round", "safe", "sexy", "short", "single", "slim", "small", "smart",
        "soft", "solid", "special", "strong", "super", "thick", "thin", "tight", "tiny", "ultra", "universal", "warm", "washable",
        "waterproof", "wide", "wireless",
    ]);

    /// <summary>The words of a title that are probably nouns, lower-case, repeats included.</summary>
    public static IReadOnlyList<string> Guess(string title)
    {
        var nouns = new List<string>();
        var word = new StringBuilder();
        foreach (Rune rune in title.EnumerateRunes())
        {
            if (Rune.IsLetterOrDigit(rune))
                word.Append(rune.ToString());
            else
                Take();
        }
        Take();
        return nouns;

        void Take()
        {
            string text = PythonText.Lower(word.ToString());
            word.Clear();
            if (text.Length > 0 && char.IsLetter(text[0]) && !s_others.Contains(text))
                nouns.Add(text);
        }
    }
}
