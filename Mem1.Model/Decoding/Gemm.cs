// C[rows, outputs] = A[rows, inputs] * W^T + addend. Invariant: every output element is one chain of multiply-adds over k = 0, 1, 2, ...,
// started at zero, plus one addend at the end - whatever the tile it falls into. So a row's result does not depend on the other rows.
// Tiles keep 24 accumulators in registers (6 rows x 4 vectors) with AVX-512 and 12 (6 x 2) otherwise; at least 8 independent chains hide
// the latency of a multiply-add everywhere but in the leftovers.
using System.Runtime.CompilerServices;

namespace Mem1.Model.Decoding;

internal static unsafe class Gemm<TOps, TVec>
    where TOps : struct, ILanes<TVec>
    where TVec : unmanaged
{
    /// <param name="a">Rows of inputs.</param>
    /// <param name="lda">Floats from one row of <paramref name="a"/> to the next.</param>
    /// <param name="rows">Number of rows.</param>
    /// <param name="w">The weights.</param>
    /// <param name="c">Rows of <see cref="PackedMatrix.PaddedOutputs"/> results; may be the addend, never <paramref name="a"/>.</param>
    /// <param name="ldc">Floats from one row of <paramref name="c"/> to the next.</param>
    /// <param name="addend">Added to the product: the bias (stride 0) or the residual stream.</param>
    /// <param name="addendStride">Floats from one row of <paramref name="addend"/> to the next.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Multiply(float* a, int lda, int rows, PackedMatrix w, float* c, int ldc, float* addend, int addendStride)
    {
        int pitch = PackedMatrix.PanelWidth;
        int strip = 2 * TOps.Width;
        int strips = w.PaddedOutputs / strip;
        int inputs = w.Inputs;
        // 32 registers carry 6x4 accumulators, 16 carry 6x2.
        bool wide = TOps.Width == 16;
        int s = 0;
        while (s < strips)
        {
            int column = s * strip;
            float* b0 = Strip(w, column);
            if (rows < 6 && s + 3 < strips)
            {
                float* b1 = Strip(w, column + strip), b2 = Strip(w, column + 2 * strip), b3 = Strip(w, column + 3 * strip);
                int r = 0;
                for (; wide && r + 2 <= rows; r += 2)
                {
                    Tile2x4(a + (long)r * lda, lda, inputs, b0, b1, pitch,
                        c + (long)r * ldc + column, ldc, addend + (long)r * addendStride + column, addendStride);
                    Tile2x4(a + (long)r * lda, lda, inputs, b2, b3, pitch,
                        c + (long)r * ldc + column + 2 * strip, ldc, addend + (long)r * addendStride + column + 2 * strip, addendStride);
                }
                for (; r < rows; r++)
                {
                    Tile1x8(a + (long)r * lda, inputs, b0, b1, b2, b3, pitch, strip,
                        c + (long)r * ldc + column, addend + (long)r * addendStride + column);
                }
                s += 4;
            }
            else if (wide && s + 1 < strips)
            {
                float* b1 = Strip(w, column + strip);
                int r = 0;
                for (; r + 6 <= rows; r += 6)
                {
                    Tile6x4(a + (long)r * lda, lda, inputs, b0, b1, pitch,
                        c + (long)r * ldc + column, ldc, addend + (long)r * addendStride + column, addendStride);
                }
                for (; r + 2 <= rows; r += 2)
                {
                    Tile2x4(a + (long)r * lda, lda, inputs, b0, b1, pitch,
                        c + (long)r * ldc + column, ldc, addend + (long)r * addendStride + column, addendStride);
                }
                for (; r < rows; r++)
                {
                    for (int i = 0; i < 2; i++)
                    {
                        Tile1x2(a + (long)r * lda, inputs, i == 0 ? b0 : b1, pitch,
                            c + (long)r * ldc + column + i * strip, addend + (long)r * addendStride + column + i * strip);
                    }
                }
                s += 2;
            }
            else
            {
                int r = 0;
                for (; r + 6 <= rows; r += 6)
                {
                    Tile6x2(a + (long)r * lda, lda, inputs, b0, pitch,
                        c + (long)r * ldc + column, ldc, addend + (long)r * addendStride + column, addendStride);
                }
                for (; r < rows; r++)
                {
                    Tile1x2(a + (long)r * lda, inputs, b0, pitch,
                        c + (long)r * ldc + column, addend + (long)r * addendStride + column);
                }
                s++;
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float* Strip(PackedMatrix w, int column) =>
        w.Data + (long)(column / PackedMatrix.PanelWidth) * PackedMatrix.PanelWidth * w.Inputs + column % PackedMatrix.PanelWidth;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Put(TVec x, TVec y, float* c, float* addend)
    {
        TOps.Store(TOps.Add(x, TOps.Load(addend)), c);
        TOps.Store(TOps.Add(y, TOps.Load(addend + TOps.Width)), c + TOps.Width);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile6x4(
        float* a, int lda, int inputs, float* b0, float* b1, int pitch, float* c, int ldc, float* addend, int addendStride)
    {
        TVec c00 = TOps.Zero, c01 = TOps.Zero, c02 = TOps.Zero, c03 = TOps.Zero;
        TVec c10 = TOps.Zero, c11 = TOps.Zero, c12 = TOps.Zero, c13 = TOps.Zero;
        TVec c20 = TOps.Zero, c21 = TOps.Zero, c22 = TOps.Zero, c23 = TOps.Zero;
        TVec c30 = TOps.Zero, c31 = TOps.Zero, c32 = TOps.Zero, c33 = TOps.Zero;
        TVec c40 = TOps.Zero, c41 = TOps.Zero, c42 = TOps.Zero, c43 = TOps.Zero;
        TVec c50 = TOps.Zero, c51 = TOps.Zero, c52 = TOps.Zero, c53 = TOps.Zero;
        float* a0 = a, a1 = a0 + lda, a2 = a1 + lda, a3 = a2 + lda, a4 = a3 + lda, a5 = a4 + lda;
        for (nint k = 0; k < inputs; k++)
        {
            TVec w0 = TOps.Load(b0), w1 = TOps.Load(b0 + TOps.Width), w2 = TOps.Load(b1), w3 = TOps.Load(b1 + TOps.Width);
            TVec x = TOps.Broadcast(a0[k]);
            c00 = TOps.Fma(x, w0, c00);
            c01 = TOps.Fma(x, w1, c01);
            c02 = TOps.Fma(x, w2, c02);
            c03 = TOps.Fma(x, w3, c03);
            x = TOps.Broadcast(a1[k]);
            c10 = TOps.Fma(x, w0, c10);
            c11 = TOps.Fma(x, w1, c11);
            c12 = TOps.Fma(x, w2, c12);
            c13 = TOps.Fma(x, w3, c13);
            x = TOps.Broadcast(a2[k]);
            c20 = TOps.Fma(x, w0, c20);
            c21 = TOps.Fma(x, w1, c21);
            c22 = TOps.Fma(x, w2, c22);
            c23 = TOps.Fma(x, w3, c23);
            x = TOps.Broadcast(a3[k]);
            c30 = TOps.Fma(x, w0, c30);
            c31 = TOps.Fma(x, w1, c31);
            c32 = TOps.Fma(x, w2, c32);
            c33 = TOps.Fma(x, w3, c33);
            x = TOps.Broadcast(a4[k]);
            c40 = TOps.Fma(x, w0, c40);
            c41 = TOps.Fma(x, w1, c41);
            c42 = TOps.Fma(x, w2, c42);
            c43 = TOps.Fma(x, w3, c43);
            x = TOps.Broadcast(a5[k]);
            c50 = TOps.Fma(x, w0, c50);
            c51 = TOps.Fma(x, w1, c51);
            c52 = TOps.Fma(x, w2, c52);
            c53 = TOps.Fma(x, w3, c53);
            b0 += pitch;
            b1 += pitch;
        }
        int second = 2 * TOps.Width;
        Put(c00, c01, c, addend);
        Put(c02, c03, c + second, addend + second);
        c += ldc;
        addend += addendStride;
        Put(c10, c11, c, addend);
        Put(c12, c13, c + second, addend + second);
        c += ldc;
        addend += addendStride;
        Put(c20, c21, c, addend);
        Put(c22, c23, c + second, addend + second);
        c += ldc;
        addend += addendStride;
        Put(c30, c31, c, addend);
        Put(c32, c33, c + second, addend + second);
        c += ldc;
        addend += addendStride;
        Put(c40, c41, c, addend);
        Put(c42, c43, c + second, addend + second);
        c += ldc;
        addend += addendStride;
        Put(c50, c51, c, addend);
        Put(c52, c53, c + second, addend + second);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile6x2(float* a, int lda, int inputs, float* b, int pitch, float* c, int ldc, float* addend, int addendStride)
    {
        TVec c00 = TOps.Zero, c01 = TOps.Zero, c10 = TOps.Zero, c11 = TOps.Zero, c20 = TOps.Zero, c21 = TOps.Zero;
        TVec c30 = TOps.Zero, c31 = TOps.Zero, c40 = TOps.Zero, c41 = TOps.Zero, c50 = TOps.Zero, c51 = TOps.Zero;
        float* a0 = a, a1 = a0 + lda, a2 = a1 + lda, a3 = a2 + lda, a4 = a3 + lda, a5 = a4 + lda;
        for (nint k = 0; k < inputs; k++)
        {
            TVec w0 = TOps.Load(b), w1 = TOps.Load(b + TOps.Width);
            TVec x = TOps.Broadcast(a0[k]);
            c00 = TOps.Fma(x, w0, c00);
            c01 = TOps.Fma(x, w1, c01);
            x = TOps.Broadcast(a1[k]);
            c10 = TOps.Fma(x, w0, c10);
            c11 = TOps.Fma(x, w1, c11);
            x = TOps.Broadcast(a2[k]);
            c20 = TOps.Fma(x, w0, c20);
            c21 = TOps.Fma(x, w1, c21);
            x = TOps.Broadcast(a3[k]);
            c30 = TOps.Fma(x, w0, c30);
            c31 = TOps.Fma(x, w1, c31);
            x = TOps.Broadcast(a4[k]);
            c40 = TOps.Fma(x, w0, c40);
            c41 = TOps.Fma(x, w1, c41);
            x = TOps.Broadcast(a5[k]);
            c50 = TOps.Fma(x, w0, c50);
            c51 = TOps.Fma(x, w1, c51);
            b += pitch;
        }
        Put(c00, c01, c, addend);
        Put(c10, c11, c + ldc, addend + addendStride);
        c += 2 * ldc;
        addend += 2 * addendStride;
        Put(c20, c21, c, addend);
        Put(c30, c31, c + ldc, addend + addendStride);
        c += 2 * ldc;
        addend += 2 * addendStride;
        Put(c40, c41, c, addend);
        Put(c50, c51, c + ldc, addend + addendStride);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile2x4(
        float* a, int lda, int inputs, float* b0, float* b1, int pitch, float* c, int ldc, float* addend, int addendStride)
    {
        TVec c00 = TOps.Zero, c01 = TOps.Zero, c02 = TOps.Zero, c03 = TOps.Zero;
        TVec c10 = TOps.Zero, c11 = TOps.Zero, c12 = TOps.Zero, c13 = TOps.Zero;
        float* a1 = a + lda;
        for (nint k = 0; k < inputs; k++)
        {
            TVec w0 = TOps.Load(b0), w1 = TOps.Load(b0 + TOps.Width), w2 = TOps.Load(b1), w3 = TOps.Load(b1 + TOps.Width);
            TVec x = TOps.Broadcast(a[k]);
            c00 = TOps.Fma(x, w0, c00);
            c01 = TOps.Fma(x, w1, c01);
            c02 = TOps.Fma(x, w2, c02);
            c03 = TOps.Fma(x, w3, c03);
            x = TOps.Broadcast(a1[k]);
            c10 = TOps.Fma(x, w0, c10);
            c11 = TOps.Fma(x, w1, c11);
            c12 = TOps.Fma(x, w2, c12);
            c13 = TOps.Fma(x, w3, c13);
            b0 += pitch;
            b1 += pitch;
        }
        int second = 2 * TOps.Width;
        Put(c00, c01, c, addend);
        Put(c02, c03, c + second, addend + second);
        Put(c10, c11, c + ldc, addend + addendStride);
        Put(c12, c13, c + ldc + second, addend + addendStride + second);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile1x8(
        float* a, int inputs, float* b0, float* b1, float* b2, float* b3, int pitch, int strip, float* c, float* addend)
    {
        TVec c0 = TOps.Zero, c1 = TOps.Zero, c2 = TOps.Zero, c3 = TOps.Zero;
        TVec c4 = TOps.Zero, c5 = TOps.Zero, c6 = TOps.Zero, c7 = TOps.Zero;
        nint at = 0;
        for (nint k = 0; k < inputs; k++)
        {
            TVec x = TOps.Broadcast(a[k]);
            c0 = TOps.Fma(x, TOps.Load(b0 + at), c0);
            c1 = TOps.Fma(x, TOps.Load(b0 + at + TOps.Width), c1);
            c2 = TOps.Fma(x, TOps.Load(b1 + at), c2);
            c3 = TOps.Fma(x, TOps.Load(b1 + at + TOps.Width), c3);
            c4 = TOps.Fma(x, TOps.Load(b2 + at), c4);
            c5 = TOps.Fma(x, TOps.Load(b2 + at + TOps.Width), c5);
            c6 = TOps.Fma(x, TOps.Load(b3 + at), c6);
            c7 = TOps.Fma(x, TOps.Load(b3 + at + TOps.Width), c7);
            at += pitch;
        }
        Put(c0, c1, c, addend);
        Put(c2, c3, c + strip, addend + strip);
        Put(c4, c5, c + 2 * strip, addend + 2 * strip);
        Put(c6, c7, c + 3 * strip, addend + 3 * strip);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile1x2(float* a, int inputs, float* b, int pitch, float* c, float* addend)
    {
        TVec c0 = TOps.Zero, c1 = TOps.Zero;
        for (nint k = 0; k < inputs; k++)
        {
            TVec x = TOps.Broadcast(a[k]);
            c0 = TOps.Fma(x, TOps.Load(b), c0);
            c1 = TOps.Fma(x, TOps.Load(b + TOps.Width), c1);
            b += pitch;
        }
        Put(c0, c1, c, addend);
    }
}
