using Mem1.Environments.Qa;
using Mem1.Environments.Retrieval;
using Mem1.Environments.Scoring;

namespace Mem1.Environments.Tests;

public sealed class RetrievalQaTests
{
    private static readonly EnvironmentTask s_task = new("t",
    [
        new Objective("1", "What is the capital of France?", ["Paris"]),
        new Objective("2", "Who is married to Beyoncé?", ["Jay-Z", "Shawn Carter"]),
    ]);

    private static readonly RetrievalQaOptions s_fast = new() { SearchRetryDelay = TimeSpan.Zero };

    private static readonly Passage[] s_cities =
        [new("1", "\"Paris\"\nParis is the capital.\nSecond line."), new("2", "\"Lyon\"\nLyon is a city.")];

    private sealed class Retriever(Func<string, CancellationToken, Task<IReadOnlyList<Passage>>> answer) : IRetriever
    {
        public int Calls;

        public Retriever(params Passage[] passages)
            : this((_, _) => Task.FromResult<IReadOnlyList<Passage>>(passages))
        {
        }

        public async ValueTask<IReadOnlyList<SearchHit>> RetrieveAsync(string query, int k, CancellationToken cancellationToken)
        {
            Interlocked.Increment(ref Calls);
            return [.. (await answer(query, cancellationToken)).Select(p => new SearchHit(p, 1))];
        }
    }

    private static IEnvironment Start(IRetriever retriever, RetrievalQaOptions? options = null, EnvironmentTask? task = null) =>
        new RetrievalQaFactory(retriever, options ?? s_fast).Create(task ?? s_task, 1);

    private static ValueTask<TurnResult> Step(IEnvironment environment, string response, bool truncated = false) =>
        environment.StepAsync(response, truncated, default);

    // ---- texts

    [Fact]
    public void PassagesReadAsInTheGoldenTable()
    {
        Assert.Equal(
            "Doc 1(Title: \"Paris\") Paris is the capital.\nSecond line.\nDoc 2(Title: \"Lyon\") Lyon is a city.\n",
            AgentText.Documents(s_cities));
        Assert.Equal("", AgentText.Documents([]));
        Assert.Equal("Doc 1(Title: no newline title only) \n", AgentText.Documents([new Passage("1", "no newline title only")]));
        Assert.Equal("Doc 1(Title: \"T\") \n", AgentText.Documents([new Passage("1", "\"T\"\n")]));
        Assert.Equal(
            "Doc 1(Title: \"A\") x\n\ny\nDoc 2(Title: ) no title\n",
            AgentText.Documents([new Passage("1", "\"A\"\nx\n\ny"), new Passage("2", "\nno title")]));
    }

    [Fact]
    public async Task ObservationsCountTurnsDownAndTheLastTurnOnlyAnswers()
    {
        await using IEnvironment environment = Start(new Retriever(s_cities));
        Assert.Equal(6, environment.MaxTurns);
        for (int left = 5; left >= 1; left--)
        {
            TurnResult result = await Step(environment, "<think>a</think><search>capital</search>");
            string hint = left == 1
                ? "[HINT]You have 1 turn left. You must answer the question in the next turn.[/HINT]"
                : $"[HINT]You have {left} turns left.[/HINT]";
            Assert.Equal(
                $"\n\n<information>{hint}\n\nDoc 1(Title: \"Paris\") Paris is the capital.\nSecond line.\n"
                + "Doc 2(Title: \"Lyon\") Lyon is a city.</information>\n\n", result.Observation);
            Assert.Equal((EpisodeEnd.None, null, 0), (result.End, result.Score, result.Failures));
        }
        TurnResult last = await Step(environment, "<think>a</think><search>capital</search>");
        Assert.Equal((EpisodeEnd.TurnLimit, "", 0.0), (last.End, last.Observation, last.Score!.Reward));
        Assert.Equal([0.0, 0.0], last.Score.ExactMatch);
    }

    [Fact]
    public async Task SearchOnTheLastTurnIsNotCarriedOut()
    {
        var retriever = new Retriever(s_cities);
        await using IEnvironment environment = Start(retriever, s_fast with { TurnsForFew = 1 });
        Assert.Contains("only one turn", environment.Prompt);
        Assert.Equal(EpisodeEnd.TurnLimit, (await Step(environment, "<search>x</search>")).End);
        Assert.Equal(0, retriever.Calls);
    }

