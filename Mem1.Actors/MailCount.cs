// Invariants:
//  * Counting costs an actor one write per message and no lock; nobody who looks ever makes it wait.
//  * Only members that every Akka has are used: the mailbox itself is not looked into. A probe goes through it like any message, and how many
//    messages the actor handles before it meets the probe is how many were ahead of it.
//  * At most one probe of an actor is under way.
using System.Diagnostics;
using Akka.Actor;

namespace Mem1.Actors;

/// <summary>Measures a mailbox by going through it.</summary>
/// <param name="HandledBefore">Messages the actor had begun to handle when it was sent.</param>
/// <param name="SentAt">When it was sent.</param>
internal sealed record MailProbe(long HandledBefore, long SentAt);

/// <summary>What is known of one actor's mail. Written by the actor and by one looker at a time.</summary>
internal sealed class MailCount
{
    // While a probe waits longer than this, the last depth says nothing any more.
    private static readonly TimeSpan Outdated = TimeSpan.FromSeconds(2);

    // A rate over less than this is noise.
    private static readonly TimeSpan RateOver = TimeSpan.FromMilliseconds(400);

    private IActorRef? _actor;
    private long _handled;
    private MailProbe? _underWay;
    private (int Depth, TimeSpan Waited)? _last; // guarded by _lock
    private long _probedAt, _ratedAt = Stopwatch.GetTimestamp(), _ratedHandled;
    private double? _rate;
    private readonly Lock _lock = new();

    /// <summary>The actor begins its life, or another one.</summary>
    public void Attach(IActorRef actor) => Volatile.Write(ref _actor, actor);

    /// <summary>The actor is gone: nothing more is sent to it.</summary>
    public void Detach() => Volatile.Write(ref _actor, null);

    /// <summary>The actor begins to handle a message. Called by the actor alone.</summary>
    public void Handled() => Volatile.Write(ref _handled, _handled + 1);

    /// <summary>The actor has met a probe. Called by the actor alone.</summary>
    public void Met(MailProbe probe)
    {
        lock (_lock) _last = ((int)Math.Min(int.MaxValue, _handled - probe.HandledBefore), Stopwatch.GetElapsedTime(probe.SentAt));
        Interlocked.CompareExchange(ref _underWay, null, probe);
    }

    /// <summary>Sends a probe, unless one is under way or the last one was sent a short while ago.</summary>
    /// <param name="now">By the stopwatch.</param>
    /// <param name="apart">How far apart probes are.</param>
    /// <returns>Whether it sent one.</returns>
    public bool Probe(long now, TimeSpan apart)
    {
        if (Volatile.Read(ref _actor) is not { } actor || Volatile.Read(ref _underWay) is not null) return false;
        if (_probedAt != 0 && Stopwatch.GetElapsedTime(_probedAt, now) < apart) return false;
        _probedAt = now;
        var probe = new MailProbe(Volatile.Read(ref _handled), now);
        Volatile.Write(ref _underWay, probe);
        actor.Tell(probe, ActorRefs.NoSender);
        return true;
    }

    /// <summary>What is known now.</summary>
    /// <param name="now">By the stopwatch.</param>
    public (int? Depth, TimeSpan? Oldest, double? PerSecond) Look(long now)
    {
        lock (_lock)
        {
            var since = Stopwatch.GetElapsedTime(_ratedAt, now);
            if (since >= RateOver)
            {
                var handled = Volatile.Read(ref _handled);
                (_rate, _ratedAt, _ratedHandled) = ((handled - _ratedHandled) / since.TotalSeconds, now, handled);
            }

            if (Volatile.Read(ref _actor) is null) return (null, null, null);
            var waits = Volatile.Read(ref _underWay) is { } probe ? Stopwatch.GetElapsedTime(probe.SentAt, now) : TimeSpan.Zero;
            return waits > Outdated ? (null, waits, _rate)
                : _last is { } last ? (last.Depth, waits > last.Waited ? waits : last.Waited, _rate) : (null, null, _rate);
        }
    }
}

/// <summary>An actor whose mail is counted.</summary>
internal abstract class CountedActor : ReceiveActor
{
    private readonly MailCount _mail;

    /// <summary>An actor that is on the board under its own name.</summary>
    /// <param name="board">Of the worker.</param>
    protected CountedActor(ActorBoard board)
    {
        _mail = board.Mail(Self.Path.Name);
        _mail.Attach(Self);
    }

    /// <summary>An actor that puts itself on the board.</summary>
    /// <param name="board">Of the worker.</param>
    /// <param name="name">As the board shows it.</param>
    /// <param name="kind">What it is.</param>
    protected CountedActor(ActorBoard board, string name, string kind)
    {
        board.Started(name, kind);
        _mail = board.Mail(name);
        _mail.Attach(Self);
    }

    protected override bool AroundReceive(Receive receive, object message)
    {
        if (message is MailProbe probe)
        {
            _mail.Met(probe);
            return true;
        }

        _mail.Handled();
        return base.AroundReceive(receive, message);
    }
}
