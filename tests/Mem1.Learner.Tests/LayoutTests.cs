// Every layout against its rule written down in a line and computed densely in float64; what cannot be seen, even through other tokens,
// changes nothing, bit for bit; the description of a layout is what its batches compute.
using System.Text.Json;
using Mem1.Environments;
using Mem1.Model;
using TorchSharp;
using static TorchSharp.torch;

namespace Mem1.Learner.Tests;

public sealed class LayoutTests
{
    public static TheoryData<LayoutKind, bool, int, AttentionScale> Cases()
    {
        var data = new TheoryData<LayoutKind, bool, int, AttentionScale>();
        foreach (var kind in Enum.GetValues<LayoutKind>())
        {
            data.Add(kind, true, 0, AttentionScale.Standard);
            data.Add(kind, false, 4, AttentionScale.LogN);
            data.Add(kind, true, 3, AttentionScale.LogN);
        }

        return data;
    }

    [Theory, MemberData(nameof(Cases))]
    public void Log_probs_equal_dense_masked_attention(LayoutKind kind, bool rope, int convolution, AttentionScale scale)
    {
        var shape = TestData.Shape(rope, convolution, scale);
        var weights = TestData.Weights(shape, 11);
        using var model = new TorchDecoder(shape, weights, CPU);
        var oracle = new DenseOracle(shape, weights);
        var random = new Random(12);
        for (var round = 0; round < 6; round++)
        {
            // Turns of one token too: shorter than the convolutions reach.
            var longest = round < 3 ? 3 : 7;
            var batch = Enumerable.Range(0, 3)
                .Select(i => TestData.Trajectory(random, 31, random.Next(1, 7), $"e{i}", maxLength: longest, discards: i == 0)).ToList();
            var scores = Scoring.Score(model, ILayout.Of(kind), batch, 1.0, tokenBudget: 150, values: false);
            for (var i = 0; i < batch.Count; i++)
            {
                var dense = Rule.Of(kind, batch[i]);
                var all = oracle.LogProbs(dense.Sequence);
                Assert.Equal(dense.Predictions.Count, scores[i].LogProbs.Length);
                for (var k = 0; k < scores[i].LogProbs.Length; k++)
                    Assert.Equal(all[dense.Predictions[k]][dense.Targets[k]], scores[i].LogProbs[k], 1e-5);
            }
        }
    }

    [Theory, MemberData(nameof(Cases))]
    public void The_description_is_the_rule(LayoutKind kind, bool rope, int convolution, AttentionScale scale)
    {
        _ = (rope, convolution, scale); // the description does not depend on the model
        var random = new Random(21);
        for (var round = 0; round < 20; round++)
        {
            var trajectory = TestData.Trajectory(random, 31, random.Next(1, 7), discards: round % 2 == 0);
            var (described, dense) = (ILayout.Of(kind).Describe(trajectory), Rule.Of(kind, trajectory));
            Assert.Equal(dense.Sequence.Tokens, described.Tokens.Select(t => t.Id));
            Assert.Equal(dense.Sequence.Positions, described.Tokens.Select(t => t.Position));
            Assert.Equal(dense.Predictions, described.Tokens.Where(t => t.Loss).Select(t => t.Predictor));
            Assert.Equal(dense.Targets, described.Tokens.Where(t => t.Loss).Select(t => t.Id));
            for (var a = 0; a < described.Tokens.Count; a++)
            {
                for (var b = 0; b < described.Tokens.Count; b++) Assert.Equal(dense.Sequence.Sees(a, b), described.Sees(a, b));
                Assert.Equal(Enumerable.Range(0, a + 1).Count(b => dense.Sequence.Sees(a, b)), described.Visible(a));
            }
        }
    }

