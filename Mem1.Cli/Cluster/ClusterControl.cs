// Keeps: nodes outlive the command that started them and its terminal; what is started is remembered before the next thing is done; a node is
// ended by SIGTERM first, and killed only when its grace is over.
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using Mem1.Protocol.Security;

namespace Mem1.Cli.Cluster;

/// <summary>How a cluster is to be started.</summary>
internal sealed record ClusterPlan
{
    public required string Name { get; init; }
    public required string Runs { get; init; }
    public required int Workers { get; init; }
    public required int Port { get; init; }
    public required int DashboardPort { get; init; }
    public bool Dashboard { get; init; } = true;
    /// <summary>Index of a retriever; null for none.</summary>
    public string? Index { get; init; }
    /// <summary>Null: where the user may.</summary>
    public bool? Namespaces { get; init; }
    /// <summary>Options of mem1 learner that say what is trained.</summary>
    public IReadOnlyList<string> LearnerArguments { get; init; } = [];
}

/// <summary>Starts, ends and counts the processes of a local cluster.</summary>
/// <param name="say">Told what happens, a sentence at a time.</param>
internal sealed partial class ClusterControl(Action<string> say)
{
    private const int SigTerm = 15, SigKill = 9;

    private const int RetrieverPort = 8000;

    private static readonly TimeSpan s_poll = TimeSpan.FromMilliseconds(50);

    // A learner that clones an expert first takes minutes before it listens.
    private static readonly TimeSpan s_startLimit = TimeSpan.FromMinutes(10);

    /// <summary>Starts everything, and waits until the learner listens.</summary>
    /// <exception cref="UserErrorException">A cluster of that name runs, or a node does not come up.</exception>
    public ClusterState Up(ClusterPlan plan, CancellationToken cancellationToken)
    {
        if (ClusterState.Find(plan.Runs, plan.Name) is { } old)
        {
            if (old.Nodes.Any(n => n.Runs()))
                throw new UserErrorException($"the cluster {plan.Name} is up; see ./mem1 cluster status, or end it with ./mem1 cluster down.");
            Remove(old);
        }

        var network = Network(plan.Namespaces);
        var state = new ClusterState(plan.Name, plan.Runs, plan.Port, network, []);
        Directory.CreateDirectory(Path.Combine(state.Folder, "logs"));
        var token = TokenOf(state);
        if (!File.Exists(token)) WriteSecret(token, BearerToken.Create().Header["Bearer ".Length..]);
        state.Save();
        var arguments = plan.LearnerArguments.ToList();
        if (plan.Index is { } index)
        {
            state = Start(state, "retriever", ClusterNode.Retriever, at => ["retriever", "--index", index, "--host", at, "--port", $"{RetrieverPort}"]);
            arguments.AddRange(["--set", $"environment.retriever.url=http://{state.Nodes[^1].Address}:{RetrieverPort}/retrieve"]);
        }

        state = Start(state, "learner", ClusterNode.Learner, at =>
        [
            "learner", "--listen", $"{at}:{plan.Port}", "--name", plan.Name, "--runs", plan.Runs, "--go-on", "--dashboard-port", "0",
            "--token-file", token, .. arguments,
        ]);
        var learner = state.Nodes[^1];
        say($"waiting for the learner at {learner.Address}:{plan.Port} ...");
        WaitFor(state, learner, plan.Port, cancellationToken);
        for (var i = 1; i <= plan.Workers; i++) state = StartWorker(state, i);
        if (plan.Dashboard)
        {
            state = Start(state, "dashboard", ClusterNode.Dashboard, _ =>
                ["dashboard", "--learner", $"{learner.Address}:{plan.Port}", "--token-file", token, "--port", $"{plan.DashboardPort}"], ownNetwork: false);
            say($"dashboard: http://127.0.0.1:{plan.DashboardPort}/");
        }

        return state;
    }

    /// <summary>Starts or ends workers until there are so many.</summary>
    public ClusterState Scale(ClusterState state, int workers, TimeSpan grace)
    {
        var running = state.Nodes.Where(n => n.Kind == ClusterNode.Worker && n.Runs()).ToList();
        for (var number = 1; running.Count < workers; number++)
        {
            if (state.Nodes.Any(n => n.Name == $"worker-{number}" && n.Runs())) continue;
            state = StartWorker(state, number);
            running.Add(state.Nodes.Single(n => n.Name == $"worker-{number}"));
            say($"worker-{number} is started");
        }

        End([.. running.Skip(workers)], grace);
        return state;
    }

    /// <summary>Ends a node in good order and starts it again with what it was started with: one step of a rolling upgrade.</summary>
    public ClusterState Restart(ClusterState state, ClusterNode node, TimeSpan grace)
    {
        End([node], grace);
        state = Launch(state, node);
        say($"{node.Name} is restarted");
        return state;
    }

    /// <summary>Ends a node as a power cut would.</summary>
    public static void Kill(ClusterNode node) => Signal(node, SigKill);

