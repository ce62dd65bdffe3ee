using Mem1.Cli.Bench;

namespace Mem1.Cli.Tests;

public sealed class RolloutBenchTests
{
    [Fact]
    public async Task Every_way_batch_and_thread_count_has_a_row_and_all_ways_draw_the_same()
    {
        var report = await RolloutBench.Run(
            ["tiny"], [1, 3], [1], repeat: 1, TimeSpan.Zero, worlds: true, _ => { }, TestContext.Current.CancellationToken);

        // Without python3-torch the peer's rows are absent and the report says so.
        string[] ways = report.PeerMissing is null ? ["managed", "libtorch", "python3-torch"] : ["managed", "libtorch"];
        if (report.PeerMissing is not null) Assert.Equal(PythonPeer.Missing, report.PeerMissing);
        Assert.Equal(
            ways.SelectMany(w => new[] { 1, 3 }.Select(b => (w, 1, b))),
            report.Rows.Select(r => (r.Way, r.Threads, r.Batch)));
        Assert.All(
            report.Rows, r => Assert.True(r.TokensPerSecond > 0 && r.DecodeTokensPerSecond > 0 && r.PrefillTokensPerSecond > 0));
        Assert.Equal(ways[1..].SelectMany(w => new[] { (w, 1), (w, 3) }), report.Ratios.Select(r => (r.Against, r.Batch)));
        Assert.All(report.Ratios, r => Assert.True(r.Times > 0 && r.DecodeTimes > 0 && r.PrefillTimes > 0));
        Assert.All(report.Agreements, a => Assert.InRange(a.LogProbMaxDifference, 0, 1e-5));
        Assert.Equal(ways[1..], report.Agreements.Select(a => a.Way));

        Assert.Equal([1], report.Worlds.Select(w => w.Threads));
        Assert.All(report.Worlds, w => Assert.True(w.TokensPerSecond > w.EpisodesPerSecond && w.EpisodesPerSecond > 0));
        Assert.All(report.Worlds, w => Assert.True(w.TimesWithoutPromptCache > 0 && w.PrefillSaved is > 0.05 and < 1));
        Assert.Contains($"times {ways[^1]}", report.Table(), StringComparison.Ordinal);
    }
}
