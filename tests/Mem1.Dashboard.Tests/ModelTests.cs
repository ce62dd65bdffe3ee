namespace Mem1.Dashboard.Tests;

public sealed class ModelTests : IDisposable
{
    private readonly RunFolderFixture _run = new();

    public void Dispose() => _run.Dispose();

    [Fact]
    public void Lines_are_given_once_and_only_whole()
    {
        var lines = new List<string>();
        var follower = new LineFollower(_run.MetricsPath);
        follower.Poll(() => lines.Add("RESTART"), (line, _, _) => lines.Add(line));
        File.WriteAllText(_run.MetricsPath, "one\ntw");
        follower.Poll(() => lines.Add("RESTART"), (line, _, _) => lines.Add(line));
        File.AppendAllText(_run.MetricsPath, "o\n\nthrée\n");
        follower.Poll(() => lines.Add("RESTART"), (line, _, _) => lines.Add(line));

        Assert.Equal(["one", "two", "thrée"], lines);
    }

    [Theory]
    [InlineData("one\n")]
    [InlineData("one\nother\nmore and more\n")]
    public void A_file_that_was_cut_or_replaced_begins_anew(string after)
    {
        var lines = new List<string>();
        var follower = new LineFollower(_run.MetricsPath);
        File.WriteAllText(_run.MetricsPath, "one\ntwo\nthree\n");
        follower.Poll(() => lines.Clear(), (line, _, _) => lines.Add(line));
        File.WriteAllText(_run.MetricsPath, after);
        follower.Poll(() => lines.Clear(), (line, _, _) => lines.Add(line));

        Assert.Equal(after.Split('\n', StringSplitOptions.RemoveEmptyEntries), lines);
    }

    [Fact]
    public void A_line_is_read_again_from_its_place()
    {
        var found = new List<string?>();
        File.WriteAllText(_run.MetricsPath, "één\ntwee\ndrie\n");
        new LineFollower(_run.MetricsPath).Poll(
            () => { }, (_, offset, length) => found.Add(LineFollower.Read(_run.MetricsPath, offset, length)));

        Assert.Equal(["één", "twee", "drie"], found);
    }

    [Fact]
    public void Updates_done_again_replace_the_old_ones()
    {
        var table = new MetricTable();
        foreach (var (update, reward) in new[] { (1, 0.1), (2, 0.2), (3, 0.3), (2, 0.9) })
            Assert.NotNull(table.Add(RunFolderFixture.Metrics(update, reward, update == 3 ? ",\"late\":1" : "")));

        Assert.Equal([1L, 2L], table.Updates);
        Assert.Equal([0.1, 0.9], table["reward_mean"]!);
        Assert.Equal(2, table["late"]!.Count); // every column is as long as the table
        Assert.Equal(1, table.After(1));
    }

    [Theory]
    [InlineData("")]
    [InlineData("{\"update\":1,\"reward")]
    [InlineData("[1]")]
    [InlineData("{\"reward_mean\":1}")]
    [InlineData("{\"update\":null}")]
    public void What_is_no_line_of_metrics_is_passed_over(string line)
    {
        var table = new MetricTable();

        Assert.Null(table.Add(line));
        Assert.Equal(0, table.Count);
    }

    [Fact]
    public void Random_bytes_never_break_a_trajectory()
    {
        var random = new Random(7);
        var good = RunFolderFixture.Trajectory(1, "e");
        var model = new RunModel("r", RunSource.Folder);
        for (var i = 0; i < 2000; i++)
        {
            var broken = good.ToCharArray();
            for (var n = random.Next(1, 6); n > 0; n--) broken[random.Next(broken.Length)] = (char)random.Next(32, 127);
            model.AddTrajectory(new string(broken), () => null); // must not throw
        }

        Assert.NotNull(model.AddTrajectory(good, () => good));
    }

