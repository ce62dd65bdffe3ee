// Keeps: bytes of a blob never change once it is made; no piece of memory it lies in is larger than a segment, so that its length is bounded
// by memory and not by what one array can hold (2 GiB; a model of 7 billion parameters takes 15 GB in bfloat16).
using System.Security.Cryptography;

namespace Mem1.Protocol;

/// <summary>An immutable sequence of bytes of any length, in segments. Thread-safe.</summary>
public sealed class ByteBlob
{
    /// <summary>
    /// Size of segments: a small part of a large model, so that memory comes and goes in steps, and large enough that nothing is noticed of
    /// their borders.
    /// </summary>
    public const int StandardSegmentBytes = 64 << 20;

    // Hashing takes this much at a time; any size will do.
    private const int HashedAtOnce = 1 << 20;

    private readonly ReadOnlyMemory<byte>[] _segments;
    private readonly long[] _starts;

    /// <summary>Joins segments, none of which may be written to any more.</summary>
    /// <param name="segments">In order; empty ones are left out.</param>
    public ByteBlob(IEnumerable<ReadOnlyMemory<byte>> segments)
    {
        _segments = [.. segments.Where(s => !s.IsEmpty)];
        _starts = new long[_segments.Length];
        for (var i = 0; i < _segments.Length; i++)
        {
            _starts[i] = Length;
            Length += _segments[i].Length;
        }
    }

    /// <summary>In bytes.</summary>
    public long Length { get; }

    /// <summary>The segments in order.</summary>
    public IReadOnlyList<ReadOnlyMemory<byte>> Segments => _segments;

    /// <summary>A blob of one segment, which may not be written to any more.</summary>
    public static ByteBlob Of(ReadOnlyMemory<byte> bytes) => new([bytes]);

    /// <summary>What begins at an offset and lies in one segment.</summary>
    /// <param name="offset">0 to <see cref="Length"/>.</param>
    /// <param name="most">Of the result; it is shorter at the end of a segment, and empty only at the end of the blob.</param>
    public ReadOnlyMemory<byte> At(long offset, int most)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(offset, Length);
        ArgumentOutOfRangeException.ThrowIfLessThan(most, 1);
        if (offset == Length) return default;
        var found = Array.BinarySearch(_starts, offset);
        var segment = found >= 0 ? found : ~found - 1;
        var rest = _segments[segment][(int)(offset - _starts[segment])..];
        return rest.Length > most ? rest[..most] : rest;
    }

    /// <summary>A part as one piece of memory: a copy where it goes over the end of a segment.</summary>
    /// <param name="offset">Of its first byte.</param>
    /// <param name="count">Its length, within the blob.</param>
    public ReadOnlyMemory<byte> Part(long offset, int count)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(count, Length - offset, nameof(count));
        if (count == 0) return default;
        var whole = At(offset, count);
        if (whole.Length == count) return whole;
        var copy = new byte[count];
        for (var done = 0; done < count;)
        {
            var next = At(offset + done, count - done);
            next.Span.CopyTo(copy.AsSpan(done));
            done += next.Length;
        }

        return copy;
    }

    /// <summary>SHA-256 of all of it.</summary>
    public byte[] Sha256()
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        for (long at = 0; at < Length;)
        {
            var next = At(at, HashedAtOnce);
            hash.AppendData(next.Span);
            at += next.Length;
        }

        return hash.GetHashAndReset();
    }

    /// <summary>Reads it from the beginning.</summary>
    public Stream OpenRead() => new BlobReader(_segments, Length, release: false);

    /// <summary>
    /// Reads it from the beginning and lets go of each segment that has been read, so that what is made of it can take its place. The blob
    /// is of no use afterwards: call it as its only owner.
    /// </summary>
    public Stream Consume() => new BlobReader(_segments, Length, release: true);

    private sealed class BlobReader(ReadOnlyMemory<byte>[] segments, long length, bool release) : Stream
    {
        private int _segment, _at;
        private long _position;

        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => false;

        public override long Length => length;

        public override long Position
        {
            get => _position;
            set => throw new NotSupportedException();
        }

        public override int Read(Span<byte> buffer)
        {
            var done = 0;
            while (done < buffer.Length && _segment < segments.Length)
            {
                var rest = segments[_segment].Span[_at..];
                var count = Math.Min(rest.Length, buffer.Length - done);
                rest[..count].CopyTo(buffer[done..]);
                done += count;
                _at += count;
                if (_at < segments[_segment].Length) continue;
                if (release) segments[_segment] = default;
                (_segment, _at) = (_segment + 1, 0);
            }

            _position += done;
            return done;
        }

        public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

        public override void Flush()
        {
        }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
    }
}

