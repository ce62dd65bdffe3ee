using System.Globalization;

namespace Mem1.Cli.Training;

/// <summary>What became of a run's searches. Thread-safe.</summary>
/// <param name="where">What is searched, for messages.</param>
/// <param name="cacheHits">Queries answered from a cache so far; null when there is no cache.</param>
internal sealed class SearchLog(string where, Func<long>? cacheHits)
{
    private readonly Lock _lock = new();
    private long _failedAttempts;
    private string _last = "";

    /// <summary>Takes note of an attempt that failed; another one may follow it.</summary>
    public void Failed(string query, Exception e)
    {
        lock (_lock)
        {
            _failedAttempts++;
            _last = e.Message;
        }
    }

    /// <summary>One sentence on all searches so far, or null when there is nothing to say.</summary>
    public string? Sentence()
    {
        lock (_lock)
        {
            var hits = cacheHits?.Invoke() ?? 0;
            if (hits == 0 && _failedAttempts == 0) return null;
            var cached = cacheHits is null ? "" : string.Create(CultureInfo.InvariantCulture, $", {hits} queries answered from the cache");
            var last = _failedAttempts == 0 ? "" : $"; the last failure: {_last.TrimEnd('.')}";
            return string.Create(CultureInfo.InvariantCulture, $"Searches of {where}: {_failedAttempts} attempts failed{cached}{last}.");
        }
    }
}
