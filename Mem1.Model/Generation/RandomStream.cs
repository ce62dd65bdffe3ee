namespace Mem1.Model.Generation;

/// <summary>
/// A counter-based random stream: the i-th number is a function of the seed and i only, so a continuation needs no generator state to be
/// resumed and never depends on other requests. SplitMix64 (Steele, Lea, Flood 2014) over a mixed seed.
/// </summary>
public static class RandomStream
{
    /// <summary>2^64 divided by the golden ratio, SplitMix64's increment.</summary>
    private const ulong Golden = 0x9E3779B97F4A7C15;

    /// <summary>The <paramref name="index"/>-th number of the stream of <paramref name="seed"/>, uniform over all 64-bit values.</summary>
    /// <param name="seed">Names the stream.</param>
    /// <param name="index">Place in the stream, from 0.</param>
    public static ulong Bits(ulong seed, ulong index) => Mix(Mix(seed + Golden) + (index + 1) * Golden);

    /// <summary>The <paramref name="index"/>-th number of the stream as a double in [0, 1), 53 random bits.</summary>
    /// <param name="seed">Names the stream.</param>
    /// <param name="index">Place in the stream, from 0.</param>
    public static double Uniform(ulong seed, ulong index) => (Bits(seed, index) >> 11) * (1.0 / (1UL << 53));

    /// <summary>A pair of independent standard normal numbers (Box and Muller), from numbers 2 * index and 2 * index + 1.</summary>
    /// <param name="seed">Names the stream.</param>
    /// <param name="index">Place in the stream of pairs, from 0.</param>
    public static (double First, double Second) Normals(ulong seed, ulong index)
    {
        // 1 - u lies in (0, 1], where the logarithm is finite.
        double radius = Math.Sqrt(-2 * Math.Log(1 - Uniform(seed, 2 * index)));
        (double sin, double cos) = Math.SinCos(2 * Math.PI * Uniform(seed, 2 * index + 1));
        return (radius * cos, radius * sin);
    }

    /// <summary>SplitMix64's finaliser: spreads every bit of a number over all of the result's.</summary>
    /// <param name="z">Any number; 0 stays 0.</param>
    public static ulong Mix(ulong z)
    {
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }
}
