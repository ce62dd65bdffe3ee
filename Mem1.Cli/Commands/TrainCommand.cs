using System.CommandLine;
using System.Net;
using Mem1.Cli.Configuration;
using Mem1.Cli.Output;
using Mem1.Cli.Serve;
using Mem1.Cli.Training;
using Mem1.Environments.Web;
using Mem1.Model;

namespace Mem1.Cli.Commands;

/// <summary><c>mem1 train</c> and <c>mem1 learner</c>: options, presets and the run.</summary>
internal static class TrainCommand
{
    private static readonly IReadOnlyDictionary<string, RecordingMode> ReplayModes = new Dictionary<string, RecordingMode>
    {
        ["only"] = RecordingMode.ReplayOnly,
        ["prefer"] = RecordingMode.Replay,
        ["record"] = RecordingMode.Record,
        ["off"] = RecordingMode.Off,
    };

    // Where a learner listens when nobody says otherwise; workers are told the same in the examples.
    private const string StandardListen = "127.0.0.1:5050";

    /// <summary><c>mem1 train</c>: learner and worker in one process.</summary>
    public static Command Create() => Create(
        "train",
        """
        Train an agent on this machine: learner and rollout worker in one process, over real gRPC on loopback.

        Examples:
          ./mem1 train                                       the built-in tiny agent, from its cloned checkpoint
          ./mem1 train --from-scratch --seed 2 --name two    clone the expert first
          ./mem1 train --corpus C.jsonl --tasks T.jsonl      questions over your own passages
          ./mem1 train --env bin/Release/net10.0/Mine.dll    an environment of your own
          ./mem1 train --set environment.kind=web            questions over a generated web, no network needed
          ./mem1 train --set environment.kind=webshop        shopping in a made-up WebShop (docs/webshop.md)
          ./mem1 train --config web.yaml --recording W.sqlite --replay only    a recorded run again, without the network
          ./mem1 train --set ppo.clip=0.1 --updates 200
          ./mem1 train --resume                              go on with the last run
          ./mem1 train --json | jq .reward_mean
          ./mem1 train --learners 2                          two processes share every update (docs/learner-speed.md)

        A run's folder holds config.yaml (everything it depends on), metrics.jsonl, trajectories.jsonl, reward.svg and checkpoints/.
        """,
        apart: false);

    /// <summary><c>mem1 learner</c>: the same without a worker.</summary>
    public static Command CreateLearner() => Create(
        "learner",
        """
        Train with rollout workers of other processes or machines (mem1 rollout), which may come and go; all options are those of train.

        Examples:
          ./mem1 learner                                     listens on 127.0.0.1:5050
          ./mem1 learner --listen 0.0.0.0:5050 --name big    lets other machines in
          ./mem1 rollout --learner 127.0.0.1:5050            a worker, in another terminal; as many as there are machines
          ./mem1 learner --listen 0.0.0.0:5050 --token-file token --tls-cert cert.pem --tls-key key.pem    docs/security.md
          ./mem1 learner --resume big --listen 0.0.0.0:5050  after a stop: workers find it again by themselves
        """,
        apart: true);

