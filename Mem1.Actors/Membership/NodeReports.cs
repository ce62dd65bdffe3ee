// Invariants:
//  * A report is bounded in size whatever a worker plays; one that is lost or refused is replaced by the next, and nothing waits for it.
//  * What is kept is of members only, one report each.
using System.Collections.Concurrent;
using System.Diagnostics;
using Akka.Actor;
using Akka.Cluster;
using Mem1.Protocol.V1;

namespace Mem1.Actors;

/// <summary>Who the nodes of a cluster last said they are. Thread-safe.</summary>
/// <param name="reported">Told what a node said of its worker's actors.</param>
internal sealed class NodeReports(Action<string, IReadOnlyList<ActorStatus>> reported)
{
    // A page draws no more of a node, and 128 characters and a dozen stretches of 20 bytes each keep a report far below the largest message
    // between nodes.
    public const int MaxActors = 256, MaxSpans = 12;

    private const int MaxName = 256, MaxFailure = 1000;

    private static readonly Dictionary<string, SpanKind> s_kinds = new(StringComparer.Ordinal)
    {
        ["generating"] = SpanKind.Generating,
        ["environment"] = SpanKind.Environment,
        ["waiting"] = SpanKind.Waiting,
    };

    private static readonly Dictionary<SpanKind, string> s_names = s_kinds.ToDictionary(k => k.Value, k => k.Key);

    private readonly ConcurrentDictionary<NodeId, (string WorkerId, long At)> _last = [];

    public void Take(NodeReport report, Func<NodeId, bool> isMember)
    {
        if (report.Node is not { } node || report.Actors.Count > MaxActors || report.WorkerId.Length > MaxName) return;
        var id = new NodeId(node.Host, node.Port, node.Incarnation);
        if (!isMember(id)) return;
        reported(report.WorkerId, [.. report.Actors.Select(Status)]);
        _last[id] = (report.WorkerId, Stopwatch.GetTimestamp());
    }

    /// <summary>The worker on a node; null if it never said.</summary>
    public string? WorkerOn(NodeId node) => _last.TryGetValue(node, out var last) ? last.WorkerId : null;

    public void Forget(NodeId node) => _last.TryRemove(node, out _);

    public void Clear() => _last.Clear();

    /// <summary>A member with what it last said.</summary>
    public ClusterMember With(ClusterMember member) => _last.TryGetValue(member.Id, out var last)
        ? member with { WorkerId = last.WorkerId, ReportAge = Stopwatch.GetElapsedTime(last.At) }
        : member;

    /// <summary>
    /// The supervisor, its fixed children, then the episodes: those that failed, those that run, the others; the youngest first.
    /// </summary>
    public static NodeReport Of(NodeId node, string workerId, IEnumerable<ActorStatus> actors)
    {
        var report = new NodeReport
        {
            Node = new ClusterSeed { Host = node.Host, Port = node.Port, Incarnation = node.Incarnation },
            WorkerId = Clip(workerId, MaxName),
        };
        report.Actors.AddRange(actors
            .OrderBy(Rank).ThenBy(a => a.Age).Take(MaxActors).Select(Report));
        return report;
    }

    private static int Rank(ActorStatus actor) => actor.Name.Length == 0 ? 0 : actor.Kind != "episode" ? 1 : actor.State switch
    {
        "failed" => 2,
        "finished" or "returned" => 4,
        _ => 3,
    };

    private static ActorReport Report(ActorStatus actor)
    {
        var report = new ActorReport
        {
            Name = Clip(actor.Name, MaxName),
            Kind = actor.Kind,
            State = actor.State,
            EpisodeId = Clip(actor.EpisodeId, MaxName),
            Attempt = actor.Attempt,
            Turn = actor.Turn,
            AgeSeconds = actor.Age.TotalSeconds,
            StateSeconds = actor.InState.TotalSeconds,
            Restarts = actor.Restarts,
        };
        if (actor.LastFailure is { } failure) report.LastFailure = Clip(failure, MaxFailure);
        if (actor.Mailbox is { } depth) report.Mailbox = depth;
        if (actor.Oldest is { } oldest) report.OldestSeconds = oldest.TotalSeconds;
        if (actor.MessagesPerSecond is { } rate) report.MessagesPerSecond = rate;
        foreach (var span in actor.Spans.TakeLast(MaxSpans))
        {
            var stretch = new SpanReport
            {
                Kind = s_kinds.GetValueOrDefault(span.Kind),
                Turn = span.Turn,
                AgoSeconds = (float)span.Ago.TotalSeconds,
                Seconds = (float)span.Length.TotalSeconds,
            };
            if (span.PolicyVersion is { } version) stretch.PolicyVersion = version;
            report.Spans.Add(stretch);
        }

        return report;
    }

