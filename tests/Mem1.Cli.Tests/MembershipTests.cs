// The cluster of a run, done to real processes: one learner, workers that are killed, cut off and stopped, and a run that does not mind.
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text.Json;
using System.Text.RegularExpressions;
using Mem1.Environments.Retrieval;

namespace Mem1.Cli.Tests;

public sealed partial class MembershipTests : IDisposable
{
    private readonly TempFolder _temp = new();
    private readonly HttpClient _client = new() { Timeout = TimeSpan.FromSeconds(30) };

    public void Dispose()
    {
        _client.Dispose();
        _temp.Dispose();
    }

    [Fact]
    public void Killed_cut_off_and_stopped_nodes_are_seen_as_such_and_training_goes_on()
    {
        using var relay = new Relay();
        var at = $"127.0.0.1:{FreePort()}";
        var cluster = FreePort();
        string[] mapped = ["--set", $"cluster.port={cluster}", "--set", $"cluster.public_port={relay.Start(cluster)}"];
        using var steady = Cli.Start("rollout", "--learner", at, "--id", "steady"); // before its learner
        using var learner = Learner(at, [
            "--quick", "--updates", "1000000", "--set", "evaluation.episodes=0", "--set", "cluster.heartbeat_pause_seconds=3",
            "--set", "cluster.down_after_seconds=1", .. mapped]);
        Member first;
        using (var killed = Cli.Start("rollout", "--learner", at, "--id", "killed"))
        {
            Until(learner, () => Up(learner, "steady") && Up(learner, "killed"), "both are up");
            Assert.Single(Nodes(learner), n => n.Roles == "learner");
            Until(learner, () => Get(learner, "actors").GetProperty("actors").EnumerateArray().Select(a => a.GetProperty("path").GetString())
                .Intersect(["steady", "steady/policy", "killed", "killed/policy"]).Count() == 4, "the actors of both are told of");
            first = Node(learner, "killed")!;
            killed.Kill();
        }

        Until(learner, () => Told(learner, $"({first.Incarnation}) is unreachable"), "its heartbeats are missed");

        // The cluster falls apart; the data goes another way.
        var steadyBefore = Node(learner, "steady")!;
        relay.Cut();
        using var successor = Cli.Start("rollout", "--learner", at, "--id", "killed");
        Until(learner, () => Told(learner, $"({first.Incarnation}) is removed"), "the one that was killed is removed");
        Until(learner, () => Told(learner, $"({steadyBefore.Incarnation}) is removed"), "the one that is cut off is removed");
        var trained = Update(learner);
        Until(learner, () => Update(learner) >= trained + 2, "training goes on without a cluster");
        Until(learner, () => Get(learner, "state").GetProperty("workers").GetArrayLength() == 2, "both workers are connected without it");
        relay.Start(cluster);
        Until(learner, () => Up(learner, "steady") && Up(learner, "killed"), "they find together again");
        Assert.NotEqual(steadyBefore.Incarnation, Node(learner, "steady")!.Incarnation);
        var leaving = Node(learner, "killed")!.Incarnation;
        Assert.NotEqual(first.Incarnation, leaving);

        // Stopped: it leaves in good order.
        successor.Signal(Child.SigTerm);
        successor.Finish().Succeeded();
        Until(learner, () => Told(learner, $"({leaving}) has left"), "it has left");
        learner.Signal(Child.SigTerm);
        learner.Finish().Succeeded();
    }

    [Fact]
    public void A_dashboard_and_a_retriever_are_nodes_too()
    {
        CorpusIndex.OpenOrBuild(_temp.Write("c.jsonl", """{"id": "0", "contents": "Paris is the capital of France."}"""), _temp["i"]).Dispose();
        var at = $"127.0.0.1:{FreePort()}";
        using var retriever = Cli.Start("retriever", "--index", _temp["i"], "--port", "0", "--learner", at); // before its learner
        using var learner = Learner(at, ["--quick", "--updates", "1000000", "--set", "evaluation.episodes=0"]);
        using var dashboard = Cli.Start("dashboard", "--learner", at, "--port", "0");
        Until(learner, () => Nodes(learner).Where(n => n.Membership == "up").Select(n => n.Roles).ToHashSet().IsSupersetOf(
            ["learner", "retriever", "dashboard"]), "all three are up");
        Assert.All(Nodes(learner), n => Assert.Null(n.Worker));
        var leaving = Nodes(learner).Single(n => n.Roles == "retriever").Incarnation;
        retriever.Signal(Child.SigTerm);
        retriever.Finish().Succeeded();
        Until(learner, () => Told(learner, $"({leaving}) has left"), "the retriever has left");
        Refusals.Refused(["dashboard", "--learner", at, "--cluster-port", "70000"], "--cluster-port is 70000");
        Refusals.Refused(["retriever", "--index", _temp["i"], "--learner", at, "--cluster-host", "a b"], "--cluster-host is \"a b\"");
    }

