// The dashboard's commands on real runs: each must do what it says, and the audit log must say so.
using System.Net;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace Mem1.Cli.Tests;

public sealed partial class DashboardCommandTests : IDisposable
{
    private static readonly string[] s_long =
    [
        "--quick", "--updates", "1000000", "--set", "evaluation.episodes=0", "--set", "rollout.episodes_per_update=8", "--json",
        "--dashboard-port", "0",
    ];

    private readonly TempFolder _temp = new();
    private readonly HttpClient _http = new() { Timeout = TimeSpan.FromMinutes(2) };

    private string Run => _temp["runs", "quick"];

    private CancellationToken Stop => TestContext.Current.CancellationToken;

    public void Dispose()
    {
        _http.Dispose();
        _temp.Dispose();
    }

    [Fact]
    public async Task Every_command_does_what_it_says_in_a_training()
    {
        using var run = Cli.Start(["train", .. s_long, "--runs", _temp["runs"]]);
        await OpenAsync(run);
        run.Until(() => Updates >= 2, "two updates");

        // Without the token nothing is done, and the token is in no output.
        var token = File.ReadAllText(Path.Combine(Run, "dashboard.token")).Trim();
        if (!OperatingSystem.IsWindows())
            Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(Path.Combine(Run, "dashboard.token")));
        Assert.Equal(HttpStatusCode.Unauthorized, (await SendAsync("pause", token: null)).Status);
        Assert.Equal(HttpStatusCode.Unauthorized, (await SendAsync("pause", token: new string('x', 43))).Status);

        // Pause: nothing is leased and no update ends; what needs no update can still be asked for.
        Assert.Equal("done", (await SendAsync("pause", token)).Outcome);
        Assert.Equal("refused", (await SendAsync("pause", token)).Outcome);
        var checkpoint = await SendAsync("checkpoint", token);
        Assert.Equal("done", checkpoint.Outcome);
        var paused = Updates;
        Assert.Contains($"step-{paused}", checkpoint.Text, StringComparison.Ordinal);
        Assert.True(Directory.Exists(Path.Combine(Run, "checkpoints", $"step-{paused}")));
        await UntilAsync(async () => (await StateAsync()).GetProperty("ledger").GetProperty("leased").GetInt32() == 0, "the episodes end");
        Assert.Equal(paused, Updates);
        Assert.Equal("done", (await SendAsync("set_concurrency", token, value: 2)).Outcome);
        Assert.Contains("\"concurrent_episodes\":2", File.ReadAllText(Path.Combine(Run, "limits.json")), StringComparison.Ordinal);
        Assert.Equal("done", (await SendAsync("resume", token)).Outcome);
        run.Until(() => Updates >= paused + 2, "it goes on");
        // The picture is taken twice a second, so it may be of before.
        await UntilAsync(
            async () => (await StateAsync()).GetProperty("concurrency_limit") is { ValueKind: JsonValueKind.Number } limit
                && limit.GetInt32() == 2,
            "the limit is shown");
        Assert.InRange((await StateAsync()).GetProperty("ledger").GetProperty("leased").GetInt32(), 0, 2);
        Directory.CreateDirectory(Path.Combine(Run, "limits.json.part")); // what cannot be kept is not done
        Assert.Equal("refused", (await SendAsync("set_concurrency", token, value: 9)).Outcome);
        Directory.Delete(Path.Combine(Run, "limits.json.part"));
        Assert.Equal("done", (await SendAsync("set_concurrency", token)).Outcome);
        Assert.False(File.Exists(Path.Combine(Run, "limits.json")));

        // An actor and a worker begin anew, and the run goes on.
        var worker = (await StateAsync()).GetProperty("workers")[0].GetProperty("id").GetString()!;
        Assert.Equal("done", (await SendAsync("restart_actor", token, $"{worker}/policy")).Outcome);
        await UntilAsync(
            async () => (await GetAsync("/api/actors?text=policy")).GetProperty("actors")[0].GetProperty("restarts").GetInt32() == 1,
            "the restart is shown");
        Assert.Equal("refused", (await SendAsync("restart_actor", token, worker)).Outcome);
        var drained = await SendAsync("drain_worker", token, worker);
        Assert.Equal("done", drained.Outcome);
        await UntilAsync(
            async () => (await StateAsync()).GetProperty("workers").EnumerateArray().Select(w => w.GetProperty("id").GetString()).ToList()
                is [var one] && one != worker,
            "another worker has taken its place");
        var before = Updates;
        run.Until(() => Updates >= before + 2, "it goes on with the new worker");

