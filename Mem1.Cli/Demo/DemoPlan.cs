// Keeps: the two agents differ in what of an episode they see and in the layout that follows from it, and in nothing else: shape,
// initialisation, tasks, seeds, expert, steps and rates are the same. The expert restates its memory in every turn for both: an agent that
// keeps everything could do without, but learns its task faster so (docs/results.md), and a baseline should be as strong as it can be made.
using System.Text.Json.Serialization;
using Mem1.Actors;
using Mem1.Cli.Configuration;
using Mem1.Environments.Worlds;
using Mem1.Learner;

namespace Mem1.Cli.Demo;

/// <summary>What a demonstration does; its folder holds it as demo.json.</summary>
/// <param name="Seeds">Each trains one agent of each kind.</param>
/// <param name="Objectives">Numbers of objectives to evaluate at, ascending.</param>
/// <param name="Episodes">Held-out episodes of each agent, seed and number of objectives.</param>
/// <param name="Quick">Everything at the smallest size: shows that it works, not what it reaches.</param>
/// <param name="Environment">What is played.</param>
internal sealed record DemoPlan(
    IReadOnlyList<ulong> Seeds, IReadOnlyList<int> Objectives, int Episodes, bool Quick, DemoEnvironment Environment = DemoEnvironment.Worlds)
{
    /// <summary>The agents, by the names that <c>mem1 eval</c> has for them.</summary>
    public static IReadOnlyList<string> Agents { get; } = ["mem1", "full"];

    /// <summary>Those that are trained: both in the worlds, elsewhere the one with constant memory.</summary>
    [JsonIgnore]
    public IReadOnlyList<string> Trained => Environment == DemoEnvironment.Worlds ? Agents : ["mem1"];

    // An observation of ten documents with five facts each has 212 words: as in the paper's tasks most of a turn is what was found, not
    // what was said.
    private static readonly WorldsOptions s_worlds = new() { Documents = 10, FactsPerEntity = 5, ExtraEntities = 10 };

    /// <summary>The plan of a command line.</summary>
    public static DemoPlan Of(IReadOnlyList<ulong> seeds, int? episodes, bool quick) =>
        quick ? new DemoPlan(seeds, [1, 2], episodes ?? 2, true) : new DemoPlan(seeds, [1, 2, 4, 8, 16], episodes ?? 48, false);

    /// <summary>Name of a training, its run folder and its evaluation.</summary>
    public static string Name(string agent, ulong seed) => $"{agent}-s{seed}";

    /// <summary>How one agent is trained.</summary>
    /// <param name="agent">One of <see cref="Agents"/>.</param>
    /// <param name="seed">Of its run.</param>
    /// <param name="threads">That decode.</param>
    public RunConfig Training(string agent, ulong seed, int threads)
    {
        if (Environment != DemoEnvironment.Worlds) return EnvironmentDemo.Training(this, Name(agent, seed), seed, threads);
        var full = agent == "full";
        var config = new RunConfig
        {
            Name = Name(agent, seed),
            Seed = seed,
            Updates = 40,
            Environment = new EnvironmentConfig
            {
                MinObjectives = 1,
                MaxObjectives = 4,
                Worlds = s_worlds,
            },
            // No positions: the longest context is a bound on memory alone. It holds 16 objectives of an agent that forgets nothing, with
            // as many turns as an episode may have and answers as long as they may be (about 4,300 tokens).
            Model = new ModelSection { From = "new", MaxPositions = 8192 },
            Rollout = new RolloutConfig { Threads = threads, Memory = full ? RolloutMemory.Full : RolloutMemory.Reencode },
            // At 16 objectives errors of copying add up: a clone of 1,000 steps had .25 of them right there, one of 1,500 .51.
            Cloning = new CloningOptions { Steps = 1500, MicroBatchTokens = 4096 },
            Ppo = new PpoOptions
            {
                Layout = full ? LayoutKind.Full : LayoutKind.Segments,
                WarmupUpdates = 10,
                DecayUpdates = 40,
                MicroBatchTokens = 4096,
            },
            Evaluation = new EvaluationConfig { Episodes = 0 },
            Checkpoint = new CheckpointConfig { CloningEvery = 250, KeepBest = 0 },
        };
        return !Quick ? config : config with
        {
            Updates = 2,
            Environment = config.Environment with { MaxObjectives = 2, Worlds = new WorldsOptions() },
            Rollout = config.Rollout with { EpisodesPerUpdate = 8, MaxEpisodes = 8 },
            Cloning = config.Cloning with { Steps = 20, WarmupSteps = 5, BatchTurns = 8 },
            Ppo = config.Ppo with { MiniBatches = 2, WarmupUpdates = 1 },
        };
    }
}
