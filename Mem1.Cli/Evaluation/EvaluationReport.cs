// Keeps: table, report.md, report.json and plots are views of these cells, and the cells are means over the rows of results.jsonl; an
// interval depends on the values, the seed and the cell alone, so the same rows give the same report.
using Mem1.Model.Generation;

namespace Mem1.Cli.Evaluation;

/// <summary>A mean with its 95 % interval (percentile bootstrap over episodes).</summary>
/// <param name="Mean">Of the episodes.</param>
/// <param name="Low">2.5th percentile of resampled means.</param>
/// <param name="High">97.5th percentile.</param>
internal sealed record Estimate(double Mean, double Low, double High)
{
    // Enough for two digits of a percentile; more only cost.
    private const int Resamples = 2000;

    /// <summary>Estimates a mean.</summary>
    /// <param name="values">One per episode; not empty.</param>
    /// <param name="seed">Of the resamples.</param>
    public static Estimate Of(IReadOnlyList<double> values, ulong seed)
    {
        var means = new double[Resamples];
        ulong draw = 0;
        for (var r = 0; r < Resamples; r++)
        {
            double sum = 0;
            for (var i = 0; i < values.Count; i++) sum += values[(int)(RandomStream.Uniform(seed, draw++) * values.Count)];
            means[r] = sum / values.Count;
        }

        Array.Sort(means);
        // The 2.5 % smallest and largest are outside.
        const int outside = Resamples / 40;
        return new Estimate(values.Average(), means[outside - 1], means[^outside]);
    }
}

/// <summary>Means over some episodes of an agent at a number of objectives.</summary>
/// <param name="Episodes">How many.</param>
/// <param name="EmCount">Objectives right, of an episode's.</param>
/// <param name="EmMean">Share of the objectives that are right.</param>
/// <param name="F1Count">F1 summed over an episode's objectives.</param>
/// <param name="F1Mean">F1 per objective.</param>
/// <param name="PeakTokens">Longest sequence, prompt included.</param>
/// <param name="PeakTokensWithoutPrompt">The same less the prompt.</param>
/// <param name="Dependency">The paper's formula.</param>
/// <param name="PromptTokens">Read in all.</param>
/// <param name="GeneratedTokens">Written in all.</param>
/// <param name="Turns">Responses.</param>
/// <param name="Seconds">By the clock, other episodes in the batch.</param>
/// <param name="InvalidRate">Share of episodes that a broken format or the response limit ended.</param>
/// <param name="KvBytes">Keys and values at the peak.</param>
internal sealed record CellMeans(
    int Episodes, Estimate EmCount, Estimate EmMean, Estimate F1Count, Estimate F1Mean, Estimate PeakTokens, Estimate PeakTokensWithoutPrompt,
    Estimate Dependency, Estimate PromptTokens, Estimate GeneratedTokens, Estimate Turns, Estimate Seconds, Estimate InvalidRate,
    Estimate KvBytes);

/// <summary>The original's figures over the same episodes.</summary>
/// <param name="EmCount">Mean over all episodes.</param>
/// <param name="F1Count">Mean over all episodes.</param>
/// <param name="TokenEpisodes">Episodes that its token figures include.</param>
/// <param name="PeakTokens">Mean over those; null when there are none.</param>
/// <param name="Dependency">Mean over those; null when there are none.</param>
internal sealed record LegacyMeans(Estimate EmCount, Estimate F1Count, int TokenEpisodes, Estimate? PeakTokens, Estimate? Dependency);

/// <summary>An agent at a number of objectives.</summary>
/// <param name="Agent">Its context policy.</param>
/// <param name="Objectives">How many.</param>
/// <param name="All">Over all episodes.</param>
/// <param name="Successful">Over those with at least one objective right; null when there are none.</param>
/// <param name="Ends">Episodes by why they ended.</param>
/// <param name="EnvironmentFailures">Failures that became observations, in all episodes.</param>
/// <param name="EnvironmentTold">Episodes with such a failure: their agents were told of it and went on.</param>
/// <param name="EnvironmentEnded">Episodes that the environment ended by failing: they are in the means, with nothing right.</param>
/// <param name="EnvironmentRetries">Calls of the environment that failed and were made again.</param>
/// <param name="Legacy">The original's figures, if asked for.</param>
internal sealed record Cell(
    string Agent, int Objectives, CellMeans All, CellMeans? Successful, IReadOnlyDictionary<string, int> Ends, int EnvironmentFailures,
    int EnvironmentTold, int EnvironmentEnded, int EnvironmentRetries, LegacyMeans? Legacy);

