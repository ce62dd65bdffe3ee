using System.Diagnostics;
using System.Globalization;
using Mem1.Learner;
using Spectre.Console;

namespace Mem1.Cli.Output;

/// <summary>Chooses how to report: JSON for machines, a live line for a terminal, plain lines for everything else.</summary>
internal static class Reporters
{
    // Wide enough for every table; a log file has no edge to wrap at.
    private const int RedirectedWidth = 140;

    public static IRunReporter Create(bool json, IEnumerable<int> objectives)
    {
        if (json) return new JsonReporter(Console.Out, Console.Error);
        var live = !Console.IsOutputRedirected && Environment.GetEnvironmentVariable("TERM") is not (null or "" or "dumb");
        var colour = live && string.IsNullOrEmpty(Environment.GetEnvironmentVariable("NO_COLOR")); // no-color.org
        var console = AnsiConsole.Create(new AnsiConsoleSettings
        {
            Ansi = colour ? AnsiSupport.Detect : AnsiSupport.No,
            ColorSystem = colour ? ColorSystemSupport.Detect : ColorSystemSupport.NoColors,
            Out = new AnsiConsoleOutput(Console.Out),
        });
        if (!live) console.Profile.Width = RedirectedWidth;
        return new TextReporter(Console.Out, console, live, [.. objectives]);
    }
}

/// <summary>One JSON object per update on standard output; nothing else goes there.</summary>
internal sealed class JsonReporter(TextWriter output, TextWriter messages) : IRunReporter
{
    private readonly Lock _lock = new();

    public void Phase(string what) => Note(what);

    public void Progress(double share, string detail)
    {
    }

    public void Note(string sentence)
    {
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
        $"{summary.Updates} updates, reward {Number(summary.FirstReward)} -> {Number(summary.LastReward)}; everything is in {summary.Folder}");

    public void Dispose()
    {
    }

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
    private TimeSpan _lastShown = TimeSpan.MinValue;
    private string _what = "";
    private bool _statusShown;
    private bool _header;

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
            if (Due()) Status($"update {update}: {done} of {of} episodes");
        }
    }

    public void Updated(UpdateMetrics m, int last)
    {
        lock (_lock)
        {
            ClearStatus();
            if (!_header)
            {
                _header = true;
                var names = string.Concat(objectives.Select(o => $"  EM {o,-3}"));
                output.WriteLine($" update   reward{names}   turns    peak        kl  entropy  stale   tok/s roll  learn    parity      ETA");
            }

            _seconds.Enqueue(m.Seconds);
            if (_seconds.Count > 20) _seconds.Dequeue(); // recent enough to follow a change, long enough not to jump
            var eta = Duration(TimeSpan.FromSeconds(_seconds.Average() * (last - m.Update)));
            var em = string.Concat(objectives.Select(o => m.ExactMatch.TryGetValue(o, out var v) ? $"  {v,6:0.000}" : "       -"));
            var parity = m.Statistics.ParityMaxAbs is { } p ? p.ToString("0.0e+0", CultureInfo.InvariantCulture) : "-";
            output.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"{m.Update,4}/{last,-4} {m.RewardMean,6:0.000}{em}  {m.TurnsMean,6:0.00}  {m.PeakTokensMean,6:0.0}  {Positive(m.Statistics.Kl),8:0.00000}  {m.Statistics.Entropy,7:0.0000}  {m.Statistics.StalenessMax,5}  {m.RolloutTokensPerSecond,10:0}  {m.LearnerTokensPerSecond,5:0}  {parity,8}  {eta,7}"));
        }
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

            output.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"Mean sampled reward: first {s.Window} updates {s.FirstReward:0.000}, last {s.Window} updates {s.LastReward:0.000} ({s.LastReward - s.FirstReward:+0.000;-0.000})."));
            if (s.ParityMax is { } parity)
                output.WriteLine(string.Create(CultureInfo.InvariantCulture,
                    $"Parity: max |log-prob learner - log-prob sampler| over all updates {parity:0.0e+0}."));
            output.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"{(s.Interrupted ? "Interrupted after" : "Finished")} {s.Updates} updates in {Duration(s.Elapsed)}, peak memory {s.PeakRssBytes / 1048576.0:0} MiB."));
            output.WriteLine($"Run folder: {s.Folder} (metrics.jsonl, trajectories.jsonl, reward.svg, checkpoints/)");
            if (s.Interrupted) output.WriteLine($"Go on with: ./mem1 train --resume {Path.GetFileName(s.Folder)}");
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
    private static double Positive(double value) => Math.Abs(value) < 5e-6 ? 0 : value;

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
