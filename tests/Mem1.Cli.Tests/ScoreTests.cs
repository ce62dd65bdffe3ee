// mem1 data score through the program: numbers that can be checked by hand, a judge that listens on loopback, and what is refused.
using System.IO.Compression;
using System.Net;
using System.Text;
using System.Text.Json;

namespace Mem1.Cli.Tests;

public sealed class ScoreTests
{
    private static readonly string s_tasks = """
        {"id": "1", "objectives": [{"id": "a", "question": "Capital?", "golden_answers": ["Paris"]}, RAPPER]}
        {"id": "2", "objectives": [{"id": "c", "question": "Band?", "golden_answers": ["Beatles"]}, BOTH]}
        {"id": "3", "objectives": [{"id": "e", "question": "Who?", "golden_answers": ["Barack Obama"]}]}
        {"id": "4", "objectives": [{"id": "f", "question": "Where?", "golden_answers": ["here"]}]}

        """
        .Replace("RAPPER", """{"id": "b", "question": "Rapper?", "golden_answers": ["Jay-Z", "JAY Z"]}""", StringComparison.Ordinal)
        .Replace("BOTH", """{"id": "d", "question": "Both?", "golden_answers": ["x; y"]}""", StringComparison.Ordinal);

    private const string Answers = """
        {"id": "1", "answer": "Paris; Jay Z; extra"}
        {"id": "2", "answer": "The Beatles; x; y"}
        {"id": "3", "answer": "Barack Hussein Obama"}
        {"id": "4", "answer": null}

        """;

    [Fact]
    public void CountsMeansAndTheOriginalsRules()
    {
        using var folder = new TempFolder();
        string[] arguments = ["data", "score", "--tasks", folder.Write("t", s_tasks), "--answers", folder.Write("a", Answers), "--legacy"];
        using var json = JsonDocument.Parse(Cli.Run([.. arguments, "--json"]).Succeeded().Out);
        double Number(params string[] path) => path.Aggregate(json.RootElement, (e, name) => e.GetProperty(name)).GetDouble();

        Assert.Equal((4, 6, 1, 1), (Number("tasks"), Number("objectives"), Number("unanswered"), Number("mismatched")));
        // 2, 2, 0 and 0 right of 2, 2, 1 and 1; F1 of the third is 2 * (2/3 * 1) / (2/3 + 1) = 0.8.
        Assert.Equal(1, Number("exact_match", "count"));
        Assert.Equal(4.0 / 6, Number("exact_match", "share"), 12);
        Assert.Equal(4.8 / 4, Number("f1", "count"), 12);
        Assert.Equal(2, Number("by_objectives", "2", "exact_match", "count"));
        Assert.Equal(0.4, Number("by_objectives", "1", "f1", "share"), 12);
        // Training: 2 (extra ignored), 1 (the cut answer is not put together again), 0, 0.
        Assert.Equal(0.75, Number("legacy", "training", "count"));
        // Evaluation: other numbers of answers, then articles stay and the third is no match: nothing is right.
        Assert.Equal(0, Number("legacy", "evaluation", "count"));
        Assert.Equal(0.2, Number("legacy", "evaluation_f1", "count"), 12);
        // Rollout driver: "paris" in "paris"; "jay z" against "jay-z" only: 1. "the beatles" holds "beatles", "x" is in "x; y": 2.
        // One question: the answer must be within the golden ones: 0; none: 0.
        Assert.Equal(0.75, Number("legacy", "rollout", "count"));
        Assert.Equal(JsonValueKind.Null, json.RootElement.GetProperty("judge").ValueKind);

        var text = Cli.Run(arguments).Succeeded().Out;
        Assert.Contains("4 tasks of 6 objectives; 1 without an answer, 1 with another number of answers", text);
        Assert.Contains("original, training", text);
    }

