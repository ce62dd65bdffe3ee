// Keeps: after Flush returns, the names in a folder are on the disk as they are now, where the system has a way to ask for that.
using System.Runtime.InteropServices;

namespace Mem1.Model.Checkpoints;

/// <summary>Makes creations and renames within a folder last beyond a power failure.</summary>
public static partial class DirectoryFlush
{
    private const int ReadOnly = 0, NoSpaceLeft = 28, InputOutputError = 5;

    /// <summary>Flushes a folder's entries to the disk. Windows keeps its folders in a journal and has no such call: nothing is done there.</summary>
    /// <param name="folder">An existing folder.</param>
    /// <exception cref="IOException">The disk refused.</exception>
    public static void Flush(string folder)
    {
        if (OperatingSystem.IsWindows()) return;
        var handle = Open(folder, ReadOnly);
        if (handle < 0) throw new IOException($"{folder} could not be opened to be flushed (error {Marshal.GetLastPInvokeError()})");
        try
        {
            // Some file systems (FUSE, some network ones) refuse to sync a folder with EINVAL and the like: they have nothing to flush.
            if (Sync(handle) != 0 && Marshal.GetLastPInvokeError() is (NoSpaceLeft or InputOutputError) and var error)
                throw new IOException($"{folder} could not be flushed to the disk (error {error})");
        }
        finally
        {
            _ = Close(handle);
        }
    }

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Open(string path, int flags);

    [LibraryImport("libc", EntryPoint = "fsync", SetLastError = true)]
    private static partial int Sync(int handle);

    [LibraryImport("libc", EntryPoint = "close")]
    private static partial int Close(int handle);
}
