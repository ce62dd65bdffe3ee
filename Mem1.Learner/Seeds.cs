// Keeps: a function of its numbers alone, so that the same seed draws the same on every machine and after every resume.
using Mem1.Model.Generation;

namespace Mem1.Learner;

/// <summary>
/// Derives independent seeds from a run's seed and numbers that name a purpose, so that no random state ever needs saving: resuming at an
/// update draws what going on would have drawn.
/// </summary>
public static class Seeds
{
    /// <summary>Mixes numbers into one (SplitMix64's finaliser after each).</summary>
    public static ulong Mix(ulong seed, params ReadOnlySpan<ulong> purpose)
    {
        var z = RandomStream.Mix(seed + 0x9E3779B97F4A7C15UL);
        foreach (var p in purpose) z = RandomStream.Mix(z ^ (p * 0xD1B54A32D192ED03UL + 0x9E3779B97F4A7C15UL));
        return z;
    }

    /// <summary>A seeded generator for one purpose.</summary>
    public static Random Generator(ulong seed, params ReadOnlySpan<ulong> purpose) => new((int)(Mix(seed, purpose) >> 33));
}
