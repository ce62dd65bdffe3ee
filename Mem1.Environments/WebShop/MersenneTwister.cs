// Invariants: the same seed gives the same sequence as CPython's random module, draw for draw; that is what fixes the order of the
// published goals.

namespace Mem1.Environments.WebShop;

/// <summary>
/// MT19937 (Matsumoto and Nishimura 1998) seeded and used as CPython's random module does. Only for reproducing WebShop's goals:
/// everything else uses the project's own stream. Not thread-safe.
/// </summary>
internal sealed class MersenneTwister
{
    private const int Size = 624;
    private const int Middle = 397;

    // CPython's sample() works on a copied pool up to this many items (for two draws).
    private const int LargestPool = 21;

    private readonly uint[] _state = new uint[Size];
    private int _next = Size;

    /// <summary>Seeds with a number below 2^32: the reference "init by array" with a key of one word.</summary>
    public MersenneTwister(uint seed)
    {
        _state[0] = 19650218;
        for (uint i = 1; i < Size; i++)
            _state[i] = Linear(_state[i - 1], 1812433253) + i;
        // The second loop of the reference runs one step shorter and takes no key.
        int at = 1;
        for (int k = Size; k > 0; k--)
        {
            _state[at] = (_state[at] ^ Linear(_state[at - 1], 1664525)) + seed;
            Advance(ref at);
        }
        for (int k = Size - 1; k > 0; k--)
        {
            _state[at] = (_state[at] ^ Linear(_state[at - 1], 1566083941)) - (uint)at;
            Advance(ref at);
        }
        _state[0] = 0x80000000;
    }

    /// <summary>The next 32 random bits.</summary>
    public uint NextUInt32()
    {
        if (_next == Size)
            Refill();
        uint y = _state[_next++];
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c5680;
        y ^= (y << 15) & 0xefc60000;
        return y ^ (y >> 18);
    }

    /// <summary>random(): 53 bits in [0, 1).</summary>
    public double NextDouble()
    {
        ulong high = NextUInt32() >> 5, low = NextUInt32() >> 6;
        return ((high << 26) + low) * (1.0 / (1UL << 53));
    }

    /// <summary>uniform(a, b).</summary>
    public double Uniform(double a, double b) => a + ((b - a) * NextDouble());

    /// <summary>A number in [0, bound), by rejection.</summary>
    public int Below(int bound)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(bound);
        int bits = 32 - System.Numerics.BitOperations.LeadingZeroCount((uint)bound);
        uint drawn;
        do
        {
            drawn = NextUInt32() >> (32 - bits);
        }
        while (drawn >= (uint)bound);
        return (int)drawn;
    }

    /// <summary>shuffle(items).</summary>
    public void Shuffle<T>(Span<T> items)
    {
        for (int i = items.Length - 1; i > 0; i--)
        {
            int j = Below(i + 1);
            (items[i], items[j]) = (items[j], items[i]);
        }
    }

    /// <summary>sample(items, 2), for at most 21 items.</summary>
    public (T First, T Second) SampleTwo<T>(ReadOnlySpan<T> items)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(items.Length, 2, nameof(items));
        ArgumentOutOfRangeException.ThrowIfGreaterThan(items.Length, LargestPool, nameof(items));
        T[] pool = items.ToArray();
        int j = Below(pool.Length);
        T first = pool[j];
        pool[j] = pool[^1];
        return (first, pool[Below(pool.Length - 1)]);
    }

    private static uint Linear(uint previous, uint factor) => (previous ^ (previous >> 30)) * factor;

    private void Advance(ref int at)
    {
        if (++at < Size)
            return;
        _state[0] = _state[Size - 1];
        at = 1;
    }

    private void Refill()
    {
        for (int i = 0; i < Size; i++)
        {
            uint y = (_state[i] & 0x80000000) | (_state[(i + 1) % Size] & 0x7fffffff);
            _state[i] = _state[(i + Middle) % Size] ^ (y >> 1) ^ ((y & 1) * 0x9908b0df);
        }
        _next = 0;
    }
}
