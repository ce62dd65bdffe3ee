// Keeps: options are immutable, every property says what it means, and Validate names every contradiction at once.
namespace Mem1.Learner;

/// <summary>Behaviour cloning from the scripted expert: the warm start of a new model.</summary>
public sealed record CloningOptions
{
    /// <summary>Optimiser steps; 0 skips cloning.</summary>
    public int Steps { get; init; } = 4000;
    /// <summary>Turns per step.</summary>
    public int BatchTurns { get; init; } = 32;
    /// <summary>Highest learning rate.</summary>
    public double LearningRate { get; init; } = 2e-3;
    /// <summary>Steps over which the learning rate rises linearly.</summary>
    public int WarmupSteps { get; init; } = 50;
    /// <summary>Share of the steps after which the learning rate falls linearly to 0.</summary>
    public double HoldShare { get; init; } = 0.3;
    /// <summary>Decoupled weight decay of the matrices.</summary>
    public double WeightDecay { get; init; } = 0.01;
    /// <summary>AdamW's first beta.</summary>
    public double Beta1 { get; init; } = 0.9;
    /// <summary>AdamW's second beta.</summary>
    public double Beta2 { get; init; } = 0.98;
    /// <summary>Largest gradient norm.</summary>
    public double GradientClip { get; init; } = 1.0;
    /// <summary>Largest number of padded tokens in one forward and backward pass.</summary>
    public int MicroBatchTokens { get; init; } = 8192;

    /// <summary>Every contradiction, as a sentence each; empty when there is none.</summary>
    public IReadOnlyList<string> Validate()
    {
        var errors = new List<string>();
        if (Steps < 0) errors.Add($"cloning.steps is {Steps}; it must not be negative.");
        if (BatchTurns < 1) errors.Add($"cloning.batch_turns is {BatchTurns}; it must be at least 1.");
        if (LearningRate is not (> 0 and < 1)) errors.Add($"cloning.learning_rate is {LearningRate}; it must be in (0, 1).");
        if (WarmupSteps < 0) errors.Add($"cloning.warmup_steps is {WarmupSteps}; it must not be negative.");
        if (Steps > 0 && WarmupSteps > Steps)
            errors.Add($"cloning.warmup_steps ({WarmupSteps}) exceeds cloning.steps ({Steps}): the learning rate would never be reached.");
        if (HoldShare is not (>= 0 and < 1)) errors.Add($"cloning.hold_share is {HoldShare}; it must be in [0, 1).");
        if (WeightDecay is not (>= 0 and < 1)) errors.Add($"cloning.weight_decay is {WeightDecay}; it must be in [0, 1).");
        if (Beta1 is not (>= 0 and < 1)) errors.Add($"cloning.beta1 is {Beta1}; it must be in [0, 1).");
        if (Beta2 is not (>= 0 and < 1)) errors.Add($"cloning.beta2 is {Beta2}; it must be in [0, 1).");
        if (GradientClip < 0) errors.Add($"cloning.gradient_clip is {GradientClip}; it must not be negative.");
        if (MicroBatchTokens < 1) errors.Add($"cloning.micro_batch_tokens is {MicroBatchTokens}; it must be at least 1.");
        return errors;
    }

    /// <summary>The learning rate of a step (from 0).</summary>
    public double LearningRateAt(int step)
    {
        var rise = WarmupSteps == 0 ? 1.0 : Math.Min(1.0, (step + 1) / (double)WarmupSteps);
        var fall = Math.Min(1.0, (Steps - step) / (Steps * (1 - HoldShare)));
        return LearningRate * Math.Min(rise, fall);
    }
}
