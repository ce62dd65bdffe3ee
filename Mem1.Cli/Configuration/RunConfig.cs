// Keeps: a run is described by this record alone. config.yaml in a run folder is this record written out, so a run can be repeated from it.
using Mem1.Actors;
using Mem1.Environments.Qa;
using Mem1.Environments.Retrieval;
using Mem1.Environments.Tasks;
using Mem1.Environments.WebShop;
using Mem1.Environments.Worlds;
using Mem1.Learner;
using Mem1.Model;
using Mem1.Model.Checkpoints;

namespace Mem1.Cli.Configuration;

/// <summary>Everything a run depends on. In YAML the names are in snake_case.</summary>
public sealed record RunConfig
{
    /// <summary>Name of the run's folder.</summary>
    public string Name { get; init; } = "default";
    /// <summary>Seed of everything random.</summary>
    public ulong Seed { get; init; } = 1;
    /// <summary>Number of the last update.</summary>
    public int Updates { get; init; } = 100;
    /// <summary>One thread for everything: the same seed gives the same metrics bit for bit.</summary>
    public bool Serial { get; init; }
    /// <summary>Where tasks and observations come from.</summary>
    public EnvironmentConfig Environment { get; init; } = new();
    /// <summary>The shape of a new model, or where to load one from.</summary>
    public ModelSection Model { get; init; } = new();
    /// <summary>How batches are sampled.</summary>
    public RolloutConfig Rollout { get; init; } = new();
    /// <summary>The warm start of a new model.</summary>
    public CloningOptions Cloning { get; init; } = new();
    /// <summary>The learning algorithm.</summary>
    public PpoOptions Ppo { get; init; } = new();
    /// <summary>The learner's server and device.</summary>
    public LearnerConfig Learner { get; init; } = new();
    /// <summary>How learner and workers of several processes see one another.</summary>
    public ClusterConfig Cluster { get; init; } = new();
    /// <summary>Evaluation on held-out tasks before and after.</summary>
    public EvaluationConfig Evaluation { get; init; } = new();
    /// <summary>What is kept on disk.</summary>
    public CheckpointConfig Checkpoint { get; init; } = new();

    /// <summary>Every contradiction of the whole config, a sentence each.</summary>
    public IReadOnlyList<string> Validate()
    {
        var errors = new List<string>();
        void Check(bool ok, string sentence)
        {
            if (!ok) errors.Add(sentence);
        }

        Check(Name.Length > 0 && Name.IndexOfAny(['/', '\\', '\0']) < 0 && Name is not ("." or ".."),
            $"name is \"{Name}\"; it must be usable as a folder name.");
        Check(Updates >= 1, $"updates is {Updates}; it must be at least 1.");
        errors.AddRange(Environment.Validate());
        errors.AddRange(Model.Validate());
        errors.AddRange(Rollout.Validate());
        errors.AddRange(Cloning.Validate());
        errors.AddRange(Ppo.Validate());
        errors.AddRange(Learner.Validate());
        errors.AddRange(Cluster.Validate());
        errors.AddRange(Evaluation.Validate());
        errors.AddRange(Checkpoint.Validate());
        Check(Rollout.MaxObservationTokens < Model.MaxPositions,
            $"rollout.max_observation_tokens ({Rollout.MaxObservationTokens}) leaves no room in model.max_positions "
            + $"({Model.MaxPositions}).");
        Check(Ppo.MiniBatches <= Rollout.EpisodesPerUpdate,
            $"ppo.mini_batches ({Ppo.MiniBatches}) exceeds rollout.episodes_per_update ({Rollout.EpisodesPerUpdate}).");
        Check(!Ppo.NeedsGroups || Rollout.GroupSize >= 2,
            $"ppo.estimator is {Ppo.Estimator.ToString().ToLowerInvariant()}, which compares episodes of one task, but rollout.group_size is "
            + $"{Rollout.GroupSize}; it must be at least 2.");
        Check(!Environment.HasWorlds() || Evaluation.Objectives.All(o => o <= WorldsOptions.MaxObjectives),
            $"evaluation.objectives asks for more than the worlds' {WorldsOptions.MaxObjectives} objectives.");
        Check(!Environment.HasWorlds() || Environment.MostObjectives() <= WorldsOptions.MaxObjectives,
            $"environment.max_objectives ({Environment.MostObjectives()}) is above the worlds' {WorldsOptions.MaxObjectives}.");
        Check(Environment.HasWorlds() || Model.From != "built-in",
            $"model.from is built-in but environment.kind is {Environment.Kind.ToString().ToLowerInvariant()}: the built-in model "
            + "knows the worlds' words only; use new or a checkpoint folder.");
        Check(!Serial || Rollout.LocalWorker,
            "serial is on but rollout.local_worker is off: workers of other processes answer in no fixed order.");
        Check(Rollout.Memory == RolloutMemory.Carry == (Ppo.Layout == LayoutKind.Carry)
            && Rollout.Memory == RolloutMemory.Full == (Ppo.Layout == LayoutKind.Full),
            $"rollout.memory is {Rollout.Memory.ToString().ToLowerInvariant()} but ppo.layout is "
            + $"{Ppo.Layout.ToString().ToLowerInvariant()}: the learner would not compute what the sampler did; carry goes with carry, "
            + "reencode with segments, full with full.");
        Check(!(Serial && Rollout.Staleness > 0),
            $"serial is on but rollout.staleness is {Rollout.Staleness}: which weights sample a token would depend on timing; serial runs use 0.");
        Check(!(Serial && Rollout.Threads > 1), $"serial is on but rollout.threads is {Rollout.Threads}; serial runs use 1.");
        return errors;
    }
}

