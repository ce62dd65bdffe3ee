// Keeps: every measurement has a process of its own, with one BLAS thread, so that its peak memory and its allocator's state are its own.
using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;

namespace Mem1.Cli.Bench;

/// <summary>What a measuring process reports, in one JSON object.</summary>
/// <param name="Seconds">Wall time of the fastest pass.</param>
/// <param name="CpuSeconds">Processor time of the cheapest pass, all threads.</param>
/// <param name="Passes">How many were timed.</param>
/// <param name="PeakBytes">Peak resident set minus the resident set before the model existed.</param>
/// <param name="LogProbs">Of the generated tokens, before the first step.</param>
/// <param name="Losses">Of the first three steps.</param>
/// <param name="GradientNorm">Of the first step.</param>
/// <param name="Engine">What computed, with versions.</param>
internal sealed record PassReport(
    double Seconds, double CpuSeconds, int Passes, long PeakBytes, float[] LogProbs, double[] Losses, double GradientNorm, string Engine)
{
    /// <summary>Share of a step's time not spent on preparing data, mean over the timed passes; null where it is not measured.</summary>
    public double? Busy { get; init; }
}

/// <summary>Starts the processes that measure.</summary>
internal static class BenchProcess
{
    /// <summary>Field names as in Python: the peer writes the same object.</summary>
    public static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        WriteIndented = true,
    };

    /// <summary>By these the libraries under a process learn how many threads they may start.</summary>
    public static readonly string[] ThreadVariables = ["OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"];

    /// <summary>This program again, with other arguments.</summary>
    public static ProcessStartInfo Self(params IEnumerable<string> arguments)
    {
        var program = typeof(BenchProcess).Assembly.Location;
        var host = Environment.ProcessPath is { } path && Path.GetFileNameWithoutExtension(path) == "dotnet" ? path : "dotnet";
        return Start(host, [program, .. arguments]);
    }

    /// <summary>A program, single-threaded.</summary>
    public static ProcessStartInfo Start(string program, params IEnumerable<string> arguments)
    {
        var start = new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (var name in ThreadVariables) start.Environment[name] = "1";
        return start;
    }

    /// <summary>Runs a process to its end.</summary>
    /// <returns>Its exit code and all it wrote, or null when there is no such program.</returns>
    public static async Task<(int Code, string Output, string Errors)?> Run(ProcessStartInfo start, CancellationToken cancellationToken)
    {
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
            try
            {
                var errors = process.StandardError.ReadToEndAsync(cancellationToken);
                var output = await process.StandardOutput.ReadToEndAsync(cancellationToken).ConfigureAwait(false);
                await process.WaitForExitAsync(cancellationToken).ConfigureAwait(false);
                return (process.ExitCode, output, await errors.ConfigureAwait(false));
            }
            catch (OperationCanceledException)
            {
                process.Kill(entireProcessTree: true);
                throw;
            }
        }
    }

    /// <summary>Reads a process's report.</summary>
    /// <exception cref="UserErrorException">It failed; the message carries its last words.</exception>
    public static PassReport Report((int Code, string Output, string Errors) ended, string what) =>
        JsonSerializer.Deserialize<PassReport>(Succeeded(ended, what), Json)
            ?? throw new UserErrorException($"Measuring {what} reported nothing.");

    /// <summary>What a process that succeeded wrote.</summary>
    /// <exception cref="UserErrorException">It failed; the message carries its last words.</exception>
    public static string Succeeded((int Code, string Output, string Errors) ended, string what)
    {
        if (ended.Code != 0)
        {
            var last = ended.Errors.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).LastOrDefault();
            throw new UserErrorException($"Measuring {what} ended with status {ended.Code}: {last ?? "it gave no reason"}");
        }

        return ended.Output;
    }
}

/// <summary>The resident set of this process, as Linux counts it.</summary>
internal static class ResidentSet
{
    /// <summary>Makes the peak start again from what is resident now. Where the kernel refuses, peaks of the past count too.</summary>
    public static void ResetPeak()
    {
        try
        {
            File.WriteAllText("/proc/self/clear_refs", "5");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Then the peak of starting up counts: a larger number, never a smaller one.
        }
    }

    /// <summary>Bytes resident now.</summary>
    public static long Now() => Status("VmRSS");

    /// <summary>Most bytes resident since <see cref="ResetPeak"/>.</summary>
    public static long Peak() => Status("VmHWM");

    private static long Status(string field)
    {
        const string Path = "/proc/self/status";
        if (!File.Exists(Path)) throw new UserErrorException($"{Path} does not exist: memory is measured on Linux only.");
        var line = File.ReadLines(Path).First(l => l.StartsWith(field + ":", StringComparison.Ordinal));
        var words = line.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
        return long.Parse(words[1], CultureInfo.InvariantCulture) * 1024;
    }
}
