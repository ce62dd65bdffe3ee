// Keeps: a training is a process of its own, as mem1 train would be with the same file; one that is finished is not started again; the
// report is made from what the runs logged, and from nothing else.
using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.Json;
using Mem1.Cli.Bench;
using Mem1.Cli.Output;
using Mem1.Cli.Training;
using Mem1.Model.Checkpoints;

namespace Mem1.Cli.Demo;

/// <summary>Trains every config with every seed.</summary>
/// <param name="folder">Where runs and report go.</param>
/// <param name="files">Of configs; their names name the rows.</param>
/// <param name="seeds">Each config is trained with each.</param>
/// <param name="settings">Over every config, as key=value.</param>
/// <param name="say">Told how far it is.</param>
internal sealed class Ablation(
    string folder, IReadOnlyList<string> files, IReadOnlyList<ulong> seeds, IReadOnlyList<string> settings, Action<string> say)
{
    // Updates that first and last rewards are means over.
    private const int Window = 5;

    private string Runs => Path.Combine(folder, "runs");

    private static string NameOf(string file) => Path.GetFileNameWithoutExtension(file);

    private string RunOf(string file, ulong seed) => Path.Combine(Runs, $"{NameOf(file)}-s{seed}");

    private static string EvaluationOf(string run) => Path.Combine(run, "evaluation.json");

    /// <summary>Trains what is not finished.</summary>
    /// <param name="jobs">Trainings at once.</param>
    /// <param name="cancellationToken">Stops the trainings, which save; the next start goes on.</param>
    /// <exception cref="UserErrorException">A training failed.</exception>
    public async Task RunAsync(int jobs, CancellationToken cancellationToken)
    {
        var all = seeds.SelectMany(s => files.Select(f => (File: f, Seed: s))).ToArray();
        var open = all.Where(t => !File.Exists(EvaluationOf(RunOf(t.File, t.Seed)))).ToArray();
        var done = all.Length - open.Length;
        var watch = Stopwatch.StartNew();
        if (done > 0) say($"{done} of {all.Length} trainings are there already");
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        await Parallel.ForEachAsync(
            open, new ParallelOptions { MaxDegreeOfParallelism = jobs, CancellationToken = stop.Token },
            async (training, token) =>
            {
                var name = Path.GetFileName(RunOf(training.File, training.Seed));
                try
                {
                    await Train(training.File, training.Seed, name, token).ConfigureAwait(false);
                }
                catch
                {
                    await stop.CancelAsync().ConfigureAwait(false);
                    throw;
                }

                var ready = Interlocked.Increment(ref done);
                var left = watch.Elapsed * ((double)(all.Length - ready) / Math.Max(1, ready - (all.Length - open.Length)));
                say(string.Create(
                    CultureInfo.InvariantCulture,
                    $"{name} is done, {ready} of {all.Length}; about {TextReporter.Duration(left)} left"));
            }).ConfigureAwait(false);
    }

    /// <summary>Writes report.md and learning.svg.</summary>
    /// <returns>The table.</returns>
    public string Report()
    {
        var text = new StringBuilder();
        var rows = files.Select(file => (Name: NameOf(file), Runs: seeds.Select(s => Read(RunOf(file, s))).ToArray())).ToArray();
        int[] objectives = [.. rows.SelectMany(r => r.Runs).SelectMany(r => r.After.Keys).Distinct().Order()];
        text.Append(CultureInfo.InvariantCulture, $"| config | reward, first {Window} | last {Window} |")
            .AppendJoin("", objectives.Select(n => $" EM {n} before | after |")).Append(" parity | seconds |\n")
            .Append("|---|---:|---:|").Insert(text.Length, "---:|---:|", objectives.Length).Append("---:|---:|\n");
        foreach (var (name, runs) in rows)
        {
            text.Append("| ").Append(name).Append(" | ").Append(Shown(runs, r => r.First)).Append(" | ").Append(Shown(runs, r => r.Last)).Append(" |");
            foreach (var n in objectives)
            {
                text.Append(' ').Append(Shown(runs, r => r.Before.GetValueOrDefault(n, double.NaN))).Append(" | ")
                    .Append(Shown(runs, r => r.After.GetValueOrDefault(n, double.NaN))).Append(" |");
            }

            text.Append(CultureInfo.InvariantCulture, $" {runs.Max(r => r.Parity):0.0e+0} | {runs.Average(r => r.Seconds):0} |\n");
        }

        AtomicFile.WriteText(Path.Combine(folder, "learning.svg"), LinePlot.Draw(
        [
            new Panel(
                $"Mean reward of sampled episodes{(seeds.Count > 1 ? $", mean of {seeds.Count} seeds" : "")}", "update", "reward",
                Math.Min(0, rows.SelectMany(r => r.Runs).SelectMany(r => r.Curve).Min(p => p.Y)), 1, [.. rows.Select(r => new Series(r.Name, Mean(r.Runs)))]),
        ]));
        var note = string.Create(
            CultureInfo.InvariantCulture,
            $"Seeds {string.Join(", ", seeds)}. Rewards are means of sampled episodes over the first and last {Window} updates; exact match is the share of "
            + $"objectives on held-out tasks, greedy, before and after. {(seeds.Count > 1 ? "In brackets the lowest and the highest seed. " : "")}Seconds are by the clock.\n");
        AtomicFile.WriteText(Path.Combine(folder, "report.md"), $"# Ablations\n\n{note}\n![learning curves](learning.svg)\n\n{text}");
        return text.ToString();
    }

    private async Task Train(string file, ulong seed, string name, CancellationToken cancellationToken)
    {
        var start = BenchProcess.Self(
        [
            "train", "--config", file, "--seed", seed.ToString(CultureInfo.InvariantCulture), "--runs", Runs, "--name", name, "--go-on",
            "--no-dashboard", "--json", .. settings.SelectMany(s => (string[])["--set", s]),
        ]);
        using var process = Process.Start(start)!;
        var told = process.StandardOutput.ReadToEndAsync(CancellationToken.None); // a line per update; its folder has them too
        var errors = process.StandardError.ReadToEndAsync(CancellationToken.None);
        try
        {
            await process.WaitForExitAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            // A checkpoint is at most so many updates old; --go-on takes the run up from there.
            process.Kill();
            throw;
        }

        await told.ConfigureAwait(false);
        var last = (await errors.ConfigureAwait(false)).Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).LastOrDefault();
        if (process.ExitCode != 0) throw new UserErrorException($"{name} ended with status {process.ExitCode}: {last ?? "it gave no reason"}");
        if (!File.Exists(EvaluationOf(Path.Combine(Runs, name))))
            throw new UserErrorException($"{name} left no evaluation.json: evaluation.episodes must be above 0 in an ablation.");
    }

    private sealed record RunRow(
        double First, double Last, IReadOnlyDictionary<int, double> Before, IReadOnlyDictionary<int, double> After, double Parity, double Seconds,
        IReadOnlyList<(double X, double Y)> Curve);

    private static RunRow Read(string run)
    {
        using var folder = RunFolder.Resume(Path.GetDirectoryName(run)!, Path.GetFileName(run));
        var curve = folder.ReadCurve();
        using var evaluation = JsonDocument.Parse(File.ReadAllText(EvaluationOf(run)));
        Dictionary<int, double> Match(string when) => evaluation.RootElement.GetProperty(when) is { ValueKind: JsonValueKind.Object } found
            ? found.GetProperty("exact_match").EnumerateObject()
                .ToDictionary(p => int.Parse(p.Name, CultureInfo.InvariantCulture), p => p.Value.GetDouble())
            : [];
        var seconds = File.ReadLines(Path.Combine(run, "metrics.jsonl")).Sum(line =>
        {
            using var json = JsonDocument.Parse(line);
            return json.RootElement.GetProperty("seconds").GetDouble();
        });
        var window = Math.Min(Window, (curve.Count + 1) / 2);
        return new RunRow(
            curve.Take(window).Average(c => c.Reward), curve.TakeLast(window).Average(c => c.Reward), Match("before"), Match("after"),
            folder.ReadParityMax() ?? double.NaN, seconds, [.. curve.Select(c => ((double)c.Update, c.Reward))]);
    }

    private static List<(double X, double Y)> Mean(IReadOnlyList<RunRow> runs) =>
    [
        .. runs.SelectMany(r => r.Curve).GroupBy(p => p.X).OrderBy(g => g.Key).Select(g => (g.Key, g.Average(p => p.Y))),
    ];

    private static string Shown(IReadOnlyList<RunRow> runs, Func<RunRow, double> of)
    {
        double[] values = [.. runs.Select(of)];
        var mean = values.Average().ToString("0.000", CultureInfo.InvariantCulture);
        return values.Length == 1 ? mean
            : mean + string.Create(CultureInfo.InvariantCulture, $" ({values.Min():0.000} to {values.Max():0.000})");
    }
}
