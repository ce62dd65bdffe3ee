// Invariants: any bytes and any label give a text; bytes that are no characters become U+FFFD.

using System.Text;
using System.Text.RegularExpressions;

namespace Mem1.Environments.Web;

/// <summary>The character encoding of a page: byte order mark, then Content-Type, then the page's own word, then UTF-8.</summary>
internal static partial class TextEncoding
{
    // Where the HTML standard has browsers look for a declaration.
    private const int DeclarationBytes = 1024;

    /// <summary>The text of a body.</summary>
    /// <param name="bytes">The body.</param>
    /// <param name="label">Charset of the Content-Type header, or null.</param>
    /// <param name="html">Whether a declaration within the text counts.</param>
    public static string Decode(ReadOnlySpan<byte> bytes, string? label, bool html)
    {
        (Encoding? encoding, int skip) = bytes switch
        {
            [0xEF, 0xBB, 0xBF, ..] => (Encoding.UTF8, 3),
            [0xFE, 0xFF, ..] => (Encoding.BigEndianUnicode, 2),
            [0xFF, 0xFE, ..] => (Encoding.Unicode, 2),
            _ => ((Encoding?)null, 0),
        };
        encoding ??= Named(label);
        if (encoding is null && html)
        {
            string start = Encoding.Latin1.GetString(bytes[..Math.Min(bytes.Length, DeclarationBytes)]);
            encoding = Declaration().Match(start) is { Success: true } match ? Named(match.Groups[1].Value) : null;
        }
        return (encoding ?? Encoding.UTF8).GetString(bytes[skip..]);
    }

    private static Encoding? Named(string? label)
    {
        string name = label?.Trim(' ', '"', '\'').ToLowerInvariant() ?? "";
        if (name.Length == 0)
            return null;
        // The web means Windows-1252 when it says Latin-1 or ASCII; UTF-7 is refused as a way to smuggle markup.
        if (name is "iso-8859-1" or "latin1" or "us-ascii" or "ascii")
            name = "windows-1252";
        if (name is "utf-7")
            return null;
        try
        {
            return CodePagesEncodingProvider.Instance.GetEncoding(name) ?? Encoding.GetEncoding(name);
        }
        catch (Exception e) when (e is ArgumentException or NotSupportedException)
        {
            return null;
        }
    }

    [GeneratedRegex(
        """<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]{1,40})""", RegexOptions.IgnoreCase | RegexOptions.CultureInvariant)]
    private static partial Regex Declaration();
}
