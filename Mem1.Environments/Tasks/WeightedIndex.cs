// Invariants: index i is drawn with probability weight[i] / sum; a draw depends on the number handed in alone.

namespace Mem1.Environments.Tasks;

/// <summary>Draws indices in proportion to weights. Thread-safe.</summary>
internal sealed class WeightedIndex
{
    private readonly double[] _upTo;

    public WeightedIndex(IReadOnlyList<double> weights)
    {
        ArgumentOutOfRangeException.ThrowIfZero(weights.Count, nameof(weights));
        _upTo = new double[weights.Count];
        double sum = 0;
        // Scaled by the largest, so that the sum of finite weights is finite.
        double largest = weights.Max();
        for (int i = 0; i < _upTo.Length; i++)
            _upTo[i] = sum += weights[i] / largest;
    }

    /// <summary>The index at a place in [0, 1).</summary>
    public int At(double place)
    {
        int found = Array.BinarySearch(_upTo, place * _upTo[^1]);
        // What equals a bound belongs to the next index, whose range begins there.
        return Math.Min(found < 0 ? ~found : found + 1, _upTo.Length - 1);
    }
}
