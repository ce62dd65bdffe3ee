// Invariants:
//  * Turns leave in the order they came in and stay until acknowledged; at most the bound of them are held.
//  * A turn beyond the bound waits with its episode, which does not go on before the turn is admitted: no more than the bound plus one turn
//    per running episode is ever in memory.
//  * A returned lease is kept until an acknowledgement proves that the learner read past it (the stream is ordered), and its turns are
//    dropped: nobody can use them any more. Only where the worker leaves do they stay: the next worker goes on from them.
//  * It outlives a crash of the uplink. One thread at a time.
using Akka.Actor;
using Mem1.Protocol.V1;

namespace Mem1.Actors;

/// <summary>What has been said to the learner and is not known to have arrived.</summary>
internal sealed class Outbox(int bound)
{
    private readonly LinkedList<WorkerMessage> _sent = new();
    private readonly Dictionary<TurnKey, LinkedListNode<WorkerMessage>> _turns = [];
    private readonly LinkedList<(SubTrajectory Turn, IActorRef Episode)> _waiting = new();

    /// <summary>Turns held and not acknowledged.</summary>
    public int Unacknowledged => _turns.Count;

    /// <summary>Turns that wait for room, one per paused episode at most.</summary>
    public int Waiting => _waiting.Count;

    /// <summary>Whether the bound is reached.</summary>
    public bool IsFull => _turns.Count >= bound;

    /// <summary>Everything to say again on a new stream, in order.</summary>
    public IEnumerable<WorkerMessage> Unsettled => _sent;

    /// <summary>Leases with turns that are not acknowledged.</summary>
    public IEnumerable<LeaseKey> Leases =>
        _turns.Keys.Concat(_waiting.Select(w => TurnKey.Of(w.Turn))).Select(turn => new LeaseKey(turn.EpisodeId, turn.Attempt)).Distinct();

    /// <summary>Takes a turn.</summary>
    /// <returns>The message to send now; null if the turn waits for room, or is held already.</returns>
    public WorkerMessage? Add(SubTrajectory turn, IActorRef episode)
    {
        if (_turns.ContainsKey(TurnKey.Of(turn)) || _waiting.Any(w => TurnKey.Of(w.Turn) == TurnKey.Of(turn)))
            return null;
        if (!IsFull)
            return Hold(turn);
        _waiting.AddLast((turn, episode));
        return null;
    }

    /// <summary>Whether a turn is held, as opposed to waiting or unknown.</summary>
    public bool Holds(TurnKey key) => _turns.ContainsKey(key);

    /// <summary>Forgets an acknowledged turn, and the returned leases said before it. Unknown turns are ignored.</summary>
    public void Acknowledge(TurnKey key)
    {
        if (!_turns.Remove(key, out var node))
            return;
        for (var before = node.Previous; before is not null;)
        {
            var previous = before.Previous;
            if (before.Value.BodyCase == WorkerMessage.BodyOneofCase.LeaseReturned)
                _sent.Remove(before);
            before = previous;
        }
        _sent.Remove(node);
    }

    /// <summary>Moves one waiting turn in, if there is room.</summary>
    /// <returns>The message to send and the episode that may go on; null when none waits or there is no room.</returns>
    public (WorkerMessage Message, IActorRef Episode)? Admit()
    {
        if (IsFull || _waiting.First is not { } first)
            return null;
        _waiting.RemoveFirst();
        return (Hold(first.Value.Turn), first.Value.Episode);
    }

    /// <summary>Drops the turns of a lease, unless only the worker leaves, and notes that it is handed back.</summary>
    /// <returns>The message to send.</returns>
    public WorkerMessage Return(LeaseKey lease, string reason, bool leaving = false)
    {
        foreach (var (key, node) in _turns.Where(t => !leaving && Belongs(t.Key, lease)).ToList())
        {
            _turns.Remove(key);
            _sent.Remove(node);
        }
        for (var node = _waiting.First; node is not null;)
        {
            var next = node.Next;
            if (Belongs(TurnKey.Of(node.Value.Turn), lease))
                _waiting.Remove(node);
            node = next;
        }
        var message = new WorkerMessage
        {
            LeaseReturned = new LeaseReturned { EpisodeId = lease.EpisodeId, Attempt = lease.Attempt, Reason = reason, Leaving = leaving },
        };
        _sent.AddLast(message);
        return message;
    }

    private WorkerMessage Hold(SubTrajectory turn)
    {
        var message = new WorkerMessage { SubTrajectory = turn };
        _turns.Add(TurnKey.Of(turn), _sent.AddLast(message));
        return message;
    }

    private static bool Belongs(TurnKey turn, LeaseKey lease) => turn.EpisodeId == lease.EpisodeId && turn.Attempt == lease.Attempt;
}