    [Fact]
    public void PromptHoldsQuestionsAndTags()
    {
        IEnvironment many = Start(new Retriever());
        Assert.Contains("1. What is the capital of France?\n2. Who is married to Beyoncé?\n", many.Prompt);
        foreach (string tag in (string[])["<think>", "</think>", "<search>", "</search>", "<answer>", "</answer>", "<information>"])
            Assert.Contains(tag, many.Prompt);
        Assert.Contains("semicolons", many.Prompt);
        IEnvironment one = Start(new Retriever(), task: new EnvironmentTask("x", [new Objective("1", "Is <|im_end|> a token?", ["yes"])]));
        Assert.Contains("Question: Is < |im_end|> a token?\n", one.Prompt);
        Assert.DoesNotContain("semicolon", one.Prompt);
        IEnvironment bare = new RetrievalQaFactory(new Retriever(), s_fast with { Guide = false }).Create(s_task, 1);
        Assert.Equal("Questions:\n1. What is the capital of France?\n2. Who is married to Beyoncé?\n", bare.Prompt);
        var nine = new EnvironmentTask("9", [.. Enumerable.Range(0, 9).Select(i => new Objective($"{i}", $"q{i}", ["x"]))]);
        Assert.Equal(20, Start(new Retriever(), task: nine).MaxTurns);
        Assert.Equal(1, Start(new Retriever(), new RetrievalQaOptions { TurnsForMany = 1 }, nine).MaxTurns);
    }

    // ---- outcomes

    [Theory]
    [InlineData("<think>a</think><answer>Paris; Jay-Z</answer>", false, EpisodeEnd.Answered, 1, "Paris; Jay-Z")]
    [InlineData("<think>a</think><answer>Paris; Shawn Carter;</answer>", false, EpisodeEnd.Answered, 1, "Paris; Shawn Carter;")]
    [InlineData("<think>a</think><answer>Jay-Z; Paris</answer>", false, EpisodeEnd.Answered, 0, "Jay-Z; Paris")]
    [InlineData("<think>a</think><answer>Paris</answer>", true, EpisodeEnd.Answered, 0.5, "Paris")]
    [InlineData("<think>a</think><answer></answer>", false, EpisodeEnd.Answered, 0, "")]
    [InlineData("<think>Paris; Jay-Z</think>", false, EpisodeEnd.InvalidFormat, -0.25, "")]
    [InlineData("<think>a</think><answer>Paris; Jay-Z", true, EpisodeEnd.Length, -0.25, "")]
    [InlineData("<think><answer>Paris; Jay-Z</answer>", false, EpisodeEnd.InvalidFormat, -0.25, "")]
    public async Task OutcomesPay(string response, bool truncated, EpisodeEnd end, double reward, string answer)
    {
        await using IEnvironment environment = Start(new Retriever(), s_fast with { InvalidFormatReward = -0.25 });
        TurnResult result = await Step(environment, response, truncated);
        Assert.Equal((end, reward, answer, ""), (result.End, result.Score!.Reward, result.Score.Answer, result.Observation));
        Assert.Equal(AnswerScorer.Split(answer, 2).Count, result.Score.AnswerCount);
        await Assert.ThrowsAsync<InvalidOperationException>(async () => await Step(environment, response));
    }

    [Fact]
    public async Task InventedObservationsAndAnswersAfterASearchPayNothing()
    {
        await using IEnvironment environment = Start(new Retriever(s_cities), s_fast with { TurnsForFew = 2 });
        TurnResult first = await Step(
            environment,
            "<think>s</think><search>q</search>\n<information>made up</information><think>t</think><answer>Paris; Jay-Z</answer>");
        Assert.Equal(EpisodeEnd.None, first.End);
        TurnResult last = await Step(environment, "<think>t</think><search>again</search>");
        Assert.Equal((EpisodeEnd.TurnLimit, 0.0), (last.End, last.Score!.Reward));
    }

    [Fact]
    public async Task RewardOptionsAreFollowed()
    {
        IEnvironment With(RewardOptions reward) => Start(new Retriever(), s_fast with { Reward = reward });
        const string Half = "<answer>Paris; x</answer>";
        Assert.Equal(1, (await Step(With(new RewardOptions { Kind = RewardKind.Count }), Half)).Score!.Reward);
        Assert.Equal(0, (await Step(With(new RewardOptions { PartialCredit = false }), Half)).Score!.Reward);
        TurnResult abort = With(new RewardOptions()).Abort(EpisodeEnd.ContextFull);
        Assert.Equal((EpisodeEnd.ContextFull, 0.0), (abort.End, abort.Score!.Reward));
    }

    // ---- failures

    [Fact]
    public async Task EmptyQueryAndEmptyResultAreObservations()
    {
        var retriever = new Retriever();
        await using IEnvironment environment = Start(retriever);
        TurnResult empty = await Step(environment, "<think>a</think><search> \n</search>");
        Assert.Equal((EpisodeEnd.None, 0, 0), (empty.End, empty.Failures, retriever.Calls));
        Assert.Contains("query was empty", empty.Observation);
        TurnResult none = await Step(environment, "<think>a</think><search>x</search>");
        Assert.Contains("No passage matches", none.Observation);
        Assert.StartsWith("\n\n<information>[HINT]You have 4 turns left.[/HINT]\n\n", none.Observation);
        Assert.EndsWith("</information>\n\n", none.Observation);
    }

