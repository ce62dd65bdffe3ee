namespace Mem1.Dashboard.Tests;

public sealed class NodeActorsTests
{
    private readonly Clock _clock = new();

    [Fact]
    public void A_node_s_last_report_counts_and_its_ages_go_on()
    {
        var nodes = new NodeActors(_clock);
        nodes.Report("b", [Actor("b", ""), Actor("b/policy", "b")]);
        nodes.Report("a", [Actor("a", "")]);
        nodes.Report("b", [Actor("b", "")]);
        _clock.Now += TimeSpan.FromSeconds(3);

        Assert.Equal([("a", "running", 4.0), ("b", "running", 4.0)], nodes.Snapshot().Select(s => (s.Path, s.State, s.StateSeconds)));
        nodes.Forget("a");
        Assert.Equal(["b"], nodes.Snapshot().Select(s => s.Path));
    }

    [Fact]
    public void A_silent_node_is_unreachable_and_leaves_in_the_end()
    {
        var nodes = new NodeActors(_clock);
        nodes.Report("a", [Actor("a", "")]);
        _clock.Now += TimeSpan.FromSeconds(16);
        Assert.Equal([(NodeActors.Unreachable, 16.0)], nodes.Snapshot().Select(s => (s.State, s.StateSeconds)));
        _clock.Now += TimeSpan.FromMinutes(11);
        Assert.Empty(nodes.Snapshot());
    }

    [Fact]
    public void A_node_whose_stream_broke_is_unreachable_until_it_reports_again_and_so_are_its_episodes()
    {
        var nodes = new NodeActors(_clock);
        EpisodeState[] episodes = [new("e", "a", 1, 0, "generating", 1, [new EpisodeSpan("generating", 0, 1, 1, null)])];
        nodes.Report("a", [Actor("a", ""), Actor("a/episode-0", "a")], episodes);
        _clock.Now += TimeSpan.FromSeconds(2);
        var played = Assert.Single(nodes.Episodes());
        Assert.Equal((3.0, 3.0), (played.AgeSeconds, played.Spans[0].AgoSeconds));

        nodes.Lost("a");
        nodes.Lost("nobody");
        _clock.Now += TimeSpan.FromSeconds(1);
        nodes.Lost("a"); // said again with every look
        Assert.Equal(
            [(NodeActors.Unreachable, 1.0), (NodeActors.Unreachable, 1.0)], nodes.Snapshot().Select(s => (s.State, s.StateSeconds)));
        Assert.Empty(nodes.Episodes());
        nodes.Report("a", [Actor("a", "")], episodes);
        Assert.Equal(["running"], nodes.Snapshot().Select(s => s.State));
        Assert.Single(nodes.Episodes());
    }

    [Fact]
    public void What_is_not_the_node_s_own_or_too_much_is_dropped_and_counted()
    {
        var nodes = new NodeActors(_clock);
        nodes.Report("a", [Actor("a", ""), Actor("ab", ""), Actor("b/x", "b")]);
        Assert.Equal(2, nodes.Dropped);
        nodes.Report("many", [.. Enumerable.Range(0, 60_000).Select(i => Actor($"many/{i}", "many"))]);
        Assert.Equal(50_000, nodes.Snapshot().Count);
        Assert.Equal(2 + 10_001, nodes.Dropped);
    }

    private static ActorState Actor(string path, string parent) => new(path, parent, "supervisor", "running", "", 1, 2, 0, null);

    private sealed class Clock : TimeProvider
    {
        public TimeSpan Now { get; set; }

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public override long GetTimestamp() => Now.Ticks;
    }
}