/// <summary>Which environment family a run plays.</summary>
public enum EnvironmentKind
{
    /// <summary>The built-in worlds: made-up facts, for the built-in tiny model.</summary>
    Worlds,
    /// <summary>Question answering over a corpus file.</summary>
    Retrieval,
    /// <summary>The user's own, from an assembly (docs/environments.md).</summary>
    Assembly,
    /// <summary>Several of the others in proportions, for one model.</summary>
    Mix,
    /// <summary>Question answering over the web, or over a generated one on this machine.</summary>
    Web,
    /// <summary>Shopping in WebShop, with its published files or in a made-up shop.</summary>
    Webshop,
}

/// <summary>Where tasks and observations come from.</summary>
public sealed record EnvironmentConfig
{
    /// <summary>worlds, retrieval, web, webshop, assembly or mix.</summary>
    public EnvironmentKind Kind { get; init; } = EnvironmentKind.Worlds;
    /// <summary>Corpus file (jsonl with id and contents); retrieval only.</summary>
    public string? Corpus { get; init; }
    /// <summary>Index of the corpus, made by mem1 data index; beside the corpus if not given; retrieval only.</summary>
    public string? Index { get; init; }
    /// <summary>A search service instead of an index; the corpus then only serves to make a tokenizer; retrieval only.</summary>
    public RemoteRetrieverOptions Retriever { get; init; } = new();
    /// <summary>Task file (jsonl with id, question and golden_answers); retrieval, and web unless its provider is local.</summary>
    public string? Tasks { get; init; }
    /// <summary>Assembly with an environment of the user's own; assembly only.</summary>
    public string? Assembly { get; init; }
    /// <summary>The environments of a mix; their shares, files and options count, the numbers of objectives are those of the mix. Mix only.</summary>
    public IReadOnlyList<EnvironmentConfig> Mix { get; init; } = [];
    /// <summary>Share of the tasks, in proportion to the other environments of a mix; only within a mix.</summary>
    public double Share { get; init; } = 1;
    /// <summary>Fewest objectives of a training task, before the first stage of the curriculum.</summary>
    public int MinObjectives { get; init; } = 1;
    /// <summary>Most objectives of a training task; the number is drawn evenly.</summary>
    public int MaxObjectives { get; init; } = 4;
    /// <summary>Numbers of objectives from some updates on, in the order of the updates; empty for the same ones all along.</summary>
    public IReadOnlyList<CurriculumStage> Curriculum { get; init; } = [];
    /// <summary>The made-up worlds; worlds only.</summary>
    public WorldsOptions Worlds { get; init; } = new();
    /// <summary>How often the scripted expert errs; worlds only.</summary>
    public WorldsExpertOptions WorldsExpert { get; init; } = new();
    /// <summary>How retrieval episodes run; retrieval only.</summary>
    public RetrievalQaOptions Retrieval { get; init; } = new();
    /// <summary>How often the scripted expert errs; retrieval and web.</summary>
    public RetrievalQaExpertOptions RetrievalExpert { get; init; } = new();
    /// <summary>What web QA searches and reads; web only.</summary>
    public WebSection Web { get; init; } = new();
    /// <summary>What WebShop sells and asks for; webshop only.</summary>
    public ShopSection Shop { get; init; } = new();
    /// <summary>How episodes in WebShop run; webshop only.</summary>
    public WebShopOptions Webshop { get; init; } = new();
    /// <summary>How often the scripted shopper errs; webshop only.</summary>
    public WebShopExpertOptions WebshopExpert { get; init; } = new();
    /// <summary>Share of the questions that training never sees; retrieval and web.</summary>
    public double HeldOutFraction { get; init; } = 0.1;

