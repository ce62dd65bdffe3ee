using System.Runtime.CompilerServices;

namespace Mem1.Model.Decoding;

/// <summary>Element-wise functions on padded rows. All lengths are multiples of the vector width.</summary>
internal static unsafe class VectorMath<TOps, TVec>
    where TOps : struct, ILanes<TVec>
    where TVec : unmanaged
{
    /// <summary>e^x for x in [-87, 88]; below, about 1e-38 (never a denormal); relative error below 2e-7.</summary>
    /// <remarks>
    /// x = n ln 2 + r with |r| at most ln(2)/2; the degree-6 polynomial for e^r is Cephes' expf; 2^n goes into the exponent.
    /// </remarks>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TVec Exp(TVec x)
    {
        // Beyond these bounds 2^n leaves the range of normal floats.
        x = TOps.Min(TOps.Max(x, TOps.Broadcast(-87f)), TOps.Broadcast(88f));
        // 1.5 * 2^23: adding it rounds to a whole number and leaves that number in the low bits.
        TVec magic = TOps.Broadcast(12582912f);
        TVec shifted = TOps.Fma(x, TOps.Broadcast(1.44269504f), magic);
        TVec n = TOps.Subtract(shifted, magic);
        // ln 2 in two parts, so that n times the first is exact.
        TVec r = TOps.Fma(n, TOps.Broadcast(-0.693359375f), x);
        r = TOps.Fma(n, TOps.Broadcast(2.12194440e-4f), r);
        TVec p = TOps.Broadcast(1.9875691500e-4f);
        p = TOps.Fma(p, r, TOps.Broadcast(1.3981999507e-3f));
        p = TOps.Fma(p, r, TOps.Broadcast(8.3334519073e-3f));
        p = TOps.Fma(p, r, TOps.Broadcast(4.1665795894e-2f));
        p = TOps.Fma(p, r, TOps.Broadcast(1.6666665459e-1f));
        p = TOps.Fma(p, r, TOps.Broadcast(5.0000001201e-1f));
        p = TOps.Fma(p, TOps.Multiply(r, r), TOps.Add(r, TOps.Broadcast(1f)));
        return TOps.AddToExponent(p, shifted);
    }

    /// <summary>target = x / rms(x) * weight over <paramref name="size"/> values (padding zero).</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void RmsNorm(float* x, float* weight, int size, int padded, float epsilon, float* target)
    {
        TVec even = TOps.Zero, odd = TOps.Zero;
        int i = 0;
        for (; i + 2 * TOps.Width <= padded; i += 2 * TOps.Width)
        {
            TVec a = TOps.Load(x + i), b = TOps.Load(x + i + TOps.Width);
            even = TOps.Fma(a, a, even);
            odd = TOps.Fma(b, b, odd);
        }
        for (; i < padded; i += TOps.Width)
        {
            TVec a = TOps.Load(x + i);
            even = TOps.Fma(a, a, even);
        }
        float mean = TOps.Sum(TOps.Add(even, odd)) / size;
        TVec scale = TOps.Broadcast(1f / MathF.Sqrt(mean + epsilon));
        for (i = 0; i < padded; i += TOps.Width)
            TOps.Store(TOps.Multiply(TOps.Multiply(TOps.Load(x + i), scale), TOps.Load(weight + i)), target + i);
    }

    /// <summary>gate = silu(gate) * up.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void SiluTimes(float* gate, float* up, int padded)
    {
        TVec one = TOps.Broadcast(1f);
        for (int i = 0; i < padded; i += TOps.Width)
        {
            TVec x = TOps.Load(gate + i);
            TVec denominator = TOps.Add(one, Exp(TOps.Subtract(TOps.Zero, x)));
            TOps.Store(TOps.Multiply(TOps.Divide(x, denominator), TOps.Load(up + i)), gate + i);
        }
    }

    /// <summary>
    /// Causal depthwise convolution in place: out[t] = sum over i of weight[i] * in[t-(taps-1)+i], rows before the first coming from
    /// <paramref name="history"/> (oldest first), which is left holding the last taps-1 inputs.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Convolve(float* rows, int count, int stride, float* history, float* weight, int taps, float* spare)
    {
        int kept = taps - 1;
        for (int i = 0; i < kept; i++)
            Copy(Input(rows, stride, history, count - kept + i, kept), spare + (long)i * stride, stride);
        // Last row first: a row's inputs are earlier rows, which must still be unconvolved.
        for (int t = count - 1; t >= 0; t--)
        {
            float* target = rows + (long)t * stride;
            for (int j = 0; j < stride; j += TOps.Width)
            {
                TVec sum = TOps.Zero;
                for (int i = 0; i < taps; i++)
                {
                    float* input = Input(rows, stride, history, t - kept + i, kept);
                    sum = TOps.Fma(TOps.Load(weight + (long)i * stride + j), TOps.Load(input + j), sum);
                }
                TOps.Store(sum, target + j);
            }
        }
        for (int i = 0; i < kept; i++)
            Copy(spare + (long)i * stride, history + (long)i * stride, stride);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float* Input(float* rows, int stride, float* history, int t, int kept) =>
        t >= 0 ? rows + (long)t * stride : history + (long)(t + kept) * stride;

    public static void Copy(float* source, float* target, int count) =>
        new ReadOnlySpan<float>(source, count).CopyTo(new Span<float>(target, count));
}
