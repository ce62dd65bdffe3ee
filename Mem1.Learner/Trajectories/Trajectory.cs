// Keeps: tokens as they were sampled or observed, never decoded and encoded again; per-token arrays are as long as Generated.
using Mem1.Environments;

namespace Mem1.Learner;

/// <summary>One turn of an episode, as it was sampled. All arrays are token ids or per-generated-token values.</summary>
/// <param name="Context">
/// What followed the prompt when the turn was generated: the turn before (generated, less what the format discards, ++ observation), in the
/// layout full all turns before, or nothing.
/// </param>
/// <param name="Generated">The tokens drawn in this turn.</param>
/// <param name="StateLength">How many of <paramref name="Generated"/> are internal state; the rest is the action.</param>
/// <param name="LogProbs">Behaviour log-probs, one per generated token.</param>
/// <param name="PolicyVersions">Version that made each token's logits.</param>
/// <param name="Observation">What the environment answered, tokenised once; empty on the last turn.</param>
public sealed record Turn(
    int[] Context, int[] Generated, int StateLength, float[] LogProbs, long[] PolicyVersions, int[] Observation)
{
    /// <summary>What this turn earned by itself, given at its last token; 0 at the last turn, which gets what is left of the total.</summary>
    public double Reward { get; init; }
}

/// <summary>A finished episode: the unit the learner trains on.</summary>
/// <param name="EpisodeId">Unique per attempt's episode.</param>
/// <param name="TaskId">The task it played.</param>
/// <param name="Prompt">Prompt tokens; never empty.</param>
/// <param name="Turns">In time order; never empty.</param>
/// <param name="Reward">Total reward; what no earlier turn earned is given at the last generated token.</param>
/// <param name="End">Why it ended.</param>
/// <param name="ExactMatch">0 or 1 per objective.</param>
/// <param name="F1">Token F1 per objective.</param>
/// <param name="Answer">Text of the final answer.</param>
/// <param name="Evaluation">Scored, never trained on.</param>
public sealed record Trajectory(
    string EpisodeId,
    string TaskId,
    int[] Prompt,
    IReadOnlyList<Turn> Turns,
    double Reward,
    EpisodeEnd End,
    IReadOnlyList<double> ExactMatch,
    IReadOnlyList<double> F1,
    string Answer,
    bool Evaluation)
{
    /// <summary>Episodes of one batch with the same name here played the same task; empty when the task was played once.</summary>
    public string Group { get; init; } = "";

    /// <summary>Tokens of an action that would answer the task rightly; empty when nobody knows one.</summary>
    public int[] RightAnswer { get; init; } = [];

    /// <summary>What the episode is called in logs and records of both sides, 32 hex digits; empty when it was not played for a ledger.</summary>
    public string TraceId { get; init; } = "";

    /// <summary>The tries it took, in order, as far as this life of the learner knows them.</summary>
    public IReadOnlyList<EpisodeTry> Tries { get; init; } = [];

    /// <summary>The part of <see cref="Reward"/> that is for the format alone.</summary>
    public double FormatReward { get; init; }

    /// <summary>Whether a limit ended the episode: turns, tokens of a response, or context.</summary>
    public bool EndedByLimit => End is EpisodeEnd.TurnLimit or EpisodeEnd.Length or EpisodeEnd.ContextFull;

    /// <summary>Number of objectives of the task.</summary>
    public int Objectives => ExactMatch.Count;

    /// <summary>Generated tokens over all turns.</summary>
    public int GeneratedTokens => Turns.Sum(t => t.Generated.Length);

    /// <summary>Prompt, kept contexts and generated tokens, the prompt once: about the work of a pass over it.</summary>
    public long TurnTokens => Prompt.Length + Turns.Sum(t => (long)t.Context.Length + t.Generated.Length);

    /// <summary>The longest prompt + context + generated of any turn: what the model had to hold at once.</summary>
    public int PeakTokens => Turns.Max(t => Prompt.Length + t.Context.Length + t.Generated.Length);

    /// <summary>The oldest policy version any token was sampled under.</summary>
    public long OldestVersion => Turns.SelectMany(t => t.PolicyVersions).DefaultIfEmpty(long.MaxValue).Min();

    /// <summary>How often the environment failed (a search, a page) and the agent was told so, or the step was tried again.</summary>
    public int EnvironmentFailures { get; init; }
}
