using System.CommandLine;
using System.Text.Json;
using Mem1.Cli.Bench;

namespace Mem1.Cli.Commands;

/// <summary>The parts of <c>mem1 bench</c> that are about many processes: fleet, transport, scheduler, actors.</summary>
internal static class ClusterBenchCommands
{
    public static IEnumerable<Command> Create() => [Fleet(), FleetWorkers(), Transport(), Scheduler(), Actors()];

    private static Command Fleet()
    {
        var workers = BenchCommand.Count("--workers", "Simulated workers, each with a connection of its own", 1000);
        var tasks = BenchCommand.Count("--tasks", "Tasks in all", 40_000);
        var (json, output) = (BenchCommand.Json(), BenchCommand.Output());
        var command = new Command(
            "fleet",
            """
            Many simulated workers (a fake policy, real gRPC) in one process against the learner in another, their streams broken off again
            and again: tasks lost or duplicated, lease latency, the learner's memory.

            Examples:
              ./mem1 bench fleet --workers 1000
              ./mem1 bench fleet --workers 100 --tasks 5000 --json | jq .lease_latency_milliseconds
            """)
        {
            workers, tasks, json, output,
        };
        command.SetAction(async (parse, cancellationToken) =>
        {
            var report = await FleetBench.Run(
                parse.GetValue(workers), parse.GetValue(tasks), BenchCommand.Progress, cancellationToken).ConfigureAwait(false);
            BenchCommand.Show(report, report.Table(), parse.GetValue(json), parse.GetValue(output));
            return report is { Lost: 0, Duplicated: 0 } ? 0 : 1;
        });
        return command;
    }

    /// <summary>What the fleet bench starts; of no use by itself.</summary>
    private static Command FleetWorkers()
    {
        var learner = new Option<string>("--learner") { Required = true };
        var workers = new Option<int>("--workers") { Required = true };
        var breakEvery = new Option<int>("--break-every") { DefaultValueFactory = _ => FleetBench.BreakEvery };
        var command = new Command(FleetBench.WorkersCommand, "Simulate workers in this process.") { learner, workers, breakEvery };
        command.Hidden = true;
        command.SetAction(async (parse, cancellationToken) =>
        {
            var fleet = new FleetWorkers(new Uri(parse.GetValue(learner)!), parse.GetValue(workers), parse.GetValue(breakEvery));
            Console.WriteLine(JsonSerializer.Serialize(await fleet.RunAsync(cancellationToken).ConfigureAwait(false), BenchProcess.Json));
            return 0;
        });
        return command;
    }

    private static Command Transport()
    {
        var size = BenchCommand.Count("--mebibytes", "Size of the weights", 256);
        var receivers = BenchCommand.Numbers("--receivers", "Workers that pull the weights at once", 1, 4, 16);
        var streams = BenchCommand.Numbers("--streams", "Connections that send sub-trajectories", 1, 64);
        var (json, repeat, output) = (BenchCommand.Json(), BenchCommand.Count("--repeat", "Rounds of each way; the fastest counts", 3),
            BenchCommand.Output());
        var command = new Command(
            "transport",
            """
            Between learner and workers over loopback: sub-trajectories up over gRPC, weights down on connections of their own and over gRPC,
            as shares of raw TCP in the same run and, with python3-grpcio, beside its C core (bench/peers/grpc_weights.py).

            Examples:
              ./mem1 bench transport
              ./mem1 bench transport --mebibytes 64 --receivers 1 --json | jq '.broadcast[0].direct.share_of_tcp'
            """)
        {
            size, receivers, streams, repeat, json, output,
        };
        command.SetAction(async (parse, cancellationToken) =>
        {
            var report = await TransportBench.Run(
                parse.GetValue(size), BenchCommand.List(parse.GetValue(receivers)), BenchCommand.List(parse.GetValue(streams)),
                parse.GetValue(repeat), BenchCommand.Progress, cancellationToken).ConfigureAwait(false);
            BenchCommand.Show(report, report.Table(), parse.GetValue(json), parse.GetValue(output));
            return 0;
        });
        return command;
    }

    private static Command Scheduler()
    {
        var episodes = BenchCommand.Count("--episodes", "Episodes of each way", 1_000_000);
        var staleness = BenchCommand.Numbers("--staleness", "Bounds (rollout.staleness) to play with", 1, 2, 4);
        var (json, output) = (BenchCommand.Json(), BenchCommand.Output());
        var command = new Command(
            "scheduler",
            """
            How busy rollout workers are under three ways of scheduling, in virtual time: lock-step turns, batch by batch, and ours, which
            is the real task ledger with a staleness bound; beside the ideal in which no place is ever idle.

            Examples:
              ./mem1 bench scheduler
              ./mem1 bench scheduler --episodes 100000 --staleness 1 --json | jq .rows
            """)
        {
            episodes, staleness, json, output,
        };
        command.SetAction(parse =>
        {
            var report = SchedulerBench.Run(
                parse.GetValue(episodes), BenchCommand.List(parse.GetValue(staleness)), BenchCommand.Progress);
            BenchCommand.Show(report, report.Table(), parse.GetValue(json), parse.GetValue(output));
            return report.Rows.All(r => r.PastTheBound == 0) ? 0 : 1;
        });
        return command;
    }

    private static Command Actors()
    {
        var (json, repeat, output) = (BenchCommand.Json(), BenchCommand.Count("--repeat", "Rounds timed; the fastest counts", 5),
            BenchCommand.Output());
        var command = new Command(
            "actors",
            """
            Messages per second between actors of one process: one sender to one actor, two that answer each other, eight senders to one.

            Examples:
              ./mem1 bench actors
              ./mem1 bench actors --json | jq '.rows[] | {way, per_second}'
            """)
        {
            repeat, json, output,
        };
        command.SetAction(async (parse, cancellationToken) =>
        {
            var report = await ActorBench.Run(parse.GetValue(repeat), BenchCommand.Progress, cancellationToken).ConfigureAwait(false);
            BenchCommand.Show(report, report.Table(), parse.GetValue(json), parse.GetValue(output));
            return 0;
        });
        return command;
    }
}
