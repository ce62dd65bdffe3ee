// Keeps: publishing never waits for a browser; a client that does not read loses messages, is told how many, and reads the whole state
// again; the number of clients is bounded.
using System.Collections.Concurrent;
using System.Threading.Channels;

namespace Mem1.Dashboard;

/// <summary>One server-sent event.</summary>
internal readonly record struct ServerEvent(string Name, string Data);

/// <summary>Hands events to every connected browser.</summary>
/// <param name="capacity">How many events wait for one client; more are dropped.</param>
internal sealed class EventHub(int capacity = EventHub.StandardCapacity)
{
    // A minute of a fast run.
    public const int StandardCapacity = 256;

    // A browser opens six connections to one address at most; this is many browsers.
    public const int MaxClients = 64;

    private readonly ConcurrentDictionary<Client, byte> _clients = [];
    private long _dropped;

    public int Clients => _clients.Count;

    /// <summary>Events dropped, over all clients there ever were.</summary>
    public long Dropped => Volatile.Read(ref _dropped);

    /// <summary>A new client, or null when there are too many.</summary>
    public Client? Connect()
    {
        if (_clients.Count >= MaxClients) return null;
        var client = new Client(this, capacity);
        _clients.TryAdd(client, 0);
        return client;
    }

    public void Publish(string name, string data)
    {
        foreach (var client in _clients.Keys)
        {
            if (!client.TryWrite(new ServerEvent(name, data))) Interlocked.Increment(ref _dropped);
        }
    }

    /// <summary>One browser's queue.</summary>
    internal sealed class Client(EventHub hub, int capacity) : IDisposable
    {
        private readonly Channel<ServerEvent> _queue = Channel.CreateBounded<ServerEvent>(
            new BoundedChannelOptions(capacity) { SingleReader = true, FullMode = BoundedChannelFullMode.Wait });

        private long _dropped;

        /// <summary>Events this client has lost.</summary>
        public long Dropped => Volatile.Read(ref _dropped);

        public bool TryWrite(ServerEvent e)
        {
            if (_queue.Writer.TryWrite(e)) return true;
            Interlocked.Increment(ref _dropped);
            return false;
        }

        /// <summary>
        /// Gives what comes, one after the other: null when nothing came for a while, and what was lost as an event of its own.
        /// </summary>
        public async Task ReadAsync(TimeSpan keepAlive, Func<ServerEvent?, Task> write, CancellationToken cancellationToken)
        {
            long told = 0;
            while (true)
            {
                using var patience = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
                patience.CancelAfter(keepAlive);
                try
                {
                    await _queue.Reader.WaitToReadAsync(patience.Token).ConfigureAwait(false);
                }
                catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
                {
                    await write(null).ConfigureAwait(false);
                    continue;
                }

                while (_queue.Reader.TryRead(out var e)) await write(e).ConfigureAwait(false);
                if (Dropped is var lost && lost > told)
                {
                    told = lost;
                    await write(new ServerEvent("dropped", Json.Write(new { Count = lost }))).ConfigureAwait(false);
                }
            }
        }

        public void Dispose() => hub._clients.TryRemove(this, out _);
    }
}
