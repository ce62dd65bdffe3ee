// The manifests start a run by themselves: every container of the base, with its own arguments, variables and probes, as a process of this
// machine. What a node would give it (addresses, volumes, names) is put in its place; nothing else is. A part of the long series.
using System.Net;
using System.Net.Sockets;
using Mem1.Cli.Tests;

namespace Mem1.Deploy.Tests;

public sealed class ManifestRunTests : IDisposable
{
    private static readonly HttpClient s_client = new() { Timeout = TimeSpan.FromSeconds(10) };

    private readonly TempFolder _temp = new();
    private readonly IReadOnlyList<Node> _objects = Manifest.Written();
    private readonly List<Child> _children = [];
    private readonly int _grpc = FreePort(), _cluster = FreePort();

    public void Dispose()
    {
        foreach (var child in _children) child.Dispose();
        _temp.Dispose();
    }

    [Fact]
    public async Task The_containers_train_and_go_on_after_a_restart()
    {
        Assert.SkipUnless(
            Environment.GetEnvironmentVariable("MEM1_FAULTS") == "1", "A part of the long series: ./mem1 test --faults deploy.");
        Directory.CreateDirectory(_temp["runs"]);
        Directory.CreateDirectory(_temp["index"]);
        new Child(Command("Deployment", "retriever", initial: true).Start).Finish().Succeeded();
        var retriever = Start("Deployment", "retriever");
        var rollout = Start("Deployment", "rollout"); // before its learner
        var learner = Start("StatefulSet", "learner");
        Assert.NotEqual(HttpStatusCode.OK, await Ask(rollout, "readinessProbe"));
        await Until(async () => await Ask(learner, "startupProbe") == HttpStatusCode.OK, learner, "the learner has started");
        await Until(async () => await Ask(rollout, "readinessProbe") == HttpStatusCode.OK, rollout, "the worker is ready");
        await Until(async () => await Ask(retriever, "readinessProbe") == HttpStatusCode.OK, retriever, "the retriever is ready");
        var dashboard = Start("Deployment", "dashboard");
        await Until(async () => await Ask(dashboard, "readinessProbe") == HttpStatusCode.OK, dashboard, "the dashboard is ready");
        await Until(() => Task.FromResult(Updates() >= 1), learner, "an update");
        Assert.Contains("mem1_queue_age_seconds", await s_client.GetStringAsync(new Uri($"http://127.0.0.1:{learner.Port}/metrics")));
        using (var stranger = await s_client.GetAsync(new Uri($"http://127.0.0.1:{dashboard.Port}/api/state")))
            Assert.Equal(HttpStatusCode.Unauthorized, stranger.StatusCode);

        // A pod that is moved: the same arguments begin nothing anew.
        learner.Child.Signal(Child.SigTerm);
        learner.Child.Finish().Succeeded();
        var before = Updates();
        learner = Start("StatefulSet", "learner");
        await Until(() => Task.FromResult(Updates() >= before + 1), learner, "the run goes on");
        var updates = Runs.Metrics(_temp["runs", "cluster"]).Select(m => m.GetProperty("update").GetInt32()).ToList();
        Assert.Equal(Enumerable.Range(1, updates.Count), updates);
        foreach (var (child, _, _) in (Running[])[rollout, learner, dashboard, retriever])
        {
            Assert.False(child.HasExited, child.Error);
            child.Signal(Child.SigTerm);
            child.Finish().Succeeded();
        }
    }

    private sealed record Running(Child Child, Node Container, int Port);

    private Running Start(string kind, string name)
    {
        var (start, container, port) = Command(kind, name);
        var child = new Child(start);
        _children.Add(child);
        return new Running(child, container, port);
    }

    private (System.Diagnostics.ProcessStartInfo Start, Node Container, int Port) Command(string kind, string name, bool initial = false)
    {
        var pod = Policy.Find(_objects, kind, name)["spec"]["template"]["spec"];
        var container = pod[initial ? "initContainers" : "containers"].Items.Single();
        var own = FreePort();
        (string From, string To)[] given =
        [
            ("/etc/mem1/run.yaml", DeployFolder.Full("deploy/k8s/overlays/debug/run.yaml")), ("/runs", _temp["runs"]),
            ("/corpus/corpus.jsonl", DeployFolder.Full("deploy/k8s/base/corpus.jsonl")), ("/index/", _temp["index"] + "/"),
            ("0.0.0.0", "127.0.0.1"), ("learner:5050", $"127.0.0.1:{_grpc}"), (":5050", $":{_grpc}"), (":8081", $":{own}"),
            ("--port=8000", $"--port={own}"), ("--port=5080", $"--port={own}"), ("cluster.port=5060", $"cluster.port={_cluster}"),
            ("cluster.worker_port=5060", "cluster.worker_port=0"), ("$(POD_NAME)", $"{name}-0"),
        ];
        var start = Mem1.Cli.Tests.Cli.Command(container["args"].Items.Select(a => given.Aggregate(
            a.Text!, (text, g) => text.Replace(g.From, g.To, StringComparison.Ordinal))));
        foreach (var variable in container["env"].Items)
        {
            // Of one key all containers have the same.
            if (variable["valueFrom"]["secretKeyRef"]["key"].Text is { } key)
                start.Environment[variable["name"].Text!] = string.Concat(Enumerable.Repeat(key, 32))[..32];
        }

        return (start, container, own);
    }

    private int Updates()
    {
        var path = _temp["runs", "cluster", "metrics.jsonl"];
        return File.Exists(path) ? File.ReadAllText(path).Count(c => c == '\n') : 0;
    }

    /// <summary>What a probe of the container is answered; nothing listens counts as unavailable.</summary>
    private static async Task<HttpStatusCode> Ask(Running running, string probe)
    {
        try
        {
            var path = running.Container[probe]["httpGet"]["path"].Text;
            using var answer = await s_client.GetAsync(new Uri($"http://127.0.0.1:{running.Port}{path}"));
            return answer.StatusCode;
        }
        catch (HttpRequestException)
        {
            return HttpStatusCode.ServiceUnavailable;
        }
    }

    private static async Task Until(Func<Task<bool>> condition, Running of, string what)
    {
        var watch = System.Diagnostics.Stopwatch.StartNew();
        while (!await condition())
        {
            Assert.False(of.Child.HasExited, $"It ended before {what}:\n{of.Child.Out}\n{of.Child.Error}");
            Assert.True(watch.Elapsed < TimeSpan.FromMinutes(4), $"Waited 4 minutes for {what}:\n{of.Child.Out}\n{of.Child.Error}");
            await Task.Delay(100, TestContext.Current.CancellationToken);
        }
    }

    private static int FreePort()
    {
        using var probe = new TcpListener(IPAddress.Loopback, 0);
        probe.Start();
        return ((IPEndPoint)probe.LocalEndpoint).Port;
    }
}
