// Keeps: every token of an episode is computed once, in the order it came: prompt, then generated ++ observation of turn 0, of turn 1, ...
//  * positions run on; the attention scale counts what a token sees, as in every layout;
//  * the convolutions of a turn's first tokens reach back over what is kept when it begins: prompt ++ what is kept of the turn before;
//  * a row is a turn; it reads the keys and values that the row before it has computed, so cost is linear in the number of turns.
using Mem1.Model;

namespace Mem1.Learner;

/// <summary>What <see cref="CarryLayout"/> and <see cref="PaperLayout"/> share; they differ in what a token sees.</summary>
public abstract class SingleCopyLayout : ILayout
{
    private protected SingleCopyLayout()
    {
    }

    /// <inheritdoc/>
    public abstract LayoutKind Kind { get; }

    /// <summary>The rule of visibility.</summary>
    /// <param name="prompt">Tokens of the prompt.</param>
    /// <param name="previous">The turn before; null in the first turn.</param>
    /// <param name="turn">The token's turn.</param>
    /// <param name="offset">The token, counted over generated ++ observation of its turn.</param>
    /// <returns>
    /// In tokens of the prompt, of generated ++ observation of the turn before, and of generated ++ observation of this turn.
    /// </returns>
    private protected abstract TokenView View(int prompt, Turn? previous, Turn turn, int offset);

    /// <inheritdoc/>
    public LayoutSequence Describe(Trajectory trajectory)
    {
        var sequence = LayoutSequence.OfPrompt(trajectory.Prompt);
        var before = sequence.Count;
        for (var j = 0; j < trajectory.Turns.Count; j++)
        {
            var turn = trajectory.Turns[j];
            var start = sequence.Count;
            int[] block = [.. turn.Generated, .. turn.Observation];
            for (var i = 0; i < block.Length; i++)
            {
                var view = View(trajectory.Prompt.Length, j == 0 ? null : trajectory.Turns[j - 1], turn, i);
                sequence.Add(
                    new LayoutToken(
                        block[i], start + i, j, LayoutSequence.KindOf(turn, i), Copy: false,
                        i < turn.Generated.Length ? start + i - 1 : -1),
                    new TokenSpan(0, view.Trunk),
                    new TokenSpan((int)Math.Min((long)before + view.Previous, start), start),
                    new TokenSpan(start + view.Own, start + i + 1));
            }

            before = start;
        }

        return sequence;
    }

    /// <inheritdoc/>
    public IReadOnlyList<LayoutBatch> Split(IReadOnlyList<Trajectory> batch, IEnumerable<TurnReference> turns, int tokenBudget)
    {
        // Trajectories with rows of similar length together, so that they pad each other little; ties by place.
        var wanted = turns.GroupBy(t => t.Trajectory)
            .Select(g => (Trajectory: g.Key, Turns: g.Select(t => t.Turn).Order().ToArray()))
            .OrderBy(w => Blocks(batch[w.Trajectory], w.Turns[^1]).Max(b => b.Length)).ThenBy(w => w.Trajectory)
            .ToList();
        var passes = new List<LayoutBatch>();
        for (var start = 0; start < wanted.Count;)
        {
            int end = start, trunkWidth = 1, rowWidth = 1, rows = 0;
            while (end < wanted.Count)
            {
                var blocks = Blocks(batch[wanted[end].Trajectory], wanted[end].Turns[^1]);
                var (trunk, row) = (
                    Math.Max(trunkWidth, batch[wanted[end].Trajectory].Prompt.Length), Math.Max(rowWidth, blocks.Max(b => b.Length)));
                var padded = ((long)(end - start + 1) * trunk) + ((long)(rows + blocks.Count) * row);
                if (end > start && padded > tokenBudget) break;
                (trunkWidth, rowWidth, rows) = (trunk, row, rows + blocks.Count);
                end++;
            }

            passes.Add(Build(batch, wanted.GetRange(start, end - start)));
            start = end;
        }

        return passes;
    }

