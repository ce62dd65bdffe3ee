using Mem1.Environments;
using Mem1.Model;
using Mem1.Protocol.V1;

namespace Mem1.Actors.Tests;

/// <summary>The rollout loop, token by token.</summary>
public sealed class EpisodeTests
{
    [Fact]
    public async Task AnEpisodeIsStreamedTurnByTurnWithExactlyItsTokens()
    {
        await using var rig = new Rig();
        await rig.StartAsync();
        var lease = FakeLearner.NewLease("e", turns: 4);
        rig.Learner.Lease(lease);
        await rig.UntilEnded(1);

        Assert.Equal(rig.Expected(lease), rig.Learner.Received.Select(Rig.WithoutTiming));
        await rig.DrainAsync();
        Assert.Equal(1, rig.Learner.CleanEnds);
        var counters = rig.Worker.Counters;
        Assert.Equal((1, 4, 0), (counters.EpisodesFinished, counters.Turns, counters.EpisodesReturned));
        Assert.Equal(rig.Learner.Received.Sum(t => t.LogProbs.Count), counters.GeneratedTokens);
        Assert.True(counters.TokensPerSecond > 0);
        Assert.Equal(1, counters.BatchOccupancy);
    }

    [Fact]
    public async Task ATokenThatStraddlesTheTagsStaysWholeAndInTheInternalState()
    {
        await using var rig = new Rig();
        // "</thin" + "k><" + "answer>...": the second token closes the internal state and opens the action.
        rig.TokenScript = _ =>
            [.. rig.Tokenizer.Encode("<think>x"), Piece("</thin"), Piece("k><"), .. rig.Tokenizer.Encode("answer>y</answer>")];
        await rig.StartAsync();
        rig.Learner.Lease(FakeLearner.NewLease("e", turns: 1));
        await rig.UntilEnded(1);

        var turn = Assert.Single(rig.Learner.Received);
        Assert.Equal([SegmentKind.Prompt, SegmentKind.InternalState, SegmentKind.Action], turn.Segments.Select(s => s.Kind));
        Assert.Equal([.. rig.Tokenizer.Encode("<think>x"), Piece("</thin"), Piece("k><")], turn.Segments[1].Tokens);
        Assert.Equal(rig.Tokenizer.Encode("answer>y</answer>"), turn.Segments[2].Tokens);
        Assert.Equal("<think>x</think><answer>y</answer>", rig.Environments.Responses.Single().Response);
        await rig.DrainAsync();
    }

