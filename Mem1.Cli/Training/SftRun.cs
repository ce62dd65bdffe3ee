// One supervised fine-tuning from start to end. Keeps: stopping at any moment leaves a run that --resume continues to the same result as
// if it had not been stopped; metrics.jsonl holds each step once; model/ appears when the training is whole.
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Mem1.Cli.Commands;
using Mem1.Cli.Configuration;
using Mem1.Learner;
using Mem1.Model;
using Mem1.Model.Adapters;
using Mem1.Model.Checkpoints;
using TorchSharp;

namespace Mem1.Cli.Training;

/// <summary>Trains on examples: the body of <c>mem1 sft</c>.</summary>
/// <param name="config">Validated.</param>
/// <param name="folder">Of this run; held by the caller.</param>
/// <param name="json">Metrics go to standard output as JSON Lines.</param>
internal sealed class SftRun(SftConfig config, RunFolder folder, bool json)
{
    // Shares of a training between checkpoints, and between lines for people.
    private const int Checkpoints = 10, Lines = 40;

    private const int KeptCheckpoints = 2;

    private static readonly JsonSerializerOptions SnakeCase = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    private string MetricsPath => Path.Combine(folder.FullPath, "metrics.jsonl");

    /// <summary>Runs to the end or until cancelled. Blocks: call it on a thread of its own.</summary>
    /// <returns>Exit code.</returns>
    public int Run(CancellationToken cancellationToken)
    {
        torch.set_num_threads(config.Device == "cpu" ? 1 : Environment.ProcessorCount); // as in train: more fight the BLAS
        if (config.Device == "cuda" && !torch.cuda.is_available())
            throw new UserErrorException("the device is cuda but libtorch finds no CUDA device; use cpu, or a CUDA build of libtorch.");
        var latest = TrainingCheckpoint.OpenNewest(folder.Checkpoints, Say);
        var source = latest ?? ModelCommand.FolderOf(config.Model);
        Say($"loading {source}");
        var model = Prepared(Checkpoint.Load(source), source);
        var done = latest is null ? 0 : TrainingCheckpoint.LoadState(latest).Update;

        var limit = config.MaxTokens == 0 ? model.Config.MaxPositions : Math.Min(config.MaxTokens, model.Config.MaxPositions);
        Say($"reading {string.Join(", ", config.Data.Select(d => Path.GetFileName(d)))}");
        var data = new SftExamples(model.Tokenizer!, limit, config.DiscardedEnd).Read(config.Data);
        if (data.Examples.Count == 0)
        {
            throw new UserErrorException(data.TooLong == 0
                ? "the data has no examples."
                : $"all {data.TooLong} examples are longer than {limit} tokens (--max-tokens, or the model's own limit).");
        }

        using var trainer = new SftTrainer(
            new TorchDecoder(
                model.Config, model.Weights, config.Device == "cuda" ? torch.CUDA : torch.CPU, config.Precision, model.Adapter),
            data.Examples, config.Training, config.Seed);
        if (latest is not null) TrainingCheckpoint.RestoreOptimiser(latest, trainer.Optimiser, TrainingCheckpoint.LoadState(latest));
        if (done > trainer.Steps)
            throw new UserErrorException($"the run has done {done} steps, more than the {trainer.Steps} its data and options ask for: has the data changed?");
        TruncateAfter(done);
        Say($"{data.Examples.Count} examples, {data.Examples.Sum(e => e.Turns.Count)} turns, {trainer.Tokens:N0} tokens to learn, {trainer.Steps} steps"
            + (data.TooLong > 0 ? $"; {data.TooLong} examples longer than {limit} tokens left out" : ""));
        return Train(trainer, model, done, cancellationToken);
    }

    private Checkpoint Prepared(Checkpoint model, string path)
    {
        if (model.Tokenizer is null) throw new UserErrorException($"{path} has no tokenizer.json; a model cannot be trained without its tokenizer.");
        var section = new ModelSection { Chat = config.Chat, System = config.System, Lora = config.Lora };
        var head = model.Weights.Tensors.Keys.Any(k => k.StartsWith(WeightLayout.ValueHeadPrefix, StringComparison.Ordinal));
        var complete = ModelPreparation.Complete(model, section, config.Seed);
        // A value head that the model did not bring would be trained by nobody.
        return head ? complete : complete with { Weights = model.Adapter is null || complete.Adapter is not null ? model.Weights : model.Merged().Weights };
    }

