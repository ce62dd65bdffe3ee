// Ask: a question with a reply address of its own under /temp. The reference is unregistered when the task completes for any reason;
// replies that come later are dead letters, except after cancellation.
using Akka.Dispatch.SysMsg;

namespace Akka.Actor;

public static class Futures
{
    public static Task<object> Ask(this ICanTell self, object message, TimeSpan? timeout = null) =>
        self.Ask<object>(message, timeout, CancellationToken.None);

    public static Task<object> Ask(this ICanTell self, object message, CancellationToken cancellationToken) =>
        self.Ask<object>(message, null, cancellationToken);

    public static Task<object> Ask(this ICanTell self, object message, TimeSpan? timeout, CancellationToken cancellationToken) =>
        self.Ask<object>(message, timeout, cancellationToken);

    public static Task<T> Ask<T>(this ICanTell self, object message, TimeSpan? timeout = null) =>
        self.Ask<T>(message, timeout, CancellationToken.None);

    public static Task<T> Ask<T>(this ICanTell self, object message, CancellationToken cancellationToken) =>
        self.Ask<T>(message, null, cancellationToken);

    public static Task<T> Ask<T>(this ICanTell self, object message, TimeSpan? timeout, CancellationToken cancellationToken) =>
        self.Ask<T>(_ => message, timeout, cancellationToken);

    public static Task<T> Ask<T>(
        this ICanTell self, Func<IActorRef, object> messageFactory, TimeSpan? timeout, CancellationToken cancellationToken)
    {
        var provider = self switch
        {
            ActorSelection selection => (selection.Anchor as InternalActorRefBase)?.Provider,
            InternalActorRefBase reference => reference.Provider,
            _ => null,
        } as LocalActorRefProvider ?? throw new ArgumentException("Unable to resolve the target Provider", nameof(self));
        var reply = new PromiseActorRef<T>(provider, timeout ?? provider.System.AskTimeout, cancellationToken);
        if (!reply.Task.IsCompleted)
        {
            self.Tell(messageFactory(reply), reply);
        }

        return reply.Task;
    }
}

/// <summary>A temporary reference that completes a task with the first message it is told.</summary>
internal sealed class PromiseActorRef<T> : MinimalActorRef
{
    private readonly TaskCompletionSource<T> _result = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly LocalActorRefProvider _provider;
    private readonly ActorPath _path;
    private readonly Timer _timer;
    private readonly CancellationTokenRegistration _registration;

    internal PromiseActorRef(LocalActorRefProvider provider, TimeSpan timeout, CancellationToken cancellation)
    {
        _provider = provider;
        _path = provider.RegisterTemp(this);
        if (cancellation.CanBeCanceled)
        {
            _registration = cancellation.UnsafeRegister(
                static (state, token) => ((PromiseActorRef<T>)state).Finish(result => result.TrySetCanceled(token)), this);
        }

        if (timeout >= TimeSpan.Zero)
        {
            _timer = new Timer(
                static state =>
                {
                    var (promise, after) = ((PromiseActorRef<T>, TimeSpan))state;
                    promise.Finish(result => result.TrySetException(
                        new AskTimeoutException($"Timeout after {after.TotalMilliseconds} ms waiting for a reply to {promise.Path}")));
                },
                (this, timeout),
                Timeout.Infinite,
                Timeout.Infinite);
            _timer.Change(timeout, Timeout.InfiniteTimeSpan);
        }

        if (_result.Task.IsCompleted)
        {
            CleanUp();
        }
    }

    public override ActorPath Path => _path;

    public override IActorRefProvider Provider => _provider;

    internal Task<T> Task => _result.Task;

    internal override void TellInternal(object message, IActorRef sender)
    {
        switch (message)
        {
            case T typed:
                Reply(result => result.TrySetResult(typed), message, sender);
                break;
            case Status.Failure { Cause: null }:
                Reply(result => result.TrySetException(new TaskCanceledException()), message, sender);
                break;
            case Status.Failure failure:
                Reply(result => result.TrySetException(failure.Cause), message, sender);
                break;
            default:
                var error = new ArgumentException(
                    $"Received message of type [{message.GetType()}] - Ask expected message of type [{typeof(T)}]");
                if (Reply(result => result.TrySetException(error), message, sender))
                {
                    _provider.System.PublishDeadLetter(message, sender, this);
                }

                break;
        }
    }

    internal override void SendSystemMessage(SystemMessage message)
    {
        if (message is DeathWatchNotification death)
        {
            Tell(new Terminated(death.Actor, death.ExistenceConfirmed, death.AddressTerminated), death.Actor);
        }
        else
        {
            base.SendSystemMessage(message);
        }
    }

    private bool Reply(Func<TaskCompletionSource<T>, bool> complete, object message, IActorRef sender)
    {
        if (Finish(complete))
        {
            return true;
        }

        if (!_result.Task.IsCanceled)
        {
            _provider.System.PublishDeadLetter(message, sender, this);
        }

        return false;
    }

    private bool Finish(Func<TaskCompletionSource<T>, bool> complete)
    {
        var first = complete(_result);
        CleanUp();
        return first;
    }

    private void CleanUp()
    {
        _timer?.Dispose();
        _registration.Unregister();
        if (_path is not null)
        {
            _provider.UnregisterTemp(_path);
        }
    }
}

public static class GracefulStopSupport
{
    public static Task<bool> GracefulStop(this IActorRef target, TimeSpan timeout) => target.GracefulStop(timeout, PoisonPill.Instance);

    /// <summary>Asks the actor to stop and waits; false when it has not stopped in time.</summary>
    public static async Task<bool> GracefulStop(this IActorRef target, TimeSpan timeout, object stopMessage)
    {
        var actor = (InternalActorRefBase)target;
        var watcher = new PromiseActorRef<Terminated>((LocalActorRefProvider)actor.Provider, timeout, CancellationToken.None);
        actor.SendSystemMessage(new Watch(actor, watcher));
        target.Tell(stopMessage, ActorRefs.NoSender);
        try
        {
            return (await watcher.Task.ConfigureAwait(false)).ActorRef.Path.Equals(target.Path);
        }
        catch (AskTimeoutException)
        {
            actor.SendSystemMessage(new Unwatch(actor, watcher));
            return false;
        }
    }
}