    [Fact]
    public void A_full_queue_drops_and_counts()
    {
        var queue = new TelemetryQueue();
        for (var i = 0; i < 5000; i++) queue.Log(new TelemetryEvent(EventLevel.Info, "note", "x"));
        var read = 0;
        while (queue.TryRead(out _)) read++;

        Assert.Equal(5000, read + queue.Dropped);
        Assert.True(queue.Dropped > 0);
    }

    [Fact]
    public void A_failing_retriever_and_a_broken_parity_are_advised()
    {
        var model = new RunModel("r", RunSource.Live);
        model.AddMetrics(
            RunFolderFixture.Metrics(1, 0.5, ",\"environment_failures\":100,\"episodes\":64,\"parity_max_abs\":0.5"), fresh: true);

        var codes = Advisor.Evaluate(model, DateTimeOffset.UtcNow).Select(a => (a.Code, a.Level)).ToArray();
        Assert.Contains(("environment_failing", EventLevel.Error), codes);
        Assert.Contains(("parity", EventLevel.Error), codes);
    }

    [Fact]
    public void A_learner_that_finishes_nothing_is_advised_by_its_own_pace()
    {
        var model = new RunModel("r", RunSource.Live);
        for (var i = 1; i <= 5; i++) model.AddMetrics(RunFolderFixture.Metrics(i, 0.5, ",\"seconds\":20"), fresh: true);
        var now = DateTimeOffset.UtcNow;
        model.Progress = new ProgressState("training", 0, "", now);

        Assert.DoesNotContain(Advisor.Evaluate(model, now.AddSeconds(119)), a => a.Code == "stalled");
        Assert.Contains(Advisor.Evaluate(model, now.AddSeconds(125)), a => a.Code == "stalled");
    }

    [Fact]
    public void A_batch_that_starves_is_advised_with_what_holds_it_back()
    {
        var model = new RunModel("r", RunSource.Live);
        for (var i = 1; i <= 25; i++) model.AddMetrics(RunFolderFixture.Metrics(i, 0.5, ",\"wait_seconds\":8,\"seconds\":10"), fresh: true);
        var live = new LiveSnapshot
        {
            WaitingSeconds = 39,
            Ledger = new LedgerState { Pending = 7, Leased = 1, Total = 8 },
            Workers = [new WorkerState("w", 1, 0, 1, 9, 0, 1, 1, 1, 0) { Budget = new TimeBudget(10, 90, 0) }],
            Admission = new AdmissionState(7, 0, 1, 1, 1, 0, 1, "free_places"),
        };
        model.Live = live;
        // Five usual waits are not past.
        Assert.Equal(["slow_environment"], Advisor.Evaluate(model, DateTimeOffset.UtcNow).Select(a => a.Code));

        model.Live = live with { WaitingSeconds = 41, StalenessBound = 1 };
        var advisories = Advisor.Evaluate(model, DateTimeOffset.UtcNow);
        var starving = Assert.Single(advisories, a => a.Code == "starving");
        Assert.Equal(
            "nothing for 41 s, where half of the batches take less than 8.0 s; 1 episodes are played, 7 wait; "
                + "the workers have no free place",
            starving.Evidence);
        var idle = Assert.Single(advisories, a => a.Code == "idle_learner");
        Assert.StartsWith("80% of the last 20 updates", idle.Evidence, StringComparison.Ordinal);
        model.Live = model.Live with { Paused = true };
        Assert.Equal(["paused"], Advisor.Evaluate(model, DateTimeOffset.UtcNow).Select(a => a.Code));
    }

