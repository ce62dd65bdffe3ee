// Invariants: scores are integers in [0, 100]; text is compared by code point; nothing depends on the culture.

using System.Globalization;
using System.Text;

namespace Mem1.Environments.WebShop;

/// <summary>How similar two strings are, on which the fuzzy score rests.</summary>
public enum FuzzyRatio
{
    /// <summary>Longest common subsequence (RapidFuzz, and thefuzz since 0.20): what MEM1's own runs use.</summary>
    Subsequence,
    /// <summary>Matching blocks as in Python's difflib (plain thefuzz 0.19): what the original WebShop's numbers use.</summary>
    Blocks,
}

/// <summary>The token_set_ratio score of the thefuzz library.</summary>
internal static class FuzzyText
{
    // From this length on, difflib does not begin matches at characters that are too frequent.
    private const int JunkLength = 200;

    /// <summary>Compares two texts as sets of words; 100 when the words of one are all among those of the other.</summary>
    public static int TokenSetRatio(string first, string second, FuzzyRatio ratio)
    {
        string a = Clean(first), b = Clean(second);
        if (a.Length == 0 || b.Length == 0)
            return 0;
        HashSet<string> wordsA = Words(a), wordsB = Words(b);
        string common = Sorted(wordsA.Where(wordsB.Contains));
        string withA = (common + " " + Sorted(wordsA.Where(w => !wordsB.Contains(w)))).Trim(' ');
        string withB = (common + " " + Sorted(wordsB.Where(w => !wordsA.Contains(w)))).Trim(' ');
        return Math.Max(Ratio(common, withA, ratio), Math.Max(Ratio(common, withB, ratio), Ratio(withA, withB, ratio)));
    }

    /// <summary>Drops Latin-1 characters beyond ASCII, makes everything that is no word character a space, lower-cases and trims.</summary>
    public static string Clean(string text)
    {
        var result = new StringBuilder(text.Length);
        foreach (Rune rune in text.EnumerateRunes())
        {
            if (rune.Value is >= 0x80 and <= 0xff)
                continue;
            if (IsWord(rune))
                result.Append(rune.ToString());
            else
                result.Append(' ');
        }
        return PythonText.Strip(PythonText.Lower(result.ToString()));
    }

    /// <summary>Python's \w: letters, all numbers, and the underscore. (.NET's \w also takes marks and other connectors.)</summary>
    public static bool IsWord(Rune rune) => rune.Value == '_' || Rune.GetUnicodeCategory(rune) is
        UnicodeCategory.UppercaseLetter or UnicodeCategory.LowercaseLetter or UnicodeCategory.TitlecaseLetter or
        UnicodeCategory.ModifierLetter or UnicodeCategory.OtherLetter or UnicodeCategory.DecimalDigitNumber or
        UnicodeCategory.LetterNumber or UnicodeCategory.OtherNumber;

    /// <summary>Length of the longest common subsequence.</summary>
    public static int CommonSubsequence(ReadOnlySpan<int> x, ReadOnlySpan<int> y)
    {
        int[] row = new int[y.Length + 1];
        foreach (int c in x)
        {
            int diagonal = 0;
            for (int j = 1; j <= y.Length; j++)
            {
                int above = row[j];
                row[j] = c == y[j - 1] ? diagonal + 1 : Math.Max(above, row[j - 1]);
                diagonal = above;
            }
        }
        return row[^1];
    }

    /// <summary>Total length of difflib's matching blocks.</summary>
    public static int MatchedBlocks(ReadOnlySpan<int> x, ReadOnlySpan<int> y)
    {
        var places = new Dictionary<int, List<int>>();
        for (int j = 0; j < y.Length; j++)
        {
            if (!places.TryGetValue(y[j], out List<int>? list))
                places[y[j]] = list = [];
            list.Add(j);
        }
        if (y.Length >= JunkLength)
        {
            int limit = (y.Length / 100) + 1;
            foreach (int frequent in places.Where(p => p.Value.Count > limit).Select(p => p.Key).ToList())
                places.Remove(frequent);
        }

        int matched = 0;
        var open = new Stack<(int X0, int X1, int Y0, int Y1)>([(0, x.Length, 0, y.Length)]);
        while (open.TryPop(out var range))
        {
            (int i, int j, int length) = Longest(x, y, range, places);
            if (length == 0)
                continue;
            matched += length;
            if (range.X0 < i && range.Y0 < j)
                open.Push((range.X0, i, range.Y0, j));
            if (i + length < range.X1 && j + length < range.Y1)
                open.Push((i + length, range.X1, j + length, range.Y1));
        }
        return matched;
    }

    /// <summary>The code points of a text.</summary>
    public static int[] CodePoints(string text) => [.. text.EnumerateRunes().Select(r => r.Value)];

    private static int Ratio(string x, string y, FuzzyRatio ratio)
    {
        if (x == y)
            return 100;
        if (x.Length == 0 || y.Length == 0)
            return 0;
        int[] a = CodePoints(x), b = CodePoints(y);
        int matched = ratio == FuzzyRatio.Blocks ? MatchedBlocks(a, b) : CommonSubsequence(a, b);
        // Half to even is Math.Round's default and Python's.
        return (int)Math.Round(100 * (2.0 * matched / (a.Length + b.Length)));
    }

    private static (int I, int J, int Length) Longest(
        ReadOnlySpan<int> x, ReadOnlySpan<int> y, (int X0, int X1, int Y0, int Y1) range, Dictionary<int, List<int>> places)
    {
        (int bestI, int bestJ, int best) = (range.X0, range.Y0, 0);
        var runs = new Dictionary<int, int>();
        for (int i = range.X0; i < range.X1; i++)
        {
            var next = new Dictionary<int, int>();
            if (places.TryGetValue(x[i], out List<int>? list))
            {
                foreach (int j in list)
                {
                    if (j < range.Y0)
                        continue;
                    if (j >= range.Y1)
                        break;
                    int length = runs.GetValueOrDefault(j - 1) + 1;
                    next[j] = length;
                    if (length > best)
                        (bestI, bestJ, best) = (i - length + 1, j - length + 1, length);
                }
            }
            runs = next;
        }
        while (bestI > range.X0 && bestJ > range.Y0 && x[bestI - 1] == y[bestJ - 1])
            (bestI, bestJ, best) = (bestI - 1, bestJ - 1, best + 1);
        while (bestI + best < range.X1 && bestJ + best < range.Y1 && x[bestI + best] == y[bestJ + best])
            best++;
        return (bestI, bestJ, best);
    }

    private static HashSet<string> Words(string text)
    {
        var words = new HashSet<string>(StringComparer.Ordinal);
        int start = 0;
        for (int i = 0; i <= text.Length; i++)
        {
            if (i < text.Length && !PythonText.IsSpace(text[i]))
                continue;
            if (i > start)
                words.Add(text[start..i]);
            start = i + 1;
        }
        return words;
    }

    private static string Sorted(IEnumerable<string> words) => string.Join(' ', words.Order(PythonText.CodePoints));
}
