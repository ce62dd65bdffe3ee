// One query head against the cached keys and values of its sequence. Invariant: the result depends on the query, the cache and the number
// of visible tokens only; scores accumulate over the head size in order, values over positions in four interleaved chains summed at the
// end.
using System.Runtime.CompilerServices;

namespace Mem1.Model.Decoding;

internal static unsafe class Attention<TOps, TVec>
    where TOps : struct, ILanes<TVec>
    where TVec : unmanaged
{
    /// <param name="query">Rotated and scaled query, <paramref name="size"/> floats.</param>
    /// <param name="size">Width of one head.</param>
    /// <param name="keys">Blocks [size][lanes].</param>
    /// <param name="values">Rows of <paramref name="valueStride"/>.</param>
    /// <param name="valueStride">A multiple of two vectors.</param>
    /// <param name="visible">Tokens attended to, from the first.</param>
    /// <param name="scores">Room for <paramref name="visible"/> rounded up to whole vectors.</param>
    /// <param name="target">Receives <paramref name="valueStride"/> floats, the first <paramref name="size"/> of which count.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Head(
        float* query, int size, float* keys, float* values, int valueStride, int visible, float* scores, float* target)
    {
        int lanes = TOps.Width;
        int blocks = (visible + lanes - 1) / lanes;
        Scores(query, size, keys, blocks, scores);
        for (int i = visible; i < blocks * lanes; i++)
            scores[i] = float.NegativeInfinity;

        TVec largest = TOps.Load(scores);
        for (int b = 1; b < blocks; b++)
            largest = TOps.Max(largest, TOps.Load(scores + b * lanes));
        TVec shift = TOps.Broadcast(TOps.Largest(largest));
        TVec total = TOps.Zero;
        for (int b = 0; b < blocks; b++)
        {
            // Lanes beyond the visible tokens hold about 1e-38, which vanishes beside the largest, 1.
            TVec weight = VectorMath<TOps, TVec>.Exp(TOps.Subtract(TOps.Load(scores + b * lanes), shift));
            TOps.Store(weight, scores + b * lanes);
            total = TOps.Add(total, weight);
        }
        TVec scale = TOps.Broadcast(1f / TOps.Sum(total));
        for (int d = 0; d < valueStride; d += 2 * lanes)
            Mix(values + d, valueStride, visible, scores, scale, target + d);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Scores(float* query, int size, float* keys, int blocks, float* scores)
    {
        int lanes = TOps.Width;
        nint block = (nint)size * lanes;
        int b = 0;
        for (; b + 8 <= blocks; b += 8)
        {
            TVec s0 = TOps.Zero, s1 = TOps.Zero, s2 = TOps.Zero, s3 = TOps.Zero;
            TVec s4 = TOps.Zero, s5 = TOps.Zero, s6 = TOps.Zero, s7 = TOps.Zero;
            float* low = keys;
            float* high = keys + 4 * block;
            for (nint d = 0; d < size; d++)
            {
                TVec q = TOps.Broadcast(query[d]);
                s0 = TOps.Fma(q, TOps.Load(low), s0);
                s1 = TOps.Fma(q, TOps.Load(low + block), s1);
                s2 = TOps.Fma(q, TOps.Load(low + 2 * block), s2);
                s3 = TOps.Fma(q, TOps.Load(low + 3 * block), s3);
                s4 = TOps.Fma(q, TOps.Load(high), s4);
                s5 = TOps.Fma(q, TOps.Load(high + block), s5);
                s6 = TOps.Fma(q, TOps.Load(high + 2 * block), s6);
                s7 = TOps.Fma(q, TOps.Load(high + 3 * block), s7);
                low += lanes;
                high += lanes;
            }
            TOps.Store(s0, scores);
            TOps.Store(s1, scores + lanes);
            TOps.Store(s2, scores + 2 * lanes);
            TOps.Store(s3, scores + 3 * lanes);
            TOps.Store(s4, scores + 4 * lanes);
            TOps.Store(s5, scores + 5 * lanes);
            TOps.Store(s6, scores + 6 * lanes);
            TOps.Store(s7, scores + 7 * lanes);
            keys += 8 * block;
            scores += 8 * lanes;
        }
        for (; b + 3 <= blocks; b += 3)
        {
            TVec s0 = TOps.Zero, s1 = TOps.Zero, s2 = TOps.Zero;
            float* at = keys;
            for (nint d = 0; d < size; d++)
            {
                TVec q = TOps.Broadcast(query[d]);
                s0 = TOps.Fma(q, TOps.Load(at), s0);
                s1 = TOps.Fma(q, TOps.Load(at + block), s1);
                s2 = TOps.Fma(q, TOps.Load(at + 2 * block), s2);
                at += lanes;
            }
            TOps.Store(s0, scores);
            TOps.Store(s1, scores + lanes);
            TOps.Store(s2, scores + 2 * lanes);
            keys += 3 * block;
            scores += 3 * lanes;
        }
        for (; b < blocks; b++)
        {
            TVec s = TOps.Zero;
            for (nint d = 0; d < size; d++)
                s = TOps.Fma(TOps.Broadcast(query[d]), TOps.Load(keys + d * lanes), s);
            TOps.Store(s, scores);
            keys += block;
            scores += lanes;
        }
    }

    /// <summary>Two vectors' worth of the weighted sum of values.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Mix(float* values, int stride, int visible, float* weights, TVec scale, float* target)
    {
        int lanes = TOps.Width;
        TVec a0 = TOps.Zero, a1 = TOps.Zero, b0 = TOps.Zero, b1 = TOps.Zero;
        TVec c0 = TOps.Zero, c1 = TOps.Zero, d0 = TOps.Zero, d1 = TOps.Zero;
        int p = 0;
        float* v = values;
        for (; p + 4 <= visible; p += 4)
        {
            TVec w = TOps.Broadcast(weights[p]);
            a0 = TOps.Fma(w, TOps.Load(v), a0);
            a1 = TOps.Fma(w, TOps.Load(v + lanes), a1);
            v += stride;
            w = TOps.Broadcast(weights[p + 1]);
            b0 = TOps.Fma(w, TOps.Load(v), b0);
            b1 = TOps.Fma(w, TOps.Load(v + lanes), b1);
            v += stride;
            w = TOps.Broadcast(weights[p + 2]);
            c0 = TOps.Fma(w, TOps.Load(v), c0);
            c1 = TOps.Fma(w, TOps.Load(v + lanes), c1);
            v += stride;
            w = TOps.Broadcast(weights[p + 3]);
            d0 = TOps.Fma(w, TOps.Load(v), d0);
            d1 = TOps.Fma(w, TOps.Load(v + lanes), d1);
            v += stride;
        }
        for (; p < visible; p++)
        {
            TVec w = TOps.Broadcast(weights[p]);
            a0 = TOps.Fma(w, TOps.Load(v), a0);
            a1 = TOps.Fma(w, TOps.Load(v + lanes), a1);
            v += stride;
        }
        TOps.Store(TOps.Multiply(TOps.Add(TOps.Add(a0, b0), TOps.Add(c0, d0)), scale), target);
        TOps.Store(TOps.Multiply(TOps.Add(TOps.Add(a1, b1), TOps.Add(c1, d1)), scale), target + lanes);
    }
}
