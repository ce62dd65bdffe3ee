// Damaged files that commands read: configs and recorded episodes.
using System.Text;
using Mem1.Cli.Configuration;
using Mem1.Cli.Training;
using Mem1.Learner;
using Mem1.Tests;

namespace Mem1.Cli.Tests;

public sealed class DamagedFileTests
{
    [Fact]
    public void A_config()
    {
        var sound = Encoding.UTF8.GetBytes(ConfigFile.Write(new RunConfig
        {
            Environment = new EnvironmentConfig { Curriculum = [new CurriculumStage { FromUpdate = 5, MinObjectives = 1, MaxObjectives = 2 }] },
        }));
        // YAML of a whole config takes milliseconds to read, and much more memory than it is long.
        Damage.Survives<UserErrorException>(
            sound, 60, bytes => ConfigFile.Parse(Encoding.UTF8.GetString(bytes), "config.yaml").Validate(), room: 64 << 20);
    }

    [Theory]
    [InlineData("ppo: &a {clip: 0.1}\ncloning: *a\n", "anchors")]
    [InlineData("a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\n", "anchors")]
    [InlineData("ppo: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]\n", "levels deep")]
    public void A_config_that_takes_more_than_it_is_long_is_refused(string text, string says) => Assert.Contains(
        says, Assert.Throws<UserErrorException>(() => ConfigFile.Parse(text, "config.yaml")).Message, StringComparison.Ordinal);

    [Fact]
    public void A_config_of_brackets_alone_does_not_take_the_process_down()
    {
        foreach (var text in (string[])[
            new string('[', 200_000), string.Concat(Enumerable.Repeat("{a: ", 50_000)), new string('-', 100_000), new string(' ', 2 << 20)])
            Assert.Throws<UserErrorException>(() => ConfigFile.Parse(text, "config.yaml"));
    }

    [Fact]
    public void A_recorded_episode()
    {
        var sound = Encoding.UTF8.GetBytes(new TrajectoryRecord
        {
            Update = 3,
            EpisodeId = "u3-1",
            TraceId = new string('a', 32),
            TaskId = "u3-1",
            Reward = 1,
            End = "answered",
            ExactMatch = [1],
            F1 = [1],
            Prompt = "who?",
            PromptTokens = 2,
            PromptIds = [1, 2],
            Layout = "segments",
            Turns =
            [
                new TurnRecord
                {
                    InternalState = "a", Action = "b", Information = "c", ContextTokens = 0, GeneratedTokens = 2, ObservationTokens = 1, StateTokens = 1,
                    GeneratedIds = [3, 4], GeneratedPieces = ["a", "b"], ObservationIds = [5], LogProbs = [-1, -2], PolicyVersions = [2, 2],
                },
            ],
        }.ToJson());
        Damage.Survives<UserErrorException>(sound, 5_000, bytes =>
        {
            var record = TrajectoryRecord.Parse(Encoding.UTF8.GetString(bytes), "trajectories.jsonl, line 1");
            if (record.HasTokens) ILayout.Of(LayoutKind.Segments).Describe(record.ToTrajectory());
        });
    }

    [Fact]
    public void A_trace()
    {
        var record = new TraceRecord { Update = 1, EpisodeId = "e", TraceId = "t", State = "consumed", Tries = [new TryRecord { Worker = "w" }] };
        var sound = Encoding.UTF8.GetBytes(record.ToJson());
        for (var i = 0; i < 5_000; i++) TraceRecord.Parse(Encoding.UTF8.GetString(Damage.Of(sound, i)));
    }
}
