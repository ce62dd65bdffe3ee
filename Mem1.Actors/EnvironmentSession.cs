// Invariants:
//  * Calls of one environment come one after the other, retries included; it is never disposed while a call runs.
//  * Every call ends by its deadline plus the grace: with a result, with the environment's exception, with TimeoutException, or, when it
//    ignores its cancellation, with EnvironmentStuckException, after which the session makes no further calls.
using Mem1.Environments;

namespace Mem1.Actors;

/// <summary>The environment neither answered nor returned after it was cancelled.</summary>
/// <param name="message">One sentence.</param>
public sealed class EnvironmentStuckException(string message) : Exception(message);

/// <summary>The environment of an episode exists.</summary>
/// <param name="Prompt">Its prompt.</param>
/// <param name="MaxTurns">Responses it takes.</param>
public sealed record EnvironmentReady(string Prompt, int MaxTurns);

/// <summary>One episode of an environment behind a deadline. Not thread-safe; close it when the episode is over.</summary>
/// <param name="deadline">How long a call may take before it is cancelled.</param>
/// <param name="grace">How long a cancelled call may take to return.</param>
/// <param name="serial">Whether calls run on the caller's thread, where one that blocks holds the caller.</param>
/// <param name="time">Clock of both.</param>
public sealed class EnvironmentSession(TimeSpan deadline, TimeSpan grace, bool serial, TimeProvider time)
{
    private readonly CancellationTokenSource _stop = new();
    private IEnvironment? _environment;
    private Task _running = Task.CompletedTask;

    /// <summary>Makes the environment.</summary>
    /// <exception cref="TimeoutException">It was not made by the deadline.</exception>
    /// <exception cref="EnvironmentStuckException">Nor did the call return when it was cancelled.</exception>
    public async Task<EnvironmentReady> CreateAsync(IEnvironmentFactory factory, EnvironmentTask task, ulong seed)
    {
        // The environment is kept by the call itself, so that one made too late is still disposed.
        var environment = await CallAsync(_ => ValueTask.FromResult(_environment = factory.Create(task, seed))).ConfigureAwait(false);
        return new EnvironmentReady(environment.Prompt, environment.MaxTurns);
    }

    /// <summary>Hands a response to the environment; one that failed may be handed over again.</summary>
    /// <exception cref="TimeoutException">There was no answer by the deadline.</exception>
    /// <exception cref="EnvironmentStuckException">Nor did the call return when it was cancelled.</exception>
    public Task<TurnResult> StepAsync(string response, bool truncated)
    {
        var environment = _environment ?? throw new InvalidOperationException("The environment has not been made.");
        return CallAsync(token => environment.StepAsync(response, truncated, token));
    }

    /// <summary>Ends the episode from outside.</summary>
    public TurnResult Abort(EpisodeEnd reason) =>
        (_environment ?? throw new InvalidOperationException("The environment has not been made.")).Abort(reason);

    /// <summary>Cancels what runs, and disposes the environment once it has returned.</summary>
    public async Task CloseAsync()
    {
        await _stop.CancelAsync().ConfigureAwait(false);
        await _running.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        if (_environment is { } environment)
            await environment.DisposeAsync().ConfigureAwait(false);
        _stop.Dispose();
    }

    private async Task<T> CallAsync<T>(Func<CancellationToken, ValueTask<T>> call)
    {
        if (!_running.IsCompleted)
            throw new EnvironmentStuckException("An earlier call of the environment has not returned.");

        using var late = new CancellationTokenSource(deadline, time);
        var linked = CancellationTokenSource.CreateLinkedTokenSource(late.Token, _stop.Token);
        // In serial mode the call runs on the actors' one thread; otherwise a call that blocks must not hold an actor.
        var task = serial ? Start(call, linked.Token) : Task.Run(() => Start(call, linked.Token));
        _running = task;
        _ = task.ContinueWith(
            (_, source) => ((CancellationTokenSource)source!).Dispose(), linked, CancellationToken.None,
            TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
        try
        {
            return await task.WaitAsync(deadline + grace, time).ConfigureAwait(false);
        }
        catch (TimeoutException) when (!task.IsCompleted)
        {
            throw new EnvironmentStuckException(
                $"The environment did not return within {grace} of being cancelled at its deadline of {deadline}.");
        }
        catch (OperationCanceledException) when (late.IsCancellationRequested && !_stop.IsCancellationRequested)
        {
            throw new TimeoutException($"The environment did not answer within {deadline}.");
        }

        // An exception thrown before the first await becomes the task's.
        static async Task<T> Start(Func<CancellationToken, ValueTask<T>> call, CancellationToken token) =>
            await call(token).ConfigureAwait(false);
    }
}
