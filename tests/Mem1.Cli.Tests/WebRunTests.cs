using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using Mem1.Environments.Web;

namespace Mem1.Cli.Tests;

/// <summary>Web QA trains end to end against its local web, and refuses configs that contradict themselves.</summary>
public sealed class WebRunTests
{
    /// <summary>
    /// A run against a search service is recorded and then repeated with the service gone and somebody listening in its place. Cloning is
    /// just long enough for the model to search and to open pages; the scripted expert, whose turns train it, does both all along.
    /// </summary>
    [Fact]
    public async Task A_recorded_run_is_repeated_bit_for_bit_and_nothing_goes_out()
    {
        using var temp = new TempFolder();
        var web = LocalWeb.Generate(new LocalWebOptions { Pages = 12, OpenShare = 0.5 });
        File.WriteAllLines(temp["tasks.jsonl"], web.Questions(heldOut: false, heldOutFraction: 0).Select(q =>
            JsonSerializer.Serialize(new { id = q.Id, question = q.Question, golden_answers = q.GoldenAnswers })));
        var server = await LocalWebServer.StartAsync(web, TestContext.Current.CancellationToken);
        var port = server.HostOverrides[LocalWeb.Host].Port;
        string[] Arguments(string name, string mode) =>
        [
            "train", "--quick", "--serial", "--updates", "1", "--name", name, "--tasks", temp["tasks.jsonl"], "--set", "environment.kind=web",
            "--set", "environment.web.provider=searxng", "--set", $"environment.web.endpoint=http://127.0.0.1:{port}/search",
            "--set", "environment.web.open_pages=true", "--set", "environment.web.allow_private_addresses=true", "--set",
            "environment.max_objectives=1", "--set", "evaluation.objectives=[1]", "--set", "cloning.steps=30", "--set",
            "checkpoint.sampled_trajectories=8", "--recording", temp["web.sqlite"], "--replay", mode, "--runs", temp["runs"],
        ];
        try
        {
            Cli.Run(Arguments("first", "record")).Succeeded();
        }
        finally
        {
            await server.DisposeAsync();
        }

        using var listener = new TcpListener(IPAddress.Loopback, port);
        listener.Start();
        Cli.Run(Arguments("second", "only")).Succeeded();
        Assert.False(listener.Pending(), "the replay connected to where the search service was");

        string first = temp["runs", "first"], second = temp["runs", "second"];
        Assert.Equal(Trajectories(first), Trajectories(second));
        Assert.Equal(File.ReadAllText(Path.Combine(first, "evaluation.json")), File.ReadAllText(Path.Combine(second, "evaluation.json")));
        Assert.Equal(Runs.Computed(first), Runs.Computed(second));
        Assert.Contains("<information>", File.ReadAllText(Path.Combine(first, "trajectories.jsonl")), StringComparison.Ordinal);
        Assert.Contains("recording_mode: replay_only", File.ReadAllText(Path.Combine(second, "config.yaml")), StringComparison.Ordinal);
    }

    /// <summary>The sampled episodes but for their traces, which are of the run and not of what it plays.</summary>
    private static List<string> Trajectories(string run) =>
    [
        .. Runs.Lines(Path.Combine(run, "trajectories.jsonl")).Select(e => string.Join(
            ", ", e.EnumerateObject().Where(p => p.Name != "trace_id").Select(p => $"{p.Name}={p.Value.GetRawText()}"))),
    ];

    [Fact]
    public void Web_qa_trains_on_the_local_web_with_nothing_but_its_kind_given()
    {
        using var temp = new TempFolder();
        Cli.Run("train", "--quick", "--set", "environment.kind=web", "--set", "cloning.steps=6", "--updates", "1", "--runs", temp["runs"]).Succeeded();
        Assert.Single(Runs.Metrics(temp["runs", "quick"]));
    }

    [Theory]
    [InlineData("--replay", "only", "environment.kind is worlds")]
    [InlineData("--recording", "w.sqlite", "environment.kind is worlds")]
    public void What_has_no_web_has_nothing_to_replay(string option, string value, string word) =>
        Refusals.Refused(["train", "--quick", option, value], word);

