// Keeps: token a of a turn sees token b iff b comes before or at a and b is of the prompt or of the same turn; positions restart after
// the prompt in every turn. That is what a sampler computes that re-encodes prompt ++ kept context each turn, so the layout is exact.
using Mem1.Model;

namespace Mem1.Learner;

/// <summary>The default layout: q, y0, x1, y1, x2, y2, ... with every turn a row that shares the prompt (design note "segments").</summary>
public sealed class SegmentsLayout : ILayout
{
    /// <inheritdoc/>
    public LayoutKind Kind => LayoutKind.Segments;

    /// <inheritdoc/>
    public LayoutSequence Describe(Trajectory trajectory)
    {
        var sequence = LayoutSequence.OfPrompt(trajectory.Prompt);
        var prompt = trajectory.Prompt.Length;
        for (var j = 0; j < trajectory.Turns.Count; j++)
        {
            var turn = trajectory.Turns[j];
            var start = sequence.Count;
            int[] row = [.. turn.Context, .. turn.Generated];
            // The context is the end of the turn before: all of it, unless the format discards the start of a response.
            var discarded = j == 0 ? 0 : trajectory.Turns[j - 1].Generated.Length + trajectory.Turns[j - 1].Observation.Length
                - turn.Context.Length;
            for (var i = 0; i < row.Length; i++)
            {
                var generated = i - turn.Context.Length;
                // What comes first in a turn without context is predicted by the end of the prompt.
                var predictor = generated < 0 ? -1 : i == 0 ? prompt - 1 : start + i - 1;
                var kind = generated >= 0
                    ? LayoutSequence.KindOf(turn, generated)
                    : LayoutSequence.KindOf(trajectory.Turns[j - 1], discarded + i);
                sequence.Add(
                    new LayoutToken(row[i], prompt + i, j, kind, Copy: generated < 0, predictor),
                    new TokenSpan(0, prompt), new TokenSpan(start, start + i + 1));
            }
        }

        return sequence;
    }

    /// <inheritdoc/>
    public IReadOnlyList<LayoutBatch> Split(IReadOnlyList<Trajectory> batch, IEnumerable<TurnReference> turns, int tokenBudget)
    {
        // By length, so that rows of a pass pad each other little; ties by place, so that the order never depends on the sort.
        var ordered = turns.OrderBy(t => RowLength(batch, t)).ThenBy(t => t.Trajectory).ThenBy(t => t.Turn).ToList();
        var passes = new List<LayoutBatch>();
        for (var start = 0; start < ordered.Count;)
        {
            var trunks = new HashSet<int>();
            int end = start, trunkWidth = 1;
            while (end < ordered.Count)
            {
                var next = ordered[end];
                var width = Math.Max(trunkWidth, batch[next.Trajectory].Prompt.Length - 1);
                var trunkCount = trunks.Count + (trunks.Contains(next.Trajectory) ? 0 : 1);
                var padded = ((long)trunkCount * width) + ((long)(end - start + 1) * RowLength(batch, next));
                if (end > start && padded > tokenBudget) break;
                trunks.Add(next.Trajectory);
                trunkWidth = width;
                end++;
            }

            passes.Add(Build(batch, ordered.GetRange(start, end - start)));
            start = end;
        }

        return passes;
    }

    /// <summary>One forward pass over the given turns.</summary>
    public static LayoutBatch Build(IReadOnlyList<Trajectory> batch, IReadOnlyList<TurnReference> turns)
    {
        var trunkIndex = new Dictionary<int, int>();
        var trunks = new List<int[]>();
        var rows = new List<int[]>(turns.Count);
        var trunkOfRow = new int[turns.Count];
        for (var r = 0; r < turns.Count; r++)
        {
            var trajectory = batch[turns[r].Trajectory];
            var turn = trajectory.Turns[turns[r].Turn];
            if (!trunkIndex.TryGetValue(turns[r].Trajectory, out trunkOfRow[r]))
            {
                trunkIndex.Add(turns[r].Trajectory, trunkOfRow[r] = trunks.Count);
                trunks.Add(trajectory.Prompt[..^1]);
            }

            rows.Add([trajectory.Prompt[^1], .. turn.Context, .. turn.Generated[..^1]]); // nothing is predicted from the last token
        }

        var decoderBatch = new TurnBatch(trunks, rows, trunkOfRow);
        var predictions = new List<long>();
        var targets = new List<long>();
        for (var r = 0; r < turns.Count; r++)
        {
            var turn = batch[turns[r].Trajectory].Turns[turns[r].Turn];
            for (var i = 0; i < turn.Generated.Length; i++)
            {
                predictions.Add(decoderBatch.FlatIndex(r, turn.Context.Length + i));
                targets.Add(turn.Generated[i]);
            }
        }

        return new LayoutBatch(decoderBatch, turns, [.. predictions], [.. targets]);
    }

    private static int RowLength(IReadOnlyList<Trajectory> batch, TurnReference turn)
    {
        var t = batch[turn.Trajectory].Turns[turn.Turn];
        return t.Context.Length + t.Generated.Length;
    }
}
