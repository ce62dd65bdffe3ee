// One node's end of all connections. It binds the port, keeps one outgoing link per address (RemoteLink.cs), and delivers what comes
// in. Order per pair holds because each peer has one open incoming connection, read by one loop; a newer one waits until the older loop
// has ended. System messages are delivered once each, in sequence; everything else at most once. A quarantined incarnation is never
// listened to again.
using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using Akka.Actor;
using Akka.Configuration;
using Akka.Dispatch.SysMsg;
using Akka.Event;
using Akka.Serialization;

namespace Akka.Remote;

internal sealed class RemoteTransport
{
    /// <summary>A connection that says nothing for this long after it opened is no node.</summary>
    private static readonly TimeSpan s_handshakeTimeout = TimeSpan.FromSeconds(10);

    private readonly RemoteActorRefProvider _provider;
    private readonly ConcurrentDictionary<Address, RemoteLink> _links = new();
    private readonly ConcurrentDictionary<(Address Address, int Uid), Inbound> _inbound = new();
    private readonly ConcurrentDictionary<(Address Address, int Uid), bool> _quarantined = new();
    private readonly MessageCodec _codec;
    private readonly TcpListener _listener;
    private readonly CancellationTokenSource _stop = new();
    private readonly TimeSpan _flushWait;

    internal RemoteTransport(RemoteActorRefProvider provider)
    {
        _provider = provider;
        _codec = new MessageCodec(provider);
        System = provider.System;
        Log = new BusLogging(System.EventStream, $"remoting({System.Name})", typeof(RemoteTransport), System.Log);
        var remote = System.Settings.Config.GetConfig("akka.remote");
        var tcp = remote.GetConfig("dot-netty.tcp");
        GateClosedFor = remote.GetTimeSpan("retry-gate-closed-for");
        SystemMessageLimit = remote.GetInt("system-message-buffer-size");
        SystemMessageTimeout = remote.GetTimeSpan("initial-system-message-delivery-timeout");
        _flushWait = remote.GetTimeSpan("flush-wait-on-shutdown");
        ConnectTimeout = tcp.GetTimeSpan("connection-timeout");
        var frame = tcp.GetByteSize("maximum-frame-size") ?? 0;

        // The bound of the original, below which it will not start.
        if (frame is < 32_000 or > int.MaxValue - Wire.EnvelopeAllowance)
        {
            throw new ConfigurationException($"Setting 'maximum-frame-size' must be at least 32000 bytes, was {frame}");
        }

        MaximumFrame = (int)frame;
        var hostname = tcp.GetString("hostname") is { Length: > 0 } host ? host : "0.0.0.0";
        _listener = Bind(hostname, tcp.GetInt("port"));
        var port = ((IPEndPoint)_listener.LocalEndpoint).Port;
        var shownHost = tcp.GetString("public-hostname") is { Length: > 0 } shown ? shown : hostname;
        var shownPort = tcp.GetInt("public-port") is > 0 and var other ? other : port;
        LocalAddress = new Address(RemoteActorRefProvider.Protocol, System.Name, shownHost, shownPort);
        Watcher = new RemoteWatcher(this, remote.GetConfig("watch-failure-detector"));
        _ = AcceptAsync();
    }

    internal ActorSystemImpl System { get; }

    internal Address LocalAddress { get; }

    /// <summary>Tells this process from another one at the same address.</summary>
    internal int Uid { get; } = Random.Shared.Next(1, int.MaxValue);

    internal ILoggingAdapter Log { get; }

    internal RemoteWatcher Watcher { get; }

    internal TimeSpan GateClosedFor { get; }

    internal TimeSpan ConnectTimeout { get; }

    internal int SystemMessageLimit { get; }

    internal TimeSpan SystemMessageTimeout { get; }

    internal int MaximumFrame { get; }

    internal CancellationToken Stopping => _stop.Token;

