// Keeps: every number comes from the rows of results.jsonl of the evaluations, and from nothing else but what training logged of itself;
// ratios are resampled with the same episodes that the means are of.
using System.Globalization;
using System.Text;
using System.Text.Json;
using Mem1.Cli.Evaluation;
using Mem1.Cli.Output;
using Mem1.Model.Checkpoints;
using Mem1.Model.Generation;

namespace Mem1.Cli.Demo;

/// <summary>How a training went.</summary>
/// <param name="Agent">Its context policy.</param>
/// <param name="Seed">Of the run.</param>
/// <param name="FirstReward">Mean sampled reward of the first updates (as many as a closing table of mem1 train takes).</param>
/// <param name="LastReward">And of the last.</param>
/// <param name="CpuSeconds">Training and evaluation.</param>
/// <param name="Seconds">The same by the clock.</param>
internal sealed record TrainingSummary(string Agent, ulong Seed, double FirstReward, double LastReward, double CpuSeconds, double Seconds);

/// <summary>Exact match per objective of one seed.</summary>
internal sealed record SeedMean(string Agent, ulong Seed, int Objectives, double EmMean);

/// <summary>The quotients that the paper's headline is about; null where a number of objectives was not evaluated.</summary>
/// <param name="Most">The largest number of objectives: what the first two are of.</param>
/// <param name="ExactMatch">Exact match of mem1 over that of full; infinity where full has none, no number where neither has any.</param>
/// <param name="PeakTokens">Peak tokens of full over those of mem1.</param>
/// <param name="Growth">Peak tokens of mem1 without the prompt at the most objectives over those at 2.</param>
internal sealed record DemoRatios(int Most, Estimate ExactMatch, Estimate PeakTokens, Estimate? Growth);

