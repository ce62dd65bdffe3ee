using System.Diagnostics;
using System.Globalization;
using Mem1.Learner;
using Microsoft.Extensions.Logging;
using Spectre.Console;

namespace Mem1.Cli.Output;

/// <summary>Chooses how to report: JSON for machines, a live line for a terminal, plain lines for everything else.</summary>
internal static class Reporters
{
    // Wide enough for every table; a log file has no edge to wrap at.
    private const int RedirectedWidth = 140;

    /// <param name="json">For machines.</param>
    /// <param name="objectives">Numbers of objectives that a table has columns for.</param>
    /// <param name="logs">How the process logs: where its log is JSON, what is said beside the updates is lines of it.</param>
    public static IRunReporter Create(bool json, IEnumerable<int> objectives, LogSettings logs = default)
    {
        if (json) return new JsonReporter(Console.Out, Console.Error, logs.Json == true ? logs.Factory(json: true) : null);
        var console = Terminal(out var live);
        return new TextReporter(Console.Out, console, live, [.. objectives]);
    }

    /// <summary>Standard output for people: in colour where it is a terminal that shows it and nobody asked for none, and never wrapped in a file.</summary>
    /// <param name="live">Whether lines may be written over.</param>
    public static IAnsiConsole Terminal(out bool live)
    {
        live = !Console.IsOutputRedirected && Environment.GetEnvironmentVariable("TERM") is not (null or "" or "dumb");
        var colour = live && string.IsNullOrEmpty(Environment.GetEnvironmentVariable("NO_COLOR")); // no-color.org
        var console = AnsiConsole.Create(new AnsiConsoleSettings
        {
            Ansi = colour ? AnsiSupport.Detect : AnsiSupport.No,
            ColorSystem = colour ? ColorSystemSupport.Detect : ColorSystemSupport.NoColors,
            Out = new AnsiConsoleOutput(Console.Out),
        });
        if (!live) console.Profile.Width = RedirectedWidth;
        return console;
    }
}

/// <summary>One JSON object per update on standard output; nothing else goes there.</summary>
/// <param name="output">For the updates.</param>
/// <param name="messages">For everything else, unless it is logged.</param>
/// <param name="loggers">Of a log in JSON, of which every line is an object; null for plain sentences.</param>
internal sealed class JsonReporter(TextWriter output, TextWriter messages, ILoggerFactory? loggers = null) : IRunReporter
{
    private readonly Lock _lock = new();
    private readonly ILogger? _log = loggers?.CreateLogger("Mem1.Run");

    public bool IsForMachines => true;

    public void Phase(string what) => Note(what);

    public void Progress(double share, string detail)
    {
    }

    public void Note(string sentence)
    {
        if (_log is not null)
        {
            _log.LogInformation("{Note}", sentence);
            return;
        }

        lock (_lock) messages.WriteLine(sentence);
    }

    public void Sampling(long update, int done, int of)
    {
    }

    public void Updated(UpdateMetrics metrics, int last)
    {
        lock (_lock)
        {
            output.WriteLine(metrics.ToJson());
            output.Flush();
        }
    }

    public void Closing(RunSummary summary) => Note(
        (summary.GoOnWith is { } command ? $"Interrupted; go on with: {command}\n" : "")
        + $"{summary.Updates} updates"
        + (summary.Window > 0 ? $", reward {Number(summary.FirstReward)} -> {Number(summary.LastReward)}" : "")
        + "; "
        + $"everything is in {summary.Folder}");

    public void Dispose() => loggers?.Dispose();

    private static string Number(double value) => value.ToString("0.000", CultureInfo.InvariantCulture);
}

/// <summary>For people: a status line that is rewritten in place on a terminal, and one line per event elsewhere.</summary>
internal sealed class TextReporter(TextWriter output, IAnsiConsole console, bool live, int[] objectives) : IRunReporter
{
    // Off a terminal a progress line every few seconds is enough to see life without filling a log.
    private static readonly TimeSpan PlainInterval = TimeSpan.FromSeconds(10);

    // On a terminal more often than this only flickers.
    private static readonly TimeSpan LiveInterval = TimeSpan.FromMilliseconds(100);

