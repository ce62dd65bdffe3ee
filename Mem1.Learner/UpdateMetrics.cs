// Keeps: the names of the metrics stand here alone; a number that is not finite is written as null, never as 0.
using System.Text.Json;

namespace Mem1.Learner;

/// <summary>One line of metrics.jsonl and of <c>mem1 train --json</c>.</summary>
public sealed record UpdateMetrics
{
    /// <summary>Number of the update, from 1.</summary>
    public required long Update { get; init; }
    /// <summary>Version of the weights after the update.</summary>
    public required long PolicyVersion { get; init; }
    /// <summary>Mean reward of the batch.</summary>
    public required double RewardMean { get; init; }
    /// <summary>Mean share of objectives answered exactly, by the number of objectives of the task.</summary>
    public required IReadOnlyDictionary<int, double> ExactMatch { get; init; }
    /// <summary>Mean number of turns.</summary>
    public required double TurnsMean { get; init; }
    /// <summary>Mean over episodes of the longest prompt + context + generated, in tokens.</summary>
    public required double PeakTokensMean { get; init; }
    /// <summary>What the optimiser did.</summary>
    public required UpdateStatistics Statistics { get; init; }
    /// <summary>Updates of the run so far whose parity was above learner.parity_alarm.</summary>
    public long ParityAlarms { get; init; }
    /// <summary>Share of episodes that ended by a broken format or the response limit.</summary>
    public required double InvalidFormatRate { get; init; }
    /// <summary>Episodes trained on.</summary>
    public required int Episodes { get; init; }
    /// <summary>Tasks given up so far.</summary>
    public required int Quarantined { get; init; }
    /// <summary>Failures of the environment in the batch's episodes: searches and pages that failed, steps that were tried again.</summary>
    public required long EnvironmentFailures { get; init; }
    /// <summary>Tries of tasks that came to nothing so far, by cause; none when not known.</summary>
    public IReadOnlyDictionary<DiscardCause, long> Discarded { get; init; } = new Dictionary<DiscardCause, long>();
    /// <summary>Tasks by state right after the batch was consumed; null when not known.</summary>
    public LedgerCounts? Ledger { get; init; }
    /// <summary>Sub-trajectories that were not taken so far, by cause; none when not known.</summary>
    public IReadOnlyDictionary<RefusalCause, long> Refused { get; init; } = new Dictionary<RefusalCause, long>();
    /// <summary>Ages of the batch's tokens in versions; null when not known.</summary>
    public StalenessHistogram? Staleness { get; init; }
    /// <summary>How long the learner had nothing to learn from: the time it waited for the batch.</summary>
    public double WaitSeconds { get; init; }
    /// <summary>How long the update itself took: losses, gradients and optimiser steps. No number when not known.</summary>
    public double LearnSeconds { get; init; } = double.NaN;
    /// <summary>How long the run has waited for room on the disk so far, since it was started or resumed.</summary>
    public double DiskWaitSeconds { get; init; }
    /// <summary>Generated tokens per second: while the batch was sampled, or over the whole update where sampling goes on all the time.</summary>
    public required double RolloutTokensPerSecond { get; init; }
    /// <summary>Tokens (prompt, context and generated, no pads) per second of the optimiser's part.</summary>
    public required double LearnerTokensPerSecond { get; init; }
    /// <summary>Share of the optimiser steps' time that was not spent on preparing data, in [0, 1]; no number when not known.</summary>
    public double LearnerBusy { get; init; } = double.NaN;
    /// <summary>Native tensors alive on the learner's thread after the update.</summary>
    public required long LiveTensors { get; init; }
    /// <summary>Resident memory of the process, in bytes.</summary>
    public required long RssBytes { get; init; }
    /// <summary>Wall time of the whole update, rollout included.</summary>
    public required double Seconds { get; init; }

