// Keeps: Apply(base, Encode(base, next)) is next, byte for byte; a malformed delta is an InvalidDataException and never costs more memory
// than the length it must have.
using System.Buffers.Binary;
using System.IO.Compression;
using System.Numerics.Tensors;

namespace Mem1.Protocol;

/// <summary>
/// The difference between two versions of a weight blob: XOR against the base, split into the four byte planes of its 32-bit words, each
/// deflated if that makes it smaller. Sign, exponent and upper mantissa of a weight rarely change in one update, so two or three of the four
/// planes are almost all zeros.
/// </summary>
/// <remarks>Layout, little-endian: the length in bytes (int64), then for each plane its stored length (int64) and its bytes; a stored length
/// equal to the plane's own means that it is stored as it is.</remarks>
public static class WeightDelta
{
    private const int Planes = 4;

    /// <summary>What turns <paramref name="from"/> into <paramref name="to"/>.</summary>
    /// <param name="from">The base, as long as <paramref name="to"/>.</param>
    /// <param name="to">The new blob.</param>
    public static byte[] Encode(ReadOnlySpan<byte> from, ReadOnlySpan<byte> to)
    {
        if (from.Length != to.Length) throw new ArgumentException("A delta is between blobs of one length.", nameof(from));
        var difference = new byte[to.Length];
        TensorPrimitives.Xor(from, to, difference);
        using var output = new MemoryStream();
        Span<byte> number = stackalloc byte[sizeof(long)];
        BinaryPrimitives.WriteInt64LittleEndian(number, to.Length);
        output.Write(number);
        for (var plane = 0; plane < Planes; plane++)
        {
            var bytes = new byte[PlaneLength(to.Length, plane)];
            for (int i = 0, at = plane; i < bytes.Length; i++, at += Planes) bytes[i] = difference[at];
            var packed = Deflate(bytes);
            if (packed.Length >= bytes.Length) packed = bytes;
            BinaryPrimitives.WriteInt64LittleEndian(number, packed.Length);
            output.Write(number);
            output.Write(packed);
        }

        return output.ToArray();
    }

    /// <summary>The blob that a delta leads to.</summary>
    /// <param name="from">The base the delta was made against.</param>
    /// <param name="delta">What <see cref="Encode"/> gave.</param>
    /// <exception cref="InvalidDataException">The delta is malformed or belongs to a base of another length.</exception>
    public static byte[] Apply(ReadOnlySpan<byte> from, ReadOnlySpan<byte> delta)
    {
        if (Number(ref delta) != from.Length) throw new InvalidDataException("The delta belongs to a base of another length.");
        var result = new byte[from.Length];
        for (var plane = 0; plane < Planes; plane++)
        {
            var stored = Number(ref delta);
            var length = PlaneLength(from.Length, plane);
            if (stored < 0 || stored > length || stored > delta.Length) throw new InvalidDataException("The delta is cut short or malformed.");
            var packed = delta[..(int)stored];
            delta = delta[(int)stored..];
            var bytes = stored == length ? packed : Inflate(packed, length);
            for (int i = 0, at = plane; i < bytes.Length; i++, at += Planes) result[at] = bytes[i];
        }

        if (delta.Length > 0) throw new InvalidDataException("The delta goes on after its end.");
        TensorPrimitives.Xor<byte>(result, from, result);
        return result;
    }

    private static int PlaneLength(int length, int plane) => (length - plane + Planes - 1) / Planes;

    private static long Number(ref ReadOnlySpan<byte> from)
    {
        if (from.Length < sizeof(long)) throw new InvalidDataException("The delta is cut short.");
        var number = BinaryPrimitives.ReadInt64LittleEndian(from);
        from = from[sizeof(long)..];
        return number;
    }

    private static byte[] Deflate(byte[] bytes)
    {
        using var output = new MemoryStream();
        using (var deflate = new DeflateStream(output, CompressionLevel.Fastest, leaveOpen: true)) deflate.Write(bytes);
        return output.ToArray();
    }

    private static byte[] Inflate(ReadOnlySpan<byte> packed, int length)
    {
        var bytes = new byte[length];
        try
        {
            using var deflate = new DeflateStream(new MemoryStream(packed.ToArray()), CompressionMode.Decompress);
            deflate.ReadExactly(bytes);
            if (deflate.ReadByte() >= 0) throw new InvalidDataException("A plane of the delta is longer than it must be.");
        }
        catch (EndOfStreamException e)
        {
            throw new InvalidDataException("A plane of the delta is shorter than it must be.", e);
        }

        return bytes;
    }
}
