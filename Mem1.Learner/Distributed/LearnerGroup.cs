// Learners of one group: a ring of TCP connections that sums, and one connection from every learner to rank 0 for what rank 0 has to say.
// Keeps:
//  * every chunk of a sum is added up in one place and copied from there, so all ranks hold the same bits;
//  * nothing waits for ever in a sum: a rank that neither sends nor receives for the deadline is lost, and whoever finds out closes its
//    own connections, so that the loss goes around the ring at once;
//  * between updates ranks wait for rank 0 as long as it lives; the kernel's keep-alive notices a host that is gone.
using System.Buffers;
using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using System.Numerics;
using System.Runtime.InteropServices;
using System.Text.Json;

namespace Mem1.Learner;

/// <summary>How a group of learners meets.</summary>
/// <param name="Rank">Of this one, from 0; rank 0 listens at the rendezvous.</param>
/// <param name="World">How many there are.</param>
/// <param name="Rendezvous">HOST:PORT of rank 0.</param>
public sealed record LearnerGroupOptions(int Rank, int World, DnsEndPoint Rendezvous)
{
    /// <summary>How long a rank may neither send nor receive within a sum.</summary>
    public TimeSpan Deadline { get; init; } = TimeSpan.FromMinutes(5);

    /// <summary>How long the ranks wait for each other at the start.</summary>
    public TimeSpan JoinDeadline { get; init; } = TimeSpan.FromMinutes(10);
}

/// <summary>
/// A ring all-reduce over TCP (Patarasuk and Yuan 2009): each of N ranks sends 2 (N - 1) / N of the values, whatever N is. Whoever can
/// reach the rendezvous can join: use it within one trust domain. Not thread-safe.
/// </summary>
public sealed class LearnerGroup : IGradientReducer, IDisposable
{
    private const int Protocol = 1;

    // A frame holds the weights of a model at most; a length beyond this is not from one of us.
    private const int MaxFrame = int.MaxValue / 2;

    private readonly LearnerGroupOptions _options;
    private readonly Socket?[] _star; // rank 0: one per other rank; others: rank 0 at index 0
    private readonly Socket _next;
    private readonly Socket _previous;
    private bool _lost;

    private LearnerGroup(LearnerGroupOptions options, Socket?[] star, Socket next, Socket previous)
    {
        (_options, _star, _next, _previous) = (options, star, next, previous);
        foreach (var socket in new[] { next, previous })
        {
            socket.SendTimeout = socket.ReceiveTimeout = (int)options.Deadline.TotalMilliseconds;
        }
    }

    /// <inheritdoc/>
    public int Rank => _options.Rank;

    /// <inheritdoc/>
    public int World => _options.World;

