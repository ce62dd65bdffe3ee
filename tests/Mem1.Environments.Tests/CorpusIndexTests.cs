using System.Diagnostics;
using System.Text;
using Mem1.Environments.Retrieval;

namespace Mem1.Environments.Tests;

public sealed class CorpusIndexTests
{
    private const string Corpus = """
        {"id": "0", "contents": "\"Paris\"\nParis is the capital of France."}
        {"id": 1, "contents": "\"Lyon\"\nLyon is a city in France. It was never the capital."}

        {"id": "c", "contents": "\"Café\"\nA café serves coffee. Running, ran, runs."}
        {"id": "d", "contents": "\"Tie\"\nzebra"}
        {"id": "e", "contents": "\"Tie\"\nzebra"}
        {"id": "f", "contents": "\"Tie\"\nzebra"}
        """;

    private static string Ids(CorpusIndex index, string query, int k = 10) =>
        string.Concat(index.Search(query, k).Select(h => h.Passage.Id));

    [Fact]
    public void FindsStemsAccentsAndTitlesWithTiesInCorpusOrder()
    {
        using var folder = new TempFolder();
        using CorpusIndex index = CorpusIndex.OpenOrBuild(folder.Write("c.jsonl", "\uFEFF" + Corpus.Replace("\n", "\r\n")));
        Assert.Equal(6, index.Count);
        Assert.Equal("01", Ids(index, "What is the capital of France?")[..2]);
        Assert.Equal("c", Ids(index, "CAFE"));
        Assert.Equal("c", Ids(index, "run"));
        Assert.Equal("def", Ids(index, "zebra"));
        Assert.Equal("de", Ids(index, "tie zebra", 2));
        Assert.Equal("", Ids(index, "nothing-of-the-kind"));
        Assert.Equal("", Ids(index, "  ?! "));
        Assert.NotEqual("", Ids(index, "is the"));
        SearchHit hit = index.Search("Paris", 1)[0];
        Assert.Equal(("\"Paris\"", "Paris is the capital of France."), (hit.Passage.Title, hit.Passage.Text));
        IReadOnlyList<SearchHit> hits = index.Search("capital France", 3);
        Assert.True(hits[0].Score >= hits[1].Score && hits[1].Score > 0);
        Assert.Throws<ArgumentOutOfRangeException>(() => index.Search("x", 0));
    }

    [Fact]
    public void AnyTextIsAQuery()
    {
        using var folder = new TempFolder();
        using CorpusIndex index = CorpusIndex.OpenOrBuild(folder.Write("c.jsonl", Corpus));
        string[] syntax =
        [
            "\"", "*", "NEAR(", "AND", "OR", "NOT", "(", ")", "^", ":", "contents:",
            "-", "+", "{", "}", "zebra", " ", "\0", "'", ";", ",",
        ];
        var random = new Random(17);
        for (int i = 0; i < 3000; i++)
        {
            byte[] bytes = new byte[random.Next(40)];
            random.NextBytes(bytes);
            string query = (i % 3) switch
            {
                0 => Encoding.UTF8.GetString(bytes),
                1 => Encoding.Unicode.GetString(bytes),
                _ => string.Concat(Enumerable.Range(0, random.Next(12)).Select(_ => syntax[random.Next(syntax.Length)])),
            };
            IReadOnlyList<SearchHit> hits = index.Search(query, 3);
            Assert.InRange(hits.Count, 0, 3);
            Assert.Equal(hits, index.Search(query, 3));
        }
        string huge = string.Join(' ', Enumerable.Range(0, 20_000).Select(i => $"w{i}"));
        Assert.Empty(index.Search(huge, 3));
        Assert.Equal("d", Ids(index, "zebra " + huge, 1));
    }

    [Fact]
    public void IsReusedUntilTheCorpusChanges()
    {
        using var folder = new TempFolder();
        string corpus = folder.Write("c.jsonl", Corpus);
        int built = 0;
        var progress = new Counter(() => built++);
        CorpusIndex.OpenOrBuild(corpus, null, progress).Dispose();
        Assert.Equal(1, built);
        CorpusIndex.OpenOrBuild(corpus, null, progress).Dispose();
        File.SetLastWriteTimeUtc(corpus, DateTime.UtcNow.AddHours(1)); // touched only: the hash decides
        CorpusIndex.OpenOrBuild(corpus, null, progress).Dispose();
        Assert.Equal(1, built);
        File.WriteAllText(corpus, Corpus.Replace("zebra", "horse"));
        File.SetLastWriteTimeUtc(corpus, DateTime.UtcNow.AddHours(2));
        using CorpusIndex index = CorpusIndex.OpenOrBuild(corpus, null, progress);
        Assert.Equal(2, built);
        Assert.Equal(("", "def"), (Ids(index, "zebra"), Ids(index, "horse")));
    }

