// Keeps: token a sees token b iff b is not after a; every token is computed once, in the order it came: prompt, then generated ++ observation
// of turn 0, of turn 1, ... That is what a sampler computes whose context is the whole episode so far, so the layout is exact for it.
using Mem1.Model;

namespace Mem1.Learner;

/// <summary>
/// The layout of an agent that forgets nothing: one causal sequence. It is what constant memory is compared with, and it reads
/// <see cref="Turn.Generated"/> and <see cref="Turn.Observation"/> only; contexts follow from them.
/// </summary>
public sealed class FullLayout : ILayout
{
    /// <inheritdoc/>
    public LayoutKind Kind => LayoutKind.Full;

    /// <inheritdoc/>
    public LayoutSequence Describe(Trajectory trajectory)
    {
        var sequence = LayoutSequence.OfPrompt(trajectory.Prompt);
        for (var j = 0; j < trajectory.Turns.Count; j++)
        {
            var turn = trajectory.Turns[j];
            int[] block = [.. turn.Generated, .. turn.Observation];
            for (var i = 0; i < block.Length; i++)
            {
                var at = sequence.Count;
                sequence.Add(
                    new LayoutToken(
                        block[i], at, j, LayoutSequence.KindOf(turn, i), Copy: false, i < turn.Generated.Length ? at - 1 : -1),
                    new TokenSpan(0, at + 1));
            }
        }

        return sequence;
    }

    /// <inheritdoc/>
    public IReadOnlyList<LayoutBatch> Split(IReadOnlyList<Trajectory> batch, IEnumerable<TurnReference> turns, int tokenBudget)
    {
        // By length, so that rows of a pass pad each other little; ties by place.
        var wanted = turns.GroupBy(t => t.Trajectory)
            .Select(g => (Trajectory: g.Key, Turns: g.Select(t => t.Turn).Order().ToArray()))
            .Select(w => (w.Trajectory, w.Turns, Length: RowLength(batch[w.Trajectory], w.Turns[^1])))
            .OrderBy(w => w.Length).ThenBy(w => w.Trajectory)
            .ToList();
        var passes = new List<LayoutBatch>();
        for (var start = 0; start < wanted.Count;)
        {
            int end = start, trunkWidth = 1;
            while (end < wanted.Count)
            {
                var width = Math.Max(trunkWidth, batch[wanted[end].Trajectory].Prompt.Length - 1);
                if (end > start && (long)(end - start + 1) * (width + wanted[end].Length) > tokenBudget) break;
                trunkWidth = width;
                end++;
            }

            passes.Add(Build(batch, [.. wanted.GetRange(start, end - start).Select(w => (w.Trajectory, w.Turns))]));
            start = end;
        }

        return passes;
    }

    private static LayoutBatch Build(IReadOnlyList<Trajectory> batch, IReadOnlyList<(int Trajectory, int[] Turns)> wanted)
    {
        var rows = wanted.Select(w => Row(batch[w.Trajectory], w.Turns[^1])).ToList();
        var decoderBatch = new TurnBatch(
            [.. wanted.Select(w => batch[w.Trajectory].Prompt[..^1])], rows, [.. Enumerable.Range(0, rows.Count)]);
        var predictions = new List<long>();
        var targets = new List<long>();
        for (var r = 0; r < wanted.Count; r++)
        {
            var trajectory = batch[wanted[r].Trajectory];
            var at = 0; // of the turn's first token, less the prompt's last one: where it is predicted
            for (var j = 0; j <= wanted[r].Turns[^1]; j++)
            {
                var turn = trajectory.Turns[j];
                if (Array.BinarySearch(wanted[r].Turns, j) >= 0)
                {
                    for (var i = 0; i < turn.Generated.Length; i++)
                    {
                        predictions.Add(decoderBatch.FlatIndex(r, at + i));
                        targets.Add(turn.Generated[i]);
                    }
                }

                at += turn.Generated.Length + turn.Observation.Length;
            }
        }

        return new LayoutBatch(
            decoderBatch, [.. wanted.SelectMany(w => w.Turns.Select(j => new TurnReference(w.Trajectory, j)))],
            [.. predictions], [.. targets]);
    }

    /// <summary>The prompt's last token and all turns up to one, without its last token, from which nothing is predicted.</summary>
    private static int[] Row(Trajectory trajectory, int last) =>
    [
        trajectory.Prompt[^1],
        .. trajectory.Turns.Take(last).SelectMany(t => t.Generated.Concat(t.Observation)),
        .. trajectory.Turns[last].Generated[..^1],
    ];

    private static int RowLength(Trajectory trajectory, int last) =>
        trajectory.Turns.Take(last).Sum(t => t.Generated.Length + t.Observation.Length) + trajectory.Turns[last].Generated.Length;
}
