// Ctrl-C and SIGTERM at any moment: exit code 0, and a run that goes on.
namespace Mem1.Cli.Tests;

public sealed class InterruptTests
{
    private const string Endless = "1000000";

    [Theory]
    [InlineData(Child.SigInt)]
    [InlineData(Child.SigTerm)]
    public void A_stop_while_training_saves_and_says_how_to_go_on(int signal)
    {
        using var temp = new TempFolder();
        var run = temp["runs", "quick"];
        Outcome outcome;
        using (var child = Cli.Start(
            "train", "--quick", "--updates", Endless, "--set", "evaluation.episodes=0", "--set", "checkpoint.every=1000", "--runs",
                temp["runs"], "--json"))
        {
            child.Until(() => child.Out.Count(c => c == '\n') >= 2, "two updates");
            if (signal == Child.SigInt)
            {
                // A folder belongs to one program at a time, and stays its own after others were turned away.
                Refusals.Refused(["train", "--resume", "--runs", temp["runs"]], "another mem1 is running in", run);
                Refusals.Refused(["train", "--quick", "--name", "quick", "--runs", temp["runs"]], "another mem1 is running in", run);
            }

            child.Signal(signal);
            outcome = child.Finish().Succeeded();
        }

        var done = (int)Runs.Metrics(run)[^1].GetProperty("update").GetInt64();
        Assert.Equal(outcome.OutLines.Length, done);
        Assert.Equal(done, Runs.Steps(run)[^1]);
        Assert.Contains($"--runs '{temp["runs"]}' --resume quick", outcome.Error);
        Assert.True(File.Exists(Path.Combine(run, "reward.svg")));
        Assert.False(File.Exists(Path.Combine(run, ".lock")));

        Cli.Run("train", "--resume", "quick", "--updates", $"{done + 1}", "--runs", temp["runs"]).Succeeded();
        Assert.Equal(done + 1, Runs.Metrics(run).Count);
    }

    [Theory]
    [InlineData("cloning the expert", "--from-scratch", "cloning.steps=1000000")]
    [InlineData("evaluating before PPO", "--quick", "evaluation.episodes=20000")]
    public void A_stop_before_the_first_update_leaves_a_run_that_can_start_again(string phase, string option, string setting)
    {
        using var temp = new TempFolder();
        using (var child = Cli.Start("train", "--quick", option, "--set", setting, "--runs", temp["runs"], "--json"))
        {
            child.Until(() => child.Error.Contains(phase, StringComparison.Ordinal), phase);
            Thread.Sleep(300); // into the phase; earlier or later must end the same way
            child.Signal(Child.SigInt);
            var outcome = child.Finish().Succeeded();
            Assert.Contains("Interrupted before the first update", outcome.Error);
            Assert.Contains("--resume quick", outcome.Error);
        }

        Cli.Run(
            "train", "--resume", "quick", "--updates", "1", "--set", "cloning.steps=6", "--set", "evaluation.episodes=0", "--runs",
                temp["runs"])
            .Succeeded();
        Assert.Single(Runs.Metrics(temp["runs", "quick"]));
    }

    [Fact]
    public void A_warm_start_that_is_killed_or_stopped_goes_on_to_the_same_model_bit_for_bit()
    {
        string[] settings =
        [
            "--quick", "--from-scratch", "--clone-only", "--serial", "--set", "cloning.steps=100", "--set", "checkpoint.cloning_every=10",
        ];
        using var temp = new TempFolder();
        Cli.Run(["train", .. settings, "--name", "straight", "--runs", temp["runs"]]).Succeeded();
        var run = temp["runs", "again"];
        int[] Clones() => Directory.Exists(Path.Combine(run, "checkpoints"))
            ? [.. Directory.EnumerateDirectories(Path.Combine(run, "checkpoints"), "clone-*").Select(d => Path.GetFileName(d)["clone-".Length..])
                .Where(n => n.All(char.IsAsciiDigit)).Select(int.Parse).Order()]
            : [];

        using (var killed = Cli.Start(["train", .. settings, "--name", "again", "--runs", temp["runs"], "--json"]))
        {
            killed.Until(() => Clones().Length > 0, "a checkpoint of cloning");
            killed.Kill();
            killed.Finish();
        }

        var newest = Clones()[^1];
        Assert.InRange(newest, 10, 99);
        using (var stopped = Cli.Start("train", "--resume", "again", "--clone-only", "--runs", temp["runs"], "--json"))
        {
            stopped.Until(() => Clones()[^1] > newest, "the next checkpoint of cloning");
            stopped.Signal(Child.SigInt);
            stopped.Finish().Succeeded();
        }

        Assert.InRange(Clones()[^1], newest + 10, 99);
        Cli.Run("train", "--resume", "again", "--clone-only", "--runs", temp["runs"]).Succeeded();
        Assert.Equal([0], Runs.Steps(run)); // those of cloning are gone
        Assert.Equal(Runs.Bytes(temp["runs", "straight"], 0, "model.safetensors"), Runs.Bytes(run, 0, "model.safetensors"));
    }

    [Fact]
    public void A_stop_in_the_closing_evaluation_is_made_up_for_by_resuming()
    {
        using var temp = new TempFolder();
        string[] start = ["train", "--quick", "--updates", "1", "--set", "evaluation.objectives=[1]", "--runs", temp["runs"], "--json"];
        using (var child = Cli.Start([.. start, "--set", "evaluation.episodes=1500"]))
        {
            child.Until(() => child.Error.Contains("evaluating after PPO", StringComparison.Ordinal), "the closing evaluation");
            child.Signal(Child.SigInt);
            var outcome = child.Finish().Succeeded();
            Assert.Contains("--resume quick", outcome.Error);
        }

        Assert.False(File.Exists(temp["runs", "quick", "evaluation.json"]));
        Cli.Run("train", "--resume", "--set", "evaluation.episodes=4", "--runs", temp["runs"]).Succeeded();
        Assert.Equal(1, Runs.Lines(temp["runs", "quick", "evaluation.json"])[0].GetProperty("update").GetInt32());
        Assert.Single(Runs.Metrics(temp["runs", "quick"]));
    }
}