/// <summary>Makes a blob of a length that is known: a stream to write to, whose memory can also be filled in place. Not thread-safe.</summary>
/// <param name="length">Of the blob, in bytes.</param>
/// <param name="segmentBytes">Size of its segments.</param>
public sealed class ByteBlobWriter(long length, int segmentBytes = ByteBlob.StandardSegmentBytes) : Stream
{
    private readonly List<byte[]> _segments = [];
    private long _written;
    private int _free; // in the last segment

    /// <inheritdoc/>
    public override bool CanRead => false;

    /// <inheritdoc/>
    public override bool CanSeek => false;

    /// <inheritdoc/>
    public override bool CanWrite => true;

    /// <summary>Of the blob to be.</summary>
    public override long Length => length;

    /// <summary>Bytes written so far.</summary>
    public override long Position
    {
        get => _written;
        set => throw new NotSupportedException();
    }

    /// <summary>Where the next bytes go: at least one unless all are there. A segment's memory is taken when its first byte is due.</summary>
    /// <param name="most">Of the result.</param>
    public Memory<byte> Free(int most)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(most, 1);
        if (_written == length) return default;
        if (_free == 0)
        {
            _free = (int)Math.Min(segmentBytes, length - _written);
            _segments.Add(GC.AllocateUninitializedArray<byte>(_free));
        }

        return _segments[^1].AsMemory(_segments[^1].Length - _free, Math.Min(_free, most));
    }

    /// <summary>So many bytes of what <see cref="Free"/> gave have been written.</summary>
    public void Advance(int count)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(count, _free);
        _free -= count;
        _written += count;
    }

    /// <summary>Whether the last byte written is the last one of a segment; also before the first byte.</summary>
    public bool IsAtBorder => _free == 0;

    /// <summary>What was written last; not to be written to.</summary>
    /// <param name="count">Bytes of it, all in the segment of the last one.</param>
    public ReadOnlyMemory<byte> Last(int count) => _segments[^1].AsMemory(_segments[^1].Length - _free - count, count);

    /// <inheritdoc/>
    /// <exception cref="InvalidOperationException">There are more bytes than were announced.</exception>
    public override void Write(ReadOnlySpan<byte> buffer)
    {
        if (buffer.Length > length - _written) throw new InvalidOperationException($"More than the announced {length} bytes are written.");
        while (buffer.Length > 0)
        {
            var free = Free(buffer.Length);
            buffer[..free.Length].CopyTo(free.Span);
            Advance(free.Length);
            buffer = buffer[free.Length..];
        }
    }

    /// <inheritdoc/>
    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    /// <summary>The blob; nothing may be written any more.</summary>
    /// <exception cref="InvalidOperationException">Bytes are missing.</exception>
    public ByteBlob Finish()
    {
        if (_written != length) throw new InvalidOperationException($"{_written} of the announced {length} bytes are written.");
        return new ByteBlob(_segments.Select(s => (ReadOnlyMemory<byte>)s));
    }

    /// <inheritdoc/>
    public override void Flush()
    {
    }

    /// <inheritdoc/>
    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override void SetLength(long value) => throw new NotSupportedException();
}
