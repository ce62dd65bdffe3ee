// Stopping in any way and going on gives, bit for bit in serial mode, what an uninterrupted run gives.
using System.Text.Json;
using Mem1.Cli.Tests;
using Mem1.Protocol.V1;

[assembly: AssemblyFixture(typeof(StraightRun))]

namespace Mem1.Cli.Tests;

/// <summary>Four serial updates without a stop: what the others are compared with.</summary>
public sealed class StraightRun : IDisposable
{
    /// <summary>Batches large enough that a signal can land inside training, and a checkpoint after every update.</summary>
    internal static readonly string[] Settings =
    [
        "--quick", "--serial", "--seed", "5", "--set", "evaluation.episodes=0", "--set", "checkpoint.every=1", "--set", "checkpoint.keep=9",
        "--set", "rollout.episodes_per_update=24", "--set", "rollout.max_episodes=24",
        // The reference policy is part of what must survive a stop.
        "--set", "ppo.kl_loss_coefficient=0.01",
    ];

    private readonly TempFolder _temp = new();

    public StraightRun() => Outcome = Cli.Run(["train", .. Settings, "--updates", "4", "--runs", _temp["runs"], "--json"]);

    internal Outcome Outcome { get; }

    public string Folder => _temp["runs", "quick"];

    public void Dispose() => _temp.Dispose();
}

public sealed class ResumeTests(StraightRun straight)
{
    [Fact]
    public void Json_prints_one_object_per_update_and_nothing_else()
    {
        straight.Outcome.Succeeded();
        Assert.Equal(File.ReadAllText(Path.Combine(straight.Folder, "metrics.jsonl")), straight.Outcome.Out);
        Assert.All(straight.Outcome.OutLines, line => Assert.Equal(JsonValueKind.Object, JsonDocument.Parse(line).RootElement.ValueKind));
        Assert.Equal(4, straight.Outcome.OutLines.Length);
    }

    [Fact]
    public void Two_updates_and_two_more_equal_four()
    {
        using var temp = new TempFolder();
        Cli.Run(["train", .. StraightRun.Settings, "--updates", "2", "--runs", temp["runs"]]).Succeeded();
        Cli.Run("train", "--resume", "--updates", "4", "--runs", temp["runs"]).Succeeded();
        Assert.Equal(Runs.Computed(straight.Folder), Runs.Computed(temp["runs", "quick"]));
        Runs.SameWeights(straight.Folder, temp["runs", "quick"], 4);
    }

    [Fact]
    public void What_a_worker_keeps_of_prompts_changes_no_number()
    {
        using var temp = new TempFolder();
        Cli.Run(["train", .. StraightRun.Settings, "--updates", "3", "--set", "rollout.prompt_cache_mib=0", "--runs", temp["runs"]]).Succeeded();
        Assert.Equal(Runs.Computed(straight.Folder).Take(3), Runs.Computed(temp["runs", "quick"]));
        Runs.SameWeights(straight.Folder, temp["runs", "quick"], 3);
    }

    [Fact]
    public void A_killed_run_goes_on_to_the_same_weights()
    {
        // On a loaded machine the program may finish before the signal is sent; then the attempt says nothing and is made again.
        for (var attempt = 1; ; attempt++)
        {
            using var temp = new TempFolder();
            var run = temp["runs", "quick"];
            using (var child = Cli.Start(["train", .. StraightRun.Settings, "--updates", "4", "--runs", temp["runs"]]))
            {
                child.Until(() => Directory.Exists(Path.Combine(run, "checkpoints", "step-1")), "the first checkpoint");
                child.Kill();
                child.Finish();
            }

            if (Runs.Metrics(run).Count == 4 && attempt < 5) continue;
            Assert.DoesNotContain(4, Runs.Steps(run));
            Cli.Run("train", "--resume", "quick", "--runs", temp["runs"]).Succeeded();
            Assert.Equal(Runs.Computed(straight.Folder), Runs.Computed(run));
            Runs.SameWeights(straight.Folder, run, 4);
            Assert.Equal([1, 1, 2, 2, 3, 3, 4, 4], Runs.Lines(Path.Combine(run, "trajectories.jsonl")).Select(t =>
                t.GetProperty("update").GetInt32()));
            return;
        }
    }

    [Fact]
    public void A_run_stopped_in_the_middle_of_a_batch_keeps_what_was_played_and_goes_on_to_the_same_weights()
    {
        // When a signal lands is not ours to say; an attempt in which it did not land in the middle of a batch says nothing.
        for (var attempt = 1; ; attempt++)
        {
            Assert.True(attempt <= 20, "No signal landed in the middle of a batch.");
            using var temp = new TempFolder();
            var run = temp["runs", "quick"];
            using (var child = Cli.Start(["train", .. StraightRun.Settings, "--updates", "4", "--runs", temp["runs"], "--json"]))
            {
                child.Until(() => child.Out.Contains('\n', StringComparison.Ordinal), "the first update");
                Thread.Sleep(10 * attempt);
                child.Signal(Child.SigInt);
                child.Finish().Succeeded();
            }

            var newest = Runs.Steps(run)[^1];
            var tasks = LedgerRecord.Parser.ParseFrom(Runs.Bytes(run, newest, "ledger.bin"));
            if (tasks.Entries.Sum(e => e.Turns.Count) == 0) continue;
            Assert.Contains(tasks.Entries, e => e.Turns.Count > 0);
            Cli.Run("train", "--resume", "quick", "--runs", temp["runs"]).Succeeded();
            Assert.Equal(Runs.Computed(straight.Folder), Runs.Computed(run));
            Runs.SameWeights(straight.Folder, run, 4);
            return;
        }
    }

