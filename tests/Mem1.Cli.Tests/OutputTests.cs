// What people see, without a process: columns that fit, escapes only where they belong, plots and sentences.
using System.Globalization;
using System.Xml.Linq;
using Mem1.Cli.Configuration;
using Mem1.Cli.Output;
using Mem1.Learner;
using Microsoft.Extensions.Logging;
using Spectre.Console;
using Panel = Mem1.Cli.Output.Panel;

namespace Mem1.Cli.Tests;

public sealed class OutputTests
{
    [Theory]
    [InlineData(200, 4, "tok/s roll", true)]
    [InlineData(120, 4, "tok/s roll", true)] // the default run on a usual terminal shows everything
    [InlineData(80, 4, "tok/s roll", false)]
    [InlineData(80, 8, "tok/s roll", false)]
    [InlineData(40, 4, "KL", false)]
    public void Update_lines_fit_the_terminal(int width, int objectives, string column, bool shown)
    {
        var lines = Print(width, reporter =>
        {
            reporter.Updated(Metrics(1), 100);
            reporter.Updated(Metrics(100), 100);
        }, objectives).Split('\n', StringSplitOptions.RemoveEmptyEntries);

        Assert.Equal(3, lines.Length);
        Assert.All(lines, l => Assert.True(l.Length < width, $"{l.Length} columns: {l}"));
        Assert.Single(lines.Select(l => l.Length).Distinct());
        Assert.Contains("reward", lines[0]);
        Assert.Contains("100/100", lines[2]);
        Assert.Contains("0.750", lines[2]);
        Assert.Equal(shown, lines[0].Contains(column, StringComparison.Ordinal));
    }

    [Fact]
    public void A_log_for_machines_has_one_line_for_everything_also_for_a_long_stack_trace()
    {
        var (was, text) = (Console.Error, new StringWriter());
        Console.SetError(text);
        try
        {
            foreach (var json in (bool[])[true, false])
            {
                using var loggers = Logs.ToStandardError(json);
                var log = loggers.CreateLogger("Mem1.Here");
                try
                {
                    Deep(40);
                }
                catch (InvalidOperationException e)
                {
                    log.LogError(e, "It broke\nin {What} with trace {TraceId}", "two\nlines", "4bf92f3577b34da6a3ce929d0e0e4736");
                }
            }
        }
        finally
        {
            Console.SetError(was);
        }

        var lines = text.ToString().Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(2, lines.Length);
        var entry = System.Text.Json.JsonDocument.Parse(lines[0]).RootElement;
        Assert.Equal(("Error", "Mem1.Here"), (entry.GetProperty("LogLevel").GetString(), entry.GetProperty("Category").GetString()));
        Assert.Equal("4bf92f3577b34da6a3ce929d0e0e4736", entry.GetProperty("State").GetProperty("TraceId").GetString());
        Assert.True(entry.GetProperty("Timestamp").GetDateTimeOffset().Offset == TimeSpan.Zero);
        Assert.Contains("too deep\n", entry.GetProperty("Exception").GetString(), StringComparison.Ordinal);
        Assert.True(entry.GetProperty("Exception").GetString()!.Count(c => c == '\n') > 40);
        Assert.Contains("It broke", lines[1], StringComparison.Ordinal);

        static void Deep(int calls)
        {
            if (calls == 0) throw new InvalidOperationException("too deep\nto go on");
            Deep(calls - 1);
            GC.KeepAlive(calls); // no tail call: every one is in the trace
        }
    }

    [Fact]
    public void Numbers_that_do_not_exist_are_a_dash()
    {
        var line = Print(120, r => r.Updated(Metrics(1) with { RewardMean = double.NaN }, 100)).Split('\n')[1];
        Assert.DoesNotContain("NaN", line);
        Assert.Contains(" - ", line);
    }

    [Fact]
    public void A_live_status_line_is_wiped_before_the_next_line()
    {
        var text = Print(60, reporter =>
        {
            reporter.Phase("cloning the expert");
            reporter.Progress(0.5, new string('x', 100));
            reporter.Note("Done.");
        });
        Assert.DoesNotContain('\u001b', text);
        // A line that reached the last column would wrap and could not be wiped.
        Assert.All(text.Split('\r', '\n'), l => Assert.True(l.Length < 60, l));
        Assert.EndsWith(new string(' ', 59) + "\rDone.\n", text);
    }

