using Akka.Actor;
using Akka.Configuration;

namespace Akka.Cluster;

/// <summary>The keys under akka.cluster this library honours.</summary>
internal sealed class ClusterSettings
{
    internal ClusterSettings(Config config)
    {
        SeedNodes = [.. config.GetStringList("seed-nodes").Select(Address.Parse)];
        SeedNodeTimeout = config.GetTimeSpan("seed-node-timeout");
        RetryUnsuccessfulJoinAfter = config.GetTimeSpan("retry-unsuccessful-join-after");
        ShutdownAfterUnsuccessfulJoin = OffOr(config, "shutdown-after-unsuccessful-join-seed-nodes");
        AllowWeaklyUpAfter = OffOr(config, "allow-weakly-up-members");
        MinMembers = config.GetInt("min-nr-of-members");
        MinMembersOfRole = config.KeysOf("role")
            .Where(role => config.HasPath($"role.\"{role}\".min-nr-of-members"))
            .ToDictionary(role => role, role => config.GetInt($"role.\"{role}\".min-nr-of-members"));
        PeriodicTasksInitialDelay = config.GetTimeSpan("periodic-tasks-initial-delay");
        GossipInterval = config.GetTimeSpan("gossip-interval");
        LeaderActionsInterval = config.GetTimeSpan("leader-actions-interval");
        ReaperInterval = config.GetTimeSpan("unreachable-nodes-reaper-interval");
        QuarantineRemovedAfter = config.GetTimeSpan("quarantine-removed-node-after");
        RunShutdownWhenDown = config.GetBoolean("run-coordinated-shutdown-when-down");
        DifferentViewProbability = config.GetDouble("gossip-different-view-probability");
        FailureDetector = config.GetConfig("failure-detector");
        HeartbeatInterval = FailureDetector.GetTimeSpan("heartbeat-interval");
        ExpectedResponseAfter = FailureDetector.GetTimeSpan("expected-response-after");
        MonitoredByMembers = FailureDetector.GetInt("monitored-by-nr-of-members");
        Resolver = config.GetString("downing-provider-class") is { Length: > 0 } ? config.GetConfig("split-brain-resolver") : null;
    }

    internal IReadOnlyList<Address> SeedNodes { get; }

    internal TimeSpan SeedNodeTimeout { get; }

    internal TimeSpan RetryUnsuccessfulJoinAfter { get; }

    /// <summary>Null for never.</summary>
    internal TimeSpan? ShutdownAfterUnsuccessfulJoin { get; }

    /// <summary>Null for never.</summary>
    internal TimeSpan? AllowWeaklyUpAfter { get; }

    internal int MinMembers { get; }

    internal IReadOnlyDictionary<string, int> MinMembersOfRole { get; }

    internal TimeSpan PeriodicTasksInitialDelay { get; }

    internal TimeSpan GossipInterval { get; }

    internal TimeSpan LeaderActionsInterval { get; }

    internal TimeSpan ReaperInterval { get; }

    internal TimeSpan QuarantineRemovedAfter { get; }

    internal bool RunShutdownWhenDown { get; }

    internal double DifferentViewProbability { get; }

    internal Config FailureDetector { get; }

    internal TimeSpan HeartbeatInterval { get; }

    internal TimeSpan ExpectedResponseAfter { get; }

    internal int MonitoredByMembers { get; }

    /// <summary>Null when nobody is downed automatically.</summary>
    internal Config Resolver { get; }

    private static TimeSpan? OffOr(Config config, string key) =>
        config.GetString(key) is "off" or "false" or null ? null : config.GetTimeSpan(key);
}
