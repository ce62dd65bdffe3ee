// Two real learner processes on loopback against one.
using System.Globalization;

namespace Mem1.Cli.Tests;

public sealed class LearnersTests
{
    private static readonly string[] s_short = ["--set", "evaluation.episodes=0", "--serial", "--json"];

    [Fact]
    public void Two_learners_make_the_updates_of_one()
    {
        using var temp = new TempFolder();
        Cli.Run(["train", "--quick", "--name", "one", "--runs", temp["runs"], "--updates", "1", .. s_short]).Succeeded();
        Cli.Run(["train", "--quick", "--name", "two", "--runs", temp["runs"], "--updates", "1", "--learners", "2", .. s_short]).Succeeded();
        var (one, two) = (Runs.Metrics(temp["runs", "one"])[0], Runs.Metrics(temp["runs", "two"])[0]);
        string[] compared =
            ["policy_loss", "value_loss", "entropy", "kl", "clip_fraction", "grad_norm", "explained_variance", "reward_mean"];
        foreach (var name in compared)
        {
            var (a, b) = (one.GetProperty(name).GetDouble(), two.GetProperty(name).GetDouble());
            Assert.True(Math.Abs(a - b) <= 1e-6 * Math.Max(1, Math.Abs(a)), $"{name}: {a:R} and {b:R}");
        }
    }

    [Fact]
    public void A_learner_that_dies_ends_the_run_with_a_sentence_and_resuming_goes_on()
    {
        using var temp = new TempFolder();
        Outcome outcome;
        using (var child = Cli.Start(
            [
                "train", "--quick", "--runs", temp["runs"], "--updates", "100000", "--learners", "2", "--set", "checkpoint.every=1",
                .. s_short,
            ]))
        {
            child.Until(() => child.Out.Count(c => c == '\n') >= 2, "two updates");
            using (var second = System.Diagnostics.Process.GetProcessById(ChildOf(child.Id))) second.Kill();
            outcome = child.Finish();
        }

        Assert.Equal(2, outcome.ExitCode);
        Assert.Matches("mem1: Learner [01] of 2.* is lost .*--resume", outcome.Error);
        var done = Runs.Steps(temp["runs", "quick"])[^1];
        Assert.True(done >= 1);
        Cli.Run(
            ["train", "--resume", "quick", "--runs", temp["runs"], "--updates", $"{done + 1}", "--learners", "2", "--json"]).Succeeded();
        Assert.Equal(done + 1, Runs.Metrics(temp["runs", "quick"])[^1].GetProperty("update").GetInt32());
    }

    [Theory]
    [InlineData("--learners 0", "--learners is 0")]
    [InlineData("--learners 2 --rank 1", "use one or the other")]
    [InlineData("--rank 1 --world 2", "go together")]
    [InlineData("--rank 2 --world 2 --rendezvous 127.0.0.1:1", "in 0 to 1")]
    [InlineData("--rank 1 --world 2 --rendezvous nowhere", "HOST:PORT")]
    [InlineData("--rank 1 --world 2 --rendezvous 127.0.0.1:1 --quick", "everything from rank 0")]
    public void Contradicting_arguments_are_refused(string arguments, string sentence)
    {
        var outcome = Cli.Run(["train", .. arguments.Split(' ')]);
        Assert.Equal(2, outcome.ExitCode);
        Assert.Contains(sentence, outcome.Error, StringComparison.Ordinal);
    }

    private static int ChildOf(int process)
    {
        foreach (var folder in Directory.EnumerateDirectories("/proc").Where(d => Path.GetFileName(d).All(char.IsAsciiDigit)))
        {
            try
            {
                // pid (name) state ppid ...: the name may hold anything, so count from its closing bracket.
                var stat = File.ReadAllText(Path.Combine(folder, "stat"));
                var parent = stat[(stat.LastIndexOf(')') + 2)..].Split(' ')[1];
                if (parent == process.ToString(CultureInfo.InvariantCulture))
                    return int.Parse(Path.GetFileName(folder), CultureInfo.InvariantCulture);
            }
            catch (IOException)
            {
                // It ended meanwhile.
            }
        }

        throw new Xunit.Sdk.XunitException($"process {process} has no child");
    }
}
