// A managed argument of a boxed call. It keeps a reference to what it names, so nothing is collected while native code uses it.
namespace TorchSharp.Interop;

/// <summary>Kinds of argument; mirrors m1_tag.</summary>
internal enum ArgTag
{
    None = 0,
    Tensor = 1,
    Int = 2,
    Double = 3,
    Bool = 4,
    Ints = 5,
    Tensors = 6,
    OptionalTensors = 7,
    Device = 8,
    Generator = 9,
    String = 10,
}

internal readonly struct Arg
{
    public readonly object? Object;
    public readonly long Bits;
    public readonly ArgTag Tag;
    public readonly int Count;

    private Arg(ArgTag tag, long bits = 0, object? o = null, int count = 0)
    {
        Tag = tag;
        Bits = bits;
        Object = o;
        Count = count;
    }

    public static Arg None => default;

    public static implicit operator Arg(torch.Tensor? t) => t is null ? default : new Arg(ArgTag.Tensor, o: t);

    public static implicit operator Arg(long v) => new(ArgTag.Int, v);

    public static implicit operator Arg(int v) => new(ArgTag.Int, v);

    public static implicit operator Arg(long? v) => v is { } n ? new Arg(ArgTag.Int, n) : default;

    public static implicit operator Arg(double v) => new(ArgTag.Double, BitConverter.DoubleToInt64Bits(v));

    public static implicit operator Arg(double? v) => v is { } d ? new Arg(ArgTag.Double, BitConverter.DoubleToInt64Bits(d)) : default;

    public static implicit operator Arg(bool v) => new(ArgTag.Bool, v ? 1 : 0);

    public static implicit operator Arg(torch.ScalarType v) => new(ArgTag.Int, (int)v);

    public static implicit operator Arg(torch.ScalarType? v) => v is { } t ? new Arg(ArgTag.Int, (int)t) : default;

    public static implicit operator Arg(Scalar? v) => v is null ? default : new Arg(v.Tag, v.Bits);

    public static implicit operator Arg(long[]? v) => v is null ? default : new Arg(ArgTag.Ints, o: v, count: v.Length);

    public static implicit operator Arg(string v) => new(ArgTag.String, o: v);

    public static implicit operator Arg(torch.Tensor[] v) => new(ArgTag.Tensors, o: v, count: v.Length);

    public static implicit operator Arg(torch.Device? v) => v is null ? default : new Arg(ArgTag.Device, v.index, count: (int)v.type);

    public static implicit operator Arg(torch.Generator? v) => v is null ? default : new Arg(ArgTag.Generator, o: v);

    /// <summary>A list in which null stands for "this dimension is not indexed".</summary>
    public static Arg Optional(torch.Tensor?[] v) => new(ArgTag.OptionalTensors, o: v, count: v.Length);
}
