// Keeps: of every node only what it said last; bounded in nodes and actors, whatever is reported; a node that has said nothing for a while,
// or whose stream has broken, is shown as unreachable, and leaves when it stays away.
namespace Mem1.Dashboard;

/// <summary>Actors of other nodes, as each node reported them last. Thread-safe.</summary>
/// <param name="time">Clock; the system's if null.</param>
public sealed class NodeActors(TimeProvider? time = null)
{
    /// <summary>State of every actor of a node that cannot be reached, or does not report any more.</summary>
    public const string Unreachable = "unreachable";

    // A page draws what is in sight of them; more than this is no cluster that one dashboard is for.
    private const int MaxNodes = 1024, MaxActors = 50_000;

    // Nodes report every few seconds, like heartbeats.
    private static readonly TimeSpan s_silence = TimeSpan.FromSeconds(15);

    // Long enough for a person to see what is missing.
    private static readonly TimeSpan s_gone = TimeSpan.FromMinutes(10);

    private readonly TimeProvider _time = time ?? TimeProvider.System;
    private readonly Lock _lock = new();
    private readonly Dictionary<string, Node> _nodes = new(StringComparer.Ordinal);
    private long _dropped;

    /// <summary>Actors that were reported and not taken: of another node than their report, or too many.</summary>
    public long Dropped => Volatile.Read(ref _dropped);

    /// <summary>Takes what a node says of its actors; it replaces what the node said before.</summary>
    /// <param name="node">Name of the node.</param>
    /// <param name="actors">
    /// All its actors, parents before their children. The root's <see cref="ActorState.Path"/> is the node's name, every other one begins
    /// with it and a slash.
    /// </param>
    /// <param name="episodes">What its episodes did when.</param>
    public void Report(string node, IReadOnlyList<ActorState> actors, IReadOnlyList<EpisodeState>? episodes = null)
    {
        var own = actors.Where(a => a.Path == node || a.Path.StartsWith(node + "/", StringComparison.Ordinal)).Take(MaxActors).ToList();
        lock (_lock)
        {
            _nodes.Remove(node, out _);
            var room = MaxActors - _nodes.Values.Sum(n => n.Actors.Count);
            if (_nodes.Count == MaxNodes) room = 0;
            if (own.Count > room) own.RemoveRange(room, own.Count - room);
            Interlocked.Add(ref _dropped, actors.Count - own.Count);
            if (own.Count > 0) _nodes[node] = new Node(own, [.. (episodes ?? []).Take(own.Count)], _time.GetTimestamp());
        }
    }

    /// <summary>The stream of a node broke: it is unreachable until it reports again.</summary>
    public void Lost(string node)
    {
        lock (_lock)
        {
            if (_nodes.TryGetValue(node, out var lost)) lost.LostAt ??= _time.GetTimestamp();
        }
    }

    /// <summary>A node has left for good.</summary>
    public void Forget(string node)
    {
        lock (_lock) _nodes.Remove(node);
    }

    /// <summary>All actors of all nodes, ages as of now.</summary>
    public IReadOnlyList<ActorState> Snapshot()
    {
        lock (_lock)
        {
            foreach (var gone in _nodes.Where(n => _time.GetElapsedTime(n.Value.At) > s_gone).Select(n => n.Key).ToList())
                _nodes.Remove(gone);
            return [.. InOrder().SelectMany(Aged)];
        }
    }

    /// <summary>What the episodes of all nodes did when, as of now; of nodes that can be reached.</summary>
    public IReadOnlyList<EpisodeState> Episodes()
    {
        lock (_lock)
        {
            return
            [
                .. InOrder().Where(n => !IsAway(n)).SelectMany(n =>
                {
                    var since = _time.GetElapsedTime(n.At).TotalSeconds;
                    return n.Episodes.Select(e => e with
                    {
                        AgeSeconds = Math.Round(e.AgeSeconds + since, 1),
                        Spans = [.. e.Spans.Select(s => s with { AgoSeconds = s.AgoSeconds + since })],
                    });
                }),
            ];
        }
    }

    private IEnumerable<Node> InOrder() => _nodes.OrderBy(n => n.Key, StringComparer.Ordinal).Select(n => n.Value);

    private bool IsAway(Node node) => node.LostAt is not null || _time.GetElapsedTime(node.At) > s_silence;

    private IEnumerable<ActorState> Aged(Node node)
    {
        var since = Math.Round(_time.GetElapsedTime(node.At).TotalSeconds, 1);
        if (!IsAway(node))
            return node.Actors.Select(a => a with { StateSeconds = a.StateSeconds + since, AgeSeconds = a.AgeSeconds + since });
        var away = node.LostAt is { } lost ? Math.Round(_time.GetElapsedTime(lost).TotalSeconds, 1) : since;
        return node.Actors.Select(a => a with { State = Unreachable, StateSeconds = away, AgeSeconds = a.AgeSeconds + since });
    }

    private sealed record Node(IReadOnlyList<ActorState> Actors, IReadOnlyList<EpisodeState> Episodes, long At)
    {
        /// <summary>When its stream was seen to be broken.</summary>
        public long? LostAt { get; set; }
    }
}
