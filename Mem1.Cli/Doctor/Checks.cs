// Keeps: a check looks and never changes anything that stays; whatever it meets becomes a finding, so one that fails does not hide the
// next; every finding that is not ok says what to do.
using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using Mem1.Actors;
using Mem1.Cli.Commands;
using Mem1.Cli.Configuration;
using Mem1.Protocol.Security;
using TorchSharp;

namespace Mem1.Cli.Doctor;

/// <summary>The checks of <c>mem1 doctor</c>.</summary>
internal static class Checks
{
    // What the default run takes at its peak, and a run folder with its checkpoints.
    private const long NeededMemory = 2L << 30, NeededDisk = 1L << 30;

    // Debian's reference BLAS reaches about 2 GFLOP/s on one core, an optimised one ten times that and more.
    private const double SlowBlas = 6e9;

    // Leases and deadlines are counted on one clock each, but versions, logs and certificates are compared between machines.
    private static readonly TimeSpan LargestSkew = TimeSpan.FromSeconds(5);

    private static readonly TimeSpan NetworkLimit = TimeSpan.FromSeconds(5);

    /// <summary>Runs a check; what it throws is a failure of the thing it looks at.</summary>
    public static Finding Run(string check, string advice, Func<Finding> body)
    {
        try
        {
            return body();
        }
        catch (Exception e)
        {
            return new Finding(check, Verdict.Failure, e.Message.Split('\n')[0], advice);
        }
    }

    public static Finding Machine()
    {
        var found = $"{RuntimeInformation.OSDescription.Split('#')[0].Trim()}, {RuntimeInformation.OSArchitecture}, .NET {Environment.Version}, "
            + $"{Environment.ProcessorCount} hardware threads, {(Avx512F.IsSupported ? "AVX-512" : Avx2.IsSupported ? "AVX2" : "no AVX2")}";
        if (!OperatingSystem.IsLinux() || RuntimeInformation.OSArchitecture != Architecture.X64)
            return new Finding("machine", Verdict.Warning, found, "Only Linux on x86-64 is tested.");
        return Avx2.IsSupported
            ? new Finding("machine", Verdict.Ok, found)
            : new Finding("machine", Verdict.Warning, found, "Without AVX2 the sampler on the CPU is several times slower; use a newer machine.");
    }

    public static Finding Memory()
    {
        var total = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes; // of the container, where there is one
        return total >= NeededMemory
            ? new Finding("memory", Verdict.Ok, Gibibytes(total))
            : new Finding("memory", Verdict.Warning, Gibibytes(total), $"The default run wants {Gibibytes(NeededMemory)}; see ./mem1 train --dry-run.");
    }

    public static Finding Torch()
    {
        const int size = 512;
        using var scope = torch.NewDisposeScope();
        using var noGradient = torch.no_grad();
        torch.set_num_threads(1);
        var (a, b) = (torch.rand(size, size), torch.rand(size, size));
        a.matmul(b);
        var watch = Stopwatch.StartNew();
        var times = 0;
        while (watch.Elapsed < TimeSpan.FromMilliseconds(200))
        {
            a.matmul(b);
            times++;
        }

        var speed = 2.0 * size * size * size * times / watch.Elapsed.TotalSeconds;
        var found = string.Create(CultureInfo.InvariantCulture, $"loads and multiplies, {speed / 1e9:0} GFLOP/s on one thread");
        return speed >= SlowBlas
            ? new Finding("libtorch", Verdict.Ok, found)
            : new Finding("libtorch", Verdict.Warning, found, "That is an unoptimised BLAS, or a busy machine: apt-get install libopenblas0-pthread");
    }

    public static Finding Gpu()
    {
        var there = File.Exists("/dev/nvidia0") || File.Exists("/dev/nvidiactl");
        if (torch.cuda.is_available())
            return new Finding("gpu", Verdict.Ok, $"{torch.cuda.device_count()} for CUDA; train on one with --set learner.device=cuda");
        return there
            ? new Finding("gpu", Verdict.Warning, "a GPU is there, but libtorch has no CUDA", "Build against a CUDA libtorch: docs/gpu.md")
            : new Finding("gpu", Verdict.Skipped, "none; training is on the CPU");
    }

    public static Finding Port(string what, int port)
    {
        try
        {
            using var probe = new TcpListener(IPAddress.Loopback, port);
            probe.Start();
            return new Finding($"port {port}", Verdict.Ok, $"free for the {what}");
        }
        catch (SocketException e)
        {
            var option = what == "dashboard" ? "--dashboard-port" : "--listen";
            return new Finding($"port {port}", Verdict.Warning, e.Message, $"Another program has it, perhaps a run: choose another with {option}.");
        }
    }

