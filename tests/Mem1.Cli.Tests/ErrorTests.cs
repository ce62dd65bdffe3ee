// What the user can mend: exit code 2, one sentence, and nothing left behind that stands in the way of the next start.
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Mem1.Cli.Tests;

public sealed class ErrorTests : IDisposable
{
    private const string Passage = """{"id":"p1","contents":"\"Rivers\"\nThe Nile is a river."}""";
    private const string Question = """{"id":"q1","question":"Which river?","golden_answers":["Nile"]}""";

    private readonly TempFolder _temp = new();

    private string RunsFolder => _temp["runs"];

    public void Dispose() => _temp.Dispose();

    [Theory]
    [InlineData(null, Question, "corpus.jsonl", "does not exist")]
    [InlineData(Passage, null, "tasks.jsonl", "does not exist")]
    [InlineData(Passage + "\n{\"id\":\"p2\",\"text\":\"x\"}", Question, "corpus.jsonl", "line 2", "contents")]
    [InlineData(Passage + "\n{\"contents\":\"x\"}", Question, "corpus.jsonl", "line 2", "field id")]
    [InlineData(Passage + "\nnot json", Question, "corpus.jsonl", "line 2")]
    [InlineData("", Question, "corpus.jsonl")]
    [InlineData(Passage, Question + "\n{\"id\":\"q2\",\"golden_answers\":[\"x\"]}", "tasks.jsonl", "line 2", "question")]
    [InlineData(Passage, Question + "\n{\"id\":\"q2\",\"question\":\"x\",\"golden_answers\":\"x\"}", "tasks.jsonl", "line 2",
        "golden_answers")]
    [InlineData(Passage, Question + "\n[", "tasks.jsonl", "line 2")]
    [InlineData(Passage, "", "tasks.jsonl")]
    public void Data_that_cannot_be_read(string? corpus, string? tasks, params string[] words)
    {
        if (corpus is not null) _temp.Write("corpus.jsonl", corpus);
        if (tasks is not null) _temp.Write("tasks.jsonl", tasks);
        Refused(["--quick", "--corpus", _temp["corpus.jsonl"], "--tasks", _temp["tasks.jsonl"]], words);
        // Besides the input there is no file with anything in it: no half-built index above all.
        Assert.DoesNotContain(
            new DirectoryInfo(_temp.FullPath).EnumerateFiles(), f => f.Name is not ("corpus.jsonl" or "tasks.jsonl") && f.Length > 0);
    }

    [Theory]
    [InlineData("--corpus", "environment.tasks")]
    [InlineData("--tasks", "environment.corpus")]
    public void Half_of_the_data(string option, string missing) =>
        Refused([option, _temp.Write("some.jsonl", Passage)], missing, "is missing");

    [Theory]
    [InlineData("updates: 3\nppo:\n  clipp: 0.1\n", "line 3", "\"ppo.clipp\"", "\"ppo.clip\"")]
    [InlineData("udpates: 3\n", "line 1", "\"udpates\"", "\"updates\"")]
    [InlineData("updates: many\n", "line 1", "\"updates\"", "\"many\"", "a whole number")]
    [InlineData("serial: 1\n", "line 1", "\"serial\"", "true or false")]
    [InlineData("ppo:\n  gamma: [1]\n", "line 2", "\"ppo.gamma\"", "single value")]
    [InlineData("ppo: 3\n", "line 1", "\"ppo\"", "keys and values")]
    [InlineData("evaluation:\n  objectives: 3\n", "line 2", "a list")]
    [InlineData("environment:\n  retrieval:\n    search_timeout: soon\n", "line 3", "search_timeout", "hh:mm:ss")]
    [InlineData("model:\n  position: sideways\n", "line 2", "rope or none")]
    [InlineData("updates: [1\n", "config.yaml", "line ")]
    [InlineData("- 1\n", "config.yaml", "top level")]
    public void A_config_file_with_a_mistake(string yaml, params string[] words)
    {
        Refused(["--config", _temp.Write("config.yaml", yaml)], ["config.yaml", .. words]);
    }

