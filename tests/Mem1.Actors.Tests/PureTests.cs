using Akka.Actor;
using FsCheck;
using FsCheck.Fluent;
using Mem1.Model;
using Mem1.Protocol.V1;

namespace Mem1.Actors.Tests;

/// <summary>The parts without actors.</summary>
public sealed class PureTests
{
    private static readonly PieceTokenizer Tokenizer = new();

    [Fact]
    public void TheContextNeverHoldsMoreThanThePromptAndTheLastTurn()
    {
        // Sizes of state, action and information, three numbers per turn.
        var sizes = Gen.Choose(0, 11).ArrayOf();
        var property = Prop.ForAll<int[]>(sizes.ToArbitrary(), numbers =>
        {
            const int limit = 30;
            var next = 0;
            int[] Fresh(int count) => [.. Enumerable.Range(0, count).Select(_ => next++)];
            var prompt = Fresh(5);
            var context = new ConstantMemoryContext(prompt, limit);
            foreach (var turnSizes in numbers.Chunk(3).Where(chunk => chunk.Length == 3))
            {
                var (s, a, i) = (turnSizes[0], turnSizes[1], turnSizes[2]);
                var (state, action, information) = (Fresh(s), Fresh(a), Fresh(i));
                var fits = prompt.Length + s + a + i + 1 <= limit;
                if (context.NextFits(s + a, i) != fits)
                    return false;
                if (!fits)
                {
                    var before = context.ToArray();
                    Assert.Throws<InvalidOperationException>(() => context.Advance(state, action, information));
                    return before.SequenceEqual(context.ToArray());
                }
                var turn = context.Turn;
                context.Advance(state, action, information);
                int[] expected = [.. prompt, .. state, .. action, .. information];
                var holds = context.ToArray().SequenceEqual(expected) && context.Length == expected.Length && context.Turn == turn + 1 &&
                    context.Room == limit - expected.Length && context.Room >= 1 &&
                    context.Segments.SelectMany(x => x.Tokens).SequenceEqual(expected) && context.Segments.All(x => x.Tokens.Length > 0);
                if (!holds)
                    return false;
            }
            return true;
        });
        property.Check(Config.QuickThrowOnFailure.WithMaxTest(500));
    }

    [Fact]
    public void AFullContextHoldsEverythingInOrderAsLongAsItFits()
    {
        var context = new FullContext([1, 2], 12);
        Assert.Equal([1, 2], context.ToArray());
        context.Advance([3], [4, 5], [6]);
        context.Advance([], [7], [8, 9]);
        Assert.Equal([1, 2, 3, 4, 5, 6, 7, 8, 9], context.ToArray());
        Assert.Equal((2, 3), (context.Turn, context.Room));
        Assert.Equal(
            [SegmentKind.Prompt, SegmentKind.InternalState, SegmentKind.Action, SegmentKind.Information, SegmentKind.Action,
                SegmentKind.Information],
            context.Segments.Select(s => s.Kind));
        Assert.True(context.NextFits(1, 1));
        Assert.False(context.NextFits(1, 2));
        Assert.Throws<InvalidOperationException>(() => context.Advance([1], [], [2, 3]));
        Assert.Throws<ArgumentException>(() => new FullContext([], 12));
    }

    [Theory]
    [InlineData("")]
    [InlineData("0123456789")]
    public void APromptMustHaveTokensAndLeaveRoomForOne(string prompt) =>
        Assert.Throws<ArgumentException>(() => new ConstantMemoryContext(Tokenizer.Encode(prompt), 10));

    [Fact]
    public void SplittingAndClippingNeverChangeATokenAndCutAtTheTag()
    {
        // Random token strings over the pieces that make up tags, so that tags appear whole, broken and straddled.
        var random = new Random(7);
        var ids = Enumerable.Range(128, PieceTokenizer.Pieces.Length).Concat("kh>/<a".Select(c => (int)c)).ToArray();
        var split = 0;
        var clipped = 0;
        var discarded = 0;
        for (var round = 0; round < 5000; round++)
        {
            int[] tokens = [.. Enumerable.Range(0, random.Next(0, 25)).Select(_ => ids[random.Next(ids.Length)])];
            var (state, action) = ResponseTokens.Split(tokens, "</think>", Tokenizer);
            Assert.Equal(tokens, state.Concat(action));
            var text = Tokenizer.Decode(state);
            var (keptState, keptAction) = ResponseTokens.Kept(state, action, "</answer>", Tokenizer);
            int[] kept = [.. keptState, .. keptAction];
            Assert.Equal(kept, tokens[^kept.Length..]);
            Assert.Equal(Math.Min(kept.Length, action.Length), keptAction.Length);
            if (kept.Length < tokens.Length)
            {
                discarded++;
                Assert.Contains("</answer>", Tokenizer.Decode(tokens.AsSpan(0, tokens.Length - kept.Length)));
                Assert.DoesNotContain("</answer>", Tokenizer.Decode(tokens.AsSpan(0, tokens.Length - kept.Length - 1)));
            }
            else
            {
                Assert.DoesNotContain("</answer>", Tokenizer.Decode(tokens));
            }
            var (allState, allAction) = ResponseTokens.Kept(state, action, null, Tokenizer);
            Assert.Equal(state, allState);
            Assert.Equal(action, allAction);
            if (state.Length > 0)
            {
                split++;
                Assert.Contains("</think>", text);
                Assert.DoesNotContain("</think>", Tokenizer.Decode(state.AsSpan(0, state.Length - 1)));
            }
            else
            {
                Assert.DoesNotContain("</think>", Tokenizer.Decode(tokens));
            }

            var limit = random.Next(2, 12);
            var closing = Tokenizer.Encode("</information>");
            var cut = ObservationTokens.Clip(Tokenizer, tokens, "</information>", limit);
            if (tokens.Length <= limit)
            {
                Assert.Same(tokens, cut);
                continue;
            }
            Assert.Equal(limit, cut.Length);
            if (!Tokenizer.Decode(tokens).Contains("</information>", StringComparison.Ordinal))
            {
                Assert.Equal(tokens[..limit], cut);
                continue;
            }
            clipped++;
            Assert.Contains("</information>", Tokenizer.Decode(cut));
            var common = cut.Zip(tokens).TakeWhile(p => p.First == p.Second).Count();
            Assert.True(cut[common..].SequenceEqual(tokens[^(limit - common)..]) || cut[^1] == closing[0]);
        }
        Assert.True(split > 500 && clipped > 500 && discarded > 500, $"{split} {clipped} {discarded}");
    }

