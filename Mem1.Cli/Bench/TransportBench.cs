// Keeps: the learner's service is the product's; both ends and raw TCP run in this one process, so all three have the same processors.
// Ways alternate and the fastest of each counts, so that a busy moment of the machine spoils no ratio.
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Grpc.Core;
using Grpc.Net.Client;
using Mem1.Actors;
using Mem1.Learner;
using Mem1.Model;
using Mem1.Protocol;
using Mem1.Protocol.Security;
using Mem1.Protocol.V1;

namespace Mem1.Cli.Bench;

/// <summary>Sub-trajectories up the duplex streams, each acknowledged.</summary>
/// <param name="Streams">Connections.</param>
/// <param name="PerSecond">Sub-trajectories acknowledged per second.</param>
/// <param name="MegabytesPerSecond">Their bytes on the wire, in 10^6.</param>
/// <param name="BytesEach">Of one.</param>
/// <param name="ShareOfTcp">Of what raw TCP carries over as many connections.</param>
internal sealed record UpstreamRow(int Streams, double PerSecond, double MegabytesPerSecond, int BytesEach, double ShareOfTcp);

/// <summary>A way of moving bytes to all receivers.</summary>
/// <param name="Seconds">Until the last has them, connections included.</param>
/// <param name="MegabytesPerSecond">To all of them together, in 10^6.</param>
/// <param name="ShareOfTcp">Of what raw TCP did in the same run.</param>
/// <param name="CpuNanosecondsPerByte">Of this process, both ends and the kernel's part included.</param>
internal sealed record TransportWay(double Seconds, double MegabytesPerSecond, double ShareOfTcp, double CpuNanosecondsPerByte);

/// <summary>One version of the weights to several workers at once.</summary>
/// <param name="Receivers">Workers, a connection each.</param>
/// <param name="Tcp">Raw TCP.</param>
/// <param name="Direct">As workers fetch them, but neither kept nor verified: what compares with raw TCP.</param>
/// <param name="Verified">As workers fetch them: into memory of their own, hashed meanwhile. Null where that is too much memory.</param>
/// <param name="Grpc">Over gRPC, the way back where direct connections do not get through; neither kept nor verified.</param>
/// <param name="GrpcioMegabytesPerSecond">grpcio's C core at both ends, the same chunks; null when python3-grpcio is missing.</param>
internal sealed record BroadcastRow(
    int Receivers, TransportWay Tcp, TransportWay Direct, TransportWay? Verified, TransportWay Grpc, double? GrpcioMegabytesPerSecond);

/// <summary>What <c>mem1 bench transport</c> reports.</summary>
/// <param name="Machine">Measured on.</param>
/// <param name="WeightMebibytes">Size of the weights.</param>
/// <param name="Upstream">Sub-trajectories.</param>
/// <param name="Broadcast">Weights.</param>
internal sealed record TransportReport(
    MachineInfo Machine, int WeightMebibytes, IReadOnlyList<UpstreamRow> Upstream, IReadOnlyList<BroadcastRow> Broadcast)
{
    public string Table()
    {
        var c = CultureInfo.InvariantCulture;
        var lines = new List<string> { $"{Machine}", "sub-trajectories, acknowledged", " streams        /s     MB/s  of raw TCP" };
        lines.AddRange(Upstream.Select(r => string.Create(
            c, $"{r.Streams,8} {r.PerSecond,9:0} {r.MegabytesPerSecond,8:0.0} {r.ShareOfTcp,11:0.0%}")));
        lines.Add($"weights of {WeightMebibytes} MiB");
        lines.Add("receivers  way             MB/s  of raw TCP  CPU ns/byte");
        foreach (var row in Broadcast)
        {
            foreach (var (name, way) in new[]
            {
                ("raw TCP", row.Tcp), ("direct", row.Direct), ("and verified", row.Verified), ("gRPC", row.Grpc),
            })
            {
                if (way is null) continue;
                lines.Add(string.Create(
                    c, $"{row.Receivers,9}  {name,-12} {way.MegabytesPerSecond,7:0} {way.ShareOfTcp,11:0.0%} {way.CpuNanosecondsPerByte,12:0.00}"));
            }

            if (row.GrpcioMegabytesPerSecond is { } g) lines.Add(string.Create(c, $"{row.Receivers,9}  {"grpcio",-12} {g,7:0}"));
        }

        return string.Join('\n', lines) + "\n";
    }
}

