// mem1 trace show on the run that QuickRun made, on a carried run, and on what older versions and broken files hold.
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Xml.Linq;
using Mem1.Cli.Training;
using Mem1.Learner;

namespace Mem1.Cli.Tests;

public sealed class TraceTests(QuickRun run) : IDisposable
{
    private readonly TempFolder _temp = new();

    private string[] Recorded => File.ReadAllLines(Path.Combine(run.Folder, "trajectories.jsonl"));

    public void Dispose() => _temp.Dispose();

    [Fact]
    public void An_episode_is_shown_by_segments_with_every_token_on_request()
    {
        var record = TrajectoryRecord.Parse(Recorded[^1], "here");
        var outcome = Show("#-1", "--tokens").Succeeded();
        Assert.Contains(record.EpisodeId, outcome.Out, StringComparison.Ordinal);
        for (var j = 0; j < record.Turns.Count; j++) Assert.Contains($"state {j} ", outcome.Out, StringComparison.Ordinal);
        var tokens = outcome.OutLines.SkipWhile(l => !l.StartsWith("turn  kind", StringComparison.Ordinal)).Skip(1).ToArray();
        Assert.Equal(record.Turns.Sum(t => t.GeneratedTokens), tokens.Length);
        // By its id, or the beginning of it.
        Assert.Equal(Show("#-1").Out, Show(record.EpisodeId).Out);
    }

    [Theory, InlineData("segments"), InlineData("carry"), InlineData("paper")]
    public void The_mask_is_a_drawing_and_the_json_says_what_it_shows(string layout)
    {
        var svg = _temp["mask.svg"];
        Show("#1", "--layout", layout, "--mask", svg).Succeeded();
        var shapes = XDocument.Load(svg).Descendants().Select(e => e.Name.LocalName).ToList();
        Assert.Contains("polygon", shapes);
        Assert.True(shapes.Count(n => n == "rect") > 8);

        var json = JsonDocument.Parse(Show("#1", "--layout", layout, "--json").Succeeded().Out).RootElement;
        var record = TrajectoryRecord.Parse(Recorded[0], "here");
        var sequence = ILayout.Of(Enum.Parse<LayoutKind>(layout, ignoreCase: true)).Describe(record.ToTrajectory());
        var tokens = json.GetProperty("tokens").EnumerateArray().ToArray();
        Assert.Equal(sequence.Tokens.Select(t => t.Id), tokens.Select(t => t.GetProperty("id").GetInt32()));
        Assert.Equal(
            sequence.Tokens.Select((_, i) => sequence.Seen(i).Select(s => (s.From, s.To))),
            tokens.Select(t => t.GetProperty("sees").EnumerateArray().Select(s => (s[0].GetInt32(), s[1].GetInt32()))));
        Assert.Equal(record.Turns.Sum(t => t.GeneratedTokens), tokens.Count(t => t.GetProperty("loss").GetBoolean()));
    }

    [Fact]
    public void What_is_recorded_is_whole()
    {
        foreach (var line in Recorded)
        {
            var record = TrajectoryRecord.Parse(line, "here");
            Assert.True(record.HasTokens);
            Assert.Equal("segments", record.Layout);
            Assert.Equal(record.PromptTokens, record.PromptIds!.Length);
            foreach (var (turn, parsed) in record.Turns.Zip(record.ToTrajectory().Turns))
            {
                Assert.Equal(turn.ContextTokens, parsed.Context.Length);
                Assert.Equal(turn.GeneratedTokens, turn.Values!.Length);
                Assert.All(turn.Advantages!, a => Assert.True(float.IsFinite(a)));
                Assert.All(turn.LogProbs!, p => Assert.InRange(p, -100, 1e-3f));
                Assert.All(turn.PolicyVersions!, v => Assert.Equal(record.Update - 1, v));
            }
        }
    }

