// The configs of examples/ablations, and the command that compares them.
using System.Xml.Linq;
using Mem1.Cli.Configuration;

namespace Mem1.Cli.Tests;

public sealed class AblationTests
{
    private static readonly string s_configs = Path.Combine(Documents.Root, "examples", "ablations");

    // What each file changes of ppo.yaml, and nothing else.
    public static TheoryData<string, string> Changes => new()
    {
        { "ppo", "" },
        { "no-warm-start", "from: built-in -> new; steps: 4000 -> 0; warmup_steps: 50 -> 0" },
        { "grpo", "group_size: 1 -> 8; estimator: gae -> grpo" },
        { "layout-paper", "layout: segments -> paper; parity_alarm: 0.0001 -> 0" },
        { "layout-carry", "memory: reencode -> carry; layout: segments -> carry" },
        { "staleness-1", "staleness: 0 -> 1" },
        { "staleness-4", "staleness: 0 -> 4" },
        { "actions-only", "loss_on_state: true -> false" },
    };

    [Theory, MemberData(nameof(Changes))]
    public void A_config_changes_one_thing(string name, string changes)
    {
        string[] Lines(string file)
        {
            var config = ConfigFile.Load(Path.Combine(s_configs, file + ".yaml"), [], new RunConfig()).Config;
            Assert.Empty(config.Validate());
            return [.. ConfigFile.Write(config).Split('\n').Select(l => l.Trim())];
        }

        var (before, after) = (Lines("ppo"), Lines(name));
        Assert.Equal(before.Length, after.Length);
        Assert.Equal(
            changes, string.Join("; ", before.Zip(after).Where(p => p.First != p.Second).Select(p => $"{p.First} -> {p.Second.Split(": ")[1]}")));
    }

    [Fact]
    public void Every_config_of_the_folder_is_described() => Assert.Equal(
        Changes.Select(c => c.Data.Item1).Order(StringComparer.Ordinal),
        Directory.EnumerateFiles(s_configs, "*.yaml").Select(f => Path.GetFileNameWithoutExtension(f)).Order(StringComparer.Ordinal));

    [Fact]
    public void A_folder_is_trained_once_and_compared()
    {
        using var temp = new TempFolder();
        Directory.CreateDirectory(temp["configs"]);
        foreach (var name in new[] { "ppo", "grpo" }) File.Copy(Path.Combine(s_configs, name + ".yaml"), temp["configs", name + ".yaml"]);
        string[] command =
        [
            "ablate", "--configs", temp["configs"], "--out", temp["out"], "--set", "updates=2", "--set", "rollout.episodes_per_update=8", "--set",
            "evaluation.episodes=2", "--set", "evaluation.objectives=[1]", "--set", "ppo.warmup_updates=1",
        ];
        var first = Cli.Run(command).Succeeded();
        Assert.Contains("2 of 2", first.Error);
        Assert.Contains("| grpo | ", first.Out);
        Assert.Contains("EM 1 before", first.Out);
        Assert.Equal(2, XDocument.Load(temp["out", "learning.svg"]).Descendants().Count(e => e.Name.LocalName == "polyline"));
        var reward = Runs.Metrics(temp["out", "runs", "ppo-s1"]).Average(m => m.GetProperty("reward_mean").GetDouble());
        Assert.Equal(2, Runs.Metrics(temp["out", "runs", "grpo-s1"]).Count);
        Assert.Contains("learning.svg", File.ReadAllText(temp["out", "report.md"]));
        Assert.InRange(reward, -0.1, 1);

        var metrics = File.GetLastWriteTimeUtc(temp["out", "runs", "ppo-s1", "metrics.jsonl"]);
        Assert.Contains("2 of 2 trainings are there already", Cli.Run(command).Succeeded().Error);
        Assert.Equal(metrics, File.GetLastWriteTimeUtc(temp["out", "runs", "ppo-s1", "metrics.jsonl"]));
        Refusals.Refused(["ablate", "--configs", temp["nothing"], "--out", temp["out"]], "there is no such folder");
    }
}
