// Message compression: every message is its own gzip or zlib stream. Invariant: inflation stops at the size limit, whatever a small message
// claims to hold (grpc-dotnet 2.80 checks the compressed size only).

using System.Buffers;
using System.IO.Compression;
using Grpc.Core;

namespace Grpc.Wire;

internal abstract class MessageEncoding
{
    public const string Identity = "identity";

    public const string AcceptEncoding = "identity,gzip,deflate";

    /// <summary>What a server answers to an encoding it does not know.</summary>
    public const string SupportedEncodings = "gzip,deflate";

    // One page of pool memory per step: small messages take one step, large ones double from here.
    private const int InflateStep = 4096;

    private static readonly MessageEncoding s_gzip = new GzipEncoding();
    private static readonly MessageEncoding s_deflate = new DeflateEncoding();

    public abstract string Name { get; }

    /// <summary>Null for a name that is not known; identity has no encoding object.</summary>
    public static MessageEncoding? Find(string name) => name switch
    {
        "gzip" => s_gzip,
        "deflate" => s_deflate,
        _ => null,
    };

    public void Compress(ReadOnlyMemory<byte> payload, PooledBufferWriter target, CompressionLevel level)
    {
        using var stream = OpenCompressor(new BufferStream(target), level);
        stream.Write(payload.Span);
    }

    /// <summary>The inflated message in a rented buffer that the caller releases.</summary>
    public PooledBufferWriter Decompress(in ReadOnlySequence<byte> payload, int? maxSize)
    {
        var target = new PooledBufferWriter();
        try
        {
            using var stream = OpenDecompressor(new SequenceStream(payload));
            while (true)
            {
                // Exactly at the limit one more byte is asked for, to tell a message that fits from one that does not.
                var room = target.GetSpan(InflateStep);
                if (maxSize is { } limit && room.Length > limit - target.WrittenCount + 1L)
                    room = room[..(limit - target.WrittenCount + 1)];
                var read = stream.Read(room);
                if (read == 0)
                    return target;
                target.Advance(read);
                if (target.WrittenCount > maxSize)
                    throw Framing.ReceivedTooBig();
            }
        }
        catch (Exception e)
        {
            target.Release();
            if (e is RpcException)
                throw;
            throw Framing.Fail(StatusCode.Internal, $"A message is not valid {Name} data: {e.Message}", e);
        }
    }

    protected abstract Stream OpenCompressor(Stream target, CompressionLevel level);

    protected abstract Stream OpenDecompressor(Stream source);

    private sealed class GzipEncoding : MessageEncoding
    {
        public override string Name => "gzip";

        protected override Stream OpenCompressor(Stream target, CompressionLevel level) => new GZipStream(target, level);

        protected override Stream OpenDecompressor(Stream source) => new GZipStream(source, CompressionMode.Decompress);
    }

    /// <summary>What HTTP and gRPC call deflate is the zlib format of RFC 1950.</summary>
    private sealed class DeflateEncoding : MessageEncoding
    {
        public override string Name => "deflate";

        protected override Stream OpenCompressor(Stream target, CompressionLevel level) => new ZLibStream(target, level);

        protected override Stream OpenDecompressor(Stream source) => new ZLibStream(source, CompressionMode.Decompress);
    }

    /// <summary>Writes into a buffer.</summary>
    private sealed class BufferStream(PooledBufferWriter target) : Stream
    {
        public override bool CanRead => false;

        public override bool CanSeek => false;

        public override bool CanWrite => true;

        public override long Length => throw new NotSupportedException();

        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        public override void Write(ReadOnlySpan<byte> buffer)
        {
            buffer.CopyTo(target.GetSpan(buffer.Length));
            target.Advance(buffer.Length);
        }

        public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

        public override void Flush()
        {
        }

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();
    }

    /// <summary>Reads a sequence.</summary>
    private sealed class SequenceStream(ReadOnlySequence<byte> source) : Stream
    {
        private ReadOnlySequence<byte> _rest = source;

        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => false;

        public override long Length => throw new NotSupportedException();

        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        public override int Read(Span<byte> buffer)
        {
            var count = (int)Math.Min(buffer.Length, _rest.Length);
            _rest.Slice(0, count).CopyTo(buffer);
            _rest = _rest.Slice(count);
            return count;
        }

        public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

        public override void Flush()
        {
        }

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();
    }
}
