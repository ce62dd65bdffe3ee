namespace Mem1.Model.Decoding;

/// <summary>
/// Cosines and sines of rotary positions (RoFormer, arXiv 2104.09864, in the rotate-half order of Qwen2), computed in double and rounded
/// once. The gradient pass can use the same table, so that learner and sampler agree.
/// </summary>
public sealed class RotaryTable
{
    private RotaryTable(int positions, int half, float[] cos, float[] sin)
    {
        Positions = positions;
        Half = half;
        Cos = cos;
        Sin = sin;
    }

    /// <summary>Positions covered, from 0.</summary>
    public int Positions { get; }

    /// <summary>Angles per position: half of the head size.</summary>
    public int Half { get; }

    /// <summary>[Positions, Half], row-major.</summary>
    public float[] Cos { get; }

    /// <summary>[Positions, Half], row-major.</summary>
    public float[] Sin { get; }

    /// <summary>Computes a table; angle(p, i) = p * theta^(-2i / headSize).</summary>
    /// <param name="positions">Positions to cover.</param>
    /// <param name="headSize">Width of one head; even.</param>
    /// <param name="theta">Base of the frequencies.</param>
    public static RotaryTable Create(int positions, int headSize, double theta)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(positions);
        int half = headSize / 2;
        var cos = new float[(long)positions * half];
        var sin = new float[(long)positions * half];
        for (int i = 0; i < half; i++)
        {
            double frequency = Math.Pow(theta, -2.0 * i / headSize);
            for (int p = 0; p < positions; p++)
            {
                (double s, double c) = Math.SinCos(p * frequency);
                cos[p * half + i] = (float)c;
                sin[p * half + i] = (float)s;
            }
        }
        return new RotaryTable(positions, half, cos, sin);
    }
}
