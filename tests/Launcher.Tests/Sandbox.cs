// A checkout with nothing but the launcher in it, on a machine that is made up. Invariants: the launcher sees no tool but the ones linked
// here and the pretended ones (dotnet, dpkg-query, apt-get, id), so that no test installs or builds anything real; everything is deleted.
using System.Diagnostics;

namespace Launcher.Tests;

internal sealed class Sandbox : IDisposable
{
    // What the launcher takes from the machine: all of it is in Debian's essential packages.
    private static readonly string[] s_tools =
        ["bash", "env", "readlink", "dirname", "basename", "find", "sort", "cksum", "grep", "sed", "head", "tail", "mkdir", "rm", "sleep",
        "flock", "timeout", "cat", "touch", "mv"];

    private readonly string _top = Directory.CreateTempSubdirectory("mem1 launcher ").FullName;

    public Sandbox()
    {
        Directory.CreateDirectory(Path.Combine(Root, "Mem1.Cli"));
        Directory.CreateDirectory(Path.Combine(_top, "sdk", "10.0.100"));
        Directory.CreateDirectory(Bin);
        foreach (var tool in s_tools)
            File.CreateSymbolicLink(Path.Combine(Bin, tool), Which(tool));

        // The places of a real machine that the launcher looks at are moved into the sandbox.
        var script = File.ReadAllText(Path.Combine(Checkout, "mem1"));
        Assert.Contains(" /usr/share/dotnet/dotnet /usr/lib/dotnet/dotnet", script);
        script = script.Replace(" /usr/share/dotnet/dotnet /usr/lib/dotnet/dotnet", $" '{_top}/none/dotnet'", StringComparison.Ordinal);
        Assert.Contains("-e /etc/ssl/certs/ca-certificates.crt", script);
        script = script.Replace("/etc/ssl/certs/ca-certificates.crt", "$TOP/certificates", StringComparison.Ordinal);
        File.WriteAllText(Path.Combine(_top, "certificates"), "");
        Write("mem1", script, executable: true);
        Write("Mem1.Cli/Mem1.Cli.csproj", "<Project />");
        Write("Mem1.Cli/Program.cs", "// one");
        Write("Mem1.sln", "");

        Tool("../dotnet", """
            if [[ $1 == build ]]; then
                printf 'build %s\n' "${@: -1}" >> "$TOP/calls"
                sleep "${BUILD_SECONDS:-0}"
                if [[ -f $TOP/broken ]]; then cat "$TOP/broken"; exit 1; fi
                mkdir -p "$TOP/check out/Mem1.Cli/bin/Release/net10.0"
                touch "$TOP/check out/Mem1.Cli/bin/Release/net10.0/mem1.dll"
                exit 0
            fi
            printf 'run %s\n' "${1##*/}" >> "$TOP/calls"
            if [[ $1 == *.Tests.dll ]]; then . "$TOP/suites/${1##*/}"; exit; fi
            shift
            printf '[%s]' "$@"
            printf '\npid=%s cwd=%s blas=%s omp=%s\n' "$$" "$PWD" "$OPENBLAS_NUM_THREADS" "$OMP_NUM_THREADS"
            exit "${PROGRAM_STATUS:-0}"
            """);
        Tool("dpkg-query", "cat \"$TOP/installed\"");
        Tool("apt-get", """
            printf 'apt-get %s\n' "$*" >> "$TOP/calls"
            if [[ -f $TOP/apt-fails && $* == *install* ]]; then cat "$TOP/apt-fails"; exit 100; fi
            """);
        Tool("id", "echo \"${PRETENDED_UID:-1000}\"");
        Installed("cmake", "make", "g++", "libtorch-dev", "libopenblas0-pthread");
    }

    /// <summary>The checkout whose launcher is tested.</summary>
    public static string Checkout { get; } = FindCheckout();

    /// <summary>The pretended checkout: a path with a space, on purpose.</summary>
    public string Root => Path.Combine(_top, "check out");

