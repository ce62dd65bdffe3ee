using System.CommandLine;
using System.Text.Json;
using Mem1.Cli.Bench;

namespace Mem1.Cli.Commands;

/// <summary><c>mem1 bench async</c>: what sampling ahead of the learner is worth.</summary>
internal static class AsyncBenchCommand
{
    public static Command Create()
    {
        var updates = BenchCommand.Count("--updates", "Updates timed in each run, after a few that are not", 40);
        var rounds = BenchCommand.Count("--rounds", "Runs of each way; the fastest counts", 3);
        var staleness = BenchCommand.Count("--staleness", "Of the asynchronous way, in versions", 1);
        var (json, output) = (BenchCommand.Json(), BenchCommand.Output());
        var command = new Command(
            "async",
            """
            Train the default run with sampling and learning in turns (rollout.staleness 0), and with sampling ahead while the learner
            learns: updates per hour of both, and how long learner and sampler are idle.

            Examples:
              ./mem1 bench async
              ./mem1 bench async --updates 20 --staleness 2 --json | jq .times_synchronous
            """)
        {
            updates, rounds, staleness, json, output,
        };
        command.SetAction(async (parse, cancellationToken) =>
        {
            var report = await AsyncBench.Run(
                parse.GetValue(updates), parse.GetValue(rounds), parse.GetValue(staleness), quick: false, BenchCommand.Progress,
                cancellationToken).ConfigureAwait(false);
            BenchCommand.Show(report, report.Table(), parse.GetValue(json), parse.GetValue(output));
            return 0;
        });
        return command;
    }

    /// <summary>What the bench starts; of no use by itself.</summary>
    public static Command CreatePass()
    {
        var updates = new Option<int>("--updates") { Required = true };
        var staleness = new Option<int>("--staleness") { Required = true };
        var quick = new Option<bool>("--quick");
        var command = new Command(AsyncBench.PassCommand, "Measure one way of training in this process.") { updates, staleness, quick };
        command.Hidden = true;
        command.SetAction((parse, cancellationToken) =>
        {
            var row = AsyncBench.MeasureHere(parse.GetValue(updates), parse.GetValue(staleness), parse.GetValue(quick), cancellationToken);
            Console.WriteLine(JsonSerializer.Serialize(row, BenchProcess.Json));
            return Task.FromResult(0);
        });
        return command;
    }
}
