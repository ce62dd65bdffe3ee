// Keeps: what is said of a learner is looked up when asked, except the age of the queue, which a timer follows.
using System.Diagnostics;
using Mem1.Cli.Output;
using Mem1.Cli.Training;
using Mem1.Learner;

namespace Mem1.Cli.Serve;

/// <summary>A reporter that lets a health server look at the learner behind it.</summary>
/// <param name="inner">Gets everything.</param>
internal sealed class LearnerHealth(IRunReporter inner) : IRunReporter, IHealth
{
    private static readonly TimeSpan s_interval = TimeSpan.FromSeconds(1);

    private readonly Lock _lock = new();
    private volatile RunSession? _session;
    private volatile bool _closed;
    private Timer? _timer;
    private long _waitingSince; // 0: nothing waits
    private int _pending;

    /// <inheritdoc/>
    public bool Started => _session is not null || _closed;

    /// <inheritdoc/>
    public string? NotReady => _closed ? "the run is over" : _session is null ? "the model is not loaded yet" : null;

    /// <inheritdoc/>
    public IEnumerable<(string Name, string Help, double Value)> Metrics
    {
        get
        {
            if (_session is not { } session) yield break;
            var counts = session.Ledger.Counts;
            yield return ("mem1_queue_age_seconds", "How long tasks have waited for a worker without their number going down.", QueueAge);
            yield return ("mem1_queue_tasks", "Tasks that wait for a worker.", counts.Pending);
            yield return ("mem1_leased_tasks", "Tasks that are being played.", counts.Leased);
            yield return ("mem1_connected_workers", "Workers.", session.Workers.Count);
            yield return ("mem1_policy_version", "Newest version of the policy.", session.PolicyVersion);
            if (session.Cluster?.Members is not { } nodes) yield break;
            yield return ("mem1_cluster_nodes", "Nodes of the cluster, the learner's included.", nodes.Count);
            yield return ("mem1_cluster_unreachable_nodes", "Nodes whose heartbeats do not arrive.", nodes.Count(n => !n.Reachable));
        }
    }

    /// <inheritdoc/>
    public bool IsForMachines => inner.IsForMachines;

    /// <summary>Seconds since the number of waiting tasks last went down; 0 when none waits.</summary>
    internal double QueueAge
    {
        get
        {
            lock (_lock) return _waitingSince == 0 || _closed ? 0 : Stopwatch.GetElapsedTime(_waitingSince).TotalSeconds;
        }
    }

    /// <inheritdoc/>
    // The ledger's lock is taken by every worker's message: a learner whose ledger hangs serves nobody.
    public Task<bool> AnswersAsync(CancellationToken cancellationToken) =>
        Task.Run(() => _session?.Ledger.Counts.Total is null or >= 0, cancellationToken);

    /// <inheritdoc/>
    public void Phase(string what) => inner.Phase(what);

    /// <inheritdoc/>
    public void Serving(RunSession session)
    {
        _session = session;
        _timer = new Timer(_ => Follow(session.Ledger.Counts.Pending), null, TimeSpan.Zero, s_interval);
        inner.Serving(session);
    }

    /// <summary>Takes note of how many tasks wait now.</summary>
    internal void Follow(int pending)
    {
        lock (_lock)
        {
            if (pending == 0) _waitingSince = 0;
            else if (_waitingSince == 0 || pending < _pending) _waitingSince = Stopwatch.GetTimestamp();
            _pending = pending;
        }
    }

    /// <inheritdoc/>
    public void Progress(double share, string detail) => inner.Progress(share, detail);

    /// <inheritdoc/>
    public void Note(string sentence) => inner.Note(sentence);

    /// <inheritdoc/>
    public void Sampling(long update, int done, int of) => inner.Sampling(update, done, of);

    /// <inheritdoc/>
    public void Updated(UpdateMetrics metrics, int last) => inner.Updated(metrics, last);

    /// <inheritdoc/>
    public void Closing(RunSummary summary)
    {
        Close();
        inner.Closing(summary);
    }

    /// <summary>The run is over: nothing more can be had of the learner.</summary>
    public void Close() => _closed = true;

    /// <inheritdoc/>
    public void Dispose()
    {
        _timer?.Dispose();
        inner.Dispose();
    }
}