    public static Finding Disk(string folder)
    {
        var existing = Path.GetFullPath(folder);
        while (!Directory.Exists(existing)) existing = Path.GetDirectoryName(existing)!;
        var probe = Path.Combine(existing, $".mem1-doctor-{Environment.ProcessId}");
        File.WriteAllBytes(probe, [1]);
        File.Delete(probe);
        var free = new DriveInfo(existing).AvailableFreeSpace;
        return free >= NeededDisk
            ? new Finding("disk", Verdict.Ok, $"{Gibibytes(free)} free for {existing}")
            : new Finding("disk", Verdict.Warning, $"{Gibibytes(free)} free for {existing}", "Make room, or put runs elsewhere with --runs.");
    }

    public static Finding Clock()
    {
        var built = File.GetLastWriteTimeUtc(typeof(Checks).Assembly.Location);
        var now = DateTime.UtcNow;
        return now >= built
            ? new Finding("clock", Verdict.Ok, now.ToString("yyyy-MM-dd HH:mm:ss'Z'", CultureInfo.InvariantCulture))
            : new Finding("clock", Verdict.Failure, $"{now:yyyy-MM-dd} is before this program was built ({built:yyyy-MM-dd})",
                "Set the clock: certificates and the order of logs depend on it.");
    }

    public static Finding Node()
    {
        var (node, npm) = (Version("node"), Version("npm"));
        if (node is null || npm is null)
            return new Finding("node", Verdict.Warning, "node or npm is missing", "Without them there is no dashboard page: apt-get install nodejs npm");
        return int.TryParse(node.TrimStart('v').Split('.')[0], out var major) && major >= 18
            ? new Finding("node", Verdict.Ok, $"{node}, npm {npm}")
            : new Finding("node", Verdict.Warning, node, "The dashboard's page needs 18 or newer.");

        static string? Version(string program)
        {
            try
            {
                using var process = Process.Start(new ProcessStartInfo(program, "--version") { RedirectStandardOutput = true, RedirectStandardError = true });
                var said = process!.StandardOutput.ReadToEnd().Trim();
                return process.WaitForExit(NetworkLimit) && process.ExitCode == 0 ? said : null;
            }
            catch (System.ComponentModel.Win32Exception)
            {
                return null;
            }
        }
    }

    public static Finding Config(string path, IReadOnlyList<string> set)
    {
        var (config, _) = ConfigFile.Load(path, set, new RunConfig());
        var errors = config.Validate();
        return errors.Count == 0
            ? new Finding("config", Verdict.Ok, $"{path} is consistent")
            : new Finding("config", Verdict.Failure, string.Join(" ", errors), "Mend these keys.");
    }

    /// <summary>Asks a learner for its run, as a worker would, and compares clocks.</summary>
    public static async Task<IReadOnlyList<Finding>> LearnerAsync(Uri address, ChannelSecurity security, CancellationToken cancellationToken)
    {
        var findings = new List<Finding>();
        try
        {
            var run = await RunDownload.PullAsync(address, "mem1-doctor", TimeSpan.Zero, static (_, _) => { }, security, cancellationToken)
                .ConfigureAwait(false);
            findings.Add(new Finding("learner", Verdict.Ok, $"{address.Authority} would let this machine play (run {run.Fingerprint:x})"));
        }
        catch (RolloutWorkerException e)
        {
            findings.Add(new Finding("learner", Verdict.Failure, e.Message, "See docs/cluster.md and docs/security.md."));
            return findings;
        }

        using var handler = new SocketsHttpHandler();
        if (security.Tls is { } tls) handler.SslOptions = tls.ClientOptions();
        using var client = new HttpClient(handler) { Timeout = NetworkLimit };
        using var request = new HttpRequestMessage(HttpMethod.Head, address)
        {
            Version = HttpVersion.Version20,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
        };
        try
        {
            using var response = await client.SendAsync(request, cancellationToken).ConfigureAwait(false);
            if (response.Headers.Date is not { } date) return findings;
            var skew = DateTimeOffset.UtcNow - date;
            findings.Add(skew.Duration() <= LargestSkew
                ? new Finding("clocks", Verdict.Ok, "this machine and the learner's agree")
                : new Finding("clocks", Verdict.Warning, string.Create(
                    CultureInfo.InvariantCulture, $"this machine is {Math.Abs(skew.TotalSeconds):0} s {(skew > TimeSpan.Zero ? "ahead of" : "behind")} the learner"),
                    "Synchronise both clocks (apt-get install systemd-timesyncd)."));
        }
        catch (Exception e) when (e is HttpRequestException or OperationCanceledException && !cancellationToken.IsCancellationRequested)
        {
            findings.Add(new Finding("clocks", Verdict.Skipped, e.Message));
        }

        return findings;
    }

    private static string Gibibytes(long bytes) => string.Create(CultureInfo.InvariantCulture, $"{bytes / (double)(1L << 30):0.0} GiB");
}
