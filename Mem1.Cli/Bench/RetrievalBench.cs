// Keeps: building and searching have a process each, so that each peak memory is its own; searches run on one thread, one after the other.
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Mem1.Environments.Retrieval;

namespace Mem1.Cli.Bench;

/// <summary>Latencies of one kind of query.</summary>
/// <param name="QueriesPerSecond">On one thread.</param>
/// <param name="P50Ms">Median, in milliseconds.</param>
/// <param name="P99Ms">99th percentile.</param>
/// <param name="MaxMs">Slowest.</param>
/// <param name="Queries">How many were timed; all are different.</param>
internal sealed record SearchTimes(double QueriesPerSecond, double P50Ms, double P99Ms, double MaxMs, int Queries);

/// <summary>One size of corpus.</summary>
/// <param name="Passages">Passages of the corpus.</param>
/// <param name="CorpusBytes">Size of the JSON Lines file.</param>
/// <param name="IndexBytes">Size of the index.</param>
/// <param name="BuildSeconds">Wall time of building it.</param>
/// <param name="BuildPeakBytes">Peak resident set while building.</param>
/// <param name="Questions">Four words of a passage, two frequent words and stop words; the best 3 passages with their text.</param>
/// <param name="FrequentWords">Six of the most frequent words.</param>
/// <param name="SearchPeakBytes">Peak resident set while searching, touched pages of the index included.</param>
/// <param name="SearchManagedBytes">Of those, what the process holds itself: the rest the system can take back.</param>
internal sealed record RetrievalRow(
    int Passages, long CorpusBytes, long IndexBytes, double BuildSeconds, long BuildPeakBytes, SearchTimes Questions,
    SearchTimes FrequentWords, long SearchPeakBytes, long SearchManagedBytes);

/// <summary>All of <c>mem1 bench retrieval</c>.</summary>
internal sealed record RetrievalBenchReport(string Bench, int PassageWords, MachineInfo Machine, IReadOnlyList<RetrievalRow> Rows);

/// <summary>Measures the index of a generated corpus.</summary>
internal static class RetrievalBench
{
    /// <summary>The hidden command that measures in a process of its own.</summary>
    public const string PassCommand = "retrieval-pass";

    private const ulong Seed = 1;

    private const int Documents = 3, WarmUp = 200, MostQueries = 2000;

    // Long enough for percentiles of slow cases, short enough for a table of several sizes.
    private static readonly TimeSpan s_timed = TimeSpan.FromSeconds(10);

    /// <summary>What to measure.</summary>
    public enum Stage
    {
        /// <summary>Making the corpus's index.</summary>
        Build,
        /// <summary>Searching it.</summary>
        Search,
    }

    /// <summary>Measures every size; the files lie in a folder that is removed afterwards.</summary>
    public static async Task<RetrievalBenchReport> Run(
        IReadOnlyList<int> sizes, Action<string> progress, CancellationToken cancellationToken)
    {
        var machine = MachineInfo.Describe();
        var rows = new List<RetrievalRow>();
        foreach (var size in sizes)
        {
            var folder = Directory.CreateTempSubdirectory("mem1-bench-");
            try
            {
                progress(string.Create(CultureInfo.InvariantCulture, $"{size:N0} passages, building"));
                var corpus = Path.Combine(folder.FullName, "corpus.jsonl");
                new RetrievalCorpus(Seed).Write(corpus, size, cancellationToken);
                var row = await Pass(Stage.Build, size, corpus, cancellationToken).ConfigureAwait(false);
                progress(string.Create(CultureInfo.InvariantCulture, $"{size:N0} passages, searching"));
                var search = await Pass(Stage.Search, size, corpus, cancellationToken).ConfigureAwait(false);
                rows.Add(row with
                {
                    Questions = search.Questions,
                    FrequentWords = search.FrequentWords,
                    SearchPeakBytes = search.SearchPeakBytes,
                    SearchManagedBytes = search.SearchManagedBytes,
                });
            }
            finally
            {
                folder.Delete(recursive: true);
            }
        }

        return new RetrievalBenchReport("retrieval", RetrievalCorpus.PassageWords, machine, rows);
    }

