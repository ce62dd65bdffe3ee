namespace Mem1.Learner;

/// <summary>How many versions older than the weights they trained the tokens of a batch were.</summary>
/// <param name="Tokens">Generated tokens by age in versions, from 0 to the largest age there is; one zero for no tokens.</param>
public sealed record StalenessHistogram(IReadOnlyList<long> Tokens)
{
    /// <summary>Largest age.</summary>
    public int Max => Tokens.Count - 1;

    /// <summary>Mean age.</summary>
    public double Mean => Tokens.Select((count, age) => (double)count * age).Sum() / Math.Max(1, Tokens.Sum());

    /// <summary>Of a batch.</summary>
    /// <param name="batch">Trajectories.</param>
    /// <param name="version">Version of the weights that the batch trains; no token is newer.</param>
    public static StalenessHistogram Of(IReadOnlyList<Trajectory> batch, long version)
    {
        var tokens = new List<long> { 0 };
        foreach (var made in batch.SelectMany(t => t.Turns).SelectMany(t => t.PolicyVersions))
        {
            var age = (int)(version - made);
            while (tokens.Count <= age) tokens.Add(0);
            tokens[age]++;
        }

        return new StalenessHistogram(tokens);
    }
}
