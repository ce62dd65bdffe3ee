using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using Mem1.Cli.Bench;
using Mem1.Cli.Configuration;
using Mem1.Learner;
using Mem1.Model.Checkpoints;

namespace Mem1.Cli.Commands;

/// <summary><c>mem1 bench</c>: how fast the learner, the sampler and the search index are on this machine.</summary>
internal static class BenchCommand
{
    // Beside the default: what memory comes down to when a trajectory is cut into passes of a few turns.
    private const int SmallMicroBatch = 512;

    public static Command Create()
    {
        var command = new Command(
            "bench",
            """
            Measure speed and memory on this machine.

            Examples:
              ./mem1 bench learner
              ./mem1 bench rollout --json
              ./mem1 bench retrieval --passages 100000
              ./mem1 bench env
              ./mem1 bench async
              ./mem1 bench scheduler
              ./mem1 bench fleet --workers 1000
              ./mem1 bench dashboard
              ./mem1 bench tokenizer --tokenizer Qwen2.5-0.5B
            """)
        {
            Learner(), Rollout(), RolloutProcess(), LearnerPass(), Retrieval(), RetrievalPass(), Environments(), Tokenizer(),
        };
        command.Add(AsyncBenchCommand.Create());
        command.Add(AsyncBenchCommand.CreatePass());
        foreach (var other in ClusterBenchCommands.Create().Concat(DashboardBenchCommands.Create())) command.Add(other);
        return command;
    }

    private static Command Learner()
    {
        var turns = Numbers("--turns", "Numbers of turns of the trajectory", 2, 4, 8, 16, 32);
        var (size, json, repeat, output) = (Size(), Json(), Repeat("Passes timed at least, for 2 seconds or more"), Output());
        var rounds = new Option<int>("--rounds")
        {
            Description = "Processes of each way; the best counts",
            HelpName = "N",
            DefaultValueFactory = _ => 1,
        };
        AtLeastOne(rounds);
        var micro = Numbers(
            "--micro-batch-tokens", "Largest numbers of tokens in one forward and backward pass of segments (ppo.micro_batch_tokens)",
            new PpoOptions().MicroBatchTokens, SmallMicroBatch);
        var layouts = new Option<string?>("--layouts")
        {
            Description = "Layouts to time against each other (segments, carry, paper)",
            HelpName = "A,B,...",
        };
        var checkpointing = Checkpointing();
        var command = new Command(
            "learner",
            """
            Time one PPO update three ways, each in a process of its own: segments (what train does), dense (the same model over one
            stitched sequence under a full mask) and, when python3-torch is installed, bench/peers/dense_ppo.py.

            With --layouts, time the product's layouts against each other instead, and how their cost grows with the number of turns.

            Examples:
              ./mem1 bench learner
              ./mem1 bench learner --turns 32 --size 4m --rounds 3
              ./mem1 bench learner --json | jq .ratios
              ./mem1 bench learner --layouts segments,carry,paper
            """)
        {
            turns, size, micro, layouts, rounds, checkpointing, repeat, json, output,
        };
        command.SetAction(async (parse, cancellationToken) =>
        {
            if (parse.GetValue(layouts) is { Length: > 0 } names)
            {
                var compared = await LayoutBench.Run(
                    parse.GetValue(size)!, LayoutBench.Ways(names), List(parse.GetValue(turns)), List(parse.GetValue(micro))[0],
                    parse.GetValue(repeat), parse.GetValue(rounds), Progress, cancellationToken).ConfigureAwait(false);
                Show(compared, compared.Table(), parse.GetValue(json), parse.GetValue(output));
                return 0;
            }

            var report = await LearnerBench.Run(
                parse.GetValue(size)!, List(parse.GetValue(turns)), List(parse.GetValue(micro)), parse.GetValue(repeat),
                parse.GetValue(rounds), parse.GetValue(checkpointing), Progress, cancellationToken)
                .ConfigureAwait(false);
            Show(report, report.Table(), parse.GetValue(json), parse.GetValue(output));
            return 0;
        });
        return command;
    }