    /// <summary>How many tokens at the start of a turn the format discards: what the next turn's context lacks of it.</summary>
    private protected static int Discarded(Turn turn, Turn next) =>
        turn.Generated.Length + turn.Observation.Length - next.Context.Length;

    /// <summary>
    /// The rows of a trajectory up to a turn, nothing after its last prediction. The first row begins with a copy of the prompt's last
    /// token: it is there to predict, and nobody looks at it.
    /// </summary>
    private static List<int[]> Blocks(Trajectory trajectory, int last)
    {
        var blocks = new List<int[]>(last + 1);
        for (var j = 0; j <= last; j++)
        {
            var turn = trajectory.Turns[j];
            int[] block = j < last ? [.. turn.Generated, .. turn.Observation] : turn.Generated[..^1];
            if (j == 0) block = [trajectory.Prompt[^1], .. block];
            if (block.Length > 0) blocks.Add(block); // a last turn of one token is predicted by the row before
        }

        return blocks;
    }

    private LayoutBatch Build(IReadOnlyList<Trajectory> batch, List<(int Trajectory, int[] Turns)> wanted)
    {
        var trunks = new List<int[]>(wanted.Count);
        var rows = new List<int[]>();
        var trunkOfRow = new List<int>();
        var links = new List<RowLink>();
        var firstRow = new List<int>(wanted.Count);
        foreach (var (index, turns) in wanted)
        {
            var trajectory = batch[index];
            var prompt = trajectory.Prompt.Length;
            var start = prompt - 1;
            firstRow.Add(rows.Count);
            var blocks = Blocks(trajectory, turns[^1]);
            for (var j = 0; j < blocks.Count; j++)
            {
                var previous = j == 0 ? null : trajectory.Turns[j - 1];
                var views = new TokenView[blocks[j].Length];
                for (var i = 0; i < views.Length; i++)
                {
                    // The copy of the prompt's last token sees what that token sees. The first row's offsets count it, the rule's do not.
                    views[i] = j == 0 && i == 0
                        ? new TokenView(prompt - 1, TokenView.Nothing, 0)
                        : View(prompt, previous, trajectory.Turns[j], j == 0 ? i - 1 : i);
                    if (j == 0 && i > 0) views[i] = views[i] with { Own = views[i].Own + 1 };
                    if (j == 1 && views[i].Previous != TokenView.Nothing) views[i] = views[i] with { Previous = views[i].Previous + 1 };
                }

                links.Add(j == 0
                    ? new RowLink(-1, start, prompt - 1, 0, views)
                    : new RowLink(rows.Count - 1, start, prompt, Discarded(previous!, trajectory.Turns[j]) + (j == 1 ? 1 : 0), views));
                start += blocks[j].Length;
                rows.Add(blocks[j]);
                trunkOfRow.Add(trunks.Count);
            }

            trunks.Add(trajectory.Prompt);
        }

        var decoderBatch = new TurnBatch(trunks, rows, trunkOfRow, links);
        var predictions = new List<long>();
        var targets = new List<long>();
        for (var w = 0; w < wanted.Count; w++)
        {
            foreach (var j in wanted[w].Turns)
            {
                var generated = batch[wanted[w].Trajectory].Turns[j].Generated;
                var row = firstRow[w] + j;
                for (var i = 0; i < generated.Length; i++)
                {
                    predictions.Add(j == 0 ? decoderBatch.FlatIndex(row, i)
                        : i > 0 ? decoderBatch.FlatIndex(row, i - 1)
                        : decoderBatch.FlatIndex(row - 1, rows[row - 1].Length - 1));
                    targets.Add(generated[i]);
                }
            }
        }

        return new LayoutBatch(
            decoderBatch, [.. wanted.SelectMany(w => w.Turns.Select(j => new TurnReference(w.Trajectory, j)))],
            [.. predictions], [.. targets]);
    }
}
