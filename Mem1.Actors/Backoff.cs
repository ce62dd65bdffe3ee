// Invariants:
//  * The n-th wait lies in [d/2, d] with d = min(first * 2^n, longest): bounded above, and workers that lost the same learner spread out.
namespace Mem1.Actors;

/// <summary>Exponential back-off with jitter. Time is the caller's; randomness is injected.</summary>
internal sealed class Backoff(TimeSpan first, TimeSpan longest, Func<double> random)
{
    // 2^30 times any first wait is beyond any longest wait in use, and the shift cannot overflow a long.
    private const int MaxDoublings = 30;

    private int _failures;

    /// <summary>Failures since the last success.</summary>
    public int Failures => _failures;

    /// <summary>The wait after one more failure.</summary>
    public TimeSpan Next()
    {
        var ceiling = Math.Min(first.TotalMilliseconds * (1L << Math.Min(_failures, MaxDoublings)), longest.TotalMilliseconds);
        _failures++;
        return TimeSpan.FromMilliseconds(ceiling * (0.5 + (0.5 * random())));
    }

    /// <summary>Forgets the failures.</summary>
    public void Reset() => _failures = 0;
}
