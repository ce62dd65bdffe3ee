using Mem1.Model.Generation;

namespace Mem1.Actors;

/// <summary>Seeds of single responses: a function of the lease's seed and the turn alone, so that timing cannot matter.</summary>
public static class TurnSeed
{
    /// <summary>The seed of the response of a turn (SplitMix64's finaliser over the lease's seed advanced by the turn).</summary>
    public static ulong Mix(ulong leaseSeed, int turn)
    {
        unchecked
        {
            // The odd constant is 2^64 divided by the golden ratio: consecutive turns land far apart.
            return RandomStream.Mix(leaseSeed + (((ulong)turn + 1) * 0x9E3779B97F4A7C15UL));
        }
    }
}
