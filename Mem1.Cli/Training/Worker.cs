using Mem1.Actors;
using Mem1.Cli.Configuration;
using Mem1.Environments;
using Mem1.Model;
using Mem1.Model.Checkpoints;
using Mem1.Model.Generation;
using Mem1.Protocol.Security;
using Microsoft.Extensions.Logging;
using TorchSharp;

namespace Mem1.Cli.Training;

/// <summary>Starts rollout workers from a run's config: the one of mem1 train and those of mem1 rollout alike.</summary>
internal static class Worker
{
    // Seconds; what a learner shows of a worker is never older. A quarter of the silence that ends a stream, where that is less.
    private const double LongestHeartbeat = 2;

    // Of the weights in float32 beside their values: a line for each tensor, and the difference between versions is never longer.
    private const long HeaderBytes = 16L << 20;

    /// <summary>Starts a worker; it connects on its own.</summary>
    /// <param name="config">Of the run.</param>
    /// <param name="shape">Of the model.</param>
    /// <param name="environments">Makes the environments of its leases.</param>
    /// <param name="tokenizer">The model's.</param>
    /// <param name="learner">Where the learner listens.</param>
    /// <param name="fingerprint">Of the shape.</param>
    /// <param name="runFingerprint">As the learner gave it; null when the worker has everything from the learner's own process.</param>
    /// <param name="loggers">Where the worker logs; nowhere if null.</param>
    /// <param name="workerId">Its name; null for one of its own making.</param>
    /// <param name="security">Who it is; null shows nothing.</param>
    /// <param name="cluster">Its process's node of the cluster; null for none.</param>
    public static Task<RolloutWorker> StartAsync(
        RunConfig config, DecoderConfig shape, IEnvironmentFactory environments, ITokenizer tokenizer, Uri learner, long fingerprint,
        string? workerId = null, long? runFingerprint = null, ILoggerFactory? loggers = null,
        ChannelSecurity? security = null, ClusterNode? cluster = null)
    {
        // Said before the worker connects, not after its first lease.
        var device = Device(config);
        var threads = config.Serial ? 1 : config.Rollout.Threads > 0 ? config.Rollout.Threads : Environment.ProcessorCount;
        var options = new RolloutWorkerOptions
        {
            LearnerAddress = learner.ToString(),
            Security = security ?? ChannelSecurity.None,
            MaxEpisodes = config.Rollout.MaxEpisodes,
            MaxNewTokens = shape.MaxPositions - 1,
            MaxObservationTokens = config.Rollout.MaxObservationTokens,
            MaxContextTokens = shape.MaxPositions,
            Memory = config.Rollout.Memory,
            // Without rotary positions nothing counts the tokens of an episode.
            MaxEpisodeTokens = shape.Position == PositionEncoding.Rope ? shape.MaxPositions : int.MaxValue,
            ModelFingerprint = fingerprint,
            RunFingerprint = runFingerprint,
            Serial = config.Serial,
            WeightsDelta = config.Learner.WeightsDelta,
            MaxWeightsBytes = (4 * WeightLayout.Expected(shape).Sum(t => t.Value.Aggregate(1L, (a, b) => a * b))) + HeaderBytes,
            HeartbeatInterval = TimeSpan.FromSeconds(Math.Min(LongestHeartbeat, config.Learner.SilenceSeconds / 4.0)),
        };
        return RolloutWorker.StartAsync(
            workerId is null ? options : options with { WorkerId = workerId },
            environments, tokenizer,
            (weights, version) => config.Rollout.Backend == PolicyBackend.Openai
                ? new EndpointEngine(config.Rollout.Endpoint, shape, weights, version, tokenizer)
                : device is null
                    ? new CpuGenerationEngine(shape, weights, version, tokenizer, threads, (long)config.Rollout.PromptCacheMib << 20)
                    : new TorchGenerationEngine(shape, weights, version, tokenizer, device),
            stream => Safetensors.Read(stream, stream.Length, "the learner's weights"),
            loggers, cluster: cluster);
    }

    /// <summary>The device of the engine on libtorch; null for the managed decoder.</summary>
    /// <exception cref="UserErrorException">The config asks for CUDA and there is none.</exception>
    private static torch.Device? Device(RunConfig config)
    {
        if (config.Rollout.Device == "cpu" || config.Rollout.Backend != PolicyBackend.BuiltIn) return null;
        return torch.cuda.is_available() ? torch.CUDA
            : throw new UserErrorException("rollout.device is cuda but libtorch finds no CUDA device; use cpu, or a CUDA build of libtorch.");
    }
}