    /// <summary>Measures one stage in this process; the other stage's fields are empty.</summary>
    public static RetrievalRow MeasureHere(Stage stage, int passages, string corpus, CancellationToken cancellationToken)
    {
        var empty = new SearchTimes(0, 0, 0, 0, 0);
        var row = new RetrievalRow(passages, new FileInfo(corpus).Length, 0, 0, 0, empty, empty, 0, 0);
        var path = CorpusIndex.DefaultPath(corpus);
        ResidentSet.ResetPeak();
        if (stage == Stage.Build)
        {
            var watch = Stopwatch.StartNew();
            CorpusIndex.Build(corpus, path, progress: null, cancellationToken);
            return row with
            {
                BuildSeconds = watch.Elapsed.TotalSeconds,
                BuildPeakBytes = ResidentSet.Peak(),
                IndexBytes = new FileInfo(path).Length,
            };
        }

        var words = new RetrievalCorpus(Seed);
        using var index = CorpusIndex.Open(path);
        var questions = Time(index, i => words.Question(i, passages), cancellationToken);
        var frequent = Time(index, words.FrequentWords, cancellationToken);
        return row with
        {
            Questions = questions,
            FrequentWords = frequent,
            SearchPeakBytes = ResidentSet.Peak(),
            SearchManagedBytes = GC.GetTotalMemory(forceFullCollection: true),
        };
    }

    /// <summary>The table for people.</summary>
    public static string Table(RetrievalBenchReport report)
    {
        var text = new StringWriter(CultureInfo.InvariantCulture);
        text.WriteLine($"{report.Machine}");
        text.WriteLine(
            $"Generated passages of {report.PassageWords} words; best {Documents} with their texts, one thread. "
                + "Times in milliseconds, memory in MiB.");
        text.WriteLine();
        text.WriteLine("           ---------- build ----------  ------ questions ------  --- six frequent words ---  --- memory ---");
        text.WriteLine(" passages  seconds    MiB  index MiB    per s    p50    p99     per s     p50     p99       peak   held");
        foreach (var row in report.Rows)
        {
            text.WriteLine(string.Create(
                CultureInfo.InvariantCulture,
                $"{row.Passages,9}  {row.BuildSeconds,7:0.0}  {Mib(row.BuildPeakBytes),5:0}  {Mib(row.IndexBytes),9:0}  ")
                + $"{Columns(row.Questions)}  {Columns(row.FrequentWords)}     "
                + string.Create(CultureInfo.InvariantCulture, $"{Mib(row.SearchPeakBytes),5:0}  {Mib(row.SearchManagedBytes),5:0}"));
        }

        return text.ToString();
    }

    private static string Columns(SearchTimes times) =>
        string.Create(CultureInfo.InvariantCulture, $"{times.QueriesPerSecond,7:0}  {times.P50Ms,5:0.00}  {times.P99Ms,5:0.00}");

    private static double Mib(long bytes) => bytes / Math.Pow(2, 20);

    private static SearchTimes Time(CorpusIndex index, Func<int, string> query, CancellationToken cancellationToken)
    {
        for (var i = 0; i < WarmUp; i++) index.Search(query(MostQueries + i), Documents, cancellationToken);
        var times = new List<double>();
        for (var all = Stopwatch.StartNew(); times.Count < MostQueries && all.Elapsed < s_timed;)
        {
            var text = query(times.Count);
            var watch = Stopwatch.StartNew();
            index.Search(text, Documents, cancellationToken);
            times.Add(watch.Elapsed.TotalMilliseconds);
        }

        times.Sort();
        double At(double share) => times[(int)Math.Min(times.Count - 1, share * times.Count)];
        return new SearchTimes(1000 * times.Count / times.Sum(), At(0.5), At(0.99), times[^1], times.Count);
    }

    private static async Task<RetrievalRow> Pass(Stage stage, int passages, string corpus, CancellationToken cancellationToken)
    {
        var what = string.Create(CultureInfo.InvariantCulture, $"{stage} of {passages} passages");
        string[] arguments =
        [
            "bench", PassCommand, "--stage", $"{stage}", "--passages", passages.ToString(CultureInfo.InvariantCulture), "--corpus", corpus,
        ];
        if (await BenchProcess.Run(BenchProcess.Self(arguments), cancellationToken).ConfigureAwait(false) is not { } ended)
            throw new UserErrorException($"{what}: dotnet could not be started.");
        if (ended.Code != 0)
            throw new UserErrorException($"Measuring {what} ended with status {ended.Code}: {ended.Errors.Trim()}");
        return JsonSerializer.Deserialize<RetrievalRow>(ended.Output, BenchProcess.Json)
            ?? throw new UserErrorException($"Measuring {what} reported nothing.");
    }
}
