// What this node sends to one address. One loop owns the connection: it connects, resends the system messages that were not
// acknowledged, then sends the queue in order. When connecting fails or the connection breaks, the address is gated: user messages
// become dead letters until the gate's time is over or the peer connects by itself; system messages wait. A new incarnation at the
// address starts with an empty sequence.
using System.Net.Sockets;
using System.Threading.Channels;
using Akka.Actor;
using Akka.Event;

namespace Akka.Remote;

/// <summary>One thing to send: a whole frame, or (system messages) how to make one for a sequence number.</summary>
internal readonly record struct Outgoing(
    byte[] Frame, Func<long, byte[]> System = null, object Message = null, IActorRef Sender = null, IActorRef Recipient = null);

internal sealed class RemoteLink
{
    /// <summary>How much is gathered into one write, in bytes.</summary>
    private const int Batch = 64 * 1024;

    private readonly RemoteTransport _transport;
    private readonly Address _address;
    private readonly Channel<Outgoing> _queue =
        Channel.CreateUnbounded<Outgoing>(new UnboundedChannelOptions { SingleReader = true });

    // Under _gate, as the fields below it.
    private readonly Queue<(long Sequence, byte[] Frame)> _unacknowledged = new();
    private readonly Lock _gate = new();
    private CancellationTokenSource _session;
    private TaskCompletionSource _wake;
    private int? _peerUid;
    private bool _skipGate;

    // Only of the loop.
    private readonly Queue<Outgoing> _heldSystem = new();
    private long _lastSequence;
    private long? _systemWaitsSince;

    private readonly Task _loop;
    private volatile bool _gated;
    private volatile bool _ending;

    internal RemoteLink(RemoteTransport transport, Address address)
    {
        _transport = transport;
        _address = address;
        _loop = Task.Run(RunAsync);
    }

    /// <summary>The incarnation last shaken hands with.</summary>
    internal int? PeerUid
    {
        get
        {
            lock (_gate)
            {
                return _peerUid;
            }
        }
    }

    internal void Enqueue(in Outgoing outgoing)
    {
        if ((_gated && outgoing.System is null) || !_queue.Writer.TryWrite(outgoing))
        {
            Discard(outgoing);
        }
    }

    /// <summary>
    /// The peer has connected to us: it can be reached again, and an incarnation we did not shake hands with is a new one.
    /// </summary>
    internal void PeerIsAlive(int uid)
    {
        lock (_gate)
        {
            if (_peerUid is { } known && known != uid)
            {
                _session?.Cancel();
            }

            _skipGate = true;
            _gated = false;
            _wake?.TrySetResult();
        }
    }

    internal void Quarantine(int uid)
    {
        lock (_gate)
        {
            if (_peerUid == uid)
            {
                _unacknowledged.Clear();
                _session?.Cancel();
            }
        }
    }

    /// <summary>Sends what is queued and ends the loop.</summary>
    internal async Task FlushAsync()
    {
        _ending = true;
        _queue.Writer.TryComplete();
        lock (_gate)
        {
            _wake?.TrySetResult();
        }

        await _loop.ConfigureAwait(false);
    }

    private async Task RunAsync()
    {
        try
        {
            while (await HasWorkAsync().ConfigureAwait(false) && await SessionAsync().ConfigureAwait(false) is { } failure)
            {
                await SitOutGateAsync(failure).ConfigureAwait(false);
            }
        }
        catch (OperationCanceledException) when (_transport.Stopping.IsCancellationRequested)
        {
            // The end of the system.
        }
        finally
        {
            _queue.Writer.TryComplete();
            DiscardQueued(keepSystem: false);
        }
    }

    private async Task<bool> HasWorkAsync()
    {
        lock (_gate)
        {
            if (_unacknowledged.Count + _heldSystem.Count > 0)
            {
                return !_ending || _queue.Reader.TryPeek(out _);
            }
        }

        return await _queue.Reader.WaitToReadAsync(_transport.Stopping).ConfigureAwait(false);
    }

