// Carried memory: what the policy is asked to go on from, when an episode ends for lack of room, and that what is kept is let go.
using System.Collections.Concurrent;
using Mem1.Environments;
using Mem1.Model;
using Mem1.Protocol.V1;

namespace Mem1.Actors.Tests;

public sealed class CarryTests
{
    /// <summary>Passes everything on and remembers it.</summary>
    private sealed class Recording(IGenerationEngine inner, Recording.Log log) : IGenerationEngine
    {
        public sealed class Log
        {
            public ConcurrentQueue<GenerationRequest> Requests { get; } = new();
            public ConcurrentQueue<long> Released { get; } = new();
        }

        public long PolicyVersion => inner.PolicyVersion;
        public int Active => inner.Active;
        public long GeneratedTokens => inner.GeneratedTokens;

        public void Submit(GenerationRequest request)
        {
            log.Requests.Enqueue(request);
            inner.Submit(request);
        }

        public void Cancel(long id) => inner.Cancel(id);
        public IReadOnlyList<GenerationResult> Step() => inner.Step();
        public void SwapWeights(ModelWeights weights, long policyVersion) => inner.SwapWeights(weights, policyVersion);
        public void Release(long episode) => log.Released.Enqueue(episode);
        public void Dispose() => inner.Dispose();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task TheWholeEpisodeIsServedOnceWithItsTurnsAndIsReleasedAtItsEnd(bool discards)
    {
        await using var rig = new Rig();
        if (discards) rig.Environments.DiscardedEnd = "</think>";
        var log = new Recording.Log();
        Play(rig, log, turns: 4);
        await rig.StartAsync();
        rig.Learner.Lease(FakeLearner.NewLease("a", turns: 4));
        rig.Learner.Lease(FakeLearner.NewLease("b", turns: 4));
        await rig.UntilEnded(2);
        await rig.DrainAsync();

        var episodes = log.Requests.GroupBy(r => r.Carry!.Episode).ToList();
        Assert.Equal(2, episodes.Count);
        Assert.Equal(episodes.Select(e => e.Key).Order(), log.Released.Order());
        foreach (var requests in episodes.Select(e => e.ToArray()))
        {
            Assert.Equal(4, requests.Length);
            for (var j = 0; j < requests.Length; j++)
            {
                var carry = requests[j].Carry!;
                Assert.Equal(j, carry.Turns.Count);
                Assert.Equal(requests[j].Context.Length, carry.Prompt + carry.Turns.Sum(t => t.Length));
                if (j == 0) continue;
                // A turn goes on from all that the one before was served, and the record before it is unchanged.
                Assert.Equal(requests[j - 1].Context, requests[j].Context[..requests[j - 1].Context.Length]);
                Assert.Equal(requests[j - 1].Carry!.Turns, carry.Turns.Take(j - 1));
            }

            // What the learner hears is what it hears without carrying: prompt and the kept part of the turn before.
            var heard = rig.Learner.Received.Where(t => t.Segments[0].Tokens.SequenceEqual(requests[0].Context)).OrderBy(t => t.Turn).ToArray();
            var last = requests[^1].Carry!;
            var start = last.Prompt;
            for (var j = 0; j < last.Turns.Count; j++)
            {
                var all = requests[^1].Context[start..(start + last.Turns[j].Length)];
                start += last.Turns[j].Length;
                var served = heard.Where(t => t.Turn == j + 1 && t.EpisodeId == heard[0].EpisodeId).First()
                    .Segments.Skip(1).Where(s => !s.Generated).SelectMany(s => s.Tokens);
                Assert.Equal(all[last.Turns[j].Discarded..], served);
                Assert.Equal(discards, last.Turns[j].Discarded > 0);
            }
        }
    }

