// The phi accrual failure detector (Hayashibara et al., 2004): how unlikely the silence since the last heartbeat is, given the
// intervals seen so far. Before the first heartbeat a node counts as available.
using Akka.Configuration;

namespace Akka.Remote;

internal sealed class PhiAccrualFailureDetector
{
    private readonly Lock _gate = new();
    private readonly Queue<double> _intervals = new();
    private readonly double _threshold;
    private readonly int _maxSamples;
    private readonly double _minDeviation;
    private readonly double _pause;
    private double _sum;
    private double _sumOfSquares;
    private long? _latest;

    /// <param name="config">A failure-detector section.</param>
    internal PhiAccrualFailureDetector(Config config)
    {
        _threshold = config.GetDouble("threshold");
        _maxSamples = config.GetInt("max-sample-size");
        _minDeviation = config.GetTimeSpan("min-std-deviation").TotalMilliseconds;
        _pause = config.GetTimeSpan("acceptable-heartbeat-pause").TotalMilliseconds;

        // Two samples around the expected interval, so that the first silence is judged too.
        var expected = config.GetTimeSpan("heartbeat-interval").TotalMilliseconds;
        Add(expected - (expected / 4));
        Add(expected + (expected / 4));
    }

    internal bool IsMonitoring
    {
        get
        {
            lock (_gate)
            {
                return _latest is not null;
            }
        }
    }

    internal void Heartbeat()
    {
        lock (_gate)
        {
            var now = Environment.TickCount64;
            if (_latest is { } latest && PhiAt(now) < _threshold)
            {
                Add(now - latest);
            }

            _latest = now;
        }
    }

    internal bool IsAvailable()
    {
        lock (_gate)
        {
            return PhiAt(Environment.TickCount64) < _threshold;
        }
    }

    private void Add(double interval)
    {
        _intervals.Enqueue(interval);
        _sum += interval;
        _sumOfSquares += interval * interval;
        if (_intervals.Count > _maxSamples)
        {
            var old = _intervals.Dequeue();
            _sum -= old;
            _sumOfSquares -= old * old;
        }
    }

    private double PhiAt(long now)
    {
        if (_latest is not { } latest)
        {
            return 0;
        }

        var mean = _sum / _intervals.Count;
        var deviation = Math.Max(_minDeviation, Math.Sqrt(Math.Max(0, (_sumOfSquares / _intervals.Count) - (mean * mean))));
        var y = (now - latest - (mean + _pause)) / deviation;

        // Logistic approximation of the cumulative normal distribution.
        var e = Math.Exp(-y * (1.5976 + (0.070566 * y * y)));
        return y > 0 ? -Math.Log10(e / (1.0 + e)) : -Math.Log10(1.0 - (1.0 / (1.0 + e)));
    }
}
