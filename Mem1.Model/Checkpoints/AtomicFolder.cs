// Invariant: the folder appears under its name complete or not at all; an existing one of that name is replaced only by a whole one.
namespace Mem1.Model.Checkpoints;

/// <summary>Replaces whole folders: written beside, then renamed.</summary>
internal static class AtomicFolder
{
    public static void Write(string folder, Action<string> write)
    {
        string full = Path.TrimEndingDirectorySeparator(Path.GetFullPath(folder));
        string aside = full + ".part";
        string old = full + ".old";
        Directory.CreateDirectory(Path.GetDirectoryName(full)!);
        DeleteIfThere(aside);
        try
        {
            Directory.CreateDirectory(aside);
            write(aside);
            DeleteIfThere(old);
            if (Directory.Exists(full))
                Directory.Move(full, old);
            Directory.Move(aside, full);
            DeleteIfThere(old);
        }
        catch
        {
            if (!Directory.Exists(full) && Directory.Exists(old))
                Directory.Move(old, full);
            DeleteIfThere(aside);
            throw;
        }
    }

    private static void DeleteIfThere(string folder)
    {
        if (Directory.Exists(folder))
            Directory.Delete(folder, recursive: true);
    }
}
