// Invariants: the same text gives the same terms on every machine (no culture, no ICU); a term is never empty nor longer than MaxTerm.

using System.Globalization;
using System.Text;
using Mem1.Environments.Common;

namespace Mem1.Environments.Retrieval;

/// <summary>
/// Text to index terms, as the BM25 baselines of the literature have it (Lucene's English analysis): words by the default rules of Unicode
/// Standard Annex 29, possessive 's stripped, lower case, stop words marked, Porter stems. Accents are folded, which those baselines
/// do not do: people and models often leave them out. Not thread-safe; one instance reads one text at a time.
/// </summary>
internal sealed class EnglishAnalyzer
{
    // Lucene splits words at this length; only garbage is longer.
    private const int MaxTerm = 255;

    private const char FirstLatin = '\u00C0';
    private const char FirstAdditional = '\u1E00';

    // Base letters of U+00C0..U+017F and U+1E00..U+1EFF by canonical decomposition, and of the barred letters; '.' keeps the character.
    private const string Latin =
        "aaaaaa.ceeeeiiiidnooooo.ouuuuy..aaaaaa.ceeeeiiiidnooooo.ouuuuy.yaaaaaaccccccccddddeeeeeeeeeegggggggghhhhiiiiiiiiii..jjkk."
        + "llllllllllnnnnnn...oooooo..rrrrrrssssssssttttttuuuuuuuuuuuuwwyyyzzzzzz.";
    private const string LatinAdditional =
        "aabbbbbbccddddddddddeeeeeeeeeeffgghhhhhhhhhhiiiikkkkkkllllllllmmmmmmnnnnnnnnoooooooopppprrrrrrrrssssssssssttttttttuuuuuuuuuuvvvv"
        + "wwwwwwwwwwxxxxyyzzzzzzhtwy......aaaaaaaaaaaaaaaaaaaaaaaa"
        + "eeeeeeeeeeeeeeeeiiiioooooooooooooooooooooooouuuuuuuuuuuuuuyyyyyyyy......";

    private static readonly HashSet<string>.AlternateLookup<ReadOnlySpan<char>> s_stopWords = new HashSet<string>(StringComparer.Ordinal)
    {
        "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it", "no", "not", "of", "on", "or",
        "such", "that", "the", "their", "then", "there", "these", "they", "this", "to", "was", "will", "with",
    }.GetAlternateLookup<ReadOnlySpan<char>>();

    // A word's characters and, at most, the two of one last code point.
    private readonly char[] _term = new char[MaxTerm + 2];
    private string _text = "";
    private int _at;
    private int _length;

    private enum Kind
    {
        Break,
        Letter,
        Digit,
        Underscore,
        Extend,
        Ideograph,
        MidLetter,
        MidNumber,
        MidBoth,
    }

    /// <summary>The term last read.</summary>
    public ReadOnlySpan<char> Term => _term.AsSpan(0, _length);

    /// <summary>Whether the term last read is one of Lucene's 33 English stop words; those are not stemmed.</summary>
    public bool IsStopWord { get; private set; }

    /// <summary>Starts to read a text.</summary>
    public void Reset(string text) => (_text, _at) = (text, 0);

    /// <summary>Reads the next term; false at the end of the text.</summary>
    public bool Next()
    {
        while (NextWord())
        {
            if (_length > 2 && _term[_length - 1] == 's' && _term[_length - 2] is '\'' or '\u2019' or '\uFF07')
                _length -= 2;
            if (_length == 0)
                continue;
            IsStopWord = s_stopWords.Contains(Term);
            if (!IsStopWord)
                _length = PorterStemmer.Stem(_term.AsSpan(0, _length));
            return true;
        }
        return false;
    }

