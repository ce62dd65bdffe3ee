using System.CommandLine;
using Mem1.Learner;
using Mem1.Model.Checkpoints;

namespace Mem1.Cli.Commands;

/// <summary><c>mem1 data distil</c>: picks the episodes that are worth imitating.</summary>
internal static class DistilCommand
{
    public static Command Create()
    {
        var from = new Option<FileInfo[]>("--trajectories")
        {
            Description = "trajectories.jsonl of a run, or rollouts of the original MEM1; may repeat",
            Required = true,
            HelpName = "FILE.jsonl",
            AllowMultipleArgumentsPerToken = true,
        };
        var reward = new Option<double?>("--min-reward") { Description = "Smallest reward", HelpName = "R" };
        var correct = new Option<bool>("--all-correct") { Description = "Every objective answered exactly" };
        var objectives = new Option<int?>("--objectives")
        {
            Description = "Objectives of each task, for files that only count the right answers",
            HelpName = "N",
        };
        var ends = new Option<string[]>("--action-end")
        {
            Description = "Every response must have a state and end its action with one of these",
            HelpName = "TAG",
            AllowMultipleArgumentsPerToken = true,
        };
        var output = new Option<FileInfo>("--out") { Description = "Episodes to write; mem1 sft reads them", Required = true, HelpName = "FILE.jsonl" };
        var command = new Command(
            "distil",
            """
            Pick the episodes of a teacher that a student is to imitate, by what they scored. They are written as they were played, each
            once, so that mem1 sft trains on the same tokens in the same layout as reinforcement learning.

            Examples:
              ./mem1 data distil --trajectories runs/default/trajectories.jsonl --all-correct --out good.jsonl
              ./mem1 data distil --trajectories teacher.jsonl --min-reward 0.5 --action-end '</search>' '</answer>' --out good.jsonl
              ./mem1 sft --data good.jsonl
            """)
        {
            from, reward, correct, objectives, ends, output,
        };
        command.SetAction(parse =>
        {
            if (parse.GetValue(reward) is null && !parse.GetValue(correct))
                throw new UserErrorException("nothing says which episodes are good: give --min-reward R or --all-correct.");
            if (parse.GetValue(objectives) is { } n && n < 1) throw new UserErrorException($"--objectives is {n}; it must be at least 1.");
            string[] files = [.. parse.GetValue(from)!.Select(f => f.FullName)];
            var to = parse.GetValue(output)!.FullName;
            if (files.Contains(to)) throw new UserErrorException("--trajectories and --out must name different files.");
            var options = new DistillationOptions
            {
                MinReward = parse.GetValue(reward),
                AllCorrect = parse.GetValue(correct),
                Objectives = parse.GetValue(objectives),
                ActionEnds = parse.GetValue(ends) is { Length: > 0 } tags ? tags : null,
            };
            DistillationReport? report = null;
            AtomicFile.Write(to, stream =>
            {
                using var writer = new StreamWriter(stream, leaveOpen: true);
                report = DistillationFilter.Run(files, options, writer);
            });
            Console.WriteLine($"{report!.Kept} of {report.Read} episodes -> {parse.GetValue(output)}");
            if (report.Below > 0) Console.WriteLine($"{report.Below} scored too little");
            if (report.Malformed > 0) Console.WriteLine($"{report.Malformed} had a response without a state or a closed action");
            if (report.Repeated > 0) Console.WriteLine($"{report.Repeated} were there already");
            return 0;
        });
        return command;
    }
}
