// Invariants: one normaliser serves reward and report; its steps are those of the SQuAD v1.1 evaluation (Rajpurkar et al. 2016) in
// the same order: lower case, delete ASCII punctuation, replace the articles a/an/the by a space, collapse white space. Where .NET and
// Python disagree about Unicode this file does what Python does, so that scores agree with the published scripts.

using System.Globalization;
using System.Text;

namespace Mem1.Environments.Scoring;

/// <summary>Brings answers into the form in which they are compared.</summary>
public static class AnswerNormalizer
{
    /// <summary>Normalises an answer. The result may be empty ("The", "...").</summary>
    public static string Normalize(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        var kept = new List<Rune>(text.Length);
        Rune[] runes = [.. text.EnumerateRunes()];
        for (int i = 0; i < runes.Length; i++)
            AppendLower(runes, i, kept);
        kept.RemoveAll(IsAsciiPunctuation);

        // A word in the sense of Python's \b is a maximal run of letters, numbers and underscores.
        var words = new StringBuilder(text.Length);
        for (int i = 0; i < kept.Count;)
        {
            int end = i;
            while (end < kept.Count && IsWord(kept[end]))
                end++;
            if (end == i)
            {
                words.Append(IsSpace(kept[i]) ? " " : kept[i].ToString());
                i++;
                continue;
            }
            string word = string.Concat(kept[i..end]);
            words.Append(word is "a" or "an" or "the" ? " " : word);
            i = end;
        }
        return string.Join(' ', words.ToString().Split(' ', StringSplitOptions.RemoveEmptyEntries));
    }

    /// <summary>The words of a normalised answer.</summary>
    internal static string[] Words(string normalized) => normalized.Split(' ', StringSplitOptions.RemoveEmptyEntries);

    // Full lower-casing: the two characters for which it is more than one character's own mapping are U+0130 and the final sigma.
    private static void AppendLower(Rune[] runes, int i, List<Rune> into)
    {
        switch (runes[i].Value)
        {
            case 0x130:
                into.Add(new Rune('i'));
                into.Add(new Rune(0x307));
                break;
            case 0x3A3:
                into.Add(new Rune(IsFinalSigma(runes, i) ? 0x3C2 : 0x3C3));
                break;
            default:
                into.Add(Rune.ToLowerInvariant(runes[i]));
                break;
        }
    }

    // Unicode, Final_Sigma: a cased letter before and none after, case-ignorable characters between them not counting.
    private static bool IsFinalSigma(Rune[] runes, int i)
    {
        int before = i - 1, after = i + 1;
        while (before >= 0 && IsCaseIgnorable(runes[before]))
            before--;
        while (after < runes.Length && IsCaseIgnorable(runes[after]))
            after++;
        return before >= 0 && IsCased(runes[before]) && (after == runes.Length || !IsCased(runes[after]));
    }

    // Cased beyond the three categories (Other_Lowercase, Other_Uppercase): ordinal indicators, Roman numerals, enclosed letters.
    private static bool IsCased(Rune rune) =>
        rune.Value is 0xAA or 0xBA or (>= 0x2160 and <= 0x217F) or (>= 0x24B6 and <= 0x24E9)
            or (>= 0x1F130 and <= 0x1F149) or (>= 0x1F150 and <= 0x1F169) or (>= 0x1F170 and <= 0x1F189)
        || Rune.GetUnicodeCategory(rune) is
            UnicodeCategory.UppercaseLetter or UnicodeCategory.LowercaseLetter or UnicodeCategory.TitlecaseLetter;

    private static bool IsCaseIgnorable(Rune rune) =>
        rune.Value is '\'' or '.' or ':' or '\u00B7' or '\u2018' or '\u2019' or '\u2024' or '\u2027'
        || Rune.GetUnicodeCategory(rune) is UnicodeCategory.NonSpacingMark or UnicodeCategory.EnclosingMark or UnicodeCategory.Format
            or UnicodeCategory.ModifierLetter or UnicodeCategory.ModifierSymbol;

    private static bool IsAsciiPunctuation(Rune rune) => rune.IsAscii && (Rune.IsPunctuation(rune) || Rune.IsSymbol(rune));

    // Python's \w: str.isalnum() or underscore. Unlike .NET's it takes neither combining marks nor joiners, and it takes No and Nl.
    private static bool IsWord(Rune rune) => rune.Value == '_' || Rune.GetUnicodeCategory(rune) is
        UnicodeCategory.UppercaseLetter or UnicodeCategory.LowercaseLetter or UnicodeCategory.TitlecaseLetter
        or UnicodeCategory.ModifierLetter or UnicodeCategory.OtherLetter or UnicodeCategory.DecimalDigitNumber
        or UnicodeCategory.LetterNumber or UnicodeCategory.OtherNumber;

    // Python's str.isspace() also takes the four separators U+001C to U+001F.
    private static bool IsSpace(Rune rune) => Rune.IsWhiteSpace(rune) || rune.Value is >= 0x1C and <= 0x1F;
}
