using System.Diagnostics;

namespace Mem1.Cli.Tests;

/// <summary>A file system of a few megabytes in memory; needs the right to mount.</summary>
internal sealed class SmallDisk : IDisposable
{
    private SmallDisk(string path) => Path = path;

    public string Path { get; }

    private string Filler => System.IO.Path.Combine(Path, "filler");

    public static SmallDisk Mount(string path, int megabytes)
    {
        Directory.CreateDirectory(path);
        if (Call("mount", "-t", "tmpfs", "-o", $"size={megabytes}m", "mem1-test", path) is { Length: > 0 } why)
            Assert.Skip($"Needs root and the right to mount a tmpfs: {why}");
        return new SmallDisk(path);
    }

    public void FillUp(long leaveBytes)
    {
        using var file = new FileStream(Filler, FileMode.CreateNew, FileAccess.Write, FileShare.None, bufferSize: 0);
        var block = new byte[4096];
        for (var free = new DriveInfo(Path).AvailableFreeSpace; free > leaveBytes; free -= block.Length) file.Write(block);
    }

    public void Free() => File.Delete(Filler);

    public void Dispose() => Call("umount", "-l", Path);

    private static string Call(string program, params string[] arguments)
    {
        try
        {
            using var process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardError = true })!;
            var error = process.StandardError.ReadToEnd().Trim();
            process.WaitForExit();
            return process.ExitCode == 0 ? "" : error.Length > 0 ? error : $"{program} exited with {process.ExitCode}";
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            return e.Message;
        }
    }
}