    /// <summary>Sends, or drops with a log line or a dead letter; never throws.</summary>
    internal void Send(RemoteActorRef recipient, object message, IActorRef sender)
    {
        byte[] frame;
        try
        {
            var sizeOfPayload = 0L;
            frame = Wire.Frame(FrameKind.Message, to =>
            {
                to.Write(recipient.Path.ToSerializationFormat());
                to.Write(_provider.Serialized(sender));
                var before = to.BaseStream.Position;
                _codec.Write(to, message);
                to.Flush();
                sizeOfPayload = to.BaseStream.Position - before;
            });
            if (sizeOfPayload > MaximumFrame)
            {
                Log.Error(
                    "Transient association error (association remains live): the message of type " + message.GetType() + " for {0} has "
                    + sizeOfPayload + " bytes, more than maximum-frame-size = {1}; it is dropped.",
                    recipient,
                    MaximumFrame);
                return;
            }
        }
        catch (Exception error)
        {
            Log.Error(error, "Could not serialise the message for {0}; it is dropped.", recipient);
            return;
        }

        LinkTo(recipient.Path.Address).Enqueue(new Outgoing(frame, null, message, sender, recipient));
    }

    internal void SendSystem(RemoteActorRef target, SystemMessage message)
    {
        switch (message)
        {
            case Watch watch when watch.Watchee is RemoteActorRef:
                Watcher.Watch(watch.Watchee, watch.Watcher);
                SendSystem(target, SystemKind.Watch, watch.Watchee, watch.Watcher, false, false);
                break;
            case Unwatch unwatch when unwatch.Watchee is RemoteActorRef:
                Watcher.Unwatch(unwatch.Watchee, unwatch.Watcher);
                SendSystem(target, SystemKind.Unwatch, unwatch.Watchee, unwatch.Watcher, false, false);
                break;
            case DeathWatchNotification death:
                Watcher.RemoveIncoming(death.Actor, target);
                SendSystem(
                    target, SystemKind.DeathWatchNotification, death.Actor, target, death.ExistenceConfirmed, death.AddressTerminated);
                break;
            case Terminate:
                SendSystem(target, SystemKind.Terminate, target, target, false, false);
                break;
            default:
                Log.Warning("{0} does not go to another node ({1}).", message.GetType().Name, target);
                break;
        }
    }

    internal void SendWatch(InternalActorRefBase watchee, InternalActorRefBase watcher) =>
        SendSystem((RemoteActorRef)watchee, SystemKind.Watch, watchee, watcher, false, false);

    internal void SendHeartbeat(Address address) => LinkTo(address).Enqueue(new Outgoing(Wire.Frame(FrameKind.Heartbeat)));

    /// <summary>From now on nothing goes to that incarnation and nothing of it is heard; a later one is welcome.</summary>
    /// <param name="address">A node.</param>
    /// <param name="uid">Its incarnation; null when it was never reached, then there is nothing to refuse.</param>
    /// <param name="reason">For the log.</param>
    internal void Quarantine(Address address, int? uid, string reason)
    {
        uid ??= _links.TryGetValue(address, out var known) ? known.PeerUid : null;
        if (uid is not { } incarnation || address == LocalAddress || !_quarantined.TryAdd((address, incarnation), true))
        {
            return;
        }

        Log.Warning(
            "Association to [{0}] having UID [{1}] is irrecoverably failed. UID is now quarantined: {2}", address, incarnation, reason);
        if (_links.TryGetValue(address, out var link))
        {
            link.Quarantine(incarnation);
        }

        if (_inbound.TryRemove((address, incarnation), out var inbound))
        {
            inbound.Close();
        }
    }

    internal bool IsQuarantined(Address address, int uid) => _quarantined.ContainsKey((address, uid));

    /// <summary>Sends what is queued, says goodbye, closes. Blocks no longer than flush-wait-on-shutdown.</summary>
    internal void Stop()
    {
        Watcher.Stop();
        Task.WhenAll(_links.Values.Select(link => link.FlushAsync())).Wait(_flushWait);
        _stop.Cancel();
        _listener.Stop();
        foreach (var inbound in _inbound.Values)
        {
            inbound.Close();
        }
    }

    private static TcpListener Bind(string hostname, int port)
    {
        var address = IPAddress.TryParse(hostname, out var literal)
            ? literal
            : Dns.GetHostAddresses(hostname).OrderBy(one => one.AddressFamily).First();
        var listener = new TcpListener(address, port);
        listener.Start();
        return listener;
    }