        // A recorded episode is played again: the same task, not trained on.
        var recorded = (await GetAsync("/api/trajectories"))[0].GetProperty("episode_id").GetString()!;
        Assert.Equal("refused", (await SendAsync("replay_episode", token, "u1-99/nothing")).Outcome);
        Assert.Equal("done", (await SendAsync("replay_episode", token, recorded)).Outcome);
        var replays = Path.Combine(Run, "replays.jsonl");
        run.Until(() => File.Exists(replays) && File.ReadAllText(replays).EndsWith('\n'), "the episode is played again");
        var again = Runs.Lines(replays)[0];
        Assert.EndsWith($" of {recorded}", again.GetProperty("episode_id").GetString(), StringComparison.Ordinal);
        var first = Runs.Lines(Path.Combine(Run, "trajectories.jsonl")).First(t => t.GetProperty("episode_id").GetString() == recorded);
        Assert.Equal(first.GetProperty("prompt").GetString(), again.GetProperty("prompt").GetString());
        await UntilAsync(
            async () => (await GetAsync("/api/trajectories")).EnumerateArray().Any(t => t.GetProperty("replay").GetBoolean()),
            "it is listed");

        // A paused run can be stopped, and everything that was done is in the log.
        Assert.Equal("done", (await SendAsync("pause", token)).Outcome);
        run.Signal(Child.SigTerm);
        var outcome = run.Finish().Succeeded();
        Assert.DoesNotContain(token, outcome.Out + outcome.Error, StringComparison.Ordinal);
        var log = File.ReadAllText(Path.Combine(Run, "audit.jsonl"));
        Assert.DoesNotContain(token, log, StringComparison.Ordinal);
        var lines = Runs.Lines(Path.Combine(Run, "audit.jsonl"));
        Assert.Equal(
            [
                "pause", "checkpoint", "set_concurrency", "resume", "set_concurrency", "restart_actor", "drain_worker", "replay_episode",
                "pause",
            ],
            lines.Where(l => Text(l, "outcome") == "done").Select(l => Text(l, "command")));
        Assert.Single(lines, l => Text(l, "outcome") == "denied");
        Assert.Equal(Enumerable.Range(1, Updates), Runs.Metrics(Run).Select(m => m.GetProperty("update").GetInt32()));
    }

    [Fact]
    public async Task A_learner_drains_a_worker_of_another_process()
    {
        const string Token = "a-token-of-my-own-choice";
        // Without a cluster, as where workers need a token: the learner knows of their actors only that they exist.
        var start = Cli.Command(
            ["learner", "--listen", "127.0.0.1:0", .. s_long, "--set", "cluster.enabled=false", "--runs", _temp["runs"]]);
        start.Environment["MEM1_DASHBOARD_TOKEN"] = Token;
        using var learner = new Child(start);
        await OpenAsync(learner);
        learner.Until(() => learner.Error.Contains("Waiting for workers at ", StringComparison.Ordinal), "it listens");
        var at = Listening().Match(learner.Error).Groups[1].Value;
        using var one = Cli.Start("rollout", "--learner", at, "--id", "one", "--set", "rollout.threads=1");
        using var two = Cli.Start("rollout", "--learner", at, "--id", "two", "--set", "rollout.threads=1");
        learner.Until(() => Updates >= 1, "an update");
        await UntilAsync(async () => (await StateAsync()).GetProperty("workers").GetArrayLength() == 2, "both are there");
        Assert.False(File.Exists(Path.Combine(Run, "dashboard.token")));
        Assert.Equal("done", (await SendAsync("checkpoint", Token)).Outcome);
        Assert.Equal("refused", (await SendAsync("drain_worker", Token, "three")).Outcome);
        var restarted = await SendAsync("restart_actor", Token, "two/policy");
        Assert.Equal("done", restarted.Outcome);
        Assert.Contains("cannot be seen from here", restarted.Text, StringComparison.Ordinal);
        two.Until(
            () => two.Error.Contains("Somebody restarted it from the dashboard", StringComparison.Ordinal), "its policy is restarted");
        Assert.Equal("refused", (await SendAsync("restart_actor", Token, "two/nothing")).Outcome);
        Assert.Equal("refused", (await SendAsync("restart_actor", Token, "three/policy")).Outcome);

        // The same from a dashboard in a process of its own, which knows nothing but the learner's address.
        using (var apart = Cli.Start("dashboard", "--learner", at, "--port", "0"))
        {
            apart.Until(() => Followed().IsMatch(apart.Out), "the dashboard apart is up");
            var there = new Uri(Followed().Match(apart.Out).Groups[1].Value);
            await UntilAsync(
                async () => (await _http.GetAsync(new Uri(there, "/ready"), Stop)).IsSuccessStatusCode, "it follows the learner");
            Assert.Equal(2, (await GetAsync(new Uri(there, "/api/state").ToString())).GetProperty("workers").GetArrayLength());
            Assert.NotEqual(0, (await GetAsync(new Uri(there, "/api/metrics").ToString())).GetProperty("updates").GetArrayLength());
            Assert.Equal(HttpStatusCode.Unauthorized, (await SendAsync("drain_worker", "not the token at all", "one", at: there)).Status);
            Assert.Equal("done", (await SendAsync("drain_worker", Token, "one", at: there)).Outcome);
            apart.Signal(Child.SigTerm);
            apart.Finish().Succeeded();
        }

        one.Finish().Succeeded();
        var done = Updates;
        learner.Until(() => Updates >= done + 2, "the other worker plays on");
        learner.Signal(Child.SigTerm);
        learner.Finish().Succeeded();
        two.Signal(Child.SigTerm);
        two.Finish().Succeeded();
    }

    [Fact]
    public void A_token_that_is_none_is_refused()
    {
        Refusals.Refused(
            ["train", "--quick", "--runs", _temp["runs"], "--dashboard-token-file", _temp["nowhere"]], "the token file", "nowhere");
        Refusals.Refused(["train", "--quick", "--runs", _temp["runs"], "--dashboard-token-file", _temp.Write("t", "short\n")], "16 to 512");
    }

    [Theory]
    [InlineData("")]
    [InlineData("{}")]
    [InlineData("3")]
    [InlineData("{\"concurrent_episodes\": 0}")]
    [InlineData("{\"concurrent_episodes\": 1.5}")]
    public void A_kept_limit_that_is_damaged_is_said(string text)
    {
        using var folder = Training.RunFolder.Create(_temp["runs"], "kept", chosen: true);
        Assert.Null(folder.ReadConcurrencyLimit());
        folder.WriteConcurrencyLimit(4);
        Assert.Equal(4, folder.ReadConcurrencyLimit());
        File.WriteAllText(folder.LimitsPath, text);
        var refused = Assert.Throws<UserErrorException>(() => folder.ReadConcurrencyLimit());
        Assert.Contains("limits.json is damaged", refused.Message, StringComparison.Ordinal);
        folder.WriteConcurrencyLimit(null);
        Assert.Null(folder.ReadConcurrencyLimit());
    }

    private int Updates =>
        !File.Exists(Path.Combine(Run, "metrics.jsonl")) ? 0 : File.ReadAllText(Path.Combine(Run, "metrics.jsonl")).Count(c => c == '\n');

    private async Task OpenAsync(Child run)
    {
        run.Until(() => Opened().IsMatch(run.Error), "the dashboard is up");
        _http.BaseAddress = new Uri(Opened().Match(run.Error).Groups[1].Value);
        await UntilAsync(async () => (await _http.GetAsync("/ready", Stop)).IsSuccessStatusCode, "it is ready");
    }

    private async Task<(HttpStatusCode Status, string Outcome, string Text)> SendAsync(
        string command, string? token, string target = "", int? value = null, Uri? at = null)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, new Uri(at ?? _http.BaseAddress!, "/api/commands"))
        {
            Content = new StringContent(JsonSerializer.Serialize(new { command, target, value }), Encoding.UTF8, "application/json"),
        };
        if (token is not null) request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", token);
        using var answer = await _http.SendAsync(request, Stop);
        using var json = JsonDocument.Parse(await answer.Content.ReadAsStringAsync(Stop));
        return (answer.StatusCode, Text(json.RootElement, "outcome"), Text(json.RootElement, "text"));
    }

    private Task<JsonElement> StateAsync() => GetAsync("/api/state");

    private async Task<JsonElement> GetAsync(string path)
    {
        using var json = JsonDocument.Parse(await _http.GetStringAsync(path, Stop));
        return json.RootElement.Clone();
    }

    private async Task UntilAsync(Func<Task<bool>> condition, string what)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromMinutes(2));
        while (!await condition())
        {
            Assert.False(limit.IsCancellationRequested, $"Waited two minutes until {what}.");
            await Task.Delay(50, Stop);
        }
    }

    private static string Text(JsonElement of, string name) => of.GetProperty(name).GetString() ?? "";

    [GeneratedRegex(@"Dashboard: (http://\S+)")]
    private static partial Regex Opened();

    [GeneratedRegex(@"the learner at \S+: (http://\S+)")]
    private static partial Regex Followed();

    [GeneratedRegex(@"Waiting for workers at (\S+):")]
    private static partial Regex Listening();
}