    private static Command Rollout()
    {
        var batch = Numbers("--batch", "Sequences decoded together", 1, 16, 64, 256);
        var threads = Numbers("--threads", "Threads of the engine", 1, 2);
        var (json, repeat, output) = (Json(), Repeat("Rounds timed at least, for 2 seconds or more"), Output());
        var sizes = new Option<string>("--size")
        {
            Description = $"Models, of {string.Join(", ", BenchModels.Names)}",
            HelpName = "SIZE,...",
            DefaultValueFactory = _ => "1m,15m",
        };
        string[] Sizes(string? list) => (list ?? "").Split(',', StringSplitOptions.TrimEntries);
        sizes.Validators.Add(result =>
        {
            if (result.Tokens.Count == 1 && Sizes(result.Tokens[0].Value).FirstOrDefault(s => !BenchModels.Names.Contains(s)) is { } wrong)
                result.AddError($"--size names \"{wrong}\"; sizes are {string.Join(", ", BenchModels.Names)}.");
        });
        var command = new Command(
            "rollout",
            """
            Time sampling: the managed decoder that rollout workers use on a CPU, the engine on libtorch and, when python3-torch is
            installed, bench/peers/decode.py, each in processes of its own; then whole episodes of the built-in task over actors and gRPC,
            with and without keeping prompts. It takes some minutes.

            Examples:
              ./mem1 bench rollout
              ./mem1 bench rollout --batch 1,256 --threads 1 --size 4m
              ./mem1 bench rollout --json | jq '.ratios[] | select(.batch == 16)'
            """)
        {
            batch, threads, sizes, repeat, json, output,
        };
        command.SetAction(async (parse, cancellationToken) =>
        {
            var report = await RolloutBench.Run(
                Sizes(parse.GetValue(sizes)), List(parse.GetValue(batch)), List(parse.GetValue(threads)), parse.GetValue(repeat),
                RolloutBench.TimedAtLeast, worlds: true, Progress, cancellationToken).ConfigureAwait(false);
            Show(report, report.Table(), parse.GetValue(json), parse.GetValue(output));
            return 0;
        });
        return command;
    }

    /// <summary>What the rollout bench starts; of no use by itself.</summary>
    private static Command RolloutProcess()
    {
        var way = new Option<RolloutWay>("--way") { Required = true };
        var threads = new Option<int>("--threads") { Required = true };
        var batch = new Option<string>("--batch") { Required = true };
        var seconds = new Option<double>("--seconds") { Required = true };
        var (size, repeat) = (Size(), Repeat("Rounds timed at least"));
        var command = new Command(RolloutBench.PassCommand, "Measure one way of sampling in this process.")
        {
            way, threads, batch, seconds, size, repeat,
        };
        command.Hidden = true;
        command.SetAction(parse =>
        {
            var report = RolloutPass.MeasureHere(
                parse.GetValue(size)!, parse.GetValue(way), parse.GetValue(threads), List(parse.GetValue(batch)), parse.GetValue(repeat),
                TimeSpan.FromSeconds(parse.GetValue(seconds)));
            Console.WriteLine(JsonSerializer.Serialize(report, BenchProcess.Json));
            return 0;
        });
        return command;
    }

    private static Option<bool> Checkpointing() => new("--gradient-checkpointing")
    {
        Description = "Segments as with learner.gradient_checkpointing",
    };

    /// <summary>What the learner bench starts; of no use by itself.</summary>
    private static Command LearnerPass()
    {
        var file = new Option<FileInfo>("--case") { Required = true };
        var way = new Option<UpdateWay>("--way") { Required = true };
        var micro = new Option<int>("--micro-batch-tokens") { Required = true };
        var (size, repeat) = (Size(), Repeat("Passes timed at least"));
        var checkpointing = Checkpointing();
        var command = new Command(LearnerBench.PassCommand, "Measure one way of one case in this process.")
        {
            file, way, size, micro, repeat, checkpointing,
        };
        command.Hidden = true;
        command.SetAction(parse =>
        {
            var report = LearnerBench.MeasureHere(
                parse.GetValue(size)!, parse.GetValue(file)!.FullName, parse.GetValue(way), parse.GetValue(micro), parse.GetValue(repeat),
                parse.GetValue(checkpointing));
            Console.WriteLine(JsonSerializer.Serialize(report, BenchProcess.Json));
            return 0;
        });
        return command;
    }

    private static Command Retrieval()
    {
        var passages = Numbers("--passages", "Sizes of the generated corpus", 10_000, 100_000, 1_000_000);
        var (json, output) = (Json(), Output());
        var command = new Command(
            "retrieval",
            """
            Time building the search index of a generated corpus, and searching it on one thread. A million passages need 3 GB of disk for a
            while.

            Examples:
              ./mem1 bench retrieval
              ./mem1 bench retrieval --passages 10000,100000 --json | jq '.rows[].questions'
            """)
        {
            passages, json, output,
        };
        command.SetAction(async (parse, cancellationToken) =>
        {
            var report = await RetrievalBench.Run(List(parse.GetValue(passages)), Progress, cancellationToken).ConfigureAwait(false);
            Show(report, RetrievalBench.Table(report), parse.GetValue(json), parse.GetValue(output));
            return 0;
        });
        return command;
    }

    /// <summary>What the retrieval bench starts; of no use by itself.</summary>
    private static Command RetrievalPass()
    {
        var stage = new Option<RetrievalBench.Stage>("--stage") { Required = true };
        var passages = new Option<int>("--passages") { Required = true };
        var corpus = new Option<FileInfo>("--corpus") { Required = true };
        var command = new Command(RetrievalBench.PassCommand, "Measure one stage of one corpus in this process.") { stage, passages, corpus };
        command.Hidden = true;
        command.SetAction((parse, cancellationToken) =>
        {
            var row = RetrievalBench.MeasureHere(
                parse.GetValue(stage), parse.GetValue(passages), parse.GetValue(corpus)!.FullName, cancellationToken);
            Console.WriteLine(JsonSerializer.Serialize(row, BenchProcess.Json));
            return Task.FromResult(0);
        });
        return command;
    }