    private static Command Create(string commandName, string description, bool apart)
    {
        var config = new Option<FileInfo?>("--config")
        {
            Description = "YAML file; keys as in a run folder's config.yaml",
            HelpName = "FILE"
        };
        var set = new Option<string[]>("--set")
        {
            Description = "One setting over the config, as key=value; may repeat",
            HelpName = "KEY=VALUE"
        };
        var name = new Option<string?>("--name") { Description = "Name of the run's folder", HelpName = "NAME" };
        var runs = new Option<DirectoryInfo>("--runs")
        {
            Description = "Where run folders go",
            HelpName = "DIR",
            DefaultValueFactory = _ => new DirectoryInfo("runs"),
        };
        var resume = new Option<string?>("--resume")
        {
            Description = "Go on with a run, the last one if no name is given",
            HelpName = "NAME",
            Arity = ArgumentArity.ZeroOrOne,
        };
        var updates = new Option<int?>("--updates") { Description = "Number of the last update", HelpName = "N" };
        var seed = new Option<ulong?>("--seed") { Description = "Seed of everything random", HelpName = "S" };
        var serial = new Option<bool>("--serial")
        {
            Description = "One thread for everything: the same seed gives the same metrics bit for bit",
        };
        var scratch = new Option<bool>("--from-scratch")
        {
            Description = "Make a new model and clone the expert instead of starting from the built-in one",
        };
        var cloneOnly = new Option<bool>("--clone-only")
        {
            Description = "Stop after the warm start, with its checkpoint in checkpoints/step-0",
        };
        var quick = new Option<bool>("--quick") { Description = "Everything at the smallest size: 3 updates" };
        var corpus = new Option<FileInfo?>("--corpus") { Description = "Passages: jsonl with id and contents", HelpName = "FILE.jsonl" };
        var tasks = new Option<FileInfo?>("--tasks")
        {
            Description = "Questions (jsonl with id, question and golden_answers) or composed tasks",
            HelpName = "FILE.jsonl",
        };
        var env = new Option<FileInfo?>("--env")
        {
            Description = "An environment of your own (docs/environments.md)",
            HelpName = "ASSEMBLY.dll",
        };
        var recording = new Option<FileInfo?>("--recording")
        {
            Description = "Web QA: SQLite file of searches and pages; --replay prefer unless said",
            HelpName = "FILE",
        };
        var replay = new Option<string?>("--replay")
        {
            Description = "Web QA: only (never go out), prefer (go out for what is not recorded), record (anew) or off",
            HelpName = "MODE",
        };
        replay.AcceptOnlyFromAmong([.. ReplayModes.Keys]);
        var dryRun = new Option<bool>("--dry-run")
        {
            Description = "Print the settings and how much memory the run will take, and stop (docs/learner-speed.md)",
        };
        var json = new Option<bool>("--json") { Description = "One JSON object per update on standard output" };
        var listen = new Option<string>("--listen")
        {
            Description = "Address and port for workers; anything but loopback lets other machines in",
            HelpName = "ADDRESS:PORT",
            DefaultValueFactory = _ => StandardListen,
        };
        var noDashboard = new Option<bool>("--no-dashboard") { Description = "No dashboard" };
        var dashboardPort = DashboardCommand.PortOption("--dashboard-port");
        var dashboardAddress = DashboardCommand.AddressOption("--dashboard-address");
        var dashboardToken = DashboardCommand.TokenOption();
        var viewerToken = DashboardCommand.ViewerArgument();
        var learners = new Option<int?>("--learners")
        {
            Description = "Learner processes on this machine that share every update",
            HelpName = "N",
        };
        var rank = new Option<int?>("--rank")
        {
            Description = "Number of this learner among those of several hosts, from 0",
            HelpName = "R",
        };
        var world = new Option<int?>("--world") { Description = "How many learners there are on all hosts", HelpName = "N" };
        var rendezvous = new Option<string?>("--rendezvous")
        {
            Description = "Where the learner of rank 0 waits for the others",
            HelpName = "HOST:PORT",
        };
        var goOn = new Option<bool>("--go-on")
        {
            Description = "With --name: go on with that run if it was begun, whatever --config says; else begin it",
        };
        var stay = new Option<bool>("--stay") { Description = "When the run is finished, wait to be told to stop" };
        var health = RolloutCommand.HealthOption();
        var command = new Command(commandName, description)
        {
            config, set, name, runs, resume, updates, seed, serial, scratch, cloneOnly, quick, corpus, tasks, env, recording, replay,
            json, dryRun, learners, rank, world, rendezvous, noDashboard, dashboardPort, dashboardAddress, dashboardToken, viewerToken.Option,
            goOn, stay, health,
        };
        var security = new SecurityArguments();
        var logs = new LogArguments();
        if (apart)
        {
            command.Add(listen);
            security.AddTo(command);
            logs.AddTo(command);
        }

        // On a thread of its own: gradient mode, dispose scopes and the count of live tensors belong to it. It must not block this one
        // either, or Ctrl-C would find nobody waiting for it.
        command.SetAction((parse, cancellationToken) => Task.Factory.StartNew(
            () => Train(parse, cancellationToken), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default));
        return command;

        int Train(ParseResult parse, CancellationToken cancellationToken)
        {
            var (own, placement) = LearnerGroupArguments.Read(
                parse.GetValue(learners), parse.GetValue(rank), parse.GetValue(world), parse.GetValue(rendezvous));
            if (own is not null)
            {
                if (parse.CommandResult.Children.OfType<System.CommandLine.Parsing.OptionResult>()
                    .Any(o => !o.Implicit && o.Option != rank && o.Option != world && o.Option != rendezvous))
                {
                    throw new UserErrorException(
                        "a learner of rank 1 or more gets everything from rank 0, so only --rank, --world and --rendezvous go with it.");
                }

                return LearnerRanks.Serve(own, cancellationToken);
            }

            var asked = apart ? security.Server(parse) : default;
            var viewer = viewerToken.Read(parse);
            var logged = apart ? logs.Read(parse) : default;
            var overrides = new List<string>();
            if (parse.GetValue(updates) is { } u) overrides.Add($"updates={u}");
            if (parse.GetValue(seed) is { } s) overrides.Add($"seed={s}");
            if (parse.GetValue(serial)) overrides.AddRange(["serial=true", "rollout.threads=1"]);
            if (parse.GetValue(scratch)) overrides.Add("model.from=new");
            if (apart) overrides.AddRange(["rollout.local_worker=false", .. Listening(parse.GetValue(listen)!)]);
            overrides.AddRange(parse.GetValue(set) ?? []);
            var runsFolder = parse.GetValue(runs)!.FullName;
            var resuming = parse.GetResult(resume) is not null;
            if (parse.GetValue(goOn) && (resuming || parse.GetValue(name) is null))
                throw new UserErrorException("--go-on needs the --name of the run, and takes the place of --resume.");
            if (resuming && (parse.GetValue(config) is not null || parse.GetValue(name) is not null || parse.GetValue(scratch)
                || parse.GetValue(quick) || parse.GetValue(corpus) is not null || parse.GetValue(tasks) is not null
                || parse.GetValue(env) is not null))
            {
                throw new UserErrorException(
                    "--resume goes on with the run's own config.yaml, so --config, --name, --from-scratch, --quick, --corpus, --tasks "
                    + "and --env do not go with it.");
            }

            if (resuming && parse.GetValue(dryRun))
                throw new UserErrorException("--dry-run plans a new run, so --resume does not go with it; give the run's config.yaml with --config.");
            if (parse.GetValue(env) is not null && (parse.GetValue(corpus) is not null || parse.GetValue(tasks) is not null))
                throw new UserErrorException("--env brings its own tasks, so --corpus and --tasks do not go with it.");

            var begun = parse.GetValue(goOn) && RunFolder.Exists(runsFolder, parse.GetValue(name)!);
            using var folder = resuming || begun
                ? RunFolder.Resume(runsFolder, begun ? parse.GetValue(name) : parse.GetValue(resume))
                : null;
            var (run, given) = folder is not null
                ? Continued(folder, overrides)
                : Started(
                    parse.GetValue(config)?.FullName, overrides, parse.GetValue(name), parse.GetValue(corpus)?.FullName,
                    parse.GetValue(tasks)?.FullName, parse.GetValue(env)?.FullName, parse.GetValue(quick), parse.GetValue(scratch));
            run = run with { Environment = Recorded(run.Environment, parse.GetValue(replay), parse.GetValue(recording)?.FullName) };
            Require(run);
            if (parse.GetValue(dryRun)) return DryRun.Run(run, given, parse.GetValue(json), cancellationToken);
            var (least, most) = (run.Environment.LeastObjectives(), run.Environment.MostObjectives());
            var watched = new LearnerHealth(Reporters.Create(parse.GetValue(json), Enumerable.Range(least, most - least + 1), logged));
            using var reporter = new DashboardReporter(watched);
            using var server = HealthServer.StartAsync(parse.GetValue(health), watched).GetAwaiter().GetResult();
            (string, int)? dashboard = parse.GetValue(noDashboard)
                ? null : (parse.GetValue(dashboardAddress)!, parse.GetValue(dashboardPort));
            if (folder is not null)
            {
                using var page = DashboardCommand.Inside(reporter, folder.FullPath, dashboard, parse.GetValue(dashboardToken), viewer, asked.Token);
                return Done(new TrainRun(run, given, folder, reporter, resume: true, parse.GetValue(cloneOnly), asked, placement, logged).Run(cancellationToken));
            }

            using var made = RunFolder.Create(runsFolder, run.Name, chosen: parse.GetValue(name) is not null);
            try
            {
                made.WriteConfig(run);
                using var page = DashboardCommand.Inside(reporter, made.FullPath, dashboard, parse.GetValue(dashboardToken), viewer, asked.Token);
                return Done(new TrainRun(run, given, made, reporter, resume: false, parse.GetValue(cloneOnly), asked, placement, logged).Run(cancellationToken));
            }
            catch
            {
                made.DiscardIfNothingIsSaved();
                throw;
            }

            int Done(int status)
            {
                watched.Close();
                if (status == 0 && parse.GetValue(stay)) cancellationToken.WaitHandle.WaitOne();
                return status;
            }
        }
    }

