// Every command of docs/tutorials is run, in the order of the page and in a folder that holds what the page says it needs. Sizes are made as
// small as they get; a GPU is replaced by the CPU, the addresses of machines by loopback. A command that is not known here fails the test.
using System.Net;
using System.Net.Sockets;
using System.Text.RegularExpressions;
using Mem1.Model;
using Mem1.Model.Checkpoints;
using Mem1.Model.Initialization;
using Mem1.Model.Tokenizers;

namespace Mem1.Cli.Tests;

public sealed partial class TutorialTests
{
    private static readonly string[] s_small =
    [
        "rollout.episodes_per_update=8", "rollout.max_episodes=8", "cloning.steps=2", "cloning.warmup_steps=1", "evaluation.episodes=0",
    ];

    private static readonly string s_folder = Path.Combine(Documents.Root, "docs", "tutorials");

    [Fact]
    public void Every_command_of_every_tutorial_runs()
    {
        var pages = Directory.EnumerateFiles(s_folder, "*.md").Order(StringComparer.Ordinal).ToArray();
        Assert.Equal(["cluster.md", "first-agent.md", "own-environment.md", "qwen-gpu.md"], pages.Select(Path.GetFileName));
        // Beside each other: most of the time goes into starting programs.
        Parallel.ForEach(pages, new ParallelOptions { MaxDegreeOfParallelism = 2 }, page =>
        {
            using var temp = new TempFolder();
            Prepare(temp);
            var commands = Commands(File.ReadAllText(page));
            Assert.True(commands.Count >= 3, $"{page} has {commands.Count} commands");
            Play(temp, commands, Path.GetFileName(page));
        });
    }

    /// <summary>The lines of the fenced blocks marked sh.</summary>
    private static List<string> Commands(string page) =>
        [.. Fence().Matches(page).SelectMany(m => m.Groups[1].Value.Split('\n', StringSplitOptions.RemoveEmptyEntries))];

    private static void Play(TempFolder temp, IReadOnlyList<string> commands, string page)
    {
        var port = Free();
        Child? learner = null;
        string[]? worker = null;
        var served = false;
        try
        {
            foreach (var command in commands)
            {
                string[] words = [.. Word().Matches(command).Select(m => m.Value.Trim('\''))];
                if (words[0] == "dotnet")
                {
                    Run(temp, new(words[0]), [.. words[1..], "-v", "q", "--nologo", "-m:1", "-nr:false", $"-p:Mem1={AppContext.BaseDirectory.TrimEnd('/')}"]);
                    continue;
                }

                Assert.True(words[0] == "./mem1", $"{page}: \"{command}\" is no command that this test can run");
                var arguments = Adapted(words[1..], port);
                if (words[1] == "learner")
                {
                    Finish();
                    (learner, served) = (Start(temp, Cli.Command(), arguments), false);
                }
                else
                {
                    Run(temp, Cli.Command(), arguments);
                    if (words[1] == "rollout") (worker, served) = (arguments, true);
                }
            }

            Finish();
        }
        finally
        {
            learner?.Dispose();
        }

        // A learner ends when its work is done, for which it needs a worker: the tutorial's, which finds it again.
        void Finish()
        {
            if (learner is null) return;
            if (!served && worker is not null) Run(temp, Cli.Command(), worker);
            learner.Finish().Succeeded();
            learner.Dispose();
            learner = null;
        }
    }

    /// <summary>The command at the smallest size, on this machine.</summary>
    private static string[] Adapted(string[] words, int port)
    {
        var adapted = words.Select(w => w.Replace("0.0.0.0:5050", $"127.0.0.1:{port}").Replace("LEARNER:5050", $"127.0.0.1:{port}")
            .Replace("step-200", "step-1")).ToList();
        if (words[0] is "train" or "learner")
        {
            adapted.Add("--no-dashboard");
            IEnumerable<string> settings = [.. s_small, $"updates={(words.Contains("--resume") ? 2 : 1)}"];
            if (words.Any(w => w.EndsWith("qwen-gpu.yaml", StringComparison.Ordinal)))
                settings = settings.Concat(["learner.device=cpu", "learner.precision=float32", "rollout.max_new_tokens=8"]);
            adapted.AddRange(settings.SelectMany(s => (string[])["--set", s]));
        }

        if (words[0] == "eval") adapted.AddRange(["--episodes", "1"]);
        return [.. adapted];
    }

    private static Child Start(TempFolder temp, System.Diagnostics.ProcessStartInfo start, IEnumerable<string> arguments)
    {
        foreach (var argument in arguments) start.ArgumentList.Add(argument);
        start.WorkingDirectory = temp.FullPath;
        start.Environment["DOTNET_CLI_USE_MSBUILD_SERVER"] = "0";
        return new Child(start);
    }

    private static void Run(TempFolder temp, System.Diagnostics.ProcessStartInfo start, IEnumerable<string> arguments)
    {
        using var child = Start(temp, start, arguments);
        var outcome = child.Finish();
        Assert.True(outcome.ExitCode == 0, $"{string.Join(' ', start.ArgumentList)}\nexit code {outcome.ExitCode}\n{outcome.Out}\n{outcome.Error}");
    }

    /// <summary>What the pages say is there: the checkout's examples, data, and a model in the layout of Hugging Face.</summary>
    private static void Prepare(TempFolder temp)
    {
        var examples = Path.Combine(Documents.Root, "examples");
        foreach (var file in (string[])
            ["Directory.Build.props", "Directory.Build.targets", "HigherLower/HigherLower.csproj", "HigherLower/HigherLower.cs", "qwen-gpu.yaml"])
        {
            Directory.CreateDirectory(Path.GetDirectoryName(temp["examples", file])!);
            File.Copy(Path.Combine(examples, file), temp["examples", file]);
        }

        Directory.CreateDirectory(temp["data"]);
        string[] rivers = ["Aare", "Reuss", "Limmat", "Thur", "Sihl", "Emme", "Saane", "Broye", "Orbe", "Inn", "Doubs", "Birs"];
        temp.Write("data/corpus.jsonl", string.Concat(rivers.Select((r, i) => $"{{\"id\":\"{i}\",\"contents\":\"The river {r} is {i + 40} km long.\"}}\n")));
        temp.Write("data/questions.jsonl", string.Concat(rivers.Select(
            (r, i) => $"{{\"id\":\"q{i}\",\"question\":\"How long is the {r}?\",\"golden_answers\":[\"{i + 40} km\"]}}\n")));

        var tokenizer = BpeTrainer.Train(
            rivers.Select(r => $"How long is the river {r}?"), 400, ["<think>", "</think>", "<search>", "</search>", "<answer>", "</answer>"]);
        var shape = new DecoderConfig
        {
            VocabularySize = tokenizer.VocabularySize,
            HiddenSize = 32,
            IntermediateSize = 48,
            Layers = 2,
            Heads = 4,
            KeyValueHeads = 2,
            HeadSize = 8,
            MaxPositions = 4096,
            Position = PositionEncoding.Rope,
            AttentionScale = AttentionScale.Standard,
            TiedEmbeddings = true,
            QkvBias = true,
        };
        new Checkpoint(shape, ModelInitializer.Normal(shape, 1), tokenizer).Save(temp["models", "Qwen2.5-1.5B"]);
    }

    private static int Free()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    [GeneratedRegex("```sh\n(.*?)```", RegexOptions.Singleline)]
    private static partial Regex Fence();

    [GeneratedRegex("'[^']*'|[^ ]+")]
    private static partial Regex Word();
}
