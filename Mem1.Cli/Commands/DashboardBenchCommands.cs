using System.CommandLine;
using System.Globalization;
using Mem1.Cli.Bench;

namespace Mem1.Cli.Commands;

/// <summary><c>mem1 bench dashboard</c>: what watching a training costs it.</summary>
internal static class DashboardBenchCommands
{
    public static IEnumerable<Command> Create() => [Dashboard(), Viewer()];

    private static Command Dashboard()
    {
        var blocks = BenchCommand.Count("--blocks", "Pairs of blocks, one with and one without the dashboard", 12);
        var updates = BenchCommand.Count("--updates", "Updates of a block; the first one does not count", 5);
        var quick = new Option<bool>("--quick") { Description = "A training of the smallest size, to try the bench itself" };
        var (json, output) = (BenchCommand.Json(), BenchCommand.Output());
        var command = new Command(
            "dashboard",
            """
            One training of the default config in which the dashboard, with a browser looking, is up and down in turns: what it costs in
            updates per second and in processor time.

            Examples:
              ./mem1 bench dashboard
              ./mem1 bench dashboard --blocks 30 --json | jq .lost_updates
            """)
        {
            blocks, updates, quick, json, output,
        };
        // On a thread of its own, as in training: everything native belongs to it.
        command.SetAction((parse, cancellationToken) => Task.Factory.StartNew(
            () =>
            {
                if (parse.GetValue(updates) < 2)
                    throw new UserErrorException("--updates must be at least 2: the first of a block does not count.");
                var report = DashboardBench.Run(
                    parse.GetValue(blocks), parse.GetValue(updates), parse.GetValue(quick), BenchCommand.Progress, cancellationToken);
                BenchCommand.Show(report, report.Table(), parse.GetValue(json), parse.GetValue(output));
                return 0;
            },
            CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default));
        return command;
    }

    /// <summary>What the bench starts in the place of a browser; of no use by itself.</summary>
    private static Command Viewer()
    {
        var at = new Option<string>("--at") { Required = true };
        var command = new Command(DashboardBench.ViewerCommand, "Look at a dashboard until the input ends.") { at };
        command.Hidden = true;
        command.SetAction(async (parse, cancellationToken) =>
        {
            var seen = await DashboardBench.View(new Uri(parse.GetValue(at)!), cancellationToken).ConfigureAwait(false);
            Console.WriteLine(seen.ToString(CultureInfo.InvariantCulture));
            return 0;
        });
        return command;
    }
}
