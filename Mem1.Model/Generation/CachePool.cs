// Invariant: a cache that is rented holds no token. What waits for reuse is bounded in bytes, so the pool never grows past the busiest moment
// plus that bound.
using Mem1.Model.Decoding;

namespace Mem1.Model.Generation;

/// <summary>Lends sequence caches: a rollout ends and starts hundreds of requests a second, each with hundreds of kilobytes.</summary>
internal sealed class CachePool(DecoderShape shape) : IDisposable
{
    /// <summary>Idle memory kept for reuse; the caches of some hundred requests of a small model.</summary>
    private const long IdleBytes = 64L << 20;

    /// <summary>Capacities are multiples of this, so that requests of similar length share caches.</summary>
    private const int Granule = 64;

    private readonly List<SequenceCache> _idle = [];
    private long _idleBytes;

    /// <summary>A cache with room for so many tokens.</summary>
    public SequenceCache Rent(int capacity)
    {
        // The tightest that fits; one more than twice too large is left for longer requests.
        int best = -1;
        for (int i = 0; i < _idle.Count; i++)
        {
            int room = _idle[i].Capacity;
            if (room >= capacity && room <= 2 * (long)capacity + Granule && (best < 0 || room < _idle[best].Capacity))
                best = i;
        }
        if (best < 0)
            return new SequenceCache(shape, (capacity / Granule + 1) * Granule);
        SequenceCache cache = _idle[best];
        _idle[best] = _idle[^1];
        _idle.RemoveAt(_idle.Count - 1);
        _idleBytes -= cache.Bytes;
        return cache;
    }

    /// <summary>Takes a cache back.</summary>
    public void Return(SequenceCache cache)
    {
        if (_idleBytes + cache.Bytes > IdleBytes)
        {
            cache.Dispose();
            return;
        }
        cache.Clear();
        _idle.Add(cache);
        _idleBytes += cache.Bytes;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (SequenceCache cache in _idle)
            cache.Dispose();
        _idle.Clear();
    }
}