    [Fact]
    public void A_run_killed_at_random_moments_ends_with_the_weights_of_one_that_was_not()
    {
        // `mem1 test --faults` sets the variable; the shorter series is part of every test run.
        var kills = Environment.GetEnvironmentVariable("MEM1_FAULTS") == "1" ? 50 : 5;
        var random = new Random(20261121);
        for (var killed = 0; killed < kills;)
        {
            using var temp = new TempFolder();
            var run = temp["runs", "quick"];
            string[] start = ["train", .. StraightRun.Settings, "--updates", "4", "--name", "quick", "--runs", temp["runs"], "--json"];
            string[] resume = ["train", "--resume", "quick", "--runs", temp["runs"], "--json"];
            while (true)
            {
                var begun = File.Exists(Path.Combine(run, "config.yaml"));
                using var child = Cli.Start(begun ? resume : start);
                // Half of the lives end at any time, the other half once the run trains, where there is more to lose.
                if (random.Next(2) == 0)
                {
                    Thread.Sleep(random.Next(2500));
                }
                else
                {
                    child.Until(() => child.HasExited || child.Error.Contains("training", StringComparison.Ordinal), "training");
                    Thread.Sleep(random.Next(1000));
                }

                if (killed < kills) child.Kill();
                var outcome = child.Finish();
                if (outcome.ExitCode == 0) break; // it was faster than the signal
                Assert.True(outcome.ExitCode == 128 + 9, $"exit code {outcome.ExitCode}: {outcome.Error}");
                killed++;
            }

            Assert.Equal(Runs.Computed(straight.Folder), Runs.Computed(run));
            Runs.SameWeights(straight.Folder, run, 4);
        }
    }

    [Fact]
    public void The_written_config_repeats_the_run_bit_for_bit()
    {
        using var temp = new TempFolder();
        Cli.Run(
            "train", "--config", Path.Combine(straight.Folder, "config.yaml"), "--name", "again", "--updates", "2", "--runs",
                temp["runs"]).Succeeded();
        Assert.Equal(Runs.Computed(straight.Folder)[..2], Runs.Computed(temp["runs", "again"]));
        Runs.SameWeights(straight.Folder, temp["runs", "again"], 2);
    }

    [Fact]
    public void A_damaged_checkpoint_is_named_and_the_run_goes_on_from_the_one_before()
    {
        using var temp = new TempFolder();
        Cli.Run(["train", .. StraightRun.Settings, "--updates", "2", "--runs", temp["runs"]]).Succeeded();
        var weights = temp["runs", "quick", "checkpoints", "step-2", "model.safetensors"];
        File.WriteAllBytes(weights, File.ReadAllBytes(weights)[..1000]);
        var resumed = Cli.Run("train", "--resume", "--updates", "4", "--runs", temp["runs"], "--json").Succeeded();
        Assert.Contains($"{weights} has 1000 bytes", resumed.Error);
        Assert.Contains("goes on from step-1", resumed.Error);
        Assert.Equal(Runs.Computed(straight.Folder), Runs.Computed(temp["runs", "quick"]));
        Runs.SameWeights(straight.Folder, temp["runs", "quick"], 2);
        Runs.SameWeights(straight.Folder, temp["runs", "quick"], 4);
    }

    [Fact]
    public void When_the_only_checkpoint_is_damaged_its_file_is_named_and_nothing_is_touched()
    {
        using var temp = new TempFolder();
        Cli.Run(["train", .. StraightRun.Settings, "--updates", "1", "--runs", temp["runs"]]).Succeeded();
        string[] resume = ["train", "--resume", "--updates", "2", "--runs", temp["runs"]];
        Directory.Delete(temp["runs", "quick", "checkpoints", "step-0"], recursive: true);
        var step = temp["runs", "quick", "checkpoints", "step-1"];
        foreach (var file in new[] { "model.safetensors", "optimizer.safetensors", "state.json", "config.json", "tokenizer.json", "manifest.txt" })
        {
            var path = Path.Combine(step, file);
            var whole = File.ReadAllBytes(path);
            File.WriteAllBytes(path, whole[..(whole.Length / 2)]);
            Refusals.Refused(resume, "step-1", file);
            File.Delete(path);
            Refusals.Refused(resume, "step-1", file);
            File.WriteAllBytes(path, whole);
        }

        Assert.Equal([1], Runs.Steps(temp["runs", "quick"]));
        Cli.Run(resume).Succeeded();
        Runs.SameWeights(straight.Folder, temp["runs", "quick"], 2);
    }

    [Fact]
    public void A_full_disk_spoils_no_checkpoint_and_the_run_goes_on_when_there_is_room()
    {
        using var temp = new TempFolder();
        using var disk = SmallDisk.Mount(temp["runs"], megabytes: 12);
        Cli.Run(["train", .. StraightRun.Settings, "--updates", "2", "--runs", disk.Path]).Succeeded();
        var run = Path.Combine(disk.Path, "quick");
        var before = Runs.Bytes(run, 2, "model.safetensors");
        disk.FillUp(leaveBytes: 400_000); // room for the logs, not for a checkpoint
        Refusals.Refused(
            ["train", "--resume", "--updates", "4", "--set", "checkpoint.disk_patience_seconds=0", "--runs", disk.Path], "step-3", "No space left", "--resume");
        Assert.Equal([0, 1, 2], Runs.Steps(run));
        Assert.Equal(before, Runs.Bytes(run, 2, "model.safetensors"));
        disk.Free();
        Cli.Run("train", "--resume", "--updates", "4", "--runs", disk.Path).Succeeded();
        Assert.Equal(Runs.Computed(straight.Folder), Runs.Computed(run));
        Runs.SameWeights(straight.Folder, run, 4);
    }
}