    /// <summary>Ends everything: workers, then the learner, then the rest.</summary>
    public void Down(ClusterState state, TimeSpan grace)
    {
        foreach (var kind in (string[])[ClusterNode.Worker, ClusterNode.Learner])
            End([.. state.Nodes.Where(n => n.Kind == kind)], grace);
        End([.. state.Nodes], grace);
        Remove(state);
    }

    private static string TokenOf(ClusterState state) => Path.Combine(state.Folder, "token");

    private int? Network(bool? wanted)
    {
        if (wanted == false || (wanted is null && geteuid() != 0)) return null;
        try
        {
            return ClusterNetwork.Create();
        }
        catch (UserErrorException e) when (wanted is null)
        {
            say($"Nodes share the machine's loopback: {e.Message}");
            return null;
        }
    }

    private ClusterState StartWorker(ClusterState state, int number)
    {
        var learner = state.Nodes.Single(n => n.Kind == ClusterNode.Learner);
        var name = $"worker-{number}";
        return state.Nodes.FirstOrDefault(n => n.Name == name) is { } known
            ? Launch(state, known)
            : Start(state, name, ClusterNode.Worker, _ =>
                ["rollout", "--learner", $"{learner.Address}:{state.Port}", "--id", $"{state.Name}-{name}", "--token-file", TokenOf(state)]);
    }

    private static ClusterState Start(
        ClusterState state, string name, string kind, Func<string, IReadOnlyList<string>> arguments, bool ownNetwork = true)
    {
        var (space, address) = state.Network is { } network && ownNetwork
            ? ClusterNetwork.Join(network, name, [.. state.Nodes.Select(n => n.Address)])
            : (null, "127.0.0.1");
        return Launch(state, new ClusterNode(name, kind, arguments(address), address, space, 0, 0));
    }

    private static ClusterState Launch(ClusterState state, ClusterNode node)
    {
        string[] program = Path.GetFileNameWithoutExtension(Environment.ProcessPath!) == "dotnet"
            ? [Environment.ProcessPath!, typeof(ClusterControl).Assembly.Location] : [Environment.ProcessPath!];
        string[] inside = node.Namespace is { } space ? ["ip", "netns", "exec", space, .. program] : program;
        // Every program of the chain becomes the next one, so the process that is started here is the node; setsid takes it from the terminal.
        var start = new ProcessStartInfo("sh")
        {
            ArgumentList = { "-c", "log=$1; shift; exec setsid \"$@\" >>\"$log\" 2>&1 </dev/null", "sh", state.LogOf(node) },
        };
        foreach (var argument in (string[])[.. inside, .. node.Arguments]) start.ArgumentList.Add(argument);
        using var process = Process.Start(start)!;
        var began = ClusterNode.BeganOf(process.Id) ?? throw new UserErrorException($"{node.Name} ended at once; see {state.LogOf(node)}");
        state = state.With(node with { ProcessId = process.Id, Began = began });
        state.Save();
        return state;
    }

    private static void WaitFor(ClusterState state, ClusterNode node, int port, CancellationToken cancellationToken)
    {
        var watch = Stopwatch.StartNew();
        while (true)
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (!node.Runs())
            {
                var last = File.ReadLines(state.LogOf(node)).LastOrDefault(l => l.Trim().Length > 0);
                throw new UserErrorException($"{node.Name} ended before it listened: {last} (whole log: {state.LogOf(node)})");
            }

            try
            {
                using var probe = new TcpClient();
                probe.Connect(IPAddress.Parse(node.Address), port);
                return;
            }
            catch (SocketException) when (watch.Elapsed < s_startLimit)
            {
                Thread.Sleep(s_poll);
            }
        }
    }

    private void End(IReadOnlyList<ClusterNode> nodes, TimeSpan grace)
    {
        foreach (var node in nodes.Where(n => n.Runs())) Signal(node, SigTerm);
        var watch = Stopwatch.StartNew();
        foreach (var node in nodes)
        {
            while (node.Runs() && watch.Elapsed < grace) Thread.Sleep(s_poll);
            if (!node.Runs()) continue;
            say($"{node.Name} did not end within {grace.TotalSeconds:0} s and is killed");
            Signal(node, SigKill);
            while (node.Runs()) Thread.Sleep(s_poll);
        }
    }

    private static void Remove(ClusterState state)
    {
        foreach (var space in state.Nodes.Select(n => n.Namespace).OfType<string>()) Try(() => ClusterNetwork.Leave(space));
        if (state.Network is { } network) Try(() => ClusterNetwork.Delete(network));
        File.Delete(Path.Combine(state.Folder, "state.json"));

        static void Try(Action removal)
        {
            try
            {
                removal();
            }
            catch (UserErrorException)
            {
                // The machine was restarted, or somebody was quicker: it is gone either way.
            }
        }
    }

    private static void Signal(ClusterNode node, int signal)
    {
        if (node.Runs()) _ = kill(node.ProcessId, signal);
    }

    private static void WriteSecret(string path, string text)
    {
        var options = new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write };
        if (!OperatingSystem.IsWindows()) options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        using var writer = new StreamWriter(path, options);
        writer.WriteLine(text);
    }

    [LibraryImport("libc")]
    private static partial int kill(int process, int signal);

    [LibraryImport("libc")]
    private static partial uint geteuid();
}
