using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Mem1.Cli.Bench;
using Mem1.Environments.Retrieval;

namespace Mem1.Cli.Commands;

/// <summary><c>mem1 data index</c> and <c>mem1 data search</c>.</summary>
internal static class IndexCommands
{
    // A line of progress in a log; on a terminal the line is overwritten more often.
    private static readonly TimeSpan s_logEvery = TimeSpan.FromSeconds(10), s_screenEvery = TimeSpan.FromSeconds(0.2);

    // Where on the screen a hit ends: two lines of a usual terminal.
    private const int ShownCharacters = 160;

    public static Command Index()
    {
        var corpus = new Option<FileInfo>("--corpus")
        {
            Description = "Passages: jsonl with id and contents, gzipped or not",
            Required = true,
            HelpName = "FILE.jsonl[.gz]",
        };
        var output = new Option<FileInfo?>("--out") { Description = "Index to write; beside the corpus if not given", HelpName = "INDEX" };
        var command = new Command(
            "index",
            """
            Build the search index of a corpus: one SQLite file with the passages, an FTS5 index and BM25 postings. A build that was stopped
            leaves nothing under the index's name; the next one starts from the beginning and says so. An index that is current is
            left alone.

            Example:
              ./mem1 data index --corpus corpus.jsonl.gz --out corpus.index
              ./mem1 data search corpus.index "who designed the stadium?" -k 3
            """)
        {
            corpus, output,
        };
        command.SetAction((parse, cancellationToken) =>
        {
            var from = parse.GetValue(corpus)!.FullName;
            var to = parse.GetValue(output)?.FullName ?? CorpusIndex.DefaultPath(from);
            var watch = Stopwatch.StartNew();
            var screen = new ProgressLine(watch);
            IndexBuild done;
            try
            {
                done = CorpusIndex.Build(from, to, screen, cancellationToken);
            }
            catch (OperationCanceledException)
            {
                screen.End();
                Console.Error.WriteLine("stopped; no index was written");
                return Task.FromResult(1);
            }
            finally
            {
                screen.End();
            }

            using var index = CorpusIndex.Open(to);
            Console.WriteLine(string.Create(
                CultureInfo.InvariantCulture, $"{index.Count:N0} passages -> {to}: {Sentence(done, watch.Elapsed)}"));
            return Task.FromResult(0);
        });
        return command;
    }

    public static Command Search()
    {
        var index = new Argument<FileInfo>("INDEX") { Description = "Made by mem1 data index" };
        var query = new Argument<string>("QUERY") { Description = "Any text" };
        var count = new Option<int>("-k") { Description = "Passages to show", HelpName = "N", DefaultValueFactory = _ => 3 };
        var match = new Option<bool>("--match")
        {
            Description = "QUERY is an FTS5 expression (phrases, AND, NOT, prefix*); unranked, in corpus order",
        };
        var json = new Option<bool>("--json") { Description = "One JSON object per passage on standard output" };
        count.Validators.Add(result =>
        {
            if (result.Tokens.Count == 1 && int.TryParse(result.Tokens[0].Value, CultureInfo.InvariantCulture, out var n) && n < 1)
                result.AddError($"-k is {n}; it must be at least 1.");
        });
        var command = new Command(
            "search",
            """
            Search an index as the environment does: BM25 over English terms.

            Examples:
              ./mem1 data search corpus.index "who designed the stadium?" -k 3
              ./mem1 data search corpus.index '"opening match" AND stadi*' --match
              ./mem1 data search corpus.index stadium --json | jq .id
            """)
        {
            index, query, count, match, json,
        };
        command.SetAction((parse, cancellationToken) =>
        {
            using var opened = CorpusIndex.Open(parse.GetValue(index)!.FullName);
            var text = parse.GetValue(query)!;
            var watch = Stopwatch.StartNew();
            var hits = parse.GetValue(match)
                ? opened.Filter(text, parse.GetValue(count), cancellationToken)
                : opened.Search(text, parse.GetValue(count), cancellationToken);
            var took = watch.Elapsed;
            for (var i = 0; i < hits.Count; i++)
            {
                var (passage, score) = (hits[i].Passage, hits[i].Score);
                if (parse.GetValue(json))
                {
                    Console.WriteLine(JsonSerializer.Serialize(new { rank = i + 1, id = passage.Id, score, contents = passage.Contents }));
                    continue;
                }

                var words = passage.Text.ReplaceLineEndings(" ");
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{i + 1}. [{score:0.00}] {passage.Id}: {passage.Title}"));
                if (words.Length > 0)
                    Console.WriteLine($"   {(words.Length > ShownCharacters ? words[..ShownCharacters] + "..." : words)}");
            }

            if (!parse.GetValue(json))
            {
                Console.Error.WriteLine(string.Create(
                    CultureInfo.InvariantCulture, $"{hits.Count} of {opened.Count:N0} passages in {took.TotalMilliseconds:0.0} ms"));
            }

            return Task.FromResult(0);
        });
        return command;
    }

    private static string Sentence(IndexBuild build, TimeSpan took)
    {
        var seconds = string.Create(CultureInfo.InvariantCulture, $"built in {took.TotalSeconds:0.0} s");
        return build switch
        {
            IndexBuild.Current => "already current, nothing was done",
            IndexBuild.AfterUnfinished => seconds + "; an earlier build had not finished, so this one started from the beginning",
            IndexBuild.Replaced => seconds + "; it replaces an index of another corpus, state or version",
            _ => seconds,
        };
    }

    /// <summary>Progress on standard error: one line overwritten on a terminal, a line now and then elsewhere.</summary>
    private sealed class ProgressLine(Stopwatch watch) : IProgress<IndexProgress>
    {
        private readonly bool _live = !Console.IsErrorRedirected;
        private TimeSpan _last;
        private bool _shown;

        public void Report(IndexProgress value)
        {
            var now = watch.Elapsed;
            // A build too short for a line of progress in a log needs none at its end either.
            if (!(value.Finishing && (_live || _shown)) && now - _last < (_live ? s_screenEvery : s_logEvery)) return;
            _last = now;
            var share = value.TotalBytes == 0 ? 1 : (double)value.BytesRead / value.TotalBytes;
            var text = value.Finishing
                ? string.Create(
                    CultureInfo.InvariantCulture, $"{value.Documents:N0} passages read in {now.TotalSeconds:0} s; writing the postings")
                : string.Create(
                    CultureInfo.InvariantCulture,
                    $"{value.Documents:N0} passages, {100 * share:0} %, {value.Documents / now.TotalSeconds:N0} a second, "
                    + $"{Left(now, share)} left");
            Console.Error.Write(_live ? $"\r{text}\e[K" : text + "\n");
            _shown = true;
        }

        /// <summary>Ends the line.</summary>
        public void End()
        {
            if (_live && _shown) Console.Error.WriteLine();
            _shown = false;
        }

        private static string Left(TimeSpan now, double share)
        {
            if (share <= 0) return "unknown time";
            var left = now * ((1 - share) / share);
            return left.TotalHours >= 1 ? $"{(int)left.TotalHours}:{left:mm\\:ss}" : $"{left:mm\\:ss}";
        }
    }
}