    [Fact]
    public void Settings_that_cannot_be_are_refused()
    {
        var refused = Cli.Run("learner", "--set", "cluster.host=a b", "--set", "cluster.public_port=5", "--set", "cluster.down_after_seconds=0");
        Assert.Equal(2, refused.ExitCode);
        foreach (var key in (string[])["cluster.host is", "cluster.public_port is", "cluster.down_after_seconds is"])
            Assert.Single(refused.ErrorLines, l => l.Contains(key, StringComparison.Ordinal));
    }

    private Child Learner(string at, string[] arguments) =>
        Cli.Start(["learner", "--listen", at, .. arguments, "--runs", _temp["runs"], "--json", "--dashboard-port", "0"]);

    private static int FreePort()
    {
        using var probe = new TcpListener(IPAddress.Loopback, 0);
        probe.Start();
        return ((IPEndPoint)probe.LocalEndpoint).Port;
    }

    private JsonElement Get(Child learner, string path)
    {
        learner.Until(() => DashboardAddress().IsMatch(learner.Error), "the dashboard is there");
        return JsonDocument.Parse(_client.GetStringAsync($"{DashboardAddress().Match(learner.Error).Groups[1].Value}api/{path}")
            .GetAwaiter().GetResult()).RootElement;
    }

    private List<Member> Nodes(Child learner) =>
        Get(learner, "state").GetProperty("nodes") is { ValueKind: JsonValueKind.Array } nodes
            ? [.. nodes.EnumerateArray().Select(n => new Member(
                n.GetProperty("worker").GetString(), n.GetProperty("incarnation").GetString()!, n.GetProperty("membership").GetString()!,
                n.GetProperty("reachable").GetBoolean(), string.Join(",", n.GetProperty("roles").EnumerateArray().Select(r => r.GetString()))))]
            : [];

    private Member? Node(Child learner, string worker) => Nodes(learner).LastOrDefault(n => n.Worker == worker && n.Reachable);

    private bool Up(Child learner, string worker) => Node(learner, worker) is { Membership: "up", Roles: "rollout" };

    private bool Told(Child learner, string words) => Get(learner, "events?kind=cluster").EnumerateArray()
        .Any(e => e.GetProperty("text").GetString()!.Contains(words, StringComparison.Ordinal));

    // Looking keeps the learner busy: not more often than a person would.
    private static void Until(Child learner, Func<bool> condition, string what)
    {
        learner.Until(
            () =>
            {
                Thread.Sleep(100);
                return condition();
            },
            what);
    }

    private static int Update(Child learner) => learner.Out.Count(c => c == '\n');

    [GeneratedRegex(@"Dashboard: (http://127\.0\.0\.1:\d+/)")]
    private static partial Regex DashboardAddress();

    private sealed record Member(string? Worker, string Incarnation, string Membership, bool Reachable, string Roles);

    /// <summary>Passes connections on to a port of this machine, until it is cut.</summary>
    private sealed class Relay : IDisposable
    {
        private int _port;
        private CancellationTokenSource? _open;

        /// <summary>Opens the way, at the same port every time.</summary>
        public int Start(int to)
        {
            _open = new CancellationTokenSource();
            var listener = new TcpListener(IPAddress.Loopback, _port);
            listener.Start();
            _port = ((IPEndPoint)listener.LocalEndpoint).Port;
            var open = _open.Token;
            open.Register(listener.Stop);
            _ = Task.Run(async () =>
            {
                while (!open.IsCancellationRequested) _ = PassAsync(await listener.AcceptTcpClientAsync(open), to, open);
            });
            return _port;
        }

        /// <summary>Ends all connections and takes no more.</summary>
        public void Cut()
        {
            _open?.Cancel();
            _open?.Dispose();
            _open = null;
        }

        public void Dispose() => Cut();

        private static async Task PassAsync(TcpClient from, int to, CancellationToken open)
        {
            using (from)
            using (var onward = new TcpClient())
            {
                try
                {
                    await onward.ConnectAsync(IPAddress.Loopback, to, open);
                    var (near, far) = (from.GetStream(), onward.GetStream());
                    await Task.WhenAny(near.CopyToAsync(far, open), far.CopyToAsync(near, open));
                }
                catch (Exception e) when (e is IOException or SocketException or OperationCanceledException)
                {
                    // One end is gone.
                }
            }
        }
    }
}
