// Publish and subscribe by type inside one system. A subscriber gets every event that is an instance of its channel, once, in the order
// one publisher published them; it is removed when it terminates.
using System.Collections.Concurrent;
using Akka.Actor;
using Akka.Dispatch.SysMsg;

namespace Akka.Event;

public class EventStream
{
    private readonly Lock _gate = new();
    private readonly ConcurrentDictionary<Type, IActorRef[]> _receivers = new();
    private readonly Dictionary<IActorRef, HashSet<Type>> _channels = [];
    private Unsubscriber _unsubscriber;

    internal EventStream()
    {
    }

    /// <summary>Prints or forwards log events besides their ordinary subscribers.</summary>
    internal Action<LogEvent> LogSink { get; set; } = _ => { };

    public bool Subscribe(IActorRef subscriber, Type channel)
    {
        ArgumentNullException.ThrowIfNull(subscriber);
        ArgumentNullException.ThrowIfNull(channel);
        bool first;
        lock (_gate)
        {
            if (!_channels.TryGetValue(subscriber, out var channels))
            {
                _channels[subscriber] = channels = [];
            }

            first = channels.Count == 0;

            // Subscribing to what a channel already held covers adds nothing.
            if (channels.Any(held => held.IsAssignableFrom(channel)))
            {
                return false;
            }

            channels.Add(channel);
            _receivers.Clear();
        }

        if (first && subscriber is InternalActorRefBase target && _unsubscriber is { } unsubscriber)
        {
            target.SendSystemMessage(new Watch(target, unsubscriber));
        }

        return true;
    }

    public bool Unsubscribe(IActorRef subscriber, Type channel)
    {
        ArgumentNullException.ThrowIfNull(subscriber);
        ArgumentNullException.ThrowIfNull(channel);
        lock (_gate)
        {
            var removed = _channels.TryGetValue(subscriber, out var channels) && channels.RemoveWhere(channel.IsAssignableFrom) > 0;
            _receivers.Clear();
            return removed;
        }
    }

    public bool Unsubscribe(IActorRef subscriber)
    {
        ArgumentNullException.ThrowIfNull(subscriber);
        lock (_gate)
        {
            var removed = _channels.Remove(subscriber, out var channels) && channels.Count > 0;
            _receivers.Clear();
            return removed;
        }
    }

    public void Publish(object @event)
    {
        ArgumentNullException.ThrowIfNull(@event);
        foreach (var subscriber in ReceiversOf(@event.GetType()))
        {
            subscriber.Tell(@event, ActorRefs.NoSender);
        }

        if (@event is LogEvent log)
        {
            LogSink(log);
        }
    }

    internal void StartUnsubscriber(LocalActorRefProvider provider) => _unsubscriber = new Unsubscriber(this, provider);

    private IActorRef[] ReceiversOf(Type type)
    {
        if (_receivers.TryGetValue(type, out var known))
        {
            return known;
        }

        lock (_gate)
        {
            return _receivers[type] = _channels
                .Where(entry => entry.Value.Any(channel => channel.IsAssignableFrom(type)))
                .Select(entry => entry.Key)
                .ToArray();
        }
    }

    private sealed class Unsubscriber(EventStream owner, LocalActorRefProvider provider) : MinimalActorRef
    {
        public override ActorPath Path { get; } = provider.RootPath / "system" / "eventStreamUnsubscriber";

        public override IActorRefProvider Provider => provider;

        internal override void SendSystemMessage(SystemMessage message)
        {
            if (message is DeathWatchNotification death)
            {
                owner.Unsubscribe(death.Actor);
            }
            else
            {
                base.SendSystemMessage(message);
            }
        }
    }
}

public static class EventStreamExtensions
{
    public static bool Subscribe<TChannel>(this EventStream eventStream, IActorRef subscriber) =>
        eventStream.Subscribe(subscriber, typeof(TChannel));

    public static bool Unsubscribe<TChannel>(this EventStream eventStream, IActorRef subscriber) =>
        eventStream.Unsubscribe(subscriber, typeof(TChannel));
}
