// Invariants: every function gives, code point for code point, what CPython 3 gives for the same value; nothing depends on the culture.

using System.Globalization;
using System.Text;

namespace Mem1.Environments.WebShop;

/// <summary>
/// Python's own text forms of numbers, strings and dictionaries. The original WebShop builds page text, addresses and even option
/// comparisons from them, so they are part of its protocol.
/// </summary>
internal static class PythonText
{
    // CPython prints a float in positional notation when its decimal exponent lies in [-4, 16).
    private const int LeastPositionalExponent = -4;
    private const int FirstScientificExponent = 16;

    /// <summary>repr(float): the shortest digits that read back as the same number, always with a point or an exponent.</summary>
    public static string Float(double value)
    {
        if (!double.IsFinite(value))
            return double.IsNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";
        string sign = double.IsNegative(value) ? "-" : "";
        if (value == 0)
            return sign + "0.0";
        // .NET's shortest form has the right digits; only where the point goes differs.
        string shortest = Math.Abs(value).ToString("R", CultureInfo.InvariantCulture);
        int mark = shortest.IndexOf('E', StringComparison.Ordinal);
        int power = mark < 0 ? 0 : int.Parse(shortest.AsSpan(mark + 1), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture);
        string mantissa = mark < 0 ? shortest : shortest[..mark];
        int point = mantissa.IndexOf('.', StringComparison.Ordinal);
        string whole = point < 0 ? mantissa : mantissa[..point];
        string all = whole + (point < 0 ? "" : mantissa[(point + 1)..]);
        int leading = all.Length - all.TrimStart('0').Length;
        string digits = all.Trim('0');
        int exponent = whole.Length - 1 - leading + power;

        if (exponent is < LeastPositionalExponent or >= FirstScientificExponent)
        {
            string tail = digits.Length > 1 ? "." + digits[1..] : "";
            string size = Math.Abs(exponent).ToString("00", CultureInfo.InvariantCulture);
            return $"{sign}{digits[0]}{tail}e{(exponent < 0 ? '-' : '+')}{size}";
        }
        if (exponent < 0)
            return sign + "0." + new string('0', -exponent - 1) + digits;
        return digits.Length <= exponent + 1
            ? sign + digits.PadRight(exponent + 1, '0') + ".0"
            : sign + digits[..(exponent + 1)] + "." + digits[(exponent + 1)..];
    }

    /// <summary>repr(str).</summary>
    public static string Quote(string text)
    {
        char quote = text.Contains('\'', StringComparison.Ordinal) && !text.Contains('"', StringComparison.Ordinal) ? '"' : '\'';
        var result = new StringBuilder(text.Length + 2).Append(quote);
        foreach (Rune rune in text.EnumerateRunes())
        {
            _ = rune.Value switch
            {
                '\\' => result.Append(@"\\"),
                '\n' => result.Append(@"\n"),
                '\r' => result.Append(@"\r"),
                '\t' => result.Append(@"\t"),
                int c when c == quote => result.Append('\\').Append(quote),
                int c when IsPrintable(rune) => result.Append(rune.ToString()),
                int c when c < 0x100 => result.Append(CultureInfo.InvariantCulture, $"\\x{c:x2}"),
                int c when c < 0x10000 => result.Append(CultureInfo.InvariantCulture, $"\\u{c:x4}"),
                int c => result.Append(CultureInfo.InvariantCulture, $"\\U{c:x8}"),
            };
        }
        return result.Append(quote).ToString();
    }

    /// <summary>repr of a pair of strings.</summary>
    public static string Pair(string first, string second) => $"({Quote(first)}, {Quote(second)})";

    /// <summary>repr of a list of strings.</summary>
    public static string List(IEnumerable<string> items) => $"[{string.Join(", ", items.Select(Quote))}]";

    /// <summary>repr of a dictionary of strings.</summary>
    public static string Dictionary(IEnumerable<KeyValuePair<string, string>> items) =>
        $"{{{string.Join(", ", items.Select(i => $"{Quote(i.Key)}: {Quote(i.Value)}"))}}}";

