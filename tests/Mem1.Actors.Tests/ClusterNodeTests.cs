// Nodes of a cluster in one process, over loopback. What befalls whole processes is in Mem1.Cli.Tests/MembershipTests.cs.
using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using Mem1.Protocol.V1;
using Microsoft.Extensions.Logging;

namespace Mem1.Actors.Tests;

public sealed class ClusterNodeTests
{
    // Long enough for a busy machine; no test waits for it unless it fails.
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(40);

    private static ClusterNodeOptions Learner(int port = 0) => new()
    {
        Roles = [NodeRoles.Learner],
        Founds = true,
        Host = "127.0.0.1",
        Port = port,
        GossipInterval = TimeSpan.FromMilliseconds(100),
    };

    private static readonly ClusterNodeOptions s_worker = new()
    {
        Roles = [NodeRoles.Rollout],
        GossipInterval = TimeSpan.FromMilliseconds(100),
        ReportInterval = TimeSpan.FromMilliseconds(100),
    };

    [Fact]
    public async Task NodesSeeOneAnotherAndWhatTheirWorkersDoAndThatTheyLeave()
    {
        await using var learner = ClusterNode.Start(Learner());
        var reported = new ConcurrentDictionary<string, IReadOnlyList<ActorStatus>>();
        learner.Reported += (worker, actors) => reported[worker] = actors;
        var told = new ConcurrentQueue<MembershipEvent>();
        learner.Changed += told.Enqueue;
        Assert.NotEqual(0, learner.Self!.Port);

        await using var worker = ClusterNode.Start(s_worker);
        Assert.Null(worker.Self); // nobody has told it of a cluster yet
        var board = new ActorBoard();
        board.Started("episode-1", "episode", "e1", 2);
        board.Started("", "supervisor");
        board.Enter("episode-1", "generating", 3);
        worker.Report("one", board.Snapshot);
        worker.Follow(learner.Seed!);
        await Until(() => learner.Members.Any(m => m is { WorkerId: "one", State: NodeState.Up, Reachable: true, ReportAge: not null }), "it is seen");
        await Until(() => worker.IsUp && worker.Members.Count == 2, "it sees");
        Assert.Equal([NodeRoles.Learner], learner.Members.Single(m => m.IsSelf).Roles);
        Assert.Equal(worker.Self, learner.Members.Single(m => !m.IsSelf).Id);

        // The parent before its children, whatever their age.
        Assert.Equal(["supervisor", "episode"], reported["one"].Select(a => a.Kind));
        var episode = reported["one"][1];
        Assert.Equal(("e1", 2, 3, "generating"), (episode.EpisodeId, episode.Attempt, episode.Turn, episode.State));

        var id = worker.Self;
        await worker.DisposeAsync();
        await Until(() => learner.Members.Count == 1, "it is gone");
        var changes = told.Where(e => e.Node == id).Select(e => e.Change).ToList();
        Assert.Equal([NodeChange.Joined, NodeChange.Up, NodeChange.Leaving, NodeChange.Exiting, NodeChange.Left], changes);
        Assert.Equal(changes, learner.Events.Where(e => e.Node == id).Select(e => e.Change));
        Assert.Contains("rollout node one at 127.0.0.1", told.Last(e => e.Node == id).ToString());
    }

    [Fact]
    public async Task AWorkerFollowsALearnerThatIsStartedAgainUnderTheSameAddress()
    {
        await using var worker = ClusterNode.Start(s_worker);
        int port;
        NodeId first;
        await using (var learner = ClusterNode.Start(Learner()))
        {
            port = learner.Self!.Port;
            worker.Follow(learner.Seed!);
            worker.Follow(learner.Seed!); // said again on every new stream
            await Until(() => worker.IsUp, "it is in");
            first = worker.Self!;
        }

        await using var again = ClusterNode.Start(Learner(port));
        await Until(() => again.Self is not null, "the port is free again");
        worker.Follow(again.Seed!);
        await Until(() => again.Members.Any(m => m.Id == worker.Self && m.State == NodeState.Up), "it is in again");
        Assert.Equal(first.Port, worker.Self!.Port);
        Assert.NotEqual(first.Incarnation, worker.Self.Incarnation);
    }

    [Fact]
    public async Task AWorkerThatComesBackUnderTheSameAddressIsAnotherIncarnation()
    {
        await using var learner = ClusterNode.Start(Learner());
        NodeId first;
        await using (var worker = ClusterNode.Start(s_worker))
        {
            worker.Follow(learner.Seed!);
            await Until(() => worker.IsUp, "it is in");
            first = worker.Self!;
        }

        await using var again = ClusterNode.Start(s_worker with { Port = first.Port });
        again.Follow(learner.Seed!);
        await Until(() => learner.Members.Any(m => m.Id == again.Self && m.State == NodeState.Up), "its successor is in");
        Assert.Equal((first.Host, first.Port), (again.Self!.Host, again.Self.Port));
        Assert.NotEqual(first, again.Self);
        Assert.Equal(2, learner.Members.Count);
    }

    [Fact]
    public async Task APortThatSomebodyElseHasIsWaitedFor()
    {
        using var other = new TcpListener(IPAddress.Loopback, 0);
        other.Start();
        using var log = new Log();
        using var loggers = LoggerFactory.Create(logging => logging.AddProvider(log));
        await using var learner = ClusterNode.Start(Learner(((IPEndPoint)other.LocalEndpoint).Port), loggers);
        Assert.Null(learner.Seed);
        Assert.Empty(learner.Members);
        Assert.Contains(log.Lines, l => l.Contains("could not be opened", StringComparison.Ordinal));
        other.Stop();
        await Until(() => learner.IsUp, "the port is free");
    }

