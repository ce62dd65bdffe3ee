namespace Mem1.Actors;

/// <summary>Names of every metric instrument of a rollout worker, all under one meter.</summary>
public static class RolloutInstruments
{
    /// <summary>The meter.</summary>
    public const string Meter = "Mem1.Rollout";
    /// <summary>Episodes being played now.</summary>
    public const string EpisodesRunning = "mem1.rollout.episodes.running";
    /// <summary>Episodes played to their end.</summary>
    public const string EpisodesFinished = "mem1.rollout.episodes.finished";
    /// <summary>Leases handed back.</summary>
    public const string EpisodesReturned = "mem1.rollout.episodes.returned";
    /// <summary>Turns played.</summary>
    public const string Turns = "mem1.rollout.turns";
    /// <summary>Tokens drawn.</summary>
    public const string GeneratedTokens = "mem1.rollout.tokens.generated";
    /// <summary>Tokens read before drawing: contexts, and what is read again after a change of weights.</summary>
    public const string PrefillTokens = "mem1.rollout.tokens.prefill";
    /// <summary>Tokens of prompts that were not read again because what was computed for them was kept.</summary>
    public const string ReusedTokens = "mem1.rollout.tokens.reused";
    /// <summary>Decoding steps, one token for every active request each.</summary>
    public const string DecodeSteps = "mem1.rollout.decode.steps";
    /// <summary>Time spent in decoding steps, in seconds.</summary>
    public const string DecodeSeconds = "mem1.rollout.decode.seconds";
    /// <summary>Mean number of requests in a decoding step.</summary>
    public const string BatchOccupancy = "mem1.rollout.decode.occupancy";
    /// <summary>Calls of the environment that threw or ran past their deadline.</summary>
    public const string EnvironmentFailures = "mem1.rollout.environment.failures";
    /// <summary>Crashes of episodes.</summary>
    public const string EpisodeCrashes = "mem1.rollout.crashes.episode";
    /// <summary>Crashes of the policy.</summary>
    public const string PolicyCrashes = "mem1.rollout.crashes.policy";
    /// <summary>Crashes of the uplink.</summary>
    public const string UplinkCrashes = "mem1.rollout.crashes.uplink";
    /// <summary>Times the learner welcomed this worker.</summary>
    public const string Connections = "mem1.rollout.uplink.connections";
    /// <summary>Sub-trajectories the learner has not acknowledged.</summary>
    public const string Unacknowledged = "mem1.rollout.uplink.unacknowledged";
    /// <summary>Sub-trajectories sent, again or for the first time.</summary>
    public const string SubTrajectoriesSent = "mem1.rollout.uplink.sent";
    /// <summary>Weights put in place.</summary>
    public const string WeightSwaps = "mem1.rollout.weights.swaps";
    /// <summary>Downloads of weights that failed.</summary>
    public const string WeightsFailures = "mem1.rollout.weights.failures";
}