/// <summary>What was evaluated: with the rows, all that a report says.</summary>
/// <param name="Model">As on the command line.</param>
/// <param name="Endpoint">Address and name of the model there; null for a model of this process.</param>
/// <param name="Environment">Name of the environment.</param>
/// <param name="Seed">Of tasks, environments and sampling.</param>
/// <param name="Temperature">0 is greedy.</param>
/// <param name="MaxContext">Longest sequence in tokens.</param>
/// <param name="KvBytesPerToken">Keys and values of one token over all layers.</param>
/// <param name="KvElementBytes">Bytes of one number in them: 4 for this program's engine, 2 assumed of an endpoint.</param>
/// <param name="Fingerprint">Of whatever else decides what an episode does: weights, tokenizer, environment's config.</param>
internal sealed record EvaluationSettings(
    string Model, string? Endpoint, string Environment, ulong Seed, double Temperature, int MaxContext, long KvBytesPerToken,
    int KvElementBytes, string Fingerprint);

/// <summary>A whole report.</summary>
/// <param name="Settings">What was evaluated.</param>
/// <param name="Agents">In the order asked for.</param>
/// <param name="Objectives">Ascending.</param>
/// <param name="Cells">By agent, then objectives.</param>
internal sealed record EvaluationReport(
    EvaluationSettings Settings, IReadOnlyList<string> Agents, IReadOnlyList<int> Objectives, IReadOnlyList<Cell> Cells)
{
    /// <summary>Computes a report from rows; rows of other agents, objectives or episodes are left out.</summary>
    /// <param name="settings">What was evaluated.</param>
    /// <param name="policies">The agents.</param>
    /// <param name="objectives">The numbers of objectives.</param>
    /// <param name="episodes">Episodes of each cell; every one of them has its row.</param>
    /// <param name="rows">Rows.</param>
    /// <param name="legacy">Whether to add the original's figures.</param>
    public static EvaluationReport Of(
        EvaluationSettings settings, IReadOnlyList<IContextPolicy> policies, IReadOnlyList<int> objectives, int episodes,
        IEnumerable<EpisodeRecord> rows, bool legacy)
    {
        var byCell = rows.Where(r => r.Episode < episodes).GroupBy(r => (r.Agent, r.Objectives))
            .ToDictionary(g => g.Key, g => g.OrderBy(r => r.Episode).ToArray());
        var cells = new List<Cell>();
        foreach (var policy in policies)
        {
            foreach (var n in objectives)
            {
                var own = byCell[(policy.Name, n)];
                var numbers = own.Select(r => EpisodeNumbers.Of(r, settings.KvBytesPerToken)).ToArray();
                // The same for every agent: where two agents did the same, so do their intervals.
                var seed = RandomStream.Mix(settings.Seed ^ RandomStream.Mix((ulong)n));
                var right = numbers.Where(e => e.ExactMatch > 0).ToArray();
                cells.Add(new Cell(
                    policy.Name, n, Means(numbers, n, seed), right.Length == 0 ? null : Means(right, n, seed),
                    new SortedDictionary<string, int>(own.GroupBy(r => r.End).ToDictionary(g => g.Key, g => g.Count()), StringComparer.Ordinal),
                    own.Sum(r => r.Failures), own.Count(r => r.Failures > 0), own.Count(r => r.EnvironmentFailed), own.Sum(r => r.Retries),
                    legacy ? Legacy(own, policy.Forgets, seed) : null));
            }
        }

        return new EvaluationReport(settings, [.. policies.Select(p => p.Name)], objectives, cells);
    }

    private static CellMeans Means(IReadOnlyList<EpisodeNumbers> all, int objectives, ulong seed)
    {
        Estimate Of(Func<EpisodeNumbers, double> value) => Estimate.Of([.. all.Select(value)], seed);
        return new CellMeans(
            all.Count, Of(e => e.ExactMatch), Of(e => e.ExactMatch / objectives), Of(e => e.F1), Of(e => e.F1 / objectives), Of(e => e.Peak),
            Of(e => e.PeakWithoutPrompt), Of(e => e.Dependency), Of(e => e.PromptTokens), Of(e => e.GeneratedTokens), Of(e => e.Turns),
            Of(e => e.Seconds), Of(e => e.Invalid), Of(e => e.KvBytes));
    }

    private static LegacyMeans Legacy(IReadOnlyList<EpisodeRecord> rows, bool forgets, ulong seed)
    {
        var all = rows.Select(r => LegacyNumbers.Of(r, forgets)).ToArray();
        var counted = all.Where(e => e.Counts).ToArray();
        return new LegacyMeans(
            Estimate.Of([.. all.Select(e => e.ExactMatch)], seed), Estimate.Of([.. all.Select(e => e.F1)], seed), counted.Length,
            counted.Length == 0 ? null : Estimate.Of([.. counted.Select(e => e.Peak)], seed),
            counted.Length == 0 ? null : Estimate.Of([.. counted.Select(e => e.Dependency)], seed));
    }
}
