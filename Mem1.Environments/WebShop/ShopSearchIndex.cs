// Invariants: hits are ordered by score, then by identifier; scores are the original's 32-bit floats. Immutable, so that any number of
// episodes share one index.

using System.Numerics;
using System.Runtime.InteropServices;

namespace Mem1.Environments.WebShop;

/// <summary>
/// Ranks products by BM25 (Robertson and Zaragoza 2009) as the original's engine computes it: k1 = 0.9, b = 0.4, no (k1 + 1) factor,
/// document lengths rounded to one byte. Thread-safe.
/// </summary>
internal sealed class ShopSearchIndex
{
    private const float K1 = 0.9f;
    private const float B = 0.4f;

    // Below this, a length is kept exactly; above, the excess over FirstRounded is cut to its four leading bits.
    private const int ExactLengths = 40;
    private const int FirstRounded = 24;
    private const int KeptBits = 4;

    private readonly Dictionary<string, Posting[]> _postings = new(StringComparer.Ordinal);
    private readonly float[] _norms;
    private readonly int[] _rank;

    /// <summary>Indexes texts.</summary>
    /// <param name="documents">Identifier and text of each document; identifiers decide ties.</param>
    public ShopSearchIndex(IReadOnlyList<(string Id, string Text)> documents)
    {
        var postings = new Dictionary<string, List<Posting>>(StringComparer.Ordinal);
        var lengths = new int[documents.Count];
        var counts = new Dictionary<string, int>(StringComparer.Ordinal);
        for (int d = 0; d < documents.Count; d++)
        {
            counts.Clear();
            foreach (string term in ShopAnalyzer.Terms(documents[d].Text))
            {
                CollectionsMarshal.GetValueRefOrAddDefault(counts, term, out _)++;
                lengths[d]++;
            }
            Total += lengths[d];
            foreach ((string term, int count) in counts)
            {
                if (!postings.TryGetValue(term, out List<Posting>? list))
                    postings[term] = list = [];
                list.Add(new Posting(d, count));
            }
        }
        Count = documents.Count;
        foreach ((string term, List<Posting> list) in postings)
            _postings[term] = [.. list];

        float average = (float)(Total / (double)Math.Max(1, Count));
        _norms = [.. lengths.Select(length => 1f / (K1 * ((1 - B) + (B * Quantise(length) / average))))];
        int[] order = [.. Enumerable.Range(0, Count)];
        Array.Sort(order, (x, y) => PythonText.CompareCodePoints(documents[x].Id, documents[y].Id));
        _rank = new int[Count];
        for (int i = 0; i < order.Length; i++)
            _rank[order[i]] = i;
    }

    /// <summary>Number of documents.</summary>
    public int Count { get; }

    /// <summary>Number of terms in all documents.</summary>
    public long Total { get; }

    /// <summary>The length that stands for a length in the score.</summary>
    public static int Quantise(int length)
    {
        if (length < ExactLengths)
            return length;
        int excess = length - FirstRounded;
        int dropped = Math.Max(0, 32 - BitOperations.LeadingZeroCount((uint)excess) - KeptBits);
        return FirstRounded + (excess >> dropped << dropped);
    }

    /// <summary>The best documents for a query: their positions and scores, best first.</summary>
    public List<(int Document, float Score)> Search(string query, int most)
    {
        var weights = new Dictionary<string, int>(StringComparer.Ordinal);
        foreach (string term in ShopAnalyzer.Terms(query))
            CollectionsMarshal.GetValueRefOrAddDefault(weights, term, out _)++;

        var scores = new Dictionary<int, double>();
        foreach ((string term, int count) in weights)
        {
            if (!_postings.TryGetValue(term, out Posting[]? list))
                continue;
            float idf = (float)Math.Log(1 + ((Count - list.Length + 0.5) / (list.Length + 0.5)));
            float weight = count * idf;
            foreach (Posting posting in list)
            {
                float clause = weight - (weight / (1f + (posting.Frequency * _norms[posting.Document])));
                CollectionsMarshal.GetValueRefOrAddDefault(scores, posting.Document, out _) += clause;
            }
        }

        var hits = new List<(int Document, float Score)>(scores.Count);
        foreach ((int document, double score) in scores)
            hits.Add((document, (float)score));
        hits.Sort((x, y) => x.Score == y.Score ? _rank[x.Document].CompareTo(_rank[y.Document]) : y.Score.CompareTo(x.Score));
        return hits.Count > most ? hits[..most] : hits;
    }

    private readonly record struct Posting(int Document, int Frequency);
}
