// Keeps: what is asked of the loop runs on the loop's own thread, before an update's batch is taken, in the order it was asked for; what is
// not run any more is told so; the queue is bounded. Nothing here changes what is computed, only when.
namespace Mem1.Learner;

/// <summary>Lets others pause a <see cref="TrainingLoop"/> and have something done on its thread between updates. Thread-safe.</summary>
public sealed class LoopControl
{
    // Whoever asks waits for the answer; more askers than this are no people.
    private const int Capacity = 16;

    private readonly Lock _lock = new();
    private readonly Queue<(Action Run, Action<Exception> Refuse)> _asked = new();
    private CancellationTokenSource _changed = new(); // without a timer or a wait handle of its own there is nothing to dispose of
    private bool _open, _paused;

    /// <summary>Whether the loop takes no batch until it is resumed. May be set before the loop runs.</summary>
    public bool Paused
    {
        get
        {
            lock (_lock) return _paused;
        }

        set
        {
            lock (_lock)
            {
                _paused = value;
                _changed.Cancel();
            }
        }
    }

    /// <summary>Has something done on the loop's thread, where no update is under way and no batch is half taken.</summary>
    /// <param name="work">What to do; what it throws is the task's failure, and the loop goes on.</param>
    /// <exception cref="LearnerException">The loop does not run, has ended before it came to this, or too much is asked of it.</exception>
    public Task<T> RunAsync<T>(Func<T> work)
    {
        // The asker's continuations must not run on the loop's thread.
        var done = new TaskCompletionSource<T>(TaskCreationOptions.RunContinuationsAsynchronously);
        lock (_lock)
        {
            if (!_open) throw new LearnerException("The run is not at its updates now (it prepares, evaluates or has ended).");
            if (_asked.Count == Capacity) throw new LearnerException($"{Capacity} requests wait for the end of the update already; try again then.");
            _asked.Enqueue((Run, e => done.TrySetException(e)));
            _changed.Cancel();
        }

        return done.Task;

        void Run()
        {
            try
            {
                done.TrySetResult(work());
            }
            catch (Exception e)
            {
                done.TrySetException(e);
            }
        }
    }

    /// <summary>Cancelled as soon as <see cref="Serve"/> has something to do.</summary>
    internal CancellationToken Changed
    {
        get
        {
            lock (_lock) return _changed.Token;
        }
    }

    internal void Open()
    {
        lock (_lock) _open = true;
    }

    internal void Close()
    {
        lock (_lock)
        {
            _open = false;
            while (_asked.TryDequeue(out var asked)) asked.Refuse(new LearnerException("The run ended before it came to this."));
        }
    }

    /// <summary>Does what is asked, and waits while paused. On the loop's thread.</summary>
    /// <exception cref="OperationCanceledException">Cancelled while paused.</exception>
    internal void Serve(CancellationToken cancellationToken)
    {
        while (true)
        {
            CancellationToken changed;
            Action? next = null;
            lock (_lock)
            {
                if (_changed.IsCancellationRequested) _changed = new CancellationTokenSource();
                changed = _changed.Token;
                if (_asked.TryDequeue(out var asked)) next = asked.Run;
                else if (!_paused) return;
            }

            if (next is not null)
            {
                next();
                continue;
            }

            using var woken = CancellationTokenSource.CreateLinkedTokenSource(changed, cancellationToken);
            woken.Token.WaitHandle.WaitOne();
            cancellationToken.ThrowIfCancellationRequested();
        }
    }
}
