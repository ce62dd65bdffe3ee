// Keeps: the file is written whole or not at all, after every node that is started or gone; a process id counts only together with the moment
// its process began, so a stranger that has been given the number since is never signalled.
using System.Globalization;
using System.Text.Json;
using Mem1.Model.Checkpoints;

namespace Mem1.Cli.Cluster;

/// <summary>A process of a local cluster.</summary>
/// <param name="Name">Unique in the cluster, such as worker-1.</param>
/// <param name="Kind">learner, worker, retriever or dashboard.</param>
/// <param name="Arguments">What the program was started with.</param>
/// <param name="Address">IP address it has for the others.</param>
/// <param name="Namespace">Its network namespace; null for the machine's own network.</param>
/// <param name="ProcessId">Of the newest start.</param>
/// <param name="Began">When that process began, in the kernel's ticks since the machine's start.</param>
internal sealed record ClusterNode(
    string Name, string Kind, IReadOnlyList<string> Arguments, string Address, string? Namespace, int ProcessId, long Began)
{
    public const string Learner = "learner", Worker = "worker", Retriever = "retriever", Dashboard = "dashboard";

    /// <summary>Whether the process still runs; a zombie does not.</summary>
    public bool Runs() => BeganOf(ProcessId) == Began;

    /// <summary>When a process began; null when there is none (any more).</summary>
    public static long? BeganOf(int process)
    {
        try
        {
            // pid (name) state ppid ... starttime: the name may hold anything, so count from its closing bracket.
            var stat = File.ReadAllText($"/proc/{process.ToString(CultureInfo.InvariantCulture)}/stat");
            var fields = stat[(stat.LastIndexOf(')') + 2)..].Split(' ');
            return fields[0] is "Z" or "X" ? null : long.Parse(fields[19], CultureInfo.InvariantCulture);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}

/// <summary>A local cluster: its processes, as its folder remembers them.</summary>
/// <param name="Name">Of cluster and run.</param>
/// <param name="Runs">Where run folders are.</param>
/// <param name="Port">The learner's.</param>
/// <param name="Network">Number of its own network; null on the machine's loopback.</param>
/// <param name="Nodes">In the order of their first start.</param>
internal sealed record ClusterState(string Name, string Runs, int Port, int? Network, IReadOnlyList<ClusterNode> Nodes)
{
    private static readonly JsonSerializerOptions s_json = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower, WriteIndented = true };

    /// <summary>Folder of a cluster: state, token, logs.</summary>
    public static string FolderOf(string runs, string name) => Path.Combine(runs, $".cluster-{name}");

    /// <summary>Folder of this one.</summary>
    public string Folder => FolderOf(Runs, Name);

    /// <summary>Where a node's output goes.</summary>
    public string LogOf(ClusterNode node) => Path.Combine(Folder, "logs", $"{node.Name}.log");

    /// <summary>The state a folder remembers; null if there is none.</summary>
    /// <exception cref="UserErrorException">The file is damaged.</exception>
    public static ClusterState? Find(string runs, string name)
    {
        var path = Path.Combine(FolderOf(runs, name), "state.json");
        try
        {
            return File.Exists(path) ? JsonSerializer.Deserialize<ClusterState>(File.ReadAllText(path), s_json) : null;
        }
        catch (JsonException e)
        {
            throw new UserErrorException($"{path} is damaged ({e.Message}); end its processes by hand and delete the folder.", e);
        }
    }

    /// <summary>The state of a cluster that is up.</summary>
    /// <exception cref="UserErrorException">There is no such cluster.</exception>
    public static ClusterState Open(string runs, string name) => Find(runs, name)
        ?? throw new UserErrorException($"there is no cluster {name} in {runs}; start one with: ./mem1 cluster up --name {name}");

    public void Save() => AtomicFile.WriteText(Path.Combine(Folder, "state.json"), JsonSerializer.Serialize(this, s_json));

    /// <summary>With a node that is new or has a new process.</summary>
    public ClusterState With(ClusterNode node) => this with
    {
        Nodes = Nodes.Any(n => n.Name == node.Name) ? [.. Nodes.Select(n => n.Name == node.Name ? node : n)] : [.. Nodes, node],
    };
}