    [Fact]
    public void The_paper_layout_is_that_of_the_golden_file()
    {
        using var golden = JsonDocument.Parse(File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "data", "paper-mask.json")));
        var cases = 0;
        foreach (var element in golden.RootElement.GetProperty("cases").EnumerateArray())
        {
            var sequence = new PaperLayout().Describe(Golden(element.GetProperty("trajectory")));
            int[] Numbers(string name) => [.. element.GetProperty(name).EnumerateArray().Select(v => v.GetInt32())];
            Assert.Equal(Numbers("tokens"), sequence.Tokens.Select(t => t.Id));
            Assert.Equal(Numbers("kind"), sequence.Tokens.Select(t => (int)t.Kind));
            Assert.Equal(Numbers("turn"), sequence.Tokens.Select(t => Math.Max(t.Turn, 0)));
            // The file's loss mask has ones in the prompt, where the original never applied it: its losses are over responses only.
            Assert.Equal(Numbers("loss_mask"), sequence.Tokens.Select(t => t.Loss || t.Kind == TokenKind.Prompt ? 1 : 0));
            var rows = element.GetProperty("allowed").EnumerateArray().Select(r => r.GetString()!).ToArray();
            for (var a = 0; a < rows.Length; a++)
                Assert.Equal(rows[a], string.Concat(Enumerable.Range(0, rows.Length).Select(b => sequence.Sees(a, b) ? '1' : '0')));
            cases++;
        }

        Assert.True(cases >= 4);
    }

    [Theory, MemberData(nameof(Cases))]
    public void What_a_token_cannot_see_even_through_others_changes_nothing(
        LayoutKind kind, bool rope, int convolution, AttentionScale scale)
    {
        var shape = TestData.Shape(rope, convolution, scale);
        using var model = new TorchDecoder(shape, TestData.Weights(shape, 31), CPU);
        var random = new Random(32);
        int hidden = 0, reached = 0, changed = 0;
        for (var round = 0; round < 30; round++)
        {
            // What is generated and observed alone, so that a context copied by segments stays what it was.
            var trajectory = TestData.Trajectory(random, 31, 6, maxLength: 4, discards: round % 2 == 0);
            var dense = Rule.Of(kind, trajectory);
            var influence = Influence(dense.Sequence, shape);
            var at = random.Next(dense.Sequence.Tokens.Length);
            var (a, b) = (AllLogProbs(model, kind, trajectory, null, dense), AllLogProbs(model, kind, trajectory, at, dense));
            for (var k = 0; k < dense.Predictions.Count; k++)
            {
                if (influence[dense.Predictions[k]].Contains(at))
                {
                    reached++;
                    if (!a[k].SequenceEqual(b[k])) changed++;
                }
                else
                {
                    hidden++;
                    Assert.Equal(a[k], b[k]); // bit for bit
                }
            }
        }

        if (kind != LayoutKind.Full) Assert.True(hidden > 100, "nothing was out of sight, so the test could not fail");
        Assert.True(changed > 0.9 * reached, $"only {changed} of {reached} predictions saw a token that was said to be in their sight");
    }

    [Theory, InlineData(LayoutKind.Carry), InlineData(LayoutKind.Paper), InlineData(LayoutKind.Full)]
    public void Splitting_by_budget_covers_every_turn_once_and_changes_no_log_prob(LayoutKind kind)
    {
        var shape = TestData.Shape(rope: false, convolution: 4, AttentionScale.LogN);
        using var model = new TorchDecoder(shape, TestData.Weights(shape, 7), CPU);
        var random = new Random(8);
        var batch = Enumerable.Range(0, 9).Select(i => TestData.Trajectory(random, 31, random.Next(1, 7), $"e{i}")).ToList();
        var layout = ILayout.Of(kind);
        var whole = Scoring.Score(model, layout, batch, 1.0, 1_000_000, values: true);
        foreach (var budget in new[] { 1, 100, 300 })
        {
            var passes = layout.Split(batch, Scoring.AllTurns(batch), budget);
            Assert.Equal(Scoring.AllTurns(batch), passes.SelectMany(p => p.Turns).OrderBy(t => t.Trajectory).ThenBy(t => t.Turn));
            Assert.All(passes, p => Assert.True(p.PaddedTokens <= budget || p.Batch.Trunks.Count == 1));
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

    [Theory, InlineData(LayoutKind.Segments), InlineData(LayoutKind.Carry), InlineData(LayoutKind.Paper), InlineData(LayoutKind.Full)]
    public void Some_turns_alone_have_the_log_probs_of_all(LayoutKind kind)
    {
        var shape = TestData.Shape(rope: true, convolution: 3);
        using var model = new TorchDecoder(shape, TestData.Weights(shape, 7), CPU);
        var trajectory = TestData.Trajectory(new Random(9), 31, 6);
        var layout = ILayout.Of(kind);
        var all = Scoring.Score(model, layout, [trajectory], 1.0, 10_000, values: false)[0].LogProbs;
        using var scope = NewDisposeScope();
        using var guard = no_grad();
        var pass = Assert.Single(layout.Split([trajectory], [new TurnReference(0, 3), new TurnReference(0, 1)], 10_000));
        var some = Scoring.Chosen(Scoring.LogSoftmax(model, Scoring.Select(model, pass), 1.0), pass).data<float>().ToArray();
        var offsets = Scoring.TurnOffsets([trajectory])[0];
        float[] expected = [.. pass.Turns.SelectMany(t => all.Skip(offsets[t.Turn]).Take(trajectory.Turns[t.Turn].Generated.Length))];
        Assert.Equal(new HashSet<int> { 1, 3 }, pass.Turns.Select(t => t.Turn).ToHashSet());
        for (var k = 0; k < expected.Length; k++) Assert.Equal(expected[k], some[k], 1e-5f);
    }

    [Theory, InlineData(LayoutKind.Segments), InlineData(LayoutKind.Carry), InlineData(LayoutKind.Paper)]
    public void What_is_computed_grows_by_the_same_amount_with_every_turn(LayoutKind kind)
    {
        // Prompt 5, every turn 3 generated and 2 observed.
        static Trajectory Of(int turns) => new(
            "e", "e", [1, 2, 3, 4, 5],
            [.. Enumerable.Range(0, turns).Select(j => new Turn(
                j == 0 ? [] : [1, 2, 3, 4, 5], [1, 2, 3], 1, [-1, -1, -1], [0, 0, 0], j == turns - 1 ? [] : [4, 5]))],
            1, EpisodeEnd.Answered, [1], [1], "", false);
        long Scores(int turns)
        {
            var batch = ILayout.Of(kind).Split([Of(turns)], Scoring.AllTurns([Of(turns)]), int.MaxValue).Single().Batch;
            return (long)batch.Rows.Count * batch.RowWidth * (batch.TrunkWidth + (batch.Links is null ? 1 : 2) * batch.RowWidth);
        }

        Assert.Equal(Scores(40) - Scores(20), Scores(60) - Scores(40));
        Assert.True(Scores(40) <= 2.1 * Scores(20));
    }

    private static Trajectory Golden(JsonElement t)
    {
        int[] Numbers(string name) => t.TryGetProperty(name, out var v) ? [.. v.EnumerateArray().Select(n => n.GetInt32())] : [];
        var turns = new List<Turn>();
        for (var j = 0; j < t.GetProperty("num_rounds").GetInt32(); j++)
        {
            int[] state = Numbers($"t{j}"), generated = [.. state, .. Numbers($"r{j}")];
            turns.Add(new Turn(
                j == 0 ? [] : [.. turns[^1].Generated, .. turns[^1].Observation], generated, state.Length, new float[generated.Length],
                new long[generated.Length], Numbers($"i{j}")));
        }

        return new Trajectory("golden", "golden", Numbers("q"), turns, 1, EpisodeEnd.Answered, [1], [1], "", false);
    }

    /// <summary>For each token the tokens whose ids its output depends on, through every layer.</summary>
    private static HashSet<int>[] Influence(DenseSequence s, DecoderConfig c)
    {
        var length = s.Tokens.Length;
        IEnumerable<int> Inputs(int t, int kernel) => kernel == 0 ? [t] : [t, .. s.Before(t).Take(kernel - 1)];
        var reach = Enumerable.Range(0, length).Select(t => Inputs(t, c.EmbeddingConvKernel).ToHashSet()).ToArray();
        for (var layer = 0; layer < c.Layers; layer++)
        {
            reach = [.. Enumerable.Range(0, length).Select(a =>
            {
                // Its query, and the keys and values of what it sees; each convolved.
                var sources = Enumerable.Range(0, length).Where(b => s.Sees(a, b)).Append(a).SelectMany(b => Inputs(b, c.ConvKernel));
                return sources.Distinct().SelectMany(b => reach[b]).ToHashSet();
            })];
        }

        return reach;
    }

    /// <summary>Log-probs over the vocabulary of every prediction; with one token of the sequence changed where an index is given.</summary>
    private static float[][] AllLogProbs(TorchDecoder model, LayoutKind kind, Trajectory trajectory, int? change, DenseTrajectory dense)
    {
        using var scope = NewDisposeScope();
        using var guard = no_grad();
        var pass = ILayout.Of(kind).Split([trajectory], Scoring.AllTurns([trajectory]), int.MaxValue).Single();
        if (change is { } at) pass = Changed(pass, kind, trajectory, at, dense);
        var logProbs = Scoring.LogSoftmax(model, Scoring.Select(model, pass), 1.0);
        var flat = logProbs.data<float>().ToArray().Chunk(31).ToArray();
        // In time order.
        var order = pass.Turns.SelectMany(t => Enumerable.Range(0, trajectory.Turns[t.Turn].Generated.Length).Select(i => (t.Turn, i)))
            .Select((key, index) => (key, index)).OrderBy(p => p.key).Select(p => p.index);
        return [.. order.Select(index => flat[index])];
    }

    private static LayoutBatch Changed(LayoutBatch pass, LayoutKind kind, Trajectory trajectory, int at, DenseTrajectory dense)
    {
        var prompt = trajectory.Prompt.Length;
        var trunks = pass.Batch.Trunks.Select(t => (int[])t.Clone()).ToList();
        var rows = pass.Batch.Rows.Select(r => (int[])r.Clone()).ToList();
        static void Change(int[] tokens, int i) => tokens[i] = (tokens[i] + 1) % 31;
        if (at < prompt)
        {
            if (at < trunks[0].Length) Change(trunks[0], at);
            // The prompt's last token is the first of every row (segments), or copied into the first row.
            if (at == prompt - 1) foreach (var row in kind == LayoutKind.Segments ? rows : rows[..1]) Change(row, 0);
        }
        else if (kind == LayoutKind.Full)
        {
            if (at - prompt + 1 < rows[0].Length) Change(rows[0], at - prompt + 1); // one row, with the prompt's last token before it
        }
        else
        {
            // Segments: rows come in the order of their lengths.
            var turn = dense.Turns[at];
            var row = kind == LayoutKind.Segments ? pass.Turns.ToList().FindIndex(t => t.Turn == turn) : turn;
            var offset = at - Array.IndexOf(dense.Turns, turn) + (kind == LayoutKind.Segments || turn == 0 ? 1 : 0);
            if (row < rows.Count && offset < rows[row].Length) Change(rows[row], offset); // else nothing is predicted from it
        }

        return pass with { Batch = new TurnBatch(trunks, rows, pass.Batch.TrunkOfRow, pass.Batch.Links) };
    }
}

/// <summary>A trajectory laid out by the rule, without the product's code.</summary>
internal sealed record DenseTrajectory(DenseSequence Sequence, int[] Turns, IReadOnlyList<int> Predictions, IReadOnlyList<int> Targets);

/// <summary>The layouts' definitions, one line of visibility each.</summary>
internal static class Rule
{
    private const int Q = 0, T = 1, R = 2, I = 3;

    public static DenseTrajectory Of(LayoutKind layout, Trajectory trajectory)
    {
        List<int> token = [.. trajectory.Prompt];
        List<int> turn = [.. token.Select(_ => -1)], kind = [.. token.Select(_ => Q)];
        List<bool> kept = [.. token.Select(_ => true)];
        List<int> position = [.. Enumerable.Range(0, token.Count)], predictions = [], targets = [];
        var prompt = token.Count;
        for (var j = 0; j < trajectory.Turns.Count; j++)
        {
            var t = trajectory.Turns[j];
            var restart = 0;
            // What the format discards of this turn is what the next turn's context lacks.
            var lost = j + 1 < trajectory.Turns.Count
                ? t.Generated.Length + t.Observation.Length - trajectory.Turns[j + 1].Context.Length
                : 0;
            void Append(int[] ids, Func<int, int> kinds, bool generated = false)
            {
                for (var i = 0; i < ids.Length; i++)
                {
                    position.Add(layout == LayoutKind.Segments ? prompt + restart++ : token.Count);
                    token.Add(ids[i]);
                    turn.Add(j);
                    kind.Add(kinds(i));
                    kept.Add(!generated || i >= lost);
                }
            }

            if (layout == LayoutKind.Segments) Append(t.Context, _ => I);
            for (var i = 0; i < t.Generated.Length; i++)
            {
                var first = i == 0 && (j == 0 || (layout == LayoutKind.Segments && t.Context.Length == 0));
                predictions.Add(first ? prompt - 1 : token.Count + i - 1);
                targets.Add(t.Generated[i]);
            }

            Append(t.Generated, i => i < t.StateLength ? T : R, generated: true);
            if (layout != LayoutKind.Segments) Append(t.Observation, _ => I);
        }

        bool Sees(int a, int b) => b <= a && layout switch
        {
            LayoutKind.Segments => turn[b] == -1 || turn[b] == turn[a],
            LayoutKind.Carry => turn[b] == -1 || turn[b] == turn[a] || (turn[b] == turn[a] - 1 && kept[b]),
            LayoutKind.Full => true,
            _ when kind[a] == Q => true,
            _ when kind[a] == I => kind[b] == I && turn[b] == turn[a],
            _ => kind[b] == Q || turn[b] == turn[a] || (turn[b] == turn[a] - 1 && kind[b] != T),
        };

        // The convolutions run over the prompt, in the single-copy layouts what is kept of the turn before, and the turn itself.
        IReadOnlyList<int> Before(int a) => [.. Enumerable.Range(0, a).Reverse()
            .Where(b => layout == LayoutKind.Full || turn[b] == -1 || turn[b] == turn[a] || (layout != LayoutKind.Segments && turn[b] == turn[a] - 1 && kept[b]))];

        return new DenseTrajectory(new DenseSequence([.. token], [.. position], Sees, Before), [.. turn], predictions, targets);
    }
}
