// The scripts as text: what Debian's shellcheck says of them.
using System.Diagnostics;

namespace Launcher.Tests;

public sealed class ScriptTests
{
    [Theory]
    [InlineData("mem1")]
    [InlineData(".ci/run")]
    public void Shellcheck_finds_nothing(string script)
    {
        if (!File.Exists("/usr/bin/shellcheck"))
            Assert.Skip("needs the package shellcheck");
        using var process = Process.Start(new ProcessStartInfo("/usr/bin/shellcheck", [Path.Combine(Sandbox.Checkout, script)])
        {
            RedirectStandardOutput = true,
        })!;
        var output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();

        Assert.Equal("", output);
        Assert.Equal(0, process.ExitCode);
    }
}
