using System.Text.RegularExpressions;
using Mem1.Environments.Common;
using Mem1.Environments.Retrieval;

namespace Mem1.Environments.Tests.Retrieval;

/// <summary>
/// BM25 as the baselines have it (k1 = 0.9, b = 0.4, Lucene's formula and its lengths), over every passage, in double precision and with a
/// tokenizer of its own. It shares only the stemmer with the index. Accents are kept unless asked otherwise.
/// </summary>
internal sealed partial class ReferenceBm25
{
    private const string StopWords =
        "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this to was will with";

    private static readonly HashSet<string> s_stopWords = [.. StopWords.Split(' ')];

    private readonly List<(Dictionary<string, int> Counts, int Length)> _passages = [];
    private readonly Dictionary<string, int> _holding = [];
    private readonly double _average;

    public ReferenceBm25(IEnumerable<string> passages)
    {
        foreach (string passage in passages)
        {
            List<string> terms = Terms(passage);
            _passages.Add((terms.CountBy(t => t).ToDictionary(), terms.Count));
            foreach (string term in terms.Distinct())
                _holding[term] = _holding.GetValueOrDefault(term) + 1;
        }
        _average = _passages.Average(p => (double)p.Length);
    }

    public static List<string> Terms(string text) =>
    [
        .. Word().Matches(text.ToLowerInvariant()).Select(m => Possessive().Replace(m.Value, ""))
            .Where(w => w.Length > 0 && !s_stopWords.Contains(w)).Select(Stem),
    ];

    /// <summary>Passages with a score above 0, best first, ties in order.</summary>
    public List<(int Passage, double Score)> Search(string query, int k)
    {
        var terms = Terms(query).CountBy(t => t).ToList();
        List<(int Passage, double Score)> hits = [];
        for (int i = 0; i < _passages.Count; i++)
        {
            double score = 0;
            foreach ((string term, int count) in terms)
            {
                if (!_passages[i].Counts.TryGetValue(term, out int frequency))
                    continue;
                int holding = _holding[term];
                double idf = Math.Log(1 + ((_passages.Count - holding + 0.5) / (holding + 0.5)));
                score += count * idf * frequency / (frequency + (0.9 * (0.6 + (0.4 * Rounded(_passages[i].Length) / _average))));
            }
            if (score > 0)
                hits.Add((i, score));
        }
        return [.. hits.OrderByDescending(h => h.Score).ThenBy(h => h.Passage).Take(k)];
    }

    /// <summary>A length as Lucene keeps it: exact below 40, then 24 + the rest cut to four significant bits.</summary>
    public static int Rounded(int length)
    {
        if (length < 40)
            return length;
        int rest = length - 24, bits = 0;
        while (rest >> bits >= 16)
            bits++;
        return 24 + (rest >> bits << bits);
    }

    private static string Stem(string word)
    {
        char[] letters = word.ToCharArray();
        return new string(letters, 0, PorterStemmer.Stem(letters));
    }

    // Letters and digits; a point or an apostrophe between letters or between digits, a comma between digits.
    [GeneratedRegex(@"[\p{L}\p{M}\p{Nd}_]+(?:(?<=\p{L}\p{M}*)['’.:](?=\p{L})[\p{L}\p{M}\p{Nd}_]+|(?<=\p{Nd})['’.,;](?=\p{Nd})[\p{L}\p{M}\p{Nd}_]+)*")]
    private static partial Regex Word();

    [GeneratedRegex("['’]s$")]
    private static partial Regex Possessive();
}
