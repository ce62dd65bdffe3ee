// Invariants:
//  * Immutable; Validate reports every contradiction at once and changes nothing.
//  * A worker started from options that validate never meets a limit that contradicts another one.
using Mem1.Protocol.Security;

namespace Mem1.Actors;

/// <summary>Settings of one rollout worker.</summary>
public sealed record RolloutWorkerOptions
{
    /// <summary>Address of the learner: an absolute http or https URI, such as http://127.0.0.1:5400.</summary>
    public required string LearnerAddress { get; init; }

    /// <summary>How the worker shows the learner who it is, and whom it takes for the learner.</summary>
    public ChannelSecurity Security { get; init; } = ChannelSecurity.None;

    /// <summary>Name of this worker, stable for the life of the process and unique within a run.</summary>
    public string WorkerId { get; init; } = $"{Environment.MachineName}-{Environment.ProcessId}-{Guid.NewGuid():N}";

    /// <summary>How many episodes are played at once; also the largest decoding batch.</summary>
    public int MaxEpisodes { get; init; } = 16;

    /// <summary>Upper bound of the tokens of one response; a lease may ask for fewer, never for more.</summary>
    public int MaxNewTokens { get; init; } = 1024;

    /// <summary>Longest observation in tokens; a longer one is clipped and its closing tag kept.</summary>
    public int MaxObservationTokens { get; init; } = 1024;

    /// <summary>Longest sequence the model is used with, context and response together, in tokens.</summary>
    public int MaxContextTokens { get; init; } = 8192;

    /// <summary>
    /// How an episode's memory reaches its next turn; the learner's layout must be the one that computes the same. Carrying needs an engine
    /// that can (the managed one; an external server re-encodes).
    /// </summary>
    public RolloutMemory Memory { get; init; } = RolloutMemory.Reencode;

    /// <summary>
    /// With carried memory: longest episode in tokens, every token counted once. A model with rotary positions has no more of them than it
    /// was made for, since positions run on; without them only <see cref="MaxContextTokens"/> binds.
    /// </summary>
    public int MaxEpisodeTokens { get; init; } = int.MaxValue;

