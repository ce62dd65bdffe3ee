using System.Text.Json;
using Mem1.Cli.Bench;

namespace Mem1.Cli.Tests;

public sealed class DashboardBenchTests
{
    [Fact]
    public void Updates_with_and_without_the_dashboard_are_of_one_run_and_a_browser_looks()
    {
        var outcome = Cli.Run("bench", "dashboard", "--quick", "--blocks", "2", "--updates", "2", "--json").Succeeded();
        using var json = JsonDocument.Parse(outcome.Out);
        var rows = json.RootElement.GetProperty("rows").EnumerateArray()
            .Select(r => (r.GetProperty("update").GetInt32(), r.GetProperty("dashboard").GetBoolean())).ToList();

        Assert.Equal([(4, true), (6, false), (8, false), (10, true)], rows);
        Assert.All(json.RootElement.GetProperty("rows").EnumerateArray(), r => Assert.True(r.GetProperty("cpu_seconds").GetDouble() > 0));
        Assert.True(json.RootElement.GetProperty("events_seen").GetInt64() > 0);
    }

    [Fact]
    public void What_it_costs_is_a_share_of_medians_with_its_interval()
    {
        var report = DashboardBench.Report(
            null!,
            [
                .. Enumerable.Range(0, 40).Select(i => new DashboardRow(
                    i, i % 2 == 0, (i % 2 == 0 ? 1.25 : 1.0) + (0.001 * (i % 5)), i % 2 == 0 ? 2.2 : 2.0)),
            ],
            TimeSpan.FromMilliseconds(1), eventsSeen: 1);

        Assert.Equal(0.2, report.LostUpdates.Value, 2);
        Assert.InRange(report.LostUpdates.Value, report.LostUpdates.Low, report.LostUpdates.High);
        Assert.Equal(0.1, report.AddedCpu.Value, 6);
        Assert.Equal((1, 0.002), (report.LookMilliseconds, report.LookShareOfCore));
        Assert.InRange(report.LostUpdates.High - report.LostUpdates.Low, 0, 0.01);
    }
}
