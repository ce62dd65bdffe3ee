// Keeps: everything a training run does to sample takes part (actors, environment, gRPC on loopback, ledger, assembly); only learning
// does not.
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
/// <param name="Batches">Timed.</param>
internal sealed record WorldsRow(int Threads, int EpisodesAtOnce, double TokensPerSecond, double EpisodesPerSecond, int Batches);

/// <summary>Measures sampling as a training run does it.</summary>
internal static class WorldsBench
{
    // As many as a default update asks for.
    private const int Episodes = 64;

    // The built-in task's mixture, always the same number of each.
    private const int MaxObjectives = 4;

    /// <summary>Plays batches of the default update's size with the built-in model.</summary>
    /// <param name="threads">That decode.</param>
    /// <param name="timedAtLeast">Time to spend; the first batch warms up.</param>
    /// <param name="cancellationToken">Gives up.</param>
    public static WorldsRow Run(int threads, TimeSpan timedAtLeast, CancellationToken cancellationToken)
    {
        var config = new RunConfig { Rollout = new RolloutConfig { Threads = threads } };
        using var environment = EnvironmentSet.Open(config, (_, _) => { }, cancellationToken);
        var model = Checkpoint.Load(BuiltIn.Folder);
        var publisher = new WeightPublisher(weights => Safetensors.ToBytes(weights));
        publisher.Publish(model.Weights, 0);
        using var session = new RunSession(
            config, model.Config, environment.Factory, model.Tokenizer!, publisher, fingerprint: 1, loggers: null, cancellationToken);
        Play(-1);
        double tokens = 0, episodes = 0;
        var batches = 0;
        for (var all = Stopwatch.StartNew(); batches == 0 || all.Elapsed < timedAtLeast; batches++)
        {
            var watch = Stopwatch.StartNew();
            var played = Play(batches);
            tokens = Math.Max(tokens, played.Sum(t => (double)t.GeneratedTokens) / watch.Elapsed.TotalSeconds);
            episodes = Math.Max(episodes, played.Count / watch.Elapsed.TotalSeconds);
        }

        return new WorldsRow(threads, config.Rollout.MaxEpisodes, tokens, episodes, batches);

        IReadOnlyList<Trajectory> Play(int batch)
        {
            var requests = Enumerable.Range(0, Episodes).Select(i =>
            {
                // Seeds do not depend on the batch: every batch is the same work.
                var objectives = 1 + (i % MaxObjectives);
                var task = environment.Training.Get(i, objectives, seed: 1);
                return new TaskRequest(
                    task with { Id = $"bench {batch}-{i}" }, Seeds.Mix(1, (ulong)i), (float)config.Rollout.Temperature,
                    (float)config.Rollout.TopP, environment.ResponseLimit!(objectives), Evaluation: false);
            }).ToList();
            return session.Ledger.RunAsync(requests, progress: null, cancellationToken).GetAwaiter().GetResult();
        }
    }
}
