// Invariants: documents and queries go through the same analysis; it depends on nothing but the text.

using System.Collections.Frozen;
using System.Globalization;
using System.Text;
using Mem1.Environments.Common;

namespace Mem1.Environments.WebShop;

/// <summary>
/// The English analysis of the original's search engine (Lucene): Unicode word boundaries (UAX #29), possessive 's stripped, lower case,
/// 33 stop words dropped, Porter stems. Emoji, which the original indexes as words, are dropped here.
/// </summary>
internal static class ShopAnalyzer
{
    // The tokenizer cuts longer runs.
    private const int LongestToken = 255;

    private static readonly FrozenSet<string> s_stopWords = FrozenSet.ToFrozenSet(
    [
        "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it", "no", "not", "of", "on", "or",
        "such", "that", "the", "their", "then", "there", "these", "they", "this", "to", "was", "will", "with",
    ]);

    // Classes of the word-boundary rules; marks and format characters never count on their own.
    private enum Kind
    {
        Other, Letter, Digit, Katakana, Single, ComplexContext, Extender, MidLetter, MidNumber, MidBoth, Attached,
    }

    /// <summary>The index terms of a text, in order, repeats included.</summary>
    public static List<string> Terms(string text)
    {
        var terms = new List<string>();
        foreach (string token in Tokens(text))
        {
            string word = PythonText.Lower(StripPossessive(token));
            if (!s_stopWords.Contains(word))
                terms.Add(PorterStemmer.Stem(word));
        }
        return terms;
    }

    private static string StripPossessive(string token) =>
        token.Length >= 2 && token[^1] is 's' or 'S' && token[^2] is '\'' or '\u2019' or '\uff07' ? token[..^2] : token;

    private static IEnumerable<string> Tokens(string text)
    {
        int at = 0;
        while (at < text.Length)
        {
            int end = End(text, at, out bool word);
            for (int cut = at; word && cut < end; cut += LongestToken)
                yield return text[cut..Math.Min(end, cut + LongestToken)];
            at = end;
        }
    }

    /// <summary>Where the segment that begins here ends, and whether it is a word.</summary>
    private static int End(string text, int start, out bool word)
    {
        Kind last = At(text, start, out int at);
        word = last is Kind.Letter or Kind.Digit or Kind.Katakana or Kind.Single or Kind.ComplexContext;
        if (last is not (Kind.Letter or Kind.Digit or Kind.Katakana or Kind.Single or Kind.ComplexContext or Kind.Extender))
            return at;
        at = SkipAttached(text, at);
        while (at < text.Length)
        {
            Kind kind = At(text, at, out int next);
            next = SkipAttached(text, next);
            if (Joins(last, kind))
            {
                word |= kind != Kind.Extender;
                (last, at) = (kind, next);
                continue;
            }
            // A mark between two letters or two digits joins them.
            bool between = last switch
            {
                Kind.Letter => kind is Kind.MidLetter or Kind.MidBoth,
                Kind.Digit => kind is Kind.MidNumber or Kind.MidBoth,
                _ => false,
            };
            if (!between || next >= text.Length || At(text, next, out int after) != last)
                return at;
            at = SkipAttached(text, after);
        }
        return at;
    }

    private static bool Joins(Kind last, Kind next) => (last, next) switch
    {
        (Kind.Letter or Kind.Digit, Kind.Letter or Kind.Digit) => true,
        (Kind.Katakana, Kind.Katakana) => true,
        (Kind.ComplexContext, Kind.ComplexContext) => true,
        (Kind.Letter or Kind.Digit or Kind.Katakana or Kind.Extender, Kind.Extender) => true,
        (Kind.Extender, Kind.Letter or Kind.Digit or Kind.Katakana) => true,
        _ => false,
    };

    private static int SkipAttached(string text, int at)
    {
        while (at < text.Length && At(text, at, out int next) == Kind.Attached)
            at = next;
        return at;
    }

    private static Kind At(string text, int at, out int next)
    {
        if (Rune.DecodeFromUtf16(text.AsSpan(at), out Rune rune, out int length) != System.Buffers.OperationStatus.Done)
        {
            next = at + Math.Max(1, length);
            return Kind.Other;
        }
        next = at + length;
        int c = rune.Value;
        if (c < 0x80)
        {
            return c switch
            {
                (>= 'a' and <= 'z') or (>= 'A' and <= 'Z') => Kind.Letter,
                >= '0' and <= '9' => Kind.Digit,
                '_' => Kind.Extender,
                '.' or '\'' => Kind.MidBoth,
                ':' => Kind.MidLetter,
                ',' or ';' => Kind.MidNumber,
                _ => Kind.Other,
            };
        }
        return c switch
        {
            0x00b7 or 0x0387 or 0x05f4 or 0x2027 or 0xfe13 or 0xfe55 or 0xff1a or 0x02d7 => Kind.MidLetter,
            0x2018 or 0x2019 or 0x2024 or 0xfe52 or 0xff07 or 0xff0e => Kind.MidBoth,
            0x037e or 0x0589 or 0x060c or 0x060d or 0x066c or 0x07f8 or 0x2044 or 0xfe10 or 0xfe14 or 0xfe50 or 0xfe54 or 0xff0c or
                0xff1b => Kind.MidNumber,
            0x066b => Kind.Digit,
            0x200b => Kind.Other,
            0x202f => Kind.Extender,
            (>= 0x3031 and <= 0x3035) or 0x309b or 0x309c or (>= 0x30a0 and <= 0x30fa) or (>= 0x30fc and <= 0x30ff) or
                (>= 0x31f0 and <= 0x31ff) or (>= 0x32d0 and <= 0x32fe) or (>= 0x3300 and <= 0x3357) or (>= 0xff66 and <= 0xff9d) =>
                Kind.Katakana,
            (>= 0x3041 and <= 0x3096) or (>= 0x309d and <= 0x309f) or (>= 0x2e80 and <= 0x2fd5) or 0x3005 or 0x3007 or
                (>= 0x3021 and <= 0x3029) or (>= 0x3038 and <= 0x303b) or (>= 0x3400 and <= 0x4dbf) or (>= 0x4e00 and <= 0x9fff) or
                (>= 0xf900 and <= 0xfaff) or (>= 0x20000 and <= 0x3134f) => Kind.Single,
            (>= 0x0e01 and <= 0x0e3a) or (>= 0x0e40 and <= 0x0e4e) or (>= 0x0e81 and <= 0x0edf) or (>= 0x1000 and <= 0x103f) or
                (>= 0x1780 and <= 0x17d3) => Kind.ComplexContext,
            >= 0x24b6 and <= 0x24e9 => Kind.Letter,
            _ => Rune.GetUnicodeCategory(rune) switch
            {
                UnicodeCategory.UppercaseLetter or UnicodeCategory.LowercaseLetter or UnicodeCategory.TitlecaseLetter or
                    UnicodeCategory.ModifierLetter or UnicodeCategory.OtherLetter or UnicodeCategory.LetterNumber => Kind.Letter,
                UnicodeCategory.DecimalDigitNumber => Kind.Digit,
                UnicodeCategory.ConnectorPunctuation => Kind.Extender,
                UnicodeCategory.NonSpacingMark or UnicodeCategory.EnclosingMark or UnicodeCategory.SpacingCombiningMark or
                    UnicodeCategory.Format => Kind.Attached,
                _ => Kind.Other,
            },
        };
    }
}