    /// <summary>Waits for all ranks and connects them.</summary>
    /// <exception cref="LearnerException">A rank did not come in time, or does not fit.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public static LearnerGroup Join(LearnerGroupOptions options, CancellationToken cancellationToken)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(options.World, 2);
        using var listener = options.Rank == 0 ? Listen(options.Rendezvous.Port) : Listen(0);
        return Join(options, listener, cancellationToken);
    }

    /// <summary>A listener for rank 0 on a free port of loopback, to be told to others before they join.</summary>
    public static Socket ListenOnLoopback()
    {
        var listener = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        listener.Listen();
        return listener;
    }

    /// <summary>As <see cref="Join(LearnerGroupOptions, CancellationToken)"/>, over a listener that is there already.</summary>
    public static LearnerGroup Join(LearnerGroupOptions options, Socket listener, CancellationToken cancellationToken)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(options.JoinDeadline);
        var made = new List<Socket>();
        try
        {
            return (options.Rank == 0 ? Gather(options, listener, made, limit.Token) : Enter(options, listener, made, limit.Token))
                .GetAwaiter().GetResult();
        }
        catch (Exception e) when (e is SocketException or IOException or OperationCanceledException or JsonException or LearnerException)
        {
            foreach (var socket in made) socket.Dispose();
            cancellationToken.ThrowIfCancellationRequested();
            if (e is LearnerException) throw;
            var at = $"{options.Rendezvous.Host}:{options.Rendezvous.Port}";
            throw new LearnerException(
                e is OperationCanceledException
                    ? $"Not all {options.World} learners came to {at} within {options.JoinDeadline.TotalSeconds:0} s: start every rank with "
                        + "the same --world and --rendezvous."
                    : $"Learner {options.Rank} of {options.World} could not join the others at {at} ({e.Message}).", e);
        }
    }

    /// <inheritdoc/>
    public void Sum(Span<float> values) => Reduce(values);

    /// <inheritdoc/>
    public void Sum(Span<double> values) => Reduce(values);

    /// <summary>Rank 0 only: sends a message to every other rank.</summary>
    /// <exception cref="LearnerException">A rank is lost.</exception>
    public void Broadcast(byte kind, ReadOnlySpan<byte> payload)
    {
        if (Rank != 0) throw new InvalidOperationException("Only rank 0 broadcasts.");
        Span<byte> head = stackalloc byte[5];
        BinaryPrimitives.WriteInt32LittleEndian(head, payload.Length);
        head[4] = kind;
        for (var rank = 1; rank < World; rank++)
        {
            try
            {
                Send(_star[rank]!, head);
                Send(_star[rank]!, payload);
            }
            catch (SocketException e)
            {
                throw Lost(rank, e);
            }
        }
    }

    /// <summary>Other ranks: waits for the next message of rank 0.</summary>
    /// <exception cref="LearnerException">Rank 0 is lost.</exception>
    public (byte Kind, byte[] Payload) Receive()
    {
        if (Rank == 0) throw new InvalidOperationException("Rank 0 is who the others receive from.");
        try
        {
            var head = new byte[5];
            Receive(_star[0]!, head);
            var length = BinaryPrimitives.ReadInt32LittleEndian(head);
            if (length is < 0 or > MaxFrame) throw new SocketException((int)SocketError.ProtocolNotSupported);
            var payload = new byte[length];
            Receive(_star[0]!, payload);
            return (head[4], payload);
        }
        catch (SocketException e)
        {
            throw Lost(0, e);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var socket in _star) socket?.Dispose();
        _next.Dispose();
        _previous.Dispose();
    }

    private void Reduce<T>(Span<T> values)
        where T : unmanaged, INumberBase<T>
    {
        if (_lost) throw new LearnerException("The group of learners is broken; start every rank again.");
        var world = World;
        var part = (values.Length + world - 1) / world;
        var buffer = ArrayPool<T>.Shared.Rent(Math.Max(1, part));
        var outgoing = ArrayPool<byte>.Shared.Rent(Math.Max(1, part * Marshal.SizeOf<T>()));
        try
        {
            // After step s of the first half a rank holds the sum of s + 2 ranks for one part; after the last, of all. The second half
            // sends the finished parts around.
            for (var step = 0; step < 2 * (world - 1); step++)
            {
                var adding = step < world - 1;
                var first = adding ? Rank - step : Rank + 1 - (step - (world - 1));
                var sent = Part(values, first, part, world);
                var received = Part(values, first - 1, part, world);
                MemoryMarshal.AsBytes(sent).CopyTo(outgoing);
                var count = MemoryMarshal.AsBytes(sent).Length;
                var sending = Task.Run(() => Send(_next, outgoing.AsSpan(0, count)));
                var into = adding ? buffer.AsSpan(0, received.Length) : received;
                try
                {
                    Receive(_previous, MemoryMarshal.AsBytes(into));
                }
                catch (SocketException e)
                {
                    var lost = Lost((Rank + world - 1) % world, e); // closes the connections, which ends the sending too
                    ((IAsyncResult)sending).AsyncWaitHandle.WaitOne();
                    _ = sending.Exception; // seen: the cause is what is thrown
                    throw lost;
                }

                try
                {
                    sending.GetAwaiter().GetResult();
                }
                catch (SocketException e)
                {
                    throw Lost((Rank + 1) % world, e);
                }

                if (adding) Add(received, into);
            }
        }
        finally
        {
            ArrayPool<T>.Shared.Return(buffer);
            ArrayPool<byte>.Shared.Return(outgoing);
        }
    }

    private static Span<T> Part<T>(Span<T> values, int index, int part, int world)
    {
        var at = ((index % world) + world) % world;
        var start = Math.Min(values.Length, at * part);
        return values[start..Math.Min(values.Length, start + part)];
    }

    private static void Add<T>(Span<T> into, ReadOnlySpan<T> other)
        where T : unmanaged, INumberBase<T>
    {
        var wide = MemoryMarshal.Cast<T, Vector<T>>(into);
        var wideOther = MemoryMarshal.Cast<T, Vector<T>>(other);
        for (var i = 0; i < wide.Length; i++) wide[i] += wideOther[i];
        for (var i = wide.Length * Vector<T>.Count; i < into.Length; i++) into[i] += other[i];
    }

    private LearnerException Lost(int rank, SocketException e)
    {
        _lost = true;
        var where = "";
        try
        {
            if (Rank == 0) where = $" at {_star[rank]?.RemoteEndPoint}";
        }
        catch (Exception gone) when (gone is ObjectDisposedException or SocketException)
        {
            // The address of a connection that is gone is not known any more; the sentence does without.
        }

        Dispose(); // so that the others find out at once
        var how = e.SocketErrorCode == SocketError.TimedOut
            ? $"it was silent for {_options.Deadline.TotalSeconds:0} s" : "its connection closed";
        return new LearnerException(
            $"Learner {rank} of {World}{where} is lost ({how}), or another learner that it waited for: nothing of this update counts; "
            + "start every rank again, rank 0 with --resume, to go on from the last checkpoint.", e);
    }

    private static Socket Listen(int port)
    {
        var listener = Socket.OSSupportsIPv6
            ? new Socket(AddressFamily.InterNetworkV6, SocketType.Stream, ProtocolType.Tcp) { DualMode = true }
            : new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new IPEndPoint(Socket.OSSupportsIPv6 ? IPAddress.IPv6Any : IPAddress.Any, port));
        listener.Listen();
        return listener;
    }

    /// <summary>Rank 0: takes everybody in, then tells each who comes after it.</summary>
    private static async Task<LearnerGroup> Gather(
        LearnerGroupOptions options, Socket listener, List<Socket> made, CancellationToken limit)
    {
        var star = new Socket?[options.World];
        var ports = new int[options.World];
        for (var joined = 1; joined < options.World; joined++)
        {
            var socket = Own(await listener.AcceptAsync(limit).ConfigureAwait(false), made);
            var hello = await ReceiveJson<Hello>(socket, limit).ConfigureAwait(false);
            if (hello.Mem1 != Protocol || hello.World != options.World || hello.Rank < 1 || hello.Rank >= options.World)
                throw new LearnerException(
                    $"A learner came as rank {hello.Rank} of {hello.World} (protocol {hello.Mem1}) to a group of {options.World} (protocol "
                    + $"{Protocol}): start every rank with the same program and the same --world.");
            if (star[hello.Rank] is not null)
                throw new LearnerException($"Two learners came as rank {hello.Rank} of {options.World}: give each its own --rank.");
            (star[hello.Rank], ports[hello.Rank]) = (socket, hello.Port);
        }

        IPEndPoint Address(int rank) => new(((IPEndPoint)star[rank]!.RemoteEndPoint!).Address, ports[rank]);
        for (var rank = 1; rank < options.World; rank++)
        {
            var after = rank + 1 == options.World ? null : Address(rank + 1).ToString();
            await SendJson(star[rank]!, new Welcome(after, options.Deadline.TotalSeconds), limit).ConfigureAwait(false);
        }

        var first = Address(1);
        var next = Own(new Socket(first.AddressFamily, SocketType.Stream, ProtocolType.Tcp), made);
        await next.ConnectAsync(first, limit).ConfigureAwait(false);
        var previous = Own(await listener.AcceptAsync(limit).ConfigureAwait(false), made);
        foreach (var socket in star) socket?.SendTimeout = (int)options.Deadline.TotalMilliseconds;
        return new LearnerGroup(options, star, next, previous);
    }

    /// <summary>Other ranks: goes to rank 0, which may still be starting, and from there to the next in the ring.</summary>
    private static async Task<LearnerGroup> Enter(
        LearnerGroupOptions options, Socket listener, List<Socket> made, CancellationToken limit)
    {
        Socket home;
        while (true)
        {
            home = new Socket(SocketType.Stream, ProtocolType.Tcp);
            try
            {
                await home.ConnectAsync(options.Rendezvous, limit).ConfigureAwait(false);
                break;
            }
            catch (SocketException)
            {
                home.Dispose();
                await Task.Delay(TimeSpan.FromMilliseconds(200), limit).ConfigureAwait(false); // often enough for a person waiting
            }
        }

        Own(home, made);
        var port = ((IPEndPoint)listener.LocalEndPoint!).Port;
        await SendJson(home, new Hello(Protocol, options.Rank, options.World, port), limit).ConfigureAwait(false);
        var welcome = await ReceiveJson<Welcome>(home, limit).ConfigureAwait(false);
        EndPoint after = welcome.Next is null ? options.Rendezvous : IPEndPoint.Parse(welcome.Next);
        var next = Own(new Socket(SocketType.Stream, ProtocolType.Tcp), made);
        await next.ConnectAsync(after, limit).ConfigureAwait(false);
        var previous = Own(await listener.AcceptAsync(limit).ConfigureAwait(false), made);
        return new LearnerGroup(
            options with { Deadline = TimeSpan.FromSeconds(welcome.DeadlineSeconds) }, [home], next, previous);
    }

    private static Socket Own(Socket socket, List<Socket> made)
    {
        made.Add(socket);
        socket.NoDelay = true;
        socket.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.KeepAlive, true);
        socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveTime, 30); // seconds; a host that vanished is found
        socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveInterval, 10); // out about in a minute
        return socket;
    }

    private static async Task SendJson<T>(Socket socket, T value, CancellationToken limit)
    {
        var body = JsonSerializer.SerializeToUtf8Bytes(value);
        var head = new byte[4];
        BinaryPrimitives.WriteInt32LittleEndian(head, body.Length);
        await socket.SendAsync((byte[])[.. head, .. body], limit).ConfigureAwait(false);
    }

    private static async Task<T> ReceiveJson<T>(Socket socket, CancellationToken limit)
    {
        const int longest = 4096; // a greeting is a hundred bytes; whatever knocks with more is not one of us
        async Task<byte[]> Exactly(int count)
        {
            var bytes = new byte[count];
            for (var at = 0; at < count;)
            {
                var read = await socket.ReceiveAsync(bytes.AsMemory(at), limit).ConfigureAwait(false);
                at += read > 0 ? read : throw new SocketException((int)SocketError.ConnectionReset);
            }

            return bytes;
        }

        var length = BinaryPrimitives.ReadInt32LittleEndian(await Exactly(4).ConfigureAwait(false));
        if (length is < 2 or > longest) throw new JsonException("a greeting that is not one of mem1's arrived");
        return JsonSerializer.Deserialize<T>(await Exactly(length).ConfigureAwait(false))
            ?? throw new JsonException("an empty greeting arrived");
    }

    private static void Send(Socket socket, ReadOnlySpan<byte> bytes)
    {
        while (bytes.Length > 0)
        {
            try
            {
                bytes = bytes[socket.Send(bytes)..];
            }
            catch (ObjectDisposedException)
            {
                throw new SocketException((int)SocketError.ConnectionAborted);
            }
        }
    }

    private static void Receive(Socket socket, Span<byte> bytes)
    {
        while (bytes.Length > 0)
        {
            int read;
            try
            {
                read = socket.Receive(bytes);
            }
            catch (ObjectDisposedException)
            {
                throw new SocketException((int)SocketError.ConnectionAborted);
            }

            if (read == 0) throw new SocketException((int)SocketError.ConnectionReset);
            bytes = bytes[read..];
        }
    }

    private sealed record Hello(int Mem1, int Rank, int World, int Port);

    private sealed record Welcome(string? Next, double DeadlineSeconds);
}
