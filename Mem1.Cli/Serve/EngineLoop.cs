// Keeps: one thread touches the engine; jobs join the running batch in the order they came and leave it between two tokens; every job ends
// exactly once, with a reason or a failure, unless it is cancelled; waiting and running jobs together never exceed the capacity.
using System.Collections.Concurrent;
using System.Threading.Channels;
using Mem1.Model;
using Microsoft.AspNetCore.Http;

namespace Mem1.Cli.Serve;

/// <summary>What a request hears of its jobs: a token, the end, or a failure.</summary>
/// <param name="Job">Which.</param>
/// <param name="Token">Drawn; -1 at the end.</param>
/// <param name="LogProb">Its log-prob.</param>
/// <param name="Version">Of the weights that made it.</param>
/// <param name="Top">The most likely ones in its place.</param>
internal readonly record struct JobEvent(Job Job, int Token, float LogProb, long Version, IReadOnlyList<TokenLogProb> Top)
{
    public FinishReason? Finish { get; init; }

    public ApiException? Failure { get; init; }
}

/// <summary>One continuation.</summary>
internal sealed class Job : ITokenObserver
{
    private readonly ChannelWriter<JobEvent> _to;

    public Job(int index, GenerationRequest request, ChannelWriter<JobEvent> to)
    {
        (Index, _to) = (index, to);
        Request = request with { Observer = this };
    }

    /// <summary>Place among the request's choices.</summary>
    public int Index { get; }

    public GenerationRequest Request { get; }

    /// <summary>Ended or cancelled, and not counted any more. The loop's thread alone touches it.</summary>
    public bool Done { get; set; }

    public void Drawn(int token, float logProb, long policyVersion, IReadOnlyList<TokenLogProb> top) =>
        _to.TryWrite(new JobEvent(this, token, logProb, policyVersion, top));

    public void Ended(FinishReason finish) => _to.TryWrite(new JobEvent(this, -1, 0, 0, []) { Finish = finish });

    public void Failed(ApiException failure) => _to.TryWrite(new JobEvent(this, -1, 0, 0, []) { Failure = failure });
}

/// <summary>Owns the engine: continuous batching of all requests' jobs on one thread.</summary>
internal sealed class EngineLoop : IDisposable
{
    private readonly IGenerationEngine _engine;
    private readonly int _batch, _capacity;
    private readonly ConcurrentQueue<Action> _commands = new();
    private readonly AutoResetEvent _wake = new(false);
    private readonly Queue<Job> _waiting = new();
    private readonly Dictionary<long, Job> _running = [];
    private readonly Thread _thread;
    private int _admitted;
    private long _lastId, _version;
    private volatile bool _stopping;

    /// <param name="engine">Taken over.</param>
    /// <param name="batch">Most jobs that run at once.</param>
    /// <param name="queue">Most jobs that wait beside them.</param>
    public EngineLoop(IGenerationEngine engine, int batch, int queue)
    {
        (_engine, _batch, _capacity, _version) = (engine, batch, batch + queue, engine.PolicyVersion);
        _thread = new Thread(Run) { IsBackground = true, Name = "serve-engine" };
        _thread.Start();
    }

    /// <summary>Version of the weights in place.</summary>
    public long Version => Interlocked.Read(ref _version);

    /// <summary>Jobs that wait or run.</summary>
    public int Admitted => Volatile.Read(ref _admitted);

    public long NextId() => Interlocked.Increment(ref _lastId);

    /// <summary>Takes all of a request's jobs, or none when they would exceed the capacity.</summary>
    public bool TryAdmit(IReadOnlyList<Job> jobs)
    {
        if (Interlocked.Add(ref _admitted, jobs.Count) > _capacity)
        {
            Interlocked.Add(ref _admitted, -jobs.Count);
            return false;
        }

        Post(() =>
        {
            foreach (var job in jobs) _waiting.Enqueue(job);
        });
        return true;
    }

    /// <summary>Drops jobs that have not ended; nothing more is heard of them.</summary>
    public void Cancel(IReadOnlyList<Job> jobs) => Post(() =>
    {
        foreach (var job in jobs)
        {
            if (job.Done) continue;
            if (_running.Remove(job.Request.Id)) _engine.Cancel(job.Request.Id);
            Leave(job);
        }
    });

    /// <summary>Puts weights in place at the next token boundary; jobs in flight go on under them.</summary>
    /// <param name="weights">They must fit the model.</param>
    /// <param name="version">Null for the next one.</param>
    /// <returns>The version before and the one in place.</returns>
    public Task<(long Before, long Now)> Swap(ModelWeights weights, long? version)
    {
        var done = new TaskCompletionSource<(long, long)>(TaskCreationOptions.RunContinuationsAsynchronously);
        Post(() =>
        {
            try
            {
                var before = _engine.PolicyVersion;
                _engine.SwapWeights(weights, version ?? before + 1);
                Interlocked.Exchange(ref _version, _engine.PolicyVersion);
                done.TrySetResult((before, _engine.PolicyVersion));
            }
            catch (Exception e)
            {
                done.TrySetException(e);
            }
        });
        return done.Task;
    }

    public void Dispose()
    {
        _stopping = true;
        _wake.Set();
        _thread.Join();
        _engine.Dispose();
        _wake.Dispose();
    }

    private void Post(Action command)
    {
        _commands.Enqueue(command);
        if (!_stopping) _wake.Set();
    }

    private void Run()
    {
        while (!_stopping)
        {
            while (_commands.TryDequeue(out var command)) command();
            while (_engine.Active < _batch && _waiting.TryDequeue(out var job)) Begin(job);
            if (_engine.Active > 0) Step();
            else _wake.WaitOne();
        }

        var stopped = new ApiException(StatusCodes.Status503ServiceUnavailable, "The server is stopping.");
        while (_commands.TryDequeue(out var command)) command();
        foreach (var job in _running.Values.Concat(_waiting)) job.Failed(stopped);
    }

    private void Begin(Job job)
    {
        if (job.Done) return;
        try
        {
            _engine.Submit(job.Request);
            _running.Add(job.Request.Id, job);
        }
        catch (ArgumentException e)
        {
            Leave(job);
            job.Failed(ApiException.Bad($"The model refused the request: {e.Message}"));
        }
    }

    private void Step()
    {
        IReadOnlyList<GenerationResult> finished;
        try
        {
            finished = _engine.Step();
        }
        catch (Exception e)
        {
            // Diverged weights, mostly. Whoever is in the batch hears of it; new weights may mend it.
            var failure = new ApiException(StatusCodes.Status500InternalServerError, $"The model failed: {e.Message}");
            foreach (var (id, job) in _running)
            {
                _engine.Cancel(id);
                Leave(job);
                job.Failed(failure);
            }

            _running.Clear();
            return;
        }

        foreach (var result in finished)
        {
            _running.Remove(result.Id, out var job);
            Leave(job!);
            job!.Ended(result.Finish);
        }
    }

    private void Leave(Job job)
    {
        job.Done = true;
        Interlocked.Decrement(ref _admitted);
    }
}
