// Keeps: file names are plain (nothing is ever written outside the folder the caller chooses); nothing is held beyond the bound, whatever
// the learner announces; a learner that is not there yet is waited for with back-off, one that says no is not asked again.
using System.Diagnostics;
using Grpc.Core;
using Grpc.Net.Client;
using Mem1.Protocol;
using Mem1.Protocol.Security;
using Mem1.Protocol.V1;

namespace Mem1.Actors;

/// <summary>What a learner says of its run.</summary>
/// <param name="Files">Contents by plain file name.</param>
/// <param name="Fingerprint">Of tokenizer and environment; to be shown when the worker joins.</param>
public sealed record RunDescription(IReadOnlyDictionary<string, byte[]> Files, long Fingerprint);

/// <summary>Asks a learner for the files of its run: config, shape of the model, tokenizer.</summary>
public static class RunDownload
{
    // A tokenizer of a large vocabulary takes about 20 MB; ten times that is still no danger to a worker.
    private const long MaxTotalBytes = 256L << 20;

    // One attempt: a run's files are small, but a learner may be busy starting.
    private static readonly TimeSpan AttemptDeadline = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan FirstWait = TimeSpan.FromMilliseconds(500);
    private static readonly TimeSpan LongestWait = TimeSpan.FromSeconds(15);

    /// <summary>Fetches the files, waiting for a learner that is not up yet.</summary>
    /// <param name="address">The learner's, http or https.</param>
    /// <param name="workerId">Name of this worker, for the learner's words.</param>
    /// <param name="patience">How long to wait for the learner.</param>
    /// <param name="waiting">Told why an attempt failed and how long the next one waits.</param>
    /// <param name="security">Who this worker is.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="RolloutWorkerException">The learner refused, sent nonsense, or did not answer in time.</exception>
    public static async Task<RunDescription> PullAsync(
        Uri address, string workerId, TimeSpan patience, Action<string, TimeSpan> waiting, ChannelSecurity security,
        CancellationToken cancellationToken)
    {
        var (channel, invoker) = LearnerChannel.Open(address, security, new GrpcChannelOptions());
        using var ours = channel;
        var client = new LearnerService.LearnerServiceClient(invoker);
        var backoff = new Backoff(FirstWait, LongestWait, new Random().NextDouble);
        var watch = Stopwatch.StartNew(); // not the time of day, which may jump
        while (true)
        {
            try
            {
                return await ReadAsync(client, workerId, cancellationToken).ConfigureAwait(false);
            }
            catch (RpcException e) when (IsPassing(e.StatusCode))
            {
                cancellationToken.ThrowIfCancellationRequested();
                var wait = backoff.Next();
                if (watch.Elapsed + wait > patience)
                {
                    throw new RolloutWorkerException(
                        $"No learner answered at {address} within {patience.TotalSeconds:0} s ({OneLine(e)}); check the address and that "
                        + $"mem1 learner runs there{(address.Scheme == "https" ? " and takes this worker's certificate" : " without TLS")}.", e);
                }

                waiting(OneLine(e), wait);
                await Task.Delay(wait, cancellationToken).ConfigureAwait(false);
            }
            catch (RpcException e) when (!cancellationToken.IsCancellationRequested)
            {
                throw new RolloutWorkerException($"The learner at {address} refused this worker: {e.Status.Detail}", e);
            }
            catch (RpcException)
            {
                throw new OperationCanceledException(cancellationToken);
            }
        }
    }

    private static string OneLine(RpcException e) => e.Status.Detail.ReplaceLineEndings(" ");

    private static bool IsPassing(StatusCode code) => code is
        StatusCode.Unavailable or StatusCode.DeadlineExceeded or StatusCode.Internal or StatusCode.Aborted or StatusCode.ResourceExhausted
        or StatusCode.Unknown;

    private static async Task<RunDescription> ReadAsync(
        LearnerService.LearnerServiceClient client, string workerId, CancellationToken cancellationToken)
    {
        using var call = client.Describe(
            new DescribeRequest { ProtocolVersion = ProtocolVersion.Major, WorkerId = workerId },
            deadline: DateTime.UtcNow + AttemptDeadline, cancellationToken: cancellationToken);
        var files = new Dictionary<string, MemoryStream>(StringComparer.Ordinal);
        long received = 0, announced = 0, fingerprint = 0;
        await foreach (var part in call.ResponseStream.ReadAllAsync(cancellationToken).ConfigureAwait(false))
        {
            if (part.Name.Length is 0 or > 100 || part.Name != Path.GetFileName(part.Name) || part.Name is "." or "..")
                throw new RolloutWorkerException($"The learner sent a file named \"{part.Name}\", which is not a plain file name.");
            (announced, fingerprint) = (part.TotalBytes, part.RunFingerprint);
            received += part.Data.Length;
            if (announced > MaxTotalBytes || received > announced)
            {
                throw new RolloutWorkerException(
                    $"The learner's run files take {Math.Max(announced, received)} bytes where {Math.Min(announced, MaxTotalBytes)} are expected "
                    + "at most.");
            }

            if (!files.TryGetValue(part.Name, out var file)) files.Add(part.Name, file = new MemoryStream());
            file.Write(part.Data.Span);
        }

        if (files.Count == 0 || received != announced)
        {
            throw new RolloutWorkerException(
                $"The learner sent {received} of {announced} bytes of run files; it may serve no separate workers.");
        }

        return new RunDescription(files.ToDictionary(f => f.Key, f => f.Value.ToArray(), StringComparer.Ordinal), fingerprint);
    }
}