    [Fact]
    public void A_record_of_an_older_version_is_shown_as_text()
    {
        var old = JsonNode.Parse(Recorded[0])!.AsObject();
        foreach (var key in new[] { "layout", "prompt_ids" }) old.Remove(key);
        foreach (var turn in old["turns"]!.AsArray())
        {
            foreach (var key in new[]
            {
                "state_tokens", "discarded_tokens", "generated_ids", "generated_pieces", "observation_ids", "log_probs", "policy_versions",
                "values", "advantages",
            }) turn!.AsObject().Remove(key);
        }

        _temp.Write("trajectories.jsonl", old.ToJsonString() + "\n");
        Assert.Contains("text only", Cli.Run("trace", "show", _temp.FullPath, "#1").Succeeded().Out, StringComparison.Ordinal);
        Refused(Cli.Run("trace", "show", _temp.FullPath, "#1", "--mask", _temp["m.svg"]), "no token ids");
    }

    [Fact]
    public void What_is_not_there_or_broken_is_said_in_a_sentence()
    {
        Refused(Cli.Run("trace", "show", "nowhere", "#1", "--runs", run.Runs), "there is no");
        Refused(Show("#999"), "#999");
        Refused(Show("#0"), "#0");
        Refused(Show("u"), "begin with");
        Refused(Show("zebra"), "no recorded episode");
        var broken = JsonNode.Parse(Recorded[0])!.AsObject();
        broken["turns"]![0]!["log_probs"]!.AsArray().Add(1.0);
        _temp.Write("trajectories.jsonl", broken.ToJsonString() + "\nnot json\n");
        Refused(Cli.Run("trace", "show", _temp.FullPath, "#1"), "line 1 contradicts itself");
        Refused(Cli.Run("trace", "show", _temp.FullPath, "#2"), "line 2 is not a trajectory");
    }

    [Fact]
    public void A_carried_run_trains_at_parity_and_contradictions_are_refused()
    {
        Cli.Run(
            "train", "--quick", "--runs", _temp["runs"], "--updates", "2", "--set", "rollout.memory=carry", "--set", "ppo.layout=carry",
            "--set", "learner.parity_alarm=0.000000001", "--set", "evaluation.episodes=0").Succeeded();
        var metrics = Runs.Metrics(_temp["runs", "quick"]);
        foreach (var line in metrics) Assert.InRange(line.GetProperty("parity_max_abs").GetDouble(), 0, 1e-4);
        // The alarm was set where rounding alone trips it: every update counts.
        Assert.Equal([1, 2], metrics.Select(l => l.GetProperty("parity_alarms").GetInt32()));
        Refused(Cli.Run("train", "--quick", "--runs", _temp["no"], "--set", "rollout.memory=carry"), "ppo.layout is segments");
        Refused(Cli.Run("train", "--quick", "--runs", _temp["no"], "--set", "ppo.layout=carry"), "rollout.memory is reencode");
    }

    [Fact]
    public void The_layouts_are_timed_against_each_other()
    {
        var report = JsonDocument.Parse(Cli.Run(
            "bench", "learner", "--layouts", "segments,carry", "--turns", "1,3", "--size", "tiny", "--repeat", "1", "--json")
            .Succeeded().Out).RootElement;
        Assert.Equal(
            ["segments", "carry", "segments", "carry"], report.GetProperty("rows").EnumerateArray().Select(r => r.GetProperty("layout").GetString()));
        Assert.Equal(2, report.GetProperty("scaling").GetArrayLength());
        Refused(Cli.Run("bench", "learner", "--layouts", "spiral"), "spiral");
    }

    private Outcome Show(string episode, params string[] more) =>
        Cli.Run(["trace", "show", "quick", episode, "--runs", run.Runs, .. more]);

    private static void Refused(Outcome outcome, string words)
    {
        Assert.Equal(2, outcome.ExitCode);
        Assert.Contains(words, Assert.Single(outcome.ErrorLines), StringComparison.Ordinal);
    }
}