    [Theory]
    [InlineData("ppo.clipp=0.1", "\"ppo.clipp\"", "\"ppo.clip\"")]
    [InlineData("learner.port=abc", "\"learner.port\"", "\"abc\"", "a whole number")]
    [InlineData("seed=-1", "\"seed\"", "not negative")]
    [InlineData("updates", "key=value")]
    [InlineData("ppo.learning_rate=1e999", "ppo.learning_rate", "a number")]
    [InlineData("name=../elsewhere", "folder name")]
    [InlineData("learner.device=cuda:x", "cpu or cuda")]
    [InlineData("rollout.device=gpu", "rollout.device", "cpu or cuda")]
    [InlineData("rollout.prompt_cache_mib=-1", "rollout.prompt_cache_mib is -1")]
    [InlineData("environment.kind=retrieval", "environment.corpus")]
    [InlineData("ppo.estimator=rloo", "rollout.group_size")]
    [InlineData("ppo.estimator=ppo", "gae or grpo or rloo or reinforce_plus_plus")]
    [InlineData("rollout.group_size=7", "episodes_per_update (64) is not a multiple")]
    [InlineData("rollout.group_size=0", "rollout.group_size is 0")]
    [InlineData("ppo.dual_clip=1.1", "ppo.dual_clip is 1.1")]
    [InlineData("ppo.importance_cap=2", "ppo.off_policy is none")]
    [InlineData("ppo.off_policy=truncated", "ppo.importance_cap")]
    [InlineData("ppo.overlong=penalise", "ppo.overlong_penalty")]
    [InlineData("ppo.overlong_penalty=1", "ppo.overlong penalise")]
    [InlineData("ppo.kl_target=0.1", "ppo.kl_loss_coefficient are 0")]
    [InlineData("ppo.kl_reward_clamp=true", "ppo.kl_reward_coefficient is 0")]
    [InlineData("ppo.kl_loss_estimator=k1", "ppo.kl_loss_coefficient is 0")]
    [InlineData("ppo.shaping.state_free_tokens=3", "ppo.shaping.state_cost is 0")]
    [InlineData("ppo.group_std=false", "ppo.estimator grpo")]
    public void A_setting_with_a_mistake(string setting, params string[] words)
    {
        // Some of these contradict the rest of the config in several places; the words may stand on any line.
        var outcome = Cli.Run("train", "--runs", RunsFolder, "--set", setting);
        Assert.Equal(2, outcome.ExitCode);
        Assert.StartsWith("mem1: ", outcome.Error);
        foreach (var word in words) Assert.Contains(word, outcome.Error);
        Assert.False(Directory.Exists(RunsFolder));
    }

    [Fact]
    public void A_device_that_is_not_there()
    {
        if (TorchSharp.torch.cuda.is_available()) Assert.Skip("this machine has a CUDA device");
        var outcome = Cli.Run("train", "--quick", "--runs", RunsFolder, "--set", "rollout.device=cuda");
        Assert.Equal(2, outcome.ExitCode);
        Assert.Contains("rollout.device is cuda but libtorch finds no CUDA device", outcome.Error);
    }

    [Fact]
    public void All_contradictions_are_told_at_once()
    {
        var outcome = Cli.Run(
            "train", "--runs", RunsFolder, "--set", "ppo.clip=2", "--set", "model.heads=5", "--set", "checkpoint.every=0", "--set",
            "rollout.temperature=0", "--set", "environment.max_objectives=0", "--set", "ppo.mini_batches=1000");
        Assert.Equal(2, outcome.ExitCode);
        Assert.Equal("", outcome.Out);
        foreach (var key in new[] { "ppo.clip", "model.heads", "checkpoint.every", "rollout.temperature", "environment.max_objectives",
            "ppo.mini_batches" })
            Assert.Contains(key, outcome.Error);
        Assert.Contains($"in {outcome.ErrorLines.Length - 1} places", outcome.ErrorLines[0]);
        Assert.False(Directory.Exists(RunsFolder));
    }

    [Theory]
    [InlineData("value_clip", "0.1", "critic")]
    [InlineData("critic_only_updates", "3", "critic")]
    [InlineData("value_learning_rate", "0.1", "critic")]
    [InlineData("lambda", "0.5", "trace")]
    [InlineData("gamma", "0.9", "discount")]
    [InlineData("time", "turn", "discount")]
    public void A_setting_that_the_estimator_has_no_use_for(string key, string value, string why) => Refused(
        ["--set", "ppo.estimator=grpo", "--set", "rollout.group_size=8", "--set", $"ppo.{key}={value}"], $"ppo.{key}", "grpo", why);

    [Fact]
    public void A_missing_config_file() => Refused(["--config", _temp["none.yaml"]], "none.yaml", "cannot be read");

