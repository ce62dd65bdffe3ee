// The queue of one actor and the right to run it. Invariants: at most one thread runs the mailbox at a time (the Scheduled bit);
// system messages are drained before every user message; a suspended mailbox runs system messages only; once closed it
// accepts nothing and what is left in it becomes dead letters. Each status change is an interlocked operation, so what one
// message wrote is visible to the next.
using System.Collections.Concurrent;
using Akka.Actor;
using Akka.Dispatch.SysMsg;

namespace Akka.Dispatch;

internal sealed class Mailbox : IThreadPoolWorkItem
{
    private const int Closed = 1;
    private const int Scheduled = 2;
    private const int Awaiting = 4;
    private const int SuspendUnit = 8;

    private static readonly SystemMessage ClosedMarker = new Terminate();

    private readonly ConcurrentQueue<Envelope> _queue = new();
    private readonly ActorCell _cell;
    private readonly MessageDispatcher _dispatcher;
    private readonly SemaphoreSlim _slots;
    private readonly TimeSpan _pushTimeout;

    // Messages put back in front (unstashed). Only the running actor touches it.
    private Stack<Envelope> _front;
    private SystemMessage _system;
    private int _status;

    /// <param name="cell">The actor.</param>
    /// <param name="dispatcher">Runs the mailbox.</param>
    /// <param name="capacity">Most messages held, or 0 for no bound.</param>
    /// <param name="pushTimeout">How long a sender waits for room; then the message becomes a dead letter.</param>
    internal Mailbox(ActorCell cell, MessageDispatcher dispatcher, int capacity, TimeSpan pushTimeout)
    {
        _cell = cell;
        _dispatcher = dispatcher;
        _slots = capacity > 0 ? new SemaphoreSlim(capacity, capacity) : null;
        _pushTimeout = pushTimeout;
    }

    internal bool IsClosed => (Volatile.Read(ref _status) & Closed) != 0;

    /// <summary>True while supervision or an asynchronous handler keeps user messages back.</summary>
    internal bool IsSuspended => Volatile.Read(ref _status) >= Awaiting;

    internal bool IsAwaiting => (Volatile.Read(ref _status) & Awaiting) != 0;

    /// <summary>How many times supervision suspended this mailbox without resuming it yet.</summary>
    internal int SuspendCount => Volatile.Read(ref _status) / SuspendUnit;

    /// <summary>Neither closed, nor suspended, nor awaiting.</summary>
    private bool IsOpen => (Volatile.Read(ref _status) & ~Scheduled) == 0;

    private bool HasMessages => !_queue.IsEmpty || _front is { Count: > 0 };

    /// <summary>False when the message was not accepted; the caller makes it a dead letter.</summary>
    internal bool TryEnqueue(in Envelope envelope)
    {
        if (IsClosed || (_slots is not null && !_slots.Wait(_pushTimeout)))
        {
            return false;
        }

        _queue.Enqueue(envelope);
        if ((Volatile.Read(ref _status) & (Closed | Scheduled)) == 0)
        {
            Schedule(hasMessages: true);
        }
        else if (IsClosed)
        {
            // Closed between the check and the queueing: nobody will run again, so whoever comes last tidies up.
            DrainToDeadLetters();
        }

        return true;
    }

    /// <summary>Puts messages in front, the first of <paramref name="envelopes"/> first. Only for the running actor.</summary>
    internal void Prepend(IReadOnlyList<Envelope> envelopes)
    {
        _front ??= new Stack<Envelope>();
        for (var i = envelopes.Count - 1; i >= 0; i--)
        {
            _front.Push(envelopes[i]);
        }
    }

    /// <summary>False when the mailbox is closed.</summary>
    internal bool TryEnqueueSystem(SystemMessage message)
    {
        while (true)
        {
            var head = Volatile.Read(ref _system);
            if (ReferenceEquals(head, ClosedMarker))
            {
                return false;
            }

            message.Next = head;
            if (Interlocked.CompareExchange(ref _system, message, head) == head)
            {
                Schedule(hasMessages: false);
                return true;
            }
        }
    }

    internal void Suspend() => Interlocked.Add(ref _status, SuspendUnit);

    internal void Resume()
    {
        int status;
        do
        {
            status = Volatile.Read(ref _status);
            if (status < SuspendUnit)
            {
                return;
            }
        }
        while (Interlocked.CompareExchange(ref _status, status - SuspendUnit, status) != status);
    }

    internal void BeginAwait() => Interlocked.Or(ref _status, Awaiting);

    internal void EndAwait() => Interlocked.And(ref _status, ~Awaiting);

    /// <summary>Closes for good. Called by the actor itself as it ends; returns the system messages nobody will handle.</summary>
    internal SystemMessage Close()
    {
        Interlocked.Or(ref _status, Closed);
        while (_front is { Count: > 0 })
        {
            ToDeadLetters(_front.Pop());
        }

        DrainToDeadLetters();
        return InOrder(Interlocked.Exchange(ref _system, ClosedMarker));
    }

    public void Execute() => Run();

    internal void Run()
    {
        var before = ActorCell.Current;
        ActorCell.Current = _cell;
        try
        {
            RunSystemMessages();
            for (var left = _dispatcher.Throughput; left > 0 && IsOpen && TryDequeue(out var envelope); left--)
            {
                _cell.Invoke(envelope);
                RunSystemMessages();
            }
        }
        finally
        {
            ActorCell.Current = before;
            Interlocked.And(ref _status, ~Scheduled);
            Schedule(hasMessages: false);
        }
    }

    private static SystemMessage InOrder(SystemMessage newest)
    {
        SystemMessage oldest = null;
        while (newest is not null && !ReferenceEquals(newest, ClosedMarker))
        {
            (newest.Next, oldest, newest) = (oldest, newest, newest.Next);
        }

        return oldest;
    }

    private void RunSystemMessages()
    {
        while (Volatile.Read(ref _system) is { } head && !ReferenceEquals(head, ClosedMarker))
        {
            var message = InOrder(Interlocked.Exchange(ref _system, null));
            while (message is not null)
            {
                var next = message.Next;
                message.Next = null;
                if (IsClosed)
                {
                    _cell.SystemImpl.LocalProvider.HandleUndeliverable(message, (InternalActorRefBase)_cell.Self);
                }
                else
                {
                    _cell.InvokeSystem(message);
                }

                message = next;
            }
        }
    }

    private void Schedule(bool hasMessages)
    {
        while (true)
        {
            var status = Volatile.Read(ref _status);
            if ((status & (Closed | Scheduled)) != 0)
            {
                return;
            }

            var runnable = Volatile.Read(ref _system) is not null || (status < Awaiting && (hasMessages || HasMessages));
            if (!runnable)
            {
                return;
            }

            if (Interlocked.CompareExchange(ref _status, status | Scheduled, status) == status)
            {
                _dispatcher.Execute(this);
                return;
            }
        }
    }

    private bool TryDequeue(out Envelope envelope)
    {
        if (_front is { Count: > 0 })
        {
            envelope = _front.Pop();
            return true;
        }

        if (!_queue.TryDequeue(out envelope))
        {
            return false;
        }

        _slots?.Release();
        return true;
    }

    private void DrainToDeadLetters()
    {
        while (_queue.TryDequeue(out var envelope))
        {
            _slots?.Release();
            ToDeadLetters(envelope);
        }
    }

    private void ToDeadLetters(in Envelope envelope) => _cell.SystemImpl.PublishDeadLetter(envelope.Message, envelope.Sender, _cell.Self);
}
