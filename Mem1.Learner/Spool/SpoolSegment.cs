// Keeps: what is read is what was written, record for record, up to the first that is not whole: length, checksum and the segment's number
// must all agree, so neither a torn write nor a block of another file is taken for a record.
//
// A file is a header (8 bytes that name the format, 8 of the segment's number), then records: 4 bytes of length, 4 of CRC-32C, payload.
// Numbers are little-endian.
using System.Buffers;
using System.Buffers.Binary;
using System.Numerics;
using System.Runtime.InteropServices;
using Google.Protobuf;
using Mem1.Protocol.V1;

namespace Mem1.Learner;

/// <summary>The format of one file of the spool.</summary>
internal static class SpoolSegment
{
    public const int HeaderBytes = 16;

    private const int RecordHeaderBytes = 8;

    // Far above the largest message that a learner takes from a worker: whatever claims to be longer is not a length.
    private const int MaxRecordBytes = 64 * 1024 * 1024;

    private static readonly byte[] s_format = "mem1spl1"u8.ToArray();

    public static byte[] Header(long number)
    {
        var header = new byte[HeaderBytes];
        s_format.CopyTo(header, 0);
        BinaryPrimitives.WriteInt64LittleEndian(header.AsSpan(8), number);
        return header;
    }

    /// <summary>Appends one record.</summary>
    public static void Write(ArrayBufferWriter<byte> into, SpoolRecord record, long number)
    {
        var length = record.CalculateSize();
        var span = into.GetSpan(RecordHeaderBytes + length)[..(RecordHeaderBytes + length)];
        BinaryPrimitives.WriteInt32LittleEndian(span, length);
        record.WriteTo(span[RecordHeaderBytes..]);
        BinaryPrimitives.WriteUInt32LittleEndian(span[4..], Checksum(span[RecordHeaderBytes..], number));
        into.Advance(RecordHeaderBytes + length);
    }

    /// <summary>Reads every whole record of a file.</summary>
    /// <returns>The records, and how many bytes follow them that are none.</returns>
    /// <exception cref="IOException">The file cannot be read.</exception>
    public static (List<SpoolRecord> Records, long Torn) Read(string path, long number)
    {
        var records = new List<SpoolRecord>();
        using var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, 1 << 16);
        var header = new byte[HeaderBytes];
        if (stream.ReadAtLeast(header, HeaderBytes, throwOnEndOfStream: false) < HeaderBytes || !header.AsSpan().SequenceEqual(Header(number)))
            return (records, stream.Length);
        var whole = stream.Position;
        while (true)
        {
            if (stream.ReadAtLeast(header.AsSpan(0, RecordHeaderBytes), RecordHeaderBytes, throwOnEndOfStream: false) < RecordHeaderBytes) break;
            var length = BinaryPrimitives.ReadInt32LittleEndian(header);
            if (length is <= 0 or > MaxRecordBytes || length > stream.Length - stream.Position) break;
            var payload = new byte[length];
            stream.ReadExactly(payload);
            if (Checksum(payload, number) != BinaryPrimitives.ReadUInt32LittleEndian(header.AsSpan(4))) break;
            try
            {
                records.Add(SpoolRecord.Parser.ParseFrom(payload));
            }
            catch (InvalidProtocolBufferException)
            {
                break; // whole, and yet no record of this release
            }

            whole = stream.Position;
        }

        return (records, stream.Length - whole);
    }

    private static uint Checksum(ReadOnlySpan<byte> payload, long number)
    {
        var crc = BitOperations.Crc32C(BitOperations.Crc32C(uint.MaxValue, (ulong)number), (uint)payload.Length);
        var words = MemoryMarshal.Cast<byte, ulong>(payload);
        foreach (var word in words) crc = BitOperations.Crc32C(crc, word);
        foreach (var rest in payload[(words.Length * sizeof(ulong))..]) crc = BitOperations.Crc32C(crc, rest);
        return ~crc;
    }
}
