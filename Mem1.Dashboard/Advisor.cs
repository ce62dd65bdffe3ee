// Keeps: an advisory is one plain sentence with the numbers it rests on; no number, no advisory. Each bound carries its reason.
using System.Globalization;

namespace Mem1.Dashboard;

/// <summary>Something the user should look at.</summary>
/// <param name="Level">How bad.</param>
/// <param name="Code">Its name, for scripts.</param>
/// <param name="Text">A sentence.</param>
/// <param name="Evidence">The numbers it rests on.</param>
internal sealed record Advisory(EventLevel Level, string Code, string Text, string Evidence);

/// <summary>Reads a run and says what is wrong with it.</summary>
internal static class Advisor
{
    // Windows long enough that one odd batch says nothing.
    private const int Recent = 5, Trend = 20;

    // A run whose updates take a second may pause for a checkpoint without being stalled; six times the median is no usual variation.
    private const double StallFactor = 6, StallSeconds = 60;

    // Heartbeats come every few seconds; the learner cuts a worker off after a minute.
    private const double SilentSeconds = 15;

    // PPO's usual early-stopping range ends at 0.05; a mean above 0.1 over several updates is a policy that runs away.
    private const double HighKl = 0.1;

    // A rise that is worth a word before it is high: above the noise of a batch, and several times what it was.
    private const double RisingKl = 0.02, RisingFactor = 3;

    // An episode takes seconds; five times what the learner usually waits for a whole batch is no usual variation.
    private const double StarveFactor = 5, StarveSeconds = 15;

    // Where sampling goes on all the time, a learner that mostly waits has too few workers.
    private const double IdleShare = 0.5;

    // Of the time of episodes; below it the policy, not the environment, is what takes the time.
    private const double SlowEnvironment = 0.6, WorthSeconds = 10;

    // Above this most of the gradient is cut off.
    private const double HighClip = 0.4;

    // Below 0 already says worse than a constant, but returns that hardly vary, as at the end of a run that learned, make it dip.
    private const double UselessCritic = -1;

    // Float32 on two implementations differs by about 1e-6; this is three orders above it. Lower-precision weights lie in between.
    private const double ParityBound = 1e-3;

    public static IReadOnlyList<Advisory> Evaluate(RunModel model, DateTimeOffset now)
    {
        var found = new List<Advisory>();
        model.Metrics(m =>
        {
            Training(m, found);
            return 0;
        });
        if (model.Live is { Paused: true, Ledger: var tasks })
        {
            found.Add(new(EventLevel.Info, "paused", "The run is paused: no task is handed out and no update begins until it is resumed.",
                F($"{tasks.Leased} episodes are still played, {tasks.Pending} tasks wait")));
        }
        else if (model.Source == RunSource.Live)
        {
            Stalled(model, now, found);
        }

        if (model is { Source: RunSource.Folder, Progress.Phase: FolderFeed.Killed })
        {
            found.Add(new(EventLevel.Error, "killed", "The process of this run ended without a word: it was killed, or crashed.",
                F($"its lock is still there and nobody holds it; it did {model.Metrics(m => m.Last)} updates. ")
                + $"./mem1 train --resume {model.Name} goes on from the last checkpoint"));
        }

        if (model.Live is { } live)
        {
            Distributed(live, found);
            if (!live.Paused) Starving(model, live, found);
        }

        return [.. found.OrderByDescending(a => a.Level)];
    }

