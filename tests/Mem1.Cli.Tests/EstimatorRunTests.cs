using System.Text.Json;
using Mem1.Protocol.V1;

namespace Mem1.Cli.Tests;

public sealed class EstimatorRunTests : IDisposable
{
    private readonly TempFolder _temp = new();

    public void Dispose() => _temp.Dispose();

    [Fact]
    public void Episodes_of_a_group_play_one_task_and_draw_for_themselves()
    {
        Cli.Run(
            "train", "--quick", "--updates", "1", "--runs", _temp["runs"], "--set", "evaluation.episodes=0", "--set",
            "ppo.estimator=grpo", "--set", "rollout.group_size=4", "--set", "checkpoint.sampled_trajectories=8", "--set",
            "rollout.temperature=1.5", "--set", "ppo.shaping.answer_gain=0.1", "--set", "ppo.overlong=mask").Succeeded();
        var episodes = File.ReadLines(Path.Combine(_temp["runs"], "quick", "trajectories.jsonl"))
            .Select(line => JsonDocument.Parse(line).RootElement).ToList();
        Assert.Equal(8, episodes.Count);
        Assert.Equal(8, episodes.Select(e => e.GetProperty("episode_id").GetString()).Distinct().Count());
        var prompts = episodes.Select(e => e.GetProperty("prompt").GetString()).ToList();
        Assert.Single(prompts.Take(4).Distinct());
        Assert.Single(prompts.Skip(4).Distinct());
        Assert.NotEqual(prompts[0], prompts[4]);
        // At this temperature hardly two draw alike.
        Assert.True(episodes.Select(e => e.GetProperty("turns").ToString()).Distinct().Count() > 2);
        var metrics = Runs.Metrics(Path.Combine(_temp["runs"], "quick"))[0];
        Assert.Equal(JsonValueKind.Null, metrics.GetProperty("value_loss").ValueKind);
        string[] keys = ["reward_outcome", "reward_format", "reward_turns", "reward_answer_gain", "entropy_state", "ratio_max", "kl_k3"];
        foreach (var key in keys)
            Assert.Equal(JsonValueKind.Number, metrics.GetProperty(key).ValueKind);
    }

    [Fact]
    public void A_run_with_groups_that_is_stopped_equals_one_that_is_not()
    {
        string[] settings =
        [
            "--quick", "--serial", "--set", "evaluation.episodes=0", "--set", "ppo.estimator=grpo", "--set", "rollout.group_size=4", "--set",
            "rollout.episodes_per_update=24", "--set", "rollout.max_episodes=24", "--set", "rollout.temperature=1.5", "--set",
            "ppo.shaping.answer_gain=0.1", "--set", "checkpoint.every=1", "--set", "checkpoint.keep=9", "--runs", _temp["runs"],
        ];
        var straight = _temp["runs", "straight"];
        Cli.Run(["train", .. settings, "--updates", "3", "--name", "straight"]).Succeeded();

        // Stopped between two updates.
        Cli.Run(["train", .. settings, "--updates", "2", "--name", "two"]).Succeeded();
        Cli.Run("train", "--resume", "two", "--updates", "3", "--runs", _temp["runs"]).Succeeded();
        Same(_temp["runs", "two"]);

        // Stopped in the middle of a batch: whole trajectories and turns of the others are in the checkpoint. When a signal lands is not
        // ours to say; an attempt in which it did not land there says nothing.
        for (var attempt = 1; ; attempt++)
        {
            Assert.True(attempt <= 20, "No signal landed in the middle of a batch.");
            var run = _temp["runs", $"cut-{attempt}"];
            using (var child = Cli.Start(["train", .. settings, "--updates", "3", "--name", $"cut-{attempt}", "--json"]))
            {
                child.Until(() => child.Out.Contains('\n', StringComparison.Ordinal), "the first update");
                Thread.Sleep(15 * attempt);
                child.Signal(Child.SigInt);
                child.Finish().Succeeded();
            }

            var newest = Runs.Steps(run)[^1];
            var tasks = LedgerRecord.Parser.ParseFrom(Runs.Bytes(run, newest, "ledger.bin"));
            if (!tasks.Entries.Any(e => e.Turns.Count > 0)) continue;
            Assert.All(tasks.Entries, e => Assert.True(e.Terms.HasSamplingSeed));
            Cli.Run("train", "--resume", $"cut-{attempt}", "--runs", _temp["runs"]).Succeeded();
            Same(run);
            return;
        }

        void Same(string run)
        {
            Assert.Equal(Runs.Computed(straight), Runs.Computed(run));
            Runs.SameWeights(straight, run, 3);
            for (var step = 1; step <= 3; step++)
            {
                using var state = JsonDocument.Parse(Runs.Bytes(run, step, "state.json"));
                Assert.Equal(step * 24 / 4, state.RootElement.GetProperty("next_task").GetInt64()); // tasks, not episodes
            }
        }
    }

    [Fact]
    public void A_run_that_diverges_stops_with_the_step_saved_and_replay_finds_where()
    {
        var run = Cli.Run(
            "train", "--quick", "--runs", _temp["runs"], "--set", "evaluation.episodes=0", "--set", "ppo.entropy_coefficient=3e38", "--set",
            "ppo.max_skipped_steps=2");
        Assert.Equal(2, run.ExitCode);
        Assert.Contains("Training has diverged: loss or gradient was not finite in 3 steps in a row, the last of update 2", run.Error);
        var step = Path.Combine(_temp["runs"], "quick", "diverged", "update-2", "step.json");
        Assert.Contains($"./mem1 replay {step}", run.Error);
        Assert.Contains("--resume quick --set ppo.learning_rate=", run.Error);
        Assert.Equal([0], Runs.Steps(Path.Combine(_temp["runs"], "quick"))); // what was there before is untouched
        Assert.Equal(2, Runs.Metrics(Path.Combine(_temp["runs"], "quick"))[0].GetProperty("skipped_updates").GetInt32());

        var replay = Cli.Run("replay", step).Succeeded();
        Assert.Contains("Update 2, a step over 4 of 8 episodes", replay.Out);
        Assert.Contains("loss: ", replay.Out);
    }

    [Fact]
    public void Replay_of_nothing()
    {
        var outcome = Cli.Run("replay", _temp["none.json"]);
        Assert.Equal(2, outcome.ExitCode);
        Assert.Contains("none.json", outcome.Error);
    }
}
