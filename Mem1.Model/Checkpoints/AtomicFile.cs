// Invariant: a path written here holds either its old content or all of the new one, also after a crash or a full disk: bytes go to a
// sibling file, reach the disk, and only then take the name.
namespace Mem1.Model.Checkpoints;

/// <summary>Replaces whole files atomically.</summary>
public static class AtomicFile
{
    /// <summary>Writes a file aside, flushes it to the disk and renames it over <paramref name="path"/>.</summary>
    /// <param name="path">Where the content ends up; its folder must exist.</param>
    /// <param name="write">Writes the content.</param>
    /// <exception cref="IOException">The disk refused; the previous content is untouched.</exception>
    public static void Write(string path, Action<Stream> write)
    {
        ArgumentNullException.ThrowIfNull(write);
        string aside = path + ".part";
        try
        {
            using (var stream = new FileStream(aside, FileMode.Create, FileAccess.Write, FileShare.None, 1 << 16))
            {
                write(stream);
                stream.Flush(flushToDisk: true);
            }
            File.Move(aside, path, overwrite: true);
        }
        catch
        {
            TryDelete(aside);
            throw;
        }
    }

    /// <summary>Writes a text file as UTF-8 without a byte-order mark, atomically.</summary>
    /// <param name="path">Where the text ends up.</param>
    /// <param name="text">The whole content.</param>
    public static void WriteText(string path, string text)
    {
        byte[] bytes = new System.Text.UTF8Encoding(false).GetBytes(text);
        Write(path, stream => stream.Write(bytes));
    }

    private static void TryDelete(string path)
    {
        try
        {
            File.Delete(path);
        }
        catch (IOException)
        {
            // The failure that brought us here is the one worth reporting.
        }
        catch (UnauthorizedAccessException)
        {
        }
    }
}
