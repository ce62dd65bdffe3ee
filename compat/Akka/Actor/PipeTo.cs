// Sends the outcome of a task to an actor: the result, or Status.Failure with the bare exception. Never waits on the actor's thread.
namespace Akka.Actor;

public static class PipeToSupport
{
    public static async Task PipeTo<T>(
        this Task<T> taskToPipe,
        ICanTell recipient,
        IActorRef sender = null,
        Func<T, object> success = null,
        Func<Exception, object> failure = null)
    {
        object message;
        try
        {
            var result = await taskToPipe.ConfigureAwait(false);
            message = success is null ? result : success(result);
        }
        catch (Exception error)
        {
            message = FailureMessage(error, failure);
        }

        recipient.Tell(message, sender);
    }

    public static async Task PipeTo(
        this Task taskToPipe,
        ICanTell recipient,
        IActorRef sender = null,
        Func<object> success = null,
        Func<Exception, object> failure = null)
    {
        object message;
        try
        {
            await taskToPipe.ConfigureAwait(false);
            if (success is null)
            {
                return;
            }

            message = success();
        }
        catch (Exception error)
        {
            message = FailureMessage(error, failure);
        }

        recipient.Tell(message, sender);
    }

    private static object FailureMessage(Exception error, Func<Exception, object> failure) =>
        failure is null ? new Status.Failure(error) : failure(error);
}
