// Keeps: the rewards of an episode's tokens add up to its parts; every part has a name in the metrics.
namespace Mem1.Learner;

/// <summary>Rewards of a batch, per trajectory and generated token, and their parts as means per episode.</summary>
internal sealed class TokenRewards
{
    private readonly Dictionary<string, double> _parts = new(StringComparer.Ordinal);

    /// <summary>What the environments said, at the last token of the turn that earned it.</summary>
    public TokenRewards(IReadOnlyList<Trajectory> batch)
    {
        PerToken = [.. batch.Select(t => new double[t.GeneratedTokens])];
        double early = 0, format = 0, total = 0;
        for (var i = 0; i < batch.Count; i++)
        {
            var (at, earlier) = (-1, 0.0);
            foreach (var turn in batch[i].Turns)
            {
                at += turn.Generated.Length;
                PerToken[i][at] = turn.Reward;
                earlier += turn.Reward;
            }

            // What earlier turns did not earn is the last one's.
            PerToken[i][at] += batch[i].Reward - earlier;
            early += earlier - batch[i].Turns[^1].Reward;
            format += batch[i].FormatReward;
            total += batch[i].Reward;
        }

        _parts["outcome"] = (total - early - format) / batch.Count;
        _parts["turns"] = early / batch.Count;
        _parts["format"] = format / batch.Count;
    }

    public List<double[]> PerToken { get; }

    public IReadOnlyDictionary<string, double> Parts => _parts;

    /// <summary>Adds a part.</summary>
    public void Add(string name, IReadOnlyList<double[]> rewards)
    {
        for (var i = 0; i < PerToken.Count; i++)
            for (var t = 0; t < PerToken[i].Length; t++)
                PerToken[i][t] += rewards[i][t];
        _parts[name] = rewards.Sum(r => r.Sum()) / PerToken.Count;
    }

    /// <summary>Adds a part that is given at the last token.</summary>
    public void AddAtEnd(string name, IReadOnlyList<double> rewards)
    {
        for (var i = 0; i < PerToken.Count; i++) PerToken[i][^1] += rewards[i];
        _parts[name] = rewards.Average();
    }
}