    [Fact]
    public async Task WhatTheLastTokenCarriesBeyondTheStopStringIsKeptButNotRead()
    {
        await using var rig = new Rig();
        // "</searc" + "h>!" completes the stop string and one character more.
        rig.TokenScript = context => context.Contains("step", StringComparison.Ordinal)
            ? rig.Tokenizer.Encode("<think></think><answer>y</answer>")
            : [.. rig.Tokenizer.Encode("<think></think><search>q</searc"), Piece("h>!")];
        await rig.StartAsync();
        rig.Learner.Lease(FakeLearner.NewLease("e", turns: 2));
        await rig.UntilEnded(1);

        Assert.Equal("<think></think><search>q</search>", rig.Environments.Responses.First().Response);
        Assert.Equal(Piece("h>!"), rig.Learner.Received.First().Segments[^1].Tokens[^1]);
        Assert.Equal(Piece("h>!"), rig.Learner.Received.Last().Segments[2].Tokens[^1]);
        await rig.DrainAsync();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task WhatTheFormatDiscardsIsSentButNotServedAgain(bool straddled)
    {
        await using var rig = new Rig();
        rig.Environments.InternalStateEnd = "</note>";
        rig.Environments.DiscardedEnd = "</think>";
        var lease = FakeLearner.NewLease("e", turns: 3);
        var prompt = rig.Tokenizer.EncodePrompt(lease.Task.Objectives[0].Question);
        // The first response fits, and what is kept of it; all of it and the observation would not.
        rig.Options = rig.Options with { MaxContextTokens = prompt.Length + 78, MaxNewTokens = 77 };
        int[] Thoughts(int turn) => straddled
            ? [.. rig.Tokenizer.Encode("<think>" + new string('t', turn == 0 ? 57 : 5)), Piece("</thin"), Piece("k><")]
            : rig.Tokenizer.Encode($"<think>{new string('t', turn == 0 ? 62 : 5)}</think>");
        var kept = rig.Tokenizer.Encode(straddled ? "note>n</note>" : "n</note>");
        var contexts = new List<string>();
        rig.TokenScript = context =>
        {
            contexts.Add(context);
            return [.. Thoughts(contexts.Count - 1), .. kept, .. rig.Tokenizer.Encode(contexts.Count < 3 ? "<search>q</search>" : "<answer>a</answer>")];
        };
        await rig.StartAsync();
        rig.Learner.Lease(lease);
        await rig.UntilEnded(1);

        var turns = rig.Learner.Received.ToArray();
        Assert.Equal([EndReason.Unspecified, EndReason.Unspecified, EndReason.Answered], turns.Select(t => t.End));
        foreach (var (turn, j) in turns.Select((t, j) => (t, j)))
        {
            var generated = turn.Segments.Where(s => s.Generated).ToArray();
            Assert.Equal([.. Thoughts(j), .. kept], generated[0].Tokens);
            Assert.Equal(generated.Sum(s => s.Tokens.Count), turn.LogProbs.Count);
            var served = turn.Segments.Where(s => !s.Generated).SelectMany(s => s.Tokens).ToArray();
            Assert.Equal(j == 0 ? prompt : [.. prompt, .. kept, .. rig.Tokenizer.Encode("<search>q</search>"), .. turns[j - 1].Observation], served);
            Assert.Equal(rig.Tokenizer.Decode(served), contexts[j]);
        }
        await rig.DrainAsync();
    }

    [Fact]
    public async Task ALongObservationIsClippedAndKeepsItsClosingTag()
    {
        await using var rig = new Rig();
        rig.Environments.Padding = 200;
        rig.Options = rig.Options with { MaxObservationTokens = 20 };
        await rig.StartAsync();
        rig.Learner.Lease(FakeLearner.NewLease("e", turns: 2));
        await rig.UntilEnded(1);

        var (first, second) = (rig.Learner.Received.First(), rig.Learner.Received.Last());
        Assert.Equal(20, first.Observation.Count);
        Assert.Equal("<information>step 1................</information>", rig.Tokenizer.Decode([.. first.Observation]));
        Assert.Equal(first.Observation, second.Segments.Single(s => s.Kind == SegmentKind.Information).Tokens);
        Assert.Empty(second.Observation);
        await rig.DrainAsync();
    }

    [Fact]
    public async Task TheLastAllowedTurnEndsTheEpisode()
    {
        await using var rig = new Rig();
        rig.Environments.MaxTurns = 3;
        await rig.StartAsync();
        rig.Learner.Lease(FakeLearner.NewLease("e", turns: 10));
        await rig.UntilEnded(1);

        Assert.Equal([EndReason.Unspecified, EndReason.Unspecified, EndReason.TurnLimit], rig.Learner.Received.Select(t => t.End));
        Assert.Equal([null, null, 0.0], rig.Learner.Received.Select(t => t.Outcome?.Reward));
        await rig.DrainAsync();
    }

    [Fact]
    public async Task AnInvalidResponseEndsTheEpisode()
    {
        await using var rig = new Rig { Script = _ => "no tags at all" };
        await rig.StartAsync();
        rig.Learner.Lease(FakeLearner.NewLease("e", turns: 10));
        await rig.UntilEnded(1);

        var turn = Assert.Single(rig.Learner.Received);
        Assert.Equal(EndReason.InvalidFormat, turn.End);
        Assert.Equal([SegmentKind.Prompt, SegmentKind.Action], turn.Segments.Select(s => s.Kind));
        await rig.DrainAsync();
    }

    [Fact]
    public async Task AResponseThatHitsItsLimitIsTruncated()
    {
        await using var rig = new Rig();
        await rig.StartAsync();
        rig.Learner.Lease(FakeLearner.NewLease("e", turns: 3, maxNewTokens: 5));
        await rig.UntilEnded(1);

        var turn = Assert.Single(rig.Learner.Received);
        Assert.Equal((EndReason.Length, 5), (turn.End, turn.LogProbs.Count));
        Assert.True(rig.Environments.Responses.Single().Truncated);
        await rig.DrainAsync();
    }

    [Fact]
    public async Task TheEndOfTextTokenIsKeptButNotRead()
    {
        await using var rig = new Rig();
        rig.TokenScript = _ => [.. rig.Tokenizer.Encode("stop"), rig.Tokenizer.EndOfText!.Value, 0];
        await rig.StartAsync();
        rig.Learner.Lease(FakeLearner.NewLease("e", turns: 3));
        await rig.UntilEnded(1);

        Assert.Equal(rig.Tokenizer.EndOfText!.Value, rig.Learner.Received.Single().Segments[^1].Tokens[^1]);
        Assert.Equal(("stop", false), (rig.Environments.Responses.Single().Response, rig.Environments.Responses.Single().Truncated));
        await rig.DrainAsync();
    }

    [Fact]
    public async Task AContextThatWouldNotFitEndsTheEpisodeBeforeItIsServed()
    {
        await using var rig = new Rig();
        var prompt = rig.Tokenizer.EncodePrompt("e turns=10").Length;
        var response = rig.Tokenizer.Encode(CountingEnvironments.Respond("turns=10")).Length;
        var observation = rig.Tokenizer.Encode("<information>step 1</information>").Length;
        // One token short of what turn 1 needs: its context and one token more.
        rig.Options = rig.Options with
        {
            MaxContextTokens = prompt + response + observation,
            MaxNewTokens = response,
            MaxObservationTokens = observation,
        };
        await rig.StartAsync();
        rig.Learner.Lease(FakeLearner.NewLease("e", turns: 10));
        await rig.UntilEnded(1);

        var turn = Assert.Single(rig.Learner.Received);
        Assert.Equal(EndReason.ContextFull, turn.End);
        Assert.NotNull(turn.Outcome);
        Assert.Empty(turn.Observation);
        await rig.DrainAsync();
    }

    [Fact]
    public async Task APromptThatDoesNotFitHandsTheLeaseBack()
    {
        await using var rig = new Rig();
        await rig.StartAsync();
        rig.Learner.Lease(FakeLearner.NewLease("e", turns: 1, extra: new string('x', 500)));
        rig.Learner.Lease(FakeLearner.NewLease("next", turns: 1));
        await rig.UntilEnded(1);

        Assert.Contains("a context holds 1 to 399", Assert.Single(rig.Learner.Returned).Reason);
        await rig.DrainAsync();
    }

    [Fact]
    public async Task AnInvalidLeaseIsHandedBackWithTheField()
    {
        await using var rig = new Rig();
        await rig.StartAsync();
        var lease = FakeLearner.NewLease("e", turns: 1);
        lease.Sampling.TopP = 0;
        rig.Learner.Lease(lease);
        await rig.Until(() => !rig.Learner.Returned.IsEmpty, "the lease comes back");

        Assert.Contains("sampling.top_p is 0", rig.Learner.Returned.Single().Reason);
        await rig.DrainAsync();
    }

    [Fact]
    public async Task AThrowingEnvironmentIsCalledAgainWithTheSameResponse()
    {
        await using var rig = new Rig();
        rig.Environments.BeforeStep = (_, call, _) => call is 1 or 2 ? throw new IOException("index is away") : Task.CompletedTask;
        await rig.StartAsync();
        var lease = FakeLearner.NewLease("e", turns: 3);
        rig.Learner.Lease(lease);
        await rig.UntilEnded(1);

        var expected = rig.Expected(lease);
        expected[^1].Outcome.EnvironmentFailures = 2;
        Assert.Equal(expected, rig.Learner.Received.Select(Rig.WithoutTiming));
        Assert.Equal(2, rig.Worker.Counters.EnvironmentFailures);
        await rig.DrainAsync();
    }

    [Fact]
    public async Task AnEnvironmentThatKeepsThrowingHandsItsLeaseBackAndTheWorkerGoesOn()
    {
        await using var rig = new Rig();
        rig.Environments.BeforeStep = (question, call, _) =>
            question.StartsWith("bad", StringComparison.Ordinal) && call > 0 ? throw new IOException("index is away") : Task.CompletedTask;
        await rig.StartAsync();
        rig.Learner.Lease(FakeLearner.NewLease("bad", turns: 3, attempt: 2), FakeLearner.NewLease("good", turns: 3));
        await rig.UntilEnded(1);
        await rig.Until(() => !rig.Learner.Returned.IsEmpty, "the lease comes back");

        var returned = Assert.Single(rig.Learner.Returned);
        Assert.Equal(("bad", 2), (returned.EpisodeId, returned.Attempt));
        Assert.Equal("The environment failed 4 times in a row, last with IOException: index is away", returned.Reason);
        Assert.Equal(3, rig.Learner.Of("good").Count);
        await rig.DrainAsync();
        Assert.Equal((1, 1), (rig.Worker.Counters.EpisodesFinished, rig.Worker.Counters.EpisodesReturned));
    }

    [Fact]
    public async Task AnEnvironmentThatCannotBeMadeHandsItsLeaseBack()
    {
        await using var rig = new Rig();
        rig.Environments.BeforeCreate = task =>
        {
            if (task.Id == "task-bad")
                throw new FormatException("no such product");
        };
        await rig.StartAsync();
        rig.Learner.Lease(FakeLearner.NewLease("bad", turns: 3), FakeLearner.NewLease("good", turns: 3));
        await rig.UntilEnded(1);
        await rig.Until(() => !rig.Learner.Returned.IsEmpty, "the lease comes back");

        Assert.EndsWith("last with FormatException: no such product", rig.Learner.Returned.Single().Reason);
        await rig.DrainAsync();
    }

    [Fact]
    public async Task ASlowEnvironmentIsCancelledAtItsDeadlineAndCalledAgain()
    {
        await using var rig = new Rig();
        rig.Options = rig.Options with { EnvironmentDeadline = TimeSpan.FromMilliseconds(100) };
        rig.Environments.BeforeStep = (_, call, token) => call == 0 ? Task.Delay(Timeout.Infinite, token) : Task.CompletedTask;
        await rig.StartAsync();
        rig.Learner.Lease(FakeLearner.NewLease("e", turns: 2));
        await rig.UntilEnded(1);

        Assert.Equal(1, rig.Worker.Counters.EnvironmentFailures);
        Assert.Equal(1, rig.Learner.Received.Last().Outcome.EnvironmentFailures);
        await rig.DrainAsync();
    }

    [Fact]
    public async Task AnEnvironmentThatIgnoresItsCancellationIsGivenUpAndDisposedOnceItReturns()
    {
        await using var rig = new Rig();
        var limit = TimeSpan.FromMilliseconds(50);
        rig.Options = rig.Options with { EnvironmentDeadline = limit, EnvironmentGrace = limit };
        using var release = new ManualResetEventSlim();
        rig.Environments.BeforeStep = (_, _, _) =>
        {
            release.Wait(TimeSpan.FromSeconds(20));
            return Task.CompletedTask;
        };
        await rig.StartAsync();
        rig.Learner.Lease(FakeLearner.NewLease("e", turns: 2));
        await rig.Until(() => !rig.Learner.Returned.IsEmpty, "the lease comes back");

        Assert.StartsWith("The environment hangs", rig.Learner.Returned.Single().Reason);
        Assert.Equal(0, rig.Environments.Disposed);
        release.Set();
        await rig.Until(() => rig.Environments.Disposed == 1, "the environment is disposed");
        await rig.DrainAsync();
    }

    [Fact]
    public async Task AnEpisodeThatCrashesIsItsOwnProblem()
    {
        await using var rig = new Rig();
        // An engine that breaks its contract makes the episode throw, not the environment.
        rig.MakeEngine = (_, version) =>
            new ShortLogProbs(new ScriptedEngine(version, c => rig.Tokenizer.Encode(rig.Script(c)), rig.Engine));
        await rig.StartAsync();
        rig.Learner.Lease(FakeLearner.NewLease("bad", turns: 3), FakeLearner.NewLease("good", turns: 2));
        await rig.UntilEnded(1);
        await rig.Until(() => !rig.Learner.Returned.IsEmpty, "the lease comes back");

        var returned = Assert.Single(rig.Learner.Returned);
        Assert.Equal("bad", returned.EpisodeId);
        Assert.StartsWith("The episode crashed with InvalidOperationException: The engine returned", returned.Reason);
        Assert.Equal(1, rig.Worker.Counters.EpisodeCrashes);
        var crashed = Assert.Single(rig.Worker.Actors, a => a.EpisodeId == "bad");
        Assert.Equal("failed", crashed.State);
        Assert.StartsWith("InvalidOperationException: The engine returned", crashed.LastFailure, StringComparison.Ordinal);
        var played = Assert.Single(rig.Worker.Actors, a => a.EpisodeId == "good");
        Assert.Equal(["environment", "generating", "environment", "waiting"], played.Spans.Take(4).Select(s => s.Kind));
        Assert.Equal([0, 0, 1, 1], played.Spans.Where(s => s.Kind is "generating" or "waiting").Select(s => s.Turn));
        await rig.DrainAsync();
    }

    [Fact]
    public async Task ARequestTheModelRefusesHandsTheLeaseBack()
    {
        await using var rig = new Rig();
        rig.TokenScript = context => context.Contains("bad", StringComparison.Ordinal)
            ? throw new ArgumentException("id 999 is outside the vocabulary")
            : rig.Tokenizer.Encode(rig.Script(context));
        await rig.StartAsync();
        rig.Learner.Lease(FakeLearner.NewLease("bad", turns: 3), FakeLearner.NewLease("good", turns: 2));
        await rig.UntilEnded(1);
        await rig.Until(() => !rig.Learner.Returned.IsEmpty, "the lease comes back");

        Assert.Equal("The model refused the request: id 999 is outside the vocabulary", rig.Learner.Returned.Single().Reason);
        Assert.Equal(0, rig.Worker.Counters.PolicyCrashes);
        await rig.DrainAsync();
    }

    private static int Piece(string piece) => 128 + Array.IndexOf(PieceTokenizer.Pieces, piece);

    private sealed class ShortLogProbs(ScriptedEngine inner) : IGenerationEngine
    {
        private readonly HashSet<long> _bad = [];

        public long PolicyVersion => inner.PolicyVersion;
        public int Active => inner.Active;
        public long GeneratedTokens => inner.GeneratedTokens;
        public void Cancel(long id) => inner.Cancel(id);
        public void SwapWeights(ModelWeights weights, long policyVersion) => inner.SwapWeights(weights, policyVersion);
        public void Dispose() => inner.Dispose();

        public void Submit(GenerationRequest request)
        {
            if (new PieceTokenizer().Decode(request.Context).Contains("bad", StringComparison.Ordinal))
                _bad.Add(request.Id);
            inner.Submit(request);
        }

        public IReadOnlyList<GenerationResult> Step() =>
            [.. inner.Step().Select(r => _bad.Contains(r.Id) ? r with { LogProbs = r.LogProbs[1..] } : r)];
    }
}
