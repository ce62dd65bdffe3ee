// Runs the real program as a child process. Invariants: no child outlives its test; a child that hangs is killed and the test says so;
// time limits are far above what a loaded machine needs, because a timing must never decide a test.
using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;

namespace Mem1.Cli.Tests;

/// <summary>What a finished child left.</summary>
internal sealed record Outcome(int ExitCode, string Out, string Error)
{
    public string[] OutLines => Out.Split('\n', StringSplitOptions.RemoveEmptyEntries);

    public string[] ErrorLines => Error.Split('\n', StringSplitOptions.RemoveEmptyEntries);

    public Outcome Succeeded()
    {
        Assert.True(ExitCode == 0, $"exit code {ExitCode}\n{Out}\n{Error}");
        return this;
    }
}

/// <summary>A running child whose output is collected.</summary>
internal sealed partial class Child : IDisposable
{
    public const int SigInt = 2, SigTerm = 15;

    private static readonly TimeSpan s_limit = TimeSpan.FromMinutes(4);

    private readonly Process _process;
    private readonly StringBuilder _out = new(), _error = new();
    private readonly Task _read;

    public Child(ProcessStartInfo start)
    {
        start.RedirectStandardOutput = start.RedirectStandardError = start.RedirectStandardInput = true;
        _process = Process.Start(start)!;
        _process.StandardInput.Close();
        _read = Task.WhenAll(
            Task.Run(() => Collect(_process.StandardOutput, _out)), Task.Run(() => Collect(_process.StandardError, _error)));
    }

    public int Id => _process.Id;

    public bool HasExited => _process.HasExited;

    public string Out
    {
        get
        {
            lock (_out) return _out.ToString();
        }
    }

    public string Error
    {
        get
        {
            lock (_error) return _error.ToString();
        }
    }

    public void Signal(int signal) => Assert.Equal(0, KillProcess(_process.Id, signal));

    public void Kill() => _process.Kill();

    /// <summary>Waits until something is so; fails when the child ends or the limit passes first.</summary>
    public void Until(Func<bool> condition, string what)
    {
        var watch = Stopwatch.StartNew();
        while (!condition())
        {
            Assert.False(_process.HasExited && !condition(), $"The program ended before {what}:\n{Out}\n{Error}");
            Assert.True(watch.Elapsed < s_limit, $"Waited {s_limit} for {what}:\n{Out}\n{Error}");
            Thread.Sleep(2);
        }
    }

    public Outcome Finish()
    {
        if (!_process.WaitForExit(s_limit) || !_read.Wait(s_limit))
        {
            var where = Stuck();
            _process.Kill();
            Assert.Fail($"The program did not end within {s_limit}:\n{Out}\n{Error}\n{where}");
        }

        return new Outcome(_process.ExitCode, Out, Error);
    }

    public void Dispose()
    {
        if (!_process.HasExited) _process.Kill();
        _process.WaitForExit();
        _process.Dispose();
    }

    /// <summary>What a program that does not end is doing: its threads, and what its dashboard says if it has one.</summary>
    private string Stuck()
    {
        var text = new StringBuilder();
        try
        {
            foreach (var thread in Directory.EnumerateDirectories($"/proc/{_process.Id}/task"))
            {
                // State, and ticks spent in user and kernel mode: counted from behind the name, which may hold anything.
                var stat = File.ReadAllText(Path.Combine(thread, "stat"));
                var fields = stat[(stat.LastIndexOf(')') + 2)..].Split(' ');
                text.AppendLine($"thread {File.ReadAllText(Path.Combine(thread, "comm")).Trim()}: {fields[0]} {fields[11]} {fields[12]}");
            }

            if (DashboardAddress().Match(Error) is not { Success: true } at) return text.ToString();
            using var client = new HttpClient { BaseAddress = new Uri(at.Value), Timeout = TimeSpan.FromSeconds(10) };
            foreach (var path in (string[])["state", "actors", "episodes", "events"])
                text.AppendLine($"{path}: {client.GetStringAsync($"api/{path}").GetAwaiter().GetResult()}");
        }
        catch (Exception e) when (e is IOException or HttpRequestException or OperationCanceledException)
        {
            text.AppendLine($"{e.GetType().Name}: {e.Message}");
        }

        return text.ToString();
    }

