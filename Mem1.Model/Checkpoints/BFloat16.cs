// Invariants: rounding is to nearest, ties to even; a NaN stays one; vector and scalar code give the same bits for every input.
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Mem1.Model.Checkpoints;

/// <summary>bfloat16, the upper half of a float32, in and out.</summary>
internal static class BFloat16
{
    // Rounding could carry a NaN's mantissa into infinity; this bit of it keeps it quiet instead.
    private const uint Quiet = 0x0040_0000;

    public static float Widen(ushort value) => BitConverter.UInt32BitsToSingle((uint)value << 16);

    public static ushort Narrow(float value)
    {
        uint bits = BitConverter.SingleToUInt32Bits(value);
        return (ushort)((float.IsNaN(value) ? bits | Quiet : bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
    }

    /// <summary>All of <paramref name="values"/>, one by one.</summary>
    public static void Widen(ReadOnlySpan<ushort> values, Span<float> into)
    {
        ref ushort source = ref MemoryMarshal.GetReference(values);
        ref uint target = ref MemoryMarshal.GetReference(MemoryMarshal.Cast<float, uint>(into[..values.Length]));
        int i = 0;
        for (; i <= values.Length - Vector256<ushort>.Count; i += Vector256<ushort>.Count)
        {
            (Vector256<uint> lower, Vector256<uint> upper) = Vector256.Widen(Vector256.LoadUnsafe(ref source, (nuint)i));
            (lower << 16).StoreUnsafe(ref target, (nuint)i);
            (upper << 16).StoreUnsafe(ref target, (nuint)(i + Vector256<uint>.Count));
        }
        for (; i < values.Length; i++)
            into[i] = Widen(values[i]);
    }

    /// <summary>All of <paramref name="values"/>, one by one.</summary>
    public static void Narrow(ReadOnlySpan<float> values, Span<ushort> into)
    {
        ref float source = ref MemoryMarshal.GetReference(values);
        ref ushort target = ref MemoryMarshal.GetReference(into[..values.Length]);
        int i = 0;
        for (; i <= values.Length - Vector256<ushort>.Count; i += Vector256<ushort>.Count)
        {
            Vector256<uint> lower = Rounded(Vector256.LoadUnsafe(ref source, (nuint)i));
            Vector256<uint> upper = Rounded(Vector256.LoadUnsafe(ref source, (nuint)(i + Vector256<float>.Count)));
            Vector256.Narrow(lower >> 16, upper >> 16).StoreUnsafe(ref target, (nuint)i);
        }
        for (; i < values.Length; i++)
            into[i] = Narrow(values[i]);

        static Vector256<uint> Rounded(Vector256<float> value)
        {
            Vector256<uint> bits = value.AsUInt32();
            Vector256<uint> rounded = bits + Vector256.Create(0x7FFFu) + ((bits >> 16) & Vector256<uint>.One);
            return Vector256.ConditionalSelect(Vector256.IsNaN(value).AsUInt32(), bits | Vector256.Create(Quiet), rounded);
        }
    }
}