    [Fact]
    public void A_plot_of_one_update_shows_a_point_and_every_number_is_finite()
    {
        var svg = XDocument.Parse(LinePlot.Draw([new Panel("a < b & \"c\"", "update", "reward", 0, 1,
            [new Series("reward", [(1, 0.5)])])]));
        Assert.Contains(svg.Descendants(), e => e.Name.LocalName == "circle");
        Assert.DoesNotContain("NaN", svg.ToString());
    }

    [Fact]
    public void Every_update_is_marked_once_on_a_short_axis()
    {
        var svg = XDocument.Parse(LinePlot.Draw([new Panel("p", "x", "y", 0, 1, [new Series("s", [(1, 0), (2, 0.5), (3, 1)])])]));
        var marks = svg.Descendants().Where(e => e.Name.LocalName == "text" && e.Attribute("text-anchor")!.Value == "middle").Select(e =>
            e.Value);
        Assert.Equal(["1", "2", "3"], marks.Where(m => m.All(char.IsAsciiDigit)));
    }

    [Theory]
    [InlineData(59, "0:59")]
    [InlineData(61, "1:01")]
    [InlineData(3661, "1:01:01")]
    [InlineData(90061, "25:01:01")]
    public void Durations(int seconds, string text) => Assert.Equal(text, TextReporter.Duration(TimeSpan.FromSeconds(seconds)));

    [Fact]
    public void A_config_is_read_back_as_it_was_written()
    {
        using var temp = new TempFolder();
        var config = Presets.For("some corpus.jsonl", "tasks: #1.jsonl", quick: true, fromScratch: true) with
        {
            Seed = ulong.MaxValue,
            Ppo = new PpoOptions { LearningRate = 1.0 / 3 },
            Evaluation = new EvaluationConfig { Objectives = [2, 3] },
        };
        var text = ConfigFile.Write(config);
        var (read, given) = ConfigFile.Read(temp.Write("config.yaml", text), []);
        Assert.Equal(text, ConfigFile.Write(read));
        Assert.Equal(1.0 / 3, read.Ppo.LearningRate);
        Assert.Equal(ulong.MaxValue, read.Seed);
        Assert.Equal("tasks: #1.jsonl", read.Environment.Tasks);
        Assert.Contains("ppo.learning_rate", given);
    }

    [Theory]
    [InlineData("", "", 0)]
    [InlineData("clip", "clipp", 1)]
    [InlineData("updates", "udpates", 2)]
    [InlineData("abc", "", 3)]
    [InlineData("kitten", "sitting", 3)]
    public void Distance(string a, string b, int expected)
    {
        Assert.Equal(expected, EditDistance.Of(a, b));
        Assert.Equal(expected, EditDistance.Of(b, a));
    }

    private static string Print(int width, Action<TextReporter> what, int objectives = 4)
    {
        using var output = new StringWriter(CultureInfo.InvariantCulture) { NewLine = "\n" };
        var console = AnsiConsole.Create(new AnsiConsoleSettings { Ansi = AnsiSupport.No, Out = new AnsiConsoleOutput(output) });
        console.Profile.Width = width;
        using (var reporter = new TextReporter(output, console, live: true, [.. Enumerable.Range(1, objectives)])) what(reporter);
        return output.ToString();
    }

    private static UpdateMetrics Metrics(long update) => new()
    {
        Update = update,
        PolicyVersion = update,
        RewardMean = 0.75,
        ExactMatch = new Dictionary<int, double> { [1] = 1, [3] = 0.5 },
        TurnsMean = 12.25,
        PeakTokensMean = 1023.5,
        Statistics = new UpdateStatistics(0, 0, 1.234, -0.0123, 0, 0, 0, 0, 1e-5f, 0, 1000),
        InvalidFormatRate = 0,
        Episodes = 64,
        Quarantined = 0,
        EnvironmentFailures = 0,
        RolloutTokensPerSecond = 123456,
        LearnerTokensPerSecond = 54321,
        LiveTensors = 36,
        RssBytes = 1,
        Seconds = 360,
    };
}
