// Keeps: everything a training run does to sample takes part (actors, environment, gRPC on loopback, ledger, assembly); only learning
// does not. Every batch is played under weights of a new version, as in training, so nothing computed for one batch serves the next. The
// two ways take turns and the fastest batch of each counts, so that a busy moment of the machine does not fall on one of them only.
using System.Diagnostics;
using Mem1.Cli.Configuration;
using Mem1.Cli.Training;
using Mem1.Learner;
using Mem1.Model.Checkpoints;

namespace Mem1.Cli.Bench;

/// <summary>Whole episodes of the built-in task, end to end.</summary>
/// <param name="Threads">That decode.</param>
/// <param name="EpisodesAtOnce">Of the rollout worker.</param>
/// <param name="TokensPerSecond">Generated tokens of finished episodes by the time of the fastest batch.</param>
/// <param name="EpisodesPerSecond">The same in episodes.</param>
/// <param name="Batches">Timed, of each way.</param>
/// <param name="TimesWithoutPromptCache">Tokens per second by those with <c>rollout.prompt_cache_mib</c> 0, in the same run.</param>
/// <param name="CpuTimesWithoutPromptCache">
/// The same per second of processor time of the whole process, learner's server and environment included.
/// </param>
/// <param name="PrefillTokensPerBatch">Tokens read by a batch.</param>
/// <param name="PrefillSaved">Share of the tokens that were to be read that was not, because prompts are kept between turns.</param>
internal sealed record WorldsRow(
    int Threads, int EpisodesAtOnce, double TokensPerSecond, double EpisodesPerSecond, int Batches, double TimesWithoutPromptCache,
    double CpuTimesWithoutPromptCache, double PrefillTokensPerBatch, double PrefillSaved);

/// <summary>Measures sampling as a training run does it.</summary>
internal static class WorldsBench
{
    // As many as a default update asks for.
    private const int Episodes = 64;

    // The built-in task's mixture, always the same number of each.
    private const int MaxObjectives = 4;

    // The runtime compiles what is called often again, beside the work: before that is over a way seems slower than it is.
    private static readonly TimeSpan s_warmUp = TimeSpan.FromSeconds(3);

    /// <summary>Plays batches of the default update's size with the built-in model, with and without keeping prompts.</summary>
    /// <param name="threads">That decode.</param>
    /// <param name="timedAtLeast">Time to spend after warming up, which takes as long again but three seconds at most.</param>
    /// <param name="cancellationToken">Gives up.</param>
    public static WorldsRow Run(int threads, TimeSpan timedAtLeast, CancellationToken cancellationToken)
    {
        using var kept = new Way(new RunConfig { Rollout = new RolloutConfig { Threads = threads } }, cancellationToken);
        using var whole = new Way(new RunConfig { Rollout = new RolloutConfig { Threads = threads, PromptCacheMib = 0 } }, cancellationToken);
        var warmUp = TimeSpan.FromTicks(Math.Min(timedAtLeast.Ticks, s_warmUp.Ticks));
        var played = 0;
        for (var all = Stopwatch.StartNew(); played == 0 || all.Elapsed < warmUp; played++)
        {
            kept.Play(timed: false);
            whole.Play(timed: false);
        }

        var batches = 0;
        for (var all = Stopwatch.StartNew(); batches == 0 || all.Elapsed < timedAtLeast; batches++)
        {
            kept.Play(timed: true);
            whole.Play(timed: true);
        }

        var (read, reused) = kept.Prefill;
        return new WorldsRow(
            threads, kept.EpisodesAtOnce, kept.TokensPerSecond, kept.EpisodesPerSecond, batches, kept.TokensPerSecond / whole.TokensPerSecond,
            kept.TokensPerCpuSecond / whole.TokensPerCpuSecond,
            (double)read / (batches + played), (double)reused / (read + reused));
    }

    /// <summary>A learner and its worker under one config.</summary>
    private sealed class Way : IDisposable
    {
        private readonly RunConfig _config;
        private readonly EnvironmentSet _environment;
        private readonly WeightPublisher _publisher = new(weights => WeightPublisher.Serialise(weights));
        private readonly Checkpoint _model = Checkpoint.Load(BuiltIn.Folder);
        private readonly RunSession _session;
        private readonly CancellationToken _cancellation;
        private int _version;

        public Way(RunConfig config, CancellationToken cancellationToken)
        {
            (_config, _cancellation) = (config, cancellationToken);
            _environment = EnvironmentSet.Open(config, (_, _) => { }, cancellationToken);
            _publisher.Publish(_model.Weights, 0);
            _session = new RunSession(
                config, _model.Config, _environment.Factory, _model.Tokenizer!, _publisher, fingerprint: 1, loggers: null, cancellationToken);
        }

        public int EpisodesAtOnce => _config.Rollout.MaxEpisodes;

        public double TokensPerSecond { get; private set; }

        public double TokensPerCpuSecond { get; private set; }

        public double EpisodesPerSecond { get; private set; }

        public (long Read, long Reused) Prefill => (_session.LocalWorker!.Counters.PrefillTokens, _session.LocalWorker.Counters.ReusedTokens);

        public void Play(bool timed)
        {
            var requests = Enumerable.Range(0, Episodes).Select(i =>
            {
                // Seeds do not depend on the batch: every batch is the same work.
                var objectives = 1 + (i % MaxObjectives);
                var task = _environment.Training.Get(i, objectives, seed: 1);
                return new TaskRequest(
                    task with { Id = $"bench {_version}-{i}" }, Seeds.Mix(1, (ulong)i), (float)_config.Rollout.Temperature,
                    (float)_config.Rollout.TopP, _environment.ResponseLimit!(objectives), Evaluation: false);
            }).ToList();
            var used = Environment.CpuUsage.TotalTime;
            var watch = Stopwatch.StartNew();
            var played = _session.Ledger.RunAsync(requests, progress: null, _cancellation).GetAwaiter().GetResult();
            var (seconds, cpu) = (watch.Elapsed.TotalSeconds, (Environment.CpuUsage.TotalTime - used).TotalSeconds);
            _publisher.Publish(_model.Weights, ++_version);
            if (!timed) return;
            var tokens = played.Sum(t => (double)t.GeneratedTokens);
            TokensPerSecond = Math.Max(TokensPerSecond, tokens / seconds);
            TokensPerCpuSecond = Math.Max(TokensPerCpuSecond, tokens / cpu);
            EpisodesPerSecond = Math.Max(EpisodesPerSecond, played.Count / seconds);
        }

        public void Dispose()
        {
            _session.Dispose();
            _environment.Dispose();
        }
    }
}
