// Unicode Normalization Form C (UAX #15). The runtime leaves text as it is in invariant-globalisation mode, which this product runs in, and
// tokenizers of the Qwen family normalise before they split: so the tables come along (nfc.txt).
using System.Globalization;
using System.Text;

namespace Mem1.Model.Tokenizers;

/// <summary>Normalises text to NFC. Lone surrogates pass through.</summary>
internal static class CanonicalComposition
{
    // Hangul syllables are composed by rule (Unicode Standard, section 3.12).
    private const int SyllableBase = 0xAC00, LeadBase = 0x1100, VowelBase = 0x1161, TailBase = 0x11A7;
    private const int Leads = 19, Vowels = 21, Tails = 28;
    private const int Syllables = Leads * Vowels * Tails;

    /// <summary>Below the first combining mark nothing decomposes into something NFC would change.</summary>
    private const char FirstThatMatters = '\u0300';

    private static readonly Lazy<Tables> Data = new(Load);

    public static string Normalize(string text)
    {
        if (text.AsSpan().IndexOfAnyInRange(FirstThatMatters, '\uFFFF') < 0)
            return text;
        Tables tables = Data.Value;
        var points = new List<int>(text.Length + 8);
        for (int i = 0; i < text.Length; i++)
        {
            int point = text[i];
            if (char.IsHighSurrogate(text[i]) && i + 1 < text.Length && char.IsLowSurrogate(text[i + 1]))
                point = char.ConvertToUtf32(text[i], text[++i]);
            Decompose(point, tables, points);
        }
        Order(points, tables);
        Compose(points, tables);
        var result = new StringBuilder(text.Length);
        foreach (int point in points)
        {
            if (point < 0x10000)
                result.Append((char)point);
            else
                result.Append(char.ConvertFromUtf32(point));
        }
        return result.ToString();
    }

    private static void Decompose(int point, Tables tables, List<int> target)
    {
        if ((uint)(point - SyllableBase) < Syllables)
        {
            int index = point - SyllableBase;
            target.Add(LeadBase + index / (Vowels * Tails));
            target.Add(VowelBase + index % (Vowels * Tails) / Tails);
            if (index % Tails != 0)
                target.Add(TailBase + index % Tails);
        }
        else if (tables.Parts.TryGetValue(point, out (int First, int Second) parts))
        {
            Decompose(parts.First, tables, target);
            // Second parts never decompose further.
            if (parts.Second != 0)
                target.Add(parts.Second);
        }
        else
        {
            target.Add(point);
        }
    }

    /// <summary>Sorts each run of combining marks by class, stably.</summary>
    private static void Order(List<int> points, Tables tables)
    {
        for (int start = 0; start < points.Count;)
        {
            int end = start;
            while (end < points.Count && tables.Class(points[end]) != 0)
                end++;
            if (end - start > 1)
            {
                int[] run = [.. points.GetRange(start, end - start).OrderBy(tables.Class)];
                for (int i = 0; i < run.Length; i++)
                    points[start + i] = run[i];
            }
            start = end + 1;
        }
    }

    private static void Compose(List<int> points, Tables tables)
    {
        int starter = -1, kept = 0, lastClass = 0;
        for (int i = 0; i < points.Count; i++)
        {
            int point = points[i], own = tables.Class(point);
            bool adjacent = starter == kept - 1;
            // A mark is blocked from the starter by one of the same or a higher class between them.
            if (starter >= 0 && (adjacent || (lastClass < own && lastClass != 0)) && Pair(points[starter], point, tables) is int composed)
            {
                points[starter] = composed;
                continue;
            }
            points[kept] = point;
            if (own == 0)
                starter = kept;
            lastClass = own;
            kept++;
        }
        points.RemoveRange(kept, points.Count - kept);
    }

    private static int? Pair(int first, int second, Tables tables)
    {
        if ((uint)(first - LeadBase) < Leads && (uint)(second - VowelBase) < Vowels)
            return SyllableBase + ((first - LeadBase) * Vowels + (second - VowelBase)) * Tails;
        bool open = (uint)(first - SyllableBase) < Syllables && (first - SyllableBase) % Tails == 0;
        if (open && second > TailBase && second < TailBase + Tails)
            return first + (second - TailBase);
        return tables.Composed.TryGetValue((first, second), out int composed) ? composed : null;
    }

    private static Tables Load()
    {
        using Stream stream = typeof(CanonicalComposition).Assembly.GetManifestResourceStream("nfc.txt")
            ?? throw new InvalidOperationException("the resource nfc.txt is missing from the assembly.");
        using var reader = new StreamReader(stream, Encoding.ASCII);
        var tables = new Tables();
        static int Hex(ReadOnlySpan<char> text) => int.Parse(text, NumberStyles.HexNumber, CultureInfo.InvariantCulture);
        while (reader.ReadLine() is { } line)
        {
            if (line.StartsWith('#'))
                continue;
            foreach (string item in line.Split(' ', StringSplitOptions.RemoveEmptyEntries))
            {
                if (item.Contains(':'))
                {
                    string[] fields = item.Split('-', ':');
                    for (int point = Hex(fields[0]); point <= Hex(fields[1]); point++)
                        tables.Classes[point] = byte.Parse(fields[2], CultureInfo.InvariantCulture);
                    continue;
                }
                string[] sides = item.TrimStart('!').Split('=', '+');
                int code = Hex(sides[0]), first = Hex(sides[1]), second = sides.Length > 2 ? Hex(sides[2]) : 0;
                tables.Parts[code] = (first, second);
                if (item[0] != '!')
                    tables.Composed[(first, second)] = code;
            }
        }
        return tables;
    }

    private sealed class Tables
    {
        public Dictionary<int, (int First, int Second)> Parts { get; } = [];
        public Dictionary<(int First, int Second), int> Composed { get; } = [];
        public Dictionary<int, byte> Classes { get; } = [];

        public int Class(int point) => Classes.GetValueOrDefault(point);
    }
}