    /// <summary>One connection from start to end: null after an orderly end, else why it failed.</summary>
    private async Task<string> SessionAsync()
    {
        using var session = CancellationTokenSource.CreateLinkedTokenSource(_transport.Stopping);
        lock (_gate)
        {
            _session = session;
        }

        using var client = new TcpClient { NoDelay = true };
        var reading = Task.FromResult<string>(null);
        try
        {
            using (var patience = CancellationTokenSource.CreateLinkedTokenSource(session.Token))
            {
                patience.CancelAfter(_transport.ConnectTimeout);
                await client.ConnectAsync(_address.Host, _address.Port ?? 0, patience.Token).ConfigureAwait(false);
                await HandshakeAsync(client.GetStream(), patience.Token).ConfigureAwait(false);
            }

            var stream = client.GetStream();
            reading = ReadAsync(stream, session);
            await PumpAsync(stream, session.Token).ConfigureAwait(false);
            await stream.WriteAsync(Wire.Frame(FrameKind.Goodbye), session.Token).ConfigureAwait(false);
            client.Client.Shutdown(SocketShutdown.Send);

            // Closing before the peer has read everything would throw away what it has not.
            await reading.ConfigureAwait(false);
            return null;
        }
        catch (Exception error) when (error is SocketException or IOException or AssociationException or OperationCanceledException)
        {
            _transport.Stopping.ThrowIfCancellationRequested();
            await session.CancelAsync().ConfigureAwait(false);
            return await reading.ConfigureAwait(false) ?? error.Message;
        }
        finally
        {
            lock (_gate)
            {
                _session = null;
            }
        }
    }

    private async Task HandshakeAsync(NetworkStream stream, CancellationToken stop)
    {
        var hello = Wire.Frame(FrameKind.Hello, to =>
        {
            to.Write(Wire.Version);
            to.Write(_transport.LocalAddress.ToString());
            to.Write(_transport.Uid);
            to.Write(_address.ToString());
        });
        await stream.WriteAsync(hello, stop).ConfigureAwait(false);
        var answer = await Wire.ReadAsync(
            stream, Wire.EnvelopeAllowance, length => throw new AssociationException($"An answer of {length} bytes is no answer."), stop)
            .ConfigureAwait(false) ?? throw new AssociationException("The peer closed the connection.");
        using var body = Wire.BodyOf(answer);
        switch ((FrameKind)answer[0])
        {
            case FrameKind.Welcome:
                Adopt(body.ReadInt32());
                break;
            case FrameKind.Refused:
                _ = body.ReadBoolean();
                throw new AssociationException("Refused: " + body.ReadString());
            default:
                throw new AssociationException($"The frame kind {answer[0]} is no answer to a handshake.");
        }
    }

    private void Adopt(int uid)
    {
        if (_transport.IsQuarantined(_address, uid))
        {
            throw new AssociationException("That incarnation is quarantined.");
        }

        var isNew = false;
        lock (_gate)
        {
            _skipGate = false;
            if (_peerUid is { } old && old != uid)
            {
                isNew = true;
                _unacknowledged.Clear();
                _lastSequence = 0;
            }

            _peerUid = uid;
        }

        _systemWaitsSince = null;
        if (isNew)
        {
            // The new incarnation answers for actors that ended with the old one.
            _transport.Watcher.WatchAgain(_address);
        }
    }

    private async Task PumpAsync(NetworkStream stream, CancellationToken stop)
    {
        using var batch = new MemoryStream();
        lock (_gate)
        {
            foreach (var (_, frame) in _unacknowledged)
            {
                batch.Write(frame);
            }
        }

        while (true)
        {
            while (_heldSystem.TryDequeue(out var held))
            {
                Append(batch, held);
            }

            while (batch.Length < Batch && _queue.Reader.TryRead(out var next))
            {
                Append(batch, next);
            }

            if (batch.Length > 0)
            {
                await stream.WriteAsync(batch.GetBuffer().AsMemory(0, (int)batch.Length), stop).ConfigureAwait(false);
                batch.SetLength(0);
            }
            else if (!await _queue.Reader.WaitToReadAsync(stop).ConfigureAwait(false))
            {
                return;
            }
        }
    }

