// Keeps: nothing is remembered but the worker; every answer is looked up.
using Mem1.Actors;

namespace Mem1.Cli.Serve;

/// <summary>Lets a health server look at a rollout worker.</summary>
/// <param name="staleness">How many versions behind the newest one known its weights may be.</param>
internal sealed class WorkerHealth(Func<int> staleness) : IHealth
{
    // Actors answer within milliseconds; the server gives up after a second.
    private static readonly TimeSpan s_patience = TimeSpan.FromMilliseconds(900);

    private volatile RolloutWorker? _worker;
    private volatile bool _leaving;

    /// <inheritdoc/>
    public bool Started => _worker is not null;

    /// <inheritdoc/>
    public string? NotReady => _leaving ? "leaving"
        : _worker?.Counters is not { } counters ? "waiting for a learner"
        : NotReadyWith(counters.PolicyVersion, counters.WantedVersion, staleness());

    /// <inheritdoc/>
    public IEnumerable<(string Name, string Help, double Value)> Metrics
    {
        get
        {
            if (_worker?.Counters is not { } c) yield break;
            yield return ("mem1_rollout_episodes_running", "Episodes being played.", c.EpisodesRunning);
            yield return ("mem1_rollout_episodes_finished", "Episodes played to their end.", c.EpisodesFinished);
            yield return ("mem1_rollout_unacknowledged", "Turns kept until the learner has them.", c.Unacknowledged);
            if (c.PolicyVersion is { } version) yield return ("mem1_rollout_policy_version", "Version of the weights in place.", version);
        }
    }

    /// <summary>Why a worker with these weights is not ready; null when it is.</summary>
    /// <param name="version">In place; null before the first.</param>
    /// <param name="wanted">Newest that the learner told of; null before the first.</param>
    /// <param name="staleness">How far apart they may be, beside the one that is on its way.</param>
    internal static string? NotReadyWith(long? version, long? wanted, int staleness) =>
        version is not { } have ? "no weights yet"
        // One more: between a version's announcement and its download every worker is one behind.
        : wanted is { } newest && newest - have > staleness + 1 ? $"the weights are {newest - have} versions old"
        : null;

    /// <inheritdoc/>
    public Task<bool> AnswersAsync(CancellationToken cancellationToken) =>
        _worker is { } worker && !_leaving ? worker.AnswersAsync(s_patience, cancellationToken) : Task.FromResult(true);

    /// <summary>The worker plays from now on.</summary>
    public void Plays(RolloutWorker worker) => _worker = worker;

    /// <summary>The worker takes no more episodes.</summary>
    public void Leaves() => _leaving = true;
}
