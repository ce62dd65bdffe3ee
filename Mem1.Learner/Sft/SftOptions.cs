// Keeps: options are immutable, and Validate names every contradiction at once.
namespace Mem1.Learner;

/// <summary>Supervised fine-tuning: how examples become gradient steps.</summary>
public sealed record SftOptions
{
    /// <summary>Passes over the data.</summary>
    public int Epochs { get; init; } = 1;
    /// <summary>Turns of a step.</summary>
    public int BatchTurns { get; init; } = 32;
    /// <summary>Highest learning rate.</summary>
    public double LearningRate { get; init; } = 2e-5;
    /// <summary>Share of the steps over which the learning rate rises linearly; after them it falls linearly to 0.</summary>
    public double WarmupShare { get; init; } = 0.03;
    /// <summary>Decoupled weight decay of the matrices.</summary>
    public double WeightDecay { get; init; } = 0.01;
    /// <summary>AdamW's first beta.</summary>
    public double Beta1 { get; init; } = 0.9;
    /// <summary>AdamW's second beta.</summary>
    public double Beta2 { get; init; } = 0.98;
    /// <summary>Largest gradient norm; 0 is no limit.</summary>
    public double GradientClip { get; init; } = 1.0;
    /// <summary>Largest number of padded tokens in one forward and backward pass.</summary>
    public int MicroBatchTokens { get; init; } = 8192;
    /// <summary>Memory for time.</summary>
    public ComputeOptions Compute { get; init; } = new();

    /// <summary>Every contradiction, as a sentence each; empty when there is none.</summary>
    public IReadOnlyList<string> Validate()
    {
        var errors = new List<string>();
        if (Epochs < 1) errors.Add($"sft.epochs is {Epochs}; it must be at least 1.");
        if (BatchTurns < 1) errors.Add($"sft.batch_turns is {BatchTurns}; it must be at least 1.");
        if (LearningRate is not (> 0 and < 1)) errors.Add($"sft.learning_rate is {LearningRate}; it must be in (0, 1).");
        if (WarmupShare is not (>= 0 and < 1)) errors.Add($"sft.warmup_share is {WarmupShare}; it must be in [0, 1).");
        if (WeightDecay is not (>= 0 and < 1)) errors.Add($"sft.weight_decay is {WeightDecay}; it must be in [0, 1).");
        if (Beta1 is not (>= 0 and < 1)) errors.Add($"sft.beta1 is {Beta1}; it must be in [0, 1).");
        if (Beta2 is not (>= 0 and < 1)) errors.Add($"sft.beta2 is {Beta2}; it must be in [0, 1).");
        if (GradientClip < 0) errors.Add($"sft.gradient_clip is {GradientClip}; it must not be negative.");
        if (MicroBatchTokens < 1) errors.Add($"sft.micro_batch_tokens is {MicroBatchTokens}; it must be at least 1.");
        return errors;
    }

    /// <summary>The learning rate of a step.</summary>
    /// <param name="step">From 0.</param>
    /// <param name="steps">Of the whole training.</param>
    public double LearningRateAt(long step, long steps)
    {
        var warmup = Math.Ceiling(steps * WarmupShare);
        return LearningRate * (step < warmup ? (step + 1) / warmup : (steps - step) / Math.Max(1, steps - warmup));
    }
}