/// <summary>Measures gRPC between learner and workers.</summary>
internal static class TransportBench
{
    // Where a receiver puts what arrives; wraps around, so that sixteen of them fit a small machine.
    private const int Destination = 64 << 20;

    // Sub-trajectories on the way at once on a stream, as with a worker of a few hundred episodes.
    private const int Window = 256;

    // Memory that receivers keep at once, in MiB: more of it is not measured.
    private const int MostKept = 4096;

    private static readonly TimeSpan UpstreamTime = TimeSpan.FromSeconds(2);

    /// <summary>Runs it.</summary>
    /// <param name="mebibytes">Of the weights.</param>
    /// <param name="receivers">Numbers of receivers.</param>
    /// <param name="streams">Numbers of streams.</param>
    /// <param name="rounds">Of each way; the fastest counts.</param>
    /// <param name="progress">Told what happens.</param>
    /// <param name="cancellationToken">Gives up.</param>
    public static async Task<TransportReport> Run(
        int mebibytes, int[] receivers, int[] streams, int rounds, Action<string> progress, CancellationToken cancellationToken)
    {
        var machine = MachineInfo.Describe();
        var weights = Weights((long)mebibytes << 20);
        var publisher = new WeightPublisher(_ => weights);
        publisher.Publish(new ModelWeights(new Dictionary<string, WeightTensor>()), 0);
        var host = await LearnerHost.StartAsync(
            new LearnerHostOptions { Limits = new TrajectoryLimits(FleetWire.Vocabulary, FleetWire.Positions) }, publisher,
            modelFingerprint: 1, loggers: null, cancellationToken).ConfigureAwait(false);
        await using var _ = host.ConfigureAwait(false);
        var destinations = Enumerable.Range(0, Math.Max(receivers.Max(), streams.Max())).Select(_ => new byte[1 << 20]).ToArray();
        for (var i = 0; i < receivers.Max(); i++)
        {
            destinations[i] = new byte[Math.Min(Destination, weights.Length)];
            destinations[i].AsSpan().Fill(1); // or its first use would pay for its pages
        }

        var upstream = new List<UpstreamRow>();
        foreach (var count in streams)
        {
            progress($"sub-trajectories over {count} streams");
            var best = await UpAsync(host.Address, count, cancellationToken).ConfigureAwait(false);
            var bytes = (long)Math.Max(1 << 20, (256L << 20) / count);
            var raw = await RawTcp.SendAsync(count, bytes, destinations, cancellationToken).ConfigureAwait(false);
            var megabytes = best.PerSecond * best.Bytes / 1e6;
            upstream.Add(new UpstreamRow(count, best.PerSecond, megabytes, best.Bytes, megabytes / (count * bytes / 1e6 / raw)));
        }

        var broadcast = new List<BroadcastRow>();
        foreach (var count in receivers)
        {
            progress($"weights to {count} receivers");
            var ways = new (double Seconds, double Cpu)[4];
            Array.Fill(ways, (double.MaxValue, double.MaxValue));
            var peer = default(double?);
            for (var round = 0; round < rounds; round++)
            {
                await TimeAsync(0, () => RawTcp.SendAsync(count, weights.Length, destinations, cancellationToken)).ConfigureAwait(false);
                await TimeAsync(1, () => DirectAsync(host.Address, count, weights.Length, destinations, cancellationToken)).ConfigureAwait(false);
                if ((long)count * mebibytes <= MostKept)
                    await TimeAsync(2, () => VerifiedAsync(host.Address, count, weights.Length, cancellationToken)).ConfigureAwait(false);
                await TimeAsync(3, () => DownAsync(host.Address, count, weights.Length, destinations, cancellationToken)).ConfigureAwait(false);
                if (await GrpcioAsync(count, weights.Length, cancellationToken).ConfigureAwait(false) is { } seconds)
                    peer = Math.Min(peer ?? double.MaxValue, seconds);
            }

            var all = count * (double)weights.Length;
            TransportWay Way(int i) => new(ways[i].Seconds, all / 1e6 / ways[i].Seconds, ways[0].Seconds / ways[i].Seconds, ways[i].Cpu * 1e9 / all);
            broadcast.Add(new BroadcastRow(
                count, Way(0), Way(1), ways[2].Seconds < double.MaxValue ? Way(2) : null, Way(3), all / 1e6 / peer));

            async Task TimeAsync(int way, Func<Task<double>> run)
            {
                using var process = Process.GetCurrentProcess();
                var before = process.TotalProcessorTime;
                var seconds = await run().ConfigureAwait(false);
                process.Refresh();
                var cpu = (process.TotalProcessorTime - before).TotalSeconds;
                ways[way] = (Math.Min(ways[way].Seconds, seconds), Math.Min(ways[way].Cpu, cpu));
            }
        }

        return new TransportReport(machine, mebibytes, upstream, broadcast);
    }

