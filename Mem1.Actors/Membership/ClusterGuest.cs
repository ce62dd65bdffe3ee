// Keeps: the process that is a guest does its own work whatever happens here; the learner is asked again for as long as this lives.
using Grpc.Core;
using Grpc.Net.Client;
using Mem1.Protocol.Security;
using Mem1.Protocol.V1;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace Mem1.Actors;

/// <summary>
/// The node of a process that is no worker (a dashboard, a retriever): it asks the learner where the cluster is, and joins it while there is one.
/// </summary>
public sealed partial class ClusterGuest : IAsyncDisposable
{
    // A learner that came back has another node; until then the old one's absence is noticed anyway.
    private static readonly TimeSpan AskInterval = TimeSpan.FromSeconds(5);

    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(10);

    private readonly CancellationTokenSource _stop = new();
    private readonly ILogger _log;
    private readonly Task _running;

    private ClusterGuest(Uri learner, ChannelSecurity security, ClusterNodeOptions options, ILoggerFactory? loggers)
    {
        _log = (loggers ?? NullLoggerFactory.Instance).CreateLogger<ClusterGuest>();
        Node = ClusterNode.Start(options, loggers);
        _running = AskAsync(learner, security);
    }

    /// <summary>The node, which has no place before the learner has said of a cluster.</summary>
    public ClusterNode Node { get; }

    /// <summary>Begins to ask; returns at once.</summary>
    /// <param name="learner">Where it listens, http or https.</param>
    /// <param name="security">Who this process is.</param>
    /// <param name="options">Of the node: its role, and where others reach it.</param>
    /// <param name="loggers">Where to log; nowhere if null.</param>
    /// <exception cref="ArgumentException">The options contradict themselves.</exception>
    public static ClusterGuest Start(Uri learner, ChannelSecurity security, ClusterNodeOptions options, ILoggerFactory? loggers = null) =>
        new(learner, security, options, loggers);

    /// <summary>Leaves the cluster and ends.</summary>
    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync().ConfigureAwait(false);
        await _running.ConfigureAwait(false);
        await Node.DisposeAsync().ConfigureAwait(false);
        _stop.Dispose();
    }

    private async Task AskAsync(Uri learner, ChannelSecurity security)
    {
        var (channel, invoker) = LearnerChannel.Open(learner, security, new GrpcChannelOptions());
        using var ours = channel;
        var client = new MembershipService.MembershipServiceClient(invoker);
        StatusCode? told = null;
        while (!_stop.IsCancellationRequested)
        {
            try
            {
                var reply = await client.FindAsync(new FindRequest(), deadline: DateTime.UtcNow + Deadline, cancellationToken: _stop.Token)
                    .ConfigureAwait(false);
                if (reply.Cluster is { } seed) Node.Follow(seed);
                told = null;
            }
            catch (RpcException e)
            {
                // A learner that is not there yet is nothing to speak of; one that says no is, once.
                if (e.StatusCode is not (StatusCode.Unavailable or StatusCode.DeadlineExceeded or StatusCode.Cancelled) && e.StatusCode != told)
                    LogRefused(_log, learner, e.Status.Detail);
                told = e.StatusCode;
            }

            await Task.Delay(AskInterval, _stop.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message =
        "The learner at {Learner} does not say where its cluster is ({Reason}), so this process is not shown among its nodes. Nothing else needs it.")]
    private static partial void LogRefused(ILogger logger, Uri learner, string reason);
}
