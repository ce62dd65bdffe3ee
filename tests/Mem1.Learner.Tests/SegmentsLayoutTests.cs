// The layout's promise: what the gradient pass computes is what a sampler computed that re-encodes prompt ++ kept context every turn.
using Mem1.Model;
using TorchSharp;
using static TorchSharp.torch;

namespace Mem1.Learner.Tests;

public sealed class SegmentsLayoutTests
{
    public static TheoryData<bool, int, AttentionScale> Shapes => new()
    {
        { true, 0, AttentionScale.Standard },
        { false, 4, AttentionScale.LogN },
        { true, 3, AttentionScale.LogN },
        { false, 1, AttentionScale.Standard },
    };

    [Theory, MemberData(nameof(Shapes))]
    public void Log_probs_equal_those_of_a_separate_causal_forward_per_turn(bool rope, int convolution, AttentionScale scale)
    {
        var shape = TestData.Shape(rope, convolution, scale);
        using var model = new TorchDecoder(shape, TestData.Weights(shape, 1), CPU);
        var random = new Random(2);
        for (var round = 0; round < 10; round++)
        {
            var batch = Enumerable.Range(0, 4).Select(i => TestData.Trajectory(random, 31, random.Next(1, 6), $"e{i}")).ToList();
            var together = Scoring.Score(model, new SegmentsLayout(), batch, 1.0, tokenBudget: 10_000, values: true);
            for (var i = 0; i < batch.Count; i++)
            {
                var alone = batch[i].Turns.SelectMany(t => CausalForward(model, batch[i].Prompt, t)).ToArray();
                Assert.Equal(alone.Length, together[i].LogProbs.Length);
                // The two differ only in how sums are split between matrix products: a few units in the last place.
                for (var k = 0; k < alone.Length; k++) Assert.Equal(alone[k], together[i].LogProbs[k], 1e-5f);
            }
        }
    }

    [Theory, MemberData(nameof(Shapes))]
    public void A_token_that_may_not_be_seen_changes_nothing(bool rope, int convolution, AttentionScale scale)
    {
        var shape = TestData.Shape(rope, convolution, scale);
        using var model = new TorchDecoder(shape, TestData.Weights(shape, 3), CPU);
        var random = new Random(4);
        for (var round = 0; round < 40; round++)
        {
            var trajectory = TestData.Trajectory(random, 31, random.Next(2, 6));
            var (row, at, pass) = (random.Next(trajectory.Turns.Count), 0, Whole(trajectory));
            at = random.Next(pass.Batch.Rows[row].Length);
            var other = Perturb(pass, row, at);
            var (a, b) = (AllHidden(model, pass.Batch), AllHidden(model, other));
            var seen = 0;
            for (var r = 0; r < pass.Batch.Rows.Count; r++)
            {
                for (var i = 0; i < pass.Batch.Rows[r].Length; i++)
                {
                    var index = (int)pass.Batch.FlatIndex(r, i);
                    if (r == row && i >= at)
                    {
                        // Every position from the changed token on sees it (through the residual stream at the least).
                        if (!a[index].SequenceEqual(b[index])) seen++;
                    }
                    else
                    {
                        Assert.Equal(a[index], b[index]); // bit for bit
                    }
                }
            }

            Assert.True(seen > 0, "the changed token was seen by nobody, so the test could not fail");
        }
    }

    [Fact]
    public void The_same_test_fails_when_the_mask_is_widened_by_one()
    {
        // A mask one turn wider: the row of turn 1 also holds what turn 0 generated before its own context.
        var shape = TestData.Shape(rope: true, convolution: 0);
        using var model = new TorchDecoder(shape, TestData.Weights(shape, 5), CPU);
        var trajectory = TestData.Trajectory(new Random(6), 31, 3);
        var exact = SegmentsLayout.Build([trajectory], [new TurnReference(0, 2)]);
        var earlier = trajectory.Turns[0].Generated;
        TurnBatch Widened(int[] old) => new(
            exact.Batch.Trunks, [[exact.Batch.Rows[0][0], .. old, .. exact.Batch.Rows[0][1..]]], exact.Batch.TrunkOfRow);
        var a = AllHidden(model, Widened(earlier));
        var b = AllHidden(model, Widened([.. earlier.Select(t => (t + 1) % 31)]));
        Assert.NotEqual(a[^1], b[^1]);
    }

    [Fact]
    public void Splitting_by_budget_covers_every_turn_once_and_changes_no_log_prob()
    {
        var shape = TestData.Shape(rope: false, convolution: 4, AttentionScale.LogN);
        using var model = new TorchDecoder(shape, TestData.Weights(shape, 7), CPU);
        var random = new Random(8);
        var batch = Enumerable.Range(0, 9).Select(i => TestData.Trajectory(random, 31, random.Next(1, 7), $"e{i}")).ToList();
        var layout = new SegmentsLayout();
        var whole = Scoring.Score(model, layout, batch, 1.0, 1_000_000, values: true);
        foreach (var budget in new[] { 1, 40, 100, 300 })
        {
            var passes = layout.Split(batch, Scoring.AllTurns(batch), budget);
            Assert.Equal(Scoring.AllTurns(batch), passes.SelectMany(p => p.Turns).OrderBy(t => t.Trajectory).ThenBy(t => t.Turn));
            Assert.All(passes, p => Assert.True(p.PaddedTokens <= budget || p.Turns.Count == 1));
            var cut = Scoring.Score(model, layout, batch, 1.0, budget, values: true);
            for (var i = 0; i < batch.Count; i++)
            {
                for (var k = 0; k < whole[i].LogProbs.Length; k++)
                {
                    Assert.Equal(whole[i].LogProbs[k], cut[i].LogProbs[k], 1e-5f);
                    Assert.Equal(whole[i].Values[k], cut[i].Values[k], 1e-5f);
                }
            }
        }
    }

    private static float[] CausalForward(TorchDecoder model, int[] prompt, Turn turn)
    {
        // One sequence, no shared trunk: the whole context is a row of its own with an empty trunk.
        using var scope = NewDisposeScope();
        using var guard = no_grad();
        int[] sequence = [.. prompt, .. turn.Context, .. turn.Generated];
        var logProbs = nn.functional.log_softmax(model.Logits(model.Forward(new TurnBatch([[]], [sequence], [0]))), -1);
        var first = prompt.Length + turn.Context.Length;
        return [.. turn.Generated.Select((token, i) => logProbs[first + i - 1, token].item<float>())];
    }

    private static LayoutBatch Whole(Trajectory trajectory) =>
        SegmentsLayout.Build([trajectory], [.. trajectory.Turns.Select((_, j) => new TurnReference(0, j))]);

    private static TurnBatch Perturb(LayoutBatch pass, int row, int at)
    {
        var rows = pass.Batch.Rows.Select(r => (int[])r.Clone()).ToList();
        rows[row][at] = (rows[row][at] + 1) % 31;
        return new TurnBatch(pass.Batch.Trunks, rows, pass.Batch.TrunkOfRow);
    }

    private static float[][] AllHidden(TorchDecoder model, TurnBatch batch)
    {
        using var scope = NewDisposeScope();
        using var guard = no_grad();
        return [.. model.Forward(batch).data<float>().ToArray().Chunk(model.Config.HiddenSize)];
    }
}
