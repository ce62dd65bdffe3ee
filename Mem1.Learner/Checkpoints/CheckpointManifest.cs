// Keeps: a folder that verifies holds, byte for byte, what was written when it was made; changing, cutting or removing any listed file or
// any byte of the manifest itself is found.
using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace Mem1.Learner;

/// <summary>
/// manifest.txt of a checkpoint: one line per file (SHA-256, length in bytes, name), then a line with the SHA-256 of everything above it.
/// </summary>
internal static class CheckpointManifest
{
    public const string FileName = "manifest.txt";
    private const string Heading = "mem1 checkpoint 1";
    private const string End = "manifest";

    /// <summary>Flushes every file of a folder to the disk and writes the manifest over them, flushed too.</summary>
    public static void Write(string folder)
    {
        var files = new List<(string Name, long Length, string Hash)>();
        foreach (var path in Directory.EnumerateFiles(folder).Order(StringComparer.Ordinal))
        {
            using var stream = new FileStream(path, FileMode.Open, FileAccess.ReadWrite, FileShare.None, 1 << 16);
            files.Add((Path.GetFileName(path), stream.Length, Convert.ToHexStringLower(SHA256.HashData(stream))));
            stream.Flush(flushToDisk: true);
        }

        using var manifest = new FileStream(Path.Combine(folder, FileName), FileMode.Create, FileAccess.Write, FileShare.None);
        manifest.Write(Encoding.UTF8.GetBytes(Text(files)));
        manifest.Flush(flushToDisk: true);
    }

    /// <summary>What is wrong with a folder, naming the file at fault; null when it is whole.</summary>
    public static string? Problem(string folder)
    {
        var path = Path.Combine(folder, FileName);
        try
        {
            if (!File.Exists(path)) return $"{path} is missing";
            if (Parse(File.ReadAllText(path)) is not { } files) return $"{path} is damaged";
            foreach (var (name, length, hash) in files)
            {
                var file = new FileInfo(Path.Combine(folder, name));
                if (!file.Exists) return $"{file.FullName} is missing";
                if (file.Length != length) return $"{file.FullName} has {file.Length} bytes where {length} were written";
                using var stream = file.OpenRead();
                if (Convert.ToHexStringLower(SHA256.HashData(stream)) != hash) return $"{file.FullName} is damaged (its SHA-256 is another)";
            }

            return null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return $"{folder} cannot be read ({e.Message.TrimEnd('.')})";
        }
    }

    private static string Text(IEnumerable<(string Name, long Length, string Hash)> files)
    {
        var text = Heading + "\n" + string.Concat(files.Select(f => string.Create(CultureInfo.InvariantCulture, $"{f.Hash} {f.Length} {f.Name}\n")));
        return $"{text}{Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text)))} {End}\n";
    }

    /// <summary>The files of a manifest, or null when it is not, byte for byte, one that was written here.</summary>
    private static List<(string Name, long Length, string Hash)>? Parse(string text)
    {
        var files = new List<(string, long, string)>();
        var lines = text.Split('\n');
        foreach (var line in lines.Skip(1).SkipLast(2))
        {
            var parts = line.Split(' ', 3);
            if (parts.Length != 3 || !long.TryParse(parts[1], NumberStyles.None, CultureInfo.InvariantCulture, out var length)
                || parts[2] != Path.GetFileName(parts[2]))
            {
                return null;
            }

            files.Add((parts[2], length, parts[0]));
        }

        return text == Text(files) ? files : null;
    }
}
