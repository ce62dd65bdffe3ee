// Invariants of a parsed header: names are unique; every dtype is one we read; every range lies inside the data section, has exactly the
// length its shape and dtype ask for, and no two ranges overlap. Nothing is allocated from a length that was not checked against the
// length of the input first. Format: 8 bytes little-endian header length, UTF-8 JSON object, tensor bytes.
using System.Text;
using System.Text.Json;

namespace Mem1.Model.Checkpoints;

/// <summary>Element types this project reads; all become float32.</summary>
internal enum TensorDtype
{
    F32,
    BF16,
    F16,
}

/// <summary>One tensor of a header. Offsets count from the start of the data section.</summary>
internal sealed record TensorEntry(string Name, TensorDtype Dtype, long[] Shape, long Begin, long End, int Count);

internal static class SafetensorsHeader
{
    /// <summary>The format's own limit on the header, 100 MB; a longer one is damage or an attack.</summary>
    private const long MaxHeaderBytes = 100_000_000;

    /// <summary>Deeper nesting than {tensor: {shape: []}} does not occur.</summary>
    private const int MaxDepth = 8;

    public static int BytesPerElement(TensorDtype dtype) => dtype == TensorDtype.F32 ? 4 : 2;

    /// <summary>Checks the eight length bytes.</summary>
    public static int HeaderLength(ReadOnlySpan<byte> prefix, long totalBytes, string file)
    {
        if (prefix.Length < 8)
            throw new CheckpointException($"{file} is not a safetensors file: it has {prefix.Length} bytes and its header length takes 8.");
        ulong length = System.Buffers.Binary.BinaryPrimitives.ReadUInt64LittleEndian(prefix);
        if (length > (ulong)MaxHeaderBytes || (long)length > totalBytes - 8)
        {
            throw new CheckpointException(
                $"{file} is not a whole safetensors file: its header claims {length} bytes and the file has {totalBytes - 8} after it.");
        }
        return (int)length;
    }

    public static List<TensorEntry> Parse(ReadOnlySpan<byte> json, long dataBytes, string file)
    {
        var entries = new List<TensorEntry>();
        var names = new HashSet<string>(StringComparer.Ordinal);
        try
        {
            var reader = new Utf8JsonReader(json, new JsonReaderOptions { MaxDepth = MaxDepth });
            if (!reader.Read() || reader.TokenType != JsonTokenType.StartObject)
                throw new CheckpointException($"{file} has a safetensors header that is not a JSON object.");
            while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
            {
                string name = reader.GetString()!;
                if (!names.Add(name))
                    throw new CheckpointException($"{file} has the tensor \"{Shown(name)}\" twice in its header.");
                reader.Read();
                if (name == "__metadata__")
                    SkipMetadata(ref reader, file);
                else
                    entries.Add(ReadEntry(ref reader, name, dataBytes, file));
            }
            while (reader.Read())
            {
                // Only white space (padding to eight bytes) may follow the object; the reader throws on anything else.
            }
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or FormatException or DecoderFallbackException)
        {
            throw new CheckpointException($"{file} has a safetensors header that is not valid JSON: {FirstSentence(e.Message)}.", e);
        }
        RequireCover(entries, dataBytes, file);
        return entries;
    }

