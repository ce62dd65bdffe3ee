// Keeps: a worker needs nothing but the learner's address; SIGTERM and Ctrl-C end it with exit code 0 after its episodes are handed back or
// played to their end, within the grace period.
using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using Mem1.Actors;
using Mem1.Cli.Output;
using Mem1.Cli.Serve;
using Mem1.Cli.Training;

namespace Mem1.Cli.Commands;

/// <summary><c>mem1 rollout</c>: a rollout worker in a process of its own.</summary>
internal static class RolloutCommand
{
    private static readonly TimeSpan ReportInterval = TimeSpan.FromSeconds(10);

    public static Command Create()
    {
        var learner = new Option<string>("--learner")
        {
            Description = "Where the learner listens",
            HelpName = "HOST:PORT",
            DefaultValueFactory = _ => "127.0.0.1:5050",
        };
        var id = new Option<string?>("--id") { Description = "Name of this worker, unique in the run", HelpName = "NAME" };
        var set = new Option<string[]>("--set")
        {
            Description = "One setting over the learner's config, as key=value; may repeat (paths of this machine, rollout.threads)",
            HelpName = "KEY=VALUE",
        };
        var patience = new Option<int>("--wait")
        {
            Description = "How long to look for a learner that is not up yet",
            HelpName = "SECONDS",
            DefaultValueFactory = _ => 600,
        };
        var finish = new Option<bool>("--finish")
        {
            Description = "When told to stop, play the running episodes to their end instead of handing them back",
        };
        var grace = new Option<int>("--grace")
        {
            Description = "How long leaving may take",
            HelpName = "SECONDS",
            DefaultValueFactory = _ => 60,
        };
        var json = new Option<bool>("--json") { Description = "One JSON object on standard output every ten seconds" };
        var health = HealthOption();
        var security = new SecurityArguments();
        var logs = new LogArguments();
        var command = new Command(
            "rollout",
            """
            Play episodes for a learner (mem1 learner). Config, model and tokenizer come from it; it may start later, stop and come back.

            Examples:
              ./mem1 rollout --learner 127.0.0.1:5050
              ./mem1 rollout --learner gpu-node:5050 --set rollout.threads=8 --set environment.corpus=/data/corpus.jsonl
              ./mem1 rollout --learner gpu-node:5050 --finish --grace 300     on SIGTERM finishes what it plays
              ./mem1 rollout --learner gpu-node:5050 --token-file token --tls-ca ca.pem       docs/security.md
            """)
        {
            learner, id, set, patience, finish, grace, json, health,
        };
        security.AddTo(command);
        logs.AddTo(command);
        command.SetAction(async (parse, cancellationToken) =>
        {
            var shown = security.Client(parse);
            var address = Address(parse.GetValue(learner)!, shown.Tls is null ? "http" : "https");
            var name = parse.GetValue(id) ?? $"{Environment.MachineName}-{Environment.ProcessId}";
            void Say(string sentence)
            {
                if (!parse.GetValue(json)) Console.WriteLine(sentence);
            }

            using var loggers = logs.Read(parse).Factory(parse.GetValue(json));
            var staleness = 0; // the learner's config says
            var watched = new WorkerHealth(() => Volatile.Read(ref staleness));
            await using var server = await HealthServer.StartAsync(parse.GetValue(health), watched).ConfigureAwait(false);
            try
            {
                var run = await RunDownload.PullAsync(
                    address, name, TimeSpan.FromSeconds(parse.GetValue(patience)),
                    (why, wait) => Say(string.Create(
                        CultureInfo.InvariantCulture, $"no learner at {address.Authority} yet ({why}); trying again in {wait.TotalSeconds:0.0} s")),
                    shown, cancellationToken).ConfigureAwait(false);
                var (config, shape, tokenizer) = RunFiles.Open(run.Files, parse.GetValue(set) ?? []);
                TrainCommand.Require(config);
                using var environment = EnvironmentSet.Open(config, static (_, _) => { }, cancellationToken);
                await using var node = config.Cluster.ForWorker() is { } options ? ClusterNode.Start(options, loggers) : null;
                var worker = await Worker.StartAsync(
                    config, shape, environment.Factory, tokenizer, address, RunFiles.Fingerprint(shape), name, run.Fingerprint, loggers,
                    shown, node).ConfigureAwait(false);
                await using (worker.ConfigureAwait(false))
                {
                    Volatile.Write(ref staleness, config.Rollout.Staleness);
                    watched.Plays(worker);
                    Say($"worker {name} plays {environment.Factory.Name} for {address.Authority}; Ctrl-C stops it");
                    await PlayAsync(worker, name, parse.GetValue(json), cancellationToken).ConfigureAwait(false);
                    watched.Leaves();
                    if (cancellationToken.IsCancellationRequested)
                    {
                        Say(parse.GetValue(finish) ? "finishing the running episodes ..." : "handing the running episodes back ...");
                        if (!parse.GetValue(finish)) _ = node?.DisposeAsync().AsTask(); // the cluster is left meanwhile
                        await LeaveAsync(worker, parse.GetValue(finish), TimeSpan.FromSeconds(parse.GetValue(grace))).ConfigureAwait(false);
                    }

                    await worker.Completion.ConfigureAwait(false);
                    Say(Line(worker.Counters));
                }
            }
            catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
            {
                Say("stopped before there was anything to play");
            }

            return 0;
        });
        return command;
    }

