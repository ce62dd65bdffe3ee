// Invariants: reading never trusts a length of the file (see SafetensorsHeader) and streams tensor by tensor, so memory is the tensors plus
// one buffer; writing is deterministic (names in ordinal order), so equal weights give equal bytes and hashes.
using System.Buffers.Binary;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;

namespace Mem1.Model.Checkpoints;

/// <summary>How values are stored.</summary>
public enum StoredDtype
{
    /// <summary>IEEE single precision; exact.</summary>
    Float32,
    /// <summary>bfloat16, rounded to nearest even.</summary>
    Bfloat16,
    /// <summary>IEEE half precision, rounded to nearest even; a value beyond 65504 is refused.</summary>
    Float16,
}

/// <summary>Reads and writes the safetensors format (F32, BF16 and F16, in and out).</summary>
public static class Safetensors
{
    private const int BufferBytes = 1 << 20;

    // Values of float32 read or written in one call.
    private const int LargestPart = 1 << 28;

    /// <summary>Reads every tensor of a file as float32.</summary>
    /// <param name="path">A .safetensors file.</param>
    /// <exception cref="CheckpointException">The file is missing, unreadable or malformed.</exception>
    public static ModelWeights Read(string path)
    {
        try
        {
            using var stream = new FileStream(
                path, FileMode.Open, FileAccess.Read, FileShare.Read, BufferBytes, FileOptions.SequentialScan);
            return Read(stream, stream.Length, path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new CheckpointException($"{path} could not be read: {SafetensorsHeader.FirstSentence(e.Message)}.", e);
        }
    }

    /// <summary>Reads every tensor of a blob as float32.</summary>
    /// <param name="bytes">What <see cref="ToBytes"/> wrote.</param>
    /// <param name="name">What errors call the blob.</param>
    /// <exception cref="CheckpointException">The blob is malformed.</exception>
    public static ModelWeights FromBytes(byte[] bytes, string name = "weight blob")
    {
        ArgumentNullException.ThrowIfNull(bytes);
        using var stream = new MemoryStream(bytes, writable: false);
        return Read(stream, bytes.LongLength, name);
    }

    /// <summary>Reads every tensor of a stream as float32.</summary>
    /// <param name="stream">Positioned at the header length.</param>
    /// <param name="totalBytes">Bytes from there to the end of the file; bounds every allocation.</param>
    /// <param name="name">What errors call the stream.</param>
    /// <exception cref="CheckpointException">The content is malformed or ends early.</exception>
    public static ModelWeights Read(Stream stream, long totalBytes, string name)
    {
        ArgumentNullException.ThrowIfNull(stream);
        byte[] prefix = new byte[(int)Math.Clamp(totalBytes, 0, 8)];
        Fill(stream, prefix, name);
        byte[] header = new byte[SafetensorsHeader.HeaderLength(prefix, totalBytes, name)];
        Fill(stream, header, name);
        List<TensorEntry> entries = SafetensorsHeader.Parse(header, totalBytes - 8 - header.Length, name);

        var tensors = new SortedDictionary<string, WeightTensor>(StringComparer.Ordinal);
        byte[] buffer = [];
        foreach (TensorEntry entry in entries.OrderBy(e => e.Begin).ThenBy(e => e.End))
        {
            float[] data = GC.AllocateUninitializedArray<float>(entry.Count);
            if (entry.Dtype == TensorDtype.F32 && BitConverter.IsLittleEndian)
            {
                for (int done = 0, part; done < data.Length; done += part)
                {
                    part = Math.Min(LargestPart, data.Length - done);
                    Fill(stream, MemoryMarshal.AsBytes(data.AsSpan(done, part)), name);
                }
            }
            else
            {
                if (buffer.Length == 0)
                    buffer = new byte[BufferBytes];
                int size = SafetensorsHeader.BytesPerElement(entry.Dtype);
                for (int done = 0; done < data.Length;)
                {
                    int step = Math.Min(data.Length - done, BufferBytes / size);
                    Span<byte> raw = buffer.AsSpan(0, step * size);
                    Fill(stream, raw, name);
                    Widen(entry.Dtype, raw, data.AsSpan(done, step));
                    done += step;
                }
            }
            tensors.Add(entry.Name, new WeightTensor(entry.Shape, data));
        }
        return new ModelWeights(tensors);
    }

    /// <summary>Writes a file atomically.</summary>
    /// <param name="path">Where; the folder must exist.</param>
    /// <param name="weights">What.</param>
    /// <param name="dtype">How values are stored.</param>
    /// <exception cref="IOException">The disk refused; the previous file is untouched.</exception>
    public static void Write(string path, IWeightSource weights, StoredDtype dtype = StoredDtype.Float32) =>
        AtomicFile.Write(path, stream => Write(stream, weights, dtype));

    /// <summary>The same bytes as <see cref="Write(string, IWeightSource, StoredDtype)"/> puts into a file.</summary>
    /// <param name="weights">What.</param>
    /// <param name="dtype">How values are stored.</param>
    public static byte[] ToBytes(IWeightSource weights, StoredDtype dtype = StoredDtype.Float32)
    {
        var bytes = new byte[Measure(weights, dtype)];
        using var stream = new MemoryStream(bytes);
        Write(stream, weights, dtype);
        return bytes;
    }

    /// <summary>How many bytes <see cref="Write(Stream, IWeightSource, StoredDtype)"/> writes.</summary>
    /// <param name="weights">What; no tensor is read.</param>
    /// <param name="dtype">How values are stored.</param>
    public static long Measure(IWeightSource weights, StoredDtype dtype = StoredDtype.Float32)
    {
        ArgumentNullException.ThrowIfNull(weights);
        return sizeof(ulong) + Header(weights.Shapes, dtype).LongLength + weights.Shapes.Sum(t => Count(t.Value) * BytesPerElement(dtype));
    }

    /// <summary>Writes to a stream.</summary>
    /// <param name="stream">Receives the whole file.</param>
    /// <param name="weights">What; each tensor is read once, in ordinal order of the names, and let go of before the next one.</param>
    /// <param name="dtype">How values are stored.</param>
    /// <exception cref="ArgumentException">A tensor has another number of values than its shape.</exception>
    public static void Write(Stream stream, IWeightSource weights, StoredDtype dtype = StoredDtype.Float32)
    {
        ArgumentNullException.ThrowIfNull(stream);
        ArgumentNullException.ThrowIfNull(weights);
        byte[] header = Header(weights.Shapes, dtype);
        Span<byte> prefix = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(prefix, (ulong)header.Length);
        stream.Write(prefix);
        stream.Write(header);
        byte[] buffer = [];
        foreach ((string name, IReadOnlyList<long> shape) in Ordered(weights.Shapes))
        {
            float[] data = weights.Read(name);
            if (Count(shape) != data.LongLength)
            {
                throw new ArgumentException(
                    $"tensor {name} has shape [{string.Join(", ", shape)}] and {data.Length} values.", nameof(weights));
            }
            if (dtype == StoredDtype.Float32 && BitConverter.IsLittleEndian)
            {
                // In parts: as bytes, what an array of floats can hold may be more than a span can.
                for (int done = 0, part; done < data.Length; done += part)
                {
                    part = Math.Min(LargestPart, data.Length - done);
                    stream.Write(MemoryMarshal.AsBytes(data.AsSpan(done, part)));
                }
                continue;
            }
            if (buffer.Length == 0)
                buffer = new byte[BufferBytes];
            int size = BytesPerElement(dtype);
            for (int done = 0; done < data.Length;)
            {
                int step = Math.Min(data.Length - done, BufferBytes / size);
                Narrow(name, dtype, data.AsSpan(done, step), buffer);
                stream.Write(buffer, 0, step * size);
                done += step;
            }
        }
    }

    private static IEnumerable<KeyValuePair<string, IReadOnlyList<long>>> Ordered(
        IReadOnlyDictionary<string, IReadOnlyList<long>> shapes) => shapes.OrderBy(t => t.Key, StringComparer.Ordinal);

    private static long Count(IReadOnlyList<long> shape) => shape.Aggregate(1L, (product, size) => product * size);

    private static byte[] Header(IReadOnlyDictionary<string, IReadOnlyList<long>> shapes, StoredDtype dtype)
    {
        using var json = new MemoryStream();
        using (var writer = new Utf8JsonWriter(json))
        {
            writer.WriteStartObject();
            writer.WriteStartObject("__metadata__");
            // Readers of the format take "pt" to mean row-major tensors as torch has them.
            writer.WriteString("format", "pt");
            writer.WriteEndObject();
            long at = 0;
            foreach ((string name, IReadOnlyList<long> shape) in Ordered(shapes))
            {
                writer.WriteStartObject(name);
                writer.WriteString("dtype", dtype switch
                {
                    StoredDtype.Float32 => "F32",
                    StoredDtype.Bfloat16 => "BF16",
                    _ => "F16",
                });
                writer.WriteStartArray("shape");
                foreach (long size in shape)
                    writer.WriteNumberValue(size);
                writer.WriteEndArray();
                writer.WriteStartArray("data_offsets");
                writer.WriteNumberValue(at);
                at += Count(shape) * BytesPerElement(dtype);
                writer.WriteNumberValue(at);
                writer.WriteEndArray();
                writer.WriteEndObject();
            }
            writer.WriteEndObject();
        }
        // Spaces up to a multiple of eight keep the data aligned, which the format allows and readers like.
        int padding = (int)((8 - (json.Length % 8)) % 8);
        json.Write(Encoding.ASCII.GetBytes(new string(' ', padding)));
        return json.ToArray();
    }

    private static void Fill(Stream stream, Span<byte> target, string name)
    {
        int got = stream.ReadAtLeast(target, target.Length, throwOnEndOfStream: false);
        if (got < target.Length)
            throw new CheckpointException($"{name} ends {target.Length - got} bytes too early.");
    }

    private static void Widen(TensorDtype dtype, ReadOnlySpan<byte> raw, Span<float> data)
    {
        if (dtype == TensorDtype.BF16 && BitConverter.IsLittleEndian)
        {
            BFloat16.Widen(MemoryMarshal.Cast<byte, ushort>(raw), data);
            return;
        }
        for (int i = 0; i < data.Length; i++)
        {
            data[i] = dtype switch
            {
                TensorDtype.F32 => BinaryPrimitives.ReadSingleLittleEndian(raw[(4 * i)..]),
                TensorDtype.BF16 => BFloat16.Widen(BinaryPrimitives.ReadUInt16LittleEndian(raw[(2 * i)..])),
                _ => (float)BinaryPrimitives.ReadHalfLittleEndian(raw[(2 * i)..]),
            };
        }
    }

    private static void Narrow(string name, StoredDtype dtype, ReadOnlySpan<float> data, Span<byte> raw)
    {
        if (dtype == StoredDtype.Bfloat16 && BitConverter.IsLittleEndian)
        {
            BFloat16.Narrow(data, MemoryMarshal.Cast<byte, ushort>(raw));
            return;
        }
        for (int i = 0; i < data.Length; i++)
        {
            switch (dtype)
            {
                case StoredDtype.Float32:
                    BinaryPrimitives.WriteSingleLittleEndian(raw[(4 * i)..], data[i]);
                    break;
                case StoredDtype.Bfloat16:
                    BinaryPrimitives.WriteUInt16LittleEndian(raw[(2 * i)..], BFloat16.Narrow(data[i]));
                    break;
                default:
                    var half = (Half)data[i];
                    if (Half.IsInfinity(half) && float.IsFinite(data[i]))
                    {
                        throw new CheckpointException(string.Create(CultureInfo.InvariantCulture,
                            $"tensor {name} holds {data[i]}, which float16 cannot; store it as bfloat16 or float32."));
                    }
                    BinaryPrimitives.WriteHalfLittleEndian(raw[(2 * i)..], half);
                    break;
            }
        }
    }

    internal static int BytesPerElement(StoredDtype dtype) => dtype == StoredDtype.Float32 ? 4 : 2;
}