    private void Append(MemoryStream batch, in Outgoing outgoing)
    {
        if (outgoing.System is not { } make)
        {
            batch.Write(outgoing.Frame);
            return;
        }

        var frame = make(++_lastSequence);
        batch.Write(frame);
        int waiting;
        lock (_gate)
        {
            _unacknowledged.Enqueue((_lastSequence, frame));
            waiting = _unacknowledged.Count;
        }

        if (waiting > _transport.SystemMessageLimit)
        {
            _transport.Quarantine(_address, null, $"{waiting} system messages are not acknowledged");
            throw new AssociationException("Too many system messages are not acknowledged.");
        }
    }

    /// <summary>Reads the answers until the connection ends; then says why and ends the session.</summary>
    private async Task<string> ReadAsync(NetworkStream stream, CancellationTokenSource session)
    {
        try
        {
            while (await Wire.ReadAsync(
                stream, Wire.EnvelopeAllowance, length => throw new AssociationException($"An answer has {length} bytes."), session.Token)
                .ConfigureAwait(false) is { } frame)
            {
                using var body = Wire.BodyOf(frame);
                switch ((FrameKind)frame[0])
                {
                    case FrameKind.Acknowledge:
                        Acknowledge(body.ReadInt64());
                        break;
                    case FrameKind.HeartbeatReply:
                        _transport.Watcher.HeartbeatFrom(_address);
                        break;
                    default:
                        throw new AssociationException($"The frame kind {frame[0]} is unknown.");
                }
            }

            return "The peer closed the connection.";
        }
        catch (Exception error) when (error is IOException or SocketException or AssociationException or ObjectDisposedException)
        {
            return error.Message;
        }
        catch (OperationCanceledException)
        {
            return null;
        }
        finally
        {
            await session.CancelAsync().ConfigureAwait(false);
        }
    }

    private void Acknowledge(long sequence)
    {
        lock (_gate)
        {
            while (_unacknowledged.TryPeek(out var first) && first.Sequence <= sequence)
            {
                _unacknowledged.Dequeue();
            }
        }
    }

    private async Task SitOutGateAsync(string failure)
    {
        TaskCompletionSource wake;
        lock (_gate)
        {
            if (_skipGate || _ending)
            {
                _skipGate = false;
                return;
            }

            wake = _wake = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            _gated = true;
        }

        _transport.Log.Warning(
            "Association with remote system {0} has failed; address is now gated for {1} ms. Reason: {2}",
            _address,
            _transport.GateClosedFor.TotalMilliseconds,
            failure);
        DiscardQueued(keepSystem: !GivesUpSystemMessages());
        try
        {
            await wake.Task.WaitAsync(_transport.GateClosedFor, _transport.Stopping).ConfigureAwait(false);
        }
        catch (TimeoutException)
        {
            // The gate opens by itself.
        }

        lock (_gate)
        {
            _gated = false;
            _wake = null;
        }
    }

    /// <summary>Whether the peer is in quarantine, or has not taken a system message for so long that it has to be.</summary>
    private bool GivesUpSystemMessages()
    {
        bool waiting;
        lock (_gate)
        {
            waiting = _unacknowledged.Count + _heldSystem.Count > 0;
        }

        _systemWaitsSince = waiting ? _systemWaitsSince ?? Environment.TickCount64 : null;
        var late = _systemWaitsSince is { } since && Environment.TickCount64 - since > _transport.SystemMessageTimeout.TotalMilliseconds;
        if (late)
        {
            _transport.Quarantine(_address, null, "system messages could not be delivered in time");
            lock (_gate)
            {
                _unacknowledged.Clear();
            }
        }

        return late || (PeerUid is { } uid && _transport.IsQuarantined(_address, uid));
    }

    private void DiscardQueued(bool keepSystem)
    {
        if (!keepSystem)
        {
            _heldSystem.Clear();
        }

        while (_queue.Reader.TryRead(out var queued))
        {
            if (queued.System is not null && keepSystem)
            {
                _heldSystem.Enqueue(queued);
            }
            else
            {
                Discard(queued);
            }
        }
    }

    private void Discard(in Outgoing outgoing)
    {
        if (outgoing.Message is { } message)
        {
            _transport.System.PublishDeadLetter(message, outgoing.Sender, outgoing.Recipient);
        }
    }
}
