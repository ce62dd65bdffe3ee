// Invariants:
//  * Every number is written by the one actor it belongs to and may be read by any thread; only gauges ever go down.
using System.Diagnostics.Metrics;
using Mem1.Protocol.V1;

namespace Mem1.Actors;

/// <summary>What a rollout worker has done up to one moment.</summary>
public sealed record RolloutCounters
{
    /// <summary>Episodes being played.</summary>
    public required int EpisodesRunning { get; init; }
    /// <summary>Episodes played to their end.</summary>
    public required long EpisodesFinished { get; init; }
    /// <summary>Leases handed back to the learner.</summary>
    public required long EpisodesReturned { get; init; }
    /// <summary>Turns played.</summary>
    public required long Turns { get; init; }
    /// <summary>Tokens drawn.</summary>
    public required long GeneratedTokens { get; init; }
    /// <summary>Tokens read before drawing: contexts, and what is read again after a change of weights.</summary>
    public long PrefillTokens { get; init; }
    /// <summary>Tokens of prompts that were not read again because what was computed for them was kept.</summary>
    public long ReusedTokens { get; init; }
    /// <summary>Decoding steps, one token for every active request each.</summary>
    public required long DecodeSteps { get; init; }
    /// <summary>Time spent in decoding steps.</summary>
    public required TimeSpan DecodeTime { get; init; }
    /// <summary>Requests summed over decoding steps.</summary>
    public required long DecodedRequests { get; init; }
    /// <summary>Calls of the environment that threw or ran past their deadline.</summary>
    public required long EnvironmentFailures { get; init; }
    /// <summary>Crashes of episodes, each of which handed its lease back.</summary>
    public required long EpisodeCrashes { get; init; }
    /// <summary>Crashes of the policy.</summary>
    public required long PolicyCrashes { get; init; }
    /// <summary>Crashes of the uplink.</summary>
    public required long UplinkCrashes { get; init; }
    /// <summary>Times the learner welcomed this worker.</summary>
    public required long Connections { get; init; }
    /// <summary>Sub-trajectories not acknowledged yet.</summary>
    public required int Unacknowledged { get; init; }
    /// <summary>Sub-trajectories sent, again or for the first time.</summary>
    public required long SubTrajectoriesSent { get; init; }
    /// <summary>Weights put in place.</summary>
    public required long WeightSwaps { get; init; }
    /// <summary>Downloads of weights that failed.</summary>
    public required long WeightsFailures { get; init; }
    /// <summary>Version of the weights in place; null before the first.</summary>
    public required long? PolicyVersion { get; init; }
    /// <summary>Newest version that the learner told of; null before the first.</summary>
    public long? WantedVersion { get; init; }

    /// <summary>Tokens drawn per second of decoding; 0 before the first step.</summary>
    public double TokensPerSecond => DecodeTime > TimeSpan.Zero ? GeneratedTokens / DecodeTime.TotalSeconds : 0;

    /// <summary>Mean number of requests in a decoding step; 0 before the first step.</summary>
    public double BatchOccupancy => DecodeSteps > 0 ? (double)DecodedRequests / DecodeSteps : 0;
}

/// <summary>The live numbers behind <see cref="RolloutCounters"/>, also published as metric instruments.</summary>
internal sealed class RolloutTelemetry : IDisposable
{
    private const long NoVersion = long.MinValue;

    private readonly Meter _meter;
    private long _running, _finished, _returned, _turns, _tokens, _steps, _decodeTicks, _decodedRequests, _environmentFailures;
    private long _episodeCrashes, _policyCrashes, _uplinkCrashes, _connections, _unacknowledged, _sent, _swaps, _weightsFailures;
    private long _prefill, _reused;
    private long _version = NoVersion, _wanted = NoVersion;

    public RolloutTelemetry(string workerId)
    {
        _meter = new Meter(RolloutInstruments.Meter, null, [new KeyValuePair<string, object?>("worker", workerId)]);
        _meter.CreateObservableGauge(RolloutInstruments.EpisodesRunning, () => Volatile.Read(ref _running));
        _meter.CreateObservableCounter(RolloutInstruments.EpisodesFinished, () => Volatile.Read(ref _finished));
        _meter.CreateObservableCounter(RolloutInstruments.EpisodesReturned, () => Volatile.Read(ref _returned));
        _meter.CreateObservableCounter(RolloutInstruments.Turns, () => Volatile.Read(ref _turns));
        _meter.CreateObservableCounter(RolloutInstruments.GeneratedTokens, () => Volatile.Read(ref _tokens));
        _meter.CreateObservableCounter(RolloutInstruments.PrefillTokens, () => Volatile.Read(ref _prefill));
        _meter.CreateObservableCounter(RolloutInstruments.ReusedTokens, () => Volatile.Read(ref _reused));
        _meter.CreateObservableCounter(RolloutInstruments.DecodeSteps, () => Volatile.Read(ref _steps));
        _meter.CreateObservableCounter(RolloutInstruments.DecodeSeconds, () => Snapshot().DecodeTime.TotalSeconds, "s");
        _meter.CreateObservableGauge(RolloutInstruments.BatchOccupancy, () => Snapshot().BatchOccupancy);
        _meter.CreateObservableCounter(RolloutInstruments.EnvironmentFailures, () => Volatile.Read(ref _environmentFailures));
        _meter.CreateObservableCounter(RolloutInstruments.EpisodeCrashes, () => Volatile.Read(ref _episodeCrashes));
        _meter.CreateObservableCounter(RolloutInstruments.PolicyCrashes, () => Volatile.Read(ref _policyCrashes));
        _meter.CreateObservableCounter(RolloutInstruments.UplinkCrashes, () => Volatile.Read(ref _uplinkCrashes));
        _meter.CreateObservableCounter(RolloutInstruments.Connections, () => Volatile.Read(ref _connections));
        _meter.CreateObservableGauge(RolloutInstruments.Unacknowledged, () => Volatile.Read(ref _unacknowledged));
        _meter.CreateObservableCounter(RolloutInstruments.SubTrajectoriesSent, () => Volatile.Read(ref _sent));
        _meter.CreateObservableCounter(RolloutInstruments.WeightSwaps, () => Volatile.Read(ref _swaps));
        _meter.CreateObservableCounter(RolloutInstruments.WeightsFailures, () => Volatile.Read(ref _weightsFailures));
    }

