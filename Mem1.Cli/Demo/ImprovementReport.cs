// Keeps: every number comes from the rows of results.jsonl of the evaluations, and from nothing else but what training logged of itself; a
// gain is of the same held-out tasks before and after, resampled in pairs.
using System.Globalization;
using System.Text;
using System.Text.Json;
using Mem1.Cli.Evaluation;
using Mem1.Cli.Output;
using Mem1.Model.Checkpoints;
using Mem1.Model.Generation;
using Spectre.Console;

namespace Mem1.Cli.Demo;

/// <summary>Held-out episodes at one moment, over all seeds.</summary>
/// <param name="Decoding">How actions were drawn.</param>
/// <param name="Objectives">Of a task.</param>
/// <param name="Moment">Before or after PPO.</param>
/// <param name="Episodes">How many.</param>
/// <param name="Reward">The environment's, of an episode.</param>
/// <param name="ExactMatch">Share of objectives right; in the shop, purchases of full reward.</param>
/// <param name="Turns">Mean number of them.</param>
/// <param name="PeakTokens">Mean of the longest sequence.</param>
/// <param name="Ends">Episodes by why they ended.</param>
internal sealed record ImprovementRow(
    string Decoding, int Objectives, string Moment, int Episodes, Estimate Reward, Estimate ExactMatch, double Turns, double PeakTokens,
    IReadOnlyDictionary<string, int> Ends);

/// <summary>What PPO added: means of the differences task by task.</summary>
/// <param name="Decoding">How actions were drawn.</param>
/// <param name="Objectives">Of a task.</param>
/// <param name="Reward">After less before.</param>
/// <param name="ExactMatch">After less before.</param>
internal sealed record Gain(string Decoding, int Objectives, Estimate Reward, Estimate ExactMatch);