    private void SendSystem(
        RemoteActorRef target, SystemKind kind, IActorRef subject, IActorRef other, bool confirmed, bool addressTerminated) =>
        LinkTo(target.Path.Address).Enqueue(new Outgoing(
            null,
            sequence => Wire.Frame(FrameKind.System, to =>
            {
                to.Write(sequence);
                to.Write((byte)kind);
                to.Write(_provider.Serialized(subject));
                to.Write(_provider.Serialized(other));
                to.Write(confirmed);
                to.Write(addressTerminated);
            }),
            null,
            null,
            target));

    private RemoteLink LinkTo(Address address) => _links.GetOrAdd(address, it => new RemoteLink(this, it));

    private async Task AcceptAsync()
    {
        while (!Stopping.IsCancellationRequested)
        {
            try
            {
                var client = await _listener.AcceptTcpClientAsync(Stopping).ConfigureAwait(false);
                _ = ServeAsync(client);
            }
            catch (Exception error) when (error is OperationCanceledException or ObjectDisposedException or SocketException)
            {
                if (!Stopping.IsCancellationRequested)
                {
                    Log.Warning(error, "Accepting a connection at {0} failed.", LocalAddress);
                }
            }
        }
    }

    private async Task ServeAsync(TcpClient client)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(Stopping);
        using var connection = client;
        client.NoDelay = true;
        var stream = client.GetStream();
        Inbound inbound = null;
        try
        {
            if (await HandshakeAsync(stream, stop).ConfigureAwait(false) is not { } opened)
            {
                return;
            }

            inbound = opened;
            await ReceiveAsync(stream, inbound, stop.Token).ConfigureAwait(false);
        }
        catch (Exception error) when (error is IOException or SocketException or OperationCanceledException or ObjectDisposedException)
        {
            Log.Debug("A connection from {0} ended.", (object)inbound?.Address ?? "an unknown node");
        }
        catch (Exception error) when (error is AssociationException or InvalidDataException)
        {
            Log.Warning(error, "A connection from {0} is closed.", (object)inbound?.Address ?? "an unknown node");
        }
        finally
        {
            inbound?.Ended.TrySetResult();
        }
    }

    /// <summary>Answers the first frame; null when the opener was refused.</summary>
    private async Task<Inbound> HandshakeAsync(NetworkStream stream, CancellationTokenSource stop)
    {
        using var patience = CancellationTokenSource.CreateLinkedTokenSource(stop.Token);
        patience.CancelAfter(s_handshakeTimeout);
        var frame = await Wire.ReadAsync(
            stream, Wire.EnvelopeAllowance, _ => throw new AssociationException("That is no handshake."), patience.Token)
            .ConfigureAwait(false);
        if (frame is null)
        {
            return null;
        }

        if (frame[0] != (byte)FrameKind.Hello || frame.Length < 2)
        {
            throw new AssociationException("That is no handshake.");
        }

        using var body = Wire.BodyOf(frame);
        var version = body.ReadByte();
        if (version != Wire.Version)
        {
            await RefuseAsync(stream, false, $"This node speaks version {Wire.Version} of the protocol, not {version}.")
                .ConfigureAwait(false);
            return null;
        }

        var (from, uid, target) = (Address.Parse(body.ReadString()), body.ReadInt32(), body.ReadString());
        if (target != LocalAddress.ToString())
        {
            await RefuseAsync(stream, false, $"This is [{LocalAddress}], not [{target}]; the address must match exactly.")
                .ConfigureAwait(false);
            Log.Error("Dropping a connection from {0} to the non-local address [{1}]; this is [{2}].", from, target, LocalAddress);
            return null;
        }

        if (IsQuarantined(from, uid))
        {
            await RefuseAsync(stream, true, "The remote system has quarantined this system; it has to be restarted.").ConfigureAwait(false);
            return null;
        }

        var inbound = new Inbound(from, uid, stop);
        Inbound previous = null;
        _inbound.AddOrUpdate((from, uid), inbound, (_, older) =>
        {
            previous = older;
            return inbound;
        });
        if (previous is not null)
        {
            previous.Close();
            await previous.Ended.Task.WaitAsync(patience.Token).ConfigureAwait(false);
            inbound.LastSequence = previous.LastSequence;
        }

        // The peer is alive: what we have for it need not wait, and an older incarnation is gone.
        if (_links.TryGetValue(from, out var link))
        {
            link.PeerIsAlive(uid);
        }

        await stream.WriteAsync(Wire.Frame(FrameKind.Welcome, to => to.Write(Uid)), stop.Token).ConfigureAwait(false);
        return inbound;
    }

    private async Task RefuseAsync(NetworkStream stream, bool quarantined, string reason)
    {
        var frame = Wire.Frame(FrameKind.Refused, to =>
        {
            to.Write(quarantined);
            to.Write(reason);
        });
        await stream.WriteAsync(frame, Stopping).ConfigureAwait(false);
    }

    private async Task ReceiveAsync(NetworkStream stream, Inbound inbound, CancellationToken stop)
    {
        void TooLong(int length) => Log.Error(
            "A frame of {0} bytes from {1} is longer than maximum-frame-size = {2}; it is dropped.", length, inbound.Address, MaximumFrame);
        var reader = new BufferedStream(stream, 64 * 1024);
        while (await Wire.ReadAsync(reader, MaximumFrame + Wire.EnvelopeAllowance, TooLong, stop).ConfigureAwait(false) is { } frame)
        {
            switch ((FrameKind)frame[0])
            {
                case FrameKind.Message:
                    Deliver(frame, inbound);
                    break;
                case FrameKind.System:
                    DeliverSystem(frame, inbound);
                    await stream.WriteAsync(Wire.Frame(FrameKind.Acknowledge, to => to.Write(inbound.LastSequence)), stop)
                        .ConfigureAwait(false);
                    break;
                case FrameKind.Heartbeat:
                    await stream.WriteAsync(Wire.Frame(FrameKind.HeartbeatReply, to => to.Write(Uid)), stop).ConfigureAwait(false);
                    break;
                case FrameKind.Goodbye:
                    return;
                default:
                    throw new AssociationException($"The frame kind {frame[0]} is unknown.");
            }
        }
    }

    private void Deliver(byte[] frame, Inbound inbound)
    {
        try
        {
            using var body = Wire.BodyOf(frame);
            var recipient = _provider.ResolveActorRef(body.ReadString());
            var sender = _provider.Resolve(body.ReadString());
            var message = _codec.Read(body);
            if (recipient is RemoteActorRef)
            {
                Log.Error("Dropping a message for the non-local recipient {0} from {1}.", recipient, inbound.Address);
                return;
            }

            recipient.Tell(message, sender);
        }
        catch (Exception error)
        {
            // One bad message costs itself only.
            Log.Error(error, "A message from {0} could not be read; it is dropped.", inbound.Address);
        }
    }

    private void DeliverSystem(byte[] frame, Inbound inbound)
    {
        using var body = Wire.BodyOf(frame);
        var sequence = body.ReadInt64();
        if (sequence <= inbound.LastSequence)
        {
            return;
        }

        if (sequence != inbound.LastSequence + 1)
        {
            throw new AssociationException($"System message {sequence} came after {inbound.LastSequence}.");
        }

        var kind = (SystemKind)body.ReadByte();
        var (subject, other) = (body.ReadString(), body.ReadString());
        var (confirmed, addressTerminated) = (body.ReadBoolean(), body.ReadBoolean());
        inbound.LastSequence = sequence;
        switch (kind)
        {
            case SystemKind.Watch:
                Local(subject).SendSystemMessage(Watcher.AddIncoming(Local(subject), Local(other)));
                break;
            case SystemKind.Unwatch:
                Watcher.RemoveIncoming(Local(subject), Local(other));
                Local(subject).SendSystemMessage(new Unwatch(Local(subject), Local(other)));
                break;
            case SystemKind.DeathWatchNotification:
                Watcher.Terminated(Local(subject), other, confirmed, addressTerminated);
                break;
            case SystemKind.Terminate:
                Local(subject).Stop();
                break;
            default:
                throw new AssociationException($"The system message {kind} is unknown.");
        }
    }

    private InternalActorRefBase Local(string path) => (InternalActorRefBase)_provider.ResolveActorRef(path);

    /// <summary>An open incoming connection.</summary>
    private sealed class Inbound(Address address, int uid, CancellationTokenSource stop)
    {
        internal Address Address { get; } = address;

        internal int Uid { get; } = uid;

        internal long LastSequence { get; set; }

        internal TaskCompletionSource Ended { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

        internal void Close()
        {
            try
            {
                stop.Cancel();
            }
            catch (ObjectDisposedException)
            {
                // It ended by itself.
            }
        }
    }
}
