// A number on its way to libtorch. Managed only: the real package's Scalar owns a native object, which costs a call per literal.
using TorchSharp.Interop;

namespace TorchSharp;

public sealed class Scalar : IDisposable
{
    private Scalar(torch.ScalarType type, ArgTag tag, long bits)
    {
        Type = type;
        Tag = tag;
        Bits = bits;
    }

    public torch.ScalarType Type { get; }

    internal ArgTag Tag { get; }

    internal long Bits { get; }

    internal double AsDouble => Tag == ArgTag.Double ? BitConverter.Int64BitsToDouble(Bits) : Bits;

    internal long AsInt64 => Tag == ArgTag.Double ? (long)BitConverter.Int64BitsToDouble(Bits) : Bits;

    public static implicit operator Scalar(byte value) => new(torch.ScalarType.Byte, ArgTag.Int, value);

    public static implicit operator Scalar(sbyte value) => new(torch.ScalarType.Int8, ArgTag.Int, value);

    public static implicit operator Scalar(short value) => new(torch.ScalarType.Int16, ArgTag.Int, value);

    public static implicit operator Scalar(int value) => new(torch.ScalarType.Int32, ArgTag.Int, value);

    public static implicit operator Scalar(long value) => new(torch.ScalarType.Int64, ArgTag.Int, value);

    public static implicit operator Scalar(Half value) => FromDouble(torch.ScalarType.Float16, (double)value);

    public static implicit operator Scalar(BFloat16 value) => FromDouble(torch.ScalarType.BFloat16, value.ToSingle());

    public static implicit operator Scalar(float value) => FromDouble(torch.ScalarType.Float32, value);

    public static implicit operator Scalar(double value) => FromDouble(torch.ScalarType.Float64, value);

    public static implicit operator Scalar(bool value) => new(torch.ScalarType.Bool, ArgTag.Bool, value ? 1 : 0);

    /// <summary>Nothing is held; here because callers of the real package dispose their scalars.</summary>
    public void Dispose()
    {
    }

    private static Scalar FromDouble(torch.ScalarType type, double value) =>
        new(type, ArgTag.Double, BitConverter.DoubleToInt64Bits(value));
}

public static class ScalarExtensionMethods
{
    public static Scalar ToScalar(this byte value) => value;

    public static Scalar ToScalar(this sbyte value) => value;

    public static Scalar ToScalar(this short value) => value;

    public static Scalar ToScalar(this int value) => value;

    public static Scalar ToScalar(this long value) => value;

    public static Scalar ToScalar(this float value) => value;

    public static Scalar ToScalar(this double value) => value;

    public static Scalar ToScalar(this bool value) => value;

    public static Scalar ToScalar(this Half value) => value;

    public static Scalar ToScalar(this BFloat16 value) => value;

    public static float ToSingle(this Scalar value) => (float)value.AsDouble;

    public static double ToDouble(this Scalar value) => value.AsDouble;

    public static int ToInt32(this Scalar value) => (int)value.AsInt64;

    public static long ToInt64(this Scalar value) => value.AsInt64;

    public static bool ToBoolean(this Scalar value) => value.AsDouble != 0;
}
