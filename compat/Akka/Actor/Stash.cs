// Messages put aside. They keep their senders, come back in front of the mailbox in their old order, survive a restart and become dead
// letters on stop.
using Akka.Event;

namespace Akka.Actor;

public interface IActorStash
{
    IStash Stash { get; set; }
}

public interface IWithUnrestrictedStash : IActorStash;

public interface IWithStash : IWithUnrestrictedStash;

public interface IWithUnboundedStash : IWithUnrestrictedStash;

public interface IStash
{
    int Count { get; }

    bool IsEmpty { get; }

    bool NonEmpty { get; }

    bool IsFull { get; }

    /// <summary>Most messages held; negative when there is no limit.</summary>
    int Capacity { get; }

    void Stash();

    void Unstash();

    void UnstashAll();

    void UnstashAll(Func<Envelope, bool> predicate);

    IEnumerable<Envelope> ClearStash();

    void Prepend(IEnumerable<Envelope> envelopes);
}

internal sealed class Stash(ActorCell cell) : IStash
{
    private readonly LinkedList<Envelope> _held = new();
    private long _lastStashed;

    public int Count => _held.Count;

    public bool IsEmpty => _held.Count == 0;

    public bool NonEmpty => _held.Count > 0;

    public bool IsFull => Capacity >= 0 && _held.Count >= Capacity;

    public int Capacity => cell.StashCapacity;

    void IStash.Stash()
    {
        var current = cell.CurrentEnvelope;
        if (current.Message is null)
        {
            throw new IllegalActorStateException("There is no message to stash: nothing is being handled.");
        }

        if (_lastStashed == cell.CurrentEnvelopeId)
        {
            throw new IllegalActorStateException($"Can't stash the same message {current.Message} more than once");
        }

        if (IsFull)
        {
            throw new StashOverflowException(
                $"Couldn't enqueue message {current.Message} to stash of {cell.Self}: it holds {Capacity} already");
        }

        _lastStashed = cell.CurrentEnvelopeId;
        _held.AddLast(current);
    }

    public void Unstash()
    {
        if (_held.First is { } oldest)
        {
            _held.RemoveFirst();
            cell.Prepend([oldest.Value]);
        }
    }

    public void UnstashAll() => UnstashAll(_ => true);

    public void UnstashAll(Func<Envelope, bool> predicate) => cell.Prepend(ClearStash().Where(predicate).ToArray());

    public IEnumerable<Envelope> ClearStash()
    {
        var all = _held.ToArray();
        _held.Clear();
        return all;
    }

    public void Prepend(IEnumerable<Envelope> envelopes)
    {
        foreach (var envelope in envelopes.Reverse())
        {
            if (IsFull)
            {
                throw new StashOverflowException(
                    $"Couldn't put message {envelope.Message} into the stash of {cell.Self}: it holds {Capacity} already");
            }

            _held.AddFirst(envelope);
        }
    }
}