    [Fact]
    public async Task AJudgeIsAskedOnlyWhenNamedAndTheKeyIsNotShown()
    {
        using var folder = new TempFolder();
        using var listener = new HttpListener();
        var port = 0;
        while (port == 0)
        {
            try
            {
                listener.Prefixes.Clear();
                var tried = Random.Shared.Next(20_000, 60_000);
                listener.Prefixes.Add($"http://127.0.0.1:{tried}/");
                listener.Start();
                port = tried;
            }
            catch (HttpListenerException)
            {
                // taken: try another
            }
        }

        var keys = new List<string?>();
        var serving = Task.Run(async () =>
        {
            while (listener.IsListening)
            {
                HttpListenerContext context;
                try
                {
                    context = await listener.GetContextAsync();
                }
                catch (Exception e) when (e is HttpListenerException or ObjectDisposedException)
                {
                    return;
                }

                using var reader = new StreamReader(context.Request.InputStream);
                var body = await reader.ReadToEndAsync();
                lock (keys) keys.Add(context.Request.Headers["Authorization"]);
                var verdict = body.Contains("Band?", StringComparison.Ordinal) ? "perhaps" : "yes";
                context.Response.OutputStream.Write(
                    JsonSerializer.SerializeToUtf8Bytes(new { choices = new[] { new { message = new { content = verdict } } } }));
                context.Response.Close();
            }
        }, TestContext.Current.CancellationToken);
        var start = Cli.Command(
            "data", "score", "--tasks", folder.Write("t", s_tasks), "--answers", folder.Write("a", Answers), "--json",
            "--judge", $"http://127.0.0.1:{port}/v1", "--judge-model", "m");
        start.Environment["MEM1_JUDGE_KEY"] = "secret-key";
        var outcome = Cli.Run(start).Succeeded();
        listener.Stop();
        await serving;

        using var json = JsonDocument.Parse(outcome.Out);
        var judge = json.RootElement.GetProperty("judge");
        // Six objectives: one without an answer is a no, one gets no verdict, four are a yes.
        Assert.Equal(5, judge.GetProperty("judged").GetInt32());
        Assert.Equal(1, judge.GetProperty("not_judged").GetInt32());
        Assert.Equal(0.8, judge.GetProperty("match").GetDouble());
        Assert.Equal(5, keys.Count);
        Assert.All(keys, k => Assert.Equal("Bearer secret-key", k));
        Assert.Contains("1 of 6 answers got no verdict", outcome.Error);
        Assert.DoesNotContain("secret", outcome.Out + outcome.Error);
    }

    [Fact]
    public void WhatIsWrongIsSaidWithFileAndLine()
    {
        using var folder = new TempFolder();
        string tasks = folder.Write("t", s_tasks);
        void Refused(string answers, params string[] words) =>
            Refusals.Refused(["data", "score", "--tasks", tasks, "--answers", folder.Write("a", answers)], words);
        Refused("", folder["a"], "holds no answers");
        Refused("{\"id\": \"1\", \"answer\": \"x\"}\n{\"id\": \"1\", \"answer\": \"x\"}", "line 2, field id", "already answered on line 1");
        Refused("{\"id\": \"9\", \"answer\": \"x\"}", "line 1, field id", "\"9\" is the id of no task in");
        Refused("{\"id\": \"1\", \"answer\": 3}", "line 1, field answer", "a string or null is expected");
        Refused("{\"id\": \"1\"}", "line 1, field answer", "missing");
        string[] judged = ["data", "score", "--tasks", tasks, "--answers", folder.Write("a", Answers)];
        Refusals.Refused([.. judged, "--judge", "http://localhost:1/v1"], "--judge-model");
        Refusals.Refused([.. judged, "--judge-model", "m"], "--judge URL");
        Refusals.Refused([.. judged, "--judge", "ftp://x/v1", "--judge-model", "m"], "is not an http or https address");
    }

    /// <summary>What foreign files do to the program itself: the sentence names the file and the line, and the exit code is 2.</summary>
    [Fact]
    public void DamagedFilesAreRefusedByTheProgram()
    {
        using var folder = new TempFolder();
        byte[] lines = Encoding.UTF8.GetBytes(string.Concat(Enumerable.Range(0, 2000).Select(
            i => $$"""{"id": "{{i}}", "contents": "{{new string('x', 40 + (i % 7))}} {{i * 7919}}"}""" + "\n")));
        var packed = new MemoryStream();
        using (var zip = new GZipStream(packed, CompressionLevel.Fastest, leaveOpen: true)) zip.Write(lines);
        File.WriteAllBytes(folder["cut.gz"], packed.ToArray()[..(int)(packed.Length / 2)]);
        var firstLine = lines.AsSpan(0, lines.AsSpan().IndexOf((byte)'\n') + 1);
        File.WriteAllBytes(folder["utf8"], [.. firstLine, .. "{\"id\": \"z\", \"contents\": \""u8, 0xC3, 0x28, .. "\"}"u8]);
        using (var stream = File.Create(folder["long"]))
        {
            stream.Write("\n{\"id\": \""u8);
            stream.SetLength(100 << 20); // sparse: zeros
        }

        void Index(string file, params string[] words) =>
            Refusals.Refused(["data", "index", "--corpus", folder[file], "--out", folder["i"]], [folder[file], .. words]);
        Index("cut.gz", "line ", "the gzip file is cut off");
        Index("utf8", "line 2, field contents", "bytes that are not UTF-8");
        Index("long", "line 2", "longer than 32 MiB");
        Assert.False(File.Exists(folder["i"]));
        Refusals.Refused(
            ["data", "compose", "--tasks", folder["long"], "--out", folder["o"]], folder["long"], "line 2", "longer than 32 MiB");
        Refusals.Refused(["data", "compose", "--tasks", $"squad:{folder["cut.gz"]}", "--out", folder["o"]], folder["cut.gz"]);
        Assert.False(File.Exists(folder["o"]));
    }
}
