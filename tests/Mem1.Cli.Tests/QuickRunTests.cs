// One `mem1 train --quick` that every test of this file looks at.
using System.Globalization;
using System.Text.Json;
using System.Xml.Linq;
using Mem1.Cli.Tests;
using Mem1.Model.Checkpoints;

[assembly: AssemblyFixture(typeof(QuickRun))]

namespace Mem1.Cli.Tests;

/// <summary>The run, made once.</summary>
public sealed class QuickRun : IDisposable
{
    private readonly TempFolder _temp = new();

    public QuickRun() => Outcome = Cli.Run("train", "--quick", "--runs", Runs);

    internal Outcome Outcome { get; }

    public string Runs => _temp["runs"];

    public string Folder => Path.Combine(Runs, "quick");

    public void Dispose() => _temp.Dispose();
}

public sealed class QuickRunTests(QuickRun run)
{
    // Keys that the description of metrics.jsonl promises; em_N depends on the objectives drawn.
    private static readonly string[] s_keys =
    [
        "update", "policy_version", "reward_mean", "turns_mean", "peak_tokens_mean", "policy_loss", "value_loss", "entropy", "kl",
        "clip_fraction", "grad_norm", "parity_max_abs", "staleness_max", "rollout_tokens_per_s", "learner_tokens_per_s", "live_tensors",
        "rss_bytes", "seconds",
    ];

    [Fact]
    public void It_ends_well_and_leaves_a_whole_run_folder()
    {
        run.Outcome.Succeeded();
        Assert.Equal("", run.Outcome.Error);
        Assert.Equal(
            ["checkpoints", "config.yaml", "dashboard.token", "evaluation.json", "metrics.jsonl", "reward.svg", "run_id", "spool", "traces.jsonl",
                "trajectories.jsonl"],
            Directory.EnumerateFileSystemEntries(run.Folder).Select(Path.GetFileName).Order(StringComparer.Ordinal));
        Assert.Equal([2, 3], Runs.Steps(run.Folder)); // a checkpoint every 2 updates, and the last
    }

    [Fact]
    public void Every_update_has_its_metrics_line()
    {
        var lines = Runs.Metrics(run.Folder);
        Assert.Equal([1, 2, 3], lines.Select(l => l.GetProperty("update").GetInt64()));
        foreach (var line in lines)
        {
            foreach (var key in s_keys)
            {
                Assert.True(line.TryGetProperty(key, out var value), $"{key} is missing in {line}");
                Assert.True(value.ValueKind == JsonValueKind.Number, $"{key} is no number in {line}");
            }

            Assert.Contains(line.EnumerateObject(), p => p.Name.StartsWith("em_", StringComparison.Ordinal));
            Assert.InRange(line.GetProperty("parity_max_abs").GetDouble(), 0, 1e-4);
            Assert.Equal(0, line.GetProperty("staleness_max").GetInt64());
            Assert.Equal(line.GetProperty("update").GetInt64(), line.GetProperty("policy_version").GetInt64());
            Assert.InRange(line.GetProperty("rss_bytes").GetInt64(), 1, 2L << 30); // the promise for the default run, which is larger
        }

        Assert.Equal(lines[1].GetProperty("live_tensors").GetInt64(), lines[2].GetProperty("live_tensors").GetInt64());
    }

    [Fact]
    public void The_checkpoint_can_be_loaded_and_has_a_tokenizer()
    {
        var checkpoint = Checkpoint.Load(Path.Combine(run.Folder, "checkpoints", "step-3"));
        Assert.NotNull(checkpoint.Tokenizer);
        Assert.Equal(checkpoint.Config.VocabularySize, checkpoint.Tokenizer.VocabularySize);
    }

    [Fact]
    public void The_plot_is_well_formed_and_draws_numbers()
    {
        var svg = XDocument.Load(Path.Combine(run.Folder, "reward.svg"));
        var lines = svg.Descendants().Where(e => e.Name.LocalName == "polyline").ToList();
        Assert.True(lines.Count >= 2, "reward and at least one exact match");
        var reward = lines[0].Attribute("points")!.Value.Split([' ', ',']).Select(n =>
            double.Parse(n, CultureInfo.InvariantCulture)).ToList();
        Assert.Equal(6, reward.Count); // three updates
        Assert.All(lines, l => Assert.DoesNotContain("NaN", l.Attribute("points")!.Value, StringComparison.Ordinal));
        Assert.All(reward, n => Assert.True(double.IsFinite(n)));
    }

