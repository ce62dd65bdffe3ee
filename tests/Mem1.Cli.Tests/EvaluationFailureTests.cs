// An environment that throws, hangs or hangs without heeding its cancellation: the evaluation ends all the same, its failed episodes are
// counted by cause, and whatever recovers in time leaves the rows as they would have been.
using System.Globalization;
using Mem1.Cli.Evaluation;
using Mem1.Environments;

namespace Mem1.Cli.Tests;

public sealed class EvaluationFailureTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    /// <summary>Does something before every call that an environment takes.</summary>
    /// <param name="inner">The environment.</param>
    /// <param name="before">Told the task and how often a call of its episodes was made, from 1; call 1 makes the environment.</param>
    private sealed class Troubled(IEnvironmentFactory inner, Func<string, int, CancellationToken, Task> before) : IEnvironmentFactory
    {
        private readonly Dictionary<string, int> _calls = [];

        public string Name => inner.Name;

        public IReadOnlyList<string> StopStrings => inner.StopStrings;

        public string InternalStateEnd => inner.InternalStateEnd;

        public string? DiscardedEnd => inner.DiscardedEnd;

        public string ObservationEnd => inner.ObservationEnd;

        public IEnvironment Create(EnvironmentTask task, ulong seed)
        {
            before(task.Id, Count(task.Id), CancellationToken.None).GetAwaiter().GetResult();
            return new Episode(this, task.Id, inner.Create(task, seed));
        }

        private int Count(string task)
        {
            lock (_calls) return _calls[task] = _calls.GetValueOrDefault(task) + 1;
        }

        private sealed class Episode(Troubled owner, string task, IEnvironment inner) : IEnvironment
        {
            public string Prompt => inner.Prompt;

            public int MaxTurns => inner.MaxTurns;

            public async ValueTask<TurnResult> StepAsync(string response, bool truncated, CancellationToken cancellationToken)
            {
                await owner.Before(task, cancellationToken);
                return await inner.StepAsync(response, truncated, cancellationToken);
            }

            public TurnResult Abort(EpisodeEnd reason) => inner.Abort(reason);

            public ValueTask DisposeAsync() => inner.DisposeAsync();
        }

        private Task Before(string task, CancellationToken cancellationToken) => before(task, Count(task), cancellationToken);
    }

    private static EvaluationOptions Options(string folder, Func<string, int, CancellationToken, Task>? before = null, string agents = "mem1,full") => new()
    {
        Out = folder,
        Agents = ContextPolicies.Parse(agents),
        Episodes = 3,
        Objectives = [2],
        Threads = 1,
        Batch = 1, // the calls of a task are counted in one order
        Patience = EnvironmentPatience.Standard with { Wait = TimeSpan.FromMilliseconds(1), Retries = 2 },
        Around = inner => before is null ? inner : new Troubled(inner, before),
    };

    private static EpisodeRecord[] Rows(string folder) => [.. ResultsFolder.ReadRows(folder).Select(r => r with { Seconds = 0 })];

    private static async Task<(EvaluationReport Report, List<string> Said)> Run(EvaluationOptions options)
    {
        var said = new List<string>();
        var report = await EvaluationRun.RunAsync(options, static (_, _) => { }, s => { lock (said) said.Add(s); }, Token);
        return (report, said);
    }

    [Fact]
    public async Task A_call_that_fails_is_made_again_and_the_episode_is_what_it_would_have_been()
    {
        using var temp = new TempFolder();
        await Run(Options(temp["sound"]));
        // Making the environment fails once, then the first response twice: no call as often as would be too much.
        var (report, said) = await Run(Options(
            temp["troubled"], (_, call, _) => call is 1 or 3 or 4 ? throw new HttpRequestException("no route") : Task.CompletedTask));
        var (sound, troubled) = (Rows(temp["sound"]), Rows(temp["troubled"]));
        Assert.Equal(sound.Select(r => r.ToJson()), troubled.Select(r => (r with { Retries = 0 }).ToJson()));
        Assert.Equal(9, troubled.Sum(r => r.Retries)); // of three tasks; the second agent meets calls that work
        Assert.Equal(9, report.Cells.Sum(c => c.EnvironmentRetries));
        Assert.Equal(0, report.Cells.Sum(c => c.EnvironmentEnded));
        Assert.Contains("made again: 9.", File.ReadAllText(temp["troubled", "report.md"]), StringComparison.Ordinal);
        Assert.DoesNotContain(said, s => s.Contains("by failing", StringComparison.Ordinal));
    }

    [Fact]
    public async Task An_environment_that_keeps_failing_costs_its_episodes_and_not_the_evaluation()
    {
        using var temp = new TempFolder();
        await Run(Options(temp["sound"]));
        var sick = Rows(temp["sound"])[1].TaskId;
        // The environment of one task is made and then fails whatever it is given.
        var (report, said) = await Run(Options(
            temp["troubled"],
            (task, call, _) => task == sick && call > 1 ? throw new HttpRequestException("no route to the retriever") : Task.CompletedTask, "mem1"));
        var rows = Rows(temp["troubled"]);
        var row = Assert.Single(rows, r => r.TaskId == sick);
        Assert.Equal((EpisodeRecord.EnvironmentError, 0.0, 2), (row.End, row.Reward, row.Retries));
        Assert.Equal([0, 0], row.ExactMatch);
        Assert.Contains("failed 3 times in a row, last with HttpRequestException: no route", row.Failure, StringComparison.Ordinal);
        // What the agent did until then is there: its first response, and what that cost.
        Assert.Equal(Rows(temp["sound"])[1].Turns[0].Response, Assert.Single(row.Turns).Response);
        Assert.Equal(
            Rows(temp["sound"]).Where(r => r.Agent == "mem1" && r.TaskId != sick).Select(r => r.ToJson()),
            rows.Where(r => r.TaskId != sick).Select(r => r.ToJson()));

        // It is in the mean and in plain sight.
        var cell = Assert.Single(report.Cells);
        Assert.Equal((3, 1, 1), (cell.All.Episodes, cell.EnvironmentEnded, cell.Ends[EpisodeRecord.EnvironmentError]));
        Assert.Equal(rows.Sum(r => r.ExactMatch.Sum()) / 3, cell.All.EmCount.Mean, 1e-12);
        Assert.Contains("| environment_error |", File.ReadAllText(temp["troubled", "report.md"]), StringComparison.Ordinal);
        Assert.Contains("1 of 3 of mem1 at 2", File.ReadAllText(temp["troubled", "report.md"]), StringComparison.Ordinal);
        using var table = new StringWriter(CultureInfo.InvariantCulture);
        ReportFiles.Print(report, table);
        Assert.Contains("env", table.ToString(), StringComparison.Ordinal);
        Assert.Contains("of 3", table.ToString(), StringComparison.Ordinal);
        Assert.Contains(said, s => s.Contains("episode 1", StringComparison.Ordinal) && s.Contains("no route to the retriever", StringComparison.Ordinal));

        // Resumed it stays as it is, unless it is to be played again; then it is what it would have been.
        var (again, _) = await Run(Options(temp["troubled"], agents: "mem1") with { Resume = true });
        Assert.Equal(1, Assert.Single(again.Cells).EnvironmentEnded);
        var (mended, _) = await Run(Options(temp["troubled"], agents: "mem1") with { Resume = true, RetryFailed = true });
        Assert.Equal(0, Assert.Single(mended.Cells).EnvironmentEnded);
        Assert.Equal(Rows(temp["sound"]).Where(r => r.Agent == "mem1").Select(r => r.ToJson()), Rows(temp["troubled"]).Select(r => r.ToJson()));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task An_environment_that_hangs_is_given_up_at_its_deadline(bool heeds)
    {
        using var temp = new TempFolder();
        using var release = new CancellationTokenSource();
        // One that heeds its cancellation is asked again; one that does not may not be: its call still runs.
        var options = Options(
            temp["hung"], (_, call, token) => call == 1 ? Task.CompletedTask : Task.Delay(Timeout.Infinite, heeds ? token : release.Token), "mem1");
        var (report, _) = await Run(options with
        {
            Patience = new EnvironmentPatience(
                TimeSpan.FromMilliseconds(50), heeds ? TimeSpan.FromSeconds(60) : TimeSpan.FromMilliseconds(50), 1, TimeSpan.FromMilliseconds(1)),
        });
        Assert.All(Rows(temp["hung"]), r =>
        {
            Assert.Equal(EpisodeRecord.EnvironmentTimeout, r.End);
            Assert.Contains(heeds ? "did not answer within" : "did not return within", r.Failure, StringComparison.Ordinal);
        });
        Assert.Equal(3, Assert.Single(report.Cells).EnvironmentEnded);
        Assert.Equal(0, Assert.Single(report.Cells).All.EmCount.Mean);
        await release.CancelAsync();
    }

    [Fact]
    public async Task An_environment_that_cannot_be_made_leaves_a_row_without_turns()
    {
        using var temp = new TempFolder();
        var (report, said) = await Run(Options(temp["none"], (_, _, _) => throw new InvalidOperationException("no licence"), "mem1"));
        Assert.All(Rows(temp["none"]), r => Assert.Empty(r.Turns));
        var cell = Assert.Single(report.Cells);
        Assert.Equal((3, 0.0, 0.0), (cell.EnvironmentEnded, cell.All.PeakTokens.Mean, cell.All.Turns.Mean));
        Assert.Equal(4, said.Count); // one for each, and the sum
    }

    [Fact]
    public void Failed_episodes_are_played_again_in_an_evaluation_that_is_resumed_alone() =>
        Refusals.Refused(["eval", "--out", Path.Combine(Path.GetTempPath(), "mem1-none"), "--retry-failed"], "--retry-failed", "--resume");
}
