// Invariant: the vocabulary is a function of the multiset of texts and the arguments: counts decide, then the lower ids. Learns merges as
// in Sennrich, Haddow, Birch 2016 (arXiv 1508.07909), over bytes, within the pieces of QwenSplitter.
using System.Text;

namespace Mem1.Model.Tokenizers;

/// <summary>Learns a byte-level BPE vocabulary from texts.</summary>
public static class BpeTrainer
{
    /// <summary>A pair seen once is no regularity.</summary>
    private const int LeastCount = 2;

    /// <summary>Trains a tokenizer. Ids: 256 bytes, then merges, then the special tokens.</summary>
    /// <param name="texts">The corpus.</param>
    /// <param name="vocabularySize">Size to reach; smaller when the corpus has too few repeated pairs.</param>
    /// <param name="specialTokens">Texts that are one token each and never merge with their surroundings.</param>
    /// <param name="endOfText">Which of them ends a text, if any.</param>
    /// <exception cref="ArgumentException">The size does not hold bytes and special tokens, or the special tokens are wrong.</exception>
    public static ByteLevelBpeTokenizer Train(
        IEnumerable<string> texts, int vocabularySize, IReadOnlyList<string> specialTokens, string? endOfText = null)
    {
        ArgumentNullException.ThrowIfNull(texts);
        ArgumentNullException.ThrowIfNull(specialTokens);
        int room = vocabularySize - 256 - specialTokens.Count;
        if (room < 0)
        {
            throw new ArgumentException(
                $"a vocabulary of {vocabularySize} does not hold 256 bytes and {specialTokens.Count} special tokens.",
                nameof(vocabularySize));
        }
        if (specialTokens.Any(string.IsNullOrEmpty) || specialTokens.Distinct(StringComparer.Ordinal).Count() != specialTokens.Count)
            throw new ArgumentException("special tokens must be distinct and not empty.", nameof(specialTokens));
        if (endOfText is not null && !specialTokens.Contains(endOfText))
            throw new ArgumentException($"the end-of-text token \"{endOfText}\" is not among the special tokens.", nameof(endOfText));

        // Ids do not matter yet: this one only cuts.
        var cutter = new AddedTokens(specialTokens.Select((text, i) => new AddedToken(i, text, true)));
        List<Word> words = Count(texts, cutter);
        var table = new List<byte[]>(Enumerable.Range(0, 256).Select(b => new[] { (byte)b }));
        List<(int Left, int Right)> merges = Learn(words, room, table);

        string Text(int id) => ByteLevelAlphabet.ToText(table[id]);
        var added = new AddedTokens(specialTokens.Select((text, i) => new AddedToken(table.Count + i, text, true)));
        string?[] all = [.. Enumerable.Range(0, table.Count).Select(Text), .. specialTokens];
        return new ByteLevelBpeTokenizer(
            all, [.. merges.Select(m => (Text(m.Left), Text(m.Right)))], added, compose: true, endOfText, chat: null, source: null,
            "the trained tokenizer");
    }

    private static List<Word> Count(IEnumerable<string> texts, AddedTokens cutter)
    {
        var counts = new Dictionary<string, int>(StringComparer.Ordinal);
        var lookup = counts.GetAlternateLookup<ReadOnlySpan<char>>();
        foreach (string text in texts)
        {
            cutter.Split(text, (range, added) =>
            {
                if (added is not null)
                    return;
                string plain = CanonicalComposition.Normalize(text[range]);
                for (int at = 0; at < plain.Length;)
                {
                    ReadOnlySpan<char> piece = plain.AsSpan(at, QwenSplitter.Next(plain, at));
                    at += piece.Length;
                    lookup.TryGetValue(piece, out int count);
                    lookup[piece] = count + 1;
                }
            });
        }
        return [.. counts.OrderBy(c => c.Key, StringComparer.Ordinal)
            .Select(c => new Word([.. Encoding.UTF8.GetBytes(c.Key).Select(b => (int)b)], c.Value))];
    }

    private static List<(int Left, int Right)> Learn(List<Word> words, int room, List<byte[]> table)
    {
        var counts = new Dictionary<(int, int), long>();
        var places = new Dictionary<(int, int), HashSet<int>>();
        var queue = new PriorityQueue<((int Left, int Right) Pair, long Count), (long, int, int)>();
        void Change((int Left, int Right) pair, int word, long by)
        {
            counts[pair] = counts.GetValueOrDefault(pair) + by;
            if (by > 0)
            {
                if (!places.TryGetValue(pair, out HashSet<int>? where))
                    places[pair] = where = [];
                where.Add(word);
            }
        }
        void Offer((int Left, int Right) pair)
        {
            if (counts[pair] >= LeastCount)
                queue.Enqueue((pair, counts[pair]), (-counts[pair], pair.Left, pair.Right));
        }
        for (int w = 0; w < words.Count; w++)
        {
            for (int i = 0; i + 1 < words[w].Ids.Count; i++)
                Change((words[w].Ids[i], words[w].Ids[i + 1]), w, words[w].Count);
        }
        foreach ((int, int) pair in counts.Keys)
            Offer(pair);

        var merges = new List<(int, int)>();
        var texts = new HashSet<string>(table.Select(bytes => ByteLevelAlphabet.ToText(bytes)), StringComparer.Ordinal);
        while (merges.Count < room && queue.TryDequeue(out ((int Left, int Right) Pair, long Count) top, out _))
        {
            // Counts change after an offer was made; the pair is offered again with each change, so a stale offer can go.
            if (counts.GetValueOrDefault(top.Pair) != top.Count)
                continue;
            byte[] bytes = [.. table[top.Pair.Left], .. table[top.Pair.Right]];
            // The same bytes can arise from two pairs; a text has one id, so the later pair is not merged.
            if (!texts.Add(ByteLevelAlphabet.ToText(bytes)))
            {
                counts.Remove(top.Pair);
                continue;
            }
            int merged = table.Count;
            table.Add(bytes);
            merges.Add(top.Pair);
            var touched = new HashSet<(int, int)>();
            foreach (int w in places[top.Pair])
                Replace(words[w], w, top.Pair, merged, Change, touched);
            counts.Remove(top.Pair);
            places.Remove(top.Pair);
            foreach ((int, int) pair in touched.Where(counts.ContainsKey))
                Offer(pair);
        }
        return merges;
    }

    /// <summary>Merges a pair within one word and moves the counts of its neighbours.</summary>
    private static void Replace(
        Word word, int index, (int Left, int Right) pair, int merged, Action<(int, int), int, long> change, HashSet<(int, int)> touched)
    {
        List<int> ids = word.Ids;
        void Note(int left, int right, long by)
        {
            if ((left, right) == pair)
                return;
            change((left, right), index, by);
            touched.Add((left, right));
        }
        for (int i = 0; i + 1 < ids.Count; i++)
        {
            if (ids[i] != pair.Left || ids[i + 1] != pair.Right)
                continue;
            if (i > 0)
            {
                Note(ids[i - 1], ids[i], -word.Count);
                Note(ids[i - 1], merged, word.Count);
            }
            if (i + 2 < ids.Count)
            {
                Note(ids[i + 1], ids[i + 2], -word.Count);
                Note(merged, ids[i + 2], word.Count);
            }
            ids[i] = merged;
            ids.RemoveAt(i + 1);
        }
    }

    private sealed record Word(List<int> Ids, int Count);
}
