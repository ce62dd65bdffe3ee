// The demonstration at its smallest size, killed on the way; its quotients by hand; that its agents differ in nothing but memory.
using System.Diagnostics;
using System.Text.Json;
using System.Xml.Linq;
using Mem1.Cli.Configuration;
using Mem1.Cli.Demo;

namespace Mem1.Cli.Tests;

public sealed class DemoTests
{
    [Fact]
    public void A_demonstration_that_is_killed_leaves_no_process_and_goes_on_to_its_report()
    {
        using var temp = new TempFolder();
        var demo = temp["demo"];
        using (var child = Cli.Start("demo", "--quick", "--out", demo, "--seeds", "3"))
        {
            child.Until(() => Directory.Exists(Path.Combine(demo, "runs", "mem1-s3", "checkpoints")), "the first training");
            Refusals.Refused(["demo", "--out", demo, "--resume"], "another mem1 works on", demo);
            child.Kill();
            child.Finish();
        }

        // What it had started saves and ends by itself: the locks of the runs go.
        var watch = Stopwatch.StartNew();
        while (Directory.EnumerateFiles(Path.Combine(demo, "runs"), ".lock", new EnumerationOptions { RecurseSubdirectories = true, AttributesToSkip = 0 }).Any())
        {
            Assert.True(watch.Elapsed < TimeSpan.FromMinutes(2), "a training outlived the demonstration");
            Thread.Sleep(50);
        }

        Refusals.Refused(["demo", "--out", demo], "go on with --resume", demo);
        Refusals.Refused(["demo", "--out", demo, "--resume", "--seeds", "4"], "--resume goes on with the folder's own plan");
        var outcome = Cli.Run("demo", "--out", demo, "--resume").Succeeded();
        Assert.Contains("Peak tokens, prompt included", outcome.Out);
        Assert.Contains("2 of 2 done", outcome.Error);
        Assert.Contains("Made with --quick", File.ReadAllText(Path.Combine(demo, "report.md")));
        foreach (var plot in new[] { "exact_match.svg", "peak_tokens.svg", "training.svg" }) XDocument.Load(Path.Combine(demo, plot));

        using var report = JsonDocument.Parse(File.ReadAllText(Path.Combine(demo, "report.json")));
        var cells = report.RootElement.GetProperty("evaluation").GetProperty("cells").EnumerateArray().ToArray();
        Assert.Equal(
            ["mem1 1", "mem1 2", "full 1", "full 2"],
            cells.Select(c => $"{c.GetProperty("agent").GetString()} {c.GetProperty("objectives").GetInt32()}"));
        foreach (var cell in cells)
        {
            // The cell's mean is that of the rows.
            var rows = Runs.Lines(Path.Combine(demo, "evaluations", $"{cell.GetProperty("agent").GetString()}-s3", "results.jsonl"))
                .Where(r => r.GetProperty("objectives").GetInt32() == cell.GetProperty("objectives").GetInt32()).ToArray();
            Assert.Equal(2, rows.Length);
            Assert.Equal(
                rows.Average(r => r.GetProperty("turns").EnumerateArray().Max(
                    t => t.GetProperty("context_tokens").GetInt32() + t.GetProperty("generated_tokens").GetInt32())),
                cell.GetProperty("all").GetProperty("peak_tokens").GetProperty("mean").GetDouble(), 1e-9);
        }

        // One forgets, the other does not: what a turn was served is the turn before, or everything before.
        foreach (var (agent, forgets) in new[] { ("mem1", true), ("full", false) })
        {
            Assert.Equal(2, Runs.Metrics(Path.Combine(demo, "runs", $"{agent}-s3")).Count);
            foreach (var episode in Runs.Lines(Path.Combine(demo, "runs", $"{agent}-s3", "trajectories.jsonl")))
            {
                var before = 0;
                foreach (var turn in episode.GetProperty("turns").EnumerateArray())
                {
                    Assert.Equal(before, turn.GetProperty("context_tokens").GetInt32());
                    before = (forgets ? 0 : before) + turn.GetProperty("generated_tokens").GetInt32() + turn.GetProperty("observation_tokens").GetInt32();
                }
            }
        }
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void The_agents_differ_in_their_memory_and_what_follows_from_it_alone(bool quick)
    {
        var plan = DemoPlan.Of([7], null, quick);
        string[] Lines(string agent)
        {
            var config = plan.Training(agent, 7, 1);
            Assert.Empty(config.Validate());
            return ConfigFile.Write(config).Split('\n');
        }

        var (mem1, full) = (Lines("mem1"), Lines("full"));
        Assert.Equal(mem1.Length, full.Length);
        Assert.Equal(
            ["name: mem1-s7 | name: full-s7", "memory: reencode | memory: full", "layout: segments | layout: full"],
            mem1.Zip(full).Where(p => p.First != p.Second).Select(p => $"{p.First.Trim()} | {p.Second.Trim()}"));
    }

    [Fact]
    public void An_agent_of_another_environment_is_measured_before_and_after_ppo_on_the_same_tasks()
    {
        using var temp = new TempFolder();
        var demo = temp["demo"];
        var outcome = Cli.Run("demo", "--environment", "web", "--quick", "--out", demo, "--seeds", "5").Succeeded();
        Assert.Contains("before PPO", outcome.Out);
        Assert.Contains("Actions sampled, 2 objectives: reward", outcome.Out);
        XDocument.Load(Path.Combine(demo, "training.svg"));
        Assert.Contains("Made with --quick", File.ReadAllText(Path.Combine(demo, "report.md")));
        using var report = JsonDocument.Parse(File.ReadAllText(Path.Combine(demo, "report.json")));
        Assert.Equal(2 * 2 * 2, report.RootElement.GetProperty("rows").GetArrayLength());
        Assert.All(report.RootElement.GetProperty("gains").EnumerateArray(), gain =>
        {
            double Reward(string moment) => report.RootElement.GetProperty("rows").EnumerateArray()
                .Single(r => r.GetProperty("moment").GetString() == moment
                    && r.GetProperty("decoding").GetString() == gain.GetProperty("decoding").GetString()
                    && r.GetProperty("objectives").GetInt32() == gain.GetProperty("objectives").GetInt32())
                .GetProperty("reward").GetProperty("mean").GetDouble();
            Assert.Equal(Reward("after") - Reward("before"), gain.GetProperty("reward").GetProperty("mean").GetDouble(), 1e-9);
        });

        // The clone and what PPO made of it, in the run's own web, on tasks that no update trained on.
        string PathOf(string evaluation, string file) => Path.Combine(demo, "evaluations", evaluation, file);
        string[] Tasks(string evaluation) =>
            [.. Runs.Lines(PathOf(evaluation, "results.jsonl")).Select(r => r.GetProperty("task_id").GetString()!)];
        Assert.Equal(Tasks("mem1-s5-before-greedy"), Tasks("mem1-s5-after-sampled"));
        Assert.All(Tasks("mem1-s5-before-greedy"), t => Assert.StartsWith("held-out", t));
        var settings = File.ReadAllText(PathOf("mem1-s5-before-greedy", "settings.json"));
        Assert.Contains("step-0", settings);
        Assert.Contains("\"environment\": \"web-qa\"", settings);

        // What is finished is not done again.
        var resumed = Cli.Run("demo", "--out", demo, "--resume").Succeeded();
        Assert.Contains("1 of 1 trainings and evaluations are there already", resumed.Error);
        Refusals.Refused(["demo", "--environment", "webshop", "--out", demo, "--resume"], "--environment is webshop", "in web");
    }

    [Theory]
    [InlineData("Webshop")]
    [InlineData("Web")]
    public void The_demonstrations_of_one_agent_have_sound_configs(string environment)
    {
        foreach (var quick in new[] { true, false })
        {
            var config = EnvironmentDemo.Plan(Enum.Parse<DemoEnvironment>(environment), [7], null, quick).Training("mem1", 7, 1);
            Assert.Empty(config.Validate());
            Assert.Equal(environment, config.Environment.Kind.ToString());
        }
    }

    [Fact]
    public void A_gain_whose_interval_holds_zero_is_called_none()
    {
        var plan = EnvironmentDemo.Plan(DemoEnvironment.Webshop, [1], null, quick: false);
        string Verdict(double low, double mean, double high) => Assert.Single(new ImprovementReport(
            plan, [], [], [new Gain("greedy", 1, new Evaluation.Estimate(mean, low, high), new Evaluation.Estimate(0, 0, 0))]).Verdicts());
        Assert.EndsWith("PPO raised the reward.", Verdict(0.01, 0.02, 0.03));
        Assert.EndsWith("PPO lowered the reward.", Verdict(-0.03, -0.02, -0.01));
        Assert.Contains("includes zero", Verdict(-0.01, 0.02, 0.03));
        Assert.Contains("reward +0.020 (-0.010 to +0.030)", Verdict(-0.01, 0.02, 0.03));
    }

    [Fact]
    public void Quotients_and_their_intervals_are_those_of_the_bootstrap()
    {
        Assert.Equal(new Evaluation.Estimate(2, 2, 2), DemoReport.Ratio([4, 4, 4], [2, 2], 1));
        Assert.True(double.IsPositiveInfinity(DemoReport.Ratio([1, 2], [0, 0], 1).Mean));
        Assert.True(double.IsNaN(DemoReport.Ratio([0], [0], 1).Mean));
        // Two coins of 100 tosses, 50 heads above and 25 below: the delta method's deviation of the log quotient is
        // sqrt(0.5/50 + 0.75/25) = 0.2, so 95 % lie within a factor of 1.48 about 2.
        double[] Coin(int heads) => [.. Enumerable.Range(0, 100).Select(i => i < heads ? 1.0 : 0.0)];
        var e = DemoReport.Ratio(Coin(50), Coin(25), 3);
        Assert.Equal(2, e.Mean);
        Assert.InRange(e.Low, 1.25, 1.5);
        Assert.InRange(e.High, 2.7, 3.25);
    }
}
