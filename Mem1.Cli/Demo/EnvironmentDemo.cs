// Keeps: held-out tasks are never trained on; what is smaller than in the environments' defaults is size alone (a small shop and web, short
// pages, prompts without their guide): rules, actions, parsing, scores and the learning algorithm are those of any run.
using System.Text.Json.Serialization;
using Mem1.Cli.Configuration;
using Mem1.Cli.Training;
using Mem1.Environments.Qa;
using Mem1.Environments.WebShop;
using Mem1.Learner;

namespace Mem1.Cli.Demo;

/// <summary>What a demonstration plays.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<DemoEnvironment>))]
internal enum DemoEnvironment
{
    /// <summary>Made-up worlds: constant memory against full context.</summary>
    Worlds,
    /// <summary>A small made-up shop: an agent before and after PPO.</summary>
    Webshop,
    /// <summary>A small local web: an agent before and after PPO.</summary>
    Web,
}

/// <summary>The demonstrations of one agent: cloned from an expert who errs, then trained by PPO, and measured before and after.</summary>
internal static class EnvironmentDemo
{
    private const int MostEpisodes = 128;

    private static readonly ShopSection s_shop = new() { Kinds = 6, ProductsPerKind = 24 };

    /// <summary>When a model is measured.</summary>
    public static IReadOnlyList<string> Moments { get; } = ["before", "after"];

    /// <summary>How actions are drawn: as in training, at temperature 1, and greedily.</summary>
    public static IReadOnlyList<(string Name, double Temperature)> Decodings { get; } = [("sampled", 1), ("greedy", 0)];

    /// <summary>The plan of a command line.</summary>
    public static DemoPlan Plan(DemoEnvironment environment, IReadOnlyList<ulong> seeds, int? episodes, bool quick) => new(
        seeds, environment == DemoEnvironment.Web ? [1, 2] : [1], episodes ?? (quick ? 2 : Episodes(environment)), quick, environment);

    /// <summary>
    /// As many as an interval of a few hundredths needs. The shop has no more than its held-out goals: the same one twice would be counted as
    /// two.
    /// </summary>
    private static int Episodes(DemoEnvironment environment) => environment == DemoEnvironment.Web ? MostEpisodes
        : Math.Min(MostEpisodes, WebShopTaskSource.Test(ShopSet.OpenGoals(s_shop)).Count);

    /// <summary>Folder name of an evaluation.</summary>
    public static string Evaluation(string run, string moment, string decoding) => $"{run}-{moment}-{decoding}";

    /// <summary>How the agent is trained.</summary>
    /// <param name="plan">Not of the worlds.</param>
    /// <param name="name">Of the run.</param>
    /// <param name="seed">Of the run.</param>
    /// <param name="threads">That decode.</param>
    public static RunConfig Training(DemoPlan plan, string name, ulong seed, int threads)
    {
        var config = plan.Environment == DemoEnvironment.Web ? Web() : Webshop();
        config = config with
        {
            Name = name,
            Seed = seed,
            Rollout = config.Rollout with { Threads = threads },
            Evaluation = new EvaluationConfig { Episodes = 0 },
            // The clone, step 0, is measured when all is done.
            Checkpoint = new CheckpointConfig { Every = 10, Keep = 100, KeepBest = 0, CloningEvery = 250 },
        };
        return !plan.Quick ? config : config with
        {
            Updates = 2,
            Environment = config.Environment with
            {
                Web = config.Environment.Web with { LocalPages = 40 },
                Shop = config.Environment.Shop with { Kinds = 2 },
            },
            Rollout = config.Rollout with { EpisodesPerUpdate = 4, MaxEpisodes = 4 },
            Cloning = config.Cloning with { Steps = 10, WarmupSteps = 2, BatchTurns = 4 },
            Ppo = config.Ppo with { MiniBatches = 2, WarmupUpdates = 1 },
        };
    }

    private static RunConfig Web()
    {
        var defaults = new WebSection();
        return new RunConfig
        {
            Updates = 30,
            Environment = new EnvironmentConfig
            {
                Kind = EnvironmentKind.Web,
                MinObjectives = 1,
                MaxObjectives = 2,
                HeldOutFraction = 0.25,
                Web = defaults with { Qa = defaults.Qa with { Documents = 1, Guide = false }, LocalPages = 500 },
                RetrievalExpert = new RetrievalQaExpertOptions
                {
                    AnswersEarly = 0.25,
                    CopiesWrongWords = 0.05,
                    WritesUnknown = 0.25,
                    SearchesTooLittle = 0.1,
                },
            },
            // Names are cut into syllables. A vocabulary that holds whole names is learnt faster and is worth nothing on pages that training
            // never asked of: a name that was never trained cannot be written (measured: .9 of the training's questions right, none held out).
            Model = new ModelSection { From = "new", VocabularySize = 512, MaxPositions = 1024 },
            Rollout = new RolloutConfig { EpisodesPerUpdate = 64, MaxEpisodes = 64, MaxObservationTokens = 400, MaxNewTokens = 160 },
            Cloning = new CloningOptions { Steps = 800, LearningRate = 4e-3, MicroBatchTokens = 4096 },
            Ppo = new PpoOptions { WarmupUpdates = 5, DecayUpdates = 50, MicroBatchTokens = 4096 },
        };
    }

    private static RunConfig Webshop() => new()
    {
        Updates = 30,
        Environment = new EnvironmentConfig
        {
            Kind = EnvironmentKind.Webshop,
            MaxObjectives = 1,
            Shop = s_shop,
            Webshop = new WebShopOptions { Guide = false, ProductsPerPage = 4, MaxTurns = 8, InvalidFormatReward = 0 },
            WebshopExpert = new WebShopExpertOptions
            {
                SearchesVaguely = 0.05,
                TakesAnother = 0.2,
                ForgetsOption = 0.35,
                ChoosesWrongValue = 0.1,
                ReadsDescription = 0.05,
                Pages = 1,
            },
        },
        Model = new ModelSection { From = "new", VocabularySize = 1024, MaxPositions = 1024 },
        Rollout = new RolloutConfig { EpisodesPerUpdate = 48, MaxEpisodes = 48, MaxObservationTokens = 400, MaxNewTokens = 120 },
        Cloning = new CloningOptions { Steps = 500, BatchTurns = 24, LearningRate = 4e-3, MicroBatchTokens = 4096 },
        // A turn is some fifty tokens, most of which follow from the few that decide: what an episode earned reaches its early turns when
        // traces decay by turns and not by tokens.
        Ppo = new PpoOptions { Time = CreditTime.Turn, WarmupUpdates = 4, DecayUpdates = 50, MicroBatchTokens = 4096 },
    };
}
