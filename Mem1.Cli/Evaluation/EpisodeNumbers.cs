// Every number of a report is a mean of one of these over episodes; each is computed from a row alone.
using Mem1.Environments;
using Mem1.Environments.Scoring;

namespace Mem1.Cli.Evaluation;

/// <summary>The numbers of one episode, in tokens of the model's own tokenizer.</summary>
/// <param name="ExactMatch">Objectives answered exactly.</param>
/// <param name="F1">Sum of F1 over the objectives.</param>
/// <param name="Peak">Longest sequence, context and continuation together.</param>
/// <param name="PeakWithoutPrompt">The same less the prompt.</param>
/// <param name="Dependency">
/// Sum over continuations of (2 n_p + n_o) n_o / 2, with n_p tokens before and n_o generated (MEM1, appendix A.4.1).
/// </param>
/// <param name="PromptTokens">Tokens the model read, summed over continuations.</param>
/// <param name="GeneratedTokens">Tokens the model wrote.</param>
/// <param name="Turns">Responses to the environment; summaries are not counted.</param>
/// <param name="Seconds">By the clock.</param>
/// <param name="Invalid">1 when a broken format or the response limit ended it.</param>
/// <param name="KvBytes">Keys and values at the peak.</param>
internal sealed record EpisodeNumbers(
    double ExactMatch, double F1, double Peak, double PeakWithoutPrompt, double Dependency, double PromptTokens, double GeneratedTokens,
    double Turns, double Seconds, double Invalid, double KvBytes)
{
    /// <summary>Computes them.</summary>
    /// <param name="row">The episode.</param>
    /// <param name="kvBytesPerToken">Of the model, over all layers.</param>
    public static EpisodeNumbers Of(EpisodeRecord row, long kvBytesPerToken)
    {
        // An environment that never came to be left no turn.
        double peak = row.Turns.Select(t => t.ContextTokens + t.GeneratedTokens).DefaultIfEmpty(row.PromptTokens).Max();
        return new EpisodeNumbers(
            row.ExactMatch.Sum(), row.F1.Sum(), peak, peak - row.PromptTokens,
            row.Turns.Sum(t => ((2.0 * t.ContextTokens) + t.GeneratedTokens) * t.GeneratedTokens / 2),
            row.Turns.Sum(t => (double)t.ContextTokens), row.Turns.Sum(t => (double)t.GeneratedTokens), row.Turns.Count(t => t.Kind == "turn"),
            row.Seconds, row.End is "invalid_format" or "length" ? 1 : 0, peak * kvBytesPerToken);
    }
}

/// <summary>
/// The original evaluation's numbers of one episode, its mistakes included, so that they can be compared with what it reports: no prompt,
/// thoughts counted twice (its response holds the thought as well), observations never read. Only the tokenizer is another one.
/// </summary>
/// <param name="ExactMatch">By the rule of its evaluation.</param>
/// <param name="F1">Of sets of words.</param>
/// <param name="Counts">Whether its token figures include the episode: whether its rollout driver found a match.</param>
/// <param name="Peak">Its peak tokens.</param>
/// <param name="Dependency">Its dependency.</param>
internal sealed record LegacyNumbers(double ExactMatch, double F1, bool Counts, double Peak, double Dependency)
{
    /// <summary>Computes them.</summary>
    /// <param name="row">The episode.</param>
    /// <param name="forgets">Whether its agent's context is compressed; the original has a formula for each kind.</param>
    public static LegacyNumbers Of(EpisodeRecord row, bool forgets)
    {
        Objective[] objectives = [.. row.GoldenAnswers.Select((g, i) => new Objective($"{i}", "", g))];
        var answer = row.Answer.Length == 0 ? null : row.Answer;
        var (peak, dependency) = Tokens(
            [.. row.Turns.Where(t => t.Kind == "turn").Select(t => (t.StateTokens, t.GeneratedTokens, t.ObservationTokens))], forgets);
        return new LegacyNumbers(
            LegacyScorer.ExactMatches(LegacyRule.Evaluation, answer, objectives), LegacyScorer.EvaluationF1(answer, objectives),
            LegacyScorer.ExactMatches(LegacyRule.Rollout, answer, objectives) > 0, peak, dependency);
    }

    /// <summary>Peak and dependency from the lengths of thought, response and observation of each turn.</summary>
    internal static (double Peak, double Dependency) Tokens(IReadOnlyList<(int T, int R, int I)> turns, bool forgets)
    {
        long peak = 0, dependency = 0, before = 0;
        foreach (var (t, r, i) in turns)
        {
            if (forgets) peak = Math.Max(peak, before + t + r);
            dependency += ((before + (t / 2)) * t) + ((before + t + (r / 2)) * r);
            before = (forgets ? 0 : before) + t + r + i;
        }

        // A turn's view with all that follows it counts for one that never forgets.
        return (forgets ? peak : before, dependency);
    }
}
