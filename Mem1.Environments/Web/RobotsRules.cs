// Invariants: the longest matching rule decides and Allow wins a tie (RFC 9309); a pattern of wildcards costs at most its length times
// the path's.

using System.Text;

namespace Mem1.Environments.Web;

/// <summary>What a site's robots.txt says to one crawler.</summary>
internal sealed class RobotsRules
{
    /// <summary>Everything is allowed: there is no robots.txt.</summary>
    public static RobotsRules AllowAll { get; } = new([]);

    /// <summary>Nothing is allowed: the site could not say.</summary>
    public static RobotsRules DisallowAll { get; } = new([(false, "/")]);

    // Real files have some hundreds of rules for one crawler; each costs at most MaxPattern times the path's length.
    private const int MaxRules = 5000;
    private const int MaxPattern = 1024;

    private readonly IReadOnlyList<(bool Allow, string Pattern)> _rules;

    private RobotsRules(IReadOnlyList<(bool Allow, string Pattern)> rules) => _rules = rules;

    /// <summary>Reads a robots.txt.</summary>
    /// <param name="text">The file, any text.</param>
    /// <param name="product">The crawler's product token.</param>
    public static RobotsRules Parse(string text, string product)
    {
        var own = new List<(bool, string)>();
        var others = new List<(bool, string)>();
        bool named = false, forOwn = false, forOthers = false, inAgents = false;
        foreach (ReadOnlySpan<char> whole in text.AsSpan().EnumerateLines())
        {
            ReadOnlySpan<char> line = whole.IndexOf('#') is >= 0 and var comment ? whole[..comment] : whole;
            int colon = line.IndexOf(':');
            if (colon < 0)
                continue;
            ReadOnlySpan<char> field = line[..colon].Trim().TrimStart('\uFEFF');
            ReadOnlySpan<char> value = line[(colon + 1)..].Trim();
            if (field.Equals("user-agent", StringComparison.OrdinalIgnoreCase))
            {
                if (!inAgents)
                    forOwn = forOthers = false;
                inAgents = true;
                forOthers |= value is "*";
                if (Product(value).Equals(product, StringComparison.OrdinalIgnoreCase))
                    named = forOwn = true;
                continue;
            }
            bool allow = field.Equals("allow", StringComparison.OrdinalIgnoreCase);
            if (!allow && !field.Equals("disallow", StringComparison.OrdinalIgnoreCase))
                continue;
            inAgents = false;
            // An empty rule matches nothing: "Disallow:" forbids nothing.
            if (value.Length is 0 or > MaxPattern)
                continue;
            string pattern = Canonical(value.ToString());
            if (forOwn && own.Count < MaxRules)
                own.Add((allow, pattern));
            if (forOthers && others.Count < MaxRules)
                others.Add((allow, pattern));
        }
        return new RobotsRules(named ? own : others);
    }

    /// <summary>Whether a page may be read.</summary>
    /// <param name="pathAndQuery">As in the address, beginning with a slash.</param>
    public bool Allows(string pathAndQuery)
    {
        string path = Canonical(pathAndQuery);
        (bool Allow, int Length) best = (true, -1);
        foreach ((bool allow, string pattern) in _rules)
        {
            if (pattern.Length > best.Length || (pattern.Length == best.Length && allow && !best.Allow))
            {
                if (Matches(pattern, path))
                    best = (allow, pattern.Length);
            }
        }
        return best.Allow;
    }

    /// <summary>Matches from the beginning; * stands for any characters, a $ at the end for the end.</summary>
    private static bool Matches(string pattern, string path)
    {
        bool toEnd = pattern.EndsWith('$');
        string[] parts = (toEnd ? pattern[..^1] : pattern).Split('*');
        if (!path.StartsWith(parts[0], StringComparison.Ordinal))
            return false;
        int at = parts[0].Length;
        for (int i = 1; i < parts.Length; i++)
        {
            bool last = i == parts.Length - 1;
            if (toEnd && last)
                return path.Length - at >= parts[i].Length && path.EndsWith(parts[i], StringComparison.Ordinal);
            int found = path.IndexOf(parts[i], at, StringComparison.Ordinal);
            if (found < 0)
                return false;
            at = found + parts[i].Length;
        }
        return !toEnd || at == path.Length;
    }

    private static ReadOnlySpan<char> Product(ReadOnlySpan<char> agent)
    {
        int end = agent.IndexOfAny('/', ' ');
        return end < 0 ? agent : agent[..end];
    }

    /// <summary>Percent-encodes what is not ASCII and writes encodings in upper case, so that both sides compare as octets.</summary>
    private static string Canonical(string path)
    {
        var text = new StringBuilder(path.Length);
        Span<byte> octets = stackalloc byte[4];
        for (int i = 0; i < path.Length; i++)
        {
            char c = path[i];
            if (c == '%' && i + 2 < path.Length && char.IsAsciiHexDigit(path[i + 1]) && char.IsAsciiHexDigit(path[i + 2]))
            {
                text.Append('%').Append(char.ToUpperInvariant(path[i + 1])).Append(char.ToUpperInvariant(path[i + 2]));
                i += 2;
            }
            else if (c < 0x80)
            {
                text.Append(c);
            }
            else
            {
                _ = Rune.DecodeFromUtf16(path.AsSpan(i), out Rune rune, out int used);
                foreach (byte octet in octets[..rune.EncodeToUtf8(octets)])
                    text.Append($"%{octet:X2}");
                i += used - 1;
            }
        }
        return text.ToString();
    }
}
