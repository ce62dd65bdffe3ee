using System.Runtime.InteropServices;

namespace Mem1.Model.Decoding;

/// <summary>
/// Floats outside the managed heap, zeroed, aligned to a cache line. Freed by Dispose or, failing that, by the finaliser: whoever keeps the
/// pointer must keep the buffer too.
/// </summary>
internal sealed unsafe class NativeBuffer : IDisposable
{
    /// <summary>A cache line, and the widest vector.</summary>
    private const int Alignment = 64;

    private float* _data;
    private readonly long _bytes;

    public NativeBuffer(long floats)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(floats);
        Length = floats;
        _bytes = checked(Math.Max(floats, 1) * sizeof(float));
        _data = (float*)NativeMemory.AlignedAlloc((nuint)_bytes, Alignment);
        NativeMemory.Clear(_data, (nuint)_bytes);
        GC.AddMemoryPressure(_bytes);
    }

    ~NativeBuffer() => Free();

    public long Length { get; }

    public float* Data => _data;

    public void Dispose()
    {
        Free();
        GC.SuppressFinalize(this);
    }

    private void Free()
    {
        if (_data is null)
            return;
        NativeMemory.AlignedFree(_data);
        _data = null;
        GC.RemoveMemoryPressure(_bytes);
    }
}