    private static void SkipMetadata(ref Utf8JsonReader reader, string file)
    {
        if (reader.TokenType != JsonTokenType.StartObject)
            throw new CheckpointException($"{file} has a \"__metadata__\" that is not an object.");
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            reader.Read();
            if (reader.TokenType != JsonTokenType.String)
                throw new CheckpointException($"{file} has a \"__metadata__\" value that is not a string.");
        }
    }

    private static TensorEntry ReadEntry(ref Utf8JsonReader reader, string name, long dataBytes, string file)
    {
        string where = $"{file}, tensor \"{Shown(name)}\"";
        if (reader.TokenType != JsonTokenType.StartObject)
            throw new CheckpointException($"{where}: its header entry is not an object.");
        string? dtypeName = null;
        List<long>? shape = null;
        List<long>? offsets = null;
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            string key = reader.GetString()!;
            reader.Read();
            bool seen = key switch { "dtype" => dtypeName is not null, "shape" => shape is not null, _ => offsets is not null };
            if (key is "dtype" or "shape" or "data_offsets" && seen)
                throw new CheckpointException($"{where}: the key \"{key}\" stands twice.");
            switch (key)
            {
                case "dtype" when reader.TokenType == JsonTokenType.String:
                    dtypeName = reader.GetString();
                    break;
                case "shape":
                    shape = ReadSizes(ref reader, where, key);
                    break;
                case "data_offsets":
                    offsets = ReadSizes(ref reader, where, key);
                    break;
                default:
                    throw new CheckpointException($"{where}: the key \"{Shown(key)}\" is unknown or of the wrong type.");
            }
        }
        if (dtypeName is null || shape is null || offsets is not { Count: 2 })
            throw new CheckpointException($"{where}: dtype, shape and two data_offsets are needed.");
        TensorDtype dtype = dtypeName switch
        {
            "F32" => TensorDtype.F32,
            "BF16" => TensorDtype.BF16,
            "F16" => TensorDtype.F16,
            _ => throw new CheckpointException($"{where}: dtype {Shown(dtypeName)} is not supported; F32, BF16 and F16 are."),
        };
        long begin = offsets[0], end = offsets[1];
        if (begin > end || end > dataBytes)
            throw new CheckpointException($"{where}: data_offsets [{begin}, {end}] do not lie within the {dataBytes} bytes of data.");
        // Each factor is checked against what the range can hold, so the product cannot overflow and never exceeds the input's size.
        long room = (end - begin) / BytesPerElement(dtype);
        long count = 1;
        foreach (long size in shape)
        {
            if (size != 0 && count > room / size)
                throw new CheckpointException($"{where}: shape [{string.Join(", ", shape)}] needs more than its {end - begin} bytes.");
            count *= size;
        }
        if (count * BytesPerElement(dtype) != end - begin)
        {
            throw new CheckpointException(
                $"{where}: shape [{string.Join(", ", shape)}] of {dtype} takes {count * BytesPerElement(dtype)} bytes and "
                + $"data_offsets give {end - begin}.");
        }
        if (count > Array.MaxLength)
            throw new CheckpointException($"{where}: {count} elements are more than one array can hold ({Array.MaxLength}).");
        return new TensorEntry(name, dtype, [.. shape], begin, end, (int)count);
    }

    private static List<long> ReadSizes(ref Utf8JsonReader reader, string where, string key)
    {
        if (reader.TokenType != JsonTokenType.StartArray)
            throw new CheckpointException($"{where}: {key} is not an array.");
        var sizes = new List<long>();
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            if (reader.TokenType != JsonTokenType.Number || !reader.TryGetInt64(out long size) || size < 0)
                throw new CheckpointException($"{where}: {key} holds something else than whole numbers from 0 up.");
            sizes.Add(size);
            // torch's own limit on dimensions.
            if (sizes.Count > 64)
                throw new CheckpointException($"{where}: {key} has more than 64 numbers.");
        }
        return sizes;
    }

    /// <summary>The format asks for ranges that cover the data section without holes; overlaps would alias tensors.</summary>
    private static void RequireCover(List<TensorEntry> entries, long dataBytes, string file)
    {
        long at = 0;
        foreach (TensorEntry entry in entries.OrderBy(e => e.Begin).ThenBy(e => e.End))
        {
            if (entry.Begin < at)
                throw new CheckpointException($"{file}, tensor \"{Shown(entry.Name)}\": its bytes overlap those of another tensor.");
            if (entry.Begin > at)
            {
                throw new CheckpointException(
                    $"{file}, tensor \"{Shown(entry.Name)}\": {entry.Begin - at} bytes before it belong to no tensor.");
            }
            at = entry.End;
        }
        if (at != dataBytes)
            throw new CheckpointException($"{file} has {dataBytes - at} bytes after its last tensor; it is damaged.");
    }

    /// <summary>Names come from the file: keep what is printed short and printable.</summary>
    internal static string Shown(string text) => Clean(text, 120);

    private static string Clean(string text, int longest)
    {
        string clean = string.Concat(text.Select(c => char.IsControl(c) || char.IsSurrogate(c) ? '?' : c));
        return clean.Length <= longest ? clean : clean[..longest] + "...";
    }

    /// <summary>The runtime's own words, on one line and without what it adds for programmers.</summary>
    internal static string FirstSentence(string message)
    {
        int end = message.IndexOf(". ", StringComparison.Ordinal);
        return Clean((end < 0 ? message : message[..end]).TrimEnd('.'), 400);
    }
}
