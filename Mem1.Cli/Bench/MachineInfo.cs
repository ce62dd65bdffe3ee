using System.Globalization;
using System.Runtime.InteropServices;
using TorchSharp;

namespace Mem1.Cli.Bench;

/// <summary>What numbers were measured on.</summary>
/// <param name="Cpu">Model name.</param>
/// <param name="Cores">Logical processors this process may use.</param>
/// <param name="MemoryGib">Memory of the machine, or of its container if that is less.</param>
/// <param name="Os">Name and version.</param>
/// <param name="Dotnet">Runtime version.</param>
/// <param name="Libtorch">Version.</param>
/// <param name="LoadAverage">
/// Runnable processes over the last minute when measuring began: more than a few tenths is not a quiet machine.
/// </param>
/// <param name="Date">When measuring began, UTC.</param>
internal sealed record MachineInfo(
    string Cpu, int Cores, double MemoryGib, string Os, string Dotnet, string Libtorch, double? LoadAverage, string Date)
{
    public static MachineInfo Describe() => new(
        FirstLine("/proc/cpuinfo", "model name") is { } cpu ? cpu[(cpu.IndexOf(':', StringComparison.Ordinal) + 1)..].Trim() : "unknown",
        Environment.ProcessorCount,
        Math.Round(GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / Math.Pow(2, 30), 1),
        FirstLine("/etc/os-release", "PRETTY_NAME=") is { } os ? os.Split('=', 2)[1].Trim('"') : RuntimeInformation.OSDescription,
        Environment.Version.ToString(),
        torch.__version__,
        Load(),
        DateTime.UtcNow.ToString("yyyy-MM-dd HH:mm", CultureInfo.InvariantCulture));

    /// <summary>The one-minute load average, or null where there is none.</summary>
    public static double? Load() =>
        FirstLine("/proc/loadavg", "") is { } line ? double.Parse(line.Split(' ')[0], CultureInfo.InvariantCulture) : null;

    public override string ToString() => string.Create(
        CultureInfo.InvariantCulture,
        $"{Cpu}, {Cores} cores, {MemoryGib:0.#} GiB, {Os}, .NET {Dotnet}, libtorch {Libtorch}, load average {LoadAverage:0.0#}");

    private static string? FirstLine(string path, string start) =>
        File.Exists(path) ? File.ReadLines(path).FirstOrDefault(l => l.StartsWith(start, StringComparison.Ordinal)) : null;
}