    [Theory]
    [InlineData("{\"id\": \"1\"}", "line 1, field contents: it is missing")]
    [InlineData("{\"id\": \"1\", \"contents\": \"t\"}\n{\"contents\": \"x\"}", "line 2, field id: it is missing")]
    [InlineData("\n\n{\"id\": \"1\", \"contents\": 5}", "line 3, field contents: a string is expected but a number is there")]
    [InlineData("{\"id\": \"1\", \"contents\": \" \"}", "line 1, field contents: it is blank")]
    [InlineData("{\"id\": [], \"contents\": \"x\"}", "line 1, field id: a string is expected but a list is there")]
    [InlineData("{\"id\": \"1\", \"contents\": \"x\"", "line 1: not valid JSON at byte 28 of the line")]
    [InlineData("[1]", "line 1: a JSON object is expected")]
    [InlineData("{\"id\": \"1\", \"contents\": \"\\ud800\"}", "line 1, field contents: it holds half of a surrogate pair")]
    [InlineData("", ": the corpus file holds no passages")]
    public void FaultsNameTheirPlaceAndLeaveNothingBehind(string corpus, string expected)
    {
        using var folder = new TempFolder();
        string file = folder.Write("c.jsonl", corpus);
        var e = Assert.Throws<DataFormatException>(() => CorpusIndex.OpenOrBuild(file));
        Assert.StartsWith(file, e.Message);
        Assert.Contains(expected, e.Message);
        Assert.EndsWith(".", e.Message);
        Assert.Equal(["c.jsonl", "c.jsonl.fts5.lock"], Directory.GetFiles(folder.Path).Select(Path.GetFileName).Order());
    }

    [Fact]
    public void MissingFilesFoldersAndForeignFilesAreNamed()
    {
        using var folder = new TempFolder();
        Assert.Contains("does not exist", Assert.Throws<DataFormatException>(() => CorpusIndex.OpenOrBuild(folder.File("no"))).Message);
        Assert.Contains("is a folder", Assert.Throws<DataFormatException>(() => CorpusIndex.OpenOrBuild(folder.Path)).Message);
        string corpus = folder.Write("c.jsonl", Corpus), other = folder.Write("notes.txt", "my notes");
        Assert.Contains("not a search index", Assert.Throws<DataFormatException>(() => CorpusIndex.OpenOrBuild(corpus, other)).Message);
        Assert.Equal("my notes", File.ReadAllText(other));
        Assert.Contains(
            "folder does not exist",
            Assert.Throws<IOException>(() => CorpusIndex.OpenOrBuild(corpus, Path.Combine(folder.Path, "no", "x"))).Message);
    }

    [Fact]
    public async Task SearchesRunInParallel()
    {
        using var folder = new TempFolder();
        string lines = string.Join('\n', Enumerable.Range(0, 400).Select(
            i => $$"""{"id": "{{i}}", "contents": "T{{i}}\nword{{i % 50}} other"}"""));
        CorpusIndex index = CorpusIndex.OpenOrBuild(folder.Write("c.jsonl", lines));
        string[] expected = [.. Enumerable.Range(0, 50).Select(i => Ids(index, $"word{i}"))];
        await Task.WhenAll(Enumerable.Range(0, 8).Select(worker => Task.Run(() =>
        {
            for (int i = 0; i < 200; i++)
                Assert.Equal(expected[(i + worker) % 50], Ids(index, $"word{(i + worker) % 50}"));
        })));
        index.Dispose();
        Assert.Throws<ObjectDisposedException>(() => index.Search("x", 1));
    }

    [Fact]
    public async Task BuildersOfOneIndexWaitForEachOther()
    {
        using var folder = new TempFolder();
        string corpus = folder.Write("c.jsonl", Corpus);
        int built = 0;
        await Task.WhenAll(Enumerable.Range(0, 4).Select(_ => Task.Run(() =>
        {
            using CorpusIndex index = CorpusIndex.OpenOrBuild(corpus, null, new Counter(() => Interlocked.Increment(ref built)));
            Assert.Equal("def", Ids(index, "zebra"));
        })));
        Assert.Equal(1, built);
    }

