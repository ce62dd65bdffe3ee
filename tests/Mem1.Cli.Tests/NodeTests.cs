// Learner and workers as processes of their own, in any order of starting and stopping.
using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using Mem1.Tests;

namespace Mem1.Cli.Tests;

public sealed partial class NodeTests : IDisposable
{
    private readonly TempFolder _temp = new();

    private string Run => _temp["runs", "quick"];

    public void Dispose() => _temp.Dispose();

    [Fact]
    public void Nodes_start_in_any_order_and_outlive_each_other()
    {
        var at = FreeAddress();
        using var early = Cli.Start("rollout", "--learner", at, "--id", "early");
        early.Until(() => early.Out.Contains("no learner at", StringComparison.Ordinal), "the worker looks for its learner");
        int done;
        using (var learner = Learner(at, "--quick"))
        {
            learner.Until(() => learner.Out.Count(c => c == '\n') >= 2, "two updates");

            // One worker comes and goes.
            using (var guest = Cli.Start("rollout", "--learner", at, "--id", "guest"))
            {
                guest.Until(() => guest.Error.Contains("Connected to the learner", StringComparison.Ordinal), "the guest is welcome");
                guest.Signal(Child.SigTerm);
                Assert.Contains("handing the running episodes back", guest.Finish().Succeeded().Out);
            }

            learner.Signal(Child.SigTerm);
            learner.Finish().Succeeded();
            done = Runs.Metrics(Run).Count;
        }

        early.Until(() => early.Error.Contains("is away", StringComparison.Ordinal), "the worker misses its learner");
        using (var learner = Learner(at, "--resume", "quick", "--updates", $"{done + 2}"))
        {
            learner.Finish().Succeeded();
        }

        var left = early.Finish().Succeeded();
        Assert.Contains("The run is finished.", left.Error);
        Assert.DoesNotContain("over gRPC", left.Error); // its weights came directly
        Assert.Equal(Enumerable.Range(1, done + 2), Runs.Metrics(Run).Select(m => m.GetProperty("update").GetInt32()));
        Assert.All(Runs.Metrics(Run), m => Assert.InRange(m.GetProperty("parity_max_abs").GetDouble(), 0, 1e-4));
    }

    [Fact]
    public void A_learner_that_is_killed_loses_no_task_and_trains_on_none_twice()
    {
        const int kept = 8; // all episodes of an update of a quick run
        var at = FreeAddress();
        string[] recorded = ["--set", $"checkpoint.sampled_trajectories={kept}"];
        using var worker = Cli.Start("rollout", "--learner", at, "--id", "steady");
        using (var learner = Learner(at, ["--quick", "--set", "checkpoint.every=2", .. recorded]))
        {
            // Three updates: the last one is of no checkpoint, and has to be done again with the tasks it was done with.
            learner.Until(() => learner.Out.Count(c => c == '\n') >= 3, "three updates");
            learner.Kill();
            learner.Finish();
        }

        var last = Runs.Steps(Run)[^1] + 3;
        using (var learner = Learner(at, "--resume", "quick", "--updates", $"{last}")) learner.Finish().Succeeded();
        worker.Finish().Succeeded();
        Assert.Equal(Enumerable.Range(1, last), Runs.Metrics(Run).Select(m => m.GetProperty("update").GetInt32()));
        Assert.All(Runs.Metrics(Run), m => Assert.Equal((kept, 0), (m.GetProperty("episodes").GetInt32(), m.GetProperty("quarantined").GetInt32())));

        // What a run that nobody killed trains on, task by task.
        Cli.Run([
            "train", "--quick", "--name", "straight", "--updates", $"{last}", "--set", "evaluation.episodes=0", .. recorded, "--runs",
            _temp["runs"],
        ]).Succeeded();
        Assert.Equal(Tasks(_temp["runs", "straight"]), Tasks(Run));
        Assert.Equal(kept * last, Tasks(Run).Distinct().Count());

        static List<(int Update, string? Task, string? Prompt)> Tasks(string run) =>
        [
            .. Runs.Lines(Path.Combine(run, "trajectories.jsonl")).Select(t => (
                t.GetProperty("update").GetInt32(), t.GetProperty("task_id").GetString(), t.GetProperty("prompt").GetString())),
        ];
    }

    [Fact]
    public void A_worker_is_told_what_is_wrong()
    {
        Refusals.Refused(["rollout", "--learner", "nowhere"], "--learner", "HOST:PORT");
        Refusals.Refused(["rollout", "--learner", FreeAddress(), "--wait", "0"], "No learner answered", "mem1 learner");
        Refusals.Refused(["learner", "--listen", "5050"], "--listen", "127.0.0.1:5050");
        var at = FreeAddress();
        using var learner = Learner(at, "--quick");
        learner.Until(() => learner.Error.Contains("Waiting for workers", StringComparison.Ordinal), "it listens");
        Refusals.Refused(["rollout", "--learner", at, "--set", "rollout.thread=2"], "rollout.thread", "rollout.threads");
        Refusals.Refused(["rollout", "--learner", at, "--set", "rollout.max_episodes=0"], "rollout.max_episodes");
        learner.Signal(Child.SigInt);
        learner.Finish().Succeeded();
    }

