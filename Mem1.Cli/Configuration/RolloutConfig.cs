using Mem1.Actors;
using Mem1.Model.Generation;

namespace Mem1.Cli.Configuration;

/// <summary>How batches are sampled.</summary>
public sealed record RolloutConfig
{
    // Importance ratios of data this old say nothing any more, and this many batches are held in memory.
    private const int MaxStaleness = 64;

    /// <summary>Episodes in a batch.</summary>
    public int EpisodesPerUpdate { get; init; } = 64;
    /// <summary>How often each task of a batch is played, with different draws of the policy; grpo and rloo need at least 2.</summary>
    public int GroupSize { get; init; } = 1;
    /// <summary>Episodes a worker plays at once.</summary>
    public int MaxEpisodes { get; init; } = 64;
    /// <summary>Whether the learner's process plays episodes itself; without, workers come from elsewhere (mem1 rollout).</summary>
    public bool LocalWorker { get; init; } = true;
    /// <summary>
    /// How many versions older than the weights it trains the oldest token of an episode may be. 0 samples and learns in turns; with k, up to
    /// k batches more are sampled while one is learnt from.
    /// </summary>
    public int Staleness { get; init; }
    /// <summary>Where continuations come from: built_in, or openai for a server such as mem1 serve, vLLM or SGLang.</summary>
    public PolicyBackend Backend { get; init; } = PolicyBackend.BuiltIn;
    /// <summary>The server; openai backend only.</summary>
    public PolicyEndpointOptions Endpoint { get; init; } = new();
    /// <summary>Share of all tasks that may be given up after failing again and again before the run stops.</summary>
    public double QuarantineQuota { get; init; } = 0.05;
    /// <summary>
    /// MiB of keys and values that a worker keeps of prompts, so that a turn reads only what is new; 0 reads every context whole. It changes
    /// no result. Built-in backend with rollout.memory reencode only.
    /// </summary>
    public int PromptCacheMib { get; init; } = (int)(CpuGenerationEngine.StandardPromptBytes >> 20);
    /// <summary>
    /// Where the built-in backend computes: cpu, in managed code, or cuda, on libtorch (which reads every context whole).
    /// </summary>
    public string Device { get; init; } = "cpu";
    /// <summary>Threads that decode; 0 takes one per processor (1 in serial mode).</summary>
    public int Threads { get; init; }
    /// <summary>Sampling temperature of training episodes.</summary>
    public double Temperature { get; init; } = 1.0;
    /// <summary>Nucleus mass; below 1 the sampled policy is not quite the trained one.</summary>
    public double TopP { get; init; } = 1.0;
    /// <summary>
    /// How memory reaches the next turn: reencode reads the kept tokens again; carry keeps their keys and values as they were computed and
    /// evicts what is pruned; full forgets nothing, to compare with. It must go with ppo.layout.
    /// </summary>
    public RolloutMemory Memory { get; init; } = RolloutMemory.Reencode;
    /// <summary>Tokens of one response; 0 lets the worlds say (8 per objective and 10).</summary>
    public int MaxNewTokens { get; init; }
    /// <summary>Tokens of one observation; the closing tag is kept when it is cut.</summary>
    public int MaxObservationTokens { get; init; } = 256;

    /// <summary>Every contradiction, a sentence each.</summary>
    public IReadOnlyList<string> Validate()
    {
        var errors = new List<string>();
        if (EpisodesPerUpdate < 1) errors.Add($"rollout.episodes_per_update is {EpisodesPerUpdate}; it must be at least 1.");
        if (GroupSize < 1) errors.Add($"rollout.group_size is {GroupSize}; it must be at least 1.");
        else if (EpisodesPerUpdate >= 1 && EpisodesPerUpdate % GroupSize != 0)
            errors.Add($"rollout.episodes_per_update ({EpisodesPerUpdate}) is not a multiple of rollout.group_size ({GroupSize}).");
        if (Staleness is < 0 or > MaxStaleness) errors.Add($"rollout.staleness is {Staleness}; it must be in 0 to {MaxStaleness}.");
        if (QuarantineQuota is not (>= 0 and <= 1)) errors.Add($"rollout.quarantine_quota is {QuarantineQuota}; it must be in [0, 1].");
        if (MaxEpisodes < 1) errors.Add($"rollout.max_episodes is {MaxEpisodes}; it must be at least 1.");
        if (PromptCacheMib < 0) errors.Add($"rollout.prompt_cache_mib is {PromptCacheMib}; it must not be negative.");
        if (Device is not ("cpu" or "cuda")) errors.Add($"rollout.device is \"{Device}\"; it must be cpu or cuda.");
        else if (Device == "cuda" && Memory == RolloutMemory.Carry)
            errors.Add("rollout.memory is carry but rollout.device is cuda: carried episodes need the managed decoder; use cpu or reencode.");
        if (Threads < 0) errors.Add($"rollout.threads is {Threads}; it must not be negative.");
        if (Temperature is not (> 0 and <= 10)) errors.Add($"rollout.temperature is {Temperature}; training needs one in (0, 10].");
        if (TopP is not (> 0 and <= 1)) errors.Add($"rollout.top_p is {TopP}; it must be in (0, 1].");
        if (MaxNewTokens < 0) errors.Add($"rollout.max_new_tokens is {MaxNewTokens}; it must not be negative.");
        if (MaxObservationTokens < 8) errors.Add($"rollout.max_observation_tokens is {MaxObservationTokens}; it must be at least 8.");
        errors.AddRange(Endpoint.Validate(Backend == PolicyBackend.Openai));
        if (Backend == PolicyBackend.Openai && Memory == RolloutMemory.Carry)
            errors.Add("rollout.memory is carry but rollout.backend is openai: a server reads its context anew each turn; use reencode.");
        return errors;
    }
}
