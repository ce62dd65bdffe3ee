using System.Diagnostics;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace Mem1.Dashboard.Tests;

public sealed partial class PrometheusTests
{
    [Fact]
    public void Every_line_is_a_comment_or_a_sample_of_a_family_that_was_announced()
    {
        var announced = new HashSet<string>(StringComparer.Ordinal);
        var samples = 0;
        foreach (var line in Written().Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            if (line.StartsWith("# TYPE ", StringComparison.Ordinal)) Assert.True(announced.Add(line.Split(' ')[2]), line);
            if (line[0] == '#') continue;
            var match = Sample().Match(line);
            Assert.True(match.Success, line);
            Assert.Contains(match.Groups["name"].Value, announced);
            samples++;
        }

        Assert.True(samples > 20);
    }

    [Fact]
    public void Labels_are_escaped_and_missing_numbers_left_out()
    {
        var text = Written();

        Assert.Contains("worker=\"a\\\"b\\\\c\\nd\"", text, StringComparison.Ordinal);
        Assert.Contains("mem1_admission_binding{term=\"free_places\"} 1\n", text, StringComparison.Ordinal);
        Assert.Contains("mem1_learner_waiting_seconds 1.5\n", text, StringComparison.Ordinal);
        Assert.Contains("mem1_train_rollout_tokens_per_second 10\n", text, StringComparison.Ordinal);
        Assert.Contains("mem1_train_exact_match{objectives=\"1\"} 0.5\n", text, StringComparison.Ordinal);
        Assert.DoesNotContain("explained_variance", text, StringComparison.Ordinal);
        Assert.DoesNotContain("NaN", text, StringComparison.Ordinal);
    }

    [Fact]
    public void Every_metric_of_the_Grafana_board_is_one_of_ours()
    {
        var model = new RunModel("demo", RunSource.Demo);
        new DemoFeed().Poll(model, _ => { }, _ => { }, () => { }, _ => { });
        // What is null in the last update, as parity may be with a staleness above 0, is left out there, and ours nevertheless.
        var ours = PrometheusText.Write(model, new EventHub(), 0)
            + string.Concat(model.Metrics(m => m.Names.Select(n => $"# TYPE mem1_train_{PrometheusText.MetricName(n)} gauge\n").ToList()));
        using var board = JsonDocument.Parse(File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "data", "grafana.json")));
        var names = board.RootElement.GetProperty("panels").EnumerateArray()
            .SelectMany(p => p.GetProperty("targets").EnumerateArray())
            .SelectMany(t => Name().Matches(t.GetProperty("expr").GetString()!).Select(m => m.Value)).ToList();

        Assert.True(names.Count > 15);
        Assert.All(names, name => Assert.Contains($"# TYPE {name} ", ours, StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("learner_tokens_per_s", "learner_tokens_per_second")]
    [InlineData("pull_s", "pull_seconds")]
    [InlineData("reward.format", "reward_format")]
    [InlineData("step_count", "step_count_value")]
    public void Names_follow_the_rules(string key, string expected) => Assert.Equal(expected, PrometheusText.MetricName(key));

    [Fact]
    public async Task Promtool_accepts_it()
    {
        var promtool = new[] { "/usr/bin/promtool", "/usr/local/bin/promtool" }.FirstOrDefault(File.Exists);
        Assert.SkipWhen(promtool is null, "promtool is missing (Debian package prometheus)");
        using var process = Process.Start(new ProcessStartInfo(promtool!, "check metrics")
        {
            RedirectStandardInput = true,
            RedirectStandardError = true,
            RedirectStandardOutput = true,
        })!;
        await process.StandardInput.WriteAsync(Written());
        process.StandardInput.Close();
        var said = await process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken)
            + await process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);

        Assert.True(process.ExitCode == 0, said);
    }

    [Fact]
    public async Task A_real_Prometheus_scrapes_it()
    {
        Assert.SkipUnless(File.Exists("/usr/bin/prometheus"), "prometheus is missing (Debian package prometheus)");
        var stop = TestContext.Current.CancellationToken;
        using var run = new RunFolderFixture();
        run.AppendMetrics(RunFolderFixture.Metrics(1, 0.625));
        await using var server = await DashboardServer.StartAsync(new DashboardOptions { Folder = run.Path, Port = 0 }, stop);
        using var free = new System.Net.Sockets.TcpListener(System.Net.IPAddress.Loopback, 0);
        free.Start();
        var port = ((System.Net.IPEndPoint)free.LocalEndpoint).Port;
        free.Stop();
        var config = Path.Combine(run.Path, "prometheus.yml");
        await File.WriteAllTextAsync(config, $$"""
            scrape_configs:
              - job_name: mem1
                scrape_interval: 1s
                scrape_timeout: 1s
                static_configs: [{ targets: ["{{server.Address.Authority}}"] }]
            """, stop);
        using var process = Process.Start(new ProcessStartInfo(
            "/usr/bin/prometheus",
            [$"--config.file={config}", $"--storage.tsdb.path={Path.Combine(run.Path, "tsdb")}", $"--web.listen-address=127.0.0.1:{port}"])
        {
            RedirectStandardError = true,
            RedirectStandardOutput = true,
        })!;
        process.OutputDataReceived += (_, _) => { };
        process.ErrorDataReceived += (_, _) => { };
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        try
        {
            using var http = new HttpClient();
            var query = new Uri($"http://127.0.0.1:{port}/api/v1/query?query=mem1_train_reward_mean");
            await ServerTests.WaitAsync(async () =>
            {
                try
                {
                    return (await http.GetStringAsync(query, stop)).Contains("\"0.625\"", StringComparison.Ordinal);
                }
                catch (HttpRequestException)
                {
                    return false; // it is still starting
                }
            });
        }
        finally
        {
            process.Kill();
            await process.WaitForExitAsync(CancellationToken.None);
        }
    }

    private static string Written()
    {
        var model = new RunModel("a \"run\"", RunSource.Live)
        {
            Live = new LiveSnapshot
            {
                Ledger = new LedgerState { Pending = 1, Leased = 2, Buffered = 3, Consumed = 4, Total = 10 },
                Workers =
                [
                    new WorkerState("a\"b\\c\nd", 1, 2, 3, 4, 5, null, null, null, null) { ResidentBytes = 1 << 30, PullSeconds = 0.25 },
                ],
                Admission = new AdmissionState(1, 0, 2, 1, 1, 0, 7, "free_places"),
                WaitingSeconds = 1.5,
                Actors = [new ActorState("w", "", "supervisor", "running", "", 1, 2, 0, null)],
            },
        };
        model.AddMetrics(RunFolderFixture.Metrics(
            7, 0.5, ",\"live_tensors\":3,\"seconds\":1.5,\"rss_bytes\":1e9,\"reward_parts\":{\"format\":0.1}"), fresh: true);
        return PrometheusText.Write(model, new EventHub(), 0);
    }

    [GeneratedRegex("mem1_[a-z0-9_]+")]
    private static partial Regex Name();

    [GeneratedRegex("""^(?<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(\{([a-z_]+="([^"\\\n]|\\["\\n])*",?)*\})? -?[0-9.]+(E[+-]?[0-9]+)?$""")]
    private static partial Regex Sample();
}