/// <summary>The report of a demonstration of one agent before and after PPO.</summary>
/// <param name="Plan">What was done.</param>
/// <param name="Training">By seed.</param>
/// <param name="Rows">By decoding, objectives, moment.</param>
/// <param name="Gains">By decoding, objectives.</param>
internal sealed record ImprovementReport(
    DemoPlan Plan, IReadOnlyList<TrainingSummary> Training, IReadOnlyList<ImprovementRow> Rows, IReadOnlyList<Gain> Gains)
{
    /// <summary>Makes the report of a finished demonstration.</summary>
    public static ImprovementReport Of(string folder, DemoPlan plan)
    {
        var training = plan.Seeds.Select(seed => DemoReport.Summary(folder, "mem1", seed)).ToArray();
        var rows = new List<ImprovementRow>();
        var gains = new List<Gain>();
        foreach (var (decoding, _) in EnvironmentDemo.Decodings)
        {
            var played = EnvironmentDemo.Moments.ToDictionary(m => m, m => plan.Seeds.SelectMany(seed => ResultsFolder.ReadRows(
                DemoFolder.Evaluation(folder, EnvironmentDemo.Evaluation(DemoPlan.Name("mem1", seed), m, decoding)))
                .OrderBy(r => r.Episode).Select(r => (Seed: seed, Row: r))).ToArray());
            foreach (var n in plan.Objectives)
            {
                // The same resamples for everything at a number of objectives.
                var draws = RandomStream.Mix(plan.Seeds[0] ^ RandomStream.Mix((ulong)n));
                (ulong Seed, EpisodeRecord Row)[] At(string moment) => [.. played[moment].Where(p => p.Row.Objectives == n)];
                foreach (var moment in EnvironmentDemo.Moments)
                {
                    var own = At(moment).Select(p => p.Row).ToArray();
                    rows.Add(new ImprovementRow(
                        decoding, n, moment, own.Length, Estimate.Of([.. own.Select(r => r.Reward)], draws),
                        Estimate.Of([.. own.Select(Right)], draws), own.Average(r => r.Turns.Count),
                        own.Average(r => EpisodeNumbers.Of(r, 0).Peak), Ends(own)));
                }

                var pairs = At("before").Zip(At("after")).ToArray();
                foreach (var ((seed, one), (other, two)) in pairs)
                {
                    if ((seed, one.TaskId) != (other, two.TaskId))
                        throw new InvalidOperationException($"Task {one.TaskId} before PPO stands beside {two.TaskId} after it.");
                }

                gains.Add(new Gain(
                    decoding, n, Estimate.Of([.. pairs.Select(p => p.Second.Row.Reward - p.First.Row.Reward)], draws),
                    Estimate.Of([.. pairs.Select(p => Right(p.Second.Row) - Right(p.First.Row))], draws)));
            }
        }

        return new ImprovementReport(plan, training, rows, gains);
    }

    /// <summary>Writes report.md, report.json and training.svg.</summary>
    public void Write(string folder)
    {
        AtomicFile.WriteText(Path.Combine(folder, "report.json"), JsonSerializer.Serialize(this, DemoFolder.Json) + "\n");
        var curves = Plan.Seeds.Select(s => new Series($"seed {s}", DemoReport.Curve(folder, DemoPlan.Name("mem1", s)))).ToArray();
        AtomicFile.WriteText(Path.Combine(folder, "training.svg"), LinePlot.Draw(
        [
            new Output.Panel("Mean reward of sampled training episodes", "update", "reward",
                Math.Min(0, curves.SelectMany(c => c.Points).Min(p => p.Y)), 1, curves),
        ]));
        AtomicFile.WriteText(Path.Combine(folder, "report.md"), Markdown());
    }

    /// <summary>Table and verdicts for a terminal.</summary>
    public void Print(TextWriter output)
    {
        var console = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(output) });
        // Redirected output has no width of its own; lines must not break there.
        if (Console.IsOutputRedirected) console.Profile.Width = 160;
        var table = new Table().Border(TableBorder.Simple);
        foreach (var name in s_columns) table.AddColumn(new TableColumn(name).RightAligned());
        foreach (var row in Rows) table.AddRow([.. Cells(row).Select(Markup.Escape)]);
        console.Write(table);
        foreach (var line in Verdicts()) output.WriteLine(line);
    }

    /// <summary>What PPO did to the reward of held-out tasks, a sentence for each gain.</summary>
    public IEnumerable<string> Verdicts() => Gains.Select(g =>
    {
        var change = string.Create(
            CultureInfo.InvariantCulture,
            $"{Shown(g)}: reward {g.Reward.Mean:+0.000;-0.000} ({g.Reward.Low:+0.000;-0.000} to {g.Reward.High:+0.000;-0.000}), ")
            + string.Create(
                CultureInfo.InvariantCulture,
                $"{Success} {g.ExactMatch.Mean:+0.000;-0.000} ({g.ExactMatch.Low:+0.000;-0.000} to {g.ExactMatch.High:+0.000;-0.000}).");
        return g.Reward switch
        {
            { Low: > 0 } => $"{change} PPO raised the reward.",
            { High: < 0 } => $"{change} PPO lowered the reward.",
            _ => $"{change} The interval includes zero: these episodes do not show that PPO changed the reward.",
        };
    });

    private static readonly string[] s_columns =
        ["actions", "objectives", "", "episodes", "reward", "95 % interval", "right", "95 % interval", "turns", "peak tokens", "unanswered"];

    private string Success => Plan.Environment == DemoEnvironment.Webshop ? "purchases of full reward" : "exact match";

    private string Shown(Gain gain) => Plan.Objectives.Count == 1 ? $"Actions {gain.Decoding}"
        : $"Actions {gain.Decoding}, {gain.Objectives} objective{(gain.Objectives == 1 ? "" : "s")}";

    private static SortedDictionary<string, int> Ends(IEnumerable<EpisodeRecord> rows) =>
        new(rows.GroupBy(r => r.End).ToDictionary(g => g.Key, g => g.Count()), StringComparer.Ordinal);

    private static double Right(EpisodeRecord row) => row.ExactMatch.Average();

    private static IEnumerable<string> Cells(ImprovementRow row)
    {
        static string Number(double value, string format) => value.ToString(format, CultureInfo.InvariantCulture);
        static string Interval(Estimate e) => $"{Number(e.Low, "0.000")} to {Number(e.High, "0.000")}";
        return
        [
            row.Decoding, Number(row.Objectives, "0"), $"{row.Moment} PPO", Number(row.Episodes, "0"), Number(row.Reward.Mean, "0.000"),
            Interval(row.Reward), Number(row.ExactMatch.Mean, "0.000"), Interval(row.ExactMatch), Number(row.Turns, "0.0"),
            Number(row.PeakTokens, "0"), Number(row.Episodes - row.Ends.GetValueOrDefault("answered"), "0"),
        ];
    }

    private string Markdown()
    {
        var text = new StringBuilder();
        void Line(string line) => text.Append(line).Append('\n');
        var shop = Plan.Environment == DemoEnvironment.Webshop;
        Line(shop ? "# WebShop: an agent before and after PPO" : "# Web QA: an agent before and after PPO");
        Line("");
        Line($"A small agent with constant memory in {(shop ? "a made-up shop" : "a local web")}, cloned from an expert who errs on purpose and then");
        Line($"trained by PPO. Held-out tasks, the same before and after: {Plan.Episodes} of each number of objectives for each seed");
        Line($"({string.Join(", ", Plan.Seeds)}).");
        Line("Intervals: 95 %, percentile bootstrap over the episodes of all seeds, gains in pairs of one task. Sampled actions are drawn at");
        Line($"temperature 1, as in training. Right: {(shop ? "purchases of full reward" : "share of objectives answered exactly")}.");
        if (Plan.Quick) Line("**Made with --quick: it shows that everything works, not what is reached.**");
        Line("");
        foreach (var verdict in Verdicts()) Line($"* {verdict}");
        Line("");
        Line("![training](training.svg)");
        Line("");
        Line($"| {string.Join(" | ", s_columns)} |");
        Line($"|---|---:|---|{string.Concat(s_columns.Skip(3).Select(_ => "---:|"))}");
        foreach (var row in Rows) Line($"| {string.Join(" | ", Cells(row))} |");
        Line("");
        Line("## How episodes ended");
        Line("");
        string[] ends = [.. Rows.SelectMany(r => r.Ends.Keys).Distinct().Order(StringComparer.Ordinal)];
        Line($"| actions | objectives | |{string.Concat(ends.Select(e => $" {e} |"))}");
        Line($"|---|---:|---|{string.Concat(ends.Select(_ => "---:|"))}");
        foreach (var row in Rows)
        {
            Line($"| {row.Decoding} | {row.Objectives.ToString(CultureInfo.InvariantCulture)} | {row.Moment} PPO |"
                + string.Concat(ends.Select(e => $" {row.Ends.GetValueOrDefault(e).ToString(CultureInfo.InvariantCulture)} |")));
        }

        Line("");
        Line("## Training");
        Line("");
        Line("| seed | reward at first | at last | CPU seconds | seconds |");
        Line("|---:|---:|---:|---:|---:|");
        foreach (var t in Training)
        {
            Line(string.Create(
                CultureInfo.InvariantCulture, $"| {t.Seed} | {t.FirstReward:0.000} | {t.LastReward:0.000} | {t.CpuSeconds:0} | {t.Seconds:0} |"));
        }

        return text.ToString();
    }
}
