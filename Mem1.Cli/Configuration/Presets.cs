using Mem1.Learner;
using Mem1.Model;

namespace Mem1.Cli.Configuration;

/// <summary>Defaults for the kinds of run the command line names.</summary>
internal static class Presets
{
    /// <summary>The config a command line starts from, before a config file and single settings.</summary>
    public static RunConfig For(string? corpus, string? tasks, bool quick, bool fromScratch)
    {
        var config = corpus is null && tasks is null ? new RunConfig() : Retrieval(corpus, tasks);
        if (fromScratch) config = config with { Model = config.Model with { From = "new" } };
        return quick ? Quick(config) : config;
    }

    /// <summary>
    /// A new small model over a user's corpus. The context must hold a prompt of about 500 byte-level tokens, a memory and an
    /// observation, so
    /// positions and limits are larger than the worlds', and batches smaller to keep an update within seconds.
    /// </summary>
    private static RunConfig Retrieval(string? corpus, string? tasks) => new()
    {
        Name = "retrieval",
        Environment = new EnvironmentConfig
        {
            Kind = EnvironmentKind.Retrieval, Corpus = corpus, Tasks = tasks, MinObjectives = 1, MaxObjectives = 2,
        },
        Model = new ModelSection { From = "new", MaxPositions = 2048 },
        Rollout = new RolloutConfig { EpisodesPerUpdate = 16, MaxEpisodes = 16, MaxObservationTokens = 512 },
        Cloning = new CloningOptions { Steps = 150, BatchTurns = 8 },
        Evaluation = new EvaluationConfig { Episodes = 16, Objectives = [1, 2] },
    };

    /// <summary>The same phases at the smallest size, for smoke tests.</summary>
    private static RunConfig Quick(RunConfig config) => config with
    {
        Name = "quick",
        Updates = 3,
        Rollout = config.Rollout with { EpisodesPerUpdate = 8, MaxEpisodes = 8 },
        Cloning = config.Cloning with { Steps = Math.Min(config.Cloning.Steps, 30), WarmupSteps = 5 },
        Ppo = config.Ppo with { MiniBatches = 2, WarmupUpdates = 1 },
        Evaluation = config.Evaluation with { Episodes = 4 },
        Checkpoint = config.Checkpoint with { Every = 2 },
    };
}