    /// <summary>
    /// One run with every secret that can be given: only the right worker plays, no secret is in anything that was written or answered, and
    /// an episode's way can be followed through the logs of both sides.
    /// </summary>
    [Fact]
    public async Task With_tokens_and_certificates_only_the_right_worker_plays_and_nothing_tells_a_secret()
    {
        Directory.CreateDirectory(_temp["pki"]);
        using var authority = new TestAuthority("ca", _temp["pki"]);
        var (certificate, key) = authority.Issue("learner", TestAuthority.Server, ["127.0.0.1"]);
        var own = authority.Issue("worker", TestAuthority.Client);
        string Secret(string name, char mark) => _temp.Write($"{name}.secret", new string(mark, 40) + "\n");
        var (right, wrong, viewer, commands) = (Secret("right", 'W'), Secret("wrong", 'X'), Secret("viewer", 'V'), Secret("operator", 'O'));
        (string Name, string Value)[] variables = [("MEM1_RETRIEVER_TOKEN", new string('R', 40)), ("SERPER_API_KEY", new string('S', 40))];
        var at = FreeAddress();
        ProcessStartInfo Command(params string[] arguments)
        {
            var start = Cli.Command(arguments);
            foreach (var (name, value) in variables) start.Environment[name] = value;
            return start;
        }

        using var learner = new Child(Command(
            "learner", "--listen", at, "--json", "--runs", _temp["runs"], "--quick", "--updates", "1", "--set", "evaluation.episodes=0", "--stay",
            "--token-file", right, "--tls-cert", certificate, "--tls-key", key, "--tls-ca", authority.Path, "--viewer-token-file", viewer,
            "--dashboard-token-file", commands, "--dashboard-port", "0", "--log-format", "json", "--log-level", "debug"));
        learner.Until(() => learner.Error.Contains("Waiting for workers", StringComparison.Ordinal), "it listens");
        string[] known = ["--tls-cert", own.Certificate, "--tls-key", own.Key, "--tls-ca", authority.Path];
        var said = new StringBuilder();
        void Refused(string[] arguments, params string[] words) => said.Append(Refusals.Refused(["rollout", "--learner", at, .. arguments], words));
        Refused(known, "refused this worker", "--token-file");
        foreach (var other in (string[])[wrong, viewer])
            Refused([.. known, "--token-file", other], "refused this worker", "not the learner's");
        Refused(["--tls-ca", authority.Path, "--token-file", right, "--wait", "0"], "No learner answered");
        Refused(["--token-file", right, "--wait", "0"], "No learner answered");
        Refused([.. known, "--token-file", _temp["none"]], "token file", "cannot be read");
        said.Append(Refusals.Refused(["learner", "--tls-ca", authority.Path], "--tls-cert"));
        said.Append(Refusals.Refused(
            ["learner", "--listen", FreeAddress(), "--runs", _temp["none"], "--quick", "--token-file", right, "--viewer-token-file", right],
            "give each their own"));
        using var worker = new Child(Command(
            ["rollout", "--learner", at, "--id", "steady", .. known, "--token-file", right, "--log-format", "json", "--log-level", "debug"]));
        var played = worker.Finish().Succeeded();
        Assert.Single(Runs.Metrics(Run));

        // What the dashboard answers to whom.
        using var http = new HttpClient { BaseAddress = new Uri(Opened().Match(learner.Error).Groups[1].Value) };
        foreach (var (path, token) in new[] { "/api/run", "/api/state", "/api/events", "/api/trajectories", "/metrics" }.SelectMany(
            path => new[] { null, right, commands, viewer }.Select(t => (path, t))))
        {
            using var request = new HttpRequestMessage(HttpMethod.Get, path);
            if (token is not null) request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", File.ReadAllText(token).Trim());
            using var answer = await http.SendAsync(request, TestContext.Current.CancellationToken);
            Assert.Equal(token == viewer ? HttpStatusCode.OK : HttpStatusCode.Unauthorized, answer.StatusCode);
            said.Append(await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken));
        }

        learner.Signal(Child.SigTerm);
        var learnt = learner.Finish().Succeeded();
        said.Append(learnt.Out).Append(learnt.Error).Append(played.Out).Append(played.Error);

