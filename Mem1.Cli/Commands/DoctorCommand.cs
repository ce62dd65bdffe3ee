using System.CommandLine;
using System.Text.Json;
using Mem1.Cli.Doctor;
using Mem1.Cli.Output;
using Spectre.Console;

namespace Mem1.Cli.Commands;

/// <summary><c>mem1 doctor</c>: whether this machine can do what it is meant to, and what to do where it cannot.</summary>
internal static class DoctorCommand
{
    private const int LearnerPort = 5050, DashboardPort = 5080;

    private static readonly JsonSerializerOptions s_json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        Converters = { new System.Text.Json.Serialization.JsonStringEnumConverter(JsonNamingPolicy.SnakeCaseLower) },
    };

    public static Command Create()
    {
        var config = new Option<FileInfo?>("--config") { Description = "Check this config too", HelpName = "FILE" };
        var set = new Option<string[]>("--set") { Description = "One setting over it, as key=value; may repeat", HelpName = "KEY=VALUE" };
        var runs = new Option<DirectoryInfo>("--runs")
        {
            Description = "Where run folders go",
            HelpName = "DIR",
            DefaultValueFactory = _ => new DirectoryInfo("runs"),
        };
        var learner = new Option<string?>("--learner") { Description = "Ask this learner whether it would let a worker of this machine play", HelpName = "HOST:PORT" };
        var json = new Option<bool>("--json") { Description = "One JSON object per check on standard output" };
        var security = new SecurityArguments();
        var command = new Command(
            "doctor",
            """
            Check libtorch, GPU, ports, disk, memory, clock, Node.js and config, and say what to do. Exit code 2 if something will not run.

            Examples:
              ./mem1 doctor
              ./mem1 doctor --config big.yaml --runs /data/runs
              ./mem1 doctor --learner gpu-node:5050 --token-file token    on a machine that is to be a worker
            """)
        {
            config, set, runs, learner, json,
        };
        security.AddTo(command);
        command.SetAction(async (parse, cancellationToken) =>
        {
            const string install = "./mem1 installs it as root; as another user it prints the line to type.";
            List<Finding> findings =
            [
                Checks.Machine(),
                Checks.Memory(),
                Checks.Run("libtorch", install, Checks.Torch),
                Checks.Run("gpu", "docs/gpu.md", Checks.Gpu),
                Checks.Port("learner", LearnerPort),
                Checks.Port("dashboard", DashboardPort),
                Checks.Run("disk", "Choose a folder that can be written to with --runs.", () => Checks.Disk(parse.GetValue(runs)!.FullName)),
                Checks.Clock(),
                Checks.Run("node", "apt-get install nodejs npm", Checks.Node),
            ];
            if (parse.GetValue(config) is { } file)
                findings.Add(Checks.Run("config", "Mend the file; ./mem1 train --dry-run shows every setting.", () => Checks.Config(file.FullName, parse.GetValue(set) ?? [])));
            if (parse.GetValue(learner) is { } address)
            {
                var shown = security.Client(parse);
                findings.AddRange(await Checks.LearnerAsync(
                    RolloutCommand.Address(address, shown.Tls is null ? "http" : "https"), shown, cancellationToken).ConfigureAwait(false));
            }

            if (parse.GetValue(json))
            {
                foreach (var finding in findings) Console.WriteLine(JsonSerializer.Serialize(finding, s_json));
            }
            else
            {
                Show(findings);
            }

            return findings.Any(f => f.Verdict == Verdict.Failure) ? 2 : 0;
        });
        return command;
    }

    private static void Show(IReadOnlyList<Finding> findings)
    {
        var console = Reporters.Terminal(out _);
        var width = findings.Max(f => f.Check.Length);
        foreach (var finding in findings)
        {
            var (mark, colour) = finding.Verdict switch
            {
                Verdict.Ok => ("ok  ", "green"),
                Verdict.Warning => ("warn", "yellow"),
                Verdict.Failure => ("FAIL", "red"),
                _ => ("-   ", "grey"),
            };
            console.MarkupLine($"[{colour}]{mark}[/]  {Markup.Escape(finding.Check.PadRight(width))}  {Markup.Escape(finding.Found)}");
            if (finding.Advice is { } advice) console.MarkupLine($"      {new string(' ', width)}  {Markup.Escape(advice)}");
        }
    }
}
