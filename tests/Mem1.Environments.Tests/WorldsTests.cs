using Mem1.Environments.Worlds;

namespace Mem1.Environments.Tests;

public sealed class WorldsTests
{
    private static readonly WorldsOptions s_options = new();
    private static readonly WorldsTaskSource s_tasks = new(s_options);
    private static readonly WorldsEnvironmentFactory s_factory = new(s_options);

    private static readonly EnvironmentTask s_pair = new("pair",
    [
        new Objective("1", "Belize anthem", ["ant_6"]),
        new Objective("2", "Cyprus leader", ["lea_4"]),
    ]);

    private static async Task<(TurnResult Last, List<string> Responses, List<string> Observations)> Play(
        EnvironmentTask task, IExpert expert, ulong seed)
    {
        await using IEnvironment environment = s_factory.Create(task, seed);
        IExpertEpisode player = expert.Begin(task, seed);
        var responses = new List<string>();
        var observations = new List<string>();
        string? observation = null;
        while (true)
        {
            responses.Add(player.Respond(observation));
            TurnResult result = await environment.StepAsync(responses[^1], false, default);
            if (result.End != EpisodeEnd.None)
                return (result, responses, observations);
            observations.Add(observation = result.Observation);
        }
    }

    private static async Task<TurnResult> Answer(string response, ulong seed = 1, bool truncated = false)
    {
        await using IEnvironment environment = s_factory.Create(s_pair, seed);
        return await environment.StepAsync(response, truncated, default);
    }

    [Fact]
    public void VocabularyIsFixed()
    {
        Assert.Equal(346, WorldsVocabulary.Words.Count);
        Assert.Equal(346, WorldsVocabulary.Words.Distinct().Count());
        Assert.Equal(64, WorldsVocabulary.Entities.Count);
        Assert.Equal("<pad>", WorldsVocabulary.Words[0]);
        Assert.Equal("next", WorldsVocabulary.Words[14]);
        Assert.Equal("capital", WorldsVocabulary.Words[18]);
        Assert.Equal("Albania", WorldsVocabulary.Words[26]);
        Assert.Equal("cap_0", WorldsVocabulary.Words[90]);
        Assert.Equal("lan_31", WorldsVocabulary.Words[345]);
    }