    private static void Training(MetricTable m, List<Advisory> found)
    {
        if (m.Count == 0) return;
        var at = $"updates {m.Updates[Math.Max(0, m.Count - Recent)]} to {m.Last}";
        // The run's own bound (learner.parity_alarm) decides; runs that did not count alarms are held against ours.
        var alarms = Tail(m, "parity_alarms", Recent + 1);
        var alarmed = alarms is { Count: > 0 } ? alarms[^1] > (alarms.Count > Recent ? alarms[0] : 0) : (bool?)null;
        if (Tail(m, "parity_max_abs", Recent) is { Count: > 0 } parity && (alarmed ?? parity.Max() > ParityBound))
        {
            found.Add(new(EventLevel.Error, "parity",
                "What the learner computes is not what the sampler computed, so every importance ratio is wrong.",
                F($"parity_max_abs reached {parity.Max():0.0e+0} in {at}; float32 gives about 1e-6")));
        }

        if (Tail(m, "kl", Recent) is { Count: > 0 } kl && kl.Average() > HighKl)
        {
            found.Add(new(EventLevel.Warning, "kl_high",
                "The policy moves far from the one that sampled: lower ppo.learning_rate or the number of epochs.",
                F($"mean kl {kl.Average():0.000} in {at}; above {HighKl} is unusual")));
        }

        else if (Tail(m, "kl", Recent + Trend) is { Count: Recent + Trend } rising && rising.TakeLast(Recent).Average() is var recent
            && recent > RisingKl && recent > RisingFactor * Math.Max(0, rising.Take(Trend).Average()))
        {
            found.Add(new(EventLevel.Warning, "kl_rising", "The policy moves further and further from the one that sampled.",
                F($"mean kl {recent:0.000} in {at}; {rising.Take(Trend).Average():0.000} in the {Trend} updates before")));
        }

        if (Tail(m, "clip_fraction", Recent) is { Count: > 0 } clip && clip.Average() > HighClip)
        {
            found.Add(new(EventLevel.Warning, "clip_high", "Most tokens are clipped, so little of the batch is learned from.",
                F($"mean clip_fraction {clip.Average():0.00} in {at}; above {HighClip} is unusual")));
        }

        if (Tail(m, "explained_variance", Trend) is { Count: Trend } explained && explained.All(v => v < UselessCritic))
        {
            found.Add(new(EventLevel.Warning, "critic_useless", "The critic predicts far worse than a constant would.",
                F($"explained_variance below {UselessCritic} in each of the last {Trend} updates, now {explained[^1]:0.00}")));
        }

        if (Tail(m, "entropy", int.MaxValue) is { Count: >= 2 * Trend } entropy
            && entropy.TakeLast(Recent).Average() < 0.1 * entropy.Take(Recent).Average())
        {
            found.Add(new(EventLevel.Warning, "entropy_collapse", "The policy has almost stopped exploring.",
                F($"entropy {entropy.TakeLast(Recent).Average():0.0000} now, {entropy.Take(Recent).Average():0.000} at the start")));
        }

        if (Tail(m, "reward_mean", int.MaxValue) is { Count: >= 2 * Trend } reward)
        {
            var best = double.NegativeInfinity;
            for (var i = 0; i + 10 <= reward.Count; i++) best = Math.Max(best, reward.Skip(i).Take(10).Average());
            var now = reward.TakeLast(10).Average();
            if (now < best - 0.15)
            {
                found.Add(new(EventLevel.Warning, "reward_falling", "The reward has fallen well below what it was.",
                    F($"reward_mean over ten updates is {now:0.00}; its best was {best:0.00}")));
            }
        }

        if (Tail(m, "invalid_format_rate", Recent) is { Count: > 0 } invalid && invalid.Average() > 0.25)
        {
            found.Add(new(EventLevel.Warning, "invalid_format", "Many episodes end because the agent breaks the format.",
                F($"mean invalid_format_rate {invalid.Average():0.00} in {at}")));
        }

        if (Last(m, "environment_failures") is > 0 and var failures)
        {
            var episodes = Last(m, "episodes") ?? 0;
            found.Add(new(failures > episodes ? EventLevel.Error : EventLevel.Warning, "environment_failing",
                failures > episodes ? "The environment fails more than once per episode: is the retriever alive?"
                    : "The environment fails now and then; the agents were told so.",
                F($"{failures:0} environment_failures over {episodes:0} episodes in update {m.Last}")));
        }

        if (Tail(m, "skipped_updates", Recent) is { Count: > 0 } skipped && skipped.Sum() > 0)
        {
            found.Add(new(EventLevel.Error, "not_finite",
                "Optimiser steps were left out because loss or gradient was not finite; mem1 replay shows where.",
                F($"skipped_updates {skipped.Sum():0} in {at}")));
        }

        if (Last(m, "quarantined") is > 0 and var quarantined)
        {
            found.Add(new(EventLevel.Warning, "quarantined",
                "Tasks were given up after failing on every try; the ledger has their reasons.",
                F($"{quarantined:0} quarantined up to update {m.Last}")));
        }

        if (Tail(m, "live_tensors", Recent * 2) is { Count: Recent * 2 } tensors
            && tensors.Zip(tensors.Skip(1)).All(p => p.Second > p.First))
        {
            found.Add(new(EventLevel.Warning, "tensor_leak", "Native tensors pile up from update to update.",
                F($"live_tensors rose in each of the last {Recent * 2} updates, to {tensors[^1]:0}")));
        }
    }

    private static void Stalled(RunModel model, DateTimeOffset now, List<Advisory> found)
    {
        if (model.Progress.Phase != "training") return;
        var since = model.LastUpdateAt is { } last && last > model.Progress.Since ? last : model.Progress.Since;
        var median = model.Metrics(m => Tail(m, "seconds", Trend) is { Count: > 0 } s ? s.Order().ElementAt(s.Count / 2) : 0);
        var silent = (now - since).TotalSeconds;
        if (silent <= Math.Max(StallSeconds, StallFactor * median)) return;
        found.Add(new(EventLevel.Error, "stalled", "The learner has finished no update for a long time.",
            median > 0 ? F($"{silent:0} s since the last one; half of them take less than {median:0.0} s")
                : F($"{silent:0} s in this phase")));
    }