    [Fact]
    public async Task ASeedThatMakesNoSenseIsNotFollowed()
    {
        await using var worker = ClusterNode.Start(s_worker);
        worker.Follow(new ClusterSeed { Host = "\"\n akka.loglevel = DEBUG", Port = 1, Incarnation = 1 });
        worker.Follow(new ClusterSeed { Host = "127.0.0.1", Port = 70_000, Incarnation = 1 });
        await Task.Delay(200, TestContext.Current.CancellationToken);
        Assert.Null(worker.Self);
    }

    [Fact]
    public async Task ANodeThatFindsNobodyEndsAtOnceWhenItIsToldTo()
    {
        await using var worker = ClusterNode.Start(s_worker);
        using var nobody = new TcpListener(IPAddress.Loopback, 0); // bound, not listening: refuses
        worker.Follow(new ClusterSeed { Host = "127.0.0.1", Port = 9, Incarnation = 1 });
        await Until(() => worker.Self is not null, "it tries");
        Assert.Empty(worker.Members);
        await worker.DisposeAsync().AsTask().WaitAsync(s_patience, TestContext.Current.CancellationToken);
    }

    [Fact]
    public void EveryContradictionIsNamed()
    {
        var problems = new ClusterNodeOptions
        {
            Roles = ["Learner"],
            Host = "a b",
            BindAddress = "::1",
            Port = -1,
            PublicPort = 0,
            HeartbeatPause = TimeSpan.Zero,
            DownAfter = TimeSpan.FromDays(2),
        }.Validate();
        foreach (var name in (string[])["Roles", "Host", "BindAddress", "Port", "PublicPort", "HeartbeatPause", "DownAfter"])
            Assert.Single(problems, p => p.StartsWith(name + " ", StringComparison.Ordinal));
        Assert.Equal(7, problems.Count);
        Assert.Throws<ArgumentException>(() => ClusterNode.Start(s_worker with { Port = 70_000 }));
    }

    [Fact]
    public void AReportCarriesWhatIsKnownOfMailboxes()
    {
        IReadOnlyList<ActorStatus> heard = [];
        var node = new NodeId("127.0.0.1", 5, 6);
        var known = new ActorStatus("policy", "policy", "running", TimeSpan.FromSeconds(3), TimeSpan.FromSeconds(2), 1, null)
        {
            Mailbox = 7,
            Oldest = TimeSpan.FromSeconds(0.5),
            MessagesPerSecond = 480.5,
        };
        var unknown = known with { Name = "uplink", Mailbox = null, Oldest = null, MessagesPerSecond = null };
        new NodeReports((_, actors) => heard = actors).Take(NodeReports.Of(node, "one", [known, unknown]), id => id == node);

        Assert.Equal(
            [(7, 0.5, 480.5), (null, null, null)],
            heard.OrderBy(a => a.Name, StringComparer.Ordinal).Select(a => (a.Mailbox, a.Oldest?.TotalSeconds, a.MessagesPerSecond)));
    }

    [Fact]
    public void AReportIsBoundedAndAnswersForItsOwnNodeOnly()
    {
        var heard = new List<(string Worker, int Actors)>();
        var reports = new NodeReports((worker, actors) => heard.Add((worker, actors.Count)));
        var board = new ActorBoard();
        board.Started("", "supervisor");
        for (var i = 0; i < 1000; i++) board.Started($"episode-{i}", "episode", new string('x', 10_000), 1);
        board.Failed("episode-7", new InvalidOperationException(new string('y', 999) + "\U0001F600" + new string('z', 100_000)), restarts: false);
        var node = new NodeId("127.0.0.1", 5, 6);
        var report = NodeReports.Of(node, "one", board.Snapshot());
        Assert.Equal(NodeReports.MaxActors, report.Actors.Count);
        Assert.Equal("supervisor", report.Actors[0].Kind);
        Assert.InRange(report.CalculateSize(), 1, 512 * 1024);
        Assert.Equal(report, NodeReport.Parser.ParseFrom(Google.Protobuf.MessageExtensions.ToByteArray(report)));

        reports.Take(report, id => id == node);
        reports.Take(NodeReports.Of(node with { Incarnation = 7 }, "two", board.Snapshot()), id => id == node); // of one that is gone
        reports.Take(new NodeReport { WorkerId = "three" }, _ => true);
        for (var i = 0; i < 10; i++) report.Actors.Add(new ActorReport());
        reports.Take(report, _ => true);
        Assert.Equal([("one", NodeReports.MaxActors)], heard);
        Assert.Equal("one", reports.WorkerOn(node));
        reports.Forget(node);
        Assert.Null(reports.WorkerOn(node));

        var odd = NodeReports.Of(node, "odd", []);
        odd.Actors.Add(new ActorReport { AgeSeconds = double.NaN, StateSeconds = double.PositiveInfinity });
        reports.Take(odd, _ => true);
        Assert.Equal(("odd", 1), heard[^1]);
    }

    private sealed class Log : ILoggerProvider, ILogger
    {
        public ConcurrentQueue<string> Lines { get; } = new();

        public ILogger CreateLogger(string categoryName) => this;

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        void ILogger.Log<TState>(
            LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
            Lines.Enqueue(formatter(state, exception));

        public void Dispose()
        {
        }
    }

    private static async Task Until(Func<bool> condition, string what)
    {
        var end = DateTime.UtcNow + s_patience;
        while (!condition())
        {
            Assert.True(DateTime.UtcNow < end, "in vain: " + what);
            await Task.Delay(20, TestContext.Current.CancellationToken);
        }
    }
}
