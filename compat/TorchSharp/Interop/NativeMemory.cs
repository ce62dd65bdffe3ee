// Exact memory counts of the caching CPU allocator. Not part of TorchSharp: for tests and benchmarks of this subset only.
using TorchSharp.Interop;

namespace Mem1.Compat.Native;

/// <summary>Bytes that libtorch's CPU tensors hold.</summary>
/// <param name="LiveBytes">Requested and not yet freed.</param>
/// <param name="PeakBytes">The most LiveBytes since the last reset.</param>
/// <param name="CachedBytes">Freed blocks kept for reuse.</param>
/// <param name="LiveBlocks">Blocks behind LiveBytes.</param>
/// <param name="TotalAllocations">Blocks handed out since the process started.</param>
public readonly record struct NativeMemory(long LiveBytes, long PeakBytes, long CachedBytes, long LiveBlocks, long TotalAllocations)
{
    /// <summary>The counts now.</summary>
    public static NativeMemory Read() => Read(reset: false);

    /// <summary>The counts now; the peak starts again from the live bytes.</summary>
    public static NativeMemory ReadAndResetPeak() => Read(reset: true);

    /// <summary>Gives every cached block back to the system.</summary>
    public static unsafe void Trim()
    {
        NativeApi.Ready();
        NativeApi.TrimMemory();
    }

    private static unsafe NativeMemory Read(bool reset)
    {
        NativeApi.Ready();
        NativeMemoryCounts m;
        NativeApi.ReadMemory(&m, reset ? 1 : 0);
        return new NativeMemory(m.LiveBytes, m.PeakBytes, m.CachedBytes, m.LiveBlocks, m.TotalAllocations);
    }
}