    private static Command Environments()
    {
        var count = new Option<int>("--environments")
        {
            Description = "Episodes open at once",
            HelpName = "N",
            DefaultValueFactory = _ => 10_000,
        };
        AtLeastOne(count);
        var (json, output) = (Json(), Output());
        var command = new Command(
            "env",
            """
            Memory and speed of environments by themselves, on one thread: many episodes of WebShop side by side in the made-up shop, with
            and without searching, and the worlds.

            Examples:
              ./mem1 bench env
              ./mem1 bench env --environments 1000 --json | jq .bytes_each
            """)
        {
            count, json, output,
        };
        command.SetAction(parse =>
        {
            var report = EnvironmentBench.Run(new ShopSection(), parse.GetValue(count), TimeSpan.FromSeconds(3), Progress);
            Show(report, report.Table(), parse.GetValue(json), parse.GetValue(output));
            return 0;
        });
        return command;
    }

    private static Command Tokenizer()
    {
        var folder = new Option<DirectoryInfo?>("--tokenizer")
        {
            Description = "Folder with tokenizer.json; without it one is learnt from generated text",
            HelpName = "FOLDER",
        };
        var (json, repeat, output) = (Json(), Repeat("Times after the first"), Output());
        var command = new Command(
            "tokenizer",
            """
            Time encoding text into tokens on one thread.

            Examples:
              ./mem1 bench tokenizer
              ./mem1 bench tokenizer --tokenizer Qwen2.5-0.5B --json | jq '.rows[].megabytes_per_second'
            """)
        {
            folder, repeat, json, output,
        };
        command.SetAction(parse =>
        {
            var report = TokenizerBench.Run(parse.GetValue(folder)?.FullName, parse.GetValue(repeat), Progress);
            Show(report, TokenizerBench.Table(report), parse.GetValue(json), parse.GetValue(output));
            return 0;
        });
        return command;
    }

    internal static void Show<T>(T report, string table, bool asJson, FileInfo? file)
    {
        var json = JsonSerializer.Serialize(report, BenchProcess.Json);
        if (file is not null) AtomicFile.WriteText(file.FullName, json + "\n");
        Console.Write(asJson ? json + "\n" : table);
    }

    internal static void Progress(string what) => Console.Error.WriteLine($"measuring: {what}");

    private static Option<string> Size()
    {
        var option = new Option<string>("--size")
        {
            Description = "Model: tiny (for smoke tests), or 1, 4 or 15 million parameters",
            HelpName = "SIZE",
            DefaultValueFactory = _ => "1m",
        };
        option.AcceptOnlyFromAmong(BenchModels.Names);
        return option;
    }

    internal static Option<bool> Json() => new("--json") { Description = "One JSON object on standard output" };

    internal static Option<FileInfo?> Output() => new("--out") { Description = "Also write the JSON object to a file", HelpName = "FILE" };

    private static Option<int> Repeat(string description)
    {
        var option = new Option<int>("--repeat") { Description = description, HelpName = "N", DefaultValueFactory = _ => 5 };
        AtLeastOne(option);
        return option;
    }

    /// <summary>An option of one whole number from 1.</summary>
    internal static Option<int> Count(string name, string description, int standard)
    {
        var option = new Option<int>(name) { Description = description, HelpName = "N", DefaultValueFactory = _ => standard };
        AtLeastOne(option);
        return option;
    }

    private static void AtLeastOne(Option<int> option) => option.Validators.Add(result =>
    {
        if (result.Tokens.Count == 1 && int.TryParse(result.Tokens[0].Value, CultureInfo.InvariantCulture, out var n) && n < 1)
            result.AddError($"{option.Name} is {n}; it must be at least 1.");
    });

    /// <summary>An option of whole numbers from 1, separated by commas; <see cref="List"/> reads its value.</summary>
    internal static Option<string> Numbers(string name, string description, params int[] standard)
    {
        var option = new Option<string>(name)
        {
            Description = description,
            HelpName = "N,N,...",
            DefaultValueFactory = _ => string.Join(',', standard),
        };
        option.Validators.Add(result =>
        {
            if (result.Tokens.Count == 1 && List(result.Tokens[0].Value).Any(n => n < 1))
                result.AddError($"{name} is \"{result.Tokens[0].Value}\"; it must be whole numbers from 1, separated by commas.");
        });
        return option;
    }

    /// <summary>Numbers between commas; 0 for what is none.</summary>
    internal static int[] List(string? numbers) =>
    [
        .. (numbers ?? "").Split(',', StringSplitOptions.TrimEntries)
            .Select(w => int.TryParse(w, NumberStyles.None, CultureInfo.InvariantCulture, out var n) ? n : 0).Distinct(),
    ];
}