    [Fact]
    public void The_context_of_a_turn_is_the_turn_before_and_nothing_older()
    {
        var turns = 0;
        foreach (var episode in Runs.Lines(Path.Combine(run.Folder, "trajectories.jsonl")))
        {
            var before = 0;
            foreach (var turn in episode.GetProperty("turns").EnumerateArray())
            {
                Assert.Equal(before, turn.GetProperty("context_tokens").GetInt32());
                before = turn.GetProperty("generated_tokens").GetInt32() + turn.GetProperty("observation_tokens").GetInt32();
                turns++;
            }
        }

        Assert.True(turns > 6, "the built-in model plays several turns an episode");
    }

    [Fact]
    public void The_screen_shows_progress_the_table_and_where_things_are()
    {
        var text = run.Outcome.Out;
        Assert.DoesNotContain('\u001b', text); // not a terminal
        Assert.DoesNotContain('\r', text);
        Assert.Contains("evaluating before PPO", text);
        Assert.Contains("3/3", text);
        Assert.Contains("Finished 3 updates", text);
        Assert.Contains(run.Folder, text);
        foreach (var row in new[] { "│ 1 ", "│ 2 ", "│ 4 ", "│ 8 " }) Assert.Contains(row, text);
        Assert.All(run.Outcome.OutLines.Where(l => !l.StartsWith("Run folder", StringComparison.Ordinal)), l =>
            Assert.InRange(l.Length, 0, 120));
    }

    [Fact]
    public void Resuming_a_finished_run_says_so_and_changes_nothing()
    {
        var before = Contents();
        var outcome = Cli.Run("train", "--runs", run.Runs, "--resume").Succeeded();
        Assert.Contains("finished", outcome.Out);
        Assert.Contains("--updates", outcome.Out);
        Assert.Equal(before, Contents());

        List<(string, DateTime, long)> Contents() =>
        [
            .. new DirectoryInfo(run.Folder).EnumerateFiles("*", SearchOption.AllDirectories).Select(f =>
                (f.FullName, f.LastWriteTimeUtc, f.Length)).Order(),
        ];
    }

    [Fact]
    public void A_finished_run_refuses_fewer_updates_another_seed_and_another_shape()
    {
        Refusals.Refused(["train", "--runs", run.Runs, "--resume", "quick", "--updates", "2"], "has done 3 updates already");
        Refusals.Refused(["train", "--runs", run.Runs, "--resume", "quick", "--updates", "5", "--seed", "7"], "seed 1");
        Refusals.Refused(
            ["train", "--runs", run.Runs, "--resume", "quick", "--updates", "5", "--set", "model.intermediate_size=130"],
            "step-3", "mlp.", "[130, 96]", "[128, 96]");
        Refusals.Refused(
            ["train", "--runs", run.Runs, "--resume", "quick", "--updates", "5", "--set", "model.attention_scale=standard"],
            "model.attention_scale is standard", "log_n");
    }

    [Fact]
    public void A_name_that_is_taken_is_refused()
    {
        Refusals.Refused(["train", "--quick", "--runs", run.Runs, "--name", "quick"], "not empty", "--resume quick");
    }

    [Fact]
    public void A_run_starts_from_a_checkpoint_and_its_folder_is_described_by_its_shape()
    {
        using var temp = new TempFolder();
        var from = Path.Combine(run.Folder, "checkpoints", "step-3");
        string[] small = ["--updates", "1", "--set", "evaluation.episodes=0"];
        Refusals.Refused(
            ["train", "--quick", "--runs", temp["runs"], "--set", $"model.from={from}", "--set", "model.layers=3"], "layers.2.", "step-3");
        Assert.False(Directory.Exists(temp["runs"]));
        Cli.Run(["train", "--quick", "--runs", temp["runs"], "--set", $"model.from={from}", .. small]).Succeeded();
        Cli.Run("train", "--runs", temp["runs"], "--resume", "--updates", "2").Succeeded();
        Assert.Equal([1, 2], Runs.Metrics(temp["runs", "quick"]).Select(m => m.GetProperty("update").GetInt64()));
        Assert.Contains("updates: 2\n", File.ReadAllText(temp["runs", "quick", "config.yaml"]));
    }
}