    [Fact]
    public async Task TextsFollowTheFormat()
    {
        await using IEnvironment environment = s_factory.Create(s_pair, 7);
        Assert.Equal("<task> Belize anthem ; Cyprus leader ; <end>", environment.Prompt);
        Assert.Equal(4, environment.MaxTurns);
        TurnResult first = await environment.StepAsync(
            "<think> next Belize anthem </think> <search> Belize anthem </search>", false, default);
        Assert.Matches(
            @"^<information>( <doc>( [A-Z][a-z]+ [a-z]+ [a-z]{3}_\d+ \.){2}){3} </information>$", first.Observation);
        Assert.Contains("Belize anthem ant_6 .", first.Observation);
        TurnResult last = await environment.StepAsync(
            "<think> Belize anthem ant_6 next Cyprus leader </think> <answer> Belize anthem ant_6 </answer>", false, default);
        Assert.Equal((EpisodeEnd.Answered, ""), (last.End, last.Observation));
        Assert.Equal([1.0, 0.0], last.Score!.ExactMatch);
        Assert.Equal((0.5, "Belize anthem ant_6", 1), (last.Score.Reward, last.Score.Answer, last.Score.AnswerCount));
        await Assert.ThrowsAsync<InvalidOperationException>(async () => await environment.StepAsync("x", false, default));
        Assert.Throws<InvalidOperationException>(() => environment.Abort(EpisodeEnd.ContextFull));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    [InlineData(16)]
    [InlineData(32)]
    public async Task FlawlessExpertAlwaysWins(int objectives)
    {
        var expert = new WorldsExpert(WorldsExpertOptions.Flawless);
        HashSet<string> words = [.. WorldsVocabulary.Words];
        for (int i = 0; i < 20; i++)
        {
            EnvironmentTask task = s_tasks.Get(i, objectives, 3);
            (TurnResult last, List<string> responses, List<string> observations) = await Play(task, expert, (ulong)i);
            Assert.Equal((EpisodeEnd.Answered, 1.0), (last.End, last.Score!.Reward));
            Assert.Equal(objectives + 1, responses.Count);
            Assert.All(responses, r => Assert.InRange(r.Split(' ').Length, 1, WorldsOptions.MaxResponseTokens(objectives)));
            Assert.All(responses.Concat(observations).SelectMany(t => t.Split(' ')), w => Assert.Contains(w, words));
            // The value written down was in the observation.
            for (int k = 0; k < objectives; k++)
                Assert.Contains($"{task.Objectives[k].Question} {task.Objectives[k].GoldenAnswers[0]} .", observations[k]);
        }
    }

    [Fact]
    public async Task NoisyExpertErrsAboutAsOftenAsAsked()
    {
        var expert = new WorldsExpert(new WorldsExpertOptions());
        double reward = 0;
        int early = 0, unknown = 0, episodes = 600;
        for (int i = 0; i < episodes; i++)
        {
            (TurnResult last, List<string> responses, _) = await Play(s_tasks.Get(i, 2, 9), expert, (ulong)i);
            Assert.Equal(EpisodeEnd.Answered, last.End);
            reward += last.Score!.Reward;
            early += responses.Count == 2 ? 1 : 0;
            unknown += last.Score.Answer.Contains("unknown") ? 1 : 0;
        }
        Assert.InRange(early / (double)episodes, 0.24, 0.36);
        // Each objective taken down is right with 0.76; the second is taken down in 0.7 of the episodes.
        Assert.InRange(reward / episodes, 0.59, 0.70);
        Assert.InRange(unknown / (double)episodes, 0.12, 0.27);
    }

    [Theory]
    [InlineData(1, .76)]
    [InlineData(2, .646)]
    [InlineData(3, .555)]
    [InlineData(4, .48)]
    public async Task NoisyExpertEarnsWhatThePrototypesDoes(int objectives, double expected)
    {
        var expert = new WorldsExpert(new WorldsExpertOptions());
        double reward = 0;
        const int Episodes = 1500;
        for (int i = 0; i < Episodes; i++)
            reward += (await Play(s_tasks.Get(i, objectives, 21), expert, (ulong)i)).Last.Score!.Reward;
        Assert.InRange(reward / Episodes, expected - 0.04, expected + 0.04);
    }

    [Fact]
    public void TasksDependOnIndexObjectivesAndSeedOnly()
    {
        var again = new WorldsTaskSource(new WorldsOptions());
        int same = 0;
        for (int i = 0; i < 400; i++)
        {
            EnvironmentTask task = s_tasks.Get(i, 4, 5), other = again.Get(i, 4, 5);
            Assert.Equal(Text(task), Text(other));
            Assert.NotEqual(Text(task), Text(s_tasks.Get(i, 4, 6)));
            Assert.Equal(4, task.Objectives.Select(o => o.Question.Split(' ')[0]).Distinct().Count());
            Assert.Equal(4, task.Objectives.Select(o => o.GoldenAnswers[0]).Distinct().Count());
            same += task.Objectives.Select(o => o.Question.Split(' ')[1]).Distinct().Count() == 1 ? 1 : 0;
        }
        Assert.InRange(same, 160, 240);
        Assert.Throws<ArgumentOutOfRangeException>(() => s_tasks.Get(0, 33, 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => s_tasks.Get(0, 0, 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => s_tasks.Get(-1, 1, 1));

        static string Text(EnvironmentTask task) => string.Join('|', task.Objectives.Select(o => $"{o.Question}={o.GoldenAnswers[0]}"));
    }

    [Fact]
    public async Task EpisodesAreReproducible()
    {
        var expert = new WorldsExpert(new WorldsExpertOptions());
        for (ulong seed = 0; seed < 20; seed++)
        {
            var a = await Play(s_tasks.Get((long)seed, 4, 1), expert, seed);
            var b = await Play(s_tasks.Get((long)seed, 4, 1), expert, seed);
            Assert.Equal(a.Responses, b.Responses);
            Assert.Equal(a.Observations, b.Observations);
        }
    }

    [Theory]
    [InlineData("", EpisodeEnd.InvalidFormat)]
    [InlineData("garbage", EpisodeEnd.InvalidFormat)]
    [InlineData("<think> next </think>", EpisodeEnd.InvalidFormat)]
    [InlineData("<search> Belize anthem </search>", EpisodeEnd.InvalidFormat)]
    [InlineData("<think> a </think> <search> Belize </answer>", EpisodeEnd.InvalidFormat)]
    [InlineData("<think> a </think> <answer> Belize anthem ant_6 </answer> ;", EpisodeEnd.InvalidFormat)]
    [InlineData("<think> a </think> </think> <answer> Belize anthem ant_6 </answer>", EpisodeEnd.InvalidFormat)]
    [InlineData("<think> <answer> </think> <answer> Belize anthem ant_6 </answer>", EpisodeEnd.InvalidFormat)]
    [InlineData("<think> a </think> <search> b </search> <information> <doc> </information> <answer> Belize anthem ant_6 </answer>",
        EpisodeEnd.InvalidFormat)]
    [InlineData("x <think> a </think> <answer> Belize anthem ant_6 </answer>", EpisodeEnd.InvalidFormat)]
    [InlineData("<think> a </think> <search> Belize anthem </search>", EpisodeEnd.None)]
    [InlineData("<think> </think> <search> </search>", EpisodeEnd.None)]
    [InlineData("<think> </think> <answer> </answer>", EpisodeEnd.Answered)]
    public async Task FormatIsStrict(string response, EpisodeEnd expected)
    {
        TurnResult result = await Answer(response);
        Assert.Equal(expected, result.End);
        Assert.Equal(expected == EpisodeEnd.None, result.Score is null);
        if (expected == EpisodeEnd.InvalidFormat)
            Assert.Equal(-0.1, result.Score!.Reward);
        if (expected == EpisodeEnd.Answered)
            Assert.Equal(0, result.Score!.Reward);
        Assert.Equal(expected == EpisodeEnd.InvalidFormat ? EpisodeEnd.Length : expected, (await Answer(response, truncated: true)).End);
    }

    [Theory]
    [InlineData("Belize anthem ant_6 ; Cyprus leader lea_4", 1)]
    [InlineData("Cyprus leader lea_4 ; Belize anthem ant_6 ;", 1)]
    [InlineData("Belize anthem ant_6 ; Belize anthem ant_7", 0.5)] // the first entry of a key counts
    [InlineData("Belize anthem ant_7 ; Belize anthem ant_6", 0)]
    [InlineData("Belize anthem ant_6 Cyprus leader lea_4", 0)]
    [InlineData("ant_6 ; lea_4", 0)]
    [InlineData("Belize leader ant_6 ; Cyprus anthem lea_4", 0)]
    [InlineData("Belize anthem ANT_6", 0)]
    public async Task AnswersAreKeyed(string answer, double reward)
    {
        TurnResult result = await Answer($"<think> </think> <answer> {answer} </answer>");
        Assert.Equal(reward, result.Score!.Reward);
        Assert.Equal(result.Score.ExactMatch, result.Score.F1);
    }

    [Fact]
    public async Task SearchOnTheLastTurnEndsTheEpisode()
    {
        await using IEnvironment environment = s_factory.Create(s_pair, 1);
        for (int turn = 1; turn <= environment.MaxTurns; turn++)
        {
            TurnResult result = await environment.StepAsync("<think> </think> <search> Cyprus </search>", false, default);
            Assert.Equal(turn < environment.MaxTurns ? EpisodeEnd.None : EpisodeEnd.TurnLimit, result.End);
            if (turn == environment.MaxTurns)
                Assert.Equal((0.0, ""), (result.Score!.Reward, result.Observation));
        }
    }

    [Fact]
    public async Task SearchRanksEntityAboveRelation()
    {
        var firstPlaces = new int[3];
        for (ulong seed = 0; seed < 300; seed++)
        {
            await using IEnvironment environment = s_factory.Create(s_pair, seed);
            TurnResult result = await environment.StepAsync("<think> </think> <search> Cyprus leader </search>", false, default);
            string[] documents = result.Observation.Split("<doc>")[1..];
            Assert.Equal(3, documents.Length);
            // The other two places go to documents with the relation (any number of them exists only by chance).
            firstPlaces[Array.FindIndex(documents, d => d.Contains("Cyprus leader lea_4"))]++;
        }
        Assert.All(firstPlaces, n => Assert.InRange(n, 60, 140));
    }

    [Fact]
    public async Task WorldHasTheDocumentsOfTheRecipe()
    {
        for (ulong seed = 0; seed < 20; seed++)
        {
            var world = new World(s_pair, seed, s_options);
            Assert.Equal(10, world.DocumentCount);
        }
        await using IEnvironment environment = new WorldsEnvironmentFactory(new WorldsOptions { FactsUseIs = true, FactsPerEntity = 3 })
            .Create(s_pair, 1);
        TurnResult result = await environment.StepAsync("<think> </think> <search> Cyprus leader </search>", false, default);
        Assert.Matches(@"^<information>( <doc>( [A-Z][a-z]+ [a-z]+ is [a-z]{3}_\d+ \.){3}){3} </information>$", result.Observation);
    }

    [Fact]
    public async Task AbortScoresZero()
    {
        await using IEnvironment environment = s_factory.Create(s_pair, 1);
        TurnResult result = environment.Abort(EpisodeEnd.ContextFull);
        Assert.Equal((EpisodeEnd.ContextFull, 0.0), (result.End, result.Score!.Reward));
    }

    [Fact]
    public void ForeignTasksAndContradictionsAreRefused()
    {
        Assert.Throws<ArgumentException>(() => s_factory.Create(new EnvironmentTask("x", [new Objective("1", "Who?", ["me"])]), 1));
        Assert.Equal(3, new WorldsOptions { Documents = 0, FactsPerEntity = 9, InvalidFormatReward = 1 }.Validate().Count);
        Assert.Equal(2, new WorldsExpertOptions { AnswersEarly = 2, CopiesWrongDocument = .6, WritesUnknown = .6 }.Validate().Count);
        Assert.Empty(new WorldsOptions().Validate());
        Assert.Empty(new WorldsExpertOptions().Validate());
        Assert.Throws<ArgumentException>(() => new WorldsEnvironmentFactory(new WorldsOptions { Documents = 0 }));
    }
}
