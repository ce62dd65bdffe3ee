// One run from start to end, phase by phase: environment, model, warm start, learner and worker, evaluation, the learning loop
// (Mem1.Learner/TrainingLoop.cs), evaluation, closing table. Keeps:
//  * everything native is touched by the one thread this runs on;
//  * stopping at any moment leaves a run that --resume continues.
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Text.Json;
using Mem1.Cli.Commands;
using Mem1.Cli.Configuration;
using Mem1.Cli.Output;
using Mem1.Environments;
using Mem1.Learner;
using Mem1.Model;
using Mem1.Model.Checkpoints;
using Mem1.Protocol.Security;
using Microsoft.Extensions.Logging;
using TorchSharp;

namespace Mem1.Cli.Training;

/// <summary>Trains: the body of <c>mem1 train</c>.</summary>
/// <param name="config">Validated. Where a checkpoint is loaded, the model's shape is taken from it.</param>
/// <param name="given">Keys of the config that the user gave: a checkpoint must agree with these.</param>
/// <param name="folder">Of this run; held by the caller.</param>
/// <param name="reporter">Told what happens.</param>
/// <param name="resume">Go on from the folder's newest checkpoint, if it has one.</param>
/// <param name="cloneOnly">Stop after the warm start.</param>
/// <param name="security">What workers of other processes must show, and what they are shown; nothing if null.</param>
/// <param name="learners">Which learners share the updates; this process alone if not given.</param>
/// <param name="logs">How a learner of workers elsewhere logs.</param>
internal sealed class TrainRun(
    RunConfig config, IReadOnlySet<string> given, RunFolder folder, IRunReporter reporter, bool resume, bool cloneOnly,
    (BearerToken? Token, TlsFiles? Tls) security = default, LearnerPlacement? learners = null, LogSettings logs = default)
{
    // How many updates the first and last means of the closing table go over.
    private const int RewardWindow = 10;

    // Numbers that keep the random streams of the purposes apart; 3 is the warm start's.
    private const ulong TrainingTasks = 1, Objectives = 4, GroupSampling = 5;

    // Under which a checkpoint keeps what the trainer remembers.
    private const string TrainerKey = "trainer";

    private CheckpointRetention Retention => new(config.Checkpoint.Keep, config.Checkpoint.KeepBest);

    private readonly Stopwatch _elapsed = Stopwatch.StartNew();
    private long _peakRss;
    private string? _from;

    /// <summary>Runs to the end or until cancelled. Blocks: call it on a thread of its own.</summary>
    /// <returns>Exit code.</returns>
    public int Run(CancellationToken cancellationToken)
    {
        if (resume) _from = TrainingCheckpoint.OpenNewest(folder.Checkpoints, reporter.Note);
        if (!cloneOnly && IsFinished()) return 0;
        using var told = cancellationToken.Register(() => reporter.Note("Stopping as soon as the step under way is done and saved ..."));
        RequireFreePort();
        try
        {
            torch.set_num_threads(1); // libtorch's threads fight those of the decoder and the BLAS: up to 8 times slower, measured
            var device = LearnerRanks.Device(config, rank: 0);
            reporter.Phase(config.Environment.Kind switch
            {
                EnvironmentKind.Worlds => "opening the worlds",
                EnvironmentKind.Web => "opening the web",
                EnvironmentKind.Webshop => "opening the shop",
                EnvironmentKind.Assembly => "loading the environment",
                EnvironmentKind.Mix => "opening the environments",
                _ => "indexing the corpus",
            });
            using var environment = EnvironmentSet.Open(config, reporter.Progress, cancellationToken);
            var (start, state) = OpenModel(environment, device, cancellationToken);
            folder.WriteConfig(config);
            if (!cloneOnly) return Train(environment, start, state, device, cancellationToken);
            reporter.Note($"The warm start is in {Path.Combine(folder.Checkpoints, "step-0")}.");
            return 0;
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            reporter.Note($"Interrupted before the first update; start again with: {folder.ResumeCommand}");
            return 0;
        }
    }

    /// <summary>Whether all updates and the closing evaluation are done; says so.</summary>
    private bool IsFinished()
    {
        if (_from is not { } latest) return false;
        var update = TrainingCheckpoint.LoadState(latest).Update;
        if (update > config.Updates)
            throw new UserErrorException(
                $"the run has done {update} updates already, more than the {config.Updates} that updates asks for.");
        if (update < config.Updates || (config.Evaluation.Episodes > 0 && folder.EvaluatedUpdate() != update)) return false;
        reporter.Note(
            $"The run is finished: all {update} updates are done. Go further with: {folder.ResumeCommand} --updates {update + 100}");
        return true;
    }

    /// <summary>A port that somebody else has is found out before minutes go into a warm start.</summary>
    private void RequireFreePort()
    {
        if (config.Learner.Port == 0) return;
        try
        {
            using var probe = new TcpListener(IPAddress.Parse(config.Learner.Address), config.Learner.Port);
            probe.Start();
        }
        catch (SocketException e)
        {
            throw new UserErrorException(
                $"the learner cannot listen on {config.Learner.Address}:{config.Learner.Port} ({e.Message}); "
                + "free the port or choose another with learner.port.", e);
        }
    }

    /// <summary>The model a run starts or goes on from, value head included.</summary>
    private (Checkpoint Model, TrainingState State) OpenModel(
        EnvironmentSet environment, torch.Device device, CancellationToken cancellationToken)
    {
        if (_from is { } latest)
        {
            reporter.Phase($"loading {Path.GetFileName(latest)}");
            var saved = Checkpoint.Load(latest);
            if (saved.Tokenizer is null)
                throw new UserErrorException($"the checkpoint {latest} has no tokenizer.json; it is damaged.");
            if (saved.Adapter is not null && config.Model.Lora.Rank == 0)
                throw new UserErrorException("the run trains an adapter, so model.lora.rank cannot become 0 on the way.");
            return (Completed(Fitted(saved, latest)), TrainingCheckpoint.LoadState(latest));
        }

        var fresh = new TrainingState { Update = 0, PolicyVersion = 0, OptimiserSteps = [] };
        Checkpoint model;
        if (config.Model.From != "new")
        {
            var path = config.Model.From == "built-in" ? BuiltIn.Folder : config.Model.From;
            reporter.Phase($"loading the model from {(config.Model.From == "built-in" ? "the built-in checkpoint" : path)}");
            model = Fitted(Checkpoint.Load(path), path);
        }
        else
        {
            reporter.Phase("making a new model");
            var start = new WarmStart(
                config, folder, reporter, environment, (purpose, index, range) => DrawObjectives(environment, purpose, index, range));
            var begun = resume ? start.Begun() : null;
            model = begun is null ? start.NewModel() : Fitted(Checkpoint.Load(begun), begun);
            model = start.Clone(model, begun, device, cancellationToken);
        }

        if (model.Tokenizer is null)
            throw new UserErrorException(
                $"the checkpoint {config.Model.From} has no tokenizer.json; a model cannot be trained without its tokenizer.");
        model = Completed(model);
        TrainingCheckpoint.Save(folder.Checkpoints, model, optimiser: null, fresh, Retention);
        CloningCheckpoint.RemoveAll(folder.Checkpoints);
        return (model, fresh);
    }

    private int Train(
        EnvironmentSet environment, Checkpoint model, TrainingState state, torch.Device device, CancellationToken cancellationToken)
    {
        var tokenizer = model.Tokenizer!;
        var decoder = new TorchDecoder(model.Config, model.Weights, device, config.Learner.Precision, model.Adapter);
        var reference = config.Ppo.NeedsReference
            ? new TorchDecoder(model.Config, ReferenceWeights(model, started: state.Update > 0), device, config.Learner.Precision) : null;
        if (learners is not null && model.Adapter is not null)
            throw new UserErrorException("several learners train whole models only: set model.lora.rank to 0, or use one learner.");
        if (learners is not null) reporter.Phase($"waiting for {learners.World - 1} more learners");
        using var ranks = learners?.Open(TimeSpan.FromSeconds(config.Learner.PeerDeadlineSeconds), cancellationToken);
        using var trainer = new PpoTrainer(
            decoder, reference, ILayout.Of(config.Ppo.Layout), config.Ppo, config.Rollout.Temperature, config.Seed,
            config.Learner.Compute(), ranks?.Reducer);
        if (state.Update > 0)
        {
            TrainingCheckpoint.RestoreOptimiser(_from!, trainer.Optimiser, state);
        }

        if (state.Kept<TrainerState>(TrainerKey) is { } remembered) trainer.State = remembered;
        ranks?.Share(config, model.Weights, trainer, reference);
        folder.TruncateAfter(state.Update);
        var publisher = new WeightPublisher(weights => WeightPublisher.Serialise(weights, config.Learner.WeightsDtype));
        publisher.Publish(decoder.Parameters.Policy(), state.PolicyVersion);

        reporter.Phase(config.Rollout.LocalWorker ? "starting the learner and a rollout worker" : "starting the learner");
        var fingerprint = RunFiles.Fingerprint(model.Config);
        var disk = new DiskPatience(TimeSpan.FromSeconds(config.Checkpoint.DiskPatienceSeconds), reporter.Note);
        using var spool = RunSpool.Open(config.Checkpoint, folder, _from, state.Update, disk, reporter.Note, out var restored);
        // Workers of other processes come and go; what is wrong with one must be seen on this side too.
        using var loggers = config.Rollout.LocalWorker ? null : logs.Factory(reporter.IsForMachines, LogLevel.Warning);
        using var session = new RunSession(
            config, model.Config, environment.Factory, tokenizer, publisher, fingerprint, loggers, cancellationToken, security, reporter.Hosting,
            spool, restored, reporter.Note, folder.Identity());
        session.KeepLimit(folder, reporter.Note);
        reporter.Serving(session);
        var ledger = session.Ledger;
        using var closing = new RunSpool.Closing(ledger); // before the session's worker hands back what it plays
        if (!config.Rollout.LocalWorker)
        {
            reporter.Note($"Waiting for workers at {session.Address.Authority}: ./mem1 rollout --learner {session.Address.Authority}");
            if (security.Token is null && !IPAddress.IsLoopback(IPAddress.Parse(config.Learner.Address)))
                reporter.Note("Whoever reaches this address can be a worker: set a token (--token-file, docs/security.md).");
        }

        EvaluationResult? Evaluated(string when)
        {
            try
            {
                return Evaluate(environment, ledger, when, session.Ended);
            }
            catch (OperationCanceledException)
            {
                session.ThrowIfWorkerFailed();
                throw;
            }
        }

        var before = ReadEvaluation(state) ?? Evaluated("before PPO");
        var extra = WriteEvaluation(before);
        var last = config.Updates;
        var done = state.Update;
        var score = state.Score;
        var rewards = new List<double>(); // of the updates since the last checkpoint
        long NextTask(long update) => state.NextTask + ((update - state.Update) * (config.Rollout.EpisodesPerUpdate / config.Rollout.GroupSize));
        void Save(long update)
        {
            if (rewards.Count > 0) score = rewards.Average();
            rewards.Clear();
            var tasks = ledger.Save();
            var trained = model with { Weights = decoder.Parameters.Snapshot(policyOnly: false), Adapter = decoder.Parameters.SnapshotAdapter() };
            var training = new TrainingState
            {
                Update = update,
                PolicyVersion = publisher.Version,
                OptimiserSteps = [.. trainer.Optimiser.Steps],
                NextTask = NextTask(update),
                Score = score,
                Extra = new Dictionary<string, JsonElement>(extra) { [TrainerKey] = JsonSerializer.SerializeToElement(trainer.State) },
            };
            disk.Do(
                $"checkpoint step-{update}",
                () => TrainingCheckpoint.Save(folder.Checkpoints, trained, trainer.Optimiser, training, Retention, tasks), cancellationToken);
            if (tasks.SpoolFrom > 0) spool?.DeleteBefore(tasks.SpoolFrom);
        }

        reporter.Phase("training");
        var saved = state.Update;
        long environmentFailures = 0;
        var alarms = folder.ReadParityAlarms();
        var traces = config.Checkpoint.Traces ? new TraceLog(ledger) : null;
        session.SaveCheckpoint = () =>
        {
            Save(saved = done);
            return Path.Combine(folder.Checkpoints, $"step-{done}");
        };
        session.TaskOfEpisode = episode =>
        {
            var task = RecordedEpisode.Update(episode) is { } of
                ? TasksOf(environment, of, NextTask(of - 1), tokenizer).FirstOrDefault(t => t.Task.Id == episode) : null;
            if (task is null)
            {
                throw new LearnerException(
                    $"The task of episode {episode} is not known any more: it is no training episode of this run, or the settings it was drawn under have changed.");
            }

            var (name, update) = (RecordedEpisode.Again(episode), done);
            return (
                task with { Task = task.Task with { Id = name }, Evaluation = true, Group = "", RightAnswer = [] },
                played => folder.AppendReplay(TrajectoryRecord.Of(update, config.Ppo.Layout, played, null, tokenizer)));
        };
        var loop = new TrainingLoop(ledger, publisher, trainer, new TrainingLoopOptions
        {
            Control = session.Control,
            Tasks = update => TasksOf(environment, update, NextTask(update - 1), tokenizer),
            QuarantineQuota = config.Rollout.QuarantineQuota,
            Sampling = (finished, of) => reporter.Sampling(done + 1, finished, of),
            Updating = ranks is null ? null : ranks.Announce,
            Updated = (metrics, batch) =>
            {
                done = metrics.Update;
                metrics = metrics with { ParityAlarms = alarms += ParityAlarm(metrics) ? 1 : 0 };
                rewards.Add(metrics.RewardMean);
                _peakRss = Math.Max(_peakRss, metrics.RssBytes);
                disk.Do("metrics.jsonl", () => folder.AppendMetrics(metrics with { DiskWaitSeconds = disk.Waited.TotalSeconds }), cancellationToken);
                if (metrics.EnvironmentFailures > 0 && environmentFailures == 0)
                {
                    reporter.Note(
                        $"The environment failed {metrics.EnvironmentFailures} times in update {metrics.Update}. The agents were told "
                        + $"and the run goes on; environment_failures in metrics.jsonl counts on. {environment.SearchNote()}".TrimEnd());
                }

                environmentFailures += metrics.EnvironmentFailures;
                var sampled = batch.Take(config.Checkpoint.SampledTrajectories).Select(t => TrajectoryRecord.Of(
                    metrics.Update, config.Ppo.Layout, t, trainer.LastEstimates.GetValueOrDefault(t.EpisodeId), tokenizer)).ToList();
                disk.Do(TrajectoryRecord.FileName, () => folder.AppendTrajectories(sampled), cancellationToken);
                if (traces?.Of(metrics, batch) is { } ways) disk.Do(TraceRecord.FileName, () => folder.AppendTraces(ways), cancellationToken);
                reporter.Updated(metrics, last);
                if (metrics.Update % config.Checkpoint.Every == 0 && metrics.Update < last)
                {
                    Save(metrics.Update);
                    saved = metrics.Update;
                }
            },
        });
        try
        {
            done = Math.Max(state.Update, loop.Run(state.Update + 1, last, session.Ended));
            ranks?.Finish();
        }
        catch (DivergedException e)
        {
            var path = folder.SaveDiverged(model with { Weights = e.Weights }, e.Step);
            throw new LearnerException(
                $"{e.Message} The step is saved, and ./mem1 replay {path} finds where it broke; then go on from the last checkpoint with "
                + $"another setting, for example: {folder.ResumeCommand} --set ppo.learning_rate={config.Ppo.LearningRate / 2}", e);
        }

        if (done < last) ledger.Close();
        // Stopped in the middle of a batch: what is played of it is kept, and --resume goes on from there.
        if (done > saved || (done < last && ledger.HoldsTurns)) Save(done);
        session.ThrowIfWorkerFailed();

        var interrupted = done < last;
        EvaluationResult? after = null;
        if (!interrupted)
        {
            try
            {
                after = Evaluated("after PPO");
            }
            catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
            {
                interrupted = true;
            }
        }

        if (!interrupted && !config.Rollout.LocalWorker) session.Drain();
        if (after is not null) disk.Do("evaluation.json", () => folder.WriteEvaluation(done, before, after), cancellationToken);
        ledger.Close();
        if (!interrupted) spool?.DeleteBefore(long.MaxValue); // nothing is under way any more
        if (environment.SearchNote() is { } note) reporter.Note(note);
        if (environmentFailures > 0)
        {
            reporter.Note(
                $"The environment failed {environmentFailures} times in {done - state.Update} updates; agents were told each time.");
        }

        var curve = folder.ReadCurve();
        AtomicFile.WriteText(folder.PlotPath, Plot(curve));
        var window = Math.Min(RewardWindow, (curve.Count + 1) / 2); // short runs: the first half against the second
        reporter.Closing(new RunSummary(
            folder.FullPath, interrupted ? folder.ResumeCommand : null, done,
            curve.Take(window).Select(c => c.Reward).DefaultIfEmpty(double.NaN).Average(),
            curve.TakeLast(window).Select(c => c.Reward).DefaultIfEmpty(double.NaN).Average(),
            window, before, after, folder.ReadParityMax(), _elapsed.Elapsed, Math.Max(_peakRss, TrainingLoop.ResidentBytes())));
        return 0;
    }

    /// <summary>Says so when learner and sampler have drifted apart.</summary>
    private bool ParityAlarm(UpdateMetrics metrics)
    {
        var limit = config.Learner.ParityAlarm;
        if (limit == 0 || metrics.Statistics.ParityMaxAbs is not { } parity || parity <= limit) return false;
        reporter.Note(FormattableString.Invariant(
            $"Warning: in update {metrics.Update} a token's log-prob in the learner differs from the sampler's by {parity:0.0e+0}, above ")
            + FormattableString.Invariant($"learner.parity_alarm ({limit:0.0e+0}): the two do not compute the same policy."));
        return true;
    }

    /// <summary>The tasks of an update, from an index of the endless sequence of training tasks on.</summary>
    private List<TaskRequest> TasksOf(EnvironmentSet environment, long update, long first, ITokenizer tokenizer)
    {
        var requests = new List<TaskRequest>(config.Rollout.EpisodesPerUpdate);
        var group = config.Rollout.GroupSize;
        for (var i = 0; i < config.Rollout.EpisodesPerUpdate; i++)
        {
            // Episodes of a group share task and environment; each draws with a seed of its own.
            var index = first + (i / group);
            var objectives = DrawObjectives(environment, TrainingTasks, index, config.Environment.ObjectivesAt(update));
            var task = environment.Training.Get(index, objectives, Seeds.Mix(config.Seed, TrainingTasks));
            requests.Add(new TaskRequest(
                task with { Id = $"u{update}-{i}/{task.Id}" }, Seeds.Mix(config.Seed, TrainingTasks, (ulong)index),
                (float)config.Rollout.Temperature, (float)config.Rollout.TopP, ResponseLimit(environment, objectives), Evaluation: false)
            {
                SamplingSeed = group == 1 ? null : Seeds.Mix(config.Seed, GroupSampling, (ulong)index, (ulong)(i % group)),
                Group = group == 1 ? "" : $"u{update}-{i / group}",
                RightAnswer = config.Ppo.Shaping.AnswerGain > 0 ? RightAnswer(environment, task, tokenizer) : [],
            });
        }

        return requests;
    }

    private static int[] RightAnswer(EnvironmentSet environment, EnvironmentTask task, ITokenizer tokenizer) =>
        environment.Factory.RightAction(task) is { } action
            ? tokenizer.Encode(action)
            : throw new UserErrorException(
                $"ppo.shaping.answer_gain is set but the environment {environment.Factory.Name} does not know the right answers of its tasks.");

    private EvaluationResult? Evaluate(EnvironmentSet environment, TaskLedger ledger, string when, CancellationToken cancellationToken)
    {
        if (config.Evaluation.Episodes == 0) return null;
        reporter.Phase($"evaluating {when}");
        var requests = new List<TaskRequest>();
        foreach (var objectives in config.Evaluation.Objectives.Distinct().Order())
        {
            for (var i = 0; i < config.Evaluation.Episodes; i++)
            {
                var (task, seed) = environment.HeldOutTask(config.Seed, objectives, i);
                requests.Add(new TaskRequest(
                    task with { Id = $"eval {when} {objectives}-{i}/{task.Id}" }, seed, Temperature: 0, TopP: 1,
                    ResponseLimit(environment, objectives), Evaluation: true));
            }
        }

        var played = ledger.RunAsync(
            requests, done => reporter.Progress((double)done / requests.Count, $"{done} of {requests.Count} episodes"), cancellationToken)
            .GetAwaiter().GetResult();
        return new EvaluationResult(
            UpdateMetrics.ExactMatchOf(played), played.GroupBy(t => t.Objectives).ToDictionary(g => g.Key, g => g.Count()));
    }

    private int ResponseLimit(EnvironmentSet environment, int objectives) => environment.ResponseTokens(config.Rollout, objectives);

    /// <summary>One of the numbers of objectives in a range that the training tasks come in, each as likely as the others.</summary>
    private int DrawObjectives(EnvironmentSet environment, ulong purpose, long index, (int Min, int Max) range)
    {
        var drawn = Seeds.Mix(config.Seed, Objectives, purpose, (ulong)index);
        if (environment.Training.ObjectiveCounts is not { } counts) return range.Min + (int)(drawn % (ulong)(range.Max - range.Min + 1));
        int[] possible = [.. counts.Where(n => n >= range.Min && n <= range.Max)];
        return possible[drawn % (ulong)possible.Length];
    }

    /// <summary>A checkpoint that agrees with what the config says about the model; the config takes the rest of the shape from
    /// it.</summary>
    private Checkpoint Fitted(Checkpoint model, string path)
    {
        var asked = config.Model.Over(model.Config, given);
        WeightLayout.Require(asked, model.Weights, path);
        // What no tensor's shape shows. The longest context is not part of the weights and may be chosen anew.
        (string Key, object Asked, object Found)[] rest =
        [
            ("heads", asked.Heads, model.Config.Heads),
            ("key_value_heads", asked.KeyValueHeads, model.Config.KeyValueHeads),
            ("position", asked.Position, model.Config.Position),
            ("attention_scale", asked.AttentionScale, model.Config.AttentionScale),
        ];
        foreach (var (key, wanted, found) in rest)
        {
            if (!wanted.Equals(found))
                throw new UserErrorException(
                    $"{path} does not fit the config: model.{key} is {Name(wanted)} but the checkpoint was made with {Name(found)}.");
        }

        config = config with { Model = config.Model.WithShapeOf(asked) };
        TrainCommand.Require(config);
        return model with { Config = asked };

        static string Name(object value) => JsonNamingPolicy.SnakeCaseLower.ConvertName(value.ToString()!);
    }

    private Checkpoint Completed(Checkpoint model) => learners is null || config.Model.Lora.Rank == 0
        ? ModelPreparation.Complete(model, config.Model, config.Seed)
        : throw new UserErrorException("model.lora.rank is above 0, but learners of a group train whole models only; train with one learner.");

    /// <summary>The reference is the policy PPO started from: step 0, kept for the whole run.</summary>
    private ModelWeights ReferenceWeights(Checkpoint model, bool started)
    {
        var path = Path.Combine(folder.FullPath, "reference.safetensors");
        if (File.Exists(path)) return Safetensors.Read(path);
        if (started)
            throw new UserErrorException(
                $"{path} is missing: the policy the run started from is not known any more, so ppo.kl_* must be 0.");
        var weights = model.Merged().Weights;
        Safetensors.Write(path, weights);
        return weights;
    }

    private static EvaluationResult? ReadEvaluation(TrainingState state) =>
        state.Kept<EvaluationResult>("evaluation_before");

    private static Dictionary<string, JsonElement> WriteEvaluation(EvaluationResult? before) => before is null
        ? []
        : new Dictionary<string, JsonElement> { ["evaluation_before"] = JsonSerializer.SerializeToElement(before) };

    private static string Plot(IReadOnlyList<(long Update, double Reward, IReadOnlyDictionary<int, double> ExactMatch)> curve)
    {
        var keys = curve.SelectMany(c => c.ExactMatch.Keys).Distinct().Order();
        return LinePlot.Draw(
        [
            new Panel("Mean reward of sampled episodes", "update", "reward",
                Math.Min(0, curve.Select(c => c.Reward).DefaultIfEmpty(0).Min()),
                Math.Max(1, curve.Select(c => c.Reward).DefaultIfEmpty(1).Max()),
                [new Series("reward", [.. curve.Select(c => ((double)c.Update, c.Reward))])]),
            new Panel("Exact match by number of objectives", "update", "share of objectives", 0, 1,
                [.. keys.Select(k => new Series($"{k} objective{(k == 1 ? "" : "s")}",
                    [.. curve.Where(c => c.ExactMatch.ContainsKey(k)).Select(c => ((double)c.Update, c.ExactMatch[k]))]))]),
        ]);
    }
}