    public string Bin => Path.Combine(_top, "bin");

    public string Top => _top;

    /// <summary>What the pretended dotnet and apt-get were asked for, in order.</summary>
    public string[] Calls => File.Exists(Path.Combine(_top, "calls")) ? File.ReadAllLines(Path.Combine(_top, "calls")) : [];

    public int Builds => Calls.Count(c => c.StartsWith("build ", StringComparison.Ordinal));

    public void Installed(params string[] packages) =>
        File.WriteAllLines(Path.Combine(_top, "installed"), packages.Select(p => p + "=installed"));

    public void Write(string file, string text, bool executable = false)
    {
        var path = Path.Combine(Root, file);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllText(path, text);
        if (executable)
            File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
    }

    /// <summary>Adds a test project whose run is this piece of bash; $3 to $n are the options it is given.</summary>
    public void Suite(string name, string body)
    {
        Write($"tests/{name}/{name}.csproj", "<Project />");
        Directory.CreateDirectory(Path.Combine(_top, "suites"));
        // The results file follows the option -xml.
        File.WriteAllText(Path.Combine(_top, "suites", name + ".dll"), $$"""
            while [[ $1 != -xml ]]; do shift; done
            results=$2
            shift 2
            counts() {
                printf '<?xml version="1.0"?><assemblies><assembly name="a" total="%s" passed="%s" failed="%s" skipped="%s" not-run="%s" ' \
                    "$1" "$2" "$3" "$4" "$5" > "$results"
                printf 'errors="%s" time="0.1"><errors /></assembly></assemblies>\n' "$6" >> "$results"
            }
            {{body}}
            """);
    }

    public Process Start(string arguments, string? workingDirectory = null, string? launcher = null, params (string Name, string Value)[] environment)
    {
        var start = new ProcessStartInfo(Path.Combine(Bin, "bash"), $"\"{launcher ?? Path.Combine(Root, "mem1")}\" {arguments}")
        {
            WorkingDirectory = workingDirectory ?? _top,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment.Clear();
        start.Environment["PATH"] = Bin + ":" + _top;
        start.Environment["HOME"] = _top;
        start.Environment["TOP"] = _top;
        foreach (var (name, value) in environment)
            start.Environment[name] = value;
        return Process.Start(start)!;
    }

    public Outcome Run(string arguments = "", params (string Name, string Value)[] environment) =>
        Finish(Start(arguments, environment: environment));

    public static Outcome Finish(Process process)
    {
        using (process)
        {
            var error = process.StandardError.ReadToEndAsync();
            var output = process.StandardOutput.ReadToEnd();
            process.WaitForExit();
            return new(process.ExitCode, output, error.Result, process.Id);
        }
    }

    public void Dispose() => Directory.Delete(_top, recursive: true);

    private void Tool(string name, string body)
    {
        var path = Path.GetFullPath(Path.Combine(Bin, name));
        // Not the linked bash: a #! line takes no path with a space.
        File.WriteAllText(path, "#!/bin/bash\n" + body + "\n");
        File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
    }

    private static string Which(string tool) =>
        new[] { "/usr/bin", "/bin", "/usr/local/bin" }.Select(d => Path.Combine(d, tool)).FirstOrDefault(File.Exists)
        ?? throw new InvalidOperationException($"{tool}, which the launcher needs, is neither in /usr/bin nor in /bin.");

    private static string FindCheckout()
    {
        for (var at = new DirectoryInfo(AppContext.BaseDirectory); at is not null; at = at.Parent)
        {
            if (File.Exists(Path.Combine(at.FullName, "Mem1.sln")))
                return at.FullName;
        }

        throw new InvalidOperationException($"No folder above {AppContext.BaseDirectory} holds Mem1.sln.");
    }
}

internal sealed record Outcome(int Status, string Output, string Error, int Pid)
{
    public string LastLine => Output.TrimEnd('\n').Split('\n')[^1];
}
