using System.CommandLine;
using System.Globalization;
using Mem1.Cli.Demo;

namespace Mem1.Cli.Commands;

/// <summary><c>mem1 demo</c>: the paper's comparison, from nothing, on this machine.</summary>
internal static class DemoCommand
{
    public static Command Create()
    {
        var environment = new Option<DemoEnvironment>("--environment")
        {
            Description = "worlds (constant memory against full context), webshop or web (one agent before and after PPO)",
            HelpName = "NAME",
        };
        var output = new Option<DirectoryInfo?>("--out")
        {
            Description = "Folder of the demonstration (runs/demo; runs/demo-webshop and runs/demo-web for those)",
            HelpName = "DIR",
        };
        var seeds = new Option<string>("--seeds")
        {
            Description = "Each trains one agent of each kind",
            HelpName = "S,S,...",
            DefaultValueFactory = _ => "1",
        };
        var episodes = new Option<int?>("--episodes")
        {
            Description = "Held-out episodes of each agent, seed and number of objectives (48; webshop and web 128)",
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
            at 1 to 16 on tasks they have not seen; print the table and draw the plots (docs/results.md). With --environment webshop or web: clone
            a small agent in a made-up shop or a local web and train it by PPO; print rewards of held-out tasks before and after.

            Examples:
              ./mem1 demo                        about 15 minutes on two processors
              ./mem1 demo --seeds 1,2,3 --out runs/demo3
              ./mem1 demo --resume               after a stop, whatever stopped it
              ./mem1 demo --quick --out runs/demo-quick
              ./mem1 demo --environment webshop
              ./mem1 demo --environment web
            """)
        {
            environment, output, seeds, episodes, jobs, quick, resume, part, threads,
        };
        command.SetAction(async (parse, cancellationToken) =>
        {
            var kind = parse.GetValue(environment);
            var path = Path.GetFullPath(parse.GetValue(output)?.FullName
                ?? Path.Combine("runs", kind == DemoEnvironment.Worlds ? "demo" : $"demo-{kind.ToString().ToLowerInvariant()}"));
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
            var (chosen, most) = (Seeds(parse.GetValue(seeds)!), Positive(parse.GetValue(episodes), "--episodes"));
            var plan = resuming ? null
                : kind == DemoEnvironment.Worlds ? DemoPlan.Of(chosen, most, parse.GetValue(quick))
                : EnvironmentDemo.Plan(kind, chosen, most, parse.GetValue(quick));
            using var folder = DemoFolder.Open(path, plan);
            if (parse.GetResult(environment) is { Implicit: false } && folder.Plan.Environment != kind)
            {
                var (asked, held) = (kind.ToString().ToLowerInvariant(), folder.Plan.Environment.ToString().ToLowerInvariant());
                throw new UserErrorException($"--environment is {asked}, but {path} holds a demonstration in {held}: choose another --out.");
            }

            var atOnce = Positive(parse.GetValue(jobs), "--jobs")
                ?? Math.Clamp(Environment.ProcessorCount, 1, folder.Plan.Trained.Count * folder.Plan.Seeds.Count);
            try
            {
                await new DemoRun(folder, atOnce, Console.Error.WriteLine).RunAsync(cancellationToken).ConfigureAwait(false);
            }
            catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
            {
                await Console.Error.WriteLineAsync($"stopped; go on with: ./mem1 demo --out {path} --resume").ConfigureAwait(false);
                return 0;
            }

            if (folder.Plan.Environment == DemoEnvironment.Worlds)
            {
                var report = DemoReport.Of(path, folder.Plan);
                report.Write(path);
                report.Print(Console.Out);
            }
            else
            {
                var report = ImprovementReport.Of(path, folder.Plan);
                report.Write(path);
                report.Print(Console.Out);
            }

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