    /// <summary>Every contradiction, a sentence each.</summary>
    public IReadOnlyList<string> Validate()
    {
        var errors = new List<string>();
        if (MinObjectives < 1) errors.Add($"environment.min_objectives is {MinObjectives}; it must be at least 1.");
        if (MaxObjectives < MinObjectives)
            errors.Add($"environment.max_objectives ({MaxObjectives}) is below environment.min_objectives ({MinObjectives}).");
        if (MaxObjectives > TaskFile.MaxObjectives)
            errors.Add($"environment.max_objectives is {MaxObjectives}; it must be at most {TaskFile.MaxObjectives}.");
        for (var i = 0; i < Curriculum.Count; i++)
        {
            var stage = Curriculum[i];
            if (stage.MinObjectives < 1 || stage.MaxObjectives < stage.MinObjectives || stage.MaxObjectives > TaskFile.MaxObjectives)
            {
                errors.Add($"environment.curriculum[{i}] asks for {stage.MinObjectives} to {stage.MaxObjectives} objectives; "
                    + $"they must be in order and in 1 to {TaskFile.MaxObjectives}.");
            }

            if (stage.FromUpdate < 1 || (i > 0 && stage.FromUpdate <= Curriculum[i - 1].FromUpdate))
                errors.Add($"environment.curriculum[{i}].from_update is {stage.FromUpdate}; "
                    + "updates count from 1 and stages come in their order.");
        }

        if (Share is not (> 0 and < double.PositiveInfinity)) errors.Add($"environment.share is {Share}; it must be above 0.");
        if (Kind == EnvironmentKind.Assembly && string.IsNullOrEmpty(Assembly))
            errors.Add("environment.kind is assembly but environment.assembly (--env ASSEMBLY.dll) is missing.");
        if (Kind != EnvironmentKind.Assembly && !string.IsNullOrEmpty(Assembly))
            errors.Add($"environment.assembly is set but environment.kind is {Kind.ToString().ToLowerInvariant()}, which has no use for it.");
        if (Kind == EnvironmentKind.Mix)
            errors.AddRange(ValidateMix());
        else if (Mix.Count > 0)
            errors.Add($"environment.mix is set but environment.kind is {Kind.ToString().ToLowerInvariant()}; it must be mix.");
        if (Kind == EnvironmentKind.Retrieval)
        {
            if (string.IsNullOrEmpty(Corpus) && string.IsNullOrEmpty(Index) && Retriever.Url is null) errors.Add(
                "environment.kind is retrieval but environment.corpus (--corpus FILE.jsonl) is missing, "
                + "and so are environment.index and environment.retriever.url.");
            if (!string.IsNullOrEmpty(Index) && Retriever.Url is not null) errors.Add(
                "environment.index and environment.retriever.url are both set, but searches go to one of them.");
            if (string.IsNullOrEmpty(Tasks)) errors.Add(
                "environment.kind is retrieval but environment.tasks (--tasks FILE.jsonl) is missing.");
        }
        else if (Kind == EnvironmentKind.Web)
        {
            if (!string.IsNullOrEmpty(Corpus))
                errors.Add("environment.corpus is set but environment.kind is web, which searches no corpus.");
            if (Web.Provider == WebProvider.Local && !string.IsNullOrEmpty(Tasks))
                errors.Add("environment.tasks is set but environment.web.provider is local, which makes up its own questions.");
            if (Web.Provider != WebProvider.Local && string.IsNullOrEmpty(Tasks))
                errors.Add("environment.kind is web but environment.tasks (--tasks FILE.jsonl) is missing.");
        }
        else
        {
            var kind = Kind.ToString().ToLowerInvariant();
            var why = Kind == EnvironmentKind.Mix ? "whose parts have their own" : "which makes up its own";
            if (!string.IsNullOrEmpty(Corpus)) errors.Add($"environment.corpus is set but environment.kind is {kind}, {why}.");
            if (!string.IsNullOrEmpty(Index)) errors.Add($"environment.index is set but environment.kind is {kind}, {why} passages.");
            if (Retriever.Url is not null)
                errors.Add($"environment.retriever.url is set but environment.kind is {kind}, {why} passages.");
            if (!string.IsNullOrEmpty(Tasks)) errors.Add($"environment.tasks is set but environment.kind is {kind}, {why}.");
        }

        errors.AddRange(Worlds.Validate().Select(e => $"environment.{e}"));
        errors.AddRange(WorldsExpert.Validate().Select(e => $"environment.{e}"));
        errors.AddRange(Retriever.Validate().Select(e => $"environment.{e}"));
        errors.AddRange(Retrieval.Validate().Select(e => $"environment.{e}"));
        errors.AddRange(RetrievalExpert.Validate().Select(e => $"environment.{e}"));
        errors.AddRange(Web.Validate());
        errors.AddRange(ValidateShop());
        if (HeldOutFraction is not (>= 0 and < 1)) errors.Add($"environment.held_out_fraction is {HeldOutFraction}; it must be in [0, 1).");
        return errors;
    }

