// Invariants: no shape of JSON makes these throw anything but InvalidOperationException (a string that is no Unicode); a missing or odd
// field reads as empty.

using System.Net;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace Mem1.Environments.Web;

/// <summary>Reads the fields of search replies, whatever they hold.</summary>
internal static partial class SearchReply
{
    // Titles and snippets of all four services are shorter; this bounds what a broken one can put into an observation.
    private const int MaxTitle = 300;
    private const int MaxSnippet = 2000;
    private const int MaxAddress = 2048;

    /// <summary>The objects under the first of these names that has any: one object, or those of an array.</summary>
    public static IEnumerable<JsonElement> Objects(this JsonElement element, params string[] names)
    {
        foreach (string name in names)
        {
            if (Field(element, name) is not { } field)
                continue;
            if (field.ValueKind == JsonValueKind.Object)
                return [field];
            if (field.ValueKind == JsonValueKind.Array)
                return field.EnumerateArray().Where(e => e.ValueKind == JsonValueKind.Object);
        }
        return [];
    }

    /// <summary>The strings of an array, plain.</summary>
    public static IEnumerable<string> Strings(this JsonElement element, string name) =>
        Field(element, name) is { ValueKind: JsonValueKind.Array } list
            ? list.EnumerateArray().Where(e => e.ValueKind == JsonValueKind.String).Select(e => Plain(e.GetString()!, MaxSnippet))
            : [];

    /// <summary>A field as text: strings, numbers, and arrays of them joined by "; "; empty for anything else.</summary>
    public static string Text(this JsonElement element, string name) => Field(element, name) is { } field ? Scalar(field) : "";

    /// <summary>A result from the first non-empty field of each list of names.</summary>
    public static WebResult Result(this JsonElement element, string[] title, string[] snippet, string[] url) => new(
        Plain(First(element, title), MaxTitle), Plain(First(element, snippet), MaxSnippet), Address(First(element, url)));

    /// <summary>An absolute http or https address in its canonical form; empty when the text is none.</summary>
    public static string Address(string text) =>
        text.Length is > 0 and <= MaxAddress && Uri.TryCreate(text.Trim(), UriKind.Absolute, out Uri? uri)
        && uri.Scheme is "http" or "https" && uri.Host.Length > 0
            ? uri.AbsoluteUri : "";

    /// <summary>Text without markup and character references, on one line.</summary>
    public static string Plain(string text, int max)
    {
        // Bounded first: a hostile text is not worth reading to its end. Markup makes texts longer, hence the factor.
        string bounded = text.Length > 4 * max ? text[..(4 * max)] : text;
        return OneLine(WebUtility.HtmlDecode(Markup().Replace(bounded, "")), max);
    }

    /// <summary>White space and control characters become single spaces, unpaired surrogates U+FFFD; cut at a character's end.</summary>
    public static string OneLine(string text, int max)
    {
        var line = new StringBuilder(Math.Min(text.Length, max));
        bool gap = false;
        foreach (Rune rune in text.EnumerateRunes())
        {
            if (Rune.IsWhiteSpace(rune) || Rune.IsControl(rune))
            {
                gap = line.Length > 0;
                continue;
            }
            if (line.Length + (gap ? 1 : 0) + rune.Utf16SequenceLength > max)
                break;
            if (gap)
                line.Append(' ');
            gap = false;
            line.Append(rune);
        }
        return line.ToString();
    }

    private static JsonElement? Field(JsonElement element, string name) =>
        element.ValueKind == JsonValueKind.Object && element.TryGetProperty(name, out JsonElement field) ? field : null;

    private static string First(JsonElement element, string[] names)
    {
        foreach (string name in names)
        {
            if (element.Text(name) is { Length: > 0 } text)
                return text;
        }
        return "";
    }

    private static string Scalar(JsonElement field) => field.ValueKind switch
    {
        JsonValueKind.String => field.GetString()!,
        JsonValueKind.Number => field.GetRawText(),
        JsonValueKind.Array => string.Join(
            "; ", field.EnumerateArray().Where(e => e.ValueKind is JsonValueKind.String or JsonValueKind.Number).Select(Scalar)),
        _ => "",
    };

    // The emphasis that search services put into titles and snippets; any other '<' is text.
    [GeneratedRegex("</?(b|i|em|strong|mark|span|br|wbr|p)( [^<>]{0,200})?/?>", RegexOptions.IgnoreCase | RegexOptions.CultureInvariant)]
    private static partial Regex Markup();
}
