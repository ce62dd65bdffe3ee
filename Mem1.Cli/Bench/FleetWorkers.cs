// Simulated rollout workers, many to a process: a fake policy behind the real stream. Keeps: every worker has a connection of its own; a lease
// that arrived is played to its end, over a broken stream too, as a real worker does (rollout.proto: Hello.held).
using System.Collections.Concurrent;
using System.Diagnostics;
using Grpc.Core;
using Grpc.Net.Client;
using Mem1.Protocol.V1;

namespace Mem1.Cli.Bench;

/// <summary>What the workers' process reports.</summary>
/// <param name="Leases">That arrived.</param>
/// <param name="Reconnects">Streams that were broken off on purpose and opened again.</param>
/// <param name="LatencyMilliseconds">From granting credit to the lease, where a task was waiting: median, 90th, 99th and 99.9th percentile.</param>
internal sealed record FleetWorkersReport(long Leases, long Reconnects, double[] LatencyMilliseconds);

/// <summary>The workers.</summary>
internal sealed class FleetWorkers(Uri learner, int workers, int breakEvery)
{
    private readonly ConcurrentBag<double> _latencies = [];
    private long _leases, _reconnects;

    /// <summary>Plays until the learner says that there is nothing left.</summary>
    public async Task<FleetWorkersReport> RunAsync(CancellationToken cancellationToken)
    {
        await Task.WhenAll(Enumerable.Range(0, workers).Select(i => Task.Run(() => WorkAsync(i, cancellationToken), cancellationToken)))
            .ConfigureAwait(false);
        double[] sorted = [.. _latencies.Order()];
        double At(double share) => sorted.Length == 0 ? double.NaN : sorted[Math.Min(sorted.Length - 1, (int)(share * sorted.Length))];
        return new FleetWorkersReport(_leases, _reconnects, [At(0.5), At(0.9), At(0.99), At(0.999)]);
    }

    private async Task WorkAsync(int number, CancellationToken cancellationToken)
    {
        using var channel = GrpcChannel.ForAddress(learner, new GrpcChannelOptions
        {
            DisposeHttpClient = true,
            HttpHandler = new SocketsHttpHandler(),
        });
        var client = new LearnerService.LearnerServiceClient(channel);
        var random = new Random(number);
        TaskLease? held = null;
        var sent = 0; // turns of the lease held that were acknowledged
        var until = random.Next(1, 2 * breakEvery);
        while (true)
        {
            using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
            try
            {
                using var call = client.Connect(cancellationToken: stop.Token);
                var hello = new Hello { WorkerId = $"fleet-{number}", ProtocolVersion = 1, MaxEpisodes = 1 };
                if (held is not null) hello.Held.Add(new HeldLease { EpisodeId = held.EpisodeId, Attempt = held.Attempt });
                await call.RequestStream.WriteAsync(new WorkerMessage { Hello = hello }, stop.Token).ConfigureAwait(false);
                long version = -1, granted = 0;
                Task GrantAsync()
                {
                    granted = Stopwatch.GetTimestamp();
                    return call.RequestStream.WriteAsync(new WorkerMessage { Credit = new LeaseCredit { Episodes = 1 } }, stop.Token);
                }

                Task PlayAsync() => call.RequestStream.WriteAsync(
                    new WorkerMessage { SubTrajectory = FleetWire.Turn(held!, sent, version) }, stop.Token);

                while (await call.ResponseStream.MoveNext(stop.Token).ConfigureAwait(false))
                {
                    var message = call.ResponseStream.Current;
                    switch (message.BodyCase)
                    {
                        case LearnerMessage.BodyOneofCase.Welcome:
                            version = message.Welcome.PolicyVersion;
                            await call.RequestStream.WriteAsync(
                                new WorkerMessage { WeightsApplied = new WeightsApplied { PolicyVersion = version } }, stop.Token)
                                .ConfigureAwait(false);
                            await (held is null ? GrantAsync() : PlayAsync()).ConfigureAwait(false);
                            break;
                        case LearnerMessage.BodyOneofCase.Lease when held is null:
                            _latencies.Add(Stopwatch.GetElapsedTime(granted).TotalMilliseconds);
                            Interlocked.Increment(ref _leases);
                            (held, sent) = (message.Lease, message.Lease.Prefix.Count);
                            await PlayAsync().ConfigureAwait(false);
                            break;
                        case LearnerMessage.BodyOneofCase.Ack when held is not null && message.Ack.EpisodeId == held.EpisodeId
                            && message.Ack.Attempt == held.Attempt && message.Ack.Turn == sent:
                            if (++sent == FleetWire.Turns(held))
                            {
                                held = null;
                                await GrantAsync().ConfigureAwait(false);
                            }
                            else
                            {
                                await PlayAsync().ConfigureAwait(false);
                            }

                            if (--until > 0) break;
                            // Broken off in the middle, as a network does it.
                            until = random.Next(1, 2 * breakEvery);
                            Interlocked.Increment(ref _reconnects);
                            await stop.CancelAsync().ConfigureAwait(false);
                            break;
                        case LearnerMessage.BodyOneofCase.Drain:
                            await call.RequestStream.CompleteAsync().ConfigureAwait(false);
                            return;
                    }
                }
            }
            catch (Exception e) when (e is RpcException or OperationCanceledException or InvalidOperationException
                && !cancellationToken.IsCancellationRequested)
            {
                // The stream is over, by this worker's doing or the learner's; what is held goes on over the next one.
                await Task.Delay(random.Next(1, 50), cancellationToken).ConfigureAwait(false);
            }
        }
    }
}