    private static string[] Listening(string listen) =>
        IPEndPoint.TryParse(listen, out var at) && listen.Contains(':', StringComparison.Ordinal)
            ? [$"learner.address={at.Address}", $"learner.port={at.Port}"]
            : throw new UserErrorException($"--listen is \"{listen}\"; it must be an IP address and a port, as in {StandardListen}.");

    /// <summary>The config of a new run: preset, file, then what the command line says.</summary>
    private static (RunConfig Config, IReadOnlySet<string> Given) Started(
        string? file, List<string> overrides, string? name, string? corpus, string? tasks, string? env, bool quick, bool scratch)
    {
        // The kind decides on the defaults, and a file or a setting may name it: they are read for it alone first.
        var kind = ConfigFile.Load(file, overrides, new RunConfig()).Config.Environment.Kind;
        var (run, given) = ConfigFile.Load(file, overrides, Presets.For(corpus, tasks, quick, scratch, env, kind));
        var e = run.Environment;
        // Paths are written down whole, so that the run can be resumed from another folder.
        return (run with
        {
            Name = name ?? run.Name,
            Environment = WithWholePaths(e with { Corpus = corpus ?? e.Corpus, Tasks = tasks ?? e.Tasks }),
            Model = run.Model.From is "new" or "built-in" or "" ? run.Model : run.Model with { From = Path.GetFullPath(run.Model.From) },
        }, given);

        static EnvironmentConfig WithWholePaths(EnvironmentConfig e) => e with
        {
            Corpus = Whole(e.Corpus),
            Tasks = Whole(e.Tasks),
            Index = Whole(e.Index),
            Assembly = Whole(e.Assembly),
            Web = e.Web with { Recording = Whole(e.Web.Recording) },
            Shop = e.Shop.WithPaths(Whole),
            Mix = [.. e.Mix.Select(WithWholePaths)],
        };

        static string? Whole(string? path) => string.IsNullOrEmpty(path) ? path : Path.GetFullPath(path);
    }

