// Invariants:
//  * Send never blocks and never throws; messages leave in the order they were given, one write at a time.
//  * Everything that comes in reaches the uplink in order, tagged with this link's number; LinkEnded is the last of it, exactly once.
using System.Threading.Channels;
using Akka.Actor;
using Grpc.Core;
using Mem1.Protocol.V1;
using Status = Grpc.Core.Status;

namespace Mem1.Actors;

/// <summary>One duplex stream to the learner.</summary>
internal sealed class LearnerLink : IDisposable
{
    private static readonly WriteOptions s_moreFollows = new(WriteFlags.BufferHint);

    private readonly CancellationTokenSource _stop = new();
    private readonly Channel<WorkerMessage> _outgoing =
        Channel.CreateUnbounded<WorkerMessage>(new UnboundedChannelOptions { SingleReader = true, SingleWriter = true });

    private LearnerLink(int number)
    {
        Number = number;
    }

    /// <summary>Which of an uplink's links this is.</summary>
    public int Number { get; }

    /// <summary>Opens the stream and says hello. Whatever goes wrong is reported as <see cref="LinkEnded"/>.</summary>
    public static LearnerLink Open(LearnerService.LearnerServiceClient client, int number, Hello hello, IActorRef uplink)
    {
        var link = new LearnerLink(number);
        link.Send(new WorkerMessage { Hello = hello });
        _ = Task.Run(() => link.RunAsync(client, uplink));
        return link;
    }

    /// <summary>Queues a message.</summary>
    public void Send(WorkerMessage message) => _outgoing.Writer.TryWrite(message);

    /// <summary>Ends this side of the stream after everything queued; the learner ends the other.</summary>
    public void CompleteSending() => _outgoing.Writer.TryComplete();

    /// <summary>Breaks the stream off.</summary>
    public void Dispose()
    {
        _outgoing.Writer.TryComplete();
        _stop.Cancel();
    }

    private async Task RunAsync(LearnerService.LearnerServiceClient client, IActorRef uplink)
    {
        var status = Status.DefaultSuccess;
        try
        {
            using var call = client.Connect(cancellationToken: _stop.Token);
            var writing = WriteAsync(call.RequestStream);
            await foreach (var message in call.ResponseStream.ReadAllAsync(_stop.Token).ConfigureAwait(false))
                uplink.Tell(new LinkReceived(Number, message), ActorRefs.NoSender);
            _outgoing.Writer.TryComplete();
            await writing.ConfigureAwait(false);
        }
        catch (RpcException failure)
        {
            status = failure.Status;
        }
        catch (OperationCanceledException)
        {
            status = new Status(StatusCode.Cancelled, "The worker broke the stream off.");
        }
        catch (Exception failure)
        {
            status = new Status(StatusCode.Unknown, failure.Message, failure);
        }
        uplink.Tell(new LinkEnded(Number, status), ActorRefs.NoSender);
    }

    private async Task WriteAsync(IClientStreamWriter<WorkerMessage> stream)
    {
        try
        {
            await foreach (var message in _outgoing.Reader.ReadAllAsync(_stop.Token).ConfigureAwait(false))
            {
                // What has others behind it needs no packet of its own; after a reconnect that is all that was not acknowledged.
                stream.WriteOptions = _outgoing.Reader.TryPeek(out _) ? s_moreFollows : null;
                await stream.WriteAsync(message).ConfigureAwait(false);
            }
            await stream.CompleteAsync().ConfigureAwait(false);
        }
        catch (Exception failure) when (failure is RpcException or OperationCanceledException or InvalidOperationException)
        {
            // The call is over. The reading side sees why and reports it; a write has nothing to add.
        }
        catch (Exception)
        {
            // A link that can no longer write is of no use: break it off, and the reading side reports that.
            await _stop.CancelAsync().ConfigureAwait(false);
            throw;
        }
    }
}