    /// <summary>The line, without line break.</summary>
    public string ToJson()
    {
        using var stream = new MemoryStream();
        using (var json = new Utf8JsonWriter(stream))
        {
            json.WriteStartObject();
            json.WriteNumber("update", Update);
            json.WriteNumber("policy_version", PolicyVersion);
            Write("reward_mean", RewardMean);
            foreach (var (objectives, em) in ExactMatch.OrderBy(e => e.Key)) Write($"em_{objectives}", em);
            Write("turns_mean", TurnsMean);
            Write("peak_tokens_mean", PeakTokensMean);
            Write("policy_loss", Statistics.PolicyLoss);
            Write("value_loss", Statistics.ValueLoss);
            Write("entropy", Statistics.Entropy);
            Write("kl", Statistics.Kl);
            Write("reference_kl", Statistics.ReferenceKl);
            Write("clip_fraction", Statistics.ClipFraction);
            Write("grad_norm", Statistics.GradientNorm);
            Write("explained_variance", Statistics.ExplainedVariance);
            if (Statistics.ParityMaxAbs is { } parity) Write("parity_max_abs", parity);
            else json.WriteNull("parity_max_abs");
            json.WriteNumber("parity_alarms", ParityAlarms);
            json.WriteNumber("staleness_max", Statistics.StalenessMax);
            if (Staleness is { } ages)
            {
                Write("staleness_mean", Math.Round(ages.Mean, 4));
                json.WriteStartArray("staleness_tokens");
                foreach (var count in ages.Tokens) json.WriteNumberValue(count);
                json.WriteEndArray();
            }

            Write("invalid_format_rate", InvalidFormatRate);
            json.WriteNumber("episodes", Episodes);
            json.WriteNumber("quarantined", Quarantined);
            json.WriteNumber("environment_failures", EnvironmentFailures);
            if (Ledger is { } tasks)
            {
                json.WriteNumber("ledger_pending", tasks.Pending);
                json.WriteNumber("ledger_leased", tasks.Leased);
                json.WriteNumber("ledger_buffered", tasks.Buffered);
                json.WriteNumber("ledger_consumed", tasks.Consumed);
            }

            foreach (var (cause, count) in Discarded.OrderBy(d => d.Key))
                json.WriteNumber("discarded_" + JsonNamingPolicy.SnakeCaseLower.ConvertName(cause.ToString()), count);
            foreach (var (cause, count) in Refused.OrderBy(r => r.Key))
                json.WriteNumber("refused_" + JsonNamingPolicy.SnakeCaseLower.ConvertName(cause.ToString()), count);
            Write("rollout_tokens_per_s", Math.Round(RolloutTokensPerSecond, 1));
            Write("learner_tokens_per_s", Math.Round(LearnerTokensPerSecond, 1));
            Write("learner_busy", Math.Round(LearnerBusy, 4));
            json.WriteNumber("live_tensors", LiveTensors);
            json.WriteNumber("rss_bytes", RssBytes);
            Write("wait_seconds", Math.Round(WaitSeconds, 3));
            Write("learn_seconds", Math.Round(LearnSeconds, 3));
            Write("disk_wait_seconds", Math.Round(DiskWaitSeconds, 3));
            Write("seconds", Math.Round(Seconds, 3));
            WriteHealth(Statistics.Health);
            json.WriteEndObject();

            void WriteHealth(UpdateHealth health)
            {
                Write("clip_fraction_low", health.ClipFractionLow);
                Write("clip_fraction_high", health.ClipFractionHigh);
                Write("ratio_max", health.RatioMax);
                Write("ratio_p99", health.RatioP99);
                Write("ratio_p01", health.RatioP01);
                Write("kl_k3", health.KlK3);
                Write("entropy_state", health.StateEntropy);
                Write("entropy_action", health.ActionEntropy);
                Write("advantage_mean", health.AdvantageMean);
                Write("advantage_std", health.AdvantageDeviation);
                foreach (var (part, mean) in health.Rewards.OrderBy(r => r.Key, StringComparer.Ordinal)) Write($"reward_{part}", mean);
                if (health.KlFactor is { } factor) Write("kl_factor", factor);
                json.WriteNumber("skipped_updates", health.SkippedSteps);
                json.WriteNumber("masked_episodes", health.MaskedEpisodes);
            }

            void Write(string name, double value)
            {
                // JSON has no NaN; a metric that is not a number is said to be absent rather than dressed up as 0.
                if (double.IsFinite(value)) json.WriteNumber(name, value);
                else json.WriteNull(name);
            }
        }

        return System.Text.Encoding.UTF8.GetString(stream.ToArray());
    }

    /// <summary>Mean exact match by number of objectives.</summary>
    public static IReadOnlyDictionary<int, double> ExactMatchOf(IReadOnlyList<Trajectory> batch) =>
        batch.GroupBy(t => t.Objectives).ToDictionary(g => g.Key, g => g.Average(t => t.ExactMatch.Average()));
}
