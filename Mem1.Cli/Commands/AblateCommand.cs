using System.CommandLine;
using System.Globalization;
using Mem1.Cli.Demo;

namespace Mem1.Cli.Commands;

/// <summary><c>mem1 ablate</c>: every config of a folder trained, one curve and one row each.</summary>
internal static class AblateCommand
{
    public static Command Create()
    {
        var configs = new Option<DirectoryInfo>("--configs")
        {
            Description = "Folder of configs, one .yaml each, named after what they change",
            HelpName = "DIR",
            DefaultValueFactory = _ => new DirectoryInfo(Path.Combine("examples", "ablations")),
        };
        var output = new Option<DirectoryInfo>("--out")
        {
            Description = "Folder of the runs and the report; what is finished there is not done again",
            HelpName = "DIR",
            DefaultValueFactory = _ => new DirectoryInfo(Path.Combine("runs", "ablations")),
        };
        var seeds = new Option<string>("--seeds")
        {
            Description = "Each config is trained with each",
            HelpName = "S,S,...",
            DefaultValueFactory = _ => "1",
        };
        var set = new Option<string[]>("--set") { Description = "One setting over every config, as key=value; may repeat", HelpName = "KEY=VALUE" };
        var jobs = new Option<int>("--jobs") { Description = "Trainings at once", HelpName = "N", DefaultValueFactory = _ => 1 };
        var command = new Command(
            "ablate",
            """
            Train every config of a folder and compare: learning curves, exact match before and after (docs/results.md).

            Examples:
              ./mem1 ablate                                     the eight of examples/ablations; some minutes
              ./mem1 ablate --seeds 1,2,3 --out runs/ablations3
              ./mem1 ablate --set updates=2 --set evaluation.episodes=2 --out runs/try
            """)
        {
            configs, output, seeds, set, jobs,
        };
        command.SetAction(async (parse, cancellationToken) =>
        {
            if (parse.GetValue(jobs) < 1) throw new UserErrorException($"--jobs is {parse.GetValue(jobs)}; it must be above 0.");
            var from = parse.GetValue(configs)!;
            string[] files = from.Exists
                ? [.. from.EnumerateFiles("*.yaml").Select(f => f.FullName).Order(StringComparer.Ordinal)]
                : throw new UserErrorException($"--configs is {from.FullName}; there is no such folder.");
            if (files.Length == 0) throw new UserErrorException($"--configs is {from.FullName}; there is no .yaml file in it.");
            var folder = parse.GetValue(output)!.FullName;
            var ablation = new Ablation(folder, files, DemoCommand.Seeds(parse.GetValue(seeds)!), parse.GetValue(set) ?? [], Console.Error.WriteLine);
            try
            {
                await ablation.RunAsync(parse.GetValue(jobs), cancellationToken).ConfigureAwait(false);
            }
            catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
            {
                await Console.Error.WriteLineAsync("stopped; the same command goes on").ConfigureAwait(false);
                return 0;
            }

            await Console.Out.WriteAsync(ablation.Report()).ConfigureAwait(false);
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"\nreport and curves: {Path.Combine(folder, "report.md")}"));
            return 0;
        });
        return command;
    }
}
