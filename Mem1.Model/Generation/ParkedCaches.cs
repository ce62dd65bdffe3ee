// Invariants: a parked cache is taken only for a request whose context begins with exactly the tokens, and the turns, that it was computed
// from; otherwise the episode is computed anew. What is parked is bounded in bytes: beyond it the one that waited longest goes.
using Mem1.Model.Decoding;

namespace Mem1.Model.Generation;

/// <summary>Caches of carried episodes between their turns.</summary>
internal sealed class ParkedCaches(CachePool pool)
{
    /// <summary>Bytes kept: some thousand episodes of a small model, some dozens of one of half a billion parameters.</summary>
    private const long MaxBytes = 1L << 30;

    // Oldest first. As many as there are episodes at once, so a list is searched faster than anything else is kept up.
    private readonly List<Entry> _entries = [];
    private long _bytes;

    /// <summary>Keeps a cache after a turn.</summary>
    /// <param name="carry">Of the request that is done.</param>
    /// <param name="tokens">What the cache was computed from: its first tokens, as many as were computed.</param>
    /// <param name="cache">Handed over.</param>
    public void Put(CarriedEpisode carry, int[] tokens, SequenceCache cache)
    {
        Release(carry.Episode);
        _entries.Add(new Entry(carry, tokens, cache));
        _bytes += cache.Bytes;
        while (_bytes > MaxBytes && _entries.Count > 1)
            Drop(0);
    }

    /// <summary>The cache to go on with, with room for so many visible tokens; null when there is none that fits the request.</summary>
    public SequenceCache? Take(GenerationRequest request, int capacity)
    {
        if (request.Carry is not { } carry)
            return null;
        int index = _entries.FindIndex(e => e.Carry.Episode == carry.Episode);
        if (index < 0)
            return null;
        Entry entry = _entries[index];
        int computed = entry.Cache.Computed;
        // Nothing of a later turn may be in it: that turn's beginning would have been missed.
        long end = carry.Prompt + carry.Turns.Take(entry.Carry.Turns.Count + 1).Sum(t => (long)t.Length);
        bool fits = computed < request.Context.Length
            && computed <= end
            && entry.Carry.Prompt == carry.Prompt
            && entry.Carry.Turns.Count < carry.Turns.Count
            && entry.Carry.Turns.SequenceEqual(carry.Turns.Take(entry.Carry.Turns.Count))
            && request.Context.AsSpan(0, computed).SequenceEqual(entry.Tokens.AsSpan(0, computed));
        if (!fits)
        {
            Drop(index);
            return null;
        }
        _entries.RemoveAt(index);
        _bytes -= entry.Cache.Bytes;
        if (entry.Cache.Capacity >= capacity)
            return entry.Cache;
        SequenceCache larger = pool.Rent(capacity);
        entry.Cache.CopyTo(larger);
        pool.Return(entry.Cache);
        return larger;
    }

    /// <summary>Gives an episode's cache up.</summary>
    public void Release(long episode)
    {
        int index = _entries.FindIndex(e => e.Carry.Episode == episode);
        if (index >= 0)
            Drop(index);
    }

    /// <summary>Gives all of them up.</summary>
    public void Clear()
    {
        while (_entries.Count > 0)
            Drop(_entries.Count - 1);
    }

    private void Drop(int index)
    {
        Entry entry = _entries[index];
        _entries.RemoveAt(index);
        _bytes -= entry.Cache.Bytes;
        pool.Return(entry.Cache);
    }

    private readonly record struct Entry(CarriedEpisode Carry, int[] Tokens, SequenceCache Cache);
}

/// <summary>How much of the model's positions and of a cache a context takes.</summary>
/// <param name="Taken">Positions that are gone before the first new token.</param>
/// <param name="Largest">For a carried episode: the most tokens that were visible at once so far.</param>
internal readonly record struct CarriedRoom(int Taken, int Largest)
{
    /// <summary>For a carried episode: tokens visible to the first new one, itself not counted.</summary>
    public int Visible { get; init; }

    /// <summary>Checks a carried request.</summary>
    /// <exception cref="ArgumentException">Its parts do not add up, or do not fit the model.</exception>
    public static CarriedRoom Of(DecoderConfig config, GenerationRequest request)
    {
        CarriedEpisode carry = request.Carry!;
        TokenChecks.RequireIds(config, request.Context);
        long length = carry.Prompt + carry.Turns.Sum(t => (long)t.Length);
        if (carry.Prompt < 1 || carry.Turns.Any(t => t.Length < 1 || t.Discarded < 0 || t.Discarded > t.Length)
            || length != request.Context.Length)
        {
            throw new ArgumentException(
                $"a carried context of {request.Context.Length} tokens is said to have a prompt of {carry.Prompt} and "
                + $"{length - carry.Prompt} tokens in {carry.Turns.Count} turns.", nameof(request));
        }
        int kept = 0, largest = carry.Prompt;
        foreach (CarriedTurn turn in carry.Turns)
        {
            largest = Math.Max(largest, carry.Prompt + kept + turn.Length);
            kept = turn.Length - turn.Discarded;
        }
        if (largest > config.MaxPositions)
        {
            throw new ArgumentException(
                $"a carried turn sees {largest} tokens, more than the model's {config.MaxPositions} positions.", nameof(request));
        }
        // Rotary positions run on over the whole episode; without them only what is visible counts.
        int taken = config.Position == PositionEncoding.Rope ? request.Context.Length : carry.Prompt + kept;
        return new CarriedRoom(taken, largest) { Visible = carry.Prompt + kept };
    }
}