    [System.Text.RegularExpressions.GeneratedRegex(@"http://127\.0\.0\.1:\d+/")]
    private static partial System.Text.RegularExpressions.Regex DashboardAddress();

    private static void Collect(StreamReader from, StringBuilder into)
    {
        var buffer = new char[4096];
        while (from.Read(buffer) is > 0 and var n)
        {
            lock (into) into.Append(buffer, 0, n);
        }
    }

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int KillProcess(int pid, int signal);
}

/// <summary>The program, and folders for what it writes.</summary>
internal static class Cli
{
    private static readonly string s_dotnet =
        Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), "..", "..", "..", OperatingSystem.IsWindows() ? "dotnet.exe" : "dotnet");

    public static ProcessStartInfo Command(params IEnumerable<string> arguments) => CommandOf(AppContext.BaseDirectory, arguments);

    public static ProcessStartInfo CommandOf(string programFolder, params IEnumerable<string> arguments)
    {
        var start = new ProcessStartInfo(s_dotnet) { WorkingDirectory = Path.GetTempPath() };
        start.ArgumentList.Add(Path.Combine(programFolder, "mem1.dll"));
        foreach (var argument in arguments) start.ArgumentList.Add(argument);
        start.Environment.Remove("NO_COLOR");
        start.Environment["TERM"] = "xterm-256color"; // what redirects the output must count for more than the terminal's name
        return start;
    }

    public static Child Start(params IEnumerable<string> arguments) => new(Command(arguments));

    public static Outcome Run(params IEnumerable<string> arguments) => Run(Command(arguments));

    public static Outcome Run(ProcessStartInfo start)
    {
        using var child = new Child(start);
        return child.Finish();
    }
}

/// <summary>A folder that goes away with its test.</summary>
internal sealed class TempFolder : IDisposable
{
    public string FullPath { get; } = Directory.CreateTempSubdirectory("mem1 cli ").FullName;

    public string this[params string[] parts] => Path.Combine([FullPath, .. parts]);

    public string Write(string name, string text)
    {
        File.WriteAllText(this[name], text);
        return this[name];
    }

    public void Dispose() => Directory.Delete(FullPath, recursive: true);
}

/// <summary>Reads run folders.</summary>
internal static class Runs
{
    /// <summary>Fields that tell how fast and how large the process was; all others are what training computed.</summary>
    private static readonly string[] s_measured =
    [
        "rollout_tokens_per_s", "learner_tokens_per_s", "learner_busy", "rss_bytes", "wait_seconds", "learn_seconds", "disk_wait_seconds",
        "seconds",
    ];

    public static List<JsonElement> Lines(string path) => [.. File.ReadLines(path).Select(line => JsonDocument.Parse(line).RootElement)];

    public static List<JsonElement> Metrics(string run) => Lines(Path.Combine(run, "metrics.jsonl"));

    /// <summary>Each metrics line without what was measured by the clock.</summary>
    public static List<string> Computed(string run) =>
    [
        .. Metrics(run).Select(m => string.Join(
            ", ", m.EnumerateObject().Where(p => !s_measured.Contains(p.Name)).Select(p => $"{p.Name}={p.Value.GetRawText()}"))),
    ];

    public static byte[] Bytes(string run, int step, string file) =>
        File.ReadAllBytes(Path.Combine(run, "checkpoints", $"step-{step}", file));

    public static void SameWeights(string expected, string actual, int step)
    {
        foreach (var file in new[] { "model.safetensors", "optimizer.safetensors" })
            Assert.True(Bytes(expected, step, file).AsSpan().SequenceEqual(Bytes(actual, step, file)), $"step {step}: {file} differs");
    }

    public static int[] Steps(string run) =>
    [
        .. Directory.EnumerateDirectories(Path.Combine(run, "checkpoints"))
            .Select(d => int.Parse(Path.GetFileName(d)["step-".Length..], System.Globalization.CultureInfo.InvariantCulture)).Order(),
    ];
}
