// Invariants:
//  * An episode that fails is stopped, never restarted: its lease is handed back and the learner leases the task again.
//  * The policy and the uplink are restarted a bounded number of times within a window, then stopped, which ends the worker;
//    a RolloutWorkerException, which no restart can mend, stops them at once.
//  * Every failure is counted and logged once, with the child it happened in.
using Akka.Actor;

namespace Mem1.Actors;

/// <summary>What a child of the rollout supervisor is.</summary>
internal enum ChildRole
{
    /// <summary>Plays one lease.</summary>
    Episode,
    /// <summary>Owns the model.</summary>
    Policy,
    /// <summary>Talks to the learner.</summary>
    Uplink,
}

/// <summary>Names of the supervisor's two fixed children; every other child is an episode.</summary>
internal static class ChildNames
{
    public const string Policy = "policy";
    public const string Uplink = "uplink";

    public static ChildRole RoleOf(IActorRef child) => child.Path.Name switch
    {
        Policy => ChildRole.Policy,
        Uplink => ChildRole.Uplink,
        _ => ChildRole.Episode,
    };
}

/// <summary>What happens to a child of the rollout supervisor that fails.</summary>
/// <param name="maxRestarts">Restarts of one child within the window; one more failure stops it.</param>
/// <param name="window">The window.</param>
/// <param name="observe">Told of every failure before the directive is applied, on the supervisor's thread.</param>
internal sealed class RolloutSupervision(int maxRestarts, TimeSpan window, Action<IActorRef, ChildRole, Exception> observe)
    : OneForOneStrategy(maxRestarts, (int)Math.Min(window.TotalMilliseconds, int.MaxValue), DefaultDecider, loggingEnabled: false)
{
    protected override Directive Handle(IActorRef child, Exception exception)
    {
        var role = ChildNames.RoleOf(child);
        observe(child, role, exception);
        return Decide(role, exception);
    }

    /// <summary>The directive for a failure.</summary>
    public static Directive Decide(ChildRole role, Exception cause) => role switch
    {
        ChildRole.Episode => Directive.Stop,
        _ when cause is ActorInitializationException or ActorKilledException or RolloutWorkerException => Directive.Stop,
        _ => Directive.Restart,
    };
}

/// <summary>An actor fails because somebody asked for it; its supervisor restarts it like after any other failure.</summary>
internal sealed class RestartRequestedException(string reason) : Exception(reason);
