using System.Text.Json;
using Mem1.Cli.Bench;

namespace Mem1.Cli.Tests;

public sealed class RetrievalBenchTests
{
    [Fact]
    public void MeasuresBuildingAndSearching()
    {
        var done = Cli.Run("bench", "retrieval", "--passages", "300", "--json").Succeeded();
        var report = JsonSerializer.Deserialize<RetrievalBenchReport>(done.Out, BenchProcess.Json)!;
        var row = Assert.Single(report.Rows);
        Assert.Equal(300, row.Passages);
        Assert.True(row.BuildSeconds > 0 && row.IndexBytes > 0 && row.CorpusBytes > 300 * RetrievalCorpus.PassageWords);
        Assert.All([row.Questions, row.FrequentWords], t => Assert.True(t is { Queries: > 0, P50Ms: > 0, QueriesPerSecond: > 0 } && t.P99Ms >= t.P50Ms));
        Assert.Contains("    300  ", RetrievalBench.Table(report));
    }

    [Fact]
    public void TheSameSeedGivesTheSameCorpus()
    {
        using var folder = new TempFolder();
        new RetrievalCorpus(7).Write(folder["a"], 50, TestContext.Current.CancellationToken);
        new RetrievalCorpus(7).Write(folder["b"], 20, TestContext.Current.CancellationToken);
        new RetrievalCorpus(8).Write(folder["c"], 20, TestContext.Current.CancellationToken);
        Assert.Equal(File.ReadLines(folder["a"]).Take(20), File.ReadLines(folder["b"]));
        Assert.NotEqual(File.ReadAllText(folder["b"]), File.ReadAllText(folder["c"]));
        Assert.Equal(new RetrievalCorpus(7).Question(3, 50), new RetrievalCorpus(7).Question(3, 50));
    }
}
