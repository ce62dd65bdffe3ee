namespace Mem1.Learner;

/// <summary>
/// A price on memory: every turn pays for the tokens of its internal state beyond a free length, at the state's last token.
/// </summary>
/// <param name="cost">Per token.</param>
/// <param name="free">Tokens of a turn that cost nothing.</param>
public sealed class StateCostShaper(double cost, int free) : IRewardShaper
{
    /// <inheritdoc/>
    public string Name => "state_cost";

    /// <inheritdoc/>
    public IReadOnlyList<double[]> Shape(
        IReadOnlyList<Trajectory> batch, Func<IReadOnlyList<Trajectory>, IReadOnlyList<float[]>> logProbs) =>
        [.. batch.Select(trajectory =>
        {
            var rewards = new double[trajectory.GeneratedTokens];
            var start = 0;
            foreach (var turn in trajectory.Turns)
            {
                if (turn.StateLength > free) rewards[start + turn.StateLength - 1] = -cost * (turn.StateLength - free);
                start += turn.Generated.Length;
            }

            return rewards;
        })];
}
