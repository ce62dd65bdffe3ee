// Keeps: of every node only what it said last; bounded in nodes and actors, whatever is reported; a node that has said nothing for a while
// is shown as unreachable, and leaves when it stays away.
namespace Mem1.Dashboard;

/// <summary>Actors of other nodes, as each node reported them last. Thread-safe.</summary>
/// <param name="time">Clock; the system's if null.</param>
public sealed class NodeActors(TimeProvider? time = null)
{
    /// <summary>State of every actor of a node that does not report any more.</summary>
    public const string Unreachable = "unreachable";

    // A page draws what is in sight of them; more than this is no cluster that one dashboard is for.
    private const int MaxNodes = 1024, MaxActors = 50_000;

    // Nodes report every few seconds, like heartbeats.
    private static readonly TimeSpan s_silence = TimeSpan.FromSeconds(15);

    // Long enough for a person to see what is missing.
    private static readonly TimeSpan s_gone = TimeSpan.FromMinutes(10);

    private readonly TimeProvider _time = time ?? TimeProvider.System;
    private readonly Lock _lock = new();
    private readonly Dictionary<string, (IReadOnlyList<ActorState> Actors, long At)> _nodes = new(StringComparer.Ordinal);
    private long _dropped;

    /// <summary>Actors that were reported and not taken: of another node than their report, or too many.</summary>
    public long Dropped => Volatile.Read(ref _dropped);

    /// <summary>Takes what a node says of its actors; it replaces what the node said before.</summary>
    /// <param name="node">Name of the node.</param>
    /// <param name="actors">
    /// All its actors, parents before their children. The root's <see cref="ActorState.Path"/> is the node's name, every other one begins
    /// with it and a slash.
    /// </param>
    public void Report(string node, IReadOnlyList<ActorState> actors)
    {
        var own = actors.Where(a => a.Path == node || a.Path.StartsWith(node + "/", StringComparison.Ordinal)).Take(MaxActors).ToList();
        lock (_lock)
        {
            _nodes.Remove(node, out _);
            var room = MaxActors - _nodes.Values.Sum(n => n.Actors.Count);
            if (_nodes.Count == MaxNodes) room = 0;
            if (own.Count > room) own.RemoveRange(room, own.Count - room);
            Interlocked.Add(ref _dropped, actors.Count - own.Count);
            if (own.Count > 0) _nodes[node] = (own, _time.GetTimestamp());
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
            foreach (var node in _nodes.Where(n => _time.GetElapsedTime(n.Value.At) > s_gone).Select(n => n.Key).ToList()) _nodes.Remove(node);
            return [.. _nodes.OrderBy(n => n.Key, StringComparer.Ordinal).SelectMany(n => Aged(n.Value.Actors, _time.GetElapsedTime(n.Value.At)))];
        }
    }

    private static IEnumerable<ActorState> Aged(IReadOnlyList<ActorState> actors, TimeSpan since)
    {
        var seconds = Math.Round(since.TotalSeconds, 1);
        return since > s_silence
            ? actors.Select(a => a with { State = Unreachable, StateSeconds = seconds, AgeSeconds = a.AgeSeconds + seconds })
            : actors.Select(a => a with { StateSeconds = a.StateSeconds + seconds, AgeSeconds = a.AgeSeconds + seconds });
    }
}