    [Fact]
    public void WaitingForAnotherBuilderCanBeCancelled()
    {
        using var folder = new TempFolder();
        string corpus = folder.Write("c.jsonl", Corpus);
        using var other = new FileStream(
            CorpusIndex.DefaultPath(corpus) + ".lock", FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
        using var stop = new CancellationTokenSource(TimeSpan.FromMilliseconds(150));
        Assert.Throws<OperationCanceledException>(() => CorpusIndex.OpenOrBuild(corpus, null, null, stop.Token));
        Assert.False(File.Exists(CorpusIndex.DefaultPath(corpus)));
    }

    [Fact]
    public void CancelledBuildLeavesNoIndex()
    {
        using var folder = new TempFolder();
        string corpus = folder.Write("c.jsonl", Large(5000));
        using var stop = new CancellationTokenSource();
        Assert.Throws<OperationCanceledException>(() => CorpusIndex.OpenOrBuild(corpus, null, new Counter(stop.Cancel), stop.Token));
        Assert.Equal(["c.jsonl", "c.jsonl.fts5.lock"], Directory.GetFiles(folder.Path).Select(Path.GetFileName).Order());
    }

    [Fact]
    public void SearchCanBeInterrupted()
    {
        using var folder = new TempFolder();
        using CorpusIndex index = CorpusIndex.OpenOrBuild(folder.Write("c.jsonl", Corpus));
        using var stop = new CancellationTokenSource();
        stop.Cancel();
        Assert.ThrowsAny<OperationCanceledException>(() => index.Search("zebra", 3, stop.Token));
        Assert.Equal("def", Ids(index, "zebra"));
    }

    /// <summary>The test program itself, started with the environment variable below, plays the builder that is killed.</summary>
    [Theory]
    [InlineData(0)]
    [InlineData(150)]
    public void KilledBuildLeavesNoHalfIndexAndTheNextOneSucceeds(int milliseconds)
    {
        using var folder = new TempFolder();
        string corpus = folder.Write("c.jsonl", Large(60_000));
        string path = CorpusIndex.DefaultPath(corpus);
        var start = new ProcessStartInfo(Environment.ProcessPath!) { RedirectStandardOutput = true, RedirectStandardError = true };
        if (Path.GetFileNameWithoutExtension(Environment.ProcessPath!) == "dotnet")
            start.ArgumentList.Add(typeof(CorpusIndexTests).Assembly.Location);
        foreach (string argument in (string[])["-method", $"{typeof(CorpusIndexTests).FullName}.{nameof(BuildForTheKiller)}"])
            start.ArgumentList.Add(argument);
        start.Environment[KillVariable] = corpus;
        using (Process builder = Process.Start(start)!)
        {
            var clock = Stopwatch.StartNew();
            while (!File.Exists(path + ".building"))
            {
                Assert.False(builder.HasExited, "The builder ended before it could be killed.");
                Assert.True(clock.Elapsed < TimeSpan.FromSeconds(60), "The builder did not start to write.");
                Thread.Sleep(1);
            }
            Thread.Sleep(milliseconds);
            builder.Kill(entireProcessTree: true);
            builder.WaitForExit();
        }
        // At once, the file is still incomplete; later, a quick builder may have finished: then it must be whole.
        if (milliseconds == 0)
            Assert.False(File.Exists(path));
        using CorpusIndex index = CorpusIndex.OpenOrBuild(corpus);
        Assert.Equal(60_000, index.Count);
        Assert.Equal("41", Ids(index, "word41", 1));
        Assert.Equal(60_000, index.Search("epsilon", 60_000).Count);
        Assert.Equal(["c.jsonl", "c.jsonl.fts5", "c.jsonl.fts5.lock"], Directory.GetFiles(folder.Path).Select(Path.GetFileName).Order());
    }

    private const string KillVariable = "MEM1_TEST_INDEX_TO_BUILD";

    [Fact]
    public void BuildForTheKiller()
    {
        // In an ordinary run there is nothing to build: the test above starts this one alone, in a process of its own.
        if (Environment.GetEnvironmentVariable(KillVariable) is { } corpus)
            CorpusIndex.OpenOrBuild(corpus).Dispose();
    }

    private static string Large(int lines)
    {
        var text = new StringBuilder();
        for (int i = 0; i < lines; i++)
        {
            text.Append($$"""{"id": "{{i}}", "contents": "Title {{i}}\nword{{i}} alpha beta gamma{{i % 977}} delta{{i % 31}} epsilon"}""");
            text.Append('\n');
        }
        return text.ToString();
    }

    private sealed class Counter(Action report) : IProgress<IndexProgress>
    {
        public void Report(IndexProgress value) => report();
    }
}
