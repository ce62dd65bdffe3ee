// Keeps: a function of its texts alone; ties go to the newer turn.
namespace Mem1.Cli.Evaluation;

/// <summary>
/// BM25 over an episode's own turns, a few dozen texts at most: no index is worth keeping. Terms are runs of letters, digits and
/// underscores in lower case; the turns are the collection that document frequencies count in.
/// </summary>
internal static class TurnMemory
{
    // The values of Anserini and of this project's corpus search.
    private const double K1 = 0.9, B = 0.4;

    /// <summary>The best texts for a query, best first; those that share no term with it are never among them.</summary>
    /// <param name="texts">In time order.</param>
    /// <param name="query">Any text.</param>
    /// <param name="k">Most to return.</param>
    public static int[] Best(IReadOnlyList<string> texts, string query, int k)
    {
        var scores = Scores(texts, query);
        return [.. Enumerable.Range(0, texts.Count).Where(i => scores[i] > 0).OrderByDescending(i => scores[i]).ThenByDescending(i => i).Take(k)];
    }

    /// <summary>The score of each text: the sum over the query's distinct terms of idf times saturated frequency.</summary>
    internal static double[] Scores(IReadOnlyList<string> texts, string query)
    {
        Dictionary<string, int>[] counts = [.. texts.Select(
            t => Terms(t).GroupBy(w => w).ToDictionary(g => g.Key, g => g.Count(), StringComparer.Ordinal))];
        var lengths = counts.Select(c => (double)c.Values.Sum()).ToArray();
        var mean = lengths.Length == 0 ? 0 : lengths.Average();
        var scores = new double[texts.Count];
        foreach (var term in Terms(query).Distinct())
        {
            var holders = counts.Count(c => c.ContainsKey(term));
            if (holders == 0) continue;
            var idf = Math.Log(1 + ((texts.Count - holders + 0.5) / (holders + 0.5)));
            for (var i = 0; i < scores.Length; i++)
            {
                if (counts[i].TryGetValue(term, out var n))
                    scores[i] += idf * n / (n + (K1 * (1 - B + (B * lengths[i] / mean))));
            }
        }

        return scores;
    }

    private static IEnumerable<string> Terms(string text)
    {
        var start = -1;
        for (var i = 0; i <= text.Length; i++)
        {
            var inside = i < text.Length && (char.IsLetterOrDigit(text[i]) || text[i] == '_');
            if (inside && start < 0) start = i;
            if (inside || start < 0) continue;
            yield return text[start..i].ToLowerInvariant();
            start = -1;
        }
    }
}