/// <summary>The whole report.</summary>
/// <param name="Plan">What was done.</param>
/// <param name="Training">By agent and seed.</param>
/// <param name="Seeds">Means by seed, the spread between trainings.</param>
/// <param name="Ratios">The headline.</param>
/// <param name="Evaluation">Over the episodes of all seeds.</param>
internal sealed record DemoReport(
    DemoPlan Plan, IReadOnlyList<TrainingSummary> Training, IReadOnlyList<SeedMean> Seeds, DemoRatios Ratios, EvaluationReport Evaluation)
{
    // Enough for two digits, as for the intervals of means.
    private const int Resamples = 2000;

    // Updates that the first and last rewards are means over: those of mem1 train.
    private const int RewardWindow = 10;

    private static readonly JsonSerializerOptions s_json = new(DemoFolder.Json)
    {
        NumberHandling = System.Text.Json.Serialization.JsonNumberHandling.AllowNamedFloatingPointLiterals,
    };

    /// <summary>Makes the report of a finished demonstration.</summary>
    public static DemoReport Of(string folder, DemoPlan plan)
    {
        var rows = new List<EpisodeRecord>();
        var means = new List<SeedMean>();
        var training = new List<TrainingSummary>();
        EvaluationSettings? settings = null;
        foreach (var agent in DemoPlan.Agents)
        {
            for (var s = 0; s < plan.Seeds.Count; s++)
            {
                var name = DemoPlan.Name(agent, plan.Seeds[s]);
                var evaluation = DemoFolder.Evaluation(folder, name);
                settings ??= ResultsFolder.ReadSettings(evaluation);
                var own = ResultsFolder.ReadRows(evaluation);
                means.AddRange(plan.Objectives.Select(n => new SeedMean(
                    agent, plan.Seeds[s], n, own.Where(r => r.Objectives == n).Average(r => r.ExactMatch.Average()))));
                // One sequence of episodes over all seeds.
                rows.AddRange(own.Select(r => r with { Episode = (s * plan.Episodes) + r.Episode }));
                training.Add(Summary(folder, agent, plan.Seeds[s]));
            }
        }

        var policies = ContextPolicies.Parse(string.Join(',', DemoPlan.Agents));
        var shown = settings! with { Model = "one agent of each kind and seed, trained by mem1 demo", Seed = plan.Seeds[0] };
        var report = EvaluationReport.Of(shown, policies, plan.Objectives, plan.Episodes * plan.Seeds.Count, rows, legacy: false);
        return new DemoReport(plan, training, means, RatiosOf(plan, rows, settings!.KvBytesPerToken), report);
    }

    /// <summary>Writes report.md, report.json and the plots.</summary>
    public void Write(string folder)
    {
        AtomicFile.WriteText(Path.Combine(folder, "report.json"), JsonSerializer.Serialize(this, s_json) + "\n");
        ReportFiles.WritePlots(Evaluation, folder);
        AtomicFile.WriteText(Path.Combine(folder, "training.svg"), LinePlot.Draw(
        [
            new Panel("Mean reward of sampled episodes", "update", "reward", 0, 1,
                [.. Training.Select(t => new Series($"{t.Agent} seed {t.Seed}", Curve(folder, DemoPlan.Name(t.Agent, t.Seed))))]),
        ]));
        AtomicFile.WriteText(Path.Combine(folder, "report.md"), Markdown());
    }

    /// <summary>Table, bars and headline for a terminal.</summary>
    public void Print(TextWriter output)
    {
        ReportFiles.Print(Evaluation, output);
        Bars(output, "Objectives answered exactly", c => c.EmCount.Mean, "0.00");
        Bars(output, "Peak tokens, prompt included", c => c.PeakTokens.Mean, "0");
        output.WriteLine();
        foreach (var line in Headline()) output.WriteLine(line);
    }

    /// <summary>What the paper claims and what was reached here, a sentence each.</summary>
    public IEnumerable<string> Headline()
    {
        var n = Ratios.Most;
        yield return $"At {n} objectives: exact match of mem1 {Times(Ratios.ExactMatch)} that of full (the paper has 3.5 times at 16);";
        yield return $"peak tokens of full {Times(Ratios.PeakTokens)} those of mem1 (the paper: 3.7 times).";
        if (Ratios.Growth is { } growth) yield return $"Peak tokens of mem1 without the prompt, {n} objectives against 2: {Times(growth)}.";
    }

    private string Markdown()
    {
        var text = new StringBuilder();
        void Line(string line) => text.Append(line).Append('\n');
        Line("# Constant memory against full context");
        Line("");
        Line($"Trained on {(Plan.Quick ? "1 to 2" : "1 to 4")} objectives, evaluated greedily on held-out tasks. Seeds {string.Join(", ", Plan.Seeds)};");
        Line($"{Plan.Episodes} episodes for each seed, agent and number of objectives. Brackets: 95 % intervals over the episodes of all seeds");
        Line("(percentile bootstrap); how much trainings differ is in the table of seeds.");
        if (Plan.Quick) Line("**Made with --quick: it shows that everything works, not what is reached.**");
        Line("");
        foreach (var line in Headline()) Line(line);
        Line("");
        Line("![exact match](exact_match.svg)");
        Line("![peak tokens](peak_tokens.svg)");
        Line("![training](training.svg)");
        Line("");
        Line("## Training");
        Line("");
        Line("| agent | seed | reward at first | at last | CPU seconds | seconds |");
        Line("|---|---:|---:|---:|---:|---:|");
        foreach (var t in Training)
        {
            Line(string.Create(
                CultureInfo.InvariantCulture,
                $"| {t.Agent} | {t.Seed} | {t.FirstReward:0.000} | {t.LastReward:0.000} | {t.CpuSeconds:0} | {t.Seconds:0} |"));
        }

        Line("");
        Line("## Exact match per objective, by seed");
        Line("");
        Line($"| agent | seed |{string.Concat(Plan.Objectives.Select(n => $" {n} |"))}");
        Line($"|---|---:|{string.Concat(Plan.Objectives.Select(_ => "---:|"))}");
        foreach (var seed in Seeds.GroupBy(m => (m.Agent, m.Seed)))
        {
            Line($"| {seed.Key.Agent} | {seed.Key.Seed} |"
                + string.Concat(seed.Select(m => string.Create(CultureInfo.InvariantCulture, $" {m.EmMean:0.000} |"))));
        }

        ReportFiles.AppendTables(text, Evaluation);
        return text.ToString();
    }

    private void Bars(TextWriter output, string title, Func<CellMeans, double> of, string format)
    {
        const int width = 50;
        var most = Math.Max(Evaluation.Cells.Max(c => of(c.All)), 1e-9);
        output.WriteLine();
        output.WriteLine(title);
        foreach (var n in Evaluation.Objectives)
        {
            foreach (var cell in Evaluation.Cells.Where(c => c.Objectives == n))
            {
                var value = of(cell.All);
                output.WriteLine(string.Create(
                    CultureInfo.InvariantCulture,
                    $"{n,4} {cell.Agent,-5} {new string('#', (int)Math.Round(value / most * width))} {value.ToString(format, CultureInfo.InvariantCulture)}"));
            }
        }
    }

    private static string Times(Estimate e)
    {
        return double.IsNaN(e.Mean) ? "no number of times (neither has any)" : $"{N(e.Mean)} times ({N(e.Low)} to {N(e.High)})";

        static string N(double value) => double.IsFinite(value) ? value.ToString("0.00", CultureInfo.InvariantCulture) : "infinitely many";
    }

    private static DemoRatios RatiosOf(DemoPlan plan, IReadOnlyList<EpisodeRecord> rows, long kvBytes)
    {
        var n = plan.Objectives[^1];
        double[] Values(string agent, int objectives, Func<EpisodeNumbers, double> of) =>
        [
            .. rows.Where(r => r.Agent == agent && r.Objectives == objectives).OrderBy(r => r.Episode)
                .Select(r => of(EpisodeNumbers.Of(r, kvBytes))),
        ];
        double[] Exact(string agent) => Values(agent, n, e => e.ExactMatch);
        double[] Peak(string agent) => Values(agent, n, e => e.Peak);
        double[] Bare(int objectives) => Values("mem1", objectives, e => e.PeakWithoutPrompt);
        return new DemoRatios(
            n, Ratio(Exact("mem1"), Exact("full"), plan.Seeds[0]), Ratio(Peak("full"), Peak("mem1"), plan.Seeds[0]),
            n > 2 && plan.Objectives.Contains(2) ? Ratio(Bare(n), Bare(2), plan.Seeds[0]) : null);
    }

    /// <summary>A quotient of means with its 95 % interval; both sides are resampled by themselves.</summary>
    internal static Estimate Ratio(IReadOnlyList<double> above, IReadOnlyList<double> below, ulong seed)
    {
        ulong draw = 0;
        double Resampled(IReadOnlyList<double> values)
        {
            double sum = 0;
            for (var i = 0; i < values.Count; i++) sum += values[(int)(RandomStream.Uniform(seed, draw++) * values.Count)];
            return sum / values.Count;
        }

        var quotients = new double[Resamples];
        for (var r = 0; r < Resamples; r++)
        {
            var a = Resampled(above);
            quotients[r] = a / Resampled(below);
            if (double.IsNaN(quotients[r])) quotients[r] = 1; // nothing on either side
        }

        Array.Sort(quotients);
        const int outside = Resamples / 40;
        return new Estimate(above.Average() / below.Average(), quotients[outside - 1], quotients[^outside]);
    }

    /// <summary>How the training of an agent and seed went.</summary>
    internal static TrainingSummary Summary(string folder, string agent, ulong seed)
    {
        var name = DemoPlan.Name(agent, seed);
        var curve = Curve(folder, name);
        var window = Math.Min(RewardWindow, (curve.Count + 1) / 2);
        var cost = DemoFolder.ReadCost(folder, name);
        return new TrainingSummary(
            agent, seed, curve.Take(window).Average(c => c.Y), curve.TakeLast(window).Average(c => c.Y), cost.CpuSeconds, cost.Seconds);
    }

    /// <summary>Mean reward of every update of a training.</summary>
    internal static List<(double X, double Y)> Curve(string folder, string name)
    {
        using var run = Cli.Training.RunFolder.Resume(DemoFolder.Runs(folder), name);
        return [.. run.ReadCurve().Select(c => ((double)c.Update, c.Reward))];
    }
}
