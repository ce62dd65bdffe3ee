using System.Text.Json;
using Mem1.Environments.Worlds;

namespace Mem1.Environments.Tests;

/// <summary>
/// Compares with texts that the Python prototype of the family wrote (data/worlds-samples.json): its vocabulary, flawless episodes, and
/// responses of a noisy player, half of them damaged at random, with the prototype's reading and reward.
/// </summary>
public sealed class WorldsSampleTests
{
    private static readonly JsonElement s_samples =
        JsonDocument.Parse(File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "data", "worlds-samples.json"))).RootElement;

    private static EnvironmentTask Task(JsonElement sample) => new("sample",
    [
        .. sample.GetProperty("asked").EnumerateArray()
            .Select((pair, i) => new Objective($"{i}", pair[0].GetString()!, [pair[1].GetString()!])),
    ]);

    [Fact]
    public void WordsAreInTheSameOrder() =>
        Assert.Equal(s_samples.GetProperty("words").GetString(), string.Join(' ', WorldsVocabulary.Words));

    [Fact]
    public async Task FlawlessEpisodesReadTheSame()
    {
        var factory = new WorldsEnvironmentFactory(new WorldsOptions());
        var expert = new WorldsExpert(WorldsExpertOptions.Flawless);
        int compared = 0;
        foreach (JsonElement sample in s_samples.GetProperty("episodes").EnumerateArray())
        {
            EnvironmentTask task = Task(sample);
            await using IEnvironment environment = factory.Create(task, 1);
            Assert.Equal(sample.GetProperty("prompt").GetString(), environment.Prompt);
            string[] responses = [.. sample.GetProperty("responses").EnumerateArray().Select(r => r.GetString()!)];
            string?[] observations = [null, .. sample.GetProperty("observations").EnumerateArray().Select(o => o.GetString()!)];
            IExpertEpisode player = expert.Begin(task, 1);
            for (int turn = 0; turn < responses.Length; turn++, compared++)
            {
                Assert.Equal(responses[turn], player.Respond(observations[turn]));
                TurnResult result = await environment.StepAsync(responses[turn], false, default);
                if (turn == responses.Length - 1)
                    Assert.Equal(sample.GetProperty("reward").GetDouble(), result.Score!.Reward);
                else
                    Assert.Equal(Shape(observations[turn + 1]!), Shape(result.Observation));
            }
        }
        Assert.InRange(compared, 30, 1000);

        // Names and numbers differ with the random stream; the rest of the text must not.
        static string Shape(string observation) => string.Join(' ', observation.Split(' ').Select(w =>
            WorldsVocabulary.Entities.Contains(w) ? "E" : WorldsVocabulary.Relations.Contains(w) ? "R" : w.Contains('_') ? "V" : w));
    }

    [Fact]
    public void ResponsesAreReadAndPaidTheSame()
    {
        int answers = 0, broken = 0;
        foreach (JsonElement sample in s_samples.GetProperty("scored").EnumerateArray())
        {
            var world = new World(Task(sample), 1, new WorldsOptions());
            WorldsAction? action = WorldsAction.Parse(sample.GetProperty("response").GetString()!);
            Assert.Equal(sample.GetProperty("action").GetString(), action is null ? null : action.IsAnswer ? "answer" : "search");
            if (action is null)
            {
                broken++;
                continue;
            }
            Assert.Equal(sample.GetProperty("content").GetString(), string.Join(' ', action.Words));
            if (action.IsAnswer)
            {
                Assert.Equal(sample.GetProperty("reward").GetDouble(), WorldsAction.Score(action.Words, world.Asked, out _).Average(), 12);
                answers++;
            }
        }
        Assert.True(answers > 50 && broken > 20, $"{answers} answers, {broken} broken");
    }
}
