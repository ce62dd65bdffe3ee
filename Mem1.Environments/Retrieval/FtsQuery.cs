// Invariants: whatever the text, the result is null or a valid FTS5 expression: quoted strings of letters, digits and marks joined by
// OR, nothing else.

using System.Globalization;
using System.Text;

namespace Mem1.Environments.Retrieval;

/// <summary>Turns text of a user or a model into an FTS5 match expression.</summary>
internal static class FtsQuery
{
    // A query of a language model has a dozen words; the bound keeps a runaway response from scanning the whole index.
    private const int MaxTerms = 64;

    // The customary English stop words of BM25 baselines. They are dropped from queries only (never from the index), because a
    // term that nearly every passage holds costs the most time and ranks nothing.
    private static readonly HashSet<string> s_stopWords =
    [
        "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it", "no", "not", "of", "on", "or",
        "such", "that", "the", "their", "then", "there", "these", "they", "this", "to", "was", "will", "with",
    ];

    /// <summary>The expression, or null when the text holds no word.</summary>
    public static string? From(string text)
    {
        List<string> terms = [.. Terms(text).Distinct(StringComparer.Ordinal)];
        List<string> telling = [.. terms.Where(t => !s_stopWords.Contains(t))];
        List<string> used = telling.Count > 0 ? telling : terms;
        return used.Count == 0 ? null : string.Join(" OR ", used.Take(MaxTerms).Select(t => $"\"{t}\""));
    }

    public static bool IsStopWord(string lowerCaseWord) => s_stopWords.Contains(lowerCaseWord);

    private static IEnumerable<string> Terms(string text)
    {
        var term = new StringBuilder();
        foreach (Rune rune in text.EnumerateRunes())
        {
            // The token characters of FTS5's unicode61: letters, numbers and, within a word, marks.
            UnicodeCategory category = Rune.GetUnicodeCategory(rune);
            bool mark = category is UnicodeCategory.NonSpacingMark or UnicodeCategory.SpacingCombiningMark or UnicodeCategory.EnclosingMark;
            bool number = category is UnicodeCategory.DecimalDigitNumber or UnicodeCategory.LetterNumber or UnicodeCategory.OtherNumber;
            if (Rune.IsLetter(rune) || number || (mark && term.Length > 0))
            {
                term.Append(Rune.ToLowerInvariant(rune).ToString());
            }
            else if (term.Length > 0)
            {
                yield return term.ToString();
                term.Clear();
            }
        }
        if (term.Length > 0)
            yield return term.ToString();
    }
}