    [Fact]
    public async Task AnEpisodeThatOutgrowsThePositionsEnds()
    {
        await using var rig = new Rig();
        rig.Environments.MaxTurns = 200;
        var lease = FakeLearner.NewLease("e", turns: 200);
        var log = new Recording.Log();
        Play(rig, log, turns: 200);
        rig.Options = rig.Options with { MaxEpisodeTokens = rig.Options.MaxContextTokens };
        await rig.StartAsync();
        rig.Learner.Lease(lease);
        await rig.UntilEnded(1);
        await rig.DrainAsync();

        var turns = rig.Learner.Received.ToArray();
        // Between two turns, or within a response that no position is left for.
        Assert.True(turns[^1].End is EndReason.ContextFull or EndReason.Length, $"it ended as {turns[^1].End}");
        Assert.InRange(turns.Length, 3, 100);
        // Every token that was ever in the episode had a position.
        Assert.All(log.Requests, r => Assert.True(r.Context.Length + r.Sampling.MaxNewTokens <= rig.Options.MaxEpisodeTokens));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task AnAgentThatForgetsNothingIsServedEveryTurnWhole(bool discards)
    {
        await using var rig = new Rig();
        if (discards) rig.Environments.DiscardedEnd = "</think>";
        var log = new Recording.Log();
        Play(rig, log, turns: 4);
        rig.Options = rig.Options with { Memory = RolloutMemory.Full };
        await rig.StartAsync();
        rig.Learner.Lease(FakeLearner.NewLease("a", turns: 4));
        await rig.UntilEnded(1);
        await rig.DrainAsync();

        var turns = rig.Learner.Received.OrderBy(t => t.Turn).ToArray();
        Assert.Equal(4, turns.Length);
        int[] Context(SubTrajectory turn) => [.. turn.Segments.Where(s => !s.Generated).SelectMany(s => s.Tokens)];
        for (var j = 1; j < turns.Length; j++)
        {
            Assert.Equal(
                [.. Context(turns[j - 1]), .. turns[j - 1].Segments.Where(s => s.Generated).SelectMany(s => s.Tokens), .. turns[j - 1].Observation],
                Context(turns[j]));
        }

        Assert.Equal(turns.Select(Context), log.Requests.Select(r => r.Context));
    }

    [Fact]
    public void AHistoryCountsWhatIsVisibleAndWhatThereIs()
    {
        var history = new CarriedHistory([1, 2, 3], visibleLimit: 20, episodeLimit: 30);
        Assert.Equal(17, history.Room);
        Assert.True(history.NextFits(generated: 10, information: 7));
        Assert.False(history.NextFits(generated: 10, information: 8));
        history.Add([4, 5, 6, 7], discarded: 1, [8, 9]);
        Assert.Equal(12, history.Room); // 20 - 3 - 5 kept
        Assert.True(history.NextFits(10, 2)); // 3 + 5 + 12 are visible before the turn before is evicted
        Assert.False(history.NextFits(10, 3));
        history.Add([1, 1, 1, 1, 1, 1], discarded: 6, [2, 2]);
        Assert.Equal(13, history.Room); // 30 positions less 17 tokens; 15 would be visible
        Assert.True(history.NextFits(6, 6));
        Assert.False(history.NextFits(6, 7)); // no position for a first token of the next turn
        Assert.Equal([1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 1, 1, 1, 1, 1, 2, 2], history.Context);
        Assert.Equal([new CarriedTurn(6, 1), new CarriedTurn(8, 6)], history.Turns.Turns);
    }

    private static void Play(Rig rig, Recording.Log log, int turns)
    {
        rig.Options = rig.Options with { Memory = RolloutMemory.Carry };
        rig.MakeEngine = (_, version) => new Recording(
            new ScriptedEngine(version, Type, rig.Engine), log);

        // As many searches as there are observations to come, then an answer.
        int[] Type(string context)
        {
            var seen = context.Split("<information>").Length - 1;
            return rig.Tokenizer.Encode(seen < turns - 1
                ? $"<think>state {seen}</think><search>q</search>"
                : "<think>done</think><answer>a</answer>");
        }
    }
}
