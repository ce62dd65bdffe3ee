namespace Mem1.Cli.Configuration;

/// <summary>What is kept on disk.</summary>
public sealed record CheckpointConfig
{
    /// <summary>Updates between checkpoints; the last update and an interruption always write one.</summary>
    public int Every { get; init; } = 10;
    /// <summary>Steps of cloning between checkpoints of the warm start; an interruption writes one too.</summary>
    public int CloningEvery { get; init; } = 500;
    /// <summary>How many checkpoints are kept.</summary>
    public int Keep { get; init; } = 2;
    /// <summary>How many more are kept for being the best by mean reward since the checkpoint before; 0 keeps the newest alone.</summary>
    public int KeepBest { get; init; } = 1;
    /// <summary>
    /// Keep a spool: every turn goes to the disk before its worker is told to forget it, so that a learner that is killed loses none. Off, turns
    /// since the last checkpoint are played again.
    /// </summary>
    public bool Spool { get; init; } = true;
    /// <summary>Seconds that a write waits for room on a full disk before the run stops with exit code 2; 0 stops at once.</summary>
    public int DiskPatienceSeconds { get; init; } = 3600;
    /// <summary>Episodes of each update whose text goes to trajectories.jsonl.</summary>
    public int SampledTrajectories { get; init; } = 2;
    /// <summary>Write a line to traces.jsonl for every episode that is trained on or given up, some 400 bytes.</summary>
    public bool Traces { get; init; } = true;

    /// <summary>Every contradiction, a sentence each.</summary>
    public IReadOnlyList<string> Validate()
    {
        var errors = new List<string>();
        if (Every < 1) errors.Add($"checkpoint.every is {Every}; it must be at least 1.");
        if (CloningEvery < 1) errors.Add($"checkpoint.cloning_every is {CloningEvery}; it must be at least 1.");
        if (Keep < 1) errors.Add($"checkpoint.keep is {Keep}; it must be at least 1.");
        if (KeepBest < 0) errors.Add($"checkpoint.keep_best is {KeepBest}; it must not be negative.");
        if (DiskPatienceSeconds is < 0 or > 604_800)
            errors.Add($"checkpoint.disk_patience_seconds is {DiskPatienceSeconds}; it must be in 0 to 604800.");
        if (SampledTrajectories < 0) errors.Add($"checkpoint.sampled_trajectories is {SampledTrajectories}; it must not be negative.");
        return errors;
    }
}
