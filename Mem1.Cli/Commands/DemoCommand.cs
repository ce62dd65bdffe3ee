using System.CommandLine;
using System.Globalization;
using Mem1.Cli.Demo;

namespace Mem1.Cli.Commands;

/// <summary><c>mem1 demo</c>: the paper's comparison, from nothing, on this machine.</summary>
internal static class DemoCommand
{
    public static Command Create()
    {
        var output = new Option<DirectoryInfo>("--out")
        {
            Description = "Folder of the demonstration",
            HelpName = "DIR",
            DefaultValueFactory = _ => new DirectoryInfo(Path.Combine("runs", "demo")),
        };
        var seeds = new Option<string>("--seeds")
        {
            Description = "Each trains one agent of each kind",
            HelpName = "S,S,...",
            DefaultValueFactory = _ => "1",
        };
        var episodes = new Option<int?>("--episodes")
        {
            Description = "Held-out episodes of each agent, seed and number of objectives (48)",
            HelpName = "N",
        };
        var jobs = new Option<int?>("--jobs") { Description = "Trainings at once; one per processor, but at most two for each seed", HelpName = "N" };
        var quick = new Option<bool>("--quick") { Description = "Everything at the smallest size: under a minute, and shows nothing but that it works" };
        var resume = new Option<bool>("--resume") { Description = "Go on with the demonstration in the folder" };
        // What the command starts itself with.
        var part = new Option<string?>("--part") { Hidden = true };
        var threads = new Option<int>("--threads") { Hidden = true, DefaultValueFactory = _ => 1 };
        var command = new Command(
            "demo",
            """
            Train an agent with constant memory and one of the same size that keeps its whole context, both on 1 to 4 objectives; play both
            at 1 to 16 on tasks they have not seen; print the table and draw the plots (docs/results.md).

            Examples:
              ./mem1 demo                        about 15 minutes on two processors
              ./mem1 demo --seeds 1,2,3 --out runs/demo3
              ./mem1 demo --resume               after a stop, whatever stopped it
              ./mem1 demo --quick --out runs/demo-quick
            """)
        {
            output, seeds, episodes, jobs, quick, resume, part, threads,
        };
        command.SetAction(async (parse, cancellationToken) =>
        {
            var path = parse.GetValue(output)!.FullName;
            if (parse.GetValue(part) is { } name)
            {
                var (agent, seed) = Read(name);
                // On a thread of its own: gradient mode and dispose scopes belong to it.
                return await Task.Factory.StartNew(
                    () => DemoPart.Run(path, agent, seed, parse.GetValue(threads), cancellationToken), CancellationToken.None,
                    TaskCreationOptions.LongRunning, TaskScheduler.Default).ConfigureAwait(false);
            }

            var resuming = parse.GetValue(resume);
            if (resuming && (parse.GetValue(quick) || parse.GetValue(episodes) is not null || parse.GetResult(seeds) is { Implicit: false }))
                throw new UserErrorException("--resume goes on with the folder's own plan, so --seeds, --episodes and --quick do not go with it.");
            var plan = resuming ? null : DemoPlan.Of(Seeds(parse.GetValue(seeds)!), Positive(parse.GetValue(episodes), "--episodes"), parse.GetValue(quick));
            using var folder = DemoFolder.Open(path, plan);
            var atOnce = Positive(parse.GetValue(jobs), "--jobs")
                ?? Math.Clamp(Environment.ProcessorCount, 1, DemoPlan.Agents.Count * folder.Plan.Seeds.Count);
            try
            {
                await new DemoRun(folder, atOnce, Console.Error.WriteLine).RunAsync(cancellationToken).ConfigureAwait(false);
            }
            catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
            {
                await Console.Error.WriteLineAsync($"stopped; go on with: ./mem1 demo --out {path} --resume").ConfigureAwait(false);
                return 0;
            }

            var report = DemoReport.Of(path, folder.Plan);
            report.Write(path);
            report.Print(Console.Out);
            Console.WriteLine($"intervals, seeds and plots: {Path.Combine(path, "report.md")}");
            return 0;
        });
        return command;
    }

    private static (string Agent, ulong Seed) Read(string part)
    {
        var at = part.IndexOf("-s", StringComparison.Ordinal);
        return at > 0 && DemoPlan.Agents.Contains(part[..at])
            && ulong.TryParse(part.AsSpan(at + 2), NumberStyles.None, CultureInfo.InvariantCulture, out var seed)
            ? (part[..at], seed)
            : throw new UserErrorException($"--part is \"{part}\"; it is for mem1 demo itself.");
    }

    internal static ulong[] Seeds(string list)
    {
        var seeds = list.Split(',', StringSplitOptions.TrimEntries)
            .Select(t => ulong.TryParse(t, NumberStyles.None, CultureInfo.InvariantCulture, out var s) ? s
                : throw new UserErrorException($"--seeds has \"{t}\"; whole numbers with commas between are expected."))
            .ToArray();
        return seeds.Distinct().Count() == seeds.Length ? seeds : throw new UserErrorException("--seeds names a seed twice.");
    }

    private static int? Positive(int? value, string name) => value is null or > 0 ? value
        : throw new UserErrorException($"{name} is {value}; it must be above 0.");
}