    private int Train(SftTrainer trainer, Checkpoint model, long done, CancellationToken cancellationToken)
    {
        Checkpoint Now() => model with
        {
            Weights = trainer.Model.Parameters.Snapshot(policyOnly: false),
            Adapter = trainer.Model.Parameters.SnapshotAdapter(),
        };
        void Save(long step) => TrainingCheckpoint.Save(
            folder.Checkpoints, Now(), trainer.Optimiser,
            new TrainingState { Update = step, PolicyVersion = 0, OptimiserSteps = [.. trainer.Optimiser.Steps] },
            new CheckpointRetention(KeptCheckpoints));

        var every = config.SaveEvery > 0 ? config.SaveEvery : Math.Max(1, trainer.Steps / Checkpoints);
        var shown = Math.Max(1, trainer.Steps / Lines);
        var (first, saved) = (done, done);
        var watch = Stopwatch.StartNew();
        double window = 0;
        long windowTokens = 0;
        if (done == 0) Save(0);
        while (done < trainer.Steps && !cancellationToken.IsCancellationRequested)
        {
            var began = watch.Elapsed;
            var step = trainer.Step(done);
            done = step.Step;
            var speed = step.PaddedTokens / (watch.Elapsed - began).TotalSeconds;
            var line = JsonSerializer.Serialize(
                new { step.Step, step.Epoch, step.Loss, step.Tokens, step.PaddedTokens, step.LearningRate, step.GradientNorm, TokensPerSecond = speed },
                SnakeCase);
            File.AppendAllText(MetricsPath, line + "\n");
            if (json) Console.WriteLine(line);
            window += step.Loss * step.Tokens;
            windowTokens += step.Tokens;
            if (done % shown == 0 || done == trainer.Steps)
            {
                var left = watch.Elapsed / (done - first) * (trainer.Steps - done);
                Say(string.Create(
                    CultureInfo.InvariantCulture,
                    $"step {done}/{trainer.Steps}  epoch {step.Epoch}  loss {window / windowTokens:0.0000}  {speed:N0} tokens/s  left {left:h\\:mm\\:ss}"));
                (window, windowTokens) = (0, 0);
            }

            if (done % every != 0 || done == trainer.Steps) continue;
            Save(done);
            saved = done;
        }

        if (done > saved) Save(done);
        if (done < trainer.Steps)
        {
            Say($"Interrupted after step {done}; go on with: {folder.ResumeCommand.Replace("mem1 train", "mem1 sft", StringComparison.Ordinal)}");
            return 0;
        }

        var dtype = config.Dtype ?? model.Origin.Dtype;
        var target = Path.Combine(folder.FullPath, "model");
        (model with { Weights = trainer.Model.Parameters.Snapshot(policyOnly: true), Adapter = null }).Save(target, dtype);
        Say($"The model is in {target} ({ModelConfigFile.NameOf(dtype)}).");
        if (trainer.Model.Parameters.SnapshotAdapter() is { } adapter)
        {
            target = Path.Combine(folder.FullPath, "adapter");
            PeftFolder.Save(adapter, target, config.Model);
            Say($"The adapter alone is in {target}.");
        }

        return 0;
    }

    /// <summary>Cuts what was logged after a step: the part a resume does again.</summary>
    private void TruncateAfter(long step)
    {
        if (!File.Exists(MetricsPath)) return;
        // A line that was being written when the process died is not JSON; it goes too.
        AtomicFile.WriteText(MetricsPath, string.Concat(File.ReadLines(MetricsPath).Where(l => StepOf(l) is { } s && s <= step).Select(l => l + "\n")));
    }

    private static long? StepOf(string line)
    {
        try
        {
            using var document = JsonDocument.Parse(line);
            return document.RootElement.GetProperty("step").GetInt64();
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException)
        {
            return null;
        }
    }

    private void Say(string text) => (json ? Console.Error : Console.Out).WriteLine(text);
}
