// The pieces of Qwen2's pre-tokenizer, found by hand instead of with the runtime's regular expressions, because those see UTF-16 units
// where the reference sees characters: letters beyond U+FFFF would come out as symbols.
using System.Globalization;
using System.Text;

namespace Mem1.Model.Tokenizers;

/// <summary>Cuts text into the pieces within which byte pairs merge.</summary>
internal static class QwenSplitter
{
    /// <summary>The pattern this class computes, as tokenizer.json writes it.</summary>
    public const string Pattern =
        @"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    private enum Kind
    {
        End,
        Letter,
        Number,
        Space,
        Newline,
        Other,
    }

    /// <summary>Length in UTF-16 units of the piece that starts at <paramref name="at"/>; at least 1.</summary>
    public static int Next(ReadOnlySpan<char> text, int at)
    {
        int contraction = Contraction(text[at..]);
        if (contraction > 0)
            return contraction;
        Kind first = Classify(text, at, out int size);
        int second = at + size;
        switch (first)
        {
            case Kind.Letter:
                return Run(text, at, Kind.Letter) - at;
            case Kind.Number:
                return size;
        }
        Kind next = Classify(text, second, out _);
        // One character that is neither newline, letter nor number goes with the letters after it.
        if (first is Kind.Other or Kind.Space && next == Kind.Letter)
            return Run(text, second, Kind.Letter) - at;
        if (first == Kind.Other || (text[at] == ' ' && next == Kind.Other))
            return Newlines(text, Run(text, first == Kind.Other ? at : second, Kind.Other)) - at;
        return WhiteSpace(text, at);
    }

    /// <summary>White space up to its last newline; else all of it but the last character, which goes with what follows.</summary>
    private static int WhiteSpace(ReadOnlySpan<char> text, int at)
    {
        int end = at, newline = -1;
        while (end < text.Length && char.IsWhiteSpace(text[end]))
        {
            if (text[end] is '\r' or '\n')
                newline = end;
            end++;
        }
        if (newline >= 0)
            return newline + 1 - at;
        return end == text.Length || end - at == 1 ? end - at : end - at - 1;
    }

    private static int Contraction(ReadOnlySpan<char> text)
    {
        if (text.Length < 2 || text[0] != '\'')
            return 0;
        // Case-insensitive as Unicode folds it: the long s is an s.
        char first = Fold(text[1]);
        if (first is 's' or 't' or 'm' or 'd')
            return 2;
        if (text.Length < 3)
            return 0;
        return (first, Fold(text[2])) is ('r', 'e') or ('v', 'e') or ('l', 'l') ? 3 : 0;
    }

    private static char Fold(char c) => c switch
    {
        '\u017F' => 's',
        >= 'A' and <= 'Z' => (char)(c | 0x20),
        _ => c,
    };

    private static int Run(ReadOnlySpan<char> text, int at, Kind kind)
    {
        while (Classify(text, at, out int size) == kind)
            at += size;
        return at;
    }

    private static int Newlines(ReadOnlySpan<char> text, int at)
    {
        while (at < text.Length && text[at] is '\r' or '\n')
            at++;
        return at;
    }

    private static Kind Classify(ReadOnlySpan<char> text, int at, out int size)
    {
        size = 0;
        if (at >= text.Length)
            return Kind.End;
        size = 1;
        char c = text[at];
        if (c is '\r' or '\n')
            return Kind.Newline;
        if (char.IsWhiteSpace(c))
            return Kind.Space;
        UnicodeCategory category = Rune.DecodeFromUtf16(text[at..], out Rune rune, out size) == System.Buffers.OperationStatus.Done
            ? Rune.GetUnicodeCategory(rune) : UnicodeCategory.OtherNotAssigned;
        return category switch
        {
            <= UnicodeCategory.OtherLetter => Kind.Letter,
            UnicodeCategory.DecimalDigitNumber or UnicodeCategory.LetterNumber or UnicodeCategory.OtherNumber => Kind.Number,
            _ => Kind.Other,
        };
    }
}
