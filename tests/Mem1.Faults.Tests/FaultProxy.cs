// A TCP proxy that misbehaves on order. Keeps: bytes are only ever held back, cut or spoilt in the way that was asked for; without an order
// they pass as they are. Nothing of a connection outlives the proxy.
using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;

namespace Mem1.Faults.Tests;

/// <summary>What happens to the bytes of the connections.</summary>
internal enum LinkFault
{
    /// <summary>Nothing.</summary>
    None,
    /// <summary>A partition: no byte goes either way, no connection is answered, nobody is told; what is sent meanwhile arrives afterwards.</summary>
    Partition,
    /// <summary>Every piece is late by up to a third of a second, each direction by itself, so the two overtake each other.</summary>
    Delay,
    /// <summary>The next piece towards the learner goes twice: frames that come again in the middle of a connection.</summary>
    Repeat,
    /// <summary>The next piece towards the learner arrives with its second half before its first.</summary>
    Swap,
    /// <summary>Half of the next piece goes, then both ends are cut.</summary>
    Truncate,
    /// <summary>Both ends are cut, with a reset.</summary>
    Cut,
}

internal sealed class FaultProxy : IDisposable
{
    private const int LongestDelay = 333;

    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly IPEndPoint _target;
    private readonly CancellationTokenSource _stop = new();
    private readonly ConcurrentDictionary<Socket, byte> _sockets = [];
    private readonly List<Socket> _ghosts = [];
    private volatile LinkFault _fault;
    private volatile bool _ghosting;
    private int _struck;

    public FaultProxy(string target)
    {
        _target = IPEndPoint.Parse(target);
        _listener.Start();
        _ = AcceptAsync();
    }

    /// <summary>Where workers connect.</summary>
    public string Address => $"127.0.0.1:{((IPEndPoint)_listener.LocalEndpoint).Port}";

    /// <summary>How often a fault that strikes once (repeat, swap, truncate) has struck.</summary>
    public int Struck => Volatile.Read(ref _struck);

    public void Set(LinkFault fault)
    {
        _fault = fault;
        if (fault != LinkFault.Cut) return;
        foreach (var socket in _sockets.Keys) socket.Close(timeout: 0); // a reset
        _fault = LinkFault.None;
    }

    /// <summary>
    /// From now on every new connection is played to the learner twice, byte for byte, as if its sender had a double; what the double is
    /// answered goes nowhere. False ends the doubles.
    /// </summary>
    public void Double(bool on)
    {
        _ghosting = on;
        if (on) return;
        lock (_ghosts)
        {
            foreach (var ghost in _ghosts) ghost.Close(timeout: 0);
            _ghosts.Clear();
        }
    }

    public void Dispose()
    {
        _stop.Cancel();
        _listener.Stop();
        foreach (var socket in _sockets.Keys) socket.Dispose();
        Double(on: false);
    }

    private async Task AcceptAsync()
    {
        try
        {
            while (true) _ = ServeAsync(await _listener.AcceptSocketAsync(_stop.Token));
        }
        catch (Exception e) when (e is OperationCanceledException or SocketException or ObjectDisposedException)
        {
            // The proxy has ended.
        }
    }

    private async Task ServeAsync(Socket client)
    {
        using var server = new Socket(_target.AddressFamily, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        client.NoDelay = true;
        try
        {
            _sockets[client] = _sockets[server] = 0;
            await PassableAsync();
            await server.ConnectAsync(_target, _stop.Token);
            var ghost = _ghosting ? await GhostAsync() : null;
            await Task.WhenAny(PumpAsync(client, server, upward: true, ghost), PumpAsync(server, client, upward: false, ghost: null));
        }
        catch (Exception e) when (e is OperationCanceledException or SocketException or ObjectDisposedException)
        {
            // One of the two is gone; the other is told below.
        }
        finally
        {
            _sockets.TryRemove(client, out _);
            _sockets.TryRemove(server, out _);
            client.Dispose();
        }
    }

    private async Task<Socket> GhostAsync()
    {
        var ghost = new Socket(_target.AddressFamily, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        await ghost.ConnectAsync(_target, _stop.Token);
        lock (_ghosts) _ghosts.Add(ghost);
        _ = Task.Run(async () =>
        {
            var ignored = new byte[4096];
            try
            {
                while (await ghost.ReceiveAsync(ignored, _stop.Token) > 0)
                {
                    // What a double is told goes nowhere.
                }
            }
            catch (Exception e) when (e is OperationCanceledException or SocketException or ObjectDisposedException)
            {
                // The double has ended.
            }
        });
        return ghost;
    }

    private async Task PassableAsync()
    {
        while (_fault == LinkFault.Partition) await Task.Delay(10, _stop.Token);
    }

    private async Task PumpAsync(Socket from, Socket to, bool upward, Socket? ghost)
    {
        var buffer = new byte[16 * 1024];
        try
        {
            while (await from.ReceiveAsync(buffer, _stop.Token) is > 0 and var n)
            {
                await PassableAsync();
                if (_fault == LinkFault.Delay) await Task.Delay(Random.Shared.Next(LongestDelay), _stop.Token);
                var piece = buffer.AsMemory(0, n);
                if (upward && n > 1 && Strikes() is { } fault)
                {
                    var half = piece.Length / 2;
                    if (fault == LinkFault.Repeat) await to.SendAsync(piece, _stop.Token);
                    if (fault == LinkFault.Swap) piece = (byte[])[.. piece[half..].Span, .. piece[..half].Span];
                    if (fault == LinkFault.Truncate)
                    {
                        await to.SendAsync(piece[..half], _stop.Token);
                        return;
                    }
                }

                await SendAllAsync(to, piece);
                if (ghost is { Connected: true }) await SendAllAsync(ghost, piece, mayFail: true);
            }
        }
        catch (Exception e) when (e is OperationCanceledException or SocketException or ObjectDisposedException)
        {
            // One of the two is gone; the caller ends the other.
        }
    }

    /// <summary>The fault that strikes now, if it is one that strikes once; there is none afterwards.</summary>
    private LinkFault? Strikes()
    {
        if (_fault is not (LinkFault.Repeat or LinkFault.Swap or LinkFault.Truncate)) return null;
        lock (_listener)
        {
            if (_fault is not (LinkFault.Repeat or LinkFault.Swap or LinkFault.Truncate)) return null;
            var fault = _fault;
            _fault = LinkFault.None;
            Interlocked.Increment(ref _struck);
            return fault;
        }
    }

    private async Task SendAllAsync(Socket to, ReadOnlyMemory<byte> bytes, bool mayFail = false)
    {
        try
        {
            while (bytes.Length > 0) bytes = bytes[await to.SendAsync(bytes, _stop.Token)..];
        }
        catch (Exception e) when (mayFail && e is SocketException or ObjectDisposedException)
        {
            // The double has ended.
        }
    }
}