    private readonly Lock _lock = new();
    private readonly Stopwatch _total = Stopwatch.StartNew();
    private readonly Stopwatch _phase = new();
    private readonly Queue<double> _seconds = new();

    /// <summary>One column of the update lines.</summary>
    /// <param name="Title">Above the column.</param>
    /// <param name="Value">In this line.</param>
    /// <param name="Width">Of both, with the space before them.</param>
    /// <param name="Sacrifice">0 is always shown; the highest goes first.</param>
    private sealed record Column(string Title, string Value, int Width, int Sacrifice);

    private TimeSpan _lastShown = TimeSpan.MinValue;
    private string _what = "";
    private bool _statusShown;
    private string _header = "";

    public bool IsForMachines => false;

    public void Phase(string what)
    {
        lock (_lock)
        {
            ClearStatus();
            _what = what;
            _phase.Restart();
            _lastShown = TimeSpan.MinValue;
            if (!live) output.WriteLine(what);
            else Status($"{what} ...");
        }
    }

    public void Progress(double share, string detail)
    {
        lock (_lock)
        {
            if (!Due()) return;
            var eta = share > 0.001 ? $", {Duration(_phase.Elapsed * ((1 - share) / share))} left" : "";
            Status($"{_what}: {share * 100:0} %, {detail}{eta}");
        }
    }

    public void Note(string sentence)
    {
        lock (_lock)
        {
            ClearStatus();
            output.WriteLine(sentence);
        }
    }

    public void Sampling(long update, int done, int of)
    {
        if (!live) return; // a line per batch follows anyway
        lock (_lock)
        {
            // The last episode is not followed by another: whatever the interval, the line must not claim that one is still awaited.
            if (done >= of) Status($"update {update}: learning from {of} episodes");
            else if (Due()) Status($"update {update}: {done} of {of} episodes");
        }
    }

    public void Updated(UpdateMetrics m, int last)
    {
        lock (_lock)
        {
            ClearStatus();
            _seconds.Enqueue(m.Seconds);
            if (_seconds.Count > 20) _seconds.Dequeue(); // recent enough to follow a change, long enough not to jump
            var columns = Columns(m, last);
            var header = string.Concat(columns.Select(c => c.Title.PadLeft(c.Width)));
            if (header != _header) output.WriteLine(_header = header); // again when the terminal was made wider or narrower

            output.WriteLine(string.Concat(columns.Select(c => c.Value.PadLeft(c.Width))));
        }
    }

    /// <summary>The columns of an update's line that fit: on a narrow terminal the least telling ones go first.</summary>
    private List<Column> Columns(UpdateMetrics m, int last)
    {
        static string Text(double value, string format) => double.IsFinite(value)
            ? value.ToString(format, CultureInfo.InvariantCulture) : "-";
        var eta = Duration(TimeSpan.FromSeconds(_seconds.Average() * (last - m.Update)));
        var number = last.ToString(CultureInfo.InvariantCulture).Length;
        List<Column> columns =
        [
            new("update", $"{m.Update}/{last}", Math.Max(6, (2 * number) + 1), 0),
            new("reward", Text(m.RewardMean, "0.000"), 8, 0),
            .. objectives.Select((o, i) => new Column(
                $"EM {o}", m.ExactMatch.TryGetValue(o, out var em) ? Text(em, "0.000") : "-", 7,
                i == 0 || i == objectives.Length - 1 ? 2 : 4)),
            new("turns", Text(m.TurnsMean, "0.00"), 7, 6),
            new("peak", Text(m.PeakTokensMean, "0"), 6, 5),
            new("KL", Text(Positive(m.Statistics.Kl), "0.0000"), 9, 2),
            new("entropy", Text(m.Statistics.Entropy, "0.000"), 9, 3),
            new("stale", m.Statistics.StalenessMax.ToString(CultureInfo.InvariantCulture), 7, 6),
            new("tok/s roll", Text(m.RolloutTokensPerSecond, "0"), 12, 5),
            new("learn", Text(m.LearnerTokensPerSecond, "0"), 7, 5),
            new("parity", m.Statistics.ParityMaxAbs is { } p ? Text(p, "0.0e+0") : "-", 8, 4),
            new("ETA", eta, 8, 1),
        ];
        while (columns.Sum(c => c.Width) >= console.Profile.Width)
        {
            var least = columns.FindLastIndex(c => c.Sacrifice == columns.Max(other => other.Sacrifice));
            if (columns[least].Sacrifice == 0) break;
            columns.RemoveAt(least);
        }

        return columns;
    }

