namespace Mem1.Learner;

/// <summary>
/// Steers the weight of the divergence from the reference towards a target (Ziegler et al., arXiv 1909.08593): after n episodes with mean
/// divergence d the weights are multiplied by 1 + clip(d / target - 1, -0.2, 0.2) n / horizon.
/// </summary>
/// <param name="target">Divergence per token; 0 keeps the weights.</param>
/// <param name="horizon">Episodes.</param>
public sealed class KlController(double target, double horizon)
{
    // Of the paper: no batch moves the weight by more than a fifth of its share of the horizon.
    private const double MaxError = 0.2;

    /// <summary>What the configured weights are multiplied with; part of a checkpoint.</summary>
    public double Factor { get; set; } = 1;

    /// <summary>Takes in a batch.</summary>
    /// <param name="divergence">Mean per token; a batch where it is no number changes nothing.</param>
    /// <param name="episodes">Size of the batch.</param>
    public void Observe(double divergence, int episodes)
    {
        if (target <= 0 || !double.IsFinite(divergence)) return;
        Factor *= 1 + (Math.Clamp((divergence / target) - 1, -MaxError, MaxError) * episodes / horizon);
    }
}
