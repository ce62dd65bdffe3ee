// Expected numbers are worked out by hand in the comments beside them, from the definitions, not from the program.
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using Mem1.Cli.Evaluation;
using Mem1.Environments.Worlds;
using Mem1.Model;

namespace Mem1.Cli.Tests;

public sealed class EvaluationTests(ServedBuiltIn served) : IClassFixture<ServedBuiltIn>
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    private static EpisodeRecord Row(
        (int Context, int Generated, int State, int Observed)[] turns, double[] em, string end = "answered", string answer = "", int episode = 0,
        string agent = "mem1", string[][]? golds = null) => new(
            agent, em.Length, episode, "t", end, 0, em, em, answer, golds ?? [.. em.Select(_ => (string[])["x"])], 10, 0, 1.5,
            [.. turns.Select(t => new TurnRecord("turn", t.Context, t.Generated, t.State, t.Observed, "stop", "r", "o"))]);

    private static EvaluationSettings Settings(long bytes = 8) => new("m", null, "worlds", 1, 0, 100, bytes, 4, "f");

    [Fact]
    public void Numbers_of_an_episode_follow_their_definitions()
    {
        // Contexts 10 and 21, generated 5 and 4: sequences of 15 and 25. Dependency (2*10+5)*5/2 + (2*21+4)*4/2 = 62.5 + 92.
        var n = EpisodeNumbers.Of(Row([(10, 5, 2, 6), (21, 4, 1, 0)], [1, 0, 1]), 8);
        Assert.Equal(new EpisodeNumbers(2, 2, 25, 15, 154.5, 31, 9, 2, 1.5, 0, 200), n);
        Assert.Equal(1, EpisodeNumbers.Of(Row([(10, 5, 2, 6)], [0], end: "invalid_format"), 8).Invalid);
        Assert.Equal(1, EpisodeNumbers.Of(Row([(10, 5, 2, 6)], [0], end: "length"), 8).Invalid);
        Assert.Equal(0, EpisodeNumbers.Of(Row([(10, 5, 2, 6)], [0], end: "turn_limit"), 8).Invalid);
    }

    [Fact]
    public void A_summary_costs_tokens_and_is_no_turn()
    {
        var row = Row([(10, 5, 2, 6)], [1]);
        row = row with { Turns = [.. row.Turns, new TurnRecord("summary", 21, 9, 9, 0, "stop", "s", ""), .. Row([(19, 3, 1, 0)], [1]).Turns] };
        // (20+5)*5/2 + (42+9)*9/2 + (38+3)*3/2 = 62.5 + 229.5 + 61.5; the summary's sequence of 30 is the longest.
        Assert.Equal(new EpisodeNumbers(1, 1, 30, 20, 353.5, 50, 17, 2, 1.5, 0, 240), EpisodeNumbers.Of(row, 8));
    }

    [Fact]
    public void Legacy_token_figures_are_those_of_the_original_on_its_known_case()
    {
        // t, r, i of 2, 3, 5; 4, 2, 6; 1, 3: the original's code gives peaks of 16 and 26 and dependencies of 143 and 183.
        (int, int, int)[] turns = [(2, 3, 5), (4, 2, 6), (1, 3, 0)];
        Assert.Equal((16.0, 143.0), LegacyNumbers.Tokens(turns, forgets: true));
        Assert.Equal((26.0, 183.0), LegacyNumbers.Tokens(turns, forgets: false));
    }

    [Fact]
    public void Legacy_figures_count_thoughts_twice_and_leave_out_episodes_without_a_match()
    {
        string[][] golds = [["Paris"], ["Rome"]];
        var right = Row([(10, 5, 2, 6), (21, 4, 1, 0)], [1, 1], answer: "paris; Berlin", golds: golds);
        var wrong = Row([(10, 5, 2, 6)], [0, 0], answer: "London; Berlin", golds: golds, episode: 1);
        var report = EvaluationReport.Of(Settings(), ContextPolicies.Parse("mem1"), [2], 2, [wrong, right], legacy: true);
        var legacy = Assert.Single(report.Cells).Legacy!;
        // One of two in the first, none in the second. Its peak: 2 + 5 + 6 + 1 + 4.
        Assert.Equal(0.5, legacy.EmCount.Mean);
        Assert.Equal(1, legacy.TokenEpisodes);
        Assert.Equal(18, legacy.PeakTokens!.Mean);
    }

    [Fact]
    public void A_report_has_all_episodes_and_successful_ones_apart()
    {
        var rows = new[] { Row([(10, 5, 2, 0)], [1, 0]), Row([(10, 9, 2, 0)], [0, 0], end: "length", episode: 1), Row([(10, 99, 2, 0)], [1, 1], episode: 2) };
        var cell = Assert.Single(EvaluationReport.Of(Settings(), ContextPolicies.Parse("mem1"), [2], 2, rows, legacy: false).Cells);
        Assert.Equal((2, 0.5, 0.25, 17.0, 0.5), (cell.All.Episodes, cell.All.EmCount.Mean, cell.All.EmMean.Mean, cell.All.PeakTokens.Mean, cell.All.InvalidRate.Mean));
        Assert.Equal((1, 1.0, 15.0), (cell.Successful!.Episodes, cell.Successful.EmCount.Mean, cell.Successful.PeakTokens.Mean));
        Assert.Equal(new Dictionary<string, int> { ["answered"] = 1, ["length"] = 1 }, cell.Ends);
    }

    [Fact]
    public void Intervals_are_those_of_the_bootstrap()
    {
        Assert.Equal(new Estimate(3, 3, 3), Estimate.Of([3, 3, 3], 1));
        // 100 coin tosses, half of them heads: the binomial's central 95 % are 0.40 to 0.60.
        var e = Estimate.Of([.. Enumerable.Range(0, 100).Select(i => (double)(i % 2))], 7);
        Assert.Equal(0.5, e.Mean);
        Assert.InRange(e.Low, 0.38, 0.42);
        Assert.InRange(e.High, 0.58, 0.62);
        Assert.Equal(e, Estimate.Of([.. Enumerable.Range(0, 100).Select(i => (double)(i % 2))], 7));
    }

    private static EpisodeHistory History(int turns)
    {
        // Turn j: response j1 j2 j3 of which j1 is not kept by the format, observation j8 j9.
        var history = new EpisodeHistory { Prompt = "where is the river" };
        string[] texts = ["the river Aare", "a mountain", "another mountain", "some lake", "no more"];
        for (var j = 1; j <= turns; j++)
            history.Add(new PastTurn([(10 * j) + 1, (10 * j) + 2, (10 * j) + 3], [(10 * j) + 2, (10 * j) + 3], [(10 * j) + 8, (10 * j) + 9], texts[j - 1]));
        return history;
    }

    [Theory]
    [InlineData("mem1", "", "12 13 18 19", "42 43 48 49")]
    [InlineData("full", "", "11 12 13 18 19", "11 12 13 18 19 21 22 23 28 29 31 32 33 38 39 41 42 43 48 49")]
    [InlineData("truncate:7", "", "11 12 13 18 19", "38 39 41 42 43 48 49")]
    [InlineData("window:2", "", "11 12 13 18 19", "31 32 33 38 39 41 42 43 48 49")]
    [InlineData("summary:2", "", "11 12 13 18 19", "11 12 13 18 19 21 22 23 28 29 31 32 33 38 39 41 42 43 48 49")]
    // "river" of the prompt finds turn 1, which nothing else shares a word with ("the" is in it as well).
    [InlineData("retrieve:1", "", "11 12 13 18 19", "11 12 13 18 19 41 42 43 48 49")]
    public void Each_policy_selects_exactly(string name, string atFirst, string afterOne, string afterFour)
    {
        var policy = Assert.Single(ContextPolicies.Parse(name));
        Assert.Equal(name, policy.Name);
        Assert.Equal(atFirst, string.Join(' ', policy.Select(History(0))));
        Assert.Equal(afterOne, string.Join(' ', policy.Select(History(1))));
        Assert.Equal(afterFour, string.Join(' ', policy.Select(History(4))));
    }

    [Fact]
    public void A_summary_stands_for_the_turns_before_it()
    {
        var policy = Assert.Single(ContextPolicies.Parse("summary:2"));
        Assert.False(policy.SummariseNow(History(0)));
        Assert.False(policy.SummariseNow(History(1)));
        var history = History(2);
        Assert.True(policy.SummariseNow(history));
        history.Summarise([7, 8]);
        Assert.False(policy.SummariseNow(history));
        Assert.Equal([7, 8], policy.Select(history));
        history.Add(History(3).Turns[2]);
        Assert.Equal([7, 8, 31, 32, 33, 38, 39], policy.Select(history));
    }

    [Fact]
    public void Turns_are_found_by_bm25()
    {
        // Two texts of 2 and 4 terms, mean 3; "a" is in both: idf ln(1 + 0.5/2.5); "b" in the first: ln(1 + 1.5/1.5).
        var scores = TurnMemory.Scores(["a b", "a c c d"], "B, a!");
        var first = 1 / (1 + (0.9 * (0.6 + (0.4 * 2 / 3))));
        Assert.Equal((Math.Log(1.2) * first) + (Math.Log(2) * first), scores[0], 12);
        Assert.Equal(Math.Log(1.2) / (1 + (0.9 * (0.6 + (0.4 * 4 / 3)))), scores[1], 12);
        Assert.Equal([2, 0], TurnMemory.Best(["x y", "z", "x y"], "y", 3)); // a tie goes to the newer
        Assert.Empty(TurnMemory.Best(["x"], "q", 3));
    }

    [Theory]
    [InlineData("mem2", "mem2")]
    [InlineData("window:0", "window")]
    [InlineData("full:3", "full:3")]
    [InlineData("mem1,mem1", "twice")]
    [InlineData("truncate:a", "truncate")]
    public void A_wrong_agent_is_refused(string list, string named) =>
        Assert.Contains(named, Assert.Throws<UserErrorException>(() => ContextPolicies.Parse(list)).Message, StringComparison.Ordinal);

    private EvaluationOptions Options(string folder, string agents, int episodes = 3, string objectives = "1,3") => new()
    {
        Out = folder,
        Agents = ContextPolicies.Parse(agents),
        Episodes = episodes,
        Objectives = [.. objectives.Split(',').Select(int.Parse)],
        Batch = 5,
        Threads = 2,
    };

    private static string[] Timeless(string folder) =>
    [
        .. File.ReadAllLines(Path.Combine(folder, "results.jsonl")).Select(l => (EpisodeRecord.FromJson(l)! with { Seconds = 0 }).ToJson()),
    ];

    private static Task<EvaluationReport> Run(EvaluationOptions options) => EvaluationRun.RunAsync(options, static (_, _) => { }, static _ => { }, Token);

    [Fact]
    public async Task The_same_seed_gives_the_same_rows_whatever_the_batch()
    {
        using var temp = new TempFolder();
        var report = await Run(Options(temp["a"], "mem1,full,window:2,truncate:60,summary:2,retrieve:2"));
        await Run(Options(temp["b"], "mem1,full,window:2,truncate:60,summary:2,retrieve:2") with { Batch = 1, Threads = 1 });
        Assert.Equal(Timeless(temp["a"]), Timeless(temp["b"]));
        Assert.Equal(12, report.Cells.Count);
        foreach (var file in new[] { "report.md", "report.json", "exact_match.svg", "peak_tokens.svg" }) Assert.True(File.Exists(temp["a", file]), file);
        using var json = JsonDocument.Parse(File.ReadAllText(temp["a", "report.json"]));
        Assert.Equal(report.Cells[0].All.PeakTokens.Mean, json.RootElement.GetProperty("cells")[0].GetProperty("all").GetProperty("peak_tokens").GetProperty("mean").GetDouble());
        var rows = File.ReadAllLines(temp["a", "results.jsonl"]).Select(l => EpisodeRecord.FromJson(l)!).ToList();
        Assert.All(rows, r => Assert.Equal(r.PromptTokens, r.Turns[0].ContextTokens));
        foreach (var r in rows.Where(r => r.Agent == "full"))
        {
            for (var j = 1; j < r.Turns.Count; j++)
            {
                var t = r.Turns[j - 1];
                Assert.Equal(t.ContextTokens + t.GeneratedTokens + t.ObservationTokens, r.Turns[j].ContextTokens);
            }
        }

        foreach (var r in rows.Where(r => r.Agent == "mem1"))
        {
            for (var j = 1; j < r.Turns.Count; j++)
                Assert.Equal(r.PromptTokens + r.Turns[j - 1].GeneratedTokens + r.Turns[j - 1].ObservationTokens, r.Turns[j].ContextTokens);
        }

        Assert.Contains(rows, r => r.Agent == "summary:2" && r.Turns.Any(t => t.Kind == "summary"));
    }

    [Fact]
    public async Task A_killed_evaluation_goes_on_and_ends_the_same()
    {
        using var temp = new TempFolder();
        var options = Options(temp["whole"], "mem1,full");
        await Run(options);
        // As a kill leaves it: some rows in any order, and one cut short.
        Directory.CreateDirectory(temp["cut"]);
        var rows = File.ReadAllLines(temp["whole", "results.jsonl"]);
        File.Copy(temp["whole", "settings.json"], temp["cut", "settings.json"]);
        var marked = EpisodeRecord.FromJson(rows[4])! with { Seconds = 12345 };
        File.WriteAllText(temp["cut", "results.jsonl"], $"{marked.ToJson()}\n{rows[1]}\n{rows[7][..40]}");
        Assert.Contains("--resume", (await Assert.ThrowsAsync<UserErrorException>(() => Run(options with { Out = temp["cut"] }))).Message);
        await Run(options with { Out = temp["cut"], Resume = true });
        Assert.Equal(Timeless(temp["whole"]), Timeless(temp["cut"]));
        Assert.Equal(marked.ToJson(), File.ReadAllLines(temp["cut", "results.jsonl"])[4]); // was not played again
        var other = await Assert.ThrowsAsync<UserErrorException>(() => Run(options with { Out = temp["cut"], Resume = true, Seed = 2 }));
        Assert.Contains("seed", other.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_evaluation_that_is_killed_goes_on_from_the_rows_on_the_disk()
    {
        using var temp = new TempFolder();
        string[] command =
        [
            "eval", "--agents", "mem1,full", "--objectives", "1,3", "--episodes", "12", "--batch", "2", "--threads", "1", "--out", temp["cut"],
        ];
        int kept;
        using (var child = Cli.Start(command))
        {
            child.Until(() => File.Exists(temp["cut", "results.jsonl"]) && new FileInfo(temp["cut", "results.jsonl"]).Length > 0, "the first row");
            child.Kill(); // as kill -9
            child.Finish();
        }

        kept = File.ReadAllText(temp["cut", "results.jsonl"]).Count(c => c == '\n');
        Assert.True(kept > 0);
        var resumed = Cli.Run([.. command, "--resume"]).Succeeded();
        Assert.Contains($"{kept} of 48 episodes are there already", resumed.Error);
        await Run(Options(temp["whole"], "mem1,full", episodes: 12));
        Assert.Equal(Timeless(temp["whole"]), Timeless(temp["cut"]));
    }

    [Theory]
    [InlineData("Tokens")]
    [InlineData("Completions")]
    [InlineData("Chat")]
    public async Task An_endpoint_gives_what_the_model_gives_in_this_process(string api)
    {
        using var temp = new TempFolder();
        await Run(Options(temp["engine"], "mem1,full,summary:2", 2));
        var endpoint = new EndpointOptions
        {
            Address = new Uri(served.Server.Address, "v1"),
            Model = ServedBuiltIn.Name,
            Api = Enum.Parse<EndpointApi>(api),
            Concurrency = 4,
        };
        await Run(Options(temp["served"], "mem1,full,summary:2", 2) with { Endpoint = endpoint });
        Assert.Equal(Timeless(temp["engine"]), Timeless(temp["served"]));
    }

    [Fact]
    public async Task A_failing_endpoint_is_asked_again_and_then_given_up_with_a_sentence()
    {
        var asked = 0;
        using var listener = new HttpListener();
        var port = Free();
        listener.Prefixes.Add($"http://127.0.0.1:{port}/");
        listener.Start();
        var good = served.Checkpoint.Tokenizer!.Encode("<think> </think> <search> Belize </search>");
        var serving = Task.Run(async () =>
        {
            while (true)
            {
                HttpListenerContext context;
                try
                {
                    context = await listener.GetContextAsync();
                }
                catch (Exception e) when (e is HttpListenerException or ObjectDisposedException or InvalidOperationException)
                {
                    return;
                }

                var n = Interlocked.Increment(ref asked);
                context.Response.StatusCode = n == 3 ? 200 : 503;
                var body = n == 3 ? $"{{\"choices\":[{{\"finish_reason\":\"stop\",\"token_ids\":[{string.Join(',', good)}]}}]}}" : "busy";
                await context.Response.OutputStream.WriteAsync(Encoding.UTF8.GetBytes(body));
                context.Response.Close();
            }
        }, Token);
        var options = new EndpointOptions
        {
            Address = new Uri($"http://127.0.0.1:{port}/v1"),
            Model = "m",
            Retries = 2,
            Wait = TimeSpan.FromMilliseconds(1),
        };
        using (var model = new EndpointModel(options, served.Checkpoint.Tokenizer!))
        {
            var request = new PolicyRequest("", [1], [], new SamplingOptions(0, 1, 5), ["</search>"], 0);
            var answer = await model.GenerateAsync(request, Token);
            Assert.Equal(good, answer.Tokens);
            Assert.Equal(3, asked);
            var failure = await Assert.ThrowsAsync<UserErrorException>(() => model.GenerateAsync(request, Token));
            Assert.Contains("503", failure.Message, StringComparison.Ordinal);
            Assert.Equal(6, asked);
        }

        listener.Stop();
        await serving;
    }

    [Theory]
    [InlineData(false, "<think> next </think> <search> Belize anthem ")]
    [InlineData(true, "<think> next </think> <search> Belize anthem </search>")]
    public void A_served_text_ends_before_its_stop_string_also_when_one_token_brings_it_whole(bool keep, string expected)
    {
        var tokenizer = served.Checkpoint.Tokenizer!;
        var text = new Serve.ChoiceText(tokenizer, ["</search>", "</answer>"], keep);
        var pieces = tokenizer.Encode("<think> next </think> <search> Belize anthem </search>").Select(text.Add).ToList();
        Assert.Equal(expected, string.Concat(pieces.Append(text.End(stopped: true))));
        Assert.Equal("</search>", text.Stop);
    }

    [Fact]
    public void A_stop_string_that_a_server_cut_off_is_put_back()
    {
        // Exercised through the served model above for servers that name it; here for one that does not.
        var tokenizer = served.Checkpoint.Tokenizer!;
        using var model = new EndpointModel(
            new EndpointOptions { Address = new Uri("http://localhost/v1"), Model = "m", Api = EndpointApi.Completions }, tokenizer);
        var request = new PolicyRequest("", [1], [], new SamplingOptions(0, 1, 50), [WorldsVocabulary.SearchEnd, WorldsVocabulary.AnswerEnd], 0);
        PolicyResponse Read(string text, string finish) =>
            model.Read(JsonSerializer.Serialize(new { choices = new[] { new { text, finish_reason = finish } } }), request);
        var searched = Read("<think> Belize </think> <search> Belize anthem ", "stop");
        Assert.Equal(tokenizer.Encode("<think> Belize </think> <search> Belize anthem </search>"), searched.Tokens);
        Assert.Equal(FinishReason.Stop, searched.Finish);
        Assert.Equal(tokenizer.Encode("<answer> Belize </answer>"), Read("<answer> Belize", "stop").Tokens);
        Assert.Equal(FinishReason.Length, Read("<think> Belize", "length").Finish);
    }

    [Fact]
    public void The_command_prints_the_table_and_json_from_the_same_rows()
    {
        using var temp = new TempFolder();
        string[] command = ["eval", "--objectives", "1,2", "--agents", "mem1,full", "--episodes", "2", "--out", temp["e"]];
        var table = Cli.Run(command).Succeeded();
        Assert.Contains("EM count", table.Out, StringComparison.Ordinal);
        var json = Cli.Run([.. command, "--resume", "--json", "--legacy"]).Succeeded();
        using var report = JsonDocument.Parse(json.Out);
        Assert.Equal(4, report.RootElement.GetProperty("cells").GetArrayLength());
        string[] more = [.. command.Select((a, i) => i > 0 && command[i - 1] == "--episodes" ? "4" : a), "--resume"];
        Assert.Contains("8 of 16 episodes are there", Cli.Run(more).Succeeded().Error, StringComparison.Ordinal);
        var refused = Cli.Run(command);
        Assert.Equal(2, refused.ExitCode);
        Assert.Contains("--resume", refused.Error, StringComparison.Ordinal);
    }

    private static int Free()
    {
        using var probe = new TcpListener(IPAddress.Loopback, 0);
        probe.Start();
        return ((IPEndPoint)probe.LocalEndpoint).Port;
    }
}