    [Fact]
    public void TheOutboxKeepsOrderBoundAndReturnedLeases()
    {
        var outbox = new Outbox(2);
        Assert.NotNull(outbox.Add(Turn("a", 0), ActorRefs.Nobody));
        Assert.Null(outbox.Add(Turn("a", 0), ActorRefs.Nobody));
        Assert.NotNull(outbox.Add(Turn("b", 0), ActorRefs.Nobody));
        Assert.True(outbox.IsFull);
        Assert.Null(outbox.Add(Turn("b", 1), ActorRefs.Nobody));
        Assert.Equal((2, 1), (outbox.Unacknowledged, outbox.Waiting));
        Assert.Null(outbox.Admit());

        outbox.Return(new LeaseKey("a", 1), "no");
        Assert.Equal(["b0", "return a"], outbox.Unsettled.Select(Name));
        Assert.Equal("b1", Name(outbox.Admit()!.Value.Message));
        Assert.Equal(["b0", "return a", "b1"], outbox.Unsettled.Select(Name));

        outbox.Acknowledge(new TurnKey("b", 1, 0));
        Assert.Equal(["return a", "b1"], outbox.Unsettled.Select(Name));
        outbox.Acknowledge(new TurnKey("x", 1, 0));
        outbox.Acknowledge(new TurnKey("b", 1, 1));
        Assert.Empty(outbox.Unsettled);
        Assert.Equal(0, outbox.Unacknowledged);

        static SubTrajectory Turn(string episode, int turn) => new() { EpisodeId = episode, Attempt = 1, Turn = turn };
        static string Name(WorkerMessage message) => message.BodyCase == WorkerMessage.BodyOneofCase.LeaseReturned
            ? $"return {message.LeaseReturned.EpisodeId}"
            : $"{message.SubTrajectory.EpisodeId}{message.SubTrajectory.Turn}";
    }

    [Fact]
    public void BackOffDoublesUpToItsLimitWithJitterBelow()
    {
        foreach (var jitter in (double[])[0, 0.5, 0.999])
        {
            var backoff = new Backoff(TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(10), () => jitter);
            double[] ceilings = [1, 2, 4, 8, 10, 10];
            foreach (var ceiling in ceilings)
                Assert.Equal(ceiling * (0.5 + (0.5 * jitter)), backoff.Next().TotalSeconds, 6);
            for (var i = 0; i < 100; i++)
                Assert.InRange(backoff.Next().TotalSeconds, 5, 10);
            backoff.Reset();
            Assert.InRange(backoff.Next().TotalSeconds, 0.5, 1);
        }
    }

    [Fact]
    public void TurnSeedsAreDistinctAndAFunctionOfLeaseAndTurn()
    {
        var seeds = Enumerable.Range(0, 100).SelectMany(lease => Enumerable.Range(0, 100).Select(turn => TurnSeed.Mix((ulong)lease, turn)));
        Assert.Equal(10_000, seeds.Distinct().Count());
        Assert.Equal(TurnSeed.Mix(3, 4), TurnSeed.Mix(3, 4));
    }

    [Theory]
    [InlineData(nameof(ChildRole.Episode), Directive.Stop)]
    [InlineData(nameof(ChildRole.Policy), Directive.Restart)]
    [InlineData(nameof(ChildRole.Uplink), Directive.Restart)]
    public void AnEpisodeIsStoppedTheOthersAreRestarted(string role, Directive expected) =>
        Assert.Equal(expected, RolloutSupervision.Decide(Enum.Parse<ChildRole>(role), new IOException()));
}