    /// <summary>How long one call of the environment may take before it is cancelled and counts as a failure.</summary>
    public TimeSpan EnvironmentDeadline { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>How long a cancelled call of the environment may take to return before the episode is given up.</summary>
    public TimeSpan EnvironmentGrace { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>How often a failed call of the environment is tried again before the lease is handed back; 0 is never.</summary>
    public int EnvironmentRetries { get; init; } = 3;

    /// <summary>Wait before the first retry of an environment call; every further one waits twice as long.</summary>
    public TimeSpan EnvironmentBackoff { get; init; } = TimeSpan.FromMilliseconds(200);

    /// <summary>How often a generation lost in a crash of the policy is asked for again before the lease is handed back.</summary>
    public int GenerationRetries { get; init; } = 3;

    /// <summary>How many sub-trajectories may wait for the learner's acknowledgement; at the bound episodes pause.</summary>
    public int MaxUnacknowledged { get; init; } = 1024;

    /// <summary>How long the learner may take to welcome this worker before the attempt is dropped.</summary>
    public TimeSpan ConnectTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>Wait before the first attempt to reconnect; every further one waits twice as long, with jitter.</summary>
    public TimeSpan ReconnectDelay { get; init; } = TimeSpan.FromMilliseconds(200);

    /// <summary>Longest wait between two attempts to reconnect.</summary>
    public TimeSpan MaxReconnectDelay { get; init; } = TimeSpan.FromSeconds(15);

    /// <summary>Time between two heartbeats to the learner.</summary>
    public TimeSpan HeartbeatInterval { get; init; } = TimeSpan.FromSeconds(2);

    /// <summary>How often a failed download of weights is tried again before the stream to the learner is opened anew.</summary>
    public int WeightsRetries { get; init; } = 5;

    /// <summary>How long one download of weights may take.</summary>
    public TimeSpan WeightsDeadline { get; init; } = TimeSpan.FromMinutes(10);

    /// <summary>Largest blob of weights that is accepted, in bytes. The default is more than any machine of today holds.</summary>
    public long MaxWeightsBytes { get; init; } = 1L << 40;

    /// <summary>Keep the blob of the weights in place, so that the learner may send the next version as a difference to it.</summary>
    public bool WeightsDelta { get; init; }

    /// <summary>How long a draining worker waits for its episodes and acknowledgements before it leaves without them.</summary>
    public TimeSpan DrainTimeout { get; init; } = TimeSpan.FromMinutes(5);

    /// <summary>How often the policy or the uplink may crash within <see cref="RestartWindow"/> before the worker stops.</summary>
    public int MaxRestarts { get; init; } = 5;

    /// <summary>The window in which crashes of the policy or the uplink are counted.</summary>
    public TimeSpan RestartWindow { get; init; } = TimeSpan.FromMinutes(1);

    /// <summary>Fingerprint of the model shape this worker is for; null accepts any. A learner with another one is refused.</summary>
    public long? ModelFingerprint { get; init; }

    /// <summary>Fingerprint of tokenizer and environment that the learner gave when it described the run; null if none was asked for.</summary>
    public long? RunFingerprint { get; init; }

    /// <summary>All actors share one thread and the environment runs on it: slower, and steps come one after the other.</summary>
    public bool Serial { get; init; }

    /// <summary>Checks the settings, each one and against each other.</summary>
    /// <returns>One sentence per contradiction; empty when there is none.</returns>
    public IReadOnlyList<string> Validate()
    {
        var problems = new List<string>();
        if (!Uri.TryCreate(LearnerAddress, UriKind.Absolute, out var uri) || (uri.Scheme != "http" && uri.Scheme != "https"))
            problems.Add($"LearnerAddress is \"{LearnerAddress}\"; it must be an absolute http or https address.");
        if (string.IsNullOrWhiteSpace(WorkerId) || WorkerId.Length > MaxNameLength)
            problems.Add($"WorkerId has {WorkerId.Length} characters; it must have 1 to {MaxNameLength} and not be blank.");

        AtLeast(MaxEpisodes, 1, nameof(MaxEpisodes));
        AtLeast(MaxNewTokens, 1, nameof(MaxNewTokens));
        AtLeast(MaxObservationTokens, 1, nameof(MaxObservationTokens));
        AtLeast(MaxContextTokens, 2, nameof(MaxContextTokens));
        AtLeast(EnvironmentRetries, 0, nameof(EnvironmentRetries));
        AtLeast(GenerationRetries, 0, nameof(GenerationRetries));
        AtLeast(MaxUnacknowledged, 1, nameof(MaxUnacknowledged));
        AtLeast(WeightsRetries, 0, nameof(WeightsRetries));
        AtLeast(MaxRestarts, 0, nameof(MaxRestarts));
        if (MaxWeightsBytes < 1)
            problems.Add($"MaxWeightsBytes is {MaxWeightsBytes}; it must be at least 1.");

        Positive(EnvironmentDeadline, nameof(EnvironmentDeadline));
        Positive(EnvironmentGrace, nameof(EnvironmentGrace));
        Positive(EnvironmentBackoff, nameof(EnvironmentBackoff));
        Positive(ConnectTimeout, nameof(ConnectTimeout));
        Positive(ReconnectDelay, nameof(ReconnectDelay));
        Positive(MaxReconnectDelay, nameof(MaxReconnectDelay));
        Positive(HeartbeatInterval, nameof(HeartbeatInterval));
        Positive(WeightsDeadline, nameof(WeightsDeadline));
        Positive(DrainTimeout, nameof(DrainTimeout));
        Positive(RestartWindow, nameof(RestartWindow));

        if (MaxReconnectDelay < ReconnectDelay)
            problems.Add($"MaxReconnectDelay ({MaxReconnectDelay}) is shorter than ReconnectDelay ({ReconnectDelay}).");
        if (MaxObservationTokens >= MaxContextTokens)
        {
            problems.Add($"MaxObservationTokens ({MaxObservationTokens}) leaves no room for a response within MaxContextTokens " +
                $"({MaxContextTokens}).");
        }
        if (MaxEpisodeTokens < MaxContextTokens)
            problems.Add($"MaxEpisodeTokens ({MaxEpisodeTokens}) is below MaxContextTokens ({MaxContextTokens}).");
        if (MaxNewTokens >= MaxContextTokens)
            problems.Add($"MaxNewTokens ({MaxNewTokens}) leaves no room for a prompt within MaxContextTokens ({MaxContextTokens}).");
        return problems;

        void AtLeast(int value, int least, string name)
        {
            if (value < least)
                problems.Add($"{name} is {value}; it must be at least {least}.");
        }

        void Positive(TimeSpan value, string name)
        {
            if (value <= TimeSpan.Zero || value > LongestWait)
                problems.Add($"{name} is {value}; it must be longer than zero and at most {LongestWait}.");
        }
    }

    // What a learner accepts as a worker's name.
    private const int MaxNameLength = 200;

    // Timers of .NET take at most 2^32 - 2 milliseconds (49.7 days); 40 days leaves room for sums of two settings.
    private static readonly TimeSpan LongestWait = TimeSpan.FromDays(40);
}
