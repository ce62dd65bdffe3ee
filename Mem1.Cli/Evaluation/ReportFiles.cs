// Keeps: every number shown is a cell's; nothing is computed here but its rounding.
using System.Globalization;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using Mem1.Cli.Output;
using Mem1.Model.Checkpoints;
using Spectre.Console;

namespace Mem1.Cli.Evaluation;

/// <summary>Writes a report: report.json, report.md, exact_match.svg, peak_tokens.svg, and a table for the terminal.</summary>
internal static class ReportFiles
{
    private static readonly JsonSerializerOptions s_json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        WriteIndented = true,
        NewLine = "\n",
    };

    private static readonly (string Name, Func<CellMeans, Estimate> Of, string Format)[] s_columns =
    [
        ("EM count", c => c.EmCount, "0.00"), ("EM mean", c => c.EmMean, "0.000"), ("F1 count", c => c.F1Count, "0.00"),
        ("F1 mean", c => c.F1Mean, "0.000"), ("peak tokens", c => c.PeakTokens, "0"), ("without prompt", c => c.PeakTokensWithoutPrompt, "0"),
        ("dependency", c => c.Dependency, "0"), ("prompt tokens", c => c.PromptTokens, "0"), ("generated", c => c.GeneratedTokens, "0"),
        ("turns", c => c.Turns, "0.0"), ("seconds", c => c.Seconds, "0.00"), ("invalid", c => c.InvalidRate, "0.00"),
        ("KV kB", c => new Estimate(c.KvBytes.Mean / 1000, c.KvBytes.Low / 1000, c.KvBytes.High / 1000), "0.0"),
    ];

    // The terminal has no room for all of them, nor for their intervals.
    private static readonly string[] s_terminal = ["EM count", "EM mean", "F1 mean", "peak tokens", "without prompt", "dependency", "turns", "invalid", "KV kB"];

    /// <summary>The report as JSON, one object.</summary>
    public static string Json(EvaluationReport report, bool indented) =>
        JsonSerializer.Serialize(report, indented ? s_json : new JsonSerializerOptions(s_json) { WriteIndented = false });

    /// <summary>Writes all files into a folder, each of them atomically.</summary>
    public static void Write(EvaluationReport report, string folder)
    {
        AtomicFile.WriteText(Path.Combine(folder, "report.json"), Json(report, indented: true) + "\n");
        AtomicFile.WriteText(Path.Combine(folder, "report.md"), Markdown(report));
        WritePlots(report, folder);
    }

    /// <summary>Writes exact_match.svg and peak_tokens.svg.</summary>
    public static void WritePlots(EvaluationReport report, string folder)
    {
        AtomicFile.WriteText(Path.Combine(folder, "exact_match.svg"), Plot(report, "Exact match", "objectives right", c => c.EmCount));
        AtomicFile.WriteText(Path.Combine(folder, "peak_tokens.svg"), Plot(report, "Peak tokens, prompt included", "tokens", c => c.PeakTokens));
    }

    /// <summary>The table of the terminal.</summary>
    public static void Print(EvaluationReport report, TextWriter output)
    {
        var console = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(output) });
        // Redirected output has no width of its own; lines must not break there.
        if (Console.IsOutputRedirected) console.Profile.Width = 160;
        var table = new Table().Border(TableBorder.Simple).AddColumn("agent").AddColumn(new TableColumn("objectives").RightAligned());
        var shown = s_columns.Where(c => s_terminal.Contains(c.Name)).ToArray();
        foreach (var (name, _, _) in shown) table.AddColumn(new TableColumn(name).RightAligned());
        // A column of noughts would only take room.
        var failed = report.Cells.Any(c => c.EnvironmentEnded > 0);
        if (failed) table.AddColumn(new TableColumn("env failed").RightAligned());
        foreach (var cell in report.Cells)
        {
            string[] ended = failed ? [$"{cell.EnvironmentEnded.ToString(CultureInfo.InvariantCulture)} of {cell.All.Episodes}"] : [];
            table.AddRow([
                Markup.Escape(cell.Agent), cell.Objectives.ToString(CultureInfo.InvariantCulture),
                .. shown.Select(c => c.Of(cell.All).Mean.ToString(c.Format, CultureInfo.InvariantCulture)), .. ended]);
        }

        console.Write(table);
    }

    /// <summary>What is to be said of an environment that failed; null when it did not.</summary>
    public static string? EnvironmentNote(EvaluationReport report)
    {
        string Cells(Func<Cell, int> of) => string.Join(", ", report.Cells.Where(c => of(c) > 0).Select(c => string.Create(
            CultureInfo.InvariantCulture, $"{of(c)} of {c.All.Episodes} of {c.Agent} at {c.Objectives}")));
        var (ended, told) = (Cells(c => c.EnvironmentEnded), Cells(c => c.EnvironmentTold));
        string[] notes =
        [
            .. ended.Length == 0 ? Array.Empty<string>() :
            [
                $"The environment ended episodes by failing ({ended}): they are in every mean, as wrong, with the tokens they took until then. "
                    + "Play them again with --resume --retry-failed.",
            ],
            .. told.Length == 0 ? Array.Empty<string>() :
            [
                $"In other episodes a failure became an observation and the agent went on ({told}): those are in the means as they ended.",
            ],
        ];
        return notes.Length == 0 ? null : string.Join(' ', notes) + " Such cells say less about the agent than about its environment.";
    }

    private static string Markdown(EvaluationReport report)
    {
        var s = report.Settings;
        var text = new StringBuilder();
        void Line(string line) => text.Append(line).Append('\n');
        Line("# Evaluation");
        Line("");
        Line(string.Create(
            CultureInfo.InvariantCulture,
            $"Model {s.Model}{(s.Endpoint is null ? "" : $" at {s.Endpoint}")}, environment {s.Environment}, seed {s.Seed}, temperature {s.Temperature}, contexts up to {s.MaxContext} tokens."));
        Line("Means over episodes with 95 % intervals (percentile bootstrap, 2000 resamples); tokens are the model's own. Exact match and F1 as");
        Line("a count are summed over an episode's objectives. Seconds are by the clock with other episodes in the batch.");
        Line(string.Create(CultureInfo.InvariantCulture, $"Keys and values take {s.KvBytesPerToken} bytes a token ({s.KvElementBytes} a number)."));
        Line("");
        Line("![exact match against objectives](exact_match.svg)");
        Line("![peak tokens against objectives](peak_tokens.svg)");
        AppendTables(text, report);
        return text.ToString();
    }

    /// <summary>Adds the tables of a report to a document.</summary>
    public static void AppendTables(StringBuilder text, EvaluationReport report)
    {
        void Line(string line) => text.Append(line).Append('\n');
        Table("All episodes", c => c.All);
        Table("Successful episodes: at least one objective right", c => c.Successful);
        Line("");
        Line("## How episodes ended");
        Line("");
        string[] ends = [.. report.Cells.SelectMany(c => c.Ends.Keys).Distinct().Order(StringComparer.Ordinal)];
        Line($"| agent | objectives |{string.Concat(ends.Select(e => $" {e} |"))} environment failures |");
        Line($"|---|---:|{string.Concat(ends.Select(_ => "---:|"))}---:|");
        foreach (var c in report.Cells)
        {
            Line(string.Create(
                CultureInfo.InvariantCulture,
                $"| {c.Agent} | {c.Objectives} |{string.Concat(ends.Select(e => $" {c.Ends.GetValueOrDefault(e)} |"))} {c.EnvironmentFailures} |"));
        }

        if (report.Cells.Sum(c => c.EnvironmentRetries) is > 0 and var retries)
        {
            Line("");
            Line(string.Create(CultureInfo.InvariantCulture, $"Calls of the environment that failed and were made again: {retries}."));
        }

        if (EnvironmentNote(report) is { } note)
        {
            Line("");
            Line($"**{note}**");
        }

        if (report.Cells.Any(c => c.Legacy is not null)) Legacy();

        void Table(string title, Func<Cell, CellMeans?> of)
        {
            Line("");
            Line($"## {title}");
            Line("");
            Line($"| agent | objectives | episodes |{string.Concat(s_columns.Select(c => $" {c.Name} |"))}");
            Line($"|---|---:|---:|{string.Concat(s_columns.Select(_ => "---:|"))}");
            foreach (var cell in report.Cells)
            {
                var means = of(cell);
                Line(string.Create(
                    CultureInfo.InvariantCulture,
                    $"| {cell.Agent} | {cell.Objectives} | {means?.Episodes ?? 0} |")
                    + string.Concat(s_columns.Select(c => $" {(means is null ? "" : Shown(c.Of(means), c.Format))} |")));
            }
        }

        void Legacy()
        {
            Line("");
            Line("## By the definitions of the original evaluation");
            Line("");
            Line("For comparison with its figures only: another number of answers than of objectives scores 0, F1 is of sets of words, token");
            Line("figures leave out the prompt, count thoughts twice and are of episodes with a match alone.");
            Line("");
            Line("| agent | objectives | EM count | F1 count | episodes in token figures | peak tokens | dependency |");
            Line("|---|---:|---:|---:|---:|---:|---:|");
            foreach (var c in report.Cells)
            {
                var l = c.Legacy!;
                Line(string.Create(
                    CultureInfo.InvariantCulture,
                    $"| {c.Agent} | {c.Objectives} | {Shown(l.EmCount, "0.00")} | {Shown(l.F1Count, "0.00")} | {l.TokenEpisodes} | {Shown(l.PeakTokens, "0")} | {Shown(l.Dependency, "0")} |"));
            }
        }
    }

    private static string Shown(Estimate? e, string format)
    {
        return e is null ? "" : $"{N(e.Mean)} ({N(e.Low)} to {N(e.High)})";

        string N(double value) => value.ToString(format, CultureInfo.InvariantCulture);
    }

    private static string Plot(EvaluationReport report, string title, string unit, Func<CellMeans, Estimate> of)
    {
        var series = report.Agents.Select(agent => new Series(
            agent, [.. report.Cells.Where(c => c.Agent == agent).Select(c => ((double)c.Objectives, of(c.All).Mean))])).ToArray();
        var top = series.SelectMany(s => s.Points).Max(p => p.Y);
        return LinePlot.Draw([new Output.Panel($"{title} against objectives", "objectives", unit, 0, top > 0 ? top * 1.05 : 1, series)]);
    }
}