    [Fact]
    public void A_port_in_use()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        var port = ((IPEndPoint)listener.LocalEndpoint).Port;
        // Found out before minutes are spent on cloning.
        Refused(["--from-scratch", "--set", $"learner.port={port}"], $"127.0.0.1:{port}", "learner.port");
    }

    [Theory]
    [InlineData("checkpoint")] // a folder without anything in it
    [InlineData("nowhere")]
    public void A_model_that_is_not_there(string folder)
    {
        Directory.CreateDirectory(_temp["checkpoint"]);
        Refused(["--quick", "--set", $"model.from={_temp[folder]}"], folder);
    }

    [Fact]
    public void A_runs_folder_that_cannot_be_written()
    {
        var file = _temp.Write("file", "");
        Refusals.Refused(["train", "--quick", "--runs", file], "file/quick", "cannot be used");
        Refusals.Refused(["train", "--quick", "--runs", "/proc/mem1"], "/proc/mem1", "cannot be used");
        Assert.Equal("", File.ReadAllText(file));
    }

    [Fact]
    public void Nothing_to_resume()
    {
        Refused(["--resume"], "no run to resume in", RunsFolder);
        Refused(["--resume", "one"], "no run to resume at", "one");
        Refused(["--resume", "one", "--quick"], "--resume", "--quick");
    }

    [Fact]
    public void A_failed_start_is_followed_by_a_good_one_of_the_same_name()
    {
        string[] arguments = ["train", "--quick", "--name", "mine", "--updates", "1", "--set", "evaluation.episodes=0", "--runs",
            RunsFolder];
        Refusals.Refused([.. arguments, "--set", $"model.from={_temp["none"]}"], "none");
        Cli.Run(arguments).Succeeded();
        Assert.Equal(["mine"], Directory.EnumerateFileSystemEntries(RunsFolder).Select(Path.GetFileName));
    }

    [Theory]
    [InlineData("trian", "\"trian\"", "\"train\"", "./mem1 --help")]
    [InlineData("train --udpates 3", "\"--udpates\"", "\"--updates\"", "./mem1 train --help")]
    [InlineData("train --updates three", "'three'", "--updates", "a whole number", "./mem1 train --help")]
    [InlineData("train now", "\"now\"", "./mem1 train --help")]
    [InlineData("train --name", "--name", "./mem1 train --help")]
    [InlineData("data convert --from squad", "--input", "--tasks", "./mem1 data convert --help")]
    [InlineData("data convert --from csv --input a --corpus b --tasks c", "csv", "squad", "./mem1 data convert --help")]
    public void A_command_line_with_a_mistake(string arguments, params string[] words)
    {
        Refusals.Refused(Cli.Run(arguments.Split(' ')), words);
    }

    [Theory]
    [InlineData("")]
    [InlineData("--help")]
    [InlineData("train --help")]
    [InlineData("data")]
    [InlineData("data --help")]
    [InlineData("data convert --help")]
    [InlineData("bench --help")]
    [InlineData("bench learner --help")]
    [InlineData("bench rollout --help")]
    public void Help_has_an_example(string arguments)
    {
        var outcome = Cli.Run(arguments.Split(' ', StringSplitOptions.RemoveEmptyEntries)).Succeeded();
        Assert.Equal("", outcome.Error);
        Assert.Contains("Example", outcome.Out);
        Assert.Contains("./mem1 ", outcome.Out);
        Assert.DoesNotContain('\u001b', outcome.Out);
    }

    [Fact]
    public void No_shim_and_no_libtorch()
    {
        if (!File.Exists(Path.Combine(AppContext.BaseDirectory, "libmem1_torch.so")))
            Assert.Skip("Built with the TorchSharp package, which brings its own libtorch.");
        var program = _temp["program"];
        foreach (var file in Directory.EnumerateFiles(AppContext.BaseDirectory, "*", SearchOption.AllDirectories))
        {
            var copy = Path.Combine(program, Path.GetRelativePath(AppContext.BaseDirectory, file));
            Directory.CreateDirectory(Path.GetDirectoryName(copy)!);
            File.Copy(file, copy);
        }

        var shim = Path.Combine(program, "libmem1_torch.so");
        var names = NamesOfLibtorch(shim);

        // The loader finds something of libtorch's name that is no library.
        var fakes = Directory.CreateDirectory(_temp["fakes"]).FullName;
        foreach (var name in names) File.WriteAllText(Path.Combine(fakes, name), "");
        Refused("libtorch-dev", "file too short", path: fakes);

        // No file of libtorch's name anywhere: the shim is made to ask for one that nobody has.
        var text = File.ReadAllBytes(shim);
        foreach (var name in names)
        {
            var bytes = Encoding.ASCII.GetBytes(name);
            for (var at = text.AsSpan().IndexOf(bytes); at >= 0; at = text.AsSpan().IndexOf(bytes)) text[at + 3] = (byte)'_';
        }

        File.WriteAllBytes(shim, text);
        Refused("libtorch-dev", "not installed");
        File.Delete(shim);
        Refused("libtorch-dev", "libmem1_torch.so is missing");
        Cli.Run(Cli.CommandOf(program, "train", "--help")).Succeeded(); // what needs no tensors goes on working

        void Refused(string package, string why, string? path = null)
        {
            var start = Cli.CommandOf(program, "train", "--quick", "--runs", RunsFolder);
            if (path is not null) start.Environment["LD_LIBRARY_PATH"] = path;
            Refusals.Refused(Cli.Run(start), package, why);
            Assert.False(Directory.Exists(RunsFolder));
        }
    }

    /// <summary>The libtorch libraries that the shim asks the loader for, as they stand in its dynamic section.</summary>
    private static List<string> NamesOfLibtorch(string shim)
    {
        var text = Encoding.Latin1.GetString(File.ReadAllBytes(shim));
        var names = text.Split('\0').Where(s =>
            s.StartsWith("libtorch", StringComparison.Ordinal) && s.Contains(".so", StringComparison.Ordinal));
        return names.Distinct().ToList() is { Count: > 0 } found
            ? found : throw new InvalidOperationException("The shim needs no libtorch?");
    }

    private void Refused(string[] arguments, params string[] words)
    {
        Refusals.Refused(["train", "--runs", RunsFolder, .. arguments], words);
        Assert.False(Directory.Exists(RunsFolder), "a failed start must leave no run folder");
    }
}