    private static ByteBlob Weights(long length)
    {
        using var writer = new ByteBlobWriter(length);
        while (writer.Position < length)
        {
            var next = writer.Free(int.MaxValue);
            Random.Shared.NextBytes(next.Span);
            writer.Advance(next.Length);
        }

        return writer.Finish();
    }

    private static GrpcChannel Channel(Uri address) => GrpcChannel.ForAddress(address, new GrpcChannelOptions
    {
        MaxReceiveMessageSize = 16 << 20,
        DisposeHttpClient = true,
        HttpHandler = new SocketsHttpHandler(),
    });

    /// <summary>Turns of episodes that nobody waits for: they are read, looked up and acknowledged. Assembly is measured by the fleet.</summary>
    private static async Task<(double PerSecond, int Bytes)> UpAsync(Uri address, int streams, CancellationToken cancellationToken)
    {
        var lease = new TaskLease { EpisodeId = "nobody's", TaskId = "nobody's", Seed = 3, Task = new TaskBody() };
        var message = new WorkerMessage { SubTrajectory = FleetWire.Turn(lease, turn: 1, version: 0) };
        var moreFollows = new WriteOptions(WriteFlags.BufferHint);
        long acknowledged = 0;
        using var done = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var running = Enumerable.Range(0, streams).Select(i => Task.Run(
            async () =>
            {
                using var channel = Channel(address);
                using var call = new LearnerService.LearnerServiceClient(channel).Connect(cancellationToken: done.Token);
                var hello = new Hello { WorkerId = $"up-{i}", ProtocolVersion = 1, MaxEpisodes = 1 };
                await call.RequestStream.WriteAsync(new WorkerMessage { Hello = hello }, done.Token).ConfigureAwait(false);
                using var window = new SemaphoreSlim(Window);
                var reading = Task.Run(
                    async () =>
                    {
                        while (await call.ResponseStream.MoveNext(done.Token).ConfigureAwait(false))
                        {
                            if (call.ResponseStream.Current.BodyCase != LearnerMessage.BodyOneofCase.Ack) continue;
                            Interlocked.Increment(ref acknowledged);
                            window.Release();
                        }
                    },
                    done.Token);
                try
                {
                    while (!done.IsCancellationRequested)
                    {
                        await window.WaitAsync(done.Token).ConfigureAwait(false);
                        // As a worker's link: what has others behind it needs no packet of its own.
                        call.RequestStream.WriteOptions = window.CurrentCount > 0 ? moreFollows : null;
                        await call.RequestStream.WriteAsync(message, done.Token).ConfigureAwait(false);
                    }
                }
                catch (Exception e) when (done.IsCancellationRequested && e is OperationCanceledException or RpcException or InvalidOperationException)
                {
                    // The time is up.
                }

                await reading.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            },
            CancellationToken.None)).ToList();
        double best = 0;
        for (var slice = 0; slice < 3; slice++) // the first slice warms up; the better of the others counts
        {
            var (from, watch) = (Interlocked.Read(ref acknowledged), Stopwatch.StartNew());
            await Task.Delay(UpstreamTime, cancellationToken).ConfigureAwait(false);
            if (slice > 0) best = Math.Max(best, (Interlocked.Read(ref acknowledged) - from) / watch.Elapsed.TotalSeconds);
        }

        await done.CancelAsync().ConfigureAwait(false);
        await Task.WhenAll(running).ConfigureAwait(false);
        return (best, message.CalculateSize() + 5); // gRPC's prefix
    }

