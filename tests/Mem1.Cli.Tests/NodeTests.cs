// Learner and workers as processes of their own, in any order of starting and stopping.
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using Mem1.Tests;

namespace Mem1.Cli.Tests;

public sealed class NodeTests : IDisposable
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

    [Fact]
    public void With_a_token_and_certificates_only_the_right_worker_plays()
    {
        Directory.CreateDirectory(_temp["pki"]);
        using var authority = new TestAuthority("ca", _temp["pki"]);
        var (certificate, key) = authority.Issue("learner", TestAuthority.Server, ["127.0.0.1"]);
        var own = authority.Issue("worker", TestAuthority.Client);
        var (right, wrong) = (_temp["right"], _temp["wrong"]);
        File.WriteAllText(right, new string('a', 32) + "\n");
        File.WriteAllText(wrong, new string('b', 32));
        var at = FreeAddress();
        using var learner = Cli.Start(
            "learner", "--listen", at, "--json", "--runs", _temp["runs"], "--quick", "--updates", "1", "--set", "evaluation.episodes=0",
            "--token-file", right, "--tls-cert", certificate, "--tls-key", key, "--tls-ca", authority.Path);
        learner.Until(() => learner.Error.Contains("Waiting for workers", StringComparison.Ordinal), "it listens");
        string[] known = ["--tls-cert", own.Certificate, "--tls-key", own.Key, "--tls-ca", authority.Path];
        Refusals.Refused(["rollout", "--learner", at, .. known], "refused this worker", "--token-file");
        Refusals.Refused(["rollout", "--learner", at, .. known, "--token-file", wrong], "refused this worker", "not the learner's");
        Refusals.Refused(["rollout", "--learner", at, "--tls-ca", authority.Path, "--token-file", right, "--wait", "0"], "No learner answered");
        Refusals.Refused(["rollout", "--learner", at, "--token-file", right, "--wait", "0"], "No learner answered");
        Refusals.Refused(["rollout", "--learner", at, "--token-file", _temp["none"]], "token file", "cannot be read");
        Refusals.Refused(["learner", "--tls-ca", authority.Path], "--tls-cert");
        using var worker = Cli.Start(["rollout", "--learner", at, .. known, "--token-file", right]);
        learner.Finish().Succeeded();
        Assert.DoesNotContain("aaaaaaaa", learner.Error + learner.Out + worker.Finish().Succeeded().Error, StringComparison.Ordinal);
        Assert.Single(Runs.Metrics(Run));
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
}
