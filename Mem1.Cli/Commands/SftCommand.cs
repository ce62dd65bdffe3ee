using System.CommandLine;
using Mem1.Cli.Configuration;
using Mem1.Cli.Training;
using Mem1.Learner;
using Mem1.Model;
using Mem1.Model.Checkpoints;

namespace Mem1.Cli.Commands;

/// <summary><c>mem1 sft</c>: supervised fine-tuning on chats and episodes.</summary>
internal static class SftCommand
{
    public static Command Create()
    {
        var standard = new SftConfig();
        var data = new Option<FileInfo[]>("--data")
        {
            Description = "JSON Lines: chats {\"messages\": [...]}, or episodes of a trajectories.jsonl; may repeat",
            HelpName = "FILE.jsonl",
            AllowMultipleArgumentsPerToken = true,
        };
        var model = Of("--model", "Checkpoint folder to start from, or built-in", "FOLDER", standard.Model);
        var name = Of<string?>("--name", "Name of the run's folder", "NAME", null);
        var runs = Of("--runs", "Where run folders go", "DIR", new DirectoryInfo("runs"));
        var resume = new Option<string?>("--resume")
        {
            Description = "Go on with a run, the last one if no name is given",
            HelpName = "NAME",
            Arity = ArgumentArity.ZeroOrOne,
        };
        var epochs = Of("--epochs", "Passes over the data", "N", standard.Training.Epochs);
        var turns = Of("--batch-turns", "Turns of a step", "N", standard.Training.BatchTurns);
        var rate = Of("--learning-rate", "Highest learning rate", "X", standard.Training.LearningRate);
        var micro = Of("--micro-batch-tokens", "Most padded tokens of one forward and backward pass", "N", standard.Training.MicroBatchTokens);
        var longest = Of("--max-tokens", "Longer examples are left out; 0 takes the model's limit", "N", 0);
        var seed = Of("--seed", "Seed of the order of the data", "S", standard.Seed);
        var saves = Of("--save-every", "Steps between checkpoints; 0 takes a tenth of the training", "N", 0);
        var rank = Of("--lora-rank", "Train a low-rank adapter of this rank; 0 trains the whole model", "R", 0);
        var alpha = Of("--lora-alpha", "The adapter is scaled by alpha / rank", "A", standard.Lora.Alpha);
        var modules = new Option<string[]>("--lora-modules") { Description = "Projections to adapt; all seven if not given", HelpName = "NAME", AllowMultipleArgumentsPerToken = true };
        var chat = Of("--chat", "Chat markup: auto (as the tokenizer says), on or off", "MODE", standard.Chat);
        var system = Of<string?>("--system", "System message of prompts that have none", "TEXT", null);
        var discarded = Of<string?>("--discarded-end", "Tag up to which a response is dropped from the next turn's context", "TAG", null);
        var device = Of("--device", "cpu or cuda", "DEVICE", standard.Device);
        var precision = Of("--precision", "Of the matrix products: float32 or bfloat16", "NAME", standard.Precision);
        var recompute = new Option<bool>("--gradient-checkpointing") { Description = "Less memory for one more forward pass" };
        var dtype = ModelCommand.Dtype();
        var json = new Option<bool>("--json") { Description = "One JSON object per step on standard output" };
        var command = new Command(
            "sft",
            """
            Fine-tune a model on chats or recorded episodes.

            Cross-entropy on what the assistant wrote and on nothing else, in the layout of reinforcement learning. The finished model is in the run's model/ folder, in the layout of Hugging Face.

            Examples:
              ./mem1 sft --data chats.jsonl --model Qwen2.5-0.5B-Instruct --name first
              ./mem1 sft --data good.jsonl --epochs 3 --learning-rate 1e-3
              ./mem1 sft --data chats.jsonl --model Qwen2.5-0.5B-Instruct --lora-rank 16 --learning-rate 2e-4
              ./mem1 sft --resume first
            """)
        {
            data, model, name, runs, resume, epochs, turns, rate, micro, longest, seed, saves, rank, alpha, modules, chat, system, discarded, device,
            precision, recompute, dtype, json,
        };
        // On a thread of its own, as train: gradient mode and dispose scopes belong to it.
        command.SetAction((parse, cancellationToken) => Task.Factory.StartNew(
            () => Train(parse, cancellationToken), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default));
        return command;

        int Train(ParseResult parse, CancellationToken cancellationToken)
        {
            var folderOfRuns = parse.GetValue(runs)!.FullName;
            if (parse.GetResult(resume) is not null)
            {
                if (command.Options.Where(o => o != resume && o != runs && o != json).FirstOrDefault(o => parse.GetResult(o) is { Implicit: false }) is { } other)
                    throw new UserErrorException($"--resume goes on with the run's own {SftConfig.FileName}, so {other.Name} does not go with it.");
                using var old = RunFolder.Resume(folderOfRuns, parse.GetValue(resume), SftConfig.FileName);
                return new SftRun(SftConfig.Load(old.FullPath), old, parse.GetValue(json)).Run(cancellationToken);
            }

            var folder = parse.GetValue(model)!;
            var config = standard with
            {
                Name = parse.GetValue(name) ?? standard.Name,
                Model = folder == standard.Model ? folder : Path.GetFullPath(folder),
                Data = [.. (parse.GetValue(data) ?? []).Select(f => f.FullName)],
                Seed = parse.GetValue(seed),
                Device = parse.GetValue(device)!,
                Precision = parse.GetValue(precision),
                Training = standard.Training with
                {
                    Epochs = parse.GetValue(epochs),
                    BatchTurns = parse.GetValue(turns),
                    LearningRate = parse.GetValue(rate),
                    MicroBatchTokens = parse.GetValue(micro),
                    Compute = new ComputeOptions { GradientCheckpointing = parse.GetValue(recompute) },
                },
                Lora = standard.Lora with
                {
                    Rank = parse.GetValue(rank),
                    Alpha = parse.GetValue(alpha),
                    TargetModules = parse.GetValue(modules) is { Length: > 0 } chosen ? chosen : standard.Lora.TargetModules,
                },
                Chat = parse.GetValue(chat),
                System = parse.GetValue(system),
                DiscardedEnd = parse.GetValue(discarded),
                MaxTokens = parse.GetValue(longest),
                SaveEvery = parse.GetValue(saves),
                Dtype = parse.GetValue(dtype) is { } stored ? ModelCommand.DtypeOf(stored, StoredDtype.Float32) : null,
            };
            if (config.Validate() is { Count: > 0 } errors)
                throw new UserErrorException(errors.Count == 1 ? errors[0] : $"the options contradict themselves:\n  {string.Join("\n  ", errors)}");
            using var made = RunFolder.Create(folderOfRuns, config.Name, chosen: parse.GetValue(name) is not null);
            try
            {
                AtomicFile.WriteText(Path.Combine(made.FullPath, SftConfig.FileName), config.ToText());
                return new SftRun(config, made, parse.GetValue(json)).Run(cancellationToken);
            }
            catch
            {
                made.DiscardIfNothingIsSaved();
                throw;
            }
        }
    }

    private static Option<T> Of<T>(string name, string description, string help, T standard) =>
        new(name) { Description = description, HelpName = help, DefaultValueFactory = _ => standard };
}