    /// <summary>What the worker's actors do.</summary>
    public ActorBoard Board { get; } = new();

    public int Running => (int)Volatile.Read(ref _running);

    public long GeneratedTokens => Volatile.Read(ref _tokens);

    public void EpisodeStarted() => Interlocked.Increment(ref _running);

    public void EpisodeEnded(bool returned)
    {
        Interlocked.Decrement(ref _running);
        if (returned)
            Interlocked.Increment(ref _returned);
        else
            Interlocked.Increment(ref _finished);
    }

    public void LeaseRefused() => Interlocked.Increment(ref _returned);

    public void TurnPlayed() => Interlocked.Increment(ref _turns);

    public void Decoded(int requests, long tokens, TimeSpan elapsed)
    {
        Interlocked.Add(ref _tokens, tokens);
        Interlocked.Add(ref _decodeTicks, elapsed.Ticks);
        Interlocked.Add(ref _decodedRequests, requests);
        Interlocked.Increment(ref _steps);
    }

    public void Prefilled(long tokens, long reused)
    {
        Interlocked.Add(ref _prefill, tokens);
        Interlocked.Add(ref _reused, reused);
    }

    public void EnvironmentFailed() => Interlocked.Increment(ref _environmentFailures);

    public void Crashed(ChildRole role)
    {
        switch (role)
        {
            case ChildRole.Policy:
                Interlocked.Increment(ref _policyCrashes);
                break;
            case ChildRole.Uplink:
                Interlocked.Increment(ref _uplinkCrashes);
                break;
            default:
                Interlocked.Increment(ref _episodeCrashes);
                break;
        }
    }

    public void Connected() => Interlocked.Increment(ref _connections);

    public void Outstanding(int count) => Volatile.Write(ref _unacknowledged, count);

    public void Sent() => Interlocked.Increment(ref _sent);

    public void Swapped(long version)
    {
        Volatile.Write(ref _version, version);
        Interlocked.Increment(ref _swaps);
    }

    public void Wanted(long version) => Volatile.Write(ref _wanted, version);

    public void WeightsFailed() => Interlocked.Increment(ref _weightsFailures);

    /// <summary>What the learner is told every few seconds.</summary>
    public Heartbeat Heartbeat(long version, int unacknowledged, TimeSpan pull) => new()
    {
        RunningEpisodes = Running,
        PolicyVersion = version,
        GeneratedTokens = GeneratedTokens,
        Unacknowledged = unacknowledged,
        ResidentBytes = Environment.WorkingSet,
        PullSeconds = pull.TotalSeconds,
        GeneratingSeconds = Board.Spent("generating").TotalSeconds,
        EnvironmentSeconds = Board.Spent("environment").TotalSeconds,
        WaitingSeconds = Board.Spent("waiting").TotalSeconds,
    };

    public RolloutCounters Snapshot()
    {
        var version = Volatile.Read(ref _version);
        var wanted = Volatile.Read(ref _wanted);
        return new RolloutCounters
        {
            EpisodesRunning = Running,
            EpisodesFinished = Volatile.Read(ref _finished),
            EpisodesReturned = Volatile.Read(ref _returned),
            Turns = Volatile.Read(ref _turns),
            GeneratedTokens = Volatile.Read(ref _tokens),
            PrefillTokens = Volatile.Read(ref _prefill),
            ReusedTokens = Volatile.Read(ref _reused),
            DecodeSteps = Volatile.Read(ref _steps),
            DecodeTime = TimeSpan.FromTicks(Volatile.Read(ref _decodeTicks)),
            DecodedRequests = Volatile.Read(ref _decodedRequests),
            EnvironmentFailures = Volatile.Read(ref _environmentFailures),
            EpisodeCrashes = Volatile.Read(ref _episodeCrashes),
            PolicyCrashes = Volatile.Read(ref _policyCrashes),
            UplinkCrashes = Volatile.Read(ref _uplinkCrashes),
            Connections = Volatile.Read(ref _connections),
            Unacknowledged = (int)Volatile.Read(ref _unacknowledged),
            SubTrajectoriesSent = Volatile.Read(ref _sent),
            WeightSwaps = Volatile.Read(ref _swaps),
            WeightsFailures = Volatile.Read(ref _weightsFailures),
            PolicyVersion = version == NoVersion ? null : version,
            WantedVersion = wanted == NoVersion ? null : wanted,
        };
    }

    public void Dispose() => _meter.Dispose();
}
