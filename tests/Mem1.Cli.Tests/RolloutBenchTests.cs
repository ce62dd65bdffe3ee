using Mem1.Cli.Bench;

namespace Mem1.Cli.Tests;

public sealed class RolloutBenchTests
{
    [Fact]
    public void Every_batch_and_thread_count_has_a_row_of_positive_rates()
    {
        var report = RolloutBench.Run("tiny", [1, 3], [1, 2], repeat: 1, TimeSpan.Zero, _ => { }, TestContext.Current.CancellationToken);

        Assert.Equal([(1, 1), (1, 2), (3, 1), (3, 2)], report.Rows.Select(r => (r.Batch, r.Threads)));
        Assert.All(
            report.Rows, r => Assert.True(r.TokensPerSecond > 0 && r.DecodeTokensPerSecond > 0 && r.PrefillTokensPerSecond > 0));
        var lines = report.Table().Split("prefill\n")[1].Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(report.Rows.Count + 2 + report.Worlds.Count, lines.Length); // two lines of heading between the two tables
        Assert.Equal([1, 2], report.Worlds.Select(w => w.Threads));
        Assert.All(report.Worlds, w => Assert.True(w.TokensPerSecond > w.EpisodesPerSecond && w.EpisodesPerSecond > 0));
        Assert.All(report.Worlds, w => Assert.True(w.TimesWithoutPromptCache > 0 && w.PrefillSaved is > 0.05 and < 1));
    }
}
