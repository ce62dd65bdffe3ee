namespace Mem1.Model.Generation;

/// <summary>
/// A fixed set of threads that run one job together: part 0 on the caller, the others on threads that sleep between jobs. A failure in any
/// part is thrown on the caller once every part has ended.
/// </summary>
internal sealed class WorkerPool : IDisposable
{
    private readonly Thread[] _threads;
    private readonly SemaphoreSlim[] _start;
    private readonly CountdownEvent _done = new(1);
    private Action<int>? _job;
    private Exception? _failure;
    private volatile bool _stopping;

    public WorkerPool(int threads)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(threads, 1);
        _start = new SemaphoreSlim[threads - 1];
        _threads = new Thread[threads - 1];
        for (int i = 0; i < _threads.Length; i++)
        {
            int part = i + 1;
            _start[i] = new SemaphoreSlim(0);
            _threads[i] = new Thread(() => Loop(part)) { IsBackground = true, Name = $"decode-{part}" };
            _threads[i].Start();
        }
    }

    public int Count => _threads.Length + 1;

    /// <summary>Runs <paramref name="job"/> for parts 0 to <paramref name="parts"/> - 1 and returns when all are done.</summary>
    public void Run(int parts, Action<int> job)
    {
        if (parts <= 1)
        {
            if (parts == 1)
                job(0);
            return;
        }
        _job = job;
        _failure = null;
        _done.Reset(parts - 1);
        for (int i = 0; i < parts - 1; i++)
            _start[i].Release();
        try
        {
            job(0);
        }
        finally
        {
            _done.Wait();
            _job = null;
        }
        if (_failure is { } failure)
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(failure);
    }

    public void Dispose()
    {
        _stopping = true;
        foreach (SemaphoreSlim start in _start)
            start.Release();
        foreach (Thread thread in _threads)
            thread.Join();
        foreach (SemaphoreSlim start in _start)
            start.Dispose();
        _done.Dispose();
    }

    private void Loop(int part)
    {
        while (true)
        {
            _start[part - 1].Wait();
            if (_stopping)
                return;
            try
            {
                _job!(part);
            }
            catch (Exception e)
            {
                Interlocked.CompareExchange(ref _failure, e, null);
            }
            _done.Signal();
        }
    }
}
