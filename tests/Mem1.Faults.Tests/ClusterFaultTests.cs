// The same faults through the command that operators have: processes of `mem1 cluster` killed, started again, restarted in good order and
// scaled for a long time; the run folder is audited as in FaultTests. A part of the long series only: Mem1.Cli.Tests/ClusterTests has one
// kill and one rolling restart in every run of the suite.
using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text.Json;
using Mem1.Cli.Tests;

namespace Mem1.Faults.Tests;

public sealed class ClusterFaultTests : IDisposable
{
    private const int Workers = 3, Rounds = 60;

    private static readonly TimeSpan s_limit = TimeSpan.FromMinutes(4);

    private readonly TempFolder _temp = new();

    private string[] Here => ["--runs", _temp["runs"], "--name", "c"];

    private string Run => _temp["runs", "c"];

    public void Dispose()
    {
        Mem1.Cli.Tests.Cli.Run(["cluster", "down", .. Here, "--grace", "1"]);
        _temp.Dispose();
    }

    [Fact]
    public void A_cluster_whose_processes_are_killed_restarted_and_scaled()
    {
        Assert.SkipUnless(
            Environment.GetEnvironmentVariable("MEM1_FAULTS") == "1",
            "A part of the long series: ./mem1 test --faults fault (ClusterTests has the short one).");
        var random = new Random(20261123);
        Command([
            "up", "--workers", $"{Workers}", "--port", FreePort(), "--no-dashboard", .. NodeRun.Endless,
            "--set", "learner.absence_seconds=1", "--set", "learner.silence_seconds=4",
        ]);
        Goes(1, "after its start");
        var done = new Dictionary<string, int>(StringComparer.Ordinal);
        for (var round = 0; round < Rounds; round++)
        {
            var worker = $"worker-{1 + random.Next(Workers)}";
            var what = random.Next(10) switch
            {
                < 5 => "kill a worker",
                5 => "kill all workers",
                < 8 => "kill the learner",
                8 => "restart a worker",
                _ => "restart everything",
            };
            done[what] = done.GetValueOrDefault(what) + 1;
            Thread.Sleep(random.Next(1500)); // the moments lie in sampling, learning, writing and starting alike
            switch (what)
            {
                case "kill a worker":
                    Command(["kill", worker]);
                    Command(["scale", $"{Workers}"]);
                    break;
                case "kill all workers":
                    Command(["kill", .. Enumerable.Range(1, Workers).Select(i => $"worker-{i}")]);
                    Command(["scale", $"{Workers}"]);
                    break;
                case "kill the learner":
                    Command(["kill", "learner"]);
                    Command(["restart", "learner"]);
                    break;
                case "restart a worker":
                    Command(["restart", worker, "--grace", "20"]);
                    break;
                default:
                    Command(["restart", "--grace", "60"]);
                    break;
            }

            if (round % 4 == 3) Goes(1, $"after {what} in round {round}");
        }

        Goes(2, "after the last round");
        Assert.All(Status(), n => Assert.True(n.GetProperty("running").GetBoolean(), n.GetRawText()));
        Command(["down"]);
        var updates = NodeRun.Audit(Run);
        TestContext.Current.TestOutputHelper?.WriteLine(
            $"{updates} updates; {string.Join(", ", done.OrderBy(d => d.Key, StringComparer.Ordinal).Select(d => $"{d.Key}: {d.Value}"))}");
    }

    private void Command(string[] words) => Mem1.Cli.Tests.Cli.Run(["cluster", words[0], .. Here, .. words[1..]]).Succeeded();

    private void Goes(int updates, string when)
    {
        var before = NodeRun.UpdatesIn(Run);
        var watch = Stopwatch.StartNew();
        while (NodeRun.UpdatesIn(Run) < before + updates)
        {
            Assert.True(watch.Elapsed < s_limit, $"The run does not go on {when}:\n{string.Join('\n', Status())}");
            Thread.Sleep(100);
        }
    }

    private List<JsonElement> Status() =>
    [
        .. Mem1.Cli.Tests.Cli.Run(["cluster", "status", "--json", .. Here]).Succeeded().OutLines
            .Select(l => JsonDocument.Parse(l).RootElement),
    ];

    private static string FreePort()
    {
        using var probe = new TcpListener(IPAddress.Loopback, 0);
        probe.Start();
        return ((IPEndPoint)probe.LocalEndpoint).Port.ToString(CultureInfo.InvariantCulture);
    }
}