    [Fact]
    public void A_folder_tells_whether_its_run_goes_on_was_killed_was_stopped_or_is_finished()
    {
        File.WriteAllText(Path.Combine(_run.Path, "config.yaml"), "name: test\nupdates: 2\n");
        _run.AppendMetrics(RunFolderFixture.Metrics(1, 0.5));
        var model = Look();
        Assert.Equal("stopped", model.Progress.Phase);
        Assert.Empty(Advisor.Evaluate(model, DateTimeOffset.UtcNow));

        var held = Path.Combine(_run.Path, ".lock");
        using (new FileStream(held, FileMode.Create, FileAccess.ReadWrite, FileShare.None))
            Assert.Equal("going on in another process", Look().Progress.Phase);
        model = Look();
        Assert.Equal("killed", model.Progress.Phase);
        var advisory = Assert.Single(Advisor.Evaluate(model, DateTimeOffset.UtcNow));
        Assert.Contains("it did 1 updates", advisory.Evidence, StringComparison.Ordinal);

        File.Delete(held);
        _run.AppendMetrics(RunFolderFixture.Metrics(2, 0.5));
        Assert.Equal("finished", Look().Progress.Phase);

        RunModel Look()
        {
            var model = new RunModel("r", RunSource.Folder);
            new FolderFeed(_run.Path).Poll(model, _ => { }, _ => { }, () => { }, _ => { });
            return model;
        }
    }

    [Theory]
    [InlineData("IOException: it broke", true)]
    [InlineData("RestartRequestedException: Somebody restarted it from the dashboard.", false)]
    public void An_actor_that_failed_is_advised_unless_it_was_asked_to(string failure, bool advised)
    {
        var model = new RunModel("r", RunSource.Live)
        {
            Live = new LiveSnapshot { Actors = [new ActorState("w/policy", "w", "policy", "restarted", "", 1, 2, 1, failure)] },
        };

        Assert.Equal(advised ? ["The policy of w has failed and was restarted 1 times."] : [],
            Advisor.Evaluate(model, DateTimeOffset.UtcNow).Select(a => a.Text));
    }

    [Fact]
    public void A_divergence_that_rises_is_advised_before_it_is_high()
    {
        var model = new RunModel("r", RunSource.Live);
        void Add(int from, int to, double kl)
        {
            for (var i = from; i <= to; i++)
            {
                model.AddMetrics(string.Create(
                    System.Globalization.CultureInfo.InvariantCulture, $"{{\"update\":{i},\"kl\":{kl}}}"), fresh: true);
            }
        }

        Add(1, 20, 0.01);
        Add(21, 25, 0.05);
        Assert.Equal(["kl_rising"], Advisor.Evaluate(model, DateTimeOffset.UtcNow).Select(a => a.Code));
        Add(26, 30, 0.2);
        Assert.Equal(["kl_high"], Advisor.Evaluate(model, DateTimeOffset.UtcNow).Select(a => a.Code));
    }

    [Fact]
    public void Events_are_found_by_actor_episode_kind_and_text()
    {
        var model = new RunModel("r", RunSource.Live);
        model.Log(new TelemetryEvent(EventLevel.Error, "actor", "broke") { Actor = "w/episode-1", Episode = "u1-0/t" });
        model.Log(new TelemetryEvent(EventLevel.Info, "note", "of w/episode-1"));
        int Found(string kind = "", string actor = "", string episode = "", string text = "") =>
            model.Events(-1, new EventFilter(kind, actor, episode, text), 100).Count;

        Assert.Equal((2, 1, 1, 2, 1, 0), (
            Found(), Found(actor: "W/episode-1"), Found(episode: "u1-0"), Found(text: "episode-1"), Found(kind: "note", text: "w/"),
            Found(kind: "note", actor: "w/")));
    }

    [Fact]
    public void A_healthy_run_is_left_alone()
    {
        var model = new RunModel("r", RunSource.Live);
        for (var i = 1; i <= 60; i++)
        {
            model.AddMetrics(RunFolderFixture.Metrics(
                i, 0.5 + (i / 200.0),
                ",\"entropy\":0.5,\"live_tensors\":40,\"parity_max_abs\":3e-6,\"clip_fraction\":0.1,\"environment_failures\":0"),
                fresh: true);
        }

        Assert.Empty(Advisor.Evaluate(model, DateTimeOffset.UtcNow));
    }
}
