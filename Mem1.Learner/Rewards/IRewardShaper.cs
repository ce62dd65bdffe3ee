// Keeps: shaping adds to rewards and changes nothing else; it sees the batch before the update.
namespace Mem1.Learner;

/// <summary>Adds rewards of its own to the tokens of a batch.</summary>
public interface IRewardShaper
{
    /// <summary>For metrics: its mean per episode is <c>reward_NAME</c>; lower case with underscores.</summary>
    string Name { get; }

    /// <summary>Per trajectory, per generated token in time order, what to add.</summary>
    /// <param name="batch">Trajectories to be trained on.</param>
    /// <param name="logProbs">
    /// Log-probs of the generated tokens of any trajectories under the weights the update starts from; costs a forward pass.
    /// </param>
    IReadOnlyList<double[]> Shape(
        IReadOnlyList<Trajectory> batch, Func<IReadOnlyList<Trajectory>, IReadOnlyList<float[]>> logProbs);
}

/// <summary>Rewards for how memory is kept; all off by default.</summary>
public sealed record ShapingOptions
{
    /// <summary>What each token of internal state beyond the free ones costs.</summary>
    public double StateCost { get; init; }
    /// <summary>Tokens of internal state per turn that cost nothing.</summary>
    public int StateFreeTokens { get; init; }
    /// <summary>
    /// What a nat is worth by which an internal state makes the right answer likelier, per token of that answer.
    /// </summary>
    public double AnswerGain { get; init; }

    /// <summary>Every contradiction, as a sentence each.</summary>
    public IReadOnlyList<string> Validate()
    {
        var errors = new List<string>();
        if (StateCost < 0) errors.Add($"ppo.shaping.state_cost is {StateCost}; it must not be negative.");
        if (StateFreeTokens < 0) errors.Add($"ppo.shaping.state_free_tokens is {StateFreeTokens}; it must not be negative.");
        if (StateFreeTokens > 0 && StateCost == 0)
            errors.Add($"ppo.shaping.state_free_tokens is {StateFreeTokens} but ppo.shaping.state_cost is 0, so every token is free.");
        if (AnswerGain < 0) errors.Add($"ppo.shaping.answer_gain is {AnswerGain}; it must not be negative.");
        return errors;
    }

    /// <summary>The shapers that are on.</summary>
    /// <param name="maxPositions">Longest context of the model, in tokens.</param>
    public IReadOnlyList<IRewardShaper> CreateShapers(int maxPositions)
    {
        var shapers = new List<IRewardShaper>();
        if (StateCost > 0) shapers.Add(new StateCostShaper(StateCost, StateFreeTokens));
        if (AnswerGain > 0) shapers.Add(new AnswerGainShaper(AnswerGain, maxPositions));
        return shapers;
    }
}
