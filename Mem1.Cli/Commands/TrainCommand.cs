using System.CommandLine;
using Mem1.Cli.Configuration;
using Mem1.Cli.Output;
using Mem1.Cli.Training;
using Mem1.Model;

namespace Mem1.Cli.Commands;

/// <summary><c>mem1 train</c>: options, presets and the run.</summary>
internal static class TrainCommand
{
    public static Command Create()
    {
        var config = new Option<FileInfo?>("--config") { Description = "YAML file; keys as in a run folder's config.yaml", HelpName = "FILE" };
        var set = new Option<string[]>("--set") { Description = "One setting over the config, as key=value; may repeat", HelpName = "KEY=VALUE" };
        var name = new Option<string?>("--name") { Description = "Name of the run's folder", HelpName = "NAME" };
        var runs = new Option<DirectoryInfo>("--runs")
        {
            Description = "Where run folders go", HelpName = "DIR", DefaultValueFactory = _ => new DirectoryInfo("runs"),
        };
        var resume = new Option<string?>("--resume")
        {
            Description = "Go on with a run, the last one if no name is given", HelpName = "NAME", Arity = ArgumentArity.ZeroOrOne,
        };
        var updates = new Option<int?>("--updates") { Description = "Number of the last update", HelpName = "N" };
        var seed = new Option<ulong?>("--seed") { Description = "Seed of everything random", HelpName = "S" };
        var serial = new Option<bool>("--serial") { Description = "One thread for everything: the same seed gives the same metrics bit for bit" };
        var scratch = new Option<bool>("--from-scratch") { Description = "Make a new model and clone the expert instead of starting from the built-in one" };
        var cloneOnly = new Option<bool>("--clone-only") { Description = "Stop after the warm start, with its checkpoint in checkpoints/step-0" };
        var quick = new Option<bool>("--quick") { Description = "Everything at the smallest size: 3 updates" };
        var corpus = new Option<FileInfo?>("--corpus") { Description = "Passages: jsonl with id and contents", HelpName = "FILE.jsonl" };
        var tasks = new Option<FileInfo?>("--tasks") { Description = "Questions: jsonl with id, question and golden_answers", HelpName = "FILE.jsonl" };
        var json = new Option<bool>("--json") { Description = "One JSON object per update on standard output" };
        var command = new Command(
            "train",
            """
            Train an agent on this machine: learner and rollout worker in one process, over real gRPC on loopback.

            Examples:
              ./mem1 train                                       the built-in tiny agent, from its cloned checkpoint
              ./mem1 train --from-scratch --seed 2 --name two    clone the expert first
              ./mem1 train --corpus C.jsonl --tasks T.jsonl      questions over your own passages
              ./mem1 train --set ppo.clip=0.1 --updates 200
              ./mem1 train --resume                              go on with the last run
              ./mem1 train --json | jq .reward_mean

            A run's folder holds config.yaml (everything it depends on), metrics.jsonl, trajectories.jsonl, reward.svg and checkpoints/.
            """)
        {
            config, set, name, runs, resume, updates, seed, serial, scratch, cloneOnly, quick, corpus, tasks, json,
        };
        command.SetAction((parse, cancellationToken) =>
        {
            var resuming = parse.GetResult(resume) is not null;
            var overrides = new List<string>();
            if (parse.GetValue(updates) is { } u) overrides.Add($"updates={u}");
            if (parse.GetValue(seed) is { } s) overrides.Add($"seed={s}");
            if (parse.GetValue(serial)) overrides.AddRange(["serial=true", "rollout.threads=1"]);
            overrides.AddRange(parse.GetValue(set) ?? []);

            RunFolder folder;
            RunConfig run;
            if (resuming)
            {
                if (parse.GetValue(config) is not null || parse.GetValue(name) is not null || parse.GetValue(scratch) || parse.GetValue(quick)
                    || parse.GetValue(corpus) is not null || parse.GetValue(tasks) is not null)
                {
                    throw new UserErrorException(
                        "--resume goes on with the run's own config.yaml, so --config, --name, --from-scratch, --quick, --corpus and --tasks do not go with it.");
                }

                folder = RunFolder.Resume(parse.GetValue(runs)!.FullName, parse.GetValue(resume));
                run = Checked(() => ConfigFile.Read(folder.ConfigPath, overrides), folder);
            }
            else
            {
                var preset = Presets.For(
                    parse.GetValue(corpus)?.FullName, parse.GetValue(tasks)?.FullName, parse.GetValue(quick), parse.GetValue(scratch));
                if (parse.GetValue(name) is { } n) overrides.Insert(0, $"name={n}");
                run = Checked(() => ConfigFile.Load(parse.GetValue(config)?.FullName, overrides, preset), null);
                folder = RunFolder.Create(parse.GetValue(runs)!.FullName, run.Name, chosen: parse.GetValue(name) is not null);
                folder.WriteConfig(run);
            }

            using (folder)
            {
                using var reporter = Reporters.Create(
                    parse.GetValue(json), Enumerable.Range(run.Environment.MinObjectives, run.Environment.MaxObjectives - run.Environment.MinObjectives + 1));
                var body = new TrainRun(run, folder, reporter, resuming, parse.GetValue(cloneOnly));
                // A thread of its own: gradient mode, dispose scopes and the count of live tensors belong to it.
                var result = Task.Factory.StartNew(
                    () => body.Run(cancellationToken), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
                return Task.FromResult(result.GetAwaiter().GetResult());
            }
        });
        return command;
    }

    /// <summary>A config without contradictions, or all of them at once.</summary>
    private static RunConfig Checked(Func<RunConfig> load, RunFolder? held)
    {
        try
        {
            var config = load();
            var errors = config.Validate();
            if (errors.Count == 0) return config;
            throw new UserErrorException(
                errors.Count == 1 ? errors[0] : $"The config contradicts itself in {errors.Count} places:\n  {string.Join("\n  ", errors)}");
        }
        catch
        {
            held?.Dispose();
            throw;
        }
    }
}