    /// <summary>Where a process answers those who watch over it.</summary>
    internal static Option<string?> HealthOption() => new("--health")
    {
        Description = $"Answer GET /health, /started, /ready and /metrics here; {HealthServer.Variable} says it too",
        HelpName = "ADDRESS:PORT",
    };

    private static async Task PlayAsync(RolloutWorker worker, string name, bool json, CancellationToken cancellationToken)
    {
        var told = Task.Delay(Timeout.Infinite, cancellationToken);
        while (!worker.Completion.IsCompleted && !cancellationToken.IsCancellationRequested)
        {
            await Task.WhenAny(worker.Completion, told, Task.Delay(ReportInterval, CancellationToken.None)).ConfigureAwait(false);
            if (worker.Completion.IsCompleted || cancellationToken.IsCancellationRequested) return;
            Console.WriteLine(json ? JsonSerializer.Serialize(worker.Counters, SnakeCase) : $"{name}: {Line(worker.Counters)}");
        }
    }

    private static async Task LeaveAsync(RolloutWorker worker, bool finish, TimeSpan grace)
    {
        var leaving = finish ? worker.StopAsync(drain: true) : worker.HandBackAsync();
        if (await Task.WhenAny(leaving, Task.Delay(grace)).ConfigureAwait(false) != leaving)
            await worker.StopAsync(drain: false).ConfigureAwait(false); // the grace period is over: what still runs is handed back
    }

    private static readonly JsonSerializerOptions SnakeCase = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    private static string Line(RolloutCounters c) => string.Create(
        CultureInfo.InvariantCulture,
        $"policy {c.PolicyVersion?.ToString(CultureInfo.InvariantCulture) ?? "none yet"}, {c.EpisodesRunning} episodes running, {c.EpisodesFinished} "
        + $"finished, {c.EpisodesReturned} handed back, {c.GeneratedTokens} tokens ({c.TokensPerSecond:0}/s while decoding), "
        + $"{c.Unacknowledged} turns unacknowledged");

    /// <summary>Where a learner listens, as --learner says it.</summary>
    /// <exception cref="UserErrorException">It is no address.</exception>
    internal static Uri Address(string text, string scheme)
    {
        if (Uri.TryCreate(text.Contains("://", StringComparison.Ordinal) ? text : $"{scheme}://{text}", UriKind.Absolute, out var address)
            && address.Scheme is "http" or "https" && address.Host.Length > 0
            // A port is always said: http's own is never a learner's.
            && text.EndsWith($":{address.Port.ToString(CultureInfo.InvariantCulture)}", StringComparison.Ordinal))
        {
            return address;
        }

        throw new UserErrorException($"--learner is \"{text}\"; it must be HOST:PORT, as in 127.0.0.1:5050.");
    }
}
