using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using Mem1.Cli.Cluster;
using Mem1.Cli.Output;
using Spectre.Console;

namespace Mem1.Cli.Commands;

/// <summary><c>mem1 cluster</c>: learner, workers, retriever and dashboard as processes of this machine.</summary>
internal static class ClusterCommand
{
    private static readonly JsonSerializerOptions s_json = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    private static readonly Option<string> s_name = new("--name")
    {
        Description = "Name of the cluster and of its run",
        HelpName = "NAME",
        DefaultValueFactory = _ => "cluster",
    };

    private static readonly Option<DirectoryInfo> s_runs = new("--runs")
    {
        Description = "Where run folders are",
        HelpName = "DIR",
        DefaultValueFactory = _ => new DirectoryInfo("runs"),
    };

    private static readonly Option<int> s_grace = new("--grace")
    {
        Description = "How long a process may take to end before it is killed",
        HelpName = "SECONDS",
        DefaultValueFactory = _ => 60,
    };

    public static Command Create() => new(
        "cluster",
        """
        A cluster on this machine without Kubernetes: learner, workers, retriever and dashboard as processes, as root each in a network
        namespace of its own. They outlive the command and the terminal; a run that was begun goes on.

        Examples:
          ./mem1 cluster up --workers 4
          ./mem1 cluster up --workers 2 --config run.yaml --retriever-index wiki.sqlite
          ./mem1 cluster status
          ./mem1 cluster scale 8
          ./mem1 cluster kill worker-2               as a power cut would
          ./mem1 cluster restart                     one after the other: a rolling upgrade
          ./mem1 cluster down
        """)
    {
        Up(), Status(), Scale(), Kill(), Restart(), Down(),
    };

    private static Command Up()
    {
        var workers = new Option<int>("--workers") { Description = "How many rollout workers", HelpName = "N", DefaultValueFactory = _ => 2 };
        var port = new Option<int>("--port") { Description = "The learner's", HelpName = "PORT", DefaultValueFactory = _ => 5050 };
        var config = new Option<FileInfo?>("--config") { Description = "YAML file of the run", HelpName = "FILE" };
        var set = new Option<string[]>("--set") { Description = "One setting over the config, as key=value; may repeat", HelpName = "KEY=VALUE" };
        var quick = new Option<bool>("--quick") { Description = "Everything at the smallest size" };
        var updates = new Option<int?>("--updates") { Description = "Number of the last update", HelpName = "N" };
        var index = new Option<FileInfo?>("--retriever-index") { Description = "Start a retriever over this index, for the environment to use", HelpName = "INDEX" };
        var noDashboard = new Option<bool>("--no-dashboard") { Description = "No dashboard" };
        var dashboardPort = DashboardCommand.PortOption("--dashboard-port");
        var namespaces = new Option<string>("--namespaces")
        {
            Description = "on, off, or auto: where the user may make network namespaces",
            HelpName = "MODE",
            DefaultValueFactory = _ => "auto",
        };
        namespaces.AcceptOnlyFromAmong("auto", "on", "off");
        var command = new Command("up", "Start a cluster, or go on with one that was stopped.")
        {
            s_name, s_runs, workers, port, config, set, quick, updates, index, noDashboard, dashboardPort, namespaces,
        };
        command.SetAction((parse, cancellationToken) => Task.Run(() =>
        {
            if (parse.GetValue(workers) < 0) throw new UserErrorException($"--workers is {parse.GetValue(workers)}; it must not be negative.");
            List<string> learner = [];
            if (parse.GetValue(config) is { } file) learner.AddRange(["--config", file.FullName]);
            foreach (var setting in parse.GetValue(set) ?? []) learner.AddRange(["--set", setting]);
            if (parse.GetValue(quick)) learner.Add("--quick");
            if (parse.GetValue(updates) is { } last) learner.AddRange(["--updates", last.ToString(CultureInfo.InvariantCulture)]);
            var state = new ClusterControl(Console.WriteLine).Up(
                new ClusterPlan
                {
                    Name = parse.GetValue(s_name)!,
                    Runs = parse.GetValue(s_runs)!.FullName,
                    Workers = parse.GetValue(workers),
                    Port = parse.GetValue(port),
                    Dashboard = !parse.GetValue(noDashboard),
                    DashboardPort = parse.GetValue(dashboardPort),
                    Index = parse.GetValue(index)?.FullName,
                    Namespaces = parse.GetValue(namespaces) switch { "on" => true, "off" => false, _ => null },
                    LearnerArguments = learner,
                },
                cancellationToken);
            Console.WriteLine($"{state.Nodes.Count} processes; logs in {Path.Combine(state.Folder, "logs")}; ./mem1 cluster status shows them");
            return 0;
        }, cancellationToken));
        return command;
    }

