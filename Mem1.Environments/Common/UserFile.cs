// Invariants: a file of the user that cannot be read leaves as DataFormatException; a file that is written appears under its name
// complete or not at all.

namespace Mem1.Environments.Common;

/// <summary>Files named by the user.</summary>
internal static class UserFile
{
    public static FileStream Open(string file, string kind)
    {
        try
        {
            if (Directory.Exists(file))
                throw new DataFormatException(file, $"the {kind} is a folder, not a file");
            return new FileStream(file, FileMode.Open, FileAccess.Read, FileShare.Read, 1, FileOptions.SequentialScan);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new DataFormatException(file, $"the {kind} does not exist", inner: e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new DataFormatException(file, $"the {kind} cannot be read ({e.GetType().Name})", inner: e);
        }
    }

    /// <summary>Writes files aside, syncs them to the disk and renames them when all are complete.</summary>
    /// <exception cref="IOException">One cannot be written; nothing has changed.</exception>
    public static void WriteWhole(params ReadOnlySpan<(string File, Action<Stream> Write)> files)
    {
        try
        {
            foreach ((string file, Action<Stream> write) in files)
            {
                try
                {
                    using var stream = new FileStream(Aside(file), FileMode.Create, FileAccess.Write, FileShare.None);
                    write(stream);
                    stream.Flush(flushToDisk: true);
                }
                catch (Exception e) when (e is IOException or UnauthorizedAccessException)
                {
                    throw new IOException($"{file} cannot be written: {e.Message}", e);
                }
            }
            foreach ((string file, _) in files)
                File.Move(Aside(file), file, overwrite: true);
        }
        finally
        {
            foreach ((string file, _) in files)
            {
                if (File.Exists(Aside(file)))
                    File.Delete(Aside(file));
            }
        }
    }

    private static string Aside(string file) => file + ".partial";
}
