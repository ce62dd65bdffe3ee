// A growing buffer in a rented array. Invariant: after Release the array is back in the pool and the written memory must not be used.

using System.Buffers;

namespace Grpc.Wire;

internal sealed class PooledBufferWriter : IBufferWriter<byte>
{
    // Big enough for a typical small message with its header, so that an undeclared length rarely grows the array.
    private const int FirstSize = 512;

    private byte[] _array = [];

    public int WrittenCount { get; private set; }

    public Memory<byte> WrittenMemory => _array.AsMemory(0, WrittenCount);

    public Span<byte> WrittenSpan => _array.AsSpan(0, WrittenCount);

    public void Advance(int count)
    {
        if (count < 0 || count > _array.Length - WrittenCount)
            throw new ArgumentOutOfRangeException(nameof(count));
        WrittenCount += count;
    }

    public Memory<byte> GetMemory(int sizeHint = 0)
    {
        Reserve(Math.Max(sizeHint, 1));
        return _array.AsMemory(WrittenCount);
    }

    public Span<byte> GetSpan(int sizeHint = 0)
    {
        Reserve(Math.Max(sizeHint, 1));
        return _array.AsSpan(WrittenCount);
    }

    /// <summary>Makes room for so many more bytes.</summary>
    public void Reserve(int more)
    {
        var needed = (long)WrittenCount + more;
        if (needed <= _array.Length)
            return;
        if (needed > Array.MaxLength)
            throw new OutOfMemoryException($"A message of more than {Array.MaxLength} bytes does not fit into one array.");
        var size = WrittenCount == 0 ? Math.Max(needed, FirstSize) : Math.Min(Math.Max(needed, 2L * _array.Length), Array.MaxLength);
        var larger = ArrayPool<byte>.Shared.Rent((int)size);
        WrittenSpan.CopyTo(larger);
        if (_array.Length > 0)
            ArrayPool<byte>.Shared.Return(_array);
        _array = larger;
    }

    public void Release()
    {
        if (_array.Length > 0)
            ArrayPool<byte>.Shared.Return(_array);
        _array = [];
        WrittenCount = 0;
    }
}
