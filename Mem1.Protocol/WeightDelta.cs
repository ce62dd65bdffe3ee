// Keeps: Apply(base, Encode(base, next)) is next, byte for byte; a malformed delta is an InvalidDataException and never costs more memory
// than the length it must have. Beside the result, memory is a few pieces per thread, whatever the length.
using System.Buffers;
using System.Buffers.Binary;
using System.IO.Compression;
using System.Numerics.Tensors;
using System.Runtime.InteropServices;

namespace Mem1.Protocol;

/// <summary>
/// The difference between two versions of a weight blob, piece by piece: XOR against the base, split into the four byte planes of its
/// 32-bit words, each deflated if that makes it smaller. Sign, exponent and upper mantissa of a weight rarely change in one update, so two or
/// three of the four planes are almost all zeros.
/// </summary>
/// <remarks>Layout, little-endian: the length in bytes (int64); then for each piece of 16 MiB (the last is shorter) and each of its planes the
/// plane's stored length (int64) and its bytes; a stored length equal to the plane's own means that it is stored as it is.</remarks>
public static class WeightDelta
{
    // Part of the format. Compression gains nothing from longer pieces, and shorter ones are more work for several threads.
    private const int StandardPiece = 16 << 20;

    private const int Planes = 4;

    // The learner trains meanwhile, and a worker plays: half of the processors are left to that.
    private static readonly ParallelOptions s_half = new() { MaxDegreeOfParallelism = Math.Max(1, Environment.ProcessorCount / 2) };

    /// <summary>What turns <paramref name="from"/> into <paramref name="to"/>.</summary>
    /// <param name="from">The base, as long as <paramref name="to"/>.</param>
    /// <param name="to">The new blob.</param>
    /// <param name="pieceBytes">Another size of pieces than the format's, for tests of their borders.</param>
    public static ByteBlob Encode(ByteBlob from, ByteBlob to, int pieceBytes = StandardPiece)
    {
        if (from.Length != to.Length) throw new ArgumentException("A delta is between blobs of one length.", nameof(from));
        var made = new ReadOnlyMemory<byte>[1 + Count(to.Length, pieceBytes)];
        var head = new byte[sizeof(long)];
        BinaryPrimitives.WriteInt64LittleEndian(head, to.Length);
        made[0] = head;
        Parallel.For(0, made.Length - 1, s_half, piece =>
        {
            var (at, length) = Extent(to.Length, pieceBytes, piece);
            made[piece + 1] = EncodePiece(from.Part(at, length).Span, to.Part(at, length).Span);
        });
        return new ByteBlob(made);
    }

    /// <summary>The blob that a delta leads to.</summary>
    /// <param name="from">The base the delta was made against.</param>
    /// <param name="delta">What <see cref="Encode"/> gave.</param>
    /// <param name="pieceBytes">As given to <see cref="Encode"/>.</param>
    /// <exception cref="InvalidDataException">The delta is malformed or belongs to a base of another length.</exception>
    public static ByteBlob Apply(ByteBlob from, ByteBlob delta, int pieceBytes = StandardPiece)
    {
        long position = 0;
        if (Number(delta, ref position) != from.Length) throw new InvalidDataException("The delta belongs to a base of another length.");
        var pieces = new (long At, int Stored)[Count(from.Length, pieceBytes)][];
        for (var piece = 0; piece < pieces.Length; piece++)
        {
            pieces[piece] = new (long, int)[Planes];
            for (var plane = 0; plane < Planes; plane++)
            {
                var stored = Number(delta, ref position);
                if (stored < 0 || stored > PlaneLength(Extent(from.Length, pieceBytes, piece).Length, plane) || stored > delta.Length - position)
                    throw new InvalidDataException("The delta is cut short or malformed.");
                pieces[piece][plane] = (position, (int)stored);
                position += stored;
            }
        }

        if (position < delta.Length) throw new InvalidDataException("The delta goes on after its end.");
        var made = new ReadOnlyMemory<byte>[pieces.Length];
        try
        {
            Parallel.For(0, pieces.Length, s_half, piece =>
            {
                var (at, length) = Extent(from.Length, pieceBytes, piece);
                made[piece] = ApplyPiece(from.Part(at, length).Span, delta, pieces[piece]);
            });
        }
        catch (AggregateException e) when (e.InnerExceptions.OfType<InvalidDataException>().FirstOrDefault() is { } malformed)
        {
            throw malformed;
        }

        return new ByteBlob(made);
    }

    private static byte[] EncodePiece(ReadOnlySpan<byte> from, ReadOnlySpan<byte> to)
    {
        var difference = ArrayPool<byte>.Shared.Rent(to.Length);
        var bytes = ArrayPool<byte>.Shared.Rent(PlaneLength(to.Length, 0));
        TensorPrimitives.Xor(from, to, difference);
        using var output = new MemoryStream();
        Span<byte> number = stackalloc byte[sizeof(long)];
        for (var plane = 0; plane < Planes; plane++)
        {
            var length = PlaneLength(to.Length, plane);
            for (int i = 0, at = plane; i < length; i++, at += Planes) bytes[i] = difference[at];
            var begin = output.Position;
            output.Write(number);
            using (var deflate = new DeflateStream(output, CompressionLevel.Fastest, leaveOpen: true)) deflate.Write(bytes, 0, length);
            var stored = output.Position - begin - sizeof(long);
            if (stored >= length)
            {
                output.SetLength(begin + sizeof(long));
                output.Write(bytes, 0, length);
                stored = length;
            }

            output.Position = begin;
            BinaryPrimitives.WriteInt64LittleEndian(number, stored);
            output.Write(number);
            output.Position = output.Length;
        }

        ArrayPool<byte>.Shared.Return(difference);
        ArrayPool<byte>.Shared.Return(bytes);
        return output.ToArray();
    }

    private static byte[] ApplyPiece(ReadOnlySpan<byte> from, ByteBlob delta, (long At, int Stored)[] planes)
    {
        var result = GC.AllocateUninitializedArray<byte>(from.Length);
        for (var plane = 0; plane < Planes; plane++)
        {
            var length = PlaneLength(from.Length, plane);
            var packed = delta.Part(planes[plane].At, planes[plane].Stored);
            var bytes = packed.Length == length ? packed.Span : Inflate(packed, length);
            for (int i = 0, at = plane; i < bytes.Length; i++, at += Planes) result[at] = bytes[i];
        }

        TensorPrimitives.Xor<byte>(result, from, result);
        return result;
    }

    private static int Count(long length, int piece) => checked((int)((length + piece - 1) / piece));

    private static (long At, int Length) Extent(long length, int piece, int index)
    {
        var at = (long)index * piece;
        return (at, (int)Math.Min(piece, length - at));
    }

    private static int PlaneLength(int length, int plane) => (length - plane + Planes - 1) / Planes;

    private static long Number(ByteBlob delta, ref long position)
    {
        if (delta.Length - position < sizeof(long)) throw new InvalidDataException("The delta is cut short.");
        var number = BinaryPrimitives.ReadInt64LittleEndian(delta.Part(position, sizeof(long)).Span);
        position += sizeof(long);
        return number;
    }

    private static byte[] Inflate(ReadOnlyMemory<byte> packed, int length)
    {
        var bytes = new byte[length];
        var source = MemoryMarshal.TryGetArray(packed, out var array)
            ? new MemoryStream(array.Array!, array.Offset, array.Count, writable: false)
            : new MemoryStream(packed.ToArray());
        try
        {
            using var deflate = new DeflateStream(source, CompressionMode.Decompress);
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