    private static Command Status()
    {
        var json = new Option<bool>("--json") { Description = "One JSON object per process on standard output" };
        var command = new Command("status", "The processes, and how far the run is.") { s_name, s_runs, json };
        command.SetAction(parse =>
        {
            var state = Open(parse);
            if (parse.GetValue(json))
            {
                foreach (var node in state.Nodes)
                {
                    Console.WriteLine(JsonSerializer.Serialize(
                        new { node.Name, node.Kind, node.ProcessId, Running = node.Runs(), node.Address, node.Namespace, Log = state.LogOf(node) }, s_json));
                }

                return 0;
            }

            var console = Reporters.Terminal(out _);
            var table = new Table().Border(TableBorder.Simple).AddColumns("node", "state", "pid", "address", "last words");
            foreach (var node in state.Nodes)
            {
                table.AddRow(((string[])[
                    node.Name, node.Runs() ? "running" : "ended", node.ProcessId.ToString(CultureInfo.InvariantCulture), node.Address,
                    LastLine(state.LogOf(node)),
                ]).Select(Markup.Escape).ToArray());
            }

            console.Write(table);
            var metrics = Path.Combine(state.Runs, state.Name, "metrics.jsonl");
            if (File.Exists(metrics) && File.ReadLines(metrics).LastOrDefault() is { } line)
            {
                var update = JsonDocument.Parse(line).RootElement;
                console.WriteLine(string.Create(
                    CultureInfo.InvariantCulture,
                    $"update {update.GetProperty("update").GetInt64()}, reward {update.GetProperty("reward_mean").GetDouble():0.000}"));
            }

            return 0;
        });
        return command;
    }

    private static Command Scale()
    {
        var workers = new Argument<int>("workers") { Description = "How many workers there are to be", HelpName = "N" };
        var command = new Command("scale", "Start or end workers; those that end hand their episodes back.") { workers, s_name, s_runs, s_grace };
        command.SetAction(parse =>
        {
            if (parse.GetValue(workers) < 0) throw new UserErrorException($"{parse.GetValue(workers)} workers are not possible.");
            new ClusterControl(Console.WriteLine).Scale(Open(parse), parse.GetValue(workers), Grace(parse));
        });
        return command;
    }

    private static Command Kill()
    {
        var nodes = Nodes(ArgumentArity.OneOrMore);
        var command = new Command("kill", "Kill processes, to see that nothing is lost.") { nodes, s_name, s_runs };
        command.SetAction(parse =>
        {
            foreach (var node in Chosen(Open(parse), parse.GetValue(nodes)!)) ClusterControl.Kill(node);
        });
        return command;
    }

    private static Command Restart()
    {
        var nodes = Nodes(ArgumentArity.ZeroOrMore);
        var command = new Command("restart", "End processes in good order and start them again, one after the other; all if none is named.")
        {
            nodes, s_name, s_runs, s_grace,
        };
        command.SetAction(parse =>
        {
            var state = Open(parse);
            var control = new ClusterControl(Console.WriteLine);
            foreach (var node in Chosen(state, parse.GetValue(nodes)!)) state = control.Restart(state, node, Grace(parse));
        });
        return command;
    }

    private static Command Down()
    {
        var command = new Command("down", "End everything; the run can go on with cluster up.") { s_name, s_runs, s_grace };
        command.SetAction(parse => new ClusterControl(Console.WriteLine).Down(Open(parse), Grace(parse)));
        return command;
    }

    private static Argument<string[]> Nodes(ArgumentArity arity) =>
        new("nodes") { Description = "Names as cluster status shows them", HelpName = "NODE", Arity = arity };

    private static ClusterState Open(ParseResult parse) => ClusterState.Open(parse.GetValue(s_runs)!.FullName, parse.GetValue(s_name)!);

    private static TimeSpan Grace(ParseResult parse) => TimeSpan.FromSeconds(parse.GetValue(s_grace));

    private static IReadOnlyList<ClusterNode> Chosen(ClusterState state, string[] names) => names.Length == 0
        ? state.Nodes
        : [.. names.Select(name => state.Nodes.FirstOrDefault(n => n.Name == name)
            ?? throw new UserErrorException($"there is no node {name}; there are {string.Join(", ", state.Nodes.Select(n => n.Name))}."))];

    private static string LastLine(string log)
    {
        const int shown = 80;
        var line = File.Exists(log) ? File.ReadLines(log).LastOrDefault(l => l.Trim().Length > 0) ?? "" : "";
        return line.Length <= shown ? line : line[..shown];
    }
}
