// A cluster of real processes, in network namespaces where the machine allows it.
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text.Json;

namespace Mem1.Cli.Tests;

public sealed class ClusterTests : IDisposable
{
    // All episodes of an update of a quick run.
    private const int Kept = 8;

    private readonly TempFolder _temp = new();

    private string[] Here => ["--runs", _temp["runs"], "--name", "c"];

    private string Run => _temp["runs", "c"];

    public void Dispose()
    {
        Cli.Run(["cluster", "down", .. Here, "--grace", "1"]);
        _temp.Dispose();
    }

    [Fact]
    public void A_rolling_restart_and_a_kill_under_load_lose_no_task_and_train_on_none_twice()
    {
        string[] run = ["--quick", "--set", "evaluation.episodes=0", "--set", $"checkpoint.sampled_trajectories={Kept}"];
        var dashboard = Port();
        Cli.Run([
            "cluster", "up", .. Here, .. run, "--workers", "2", "--port", Port(), "--dashboard-port", dashboard, "--set", "checkpoint.every=1",
            "--updates", "100000",
        ]).Succeeded();
        Assert.Equal(["learner", "worker-1", "worker-2", "dashboard"], Status().Select(n => n.GetProperty("name").GetString()));
        Refusals.Refused(["cluster", "up", .. Here], "is up", "cluster down");
        Refusals.Refused(["cluster", "kill", "worker-9", .. Here], "worker-9", "worker-1");
        Until(() => Updates() >= 1, "an update");
        using var page = new HttpClient { BaseAddress = new Uri($"http://127.0.0.1:{dashboard}/") };
        Until(() => State().Contains("\"phase\":\"training\"", StringComparison.Ordinal), "the dashboard follows the learner");

        Cli.Run(["cluster", "restart", "worker-1", "learner", .. Here]).Succeeded();
        Cli.Run(["cluster", "kill", "worker-2", .. Here]).Succeeded();
        Cli.Run(["cluster", "scale", "2", .. Here]).Succeeded();
        var before = Updates();
        Until(() => Updates() >= before + 3, "the run goes on");
        Assert.All(Status(), n => Assert.True(n.GetProperty("running").GetBoolean()));
        Assert.Matches("update [0-9]+, reward", Cli.Run(["cluster", "status", .. Here]).Succeeded().Out);
        Cli.Run(["cluster", "down", .. Here]).Succeeded();
        var last = Updates();
        Refusals.Refused(["cluster", "status", .. Here], "no cluster c", "cluster up");
        Assert.Equal(Enumerable.Range(1, last), Runs.Metrics(Run).Select(m => m.GetProperty("update").GetInt32()));
        Cli.Run(["train", .. run, "--updates", $"{last}", "--name", "straight", "--runs", _temp["runs"]]).Succeeded();
        Assert.Equal(Tasks(_temp["runs", "straight"]), Tasks(Run));
        Assert.Equal(Kept * last, Tasks(Run).Distinct().Count());
        var token = File.ReadAllText(Path.Combine(_temp["runs"], ".cluster-c", "token")).Trim();
        Assert.All(
            Directory.EnumerateFiles(Path.Combine(_temp["runs"], ".cluster-c", "logs")),
            log => Assert.DoesNotContain(token, File.ReadAllText(log), StringComparison.Ordinal));

        string State() => page.GetStringAsync("api/state", TestContext.Current.CancellationToken).GetAwaiter().GetResult();

        static List<(int Update, string? Task, string? Prompt)> Tasks(string run) =>
        [
            .. Runs.Lines(Path.Combine(run, "trajectories.jsonl")).Select(t => (
                t.GetProperty("update").GetInt32(), t.GetProperty("task_id").GetString(), t.GetProperty("prompt").GetString())),
        ];
    }

    [Fact]
    public void A_learner_that_does_not_come_up_is_told_with_its_reason()
    {
        Refusals.Refused(
            ["cluster", "up", .. Here, "--set", "ppo.clip=-1", "--namespaces", "off", "--port", Port()], "learner ended", "ppo.clip");
        Refusals.Refused(["cluster", "scale", "1", "--name", "none", "--runs", _temp["runs"]], "no cluster none");
    }

    private int Updates() => File.Exists(Path.Combine(Run, "metrics.jsonl")) ? Runs.Metrics(Run).Count : 0;

    private List<JsonElement> Status() =>
        [.. Cli.Run(["cluster", "status", "--json", .. Here]).Succeeded().OutLines.Select(l => JsonDocument.Parse(l).RootElement)];

    private static void Until(Func<bool> condition, string what)
    {
        var watch = System.Diagnostics.Stopwatch.StartNew();
        while (!condition())
        {
            Assert.True(watch.Elapsed < TimeSpan.FromMinutes(4), $"Waited 4 minutes for {what}.");
            Thread.Sleep(100);
        }
    }

    private static string Port()
    {
        using var probe = new TcpListener(IPAddress.Loopback, 0);
        probe.Start();
        return ((IPEndPoint)probe.LocalEndpoint).Port.ToString(CultureInfo.InvariantCulture);
    }
}