    [Fact]
    public void A_replay_needs_its_recording()
    {
        using var temp = new TempFolder();
        string[] web = ["train", "--quick", "--set", "environment.kind=web", "--replay", "only", "--runs", temp["runs"]];
        Refusals.Refused(web, "environment.web.recording");
        Refusals.Refused([.. web, "--recording", temp["none.sqlite"]], "none.sqlite", "does not exist");
    }

    /// <summary>The key stands in the environment of a run whose every search fails, and in none of its files or words.</summary>
    [Fact]
    public void The_key_of_a_service_is_written_nowhere()
    {
        const string Secret = "sk-TopSecret-123";
        using var temp = new TempFolder();
        File.WriteAllLines(temp["tasks.jsonl"], Enumerable.Range(0, 20).Select(i =>
            $$"""{"id":"{{i}}","question":"What is number {{i}}?","golden_answers":["{{i}}"]}"""));
        using var unused = new TcpListener(IPAddress.Loopback, 0);
        unused.Start();
        var port = ((IPEndPoint)unused.LocalEndpoint).Port;
        unused.Stop();
        var start = Cli.Command(
            "train", "--quick", "--updates", "1", "--tasks", temp["tasks.jsonl"], "--set", "environment.kind=web", "--set",
            "environment.web.provider=serper", "--set", "environment.web.key_variable=MEM1_A_KEY", "--set",
            $"environment.web.endpoint=http://127.0.0.1:{port}/search", "--set", "environment.web.qa.search_attempts=1", "--set",
            "cloning.steps=6", "--set", "evaluation.episodes=0", "--recording", temp["web.sqlite"], "--runs", temp["runs"]);
        start.Environment["MEM1_A_KEY"] = Secret;
        var outcome = Cli.Run(start).Succeeded();
        Assert.DoesNotContain(Secret, outcome.Out + outcome.Error, StringComparison.Ordinal);

        var files = Directory.GetFiles(temp["."], "*", SearchOption.AllDirectories);
        Assert.Contains(files, f => f.EndsWith("config.yaml", StringComparison.Ordinal));
        Assert.Contains(files, f => f.EndsWith(".sqlite", StringComparison.Ordinal));
        Assert.All(files, f => Assert.False(File.ReadAllBytes(f).AsSpan().IndexOf(Encoding.ASCII.GetBytes(Secret)) >= 0, f));
    }

    [Theory]
    [InlineData("https://s.example/search?q=1&API_KEY=SECRET")]
    [InlineData("https://s.example/search?key=SECRET")]
    [InlineData("https://user:SECRET@s.example/search")]
    public void A_key_in_an_address_is_refused_and_not_repeated(string endpoint)
    {
        using var temp = new TempFolder();
        var line = Refusals.Refused(
            ["train", "--quick", "--set", "environment.kind=web", "--set", "environment.web.provider=searxng", "--tasks", temp["t.jsonl"],
                "--set", $"environment.web.endpoint={endpoint}", "--runs", temp["runs"]], "environment.web.endpoint");
        Assert.DoesNotContain("SECRET", line, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("environment.web.provider=serper", "environment.tasks")]
    [InlineData("environment.web.recording_mode=replay", "environment.web.recording")]
    [InlineData("environment.web.local_open_share=0.5", "environment.web.open_pages")]
    [InlineData("environment.web.local_pages=1", "local.pages")]
    [InlineData("environment.web.provder=local", "environment.web.provider")]
    public void A_config_that_contradicts_itself_is_refused(string setting, string word)
    {
        using var temp = new TempFolder();
        Refusals.Refused(["train", "--quick", "--set", "environment.kind=web", "--set", setting, "--runs", temp["runs"]], word);
    }

    [Fact]
    public void A_service_without_its_key_is_refused_by_the_variables_name()
    {
        using var temp = new TempFolder();
        File.WriteAllText(temp["tasks.jsonl"], """{"id":"1","question":"Q?","golden_answers":["A"]}""" + "\n");
        Refusals.Refused(
            [
                "train", "--quick", "--set", "environment.kind=web", "--set", "environment.web.provider=brave", "--set",
                "environment.web.key_variable=MEM1_NO_SUCH_KEY", "--tasks", temp["tasks.jsonl"], "--runs", temp["runs"],
            ],
            "MEM1_NO_SUCH_KEY");
    }
}