    /// <summary>Over connections of their own, as a worker does it.</summary>
    private static Task<double> DirectAsync(
        Uri address, int receivers, long bytes, byte[][] destinations, CancellationToken cancellationToken) => AllAsync(receivers, async i =>
    {
        var (first, body) = await DirectWeights.OpenAsync(
            address, ChannelSecurity.None, new PullWeightsRequest(), cancellationToken).ConfigureAwait(false);
        await using var _ = body.ConfigureAwait(false);
        var into = destinations[i];
        for (long got = 0; got < bytes;)
        {
            var at = (int)(got % into.Length);
            var room = into.AsMemory(at, Math.Min(WeightsDownload.AtOnce, into.Length - at));
            var n = await body.ReadAsync(room, cancellationToken).ConfigureAwait(false);
            if (n == 0) throw new IOException($"{got} of {first.TotalBytes} bytes of weights arrived.");
            got += n;
        }
    });

    /// <summary>A worker's whole download.</summary>
    private static Task<double> VerifiedAsync(Uri address, int receivers, long bytes, CancellationToken cancellationToken)
    {
        GC.Collect(); // what the round before kept
        return AllAsync(receivers, async _ =>
        {
            using var channel = Channel(address);
            var download = new WeightsDownload(
                new LearnerService.LearnerServiceClient(channel),
                (request, cancellation) => DirectWeights.OpenAsync(address, ChannelSecurity.None, request, cancellation), bytes);
            var pulled = await download.PullAsync(0, held: null, DateTime.UtcNow.AddHours(1), cancellationToken).ConfigureAwait(false);
            if (pulled.DirectFailure is { } failure) throw new IOException("The weights came another way.", failure);
        });
    }

    private static Task<double> DownAsync(
        Uri address, int receivers, long bytes, byte[][] destinations, CancellationToken cancellationToken) => AllAsync(receivers, async i =>
    {
        using var channel = Channel(address);
        using var call = new LearnerService.LearnerServiceClient(channel).PullWeights(
            new PullWeightsRequest { PolicyVersion = 0 }, cancellationToken: cancellationToken);
        var into = destinations[i];
        long got = 0;
        while (await call.ResponseStream.MoveNext(cancellationToken).ConfigureAwait(false))
        {
            var data = call.ResponseStream.Current.Data.Span;
            for (var rest = data; rest.Length > 0;)
            {
                var at = (int)(got % into.Length);
                var n = Math.Min(rest.Length, into.Length - at);
                rest[..n].CopyTo(into.AsSpan(at));
                rest = rest[n..];
                got += n;
            }
        }

        if (got != bytes) throw new IOException($"{got} of {bytes} bytes of weights arrived.");
    });

    /// <summary>Seconds until all receivers are done.</summary>
    private static async Task<double> AllAsync(int receivers, Func<int, Task> receive)
    {
        var watch = Stopwatch.StartNew();
        await Task.WhenAll(Enumerable.Range(0, receivers).Select(i => Task.Run(() => receive(i)))).ConfigureAwait(false);
        return watch.Elapsed.TotalSeconds;
    }

    /// <summary>bench/peers/grpc_weights.py, or null without it or python3-grpcio.</summary>
    private static async Task<double?> GrpcioAsync(int receivers, long bytes, CancellationToken cancellationToken)
    {
        if (PythonPeer.Script("grpc_weights.py") is not { } script) return null;
        var ended = await BenchProcess.Run(
            BenchProcess.Start(
                PythonPeer.Program, script, "--receivers", receivers.ToString(CultureInfo.InvariantCulture), "--bytes",
                bytes.ToString(CultureInfo.InvariantCulture), "--chunk", LearnerHost.WeightChunkBytes.ToString(CultureInfo.InvariantCulture)),
            cancellationToken).ConfigureAwait(false);
        if (ended is not { } peer || peer.Errors.Contains("No module named 'grpc'", StringComparison.Ordinal)) return null;
        if (peer.Code != 0)
            throw new UserErrorException($"bench/peers/grpc_weights.py ended with status {peer.Code}: {peer.Errors.Trim().Split('\n')[^1]}");
        return JsonDocument.Parse(peer.Output).RootElement.GetProperty("seconds").GetDouble();
    }
}