    private bool NextWord()
    {
        _length = 0;
        bool telling = false;
        Kind last = Kind.Break;
        while (_at < _text.Length)
        {
            Kind kind = Classify(_text, _at, out Rune rune);
            switch (kind)
            {
                case Kind.Ideograph when last == Kind.Break:
                    Append(rune);
                    _at += rune.Utf16SequenceLength;
                    return true;
                case Kind.Letter or Kind.Digit or Kind.Underscore:
                    Append(rune);
                    telling |= kind != Kind.Underscore;
                    last = kind;
                    _at += rune.Utf16SequenceLength;
                    break;
                case Kind.Extend when last != Kind.Break:
                    Append(rune);
                    _at += rune.Utf16SequenceLength;
                    break;
                case Kind.MidLetter or Kind.MidNumber or Kind.MidBoth when Joins(kind, last, rune):
                    Append(rune);
                    _at += rune.Utf16SequenceLength;
                    break;
                default:
                    if (telling)
                        return true;
                    // A run of underscores alone is no word.
                    (_length, last) = (0, Kind.Break);
                    if (kind != Kind.Ideograph)
                        _at += rune.Utf16SequenceLength;
                    break;
            }
            if (_length >= MaxTerm)
                return true;
        }
        return telling;
    }

    /// <summary>Whether punctuation stands between two letters or two digits that it holds together.</summary>
    private bool Joins(Kind kind, Kind last, Rune rune)
    {
        int next = _at + rune.Utf16SequenceLength;
        if (next >= _text.Length)
            return false;
        Kind after = Classify(_text, next, out _);
        return (last == Kind.Letter && after == Kind.Letter && kind != Kind.MidNumber)
            || (last == Kind.Digit && after == Kind.Digit && kind != Kind.MidLetter);
    }

    private void Append(Rune rune)
    {
        if (rune.Value < 0x80)
        {
            char c = (char)rune.Value;
            _term[_length++] = c is >= 'A' and <= 'Z' ? (char)(c | 0x20) : c;
            return;
        }
        if (rune.Value is >= 0x300 and <= 0x36F)
            return;
        char folded = rune.Value switch
        {
            >= FirstLatin and < FirstLatin + 192 => Latin[rune.Value - FirstLatin],
            >= FirstAdditional and < FirstAdditional + 256 => LatinAdditional[rune.Value - FirstAdditional],
            _ => '.',
        };
        if (folded != '.')
            _term[_length++] = folded;
        else
            _length += Rune.ToLowerInvariant(rune).EncodeToUtf16(_term.AsSpan(_length));
    }

    private static Kind Classify(string text, int at, out Rune rune)
    {
        char c = text[at];
        if (c < 0x80)
        {
            rune = new Rune(c);
            if (char.IsAsciiLetter(c))
                return Kind.Letter;
            return c switch
            {
                >= '0' and <= '9' => Kind.Digit,
                '_' => Kind.Underscore,
                '.' or '\'' => Kind.MidBoth,
                ':' => Kind.MidLetter,
                ',' or ';' => Kind.MidNumber,
                _ => Kind.Break,
            };
        }
        if (!Rune.TryGetRuneAt(text, at, out rune))
        {
            rune = Rune.ReplacementChar;
            return Kind.Break;
        }
        return rune.Value switch
        {
            '\u00B7' or '\u0387' or '\u05F4' or '\u2027' => Kind.MidLetter,
            '\u2018' or '\u2019' or '\u2024' or '\uFF07' => Kind.MidBoth,
            // Hiragana and Han have no spaces between words: each character is a term, as in Lucene.
            >= 0x3041 and <= 0x309F or >= 0x3400 and <= 0x4DBF or >= 0x4E00 and <= 0x9FFF or >= 0xF900 and <= 0xFAFF
                or >= 0x20000 and <= 0x3FFFF => Kind.Ideograph,
            _ => Rune.GetUnicodeCategory(rune) switch
            {
                UnicodeCategory.UppercaseLetter or UnicodeCategory.LowercaseLetter or UnicodeCategory.TitlecaseLetter
                    or UnicodeCategory.ModifierLetter or UnicodeCategory.OtherLetter or UnicodeCategory.LetterNumber => Kind.Letter,
                UnicodeCategory.DecimalDigitNumber => Kind.Digit,
                UnicodeCategory.NonSpacingMark or UnicodeCategory.SpacingCombiningMark or UnicodeCategory.EnclosingMark
                    or UnicodeCategory.Format => Kind.Extend,
                UnicodeCategory.ConnectorPunctuation => Kind.Underscore,
                _ => Kind.Break,
            },
        };
    }
}