    public void Closing(RunSummary s)
    {
        lock (_lock)
        {
            ClearStatus();
            output.WriteLine();
            if (s.Before is not null || s.After is not null)
            {
                var table = new Table().Border(TableBorder.Rounded);
                table.AddColumn("objectives").AddColumn("episodes").AddColumn("before PPO").AddColumn("after PPO");
                output.WriteLine("Held-out tasks, greedy: exact match (share of objectives)");
                var keys = (s.After ?? s.Before)!.ExactMatch.Keys.Order();
                foreach (var k in keys)
                {
                    table.AddRow(
                        k.ToString(CultureInfo.InvariantCulture),
                        ((s.After ?? s.Before)!.Episodes.GetValueOrDefault(k)).ToString(CultureInfo.InvariantCulture),
                        Cell(s.Before, k), Cell(s.After, k));
                }

                console.Write(table);
            }

            if (s.Window > 0) output.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"Mean sampled reward: first {s.Window} updates {s.FirstReward:0.000}, last {s.Window} updates {s.LastReward:0.000} ")
                + string.Create(CultureInfo.InvariantCulture, $"({s.LastReward - s.FirstReward:+0.000;-0.000})."));
            if (s.ParityMax is { } parity)
                output.WriteLine(string.Create(CultureInfo.InvariantCulture,
                    $"Parity: max |log-prob learner - log-prob sampler| over all updates {parity:0.0e+0}."));
            output.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"{(s.GoOnWith is null ? "Finished" : "Interrupted after")} {s.Updates} updates in {Duration(s.Elapsed)}, ")
                + string.Create(CultureInfo.InvariantCulture, $"peak memory {s.PeakRssBytes / 1048576.0:0} MiB."));
            output.WriteLine($"Run folder: {s.Folder} (metrics.jsonl, trajectories.jsonl, reward.svg, checkpoints/)");
            if (s.GoOnWith is { } command) output.WriteLine($"Go on with: {command}");
        }

        static string Cell(EvaluationResult? result, int k) =>
            result is not null && result.ExactMatch.TryGetValue(k, out var v) ? v.ToString("0.000", CultureInfo.InvariantCulture) : "-";
    }

    public void Dispose()
    {
        lock (_lock) ClearStatus();
    }

    /// <summary>h:mm:ss, or m:ss below an hour.</summary>
    internal static string Duration(TimeSpan t) =>
        t.TotalHours >= 1 ? $"{(int)t.TotalHours}:{t.Minutes:00}:{t.Seconds:00}" : $"{(int)t.TotalMinutes}:{t.Seconds:00}";

    /// <summary>Spares the reader a minus sign before a zero.</summary>
    private static double Positive(double value) => Math.Abs(value) < 5e-5 ? 0 : value;

    private bool Due()
    {
        var now = _total.Elapsed;
        if (_lastShown != TimeSpan.MinValue && now - _lastShown < (live ? LiveInterval : PlainInterval)) return false;
        if (!live && _lastShown == TimeSpan.MinValue)
        {
            _lastShown = now; // the phase's own line has just been printed
            return false;
        }

        _lastShown = now;
        return true;
    }

    private void Status(string text)
    {
        if (!live)
        {
            output.WriteLine(text);
            return;
        }

        ClearStatus();
        var width = Math.Max(20, console.Profile.Width - 1);
        output.Write(text.Length > width ? text[..width] : text);
        _statusShown = true;
    }

    private void ClearStatus()
    {
        if (!_statusShown) return;
        output.Write("\r" + new string(' ', Math.Max(20, console.Profile.Width - 1)) + "\r");
        _statusShown = false;
    }
}
