using System.Net;
using System.Net.Sockets;
using System.Text.Json;

namespace Mem1.Cli.Tests;

public sealed class DoctorTests
{
    [Fact]
    public void It_says_what_is_wrong_and_what_to_do()
    {
        using var temp = new TempFolder();
        File.WriteAllText(temp["bad.yaml"], "ppo:\n  clip: -1\n");
        var outcome = Cli.Run("doctor", "--json", "--runs", temp["none/runs"], "--config", temp["bad.yaml"], "--learner", "127.0.0.1:1");
        Assert.Equal(2, outcome.ExitCode);
        var checks = outcome.OutLines.Select(l => JsonDocument.Parse(l).RootElement).ToDictionary(e => e.GetProperty("check").GetString()!);
        Assert.Equal(("failure", true), (Verdict("config"), Text("config", "found").Contains("ppo.clip", StringComparison.Ordinal)));
        Assert.Equal(("failure", true), (Verdict("learner"), Text("learner", "found").Contains("No learner answered", StringComparison.Ordinal)));
        Assert.Contains("GFLOP/s", Text("libtorch", "found"), StringComparison.Ordinal);
        Assert.Equal("ok", Verdict("disk"));
        Assert.All(checks.Values, c => Assert.True(
            c.GetProperty("verdict").GetString() is "ok" or "skipped" || c.GetProperty("advice").GetString() is { Length: > 0 }));
        Assert.False(Directory.Exists(temp["none"])); // it looks and makes nothing

        string Verdict(string check) => Text(check, "verdict");
        string Text(string check, string name) => checks[check].GetProperty(name).GetString()!;
    }

    [Fact]
    public void A_port_that_is_taken_is_no_failure_and_people_read_lines()
    {
        using var taken = new TcpListener(IPAddress.Loopback, 5050);
        try
        {
            taken.Start();
        }
        catch (SocketException)
        {
            // Somebody else has it; that serves as well.
        }

        var outcome = Cli.Run("doctor").Succeeded();
        Assert.Matches(@"warn  port 5050 .*\n.*--listen", outcome.Out);
        Assert.DoesNotContain("\e", outcome.Out, StringComparison.Ordinal);
    }
}
