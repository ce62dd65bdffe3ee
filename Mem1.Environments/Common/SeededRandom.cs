// Invariants: a stream depends on nothing but its seeds, on every platform and every version of .NET (System.Random promises
// neither); draws below a bound are unbiased.

using System.Numerics;

namespace Mem1.Environments.Common;

/// <summary>A small seeded random stream: SplitMix64 (Steele, Lea and Flood 2014). Not thread-safe.</summary>
internal sealed class SeededRandom
{
    // The odd increment of SplitMix64, 2^64 divided by the golden ratio.
    private const ulong Increment = 0x9E3779B97F4A7C15;

    // Any constant that keeps a seed of zero from mixing to zero.
    private const ulong SeedSalt = 0xD1B54A32D192ED03;

    private ulong _state;

    /// <summary>Starts the stream named by some numbers; their order counts.</summary>
    public SeededRandom(params ReadOnlySpan<ulong> seeds) => _state = Mix(seeds);

    /// <summary>Hashes numbers into one; their order counts.</summary>
    public static ulong Mix(params ReadOnlySpan<ulong> seeds)
    {
        ulong state = (ulong)seeds.Length;
        foreach (ulong seed in seeds)
            state = Finish(state + Increment) ^ Finish(seed ^ SeedSalt);
        return Finish(state);
    }

    public ulong NextUInt64()
    {
        _state += Increment;
        return Finish(_state);
    }

    /// <summary>A number in [0, bound).</summary>
    public int Next(int bound)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(bound);
        // Lemire's multiplication, with rejection of the biased low part.
        ulong range = (ulong)bound;
        ulong high = Math.BigMul(NextUInt64(), range, out ulong low);
        if (low < range)
        {
            ulong threshold = (0 - range) % range;
            while (low < threshold)
                high = Math.BigMul(NextUInt64(), range, out low);
        }
        return (int)high;
    }

    /// <summary>A number in [0, 1) with 53 random bits.</summary>
    public double NextDouble() => (NextUInt64() >> 11) * (1.0 / (1UL << 53));

    public bool Chance(double probability) => NextDouble() < probability;

    public T Choose<T>(IReadOnlyList<T> items) => items[Next(items.Count)];

    public void Shuffle<T>(Span<T> items)
    {
        for (int i = items.Length - 1; i > 0; i--)
        {
            int j = Next(i + 1);
            (items[i], items[j]) = (items[j], items[i]);
        }
    }

    private static ulong Finish(ulong z)
    {
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }
}

/// <summary>
/// A keyed permutation of [0, size) with direct access to any position, in constant memory: a Feistel network over the next
/// even power of two, walked until it lands inside (Black and Rogaway 2002, "cycle walking").
/// </summary>
internal readonly struct SeededPermutation
{
    // Four rounds make a Feistel network pseudo-random (Luby and Rackoff); two more cost nothing and help tiny domains.
    private const int Rounds = 6;

    private readonly ulong _size;
    private readonly ulong _key;
    private readonly int _halfBits;

    public SeededPermutation(long size, ulong key)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(size);
        _size = (ulong)size;
        _key = key;
        int bits = 64 - BitOperations.LeadingZeroCount(_size - 1);
        _halfBits = Math.Max(1, (bits + 1) / 2);
    }

    public long this[long position]
    {
        get
        {
            ulong x = (ulong)position;
            if (x >= _size)
                throw new ArgumentOutOfRangeException(nameof(position));
            do
            {
                x = Encrypt(x);
            }
            while (x >= _size);
            return (long)x;
        }
    }

    private ulong Encrypt(ulong x)
    {
        ulong mask = (1UL << _halfBits) - 1;
        ulong left = x >> _halfBits, right = x & mask;
        for (ulong round = 0; round < Rounds; round++)
            (left, right) = (right, left ^ (SeededRandom.Mix(_key, round, right) & mask));
        return (left << _halfBits) | right;
    }
}