    /// <summary>The config of a run that goes on: its own, with the command line's settings over it.</summary>
    private static (RunConfig Config, IReadOnlySet<string> Given) Continued(RunFolder folder, List<string> overrides)
    {
        var own = ConfigFile.Read(folder.ConfigPath, []).Config;
        var (run, given) = ConfigFile.Read(folder.ConfigPath, overrides);
        if (run.Seed != own.Seed)
            throw new UserErrorException(
                $"The run was begun with seed {own.Seed} and cannot go on with {run.Seed}: start a new run instead.");
        return (run with { Name = own.Name }, given);
    }

    /// <summary>The environment with --replay and --recording over every web of it.</summary>
    private static EnvironmentConfig Recorded(EnvironmentConfig environment, string? mode, string? file)
    {
        if (mode is null && file is null) return environment;
        if (!environment.HasWeb())
        {
            throw new UserErrorException(
                $"--replay and --recording are for web QA, but environment.kind is {environment.Kind.ToString().ToLowerInvariant()}.");
        }

        return Over(environment);

        EnvironmentConfig Over(EnvironmentConfig e) => e with
        {
            Mix = [.. e.Mix.Select(Over)],
            Web = e.Kind != EnvironmentKind.Web ? e.Web : e.Web with
            {
                Recording = file ?? e.Web.Recording,
                RecordingMode = ReplayModes[mode ?? "prefer"],
            },
        };
    }

    /// <summary>Says every contradiction of a config at once.</summary>
    /// <exception cref="UserErrorException">There is one.</exception>
    internal static void Require(RunConfig config)
    {
        var errors = config.Validate();
        if (errors.Count == 0) return;
        throw new UserErrorException(
            errors.Count == 1 ? errors[0] : $"the config contradicts itself in {errors.Count} places:\n  {string.Join("\n  ", errors)}");
    }
}