    /// <summary>json.dumps of a dictionary of strings, in the order given; everything beyond ASCII is escaped.</summary>
    /// <param name="items">Names and values.</param>
    /// <param name="forHtml">Whether to escape also what HTML gives a meaning, as template engines do.</param>
    public static string JsonObject(IEnumerable<KeyValuePair<string, string>> items, bool forHtml = false)
    {
        var result = new StringBuilder("{");
        foreach ((string key, string value) in items)
        {
            if (result.Length > 1)
                result.Append(", ");
            AppendJson(result, key, forHtml);
            result.Append(": ");
            AppendJson(result, value, forHtml);
        }
        return result.Append('}').ToString();
    }

    /// <summary>str.strip(): Python also counts U+001C to U+001F as white space.</summary>
    public static string Strip(string text)
    {
        int start = 0, end = text.Length;
        while (start < end && IsSpace(text[start]))
            start++;
        while (end > start && IsSpace(text[end - 1]))
            end--;
        return text[start..end];
    }

    /// <summary>str.isspace() of one character.</summary>
    public static bool IsSpace(char c) => char.IsWhiteSpace(c) || c is >= '\x1c' and <= '\x1f';

    /// <summary>str.lower(), with the two characters .NET's invariant mapping treats otherwise: dotted capital I and final sigma.</summary>
    public static string Lower(string text)
    {
        string lower = text.ToLowerInvariant();
        if (!text.Contains('\u0130', StringComparison.Ordinal) && !text.Contains('\u03a3', StringComparison.Ordinal))
            return lower;
        var result = new StringBuilder(text.Length + 1);
        for (int i = 0; i < text.Length; i++)
        {
            _ = text[i] switch
            {
                '\u0130' => result.Append("i\u0307"),
                '\u03a3' when IsFinal(text, i) => result.Append('\u03c2'),
                _ => result.Append(lower[i]),
            };
        }
        return result.ToString();
    }

    /// <summary>Orders by code point, as Python sorts strings (UTF-16 order differs for characters beyond the basic plane).</summary>
    public static int CompareCodePoints(string x, string y)
    {
        int at = 0, least = Math.Min(x.Length, y.Length);
        while (at < least && x[at] == y[at])
            at++;
        if (at == least)
            return x.Length.CompareTo(y.Length);
        bool xs = char.IsSurrogate(x[at]), ys = char.IsSurrogate(y[at]);
        return xs == ys ? x[at].CompareTo(y[at]) : xs ? 1 : -1;
    }

    /// <summary>Orders by code point.</summary>
    public static IComparer<string> CodePoints { get; } = Comparer<string>.Create(CompareCodePoints);

    private static bool IsFinal(string text, int at)
    {
        int before = at - 1, after = at + 1;
        while (before >= 0 && IsIgnorable(text[before]))
            before--;
        while (after < text.Length && IsIgnorable(text[after]))
            after++;
        return before >= 0 && IsCased(text[before]) && !(after < text.Length && IsCased(text[after]));

        static bool IsCased(char c) => char.IsUpper(c) || char.IsLower(c) || char.GetUnicodeCategory(c) == UnicodeCategory.TitlecaseLetter;
        static bool IsIgnorable(char c) => c is '\'' or '.' or ':' or '\u00b7' or '\u2019' || char.GetUnicodeCategory(c) is
            UnicodeCategory.NonSpacingMark or UnicodeCategory.EnclosingMark or UnicodeCategory.Format;
    }

    private static bool IsPrintable(Rune rune) => rune.Value == ' ' || Rune.GetUnicodeCategory(rune) is not (
        UnicodeCategory.Control or UnicodeCategory.Format or UnicodeCategory.Surrogate or UnicodeCategory.PrivateUse or
        UnicodeCategory.OtherNotAssigned or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator or
        UnicodeCategory.SpaceSeparator);

    private static void AppendJson(StringBuilder result, string text, bool forHtml)
    {
        result.Append('"');
        foreach (char c in text)
        {
            _ = c switch
            {
                '"' => result.Append("\\\""),
                '\\' => result.Append(@"\\"),
                '\n' => result.Append(@"\n"),
                '\r' => result.Append(@"\r"),
                '\t' => result.Append(@"\t"),
                '\b' => result.Append(@"\b"),
                '\f' => result.Append(@"\f"),
                < ' ' or > '~' => result.Append(CultureInfo.InvariantCulture, $"\\u{(int)c:x4}"),
                '<' or '>' or '&' or '\'' when forHtml => result.Append(CultureInfo.InvariantCulture, $"\\u{(int)c:x4}"),
                _ => result.Append(c),
            };
        }
        result.Append('"');
    }
}
