// Invariants: an entry holds exactly the keys, values and convolution inputs that its tokens give under the weights in place, so a sequence
// that takes them goes on bit for bit as if it had computed them (DecoderCore); whoever changes the weights clears the cache. What is kept is
// bounded in bytes: beyond the bound the prompt that was not used for longest goes. Entries are copied in and out, never lent.
using Mem1.Model.Decoding;

namespace Mem1.Model.Generation;

/// <summary>What was computed for prompts, between the turns of an episode and across episodes that share one.</summary>
internal sealed class PromptCache(DecoderShape shape, long maxBytes) : IDisposable
{
    private readonly LinkedList<Entry> _leastRecentFirst = [];
    private readonly Dictionary<int[], LinkedListNode<Entry>> _byTokens = new(TokenComparer.Instance);

    /// <summary>Bytes kept.</summary>
    public long Bytes { get; private set; }

    /// <summary>Prompts kept.</summary>
    public int Count => _byTokens.Count;

    /// <summary>Whether anything can be kept at all.</summary>
    public bool Enabled => maxBytes > 0;

    /// <summary>Fills an empty cache with what is known of these tokens.</summary>
    /// <returns>Whether there was anything; otherwise the cache is as it was.</returns>
    public bool TryCopy(ReadOnlySpan<int> prompt, SequenceCache empty)
    {
        if (!_byTokens.GetAlternateLookup<ReadOnlySpan<int>>().TryGetValue(prompt, out LinkedListNode<Entry>? node))
            return false;
        _leastRecentFirst.Remove(node);
        _leastRecentFirst.AddLast(node);
        node.Value.Cache.CopyTo(empty);
        return true;
    }

    /// <summary>Keeps a copy of what was computed.</summary>
    /// <param name="prompt">The tokens.</param>
    /// <param name="computed">Holds these tokens and no others.</param>
    public void Put(ReadOnlySpan<int> prompt, SequenceCache computed)
    {
        // Tokens and book-keeping are small beside keys and values, and left out.
        long bytes = SequenceCache.BytesFor(shape, prompt.Length);
        if (bytes > maxBytes || _byTokens.GetAlternateLookup<ReadOnlySpan<int>>().ContainsKey(prompt))
            return;
        while (Bytes + bytes > maxBytes)
            DropLeastRecent();
        var cache = new SequenceCache(shape, prompt.Length);
        computed.CopyTo(cache);
        int[] tokens = prompt.ToArray();
        _byTokens.Add(tokens, _leastRecentFirst.AddLast(new Entry(tokens, cache)));
        Bytes += bytes;
    }

    /// <summary>Forgets everything: the weights are no longer those it was computed with.</summary>
    public void Clear()
    {
        while (_leastRecentFirst.Count > 0)
            DropLeastRecent();
    }

    /// <inheritdoc/>
    public void Dispose() => Clear();

    private void DropLeastRecent()
    {
        Entry entry = _leastRecentFirst.First!.Value;
        _leastRecentFirst.RemoveFirst();
        _byTokens.Remove(entry.Tokens);
        Bytes -= entry.Cache.Bytes;
        entry.Cache.Dispose();
    }

    private readonly record struct Entry(int[] Tokens, SequenceCache Cache);

    /// <summary>Token ids by value, looked up without a copy.</summary>
    private sealed class TokenComparer : IEqualityComparer<int[]>, IAlternateEqualityComparer<ReadOnlySpan<int>, int[]>
    {
        public static readonly TokenComparer Instance = new();

        public bool Equals(int[]? x, int[]? y) => x.AsSpan().SequenceEqual(y);

        public bool Equals(ReadOnlySpan<int> alternate, int[] other) => alternate.SequenceEqual(other);

        public int GetHashCode(int[] tokens) => GetHashCode(tokens.AsSpan());

        public int GetHashCode(ReadOnlySpan<int> tokens)
        {
            var hash = new HashCode();
            hash.AddBytes(System.Runtime.InteropServices.MemoryMarshal.AsBytes(tokens));
            return hash.ToHashCode();
        }

        public int[] Create(ReadOnlySpan<int> alternate) => alternate.ToArray();
    }
}
