// Keeps: only generated tokens take part. A trajectory's generated tokens form one chain in time order across its turns; observations and
// copies carry no reward, no value, no weight in the whitening.
namespace Mem1.Learner;

/// <summary>Advantage estimation over ragged per-trajectory arrays, in double precision.</summary>
public static class Advantages
{
    /// <summary>
    /// Generalised advantage estimation (Schulman et al., arXiv 1506.02438): A_t = sum_k (gamma lambda)^k delta_{t+k} with
    /// delta_t = r_t + gamma V_{t+1} - V_t, and V = 0 after the last token.
    /// </summary>
    /// <param name="rewards">Per generated token, in time order.</param>
    /// <param name="values">Value of the state before each generated token.</param>
    /// <param name="gamma">Discount per token.</param>
    /// <param name="lambda">Trace decay per token.</param>
    /// <param name="ticks">
    /// For each token whether time goes on with it; at the others nothing is discounted. Empty: at every token.
    /// </param>
    /// <returns>Advantages (not whitened) and returns (advantage + value).</returns>
    public static (double[] Advantages, double[] Returns) Gae(
        ReadOnlySpan<double> rewards, ReadOnlySpan<double> values, double gamma, double lambda, ReadOnlySpan<bool> ticks = default)
    {
        if (rewards.Length != values.Length) throw new ArgumentException("Rewards and values differ in length.", nameof(values));
        if (!ticks.IsEmpty && ticks.Length != rewards.Length) throw new ArgumentException("There is a tick per reward.", nameof(ticks));
        var advantages = new double[rewards.Length];
        var returns = new double[rewards.Length];
        double next = 0, running = 0;
        for (var t = rewards.Length - 1; t >= 0; t--)
        {
            var (g, l) = ticks.IsEmpty || ticks[t] ? (gamma, lambda) : (1, 1);
            running = rewards[t] + (g * next) - values[t] + (g * l * running);
            advantages[t] = running;
            returns[t] = running + values[t];
            next = values[t];
        }

        return (advantages, returns);
    }

    /// <summary>Shifts and scales all values of a batch together to mean 0 and unbiased variance 1, in place.</summary>
    /// <remarks>The epsilon under the root (1e-8) only matters for a batch without spread.</remarks>
    public static void Whiten(IReadOnlyList<double[]> batch)
    {
        long count = batch.Sum(a => (long)a.Length);
        if (count < 2) return; // one token has no spread to scale by
        var mean = batch.Sum(a => a.Sum()) / count;
        var variance = batch.Sum(a => a.Sum(x => (x - mean) * (x - mean))) / (count - 1);
        var scale = 1 / Math.Sqrt(variance + 1e-8);
        foreach (var values in batch)
            for (var i = 0; i < values.Length; i++)
                values[i] = (values[i] - mean) * scale;
    }
}
