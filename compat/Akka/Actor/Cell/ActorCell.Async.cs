// Asynchronous handlers. While one is pending the mailbox is held back from user messages; its continuations come as system
// messages, so they run on the actor, one at a time, with the handler's own message and sender current. If the actor stops
// first, the continuation never runs.
using System.Runtime.ExceptionServices;
using Akka.Dispatch.SysMsg;

namespace Akka.Actor;

internal sealed partial class ActorCell
{
    private ActorTaskScheduler _taskScheduler;
    private Envelope _asyncEnvelope;

    internal ActorTaskScheduler TaskScheduler => _taskScheduler ??= new ActorTaskScheduler(this);

    internal void RunTask(Func<Task> handler)
    {
        var owner = _actor;
        _asyncEnvelope = _current;
        _mailbox.BeginAwait();
        var outer = new Task<Task>(handler, TaskCreationOptions.DenyChildAttach);
        outer.RunSynchronously(TaskScheduler);
        var pending = outer.Unwrap();
        if (pending.IsCompleted)
        {
            EndAwait();
            if (ErrorOf(pending) is { } error)
            {
                ExceptionDispatchInfo.Throw(error);
            }

            return;
        }

        _ = pending.ContinueWith(
            (task, state) => ((ActorCell)state).EnqueueSystem(new TaskEnded(owner, ErrorOf(task))),
            this,
            CancellationToken.None,
            TaskContinuationOptions.ExecuteSynchronously,
            global::System.Threading.Tasks.TaskScheduler.Default);
    }

    private static Exception ErrorOf(Task task) =>
        task.IsCanceled ? new TaskCanceledException(task)
        : task.Exception is { InnerExceptions.Count: 1 } single ? single.InnerException
        : task.Exception;

    private void EndAwait()
    {
        _asyncEnvelope = default;
        _mailbox.EndAwait();
    }

    private void RunStep(TaskStep step)
    {
        var before = _current;
        _current = _asyncEnvelope;
        TaskScheduler.Run(step.Task);
        _current = before;
    }

    private void EndTask(TaskEnded ended)
    {
        var envelope = _asyncEnvelope;
        EndAwait();
        if (ended.Error is not null && ReferenceEquals(ended.Owner, _actor))
        {
            _current = envelope;
            HandleInvokeFailure(ended.Error, exceptChild: null);
        }
        else if (ended.Error is not null)
        {
            SystemImpl.EventStream.Publish(
                new Event.Error(ended.Error, _self.Path.ToString(), _actor?.GetType() ?? typeof(ActorCell), ended.Error.Message));
        }

        if (ReceiveTimeout is not null)
        {
            ScheduleReceiveTimeout();
        }
    }
}

/// <summary>Runs tasks on one actor: at once when already there, otherwise as a system message.</summary>
internal sealed class ActorTaskScheduler(ActorCell cell) : TaskScheduler
{
    public override int MaximumConcurrencyLevel => 1;

    internal void Run(Task task) => TryExecuteTask(task);

    protected override void QueueTask(Task task)
    {
        if (ReferenceEquals(ActorCell.Current, cell))
        {
            TryExecuteTask(task);
        }
        else
        {
            cell.EnqueueSystem(new TaskStep(task));
        }
    }

    protected override bool TryExecuteTaskInline(Task task, bool taskWasPreviouslyQueued) =>
        !taskWasPreviouslyQueued && ReferenceEquals(ActorCell.Current, cell) && TryExecuteTask(task);

    protected override IEnumerable<Task> GetScheduledTasks() => [];
}
