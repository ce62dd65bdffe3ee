// Keeps: a command that is done, refused or fails is answered with one plain sentence; names of commands are part of the interface.
namespace Mem1.Dashboard;

/// <summary>What a run can be told to do.</summary>
/// <param name="Name">One of <see cref="CommandNames"/>.</param>
/// <param name="Target">The worker, actor or episode it is about; empty for none.</param>
/// <param name="Value">A number, for commands that take one; null for none.</param>
public sealed record RunCommand(string Name, string Target, int? Value);

/// <summary>The commands there are.</summary>
public static class CommandNames
{
    /// <summary>No task is handed out and no update begins; what is under way is finished.</summary>
    public const string Pause = "pause";
    /// <summary>Ends a pause.</summary>
    public const string Resume = "resume";
    /// <summary>Saves a checkpoint as soon as no update is under way.</summary>
    public const string Checkpoint = "checkpoint";
    /// <summary>How many episodes may be played at once over all workers; no value for as many as the workers take.</summary>
    public const string SetConcurrency = "set_concurrency";
    /// <summary>A worker takes no more leases, finishes what it plays and leaves.</summary>
    public const string DrainWorker = "drain_worker";
    /// <summary>A policy or an uplink is restarted by its supervisor; an episode is stopped and its task played again.</summary>
    public const string RestartActor = "restart_actor";
    /// <summary>A recorded episode is played again with its seeds under the newest policy, and not trained on.</summary>
    public const string ReplayEpisode = "replay_episode";

    /// <summary>All of them.</summary>
    public static IReadOnlyList<string> All { get; } =
        [Pause, Resume, Checkpoint, SetConcurrency, DrainWorker, RestartActor, ReplayEpisode];
}

/// <summary>What became of a command.</summary>
/// <param name="Done">Whether it was done; otherwise the run is as it was.</param>
/// <param name="Text">A sentence.</param>
public sealed record CommandResult(bool Done, string Text);

/// <summary>What commands act on. Called from several threads.</summary>
public interface ICommandTarget
{
    /// <summary>Does what a command says.</summary>
    /// <param name="command">Its name is one of <see cref="CommandNames"/>.</param>
    /// <param name="cancellationToken">The dashboard stops.</param>
    Task<CommandResult> ExecuteAsync(RunCommand command, CancellationToken cancellationToken);
}