    private IEnumerable<string> ValidateShop()
    {
        var named = Kind.ToString().ToLowerInvariant();
        if (Kind != EnvironmentKind.Webshop && Shop.HasFiles())
            yield return $"environment.shop names files but environment.kind is {named}, which has no use for them.";
        // A mix says how many objectives its parts have.
        if (Kind == EnvironmentKind.Webshop && Stages().Any(s => s.Min > 1))
            yield return "environment.min_objectives is above 1 but environment.kind is webshop, whose tasks have one objective each.";
        foreach (var error in Shop.Validate()) yield return error;
        foreach (var error in Webshop.Validate().Concat(WebshopExpert.Validate())) yield return $"environment.{error}";
    }

    /// <summary>Whether the worlds are played, alone or in a mix.</summary>
    public bool HasWorlds() => Kind == EnvironmentKind.Worlds || Mix.Any(m => m.Kind == EnvironmentKind.Worlds);

    /// <summary>Whether web QA is played, alone or in a mix.</summary>
    public bool HasWeb() => Kind == EnvironmentKind.Web || Mix.Any(m => m.Kind == EnvironmentKind.Web);

    /// <summary>Fewest and most objectives of the training tasks of an update.</summary>
    public (int Min, int Max) ObjectivesAt(long update) => Curriculum.LastOrDefault(s => s.FromUpdate <= update) is { } stage
        ? (stage.MinObjectives, stage.MaxObjectives)
        : (MinObjectives, MaxObjectives);

    /// <summary>Fewest objectives of a training task of any update.</summary>
    public int LeastObjectives() => Stages().Min(s => s.Min);

    /// <summary>Most objectives of a training task of any update.</summary>
    public int MostObjectives() => Stages().Max(s => s.Max);

    /// <summary>Every range of objectives that comes up.</summary>
    public IEnumerable<(int Min, int Max)> Stages() =>
        Curriculum.Select(s => (s.MinObjectives, s.MaxObjectives)).Concat(
            Curriculum is [{ FromUpdate: 1 }, ..] ? [] : [(MinObjectives, MaxObjectives)]);

    private IEnumerable<string> ValidateMix()
    {
        if (Mix.Count == 0) yield return "environment.kind is mix but environment.mix has no environments.";
        if (HasWorlds() && Mix.Any(m => m.Kind != EnvironmentKind.Worlds))
        {
            yield return "environment.mix has worlds beside other environments, but the worlds' tokenizer knows whole words only and the "
                + "others share a byte-level one: mix environments of one tokenizer.";
        }

        for (var i = 0; i < Mix.Count; i++)
        {
            if (Mix[i].Kind == EnvironmentKind.Mix) yield return $"environment.mix[{i}].kind is mix; a mix holds no other mix.";
            if (Mix[i].Curriculum.Count > 0) yield return $"environment.mix[{i}].curriculum is set; the curriculum of a mix is environment.curriculum.";
            foreach (var error in Mix[i].Validate())
                yield return error.Replace("environment.", $"environment.mix[{i}].", StringComparison.Ordinal);
        }
    }
}

/// <summary>Evaluation on held-out tasks, greedy, before the first and after the last update.</summary>
public sealed record EvaluationConfig
{
    /// <summary>Episodes for each number of objectives; 0 skips evaluation.</summary>
    public int Episodes { get; init; } = 128;
    /// <summary>Numbers of objectives.</summary>
    public IReadOnlyList<int> Objectives { get; init; } = [1, 2, 4, 8];

    /// <summary>Every contradiction, a sentence each.</summary>
    public IReadOnlyList<string> Validate()
    {
        var errors = new List<string>();
        if (Episodes < 0) errors.Add($"evaluation.episodes is {Episodes}; it must not be negative.");
        if (Objectives.Any(o => o < 1)) errors.Add("evaluation.objectives has a number below 1.");
        if (Episodes > 0 && Objectives.Count == 0) errors.Add("evaluation.objectives is empty but evaluation.episodes is not 0.");
        return errors;
    }
}
