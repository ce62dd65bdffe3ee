// Invariants: what comes out are the file's bytes, unpacked when the file is gzip whatever its name; a gzip file that ends too early is
// an error and never a short file (GZipStream takes the end of the data for the end of the file); the hash covers the file as it lies
// on the disk.

using System.Buffers.Binary;
using System.IO.Compression;
using System.Security.Cryptography;

namespace Mem1.Environments.Common;

/// <summary>A data file of the user, read from its beginning to its end. Not thread-safe.</summary>
internal sealed class DataStream : IDisposable
{
    // Length and checksum at the end of a gzip file (RFC 1952, section 2.3.1); the smallest whole file has 20 bytes.
    private const int GzipTrailer = 8, SmallestGzip = 20;

    private readonly string _file;
    private readonly RawStream _raw;
    private readonly GZipStream? _gzip;
    private readonly uint _unpackedLength;
    private uint _unpacked;

    private DataStream(string file, Stream stream, bool hash)
    {
        _file = file;
        Span<byte> head = stackalloc byte[2];
        bool gzip = stream.ReadAtLeast(head, 2, throwOnEndOfStream: false) == 2 && head is [0x1F, 0x8B];
        if (gzip)
        {
            if (stream.Length < SmallestGzip)
                throw CutOff(null);
            Span<byte> trailer = stackalloc byte[GzipTrailer];
            stream.Position = stream.Length - GzipTrailer;
            stream.ReadExactly(trailer);
            _unpackedLength = BinaryPrimitives.ReadUInt32LittleEndian(trailer[4..]);
        }
        stream.Position = 0;
        _raw = new RawStream(stream, hash);
        _gzip = gzip ? new GZipStream(_raw, CompressionMode.Decompress) : null;
    }

    /// <summary>Bytes of the file read so far.</summary>
    public long FileBytes => _raw.BytesRead;

    /// <summary>Length of the file.</summary>
    public long FileLength => _raw.Length;

    /// <summary>Opens a file.</summary>
    /// <param name="file">Its path.</param>
    /// <param name="kind">What it is, for messages: "task file", say.</param>
    /// <param name="hash">Whether to compute the SHA-256 of its bytes on the way.</param>
    /// <exception cref="DataFormatException">It cannot be opened.</exception>
    public static DataStream Open(string file, string kind, bool hash = false)
    {
        FileStream stream = UserFile.Open(file, kind);
        try
        {
            return new DataStream(file, stream, hash);
        }
        catch (Exception e)
        {
            stream.Dispose();
            if (e is IOException or NotSupportedException)
                throw new DataFormatException(file, $"the {kind} cannot be read ({e.GetType().Name})", inner: e);
            throw;
        }
    }

    /// <summary>Data in memory.</summary>
    public static DataStream Of(string file, byte[] data) => new(file, new MemoryStream(data, writable: false), hash: false);

    /// <summary>Reads some bytes; 0 at the end of the file.</summary>
    /// <param name="into">Where to; not empty.</param>
    /// <param name="line">The line that is read, for messages; null when lines say nothing.</param>
    /// <exception cref="DataFormatException">The file cannot be read or unpacked further.</exception>
    public int Read(Span<byte> into, long? line)
    {
        try
        {
            if (_gzip is null)
                return _raw.Read(into);
            int read = _gzip.Read(into);
            _unpacked += (uint)read;
            if (read == 0 && _unpacked != _unpackedLength)
                throw CutOff(line);
            return read;
        }
        catch (InvalidDataException e)
        {
            throw new DataFormatException(_file, "the gzip data is damaged", line, inner: e);
        }
        catch (IOException e)
        {
            throw new DataFormatException(_file, $"the file cannot be read further ({e.GetType().Name})", line, inner: e);
        }
    }

    /// <summary>The hash of everything read, in hexadecimal; call it once, at the end of the file.</summary>
    public string FinishHash() => _raw.FinishHash();

    public void Dispose()
    {
        _gzip?.Dispose();
        _raw.Dispose();
    }

    private DataFormatException CutOff(long? line) => new(
        _file, "the gzip file is cut off (or several were joined into one, which is not read); copy or pack it again", line);

    /// <summary>Counts and hashes what is read.</summary>
    private sealed class RawStream(Stream inner, bool hash) : Stream
    {
        private readonly IncrementalHash? _hash = hash ? IncrementalHash.CreateHash(HashAlgorithmName.SHA256) : null;

        public long BytesRead { get; private set; }

        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => false;

        public override long Length => inner.Length;

        public override long Position { get => BytesRead; set => throw new NotSupportedException(); }

        public override int Read(Span<byte> buffer)
        {
            int read = inner.Read(buffer);
            _hash?.AppendData(buffer[..read]);
            BytesRead += read;
            return read;
        }

        public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

        public string FinishHash()
        {
            // Padding after the gzip data is of the file too.
            Span<byte> rest = stackalloc byte[512];
            while (Read(rest) > 0)
            {
            }
            return Convert.ToHexString(_hash!.GetHashAndReset());
        }

        public override void Flush()
        {
        }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        protected override void Dispose(bool disposing)
        {
            if (disposing)
            {
                inner.Dispose();
                _hash?.Dispose();
            }
            base.Dispose(disposing);
        }
    }
}
