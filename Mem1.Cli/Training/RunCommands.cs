// Keeps: a command that cannot be done is refused with a sentence and changes nothing; what touches the model or the batch is done on the
// trainer's thread, through the loop's control; the answer says what was seen to happen, not what was asked for.
using System.Diagnostics;
using System.Globalization;
using Mem1.Dashboard;
using Mem1.Learner;

namespace Mem1.Cli.Training;

/// <summary>Carries out the dashboard's commands on a run.</summary>
/// <param name="session">The run's session; null before it serves.</param>
/// <param name="look">The run as the dashboard shows it.</param>
/// <param name="log">Told of what ends later.</param>
internal sealed class RunCommands(Func<RunSession?> session, Func<LiveSnapshot?> look, Action<TelemetryEvent> log) : ICommandTarget
{
    // An episode of a large model takes minutes of a worker's time.
    private const int MaxReplays = 4;

    // Actors of other processes are seen with their next report, a few seconds later.
    private static readonly TimeSpan s_seenWithin = TimeSpan.FromSeconds(10);

    private static readonly TimeSpan s_lookAgain = TimeSpan.FromMilliseconds(100);

    private const string Asked = "Somebody restarted it from the dashboard.";

    private int _replays;

    /// <inheritdoc/>
    public async Task<CommandResult> ExecuteAsync(RunCommand command, CancellationToken cancellationToken)
    {
        if (session() is not { } run) return Refused("The learner is not up yet; try again when it serves.");
        try
        {
            return command.Name switch
            {
                CommandNames.Pause => Pause(run, true),
                CommandNames.Resume => Pause(run, false),
                CommandNames.SetConcurrency => Limit(run, command.Value),
                CommandNames.Checkpoint => Done(
                    $"The checkpoint is saved in {await run.Control.RunAsync(run.SaveCheckpoint!).ConfigureAwait(false)}."),
                CommandNames.DrainWorker => await DrainAsync(run, command.Target).ConfigureAwait(false),
                CommandNames.RestartActor => await RestartAsync(run, command.Target, cancellationToken).ConfigureAwait(false),
                CommandNames.ReplayEpisode => await ReplayAsync(run, command.Target, cancellationToken).ConfigureAwait(false),
                _ => Refused($"There is no command {command.Name}."),
            };
        }
        catch (Exception e) when (e is LearnerException or UserErrorException)
        {
            return Refused(e.Message);
        }
    }

    private static CommandResult Pause(RunSession run, bool pause)
    {
        if (run.Control.Paused == pause) return Refused(pause ? "The run is paused already." : "The run is not paused.");
        run.Ledger.Paused = pause;
        run.Control.Paused = pause;
        var counts = run.Ledger.Counts;
        return Done(pause
            ? string.Create(
                CultureInfo.InvariantCulture, $"Paused: {counts.Leased} episodes are played to their end, {counts.Pending} tasks wait.")
            : "The run goes on.");
    }

    private static CommandResult Limit(RunSession run, int? limit)
    {
        try
        {
            run.KeepConcurrencyLimit?.Invoke(limit);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return Refused($"The limit cannot be kept with the run ({e.Message.TrimEnd('.')}), so it stays as it is.");
        }

        run.Ledger.ConcurrencyLimit = limit;
        return Done(limit is { } n
            ? string.Create(
                CultureInfo.InvariantCulture,
                $"At most {n} episodes are played at once from now on, also when the run is resumed; now it is {run.Ledger.Counts.Leased}.")
            : "As many episodes are played at once as the workers take.");
    }

    private static async Task<CommandResult> DrainAsync(RunSession run, string worker)
    {
        const string Reason = "Somebody drained it from the dashboard.";
        if (run.LocalWorker?.WorkerId == worker)
        {
            return await run.ReplaceLocalWorkerAsync().ConfigureAwait(false) is { } next
                ? Done($"Worker {worker} has finished its episodes and left; {next} has taken its place, since the run has no other.")
                : Refused("The run is ending.");
        }

        return run.DrainWorker(worker, Reason)
            ? Done($"Worker {worker} takes no more leases and leaves when its episodes have ended.")
            : Refused($"No worker {worker} is connected.");
    }