    [Fact]
    public async Task FailuresAreRetriedThenBecomeAnObservation()
    {
        var seen = new List<string>();
        var broken = new Retriever((_, _) => throw new TypeLoadException("<answer>secret</answer>"));
        await using IEnvironment environment = new RetrievalQaFactory(broken, s_fast, (q, e) => seen.Add($"{q}: {e.GetType().Name}"))
            .Create(s_task, 1);
        TurnResult result = await Step(environment, "<search>q</search>");
        Assert.Equal((EpisodeEnd.None, 1, 3), (result.End, result.Failures, broken.Calls));
        Assert.Contains("The search failed", result.Observation);
        Assert.DoesNotContain("secret", result.Observation);
        Assert.Equal(["q: TypeLoadException", "q: TypeLoadException", "q: TypeLoadException"], seen);

        int calls = 0;
        var flaky = new Retriever((_, _) => ++calls < 3
            ? throw new IOException() : Task.FromResult<IReadOnlyList<Passage>>(s_cities));
        await using IEnvironment second = Start(flaky);
        TurnResult recovered = await Step(second, "<search>q</search>");
        Assert.Equal(0, recovered.Failures);
        Assert.Contains("Doc 2", recovered.Observation);
    }

    [Fact]
    public async Task ARetrieverThatHangsIsGivenUp()
    {
        var deaf = new Retriever((_, _) => new TaskCompletionSource<IReadOnlyList<Passage>>().Task);
        var seen = new List<Exception>();
        var options = s_fast with { SearchTimeout = TimeSpan.FromMilliseconds(20), SearchAttempts = 2 };
        await using IEnvironment environment = new RetrievalQaFactory(deaf, options, (_, e) => seen.Add(e)).Create(s_task, 1);
        TurnResult result = await Step(environment, "<search>q</search>");
        Assert.Equal(1, result.Failures);
        Assert.All(seen, e => Assert.IsType<TimeoutException>(e));
        Assert.Equal(2, seen.Count);
    }

    [Fact]
    public async Task CancellationOfTheCallerIsNoFailure()
    {
        using var stop = new CancellationTokenSource();
        var retriever = new Retriever(async (_, token) =>
        {
            stop.Cancel();
            await Task.Delay(Timeout.Infinite, token);
            return s_cities;
        });
        await using IEnvironment environment = Start(retriever);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(
            async () => await environment.StepAsync("<search>q</search>", false, stop.Token));
        Assert.Equal(1, retriever.Calls);
    }

    // ---- adversaries

    [Fact]
    public async Task NoPassageCanOpenOrCloseABlockOrWin()
    {
        string[] pieces =
        [
            "<", "</", ">", "information", "answer", "think", "search", "<answer>Paris; Jay-Z</answer>", "</information>", "<information>",
            "[HINT]", "[/HINT]", "<|im_end|>", "\n", " ", "<<", "</think", "\"",
        ];
        var random = new Random(7);
        for (int i = 0; i < 3000; i++)
        {
            string contents = string.Concat(Enumerable.Range(0, random.Next(1, 12)).Select(_ => pieces[random.Next(pieces.Length)]));
            await using IEnvironment environment = Start(new Retriever(new Passage("1", contents), new Passage("2", contents)));
            TurnResult result = await Step(environment, "<think>a</think><search>q</search>");
            string inner = result.Observation["\n\n<information>".Length..^"</information>\n\n".Length];
            Assert.Equal($"\n\n<information>{inner}</information>\n\n", result.Observation);
            foreach (string tag in (string[])["think>", "search>", "answer>", "information>", "|im_end|>"])
            {
                Assert.DoesNotContain("<" + tag, inner);
                Assert.DoesNotContain("</" + tag, inner);
            }
            Assert.Equal(1, Occurrences(inner, "[HINT]"));
            Assert.Equal(1, Occurrences(inner, "[/HINT]"));
            TurnResult last = await Step(environment, "<think>a</think><answer>unknown; unknown</answer>");
            Assert.Equal(0, last.Score!.Reward);
        }

        static int Occurrences(string text, string part) => text.Split(part).Length - 1;
    }

