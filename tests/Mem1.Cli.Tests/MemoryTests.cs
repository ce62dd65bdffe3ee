namespace Mem1.Cli.Tests;

public sealed class MemoryTests
{
    // Tiered compilation, the managed heap and the allocators of libtorch and BLAS settle within this many of these small updates (measured
    // over 250: 312 MiB at first, 435 after 60, 447 after 100, 449 after 240); what grows by every update after it is a leak.
    private const int WarmUp = 100, Updates = 160;

    // Two collections apart, the heap and malloc's free lists differ by a few MiB. One leaked copy of the 194,000 weights per update
    // (the smallest thing that could leak: 0.8 MiB) would be 40 MiB over the rest of the run.
    private const long AllowedGrowth = 20L << 20;

    [Fact]
    public void Many_updates_leak_no_tensor_and_no_memory()
    {
        using var temp = new TempFolder();
        Cli.Run(
            "train", "--quick", "--updates", $"{Updates}", "--set", "evaluation.episodes=0", "--set", "rollout.episodes_per_update=4",
            "--set", "rollout.max_episodes=4", "--set", "checkpoint.every=20", "--runs", temp["runs"]).Succeeded();
        var metrics = Runs.Metrics(temp["runs", "quick"]);
        Assert.Equal(Updates, metrics.Count);
        Assert.Single(metrics.Skip(1).Select(m => m.GetProperty("live_tensors").GetInt64()).Distinct());
        var rss = metrics.Select(m => m.GetProperty("rss_bytes").GetInt64()).ToList();
        var growth = rss.TakeLast(10).Min() - rss.Skip(WarmUp).Take(10).Max();
        Assert.True(growth < AllowedGrowth, $"{growth >> 20} MiB more; MiB by update: {string.Join(' ', rss.Select(b => b >> 20))}");
    }
}