    private async Task<CommandResult> RestartAsync(RunSession run, string actor, CancellationToken cancellationToken)
    {
        var at = actor.LastIndexOf('/');
        var (worker, name) = (actor[..Math.Max(at, 0)], actor[(at + 1)..]);
        if (Find(actor) is not { } before) return Unseen(run, actor, worker, name);
        if (before.Kind is not ("policy" or "uplink" or "episode"))
            return Refused($"A {before.Kind} cannot be restarted; drain its worker instead.");
        if (before.State is "finished" or "returned" or "failed" or "stopped") return Refused($"{actor} is not there any more.");
        if (!run.RestartActor(worker, name, Asked)) return Refused($"No worker {worker} is connected.");
        var watch = Stopwatch.StartNew();
        while (watch.Elapsed < s_seenWithin)
        {
            await Task.Delay(s_lookAgain, cancellationToken).ConfigureAwait(false);
            var now = Find(actor);
            if (before.Kind == "episode" && now?.State is null or "returned" or "finished")
            {
                return Done(
                    now?.State == "finished" ? $"{actor} had come to its end." : $"{actor} is stopped, and its task is played again.");
            }

            if (now?.Restarts > before.Restarts)
            {
                return Done(string.Create(
                    CultureInfo.InvariantCulture, $"{actor} was restarted; that is its restart number {now.Restarts}."));
            }
        }

        return Done($"Worker {worker} was told; its restart has not been seen within {s_seenWithin.TotalSeconds:0} s.");
    }

    /// <summary>
    /// An actor that nobody has told of: where there is no cluster, workers of other processes report nothing, and yet have a policy and an
    /// uplink.
    /// </summary>
    private CommandResult Unseen(RunSession run, string actor, string worker, string name)
    {
        if (Find(worker) is null && name is "policy" or "uplink" && run.RestartActor(worker, name, Asked))
            return Done($"Worker {worker} was told; it reports no actors, so its restart cannot be seen from here.");
        return Refused($"There is no actor {actor}.");
    }

    private ActorState? Find(string path) => look()?.Actors.FirstOrDefault(a => a.Path == path);

    private async Task<CommandResult> ReplayAsync(RunSession run, string episode, CancellationToken cancellationToken)
    {
        if (Interlocked.Increment(ref _replays) > MaxReplays)
        {
            Interlocked.Decrement(ref _replays);
            return Refused($"{MaxReplays} episodes are being played again already.");
        }

        try
        {
            var original = RecordedEpisode.Original(episode);
            var (task, played) = await run.Control.RunAsync(() => run.TaskOfEpisode!(original)).ConfigureAwait(false);
            _ = PlayAsync(run, task, played, cancellationToken);
            return Done($"It is played again as \"{task.Task.Id}\" and will be among the trajectories.");
        }
        catch
        {
            Interlocked.Decrement(ref _replays);
            throw;
        }
    }

    private async Task PlayAsync(RunSession run, TaskRequest task, Action<Trajectory> played, CancellationToken cancellationToken)
    {
        try
        {
            var batch = await run.Ledger.RunAsync([task], null, cancellationToken).ConfigureAwait(false);
            foreach (var trajectory in batch) played(trajectory);
            log(batch.Count == 0
                ? Event(EventLevel.Error, "The episode could not be played again; the ledger has its reasons.")
                : Event(EventLevel.Info, string.Create(
                    CultureInfo.InvariantCulture, $"The episode was played again: reward {batch[0].Reward:0.000}.")));
        }
        catch (OperationCanceledException)
        {
            // The run is over.
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            log(Event(EventLevel.Error, $"The episode was played again but could not be written ({e.Message})."));
        }
        finally
        {
            Interlocked.Decrement(ref _replays);
        }

        TelemetryEvent Event(EventLevel level, string text) => new(level, "replay", text) { Episode = task.Task.Id };
    }

    private static CommandResult Done(string text) => new(true, text);

    private static CommandResult Refused(string text) => new(false, text);
}
