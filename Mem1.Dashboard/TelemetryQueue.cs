// Keeps: whoever publishes never waits; what does not fit is dropped and counted, and the count is shown.
using System.Threading.Channels;

namespace Mem1.Dashboard;

/// <summary>How bad an event is.</summary>
public enum EventLevel
{
    /// <summary>Something happened.</summary>
    Info,
    /// <summary>Something to look at.</summary>
    Warning,
    /// <summary>Something failed.</summary>
    Error,
}

/// <summary>An event of the run's log.</summary>
/// <param name="Level">How bad.</param>
/// <param name="Kind">Its type: phase, note, update, worker, actor, environment, run.</param>
/// <param name="Text">A sentence.</param>
public sealed record TelemetryEvent(EventLevel Level, string Kind, string Text)
{
    /// <summary>When it happened.</summary>
    public DateTimeOffset Time { get; init; } = DateTimeOffset.UtcNow;
    /// <summary>Actor or worker it is about; empty for none.</summary>
    public string Actor { get; init; } = "";
    /// <summary>Episode it is about; empty for none.</summary>
    public string Episode { get; init; } = "";
    /// <summary>What logs and traces.jsonl call that episode; empty where not known.</summary>
    public string TraceId { get; init; } = "";
}

/// <summary>Where a training says what it does. Never blocks, never throws.</summary>
public interface ITelemetrySink
{
    /// <summary>A phase begins.</summary>
    void Phase(string name);

    /// <summary>Progress of the phase.</summary>
    /// <param name="share">Share done, in [0, 1].</param>
    /// <param name="detail">A few words.</param>
    void Progress(double share, string detail);

    /// <summary>Something happened.</summary>
    void Log(TelemetryEvent happened);
}

/// <summary>The bounded queue between a training and its dashboard.</summary>
public sealed class TelemetryQueue : ITelemetrySink
{
    // The dashboard empties it several times a second; more than this between two looks is a flood that no reader follows.
    private const int Capacity = 4096;

    private readonly Channel<TelemetryEvent> _events = Channel.CreateBounded<TelemetryEvent>(
        new BoundedChannelOptions(Capacity) { SingleReader = true, FullMode = BoundedChannelFullMode.Wait });

    private long _dropped;
    private volatile ProgressState _progress = new("starting", 0, "", DateTimeOffset.UtcNow);

    /// <summary>Events that did not fit.</summary>
    public long Dropped => Volatile.Read(ref _dropped);

    internal ProgressState Current => _progress;

    /// <inheritdoc/>
    public void Phase(string name)
    {
        _progress = new ProgressState(name, 0, "", DateTimeOffset.UtcNow);
        Log(new TelemetryEvent(EventLevel.Info, "phase", name));
    }

    /// <inheritdoc/>
    public void Progress(double share, string detail) => _progress = _progress with { Share = share, Detail = detail };

    /// <inheritdoc/>
    public void Log(TelemetryEvent happened)
    {
        if (!_events.Writer.TryWrite(happened)) Interlocked.Increment(ref _dropped);
    }

    internal bool TryRead(out TelemetryEvent? happened) => _events.Reader.TryRead(out happened);
}

/// <summary>What a training is at.</summary>
/// <param name="Phase">Its phase.</param>
/// <param name="Share">Share of the phase that is done.</param>
/// <param name="Detail">A few words.</param>
/// <param name="Since">When the phase began.</param>
internal sealed record ProgressState(string Phase, double Share, string Detail, DateTimeOffset Since);
