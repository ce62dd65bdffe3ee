using Mem1.Environments;
using Mem1.Environments.Tasks;
using Mem1.Learner;
using Mem1.Model;

namespace Mem1.Cli.Configuration;

/// <summary>Defaults for the kinds of run the command line names.</summary>
internal static class Presets
{
    /// <summary>The config a command line starts from, before a config file and single settings.</summary>
    /// <param name="corpus">--corpus.</param>
    /// <param name="tasks">--tasks.</param>
    /// <param name="quick">--quick.</param>
    /// <param name="fromScratch">--from-scratch.</param>
    /// <param name="assembly">--env.</param>
    /// <param name="kind">The kind that the config file or a setting names.</param>
    public static RunConfig For(
        string? corpus, string? tasks, bool quick, bool fromScratch, string? assembly = null, EnvironmentKind kind = EnvironmentKind.Worlds)
    {
        var config = assembly is not null ? Own(assembly)
            : kind == EnvironmentKind.Web ? Web(Retrieval(corpus, tasks))
            : kind == EnvironmentKind.Webshop && corpus is null && tasks is null ? WebShop()
            : corpus is null && tasks is null ? new RunConfig()
            : Retrieval(corpus, tasks);
        if (fromScratch) config = config with { Model = config.Model with { From = "new" } };
        return quick ? Quick(config) : config;
    }

    /// <summary>
    /// A new small model over a user's corpus. The context must hold a prompt of about 500 byte-level tokens, a memory and an
    /// observation, so
    /// positions and limits are larger than the worlds', and batches smaller to keep an update within seconds.
    /// </summary>
    private static RunConfig Retrieval(string? corpus, string? tasks)
    {
        var config = Small();
        // Composed tasks say themselves how many objectives there are.
        if (Readable(tasks) is not { IsComposed: true } composed)
            return config with { Environment = config.Environment with { Corpus = corpus, Tasks = tasks } };
        int[] counts = [.. composed.Entries.Select(t => t.Task.Objectives.Count).Distinct().Order()];
        return config with
        {
            Environment = config.Environment with { Corpus = corpus, Tasks = tasks, MinObjectives = counts[0], MaxObjectives = counts[^1] },
            // A number of which there is one task has none held out.
            Evaluation = config.Evaluation with { Objectives = [.. counts.Where(n => composed.Entries.Count(t => t.Task.Objectives.Count == n) > 1)] },
        };
    }

    /// <summary>The task file, or null where opening the environment will say what is wrong with it.</summary>
    private static TaskFile? Readable(string? tasks)
    {
        try
        {
            return tasks is null || !File.Exists(tasks) ? null : TaskFile.Load(tasks);
        }
        catch (DataFormatException)
        {
            return null;
        }
    }

    private static RunConfig Own(string assembly)
    {
        var config = Small();
        return config with
        {
            Name = "own",
            Environment = config.Environment with { Kind = EnvironmentKind.Assembly, Assembly = assembly, MaxObjectives = 1 },
            Evaluation = config.Evaluation with { Objectives = [1] },
        };
    }

    private static RunConfig Small() => new()
    {
        Name = "retrieval",
        Environment = new EnvironmentConfig
        {
            Kind = EnvironmentKind.Retrieval,
            MinObjectives = 1,
            MaxObjectives = 2,
        },
        Model = new ModelSection { From = "new", MaxPositions = 2048 },
        Rollout = new RolloutConfig { EpisodesPerUpdate = 16, MaxEpisodes = 16, MaxObservationTokens = 512 },
        Cloning = new CloningOptions { Steps = 150, BatchTurns = 8 },
        Evaluation = new EvaluationConfig { Episodes = 16, Objectives = [1, 2] },
    };

    /// <summary>As retrieval, with as many results as the small model's context holds; a larger model takes the paper's ten.</summary>
    private static RunConfig Web(RunConfig config) => config with
    {
        Name = "web",
        Environment = config.Environment with
        {
            Kind = EnvironmentKind.Web,
            Web = new WebSection { Qa = new WebSection().Qa with { Documents = 3 }, PageCharacters = 800 },
        },
    };

    /// <summary>
    /// A new small model in the shop. A page of ten products takes some 700 byte-level tokens and the prompt as many; a response holds at
    /// most the memory of ten turns.
    /// </summary>
    private static RunConfig WebShop()
    {
        var config = Small();
        return config with
        {
            Name = "webshop",
            Environment = config.Environment with { Kind = EnvironmentKind.Webshop, MaxObjectives = 1 },
            Rollout = config.Rollout with { MaxObservationTokens = 1000, MaxNewTokens = 400 },
            // A response holds long copies in a strict format; with 400 steps most episodes still ended by a broken one, measured.
            Cloning = config.Cloning with { Steps = 1200 },
            Evaluation = config.Evaluation with { Objectives = [1] },
        };
    }

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
