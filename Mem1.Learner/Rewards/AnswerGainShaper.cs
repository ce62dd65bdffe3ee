// Keeps: a state earns what it adds to the mean log-probability of the right answer over the state before it, so the gains of an episode
// add up to its last potential minus its first and the best policy stays the best (potential-based shaping, Ng, Harada and Russell 1999).
namespace Mem1.Learner;

/// <summary>
/// The memory's own reward, after MemPO (arXiv 2603.00680): how much likelier the model, given what the state holds, finds the right
/// answer. For each turn the potential is the mean log-probability of the tokens of the right answer right after the turn's internal state;
/// before the first turn it is that after the prompt alone. A turn's gain is given at the last token of its state.
/// </summary>
/// <param name="worth">Of a nat.</param>
/// <param name="maxPositions">Longest context of the model: an episode that leaves no room for the answer somewhere earns nothing.</param>
public sealed class AnswerGainShaper(double worth, int maxPositions) : IRewardShaper
{
    /// <inheritdoc/>
    public string Name => "answer_gain";

    /// <inheritdoc/>
    public IReadOnlyList<double[]> Shape(
        IReadOnlyList<Trajectory> batch, Func<IReadOnlyList<Trajectory>, IReadOnlyList<float[]>> logProbs)
    {
        // The answer stands in for what was generated after each state: one made-up episode per episode, scored in one go.
        var questions = batch.Select(Questions).ToList();
        var known = Enumerable.Range(0, batch.Count)
            .Where(i => batch[i].RightAnswer.Length > 0 && questions[i].PeakTokens <= maxPositions).ToList();
        var scores = known.Count == 0 ? [] : logProbs([.. known.Select(i => questions[i])]);
        var rewards = batch.Select(t => new double[t.GeneratedTokens]).ToList();
        for (var k = 0; k < known.Count; k++)
        {
            var trajectory = batch[known[k]];
            var length = trajectory.RightAnswer.Length;
            double Potential(int question) => scores[k].AsSpan(question * length, length).ToArray().Average(p => (double)p);
            var (before, start) = (Potential(0), 0);
            for (var j = 0; j < trajectory.Turns.Count; j++)
            {
                var turn = trajectory.Turns[j];
                if (turn.StateLength > 0)
                {
                    var after = Potential(j + 1);
                    rewards[known[k]][start + turn.StateLength - 1] = worth * (after - before);
                    before = after;
                }

                start += turn.Generated.Length;
            }
        }

        return rewards;
    }

    /// <summary>The right answer after the prompt, and after the state of every turn.</summary>
    private static Trajectory Questions(Trajectory trajectory)
    {
        Turn Ask(int[] context) => new(context, trajectory.RightAnswer, 0, [], [], []);
        return trajectory with
        {
            Turns = [Ask([]), .. trajectory.Turns.Select(t => Ask([.. t.Context, .. t.Generated.AsSpan(0, t.StateLength)]))],
        };
    }
}
