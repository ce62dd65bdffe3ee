using Mem1.Cli.Bench;

namespace Mem1.Cli.Tests;

public sealed class AsyncBenchTests
{
    [Fact]
    public async Task Both_ways_are_timed_and_their_idle_shares_are_shares()
    {
        var report = await AsyncBench.Run(updates: 2, rounds: 1, staleness: 1, quick: true, _ => { }, TestContext.Current.CancellationToken);
        Assert.Equal([("synchronous", 0, 2), ("asynchronous", 1, 2)], report.Rows.Select(r => (r.Way, r.Staleness, r.Updates)));
        foreach (var row in report.Rows)
        {
            Assert.InRange(row.LearnerIdle, 0, 1);
            Assert.InRange(row.SamplerIdle, 0, 1);
            Assert.InRange(row.StalenessMax, 0, row.Staleness);
            Assert.True(row.UpdatesPerHour > 0 && row.TokensPerSecond > 0);
        }

        Assert.Equal(report.Rows[1].UpdatesPerHour / report.Rows[0].UpdatesPerHour, report.TimesSynchronous);
        Assert.Contains("asynchronous", report.Table(), StringComparison.Ordinal);
    }
}