    private static ActorStatus Status(ActorReport a) => new(
        a.Name, a.Kind, a.State, Seconds(a.AgeSeconds), Seconds(a.StateSeconds), a.Restarts, a.HasLastFailure ? a.LastFailure : null)
    {
        EpisodeId = a.EpisodeId,
        Attempt = a.Attempt,
        Turn = a.Turn,
        Mailbox = a.HasMailbox ? Math.Max(0, a.Mailbox) : null,
        Oldest = a.HasOldestSeconds ? Seconds(a.OldestSeconds) : null,
        MessagesPerSecond = a.HasMessagesPerSecond && double.IsFinite(a.MessagesPerSecond) ? Math.Max(0, a.MessagesPerSecond) : null,
        Spans =
        [
            .. a.Spans.Take(MaxSpans).Where(s => s_names.ContainsKey(s.Kind)).Select(s => new ActorSpan(
                s_names[s.Kind], Math.Max(0, s.Turn), Seconds(s.AgoSeconds), Seconds(s.Seconds),
                s.HasPolicyVersion ? s.PolicyVersion : null)),
        ],
    };

    // What another process says may be any number; a year is longer than any actor lives.
    private static TimeSpan Seconds(double seconds) =>
        TimeSpan.FromSeconds(double.IsNaN(seconds) ? 0 : Math.Clamp(seconds, 0, 365 * 86_400.0));

    // Never between the halves of a surrogate pair, which no message can carry alone.
    private static string Clip(string text, int most) =>
        text.Length <= most ? text : text[..(char.IsHighSurrogate(text[most - 1]) ? most - 1 : most)];
}

/// <summary>The founder's end: takes reports.</summary>
internal sealed class ReportReceiver : ReceiveActor
{
    /// <summary>Its name under the user guardian.</summary>
    public const string ActorName = "reports";

    public ReportReceiver(Cluster cluster, NodeReports reports) =>
        Receive<NodeReport>(report => reports.Take(
            report, id => cluster.State.Members.Any(m => MembershipActor.IdOf(m.UniqueAddress) == id)));
}

/// <summary>A worker's end: sends reports while the node is a member.</summary>
internal sealed class ReportSender : ReceiveActor, IWithTimers
{
    // So many nodes may report in each interval; with more each reports less often, and what the founder takes in stays bounded.
    private const int NodesPerInterval = 50;

    // What made a report urgent often comes many times over.
    private static readonly TimeSpan UrgentApart = TimeSpan.FromMilliseconds(500);

    /// <summary>To this actor: report soon.</summary>
    public static readonly object Urgent = new();

    private static readonly object Tick = new();

    private readonly Cluster _cluster;
    private readonly TimeSpan _interval;
    private bool _hurries;

    public ReportSender(
        Cluster cluster, string receiver, TimeSpan interval, Func<(string WorkerId, IReadOnlyList<ActorStatus> Actors)?> source)
    {
        _cluster = cluster;
        _interval = interval;
        var to = Context.ActorSelection(receiver);
        var last = 0L;
        Receive<object>(
            _ =>
            {
                last = Stopwatch.GetTimestamp();
                if (cluster.IsUp && source() is { } own)
                    to.Tell(NodeReports.Of(MembershipActor.IdOf(cluster.SelfUniqueAddress), own.WorkerId, own.Actors), Self);
                Next();
            },
            message => ReferenceEquals(message, Tick));
        // Takes the place of the report that was to come next.
        Receive<object>(
            _ =>
            {
                if (_hurries) return;
                _hurries = true;
                var wait = UrgentApart - Stopwatch.GetElapsedTime(last);
                Timers.StartSingleTimer(Tick, Tick, wait > TimeSpan.Zero ? wait : TimeSpan.FromMilliseconds(1));
            },
            message => ReferenceEquals(message, Urgent));
    }

    public ITimerScheduler Timers { get; set; } = null!;

    protected override void PreStart() => Next();

    private void Next()
    {
        _hurries = false;
        Timers.StartSingleTimer(Tick, Tick, _interval * Math.Max(1, (double)_cluster.State.Members.Count / NodesPerInterval));
    }
}
