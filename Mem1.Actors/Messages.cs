// The vocabulary of the actors of a rollout worker.
//
// Invariants:
//  * Every message is immutable by type or, for protobuf messages and arrays, by convention: who sends one never writes to it again.
//  * Every Generate is answered by exactly one Generated or GenerationFailed, unless its asker cancels it, asks anew, or the
//    worker stops; after a crash of the policy the failure may be said twice, under the same tag.
//  * Every TurnPlayed is answered by TurnAccepted, unless its lease is released first; after a crash of the uplink perhaps twice.
//  * Every LeaseArrived is followed by exactly one LeaseReleased; hearing it twice would be harmless.
using Akka.Actor;
using Grpc.Core;
using Mem1.Environments;
using Mem1.Model;
using Mem1.Protocol;
using Mem1.Protocol.V1;
using Status = Grpc.Core.Status;

namespace Mem1.Actors;

/// <summary>Names a lease: one try of one episode.</summary>
internal readonly record struct LeaseKey(string EpisodeId, int Attempt)
{
    public static LeaseKey Of(TaskLease lease) => new(lease.EpisodeId, lease.Attempt);
}

/// <summary>Names a turn, and so a sub-trajectory.</summary>
internal readonly record struct TurnKey(string EpisodeId, int Attempt, int Turn)
{
    public static TurnKey Of(SubTrajectory turn) => new(turn.EpisodeId, turn.Attempt, turn.Turn);

    public static TurnKey Of(Acknowledgement ack) => new(ack.EpisodeId, ack.Attempt, ack.Turn);
}

// --- Episode and policy.

/// <summary>Asks the policy to continue a context. An asker has at most one request open; <paramref name="Tag"/> comes back.</summary>
internal sealed record Generate(long Tag, int[] Context, SamplingOptions Sampling, IReadOnlyList<string> StopStrings, ulong Seed)
{
    /// <summary>Tokens of prompt at the start of the context: every turn of the episode begins with them.</summary>
    public int Prompt { get; init; }

    /// <summary>Set where the context is a whole episode to be carried on: how it came about.</summary>
    public CarriedTurns? Carried { get; init; }
}

/// <summary>A carried context: <paramref name="Prompt"/> tokens of prompt, then turns.</summary>
internal sealed record CarriedTurns(int Prompt, IReadOnlyList<CarriedTurn> Turns);

/// <summary>Drops the sender's open request and what is kept for its next ones.</summary>
internal sealed record CancelGeneration;

/// <summary>A finished continuation.</summary>
internal sealed record Generated(long Tag, GenerationResult Result);

/// <summary>No continuation. <paramref name="Retry"/>: the policy crashed and the same request may succeed.</summary>
internal sealed record GenerationFailed(long Tag, string Reason, bool Retry);

// --- Policy and uplink.

/// <summary>Puts weights in place at the next token boundary; answered by <see cref="WeightsSwapped"/>.</summary>
internal sealed record SwapWeights(ModelWeights Weights, long Version);

/// <summary>Weights are in place: the next token is drawn from them.</summary>
internal sealed record WeightsSwapped(long Version);

// --- Episode and uplink.

/// <summary>A turn to send to the learner.</summary>
internal sealed record TurnPlayed(SubTrajectory Turn);

/// <summary>The turn is kept until the learner acknowledges it; its episode may go on.</summary>
internal sealed record TurnAccepted(int Turn);

// --- Episode and supervisor.

/// <summary>The episode ended and its last turn was accepted.</summary>
internal sealed record EpisodeFinished
{
    public static readonly EpisodeFinished Instance = new();
}

/// <summary>The episode cannot be played here; its lease goes back.</summary>
internal sealed record EpisodeGivenUp(string Reason);

// --- Uplink and supervisor.

/// <summary>The learner leased a task to this worker.</summary>
internal sealed record LeaseArrived(TaskLease Lease);

/// <summary>A lease no longer occupies the worker: played to the end, or handed back with a reason.</summary>
/// <param name="Lease">Which.</param>
/// <param name="ReturnReason">Why it goes back; null when its episode has ended.</param>
/// <param name="Leaving">Whether it is handed back only because the worker leaves: what was sent of it stands.</param>
internal sealed record LeaseReleased(LeaseKey Lease, string? ReturnReason, bool Leaving = false);