    /// <summary>The learner has nothing to learn from.</summary>
    private static void Starving(RunModel model, LiveSnapshot live, List<Advisory> found)
    {
        var (usual, idle) = model.Metrics(m =>
        {
            var waits = Tail(m, "wait_seconds", Trend) ?? [];
            var whole = Tail(m, "seconds", Trend) ?? [];
            return (waits.Count > 0 ? waits.Order().ElementAt(waits.Count / 2) : 0,
                waits.Count == Trend && whole.Count == Trend && whole.Sum() > 0 ? waits.Sum() / whole.Sum() : 0);
        });
        if (live.WaitingSeconds is { } waited && waited > Math.Max(StarveSeconds, StarveFactor * usual))
        {
            found.Add(new(EventLevel.Error, "starving", "The batch starves: the learner waits, and no episode finishes.",
                F($"nothing for {waited:0} s, where half of the batches take less than {usual:0.0} s; ")
                + F($"{live.Ledger.Leased} episodes are played, {live.Ledger.Pending} wait{Binding(live)}")));
        }

        if (live.StalenessBound > 0 && idle > IdleShare)
        {
            found.Add(new(EventLevel.Warning, "idle_learner",
                "The learner waits for episodes most of the time: there are too few workers for it.",
                F($"{100 * idle:0}% of the last {Trend} updates was spent waiting; {live.Workers.Count} workers{Binding(live)}")));
        }

        var generating = live.Workers.Sum(w => w.Budget?.Generating ?? 0);
        var environment = live.Workers.Sum(w => w.Budget?.Environment ?? 0);
        if (environment > WorthSeconds && environment > SlowEnvironment * (generating + environment))
        {
            found.Add(new(EventLevel.Info, "slow_environment", "Episodes spend most of their time in the environment, not with the policy.",
                F($"{environment:0} s in the environment and {generating:0} s generating in the last half minute, over all episodes")));
        }
    }

    /// <summary>What holds the next lease back, as the end of a sentence.</summary>
    private static string Binding(LiveSnapshot live) => live.Admission?.Binds switch
    {
        "no_worker" => "; no worker is connected",
        "weights" => F($"; no worker has policy {live.Admission.NeedsVersion} or a newer one in place"),
        "free_places" => "; the workers have no free place",
        "concurrency_limit" => F($"; no more than {live.ConcurrencyLimit} may be played at once"),
        _ => "",
    };

    private static void Distributed(LiveSnapshot live, List<Advisory> found)
    {
        if (live.Ledger.Pending > 0 && live.Workers.Count == 0)
        {
            found.Add(new(EventLevel.Error, "no_worker", "Tasks wait but no worker is connected.",
                F($"{live.Ledger.Pending} pending, 0 workers; start one: ./mem1 rollout --learner {live.LearnerAddress}")));
        }

        foreach (var worker in live.Workers.Where(w => w.SilentSeconds > SilentSeconds))
        {
            found.Add(new(EventLevel.Warning, "silent_worker", $"Worker {worker.Id} says nothing.",
                F($"last heard {worker.SilentSeconds:0} s ago; it holds {worker.Leases} leases")));
        }

        foreach (var node in live.Nodes.Where(n => !n.Reachable))
        {
            var report = node.ReportSeconds is { } ago ? F($"last report {ago:0} s ago") : "it never reported";
            found.Add(new(EventLevel.Warning, "unreachable_node",
                $"The node of {node.Worker ?? string.Join(", ", node.Roles)} cannot be reached.",
                $"{node.Address}, {node.Membership}; {report}"));
        }

        // Those that somebody had restarted did what they were told.
        foreach (var actor in live.Actors.Where(
            a => a.LastFailure?.StartsWith("RestartRequested", StringComparison.Ordinal) == false && a.Kind != "episode"))
        {
            var worker = actor.Parent.Length > 0 ? actor.Parent : actor.Path;
            found.Add(new(EventLevel.Warning, "actor_failed",
                $"The {actor.Kind} of {worker} has failed and was restarted {actor.Restarts} times.",
                actor.LastFailure!.Split('\n')[0]));
        }
    }

    private static double? Last(MetricTable m, string name) => m[name] is { Count: > 0 } v && double.IsFinite(v[^1]) ? v[^1] : null;

    private static List<double>? Tail(MetricTable m, string name, int count) =>
        m[name]?.Skip(Math.Max(0, m.Count - (long)count) is var n ? (int)n : 0).Where(double.IsFinite).ToList();

    private static string F(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