        string[] secrets =
        [
            .. variables.Select(v => v.Value), .. new[] { right, wrong, viewer, commands }.Select(f => File.ReadAllText(f).Trim()),
            File.ReadAllLines(key)[1], File.ReadAllLines(own.Key)[1],
        ];
        var files = Directory.EnumerateFiles(_temp["runs"], "*", SearchOption.AllDirectories).ToList();
        Assert.Contains(files, f => f.EndsWith("model.safetensors", StringComparison.Ordinal));
        Assert.DoesNotContain(files, f => f.EndsWith("dashboard.token", StringComparison.Ordinal));
        foreach (var secret in secrets)
        {
            Assert.DoesNotContain(secret, said.ToString(), StringComparison.Ordinal);
            var bytes = Encoding.ASCII.GetBytes(secret);
            foreach (var file in files) Assert.True(File.ReadAllBytes(file).AsSpan().IndexOf(bytes) < 0, $"{file} holds a secret");
        }

        // Every line is an object that says when, how grave and from where; both sides tell of the same episodes under the same traces.
        var (there, here) = (Traces(learnt), Traces(played));
        var ways = Runs.Lines(Path.Combine(Run, "traces.jsonl"));
        Assert.Equal(Runs.Metrics(Run)[0].GetProperty("episodes").GetInt32(), ways.Count);
        foreach (var id in ways.Select(w => w.GetProperty("trace_id").GetString()!))
        {
            Assert.Matches("^[0-9a-f]{32}$", id);
            Assert.Contains(id, there);
            Assert.Contains(id, here);
        }

        var way = ways[0];
        var episode = way.GetProperty("episode_id").GetString()!;
        foreach (var name in (string[])[way.GetProperty("trace_id").GetString()!, $"00-{way.GetProperty("trace_id").GetString()}-00f067aa0ba902b7-01"])
        {
            var found = Cli.Run("trace", "find", "quick", name, "--runs", _temp["runs"]).Succeeded().Out;
            Assert.Contains($"episode  {episode}", found, StringComparison.Ordinal);
            Assert.Contains("steady: leased", found, StringComparison.Ordinal);
            Assert.Contains("trained on by update 1", found, StringComparison.Ordinal);
            Assert.Contains("weights version 1", found, StringComparison.Ordinal);
        }

        Assert.All(
            Runs.Lines(Path.Combine(Run, "trajectories.jsonl")),
            t => Assert.Contains(t.GetProperty("trace_id").GetString(), ways.Select(w => w.GetProperty("trace_id").GetString())));
        Refusals.Refused(["trace", "find", "quick", "zebra", "--runs", _temp["runs"]], "called \"zebra\"");

        static HashSet<string> Traces(Outcome of)
        {
            var traces = new HashSet<string>();
            foreach (var line in of.ErrorLines)
            {
                var entry = JsonDocument.Parse(line).RootElement;
                Assert.True(entry.GetProperty("Timestamp").GetDateTimeOffset().Year > 2000);
                Assert.NotEqual("", entry.GetProperty("LogLevel").GetString());
                Assert.NotEqual("", entry.GetProperty("Category").GetString());
                if (entry.TryGetProperty("State", out var state) && state.TryGetProperty("TraceId", out var trace)) traces.Add(trace.GetString()!);
            }

            return traces;
        }
    }

    [Fact]
    public void A_worker_of_another_run_is_refused_on_both_sides()
    {
        var at = FreeAddress();
        using var worker = Cli.Start("rollout", "--learner", at, "--id", "old");
        using (var learner = Learner(at, "--quick"))
        {
            learner.Until(() => learner.Out.Count(c => c == '\n') >= 1, "an update");
            learner.Signal(Child.SigInt);
            learner.Finish().Succeeded();
        }

        // The same model and words, another number of documents: what the worker plays would not be what is asked for.
        using var other = Learner(at, "--quick", "--set", "environment.worlds.documents=2");
        var refused = worker.Finish();
        Assert.Equal(2, refused.ExitCode);
        Assert.Contains("another tokenizer or environment", refused.Error);
        other.Until(() => other.Error.Contains("Worker old is refused", StringComparison.Ordinal), "the learner says so too");
        other.Signal(Child.SigInt);
        other.Finish().Succeeded();
    }

    private Child Learner(string at, params string[] arguments) => Cli.Start(
        ["learner", "--listen", at, .. arguments, "--runs", _temp["runs"], "--json",
            .. arguments.Contains("--quick") ? new[] { "--updates", "1000000", "--set", "evaluation.episodes=0" } : []]);

    private static string FreeAddress()
    {
        using var probe = new TcpListener(IPAddress.Loopback, 0);
        probe.Start();
        return $"127.0.0.1:{((IPEndPoint)probe.LocalEndpoint).Port.ToString(CultureInfo.InvariantCulture)}";
    }

    [GeneratedRegex(@"Dashboard: (http://[0-9.:]+/)")]
    private static partial Regex Opened();
}