/// <summary>No new episodes until <see cref="ResumeEpisodes"/>: too much is unacknowledged.</summary>
internal sealed record PauseEpisodes
{
    public static readonly PauseEpisodes Instance = new();
}

/// <summary>New episodes may start again.</summary>
internal sealed record ResumeEpisodes
{
    public static readonly ResumeEpisodes Instance = new();
}

/// <summary>Take no more leases, finish what runs, then leave. From the learner, or from the worker's owner.</summary>
internal sealed record Drain(string Reason);

/// <summary>Leave at once: running episodes are handed back.</summary>
internal sealed record StopNow(string Reason);

/// <summary>Take no more leases; finish the turn under way of every episode, hand the episodes back, leave.</summary>
/// <param name="Reason">For people.</param>
internal sealed record HandBack(string Reason);

/// <summary>To an episode: give up before the next turn.</summary>
/// <param name="Reason">One sentence.</param>
internal sealed record FinishTurn(string Reason);

/// <summary>Somebody wants the child of that name to begin anew.</summary>
internal sealed record RestartChild(string Name, string Reason);

/// <summary>To the policy or the uplink: fail, so that the supervisor restarts you.</summary>
internal sealed record BeginAnew(string Reason);

/// <summary>To the uplink: grant no more credit.</summary>
internal sealed record StopLeasing
{
    public static readonly StopLeasing Instance = new();
}

/// <summary>
/// To the uplink: close the stream once everything is sent and, if asked, acknowledged. Answered by <see cref="UplinkClosed"/>.
/// </summary>
internal sealed record LeaveLearner(bool AwaitAcknowledgements);

/// <summary>The uplink has closed its stream.</summary>
internal sealed record UplinkClosed(int Unacknowledged);

/// <summary>The learner will not have this worker, or this worker not that learner; the sentence says why.</summary>
internal sealed record LearnerRefused(string Sentence);

// --- To oneself.

/// <summary>Policy: draw the next token for everybody. An earlier incarnation's tick is ignored.</summary>
internal sealed record DrawToken(int Incarnation);

/// <summary>Episode: the environment took the response.</summary>
internal sealed record EnvironmentStepped(TurnResult Result);

/// <summary>Episode: a call of the environment threw.</summary>
internal sealed record EnvironmentFailed(Exception Cause);

/// <summary>Episode: time to call the environment again.</summary>
internal sealed record RetryEnvironment
{
    public static readonly RetryEnvironment Instance = new();
}

/// <summary>Uplink: a message came in on the stream with that number.</summary>
internal sealed record LinkReceived(int Link, LearnerMessage Message);

/// <summary>Uplink: the stream with that number is over.</summary>
internal sealed record LinkEnded(int Link, Status Status);

/// <summary>Uplink: a download brought weights; over gRPC for a reason, if there is one.</summary>
internal sealed record WeightsPulled(long Version, ModelWeights Weights, ByteBlob? Blob, RpcException? DirectFailure);

/// <summary>Uplink: a download failed.</summary>
internal sealed record WeightsPullFailed(long Version, Exception Cause);

/// <summary>Uplink: a timer of that kind fired.</summary>
internal sealed record UplinkTick(UplinkTimer Timer)
{
    public static readonly UplinkTick Connect = new(UplinkTimer.Connect);
    public static readonly UplinkTick Welcome = new(UplinkTimer.Welcome);
    public static readonly UplinkTick Heartbeat = new(UplinkTimer.Heartbeat);
    public static readonly UplinkTick Pull = new(UplinkTimer.Pull);
    public static readonly UplinkTick Leave = new(UplinkTimer.Leave);
}

/// <summary>What an uplink waits for.</summary>
internal enum UplinkTimer
{
    /// <summary>The next attempt to connect.</summary>
    Connect,
    /// <summary>The learner's welcome.</summary>
    Welcome,
    /// <summary>The next heartbeat.</summary>
    Heartbeat,
    /// <summary>The next attempt to download weights.</summary>
    Pull,
    /// <summary>The learner's end of a stream this worker has ended.</summary>
    Leave,
}

/// <summary>Supervisor: a drain or a stop has taken too long.</summary>
internal sealed record PatienceOver
{
    public static readonly PatienceOver Instance = new();
}