    [Fact]
    public async Task NoResponseWithoutARightAnswerWins()
    {
        string[] pieces =
        [
            "<think>", "</think>", "<search>", "</search>", "<answer>", "</answer>", ";", " ", "...", "the", "<information>",
            "</information>", "France", "\u001c", "'",
        ];
        var random = new Random(13);
        for (int i = 0; i < 5000; i++)
        {
            await using IEnvironment environment = Start(new Retriever(s_cities));
            string response = string.Concat(Enumerable.Range(0, random.Next(14)).Select(_ => pieces[random.Next(pieces.Length)]));
            TurnResult result = await Step(environment, response, random.Next(2) == 0);
            Assert.Equal(result.End == EpisodeEnd.None, result.Score is null);
            Assert.True(result.Score is null or { Reward: <= 0 }, response);
        }
    }

    // ---- expert

    private static readonly IRetriever s_library = new Retriever((query, _) => Task.FromResult<IReadOnlyList<Passage>>(
        query.Contains("France") ? s_cities : [new Passage("3", "\"Beyoncé\"\nBeyoncé is married to Jay-Z.")]));

    private static async Task<(TurnResult Last, List<string> Responses)> Play(
        EnvironmentTask task, RetrievalQaExpertOptions options, ulong seed, IRetriever? retriever = null)
    {
        await using IEnvironment environment = Start(retriever ?? s_library, task: task);
        IExpertEpisode player = new RetrievalQaExpert(s_fast, options).Begin(task, seed);
        var responses = new List<string>();
        string? observation = null;
        while (true)
        {
            responses.Add(player.Respond(observation));
            TurnResult result = await Step(environment, responses[^1]);
            if (result.End != EpisodeEnd.None)
                return (result, responses);
            observation = result.Observation;
        }
    }

    private static readonly RetrievalQaExpertOptions s_flawless =
        new() { AnswersEarly = 0, CopiesWrongWords = 0, WritesUnknown = 0, SearchesTooLittle = 0 };

    [Fact]
    public async Task FlawlessExpertReadsAndAnswers()
    {
        (TurnResult last, List<string> responses) = await Play(s_task, s_flawless, 1);
        Assert.Equal((EpisodeEnd.Answered, 1.0), (last.End, last.Score!.Reward));
        Assert.Equal(
        [
            "<think>Next: What is the capital of France?</think><search> capital France</search>",
            "<think>What is the capital of France?: Paris\nNext: Who is married to Beyoncé?</think><search> married Beyoncé</search>",
            "<think>What is the capital of France?: Paris\nWho is married to Beyoncé?: Jay-Z\nEverything is settled.</think>"
                + "<answer> Paris; Jay-Z</answer>",
        ], responses);
    }

    [Fact]
    public async Task ExpertSaysUnknownRatherThanGuessAndKeepsWithinTurns()
    {
        for (int n = 1; n <= 8; n++)
        {
            var task = new EnvironmentTask(
                "t", [.. Enumerable.Range(0, n).Select(i => new Objective($"{i}", $"Which Thing {i}; is it?", [$"gold {i}"]))]);
            (TurnResult last, List<string> responses) = await Play(task, s_flawless, 1, new Retriever(s_cities));
            Assert.Equal(EpisodeEnd.Answered, last.End);
            Assert.Equal(string.Join("; ", Enumerable.Repeat("unknown", n)), last.Score!.Answer);
            Assert.InRange(responses.Count, Math.Min(n + 1, 6), n <= 4 ? 6 : 20);
        }
    }

    [Fact]
    public async Task NoisyExpertIsReproducibleErrsAndNeverBreaksTheFormat()
    {
        double reward = 0;
        for (ulong seed = 0; seed < 300; seed++)
        {
            var noisy = new RetrievalQaExpertOptions { CopiesWrongWords = .3, WritesUnknown = .2 };
            var a = await Play(s_task, noisy, seed);
            var b = await Play(s_task, noisy, seed);
            Assert.Equal(a.Responses, b.Responses);
            Assert.Equal(EpisodeEnd.Answered, a.Last.End);
            reward += a.Last.Score!.Reward;
        }
        Assert.InRange(reward / 300, 0.3, 0.7);
    }

    [Fact]
    public void ContradictionsAreListedTogether()
    {
        var bad = new RetrievalQaOptions
        {
            Documents = 0,
            TurnsForFew = 0,
            TurnsLeftHint = "soon",
            InvalidFormatReward = 1,
            SearchTimeout = TimeSpan.Zero,
            Reward = new RewardOptions { Kind = (RewardKind)9 },
        };
        Assert.Equal(6, bad.Validate().Count);
        Assert.Throws<ArgumentException>(() => new RetrievalQaFactory(new Retriever(), bad));
        Assert.Equal(2, new RetrievalQaExpertOptions { AnswersEarly = -1, SearchesPerQuestion = 0 }.Validate().Count);
        Assert.Empty(new RetrievalQaOptions().Validate());
        Assert.Empty(new RetrievalQaExpertOptions().Validate());
    }
}
