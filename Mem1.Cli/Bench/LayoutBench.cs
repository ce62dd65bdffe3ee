// Keeps: every layout is measured in a process of its own, in turn, on the same trajectory; what is compared is of one run.
using System.Globalization;

namespace Mem1.Cli.Bench;

/// <summary>One layout at one number of turns.</summary>
/// <param name="Turns">K.</param>
/// <param name="Layout">segments, carry or paper.</param>
/// <param name="Tokens">Tokens the layout lays out: a single-copy layout has fewer.</param>
/// <param name="TokensPerSecond">Those, by the wall time of the fastest pass.</param>
/// <param name="GeneratedPerSecond">Tokens with a loss per second: the same count for every layout.</param>
/// <param name="Seconds">Wall time of the fastest pass.</param>
/// <param name="CpuSeconds">Processor time of the cheapest pass.</param>
/// <param name="PeakMib">Peak resident memory above what was resident before the model existed.</param>
/// <param name="Passes">Timed.</param>
internal sealed record LayoutRow(
    int Turns, string Layout, int Tokens, double TokensPerSecond, double GeneratedPerSecond, double Seconds, double CpuSeconds,
    double PeakMib, int Passes);

/// <summary>How a layout's cost grows with the number of turns.</summary>
/// <param name="Layout">segments, carry or paper.</param>
/// <param name="Time">Least-squares slope of log(seconds) over log(turns); 1 is linear.</param>
/// <param name="CpuTime">The same of processor time.</param>
internal sealed record LayoutScaling(string Layout, double Time, double CpuTime);

/// <summary>All of <c>mem1 bench learner --layouts</c>.</summary>
internal sealed record LayoutBenchReport(
    string Bench, string Size, int PromptTokens, int ContextTokens, int GeneratedPerTurn, int MicroBatchTokens, MachineInfo Machine,
    IReadOnlyList<LayoutRow> Rows, IReadOnlyList<LayoutScaling> Scaling)
{
    /// <summary>The table for people.</summary>
    public string Table()
    {
        var text = new StringWriter(CultureInfo.InvariantCulture);
        void Line(FormattableString line) => text.WriteLine(line.ToString(CultureInfo.InvariantCulture));
        Line($"{Machine}");
        Line($"One PPO update (forward, backward, optimiser) of the {Size} model on one trajectory, one thread: prompt {PromptTokens},");
        Line($"then in each turn {ContextTokens} tokens of kept context (read again by segments) and {GeneratedPerTurn} generated.");
        Line($"");
        Line($"turns  layout    tokens     tok/s  generated/s  seconds  CPU s  peak MiB");
        foreach (var r in Rows)
        {
            var speed = FormattableString.Invariant($"{r.Tokens,6}  {r.TokensPerSecond,8:0}  {r.GeneratedPerSecond,11:0}");
            Line($"{r.Turns,5}  {r.Layout,-8}  {speed}  {r.Seconds,7:0.000}  {r.CpuSeconds,5:0.000}  {r.PeakMib,8:0.0}");
        }

        Line($"");
        foreach (var s in Scaling) Line($"{s.Layout,-8}  time grows as turns^{s.Time:0.00} (processor time ^{s.CpuTime:0.00})");
        return text.ToString();
    }
}

/// <summary>Measures the layouts against each other.</summary>
internal static class LayoutBench
{
    private const ulong Seed = 1;

    /// <summary>The layouts of a list of names.</summary>
    /// <exception cref="UserErrorException">One is none.</exception>
    public static IReadOnlyList<UpdateWay> Ways(string names) => [.. names.Split(',').Select(name => name.Trim() switch
    {
        "segments" => UpdateWay.Segments,
        "carry" => UpdateWay.Carry,
        "paper" => UpdateWay.Paper,
        var other => throw new UserErrorException($"--layouts names \"{other}\"; the layouts are segments, carry and paper."),
    }).Distinct()];

    /// <summary>Runs all layouts at all numbers of turns.</summary>
    /// <exception cref="UserErrorException">A process failed.</exception>
    public static async Task<LayoutBenchReport> Run(
        string size, IReadOnlyList<UpdateWay> ways, IReadOnlyList<int> turns, int microBatch, int repeat, int rounds,
        Action<string> progress, CancellationToken cancellationToken)
    {
        var rows = new List<LayoutRow>();
        var folder = Directory.CreateTempSubdirectory("mem1-bench-");
        try
        {
            foreach (var k in turns)
            {
                var problem = LearnerCase.Create(BenchModels.Shape(size), k, Seed);
                var file = Path.Combine(folder.FullName, $"case-{k}.safetensors");
                problem.Write(file);
                var reports = ways.ToDictionary(w => w, _ => new List<PassReport>());
                for (var round = 0; round < rounds; round++)
                {
                    foreach (var way in ways)
                    {
                        progress($"{k} turns, {Name(way)}");
                        var start = BenchProcess.Self(
                            "bench", LearnerBench.PassCommand, "--case", file, "--size", size, "--way", way.ToString(),
                            "--repeat", $"{repeat}", "--micro-batch-tokens", $"{microBatch}");
                        var ended = await BenchProcess.Run(start, cancellationToken).ConfigureAwait(false)
                            ?? throw new UserErrorException("dotnet, which runs this program, is not on the PATH; start it with ./mem1.");
                        reports[way].Add(BenchProcess.Report(ended, way.ToString()));
                    }
                }

                foreach (var way in ways)
                {
                    double seconds = reports[way].Min(r => r.Seconds), cpu = reports[way].Min(r => r.CpuSeconds);
                    var tokens = way == UpdateWay.Segments
                        ? problem.StitchedTokens
                        : problem.Trajectory.Prompt.Length + problem.Trajectory.Turns.Sum(t => t.Generated.Length + t.Observation.Length);
                    rows.Add(new LayoutRow(
                        k, Name(way), tokens, tokens / seconds, problem.Trajectory.GeneratedTokens / seconds, seconds, cpu,
                        reports[way].Min(r => r.PeakBytes) / Math.Pow(2, 20), reports[way].Sum(r => r.Passes)));
                }
            }
        }
        finally
        {
            folder.Delete(recursive: true);
        }

        return new LayoutBenchReport(
            "learner-layouts", size, LearnerCase.PromptTokens, LearnerCase.ContextTokens, LearnerCase.GeneratedPerTurn, microBatch,
            MachineInfo.Describe(), rows,
            turns.Count < 2 ? [] : [.. ways.Select(w => new LayoutScaling(
                Name(w), Slope(rows.Where(r => r.Layout == Name(w)), r => r.Seconds),
                Slope(rows.Where(r => r.Layout == Name(w)), r => r.CpuSeconds)))]);
    }

    /// <summary>Least-squares slope of log(y) over log(turns).</summary>
    internal static double Slope(IEnumerable<LayoutRow> rows, Func<LayoutRow, double> y)
    {
        var points = rows.Select(r => (X: Math.Log(r.Turns), Y: Math.Log(y(r)))).ToList();
        double x = points.Average(p => p.X), mean = points.Average(p => p.Y);
        return points.Sum(p => (p.X - x) * (p.Y - mean)) / points.Sum(p => (p.X - x) * (p.X - x));
    }

    private static string Name(UpdateWay way) => way.ToString().ToLowerInvariant();
}
