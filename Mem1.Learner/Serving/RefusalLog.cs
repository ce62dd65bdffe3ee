using Microsoft.Extensions.Logging;

namespace Mem1.Learner;

/// <summary>Logs who was refused, a line a second at most: whoever tries tokens must not fill the disk with it. Thread-safe.</summary>
internal sealed class RefusalLog(ILogger log, TimeProvider time)
{
    private static readonly TimeSpan s_apart = TimeSpan.FromSeconds(1);

    private readonly Lock _lock = new();
    private long _last;
    private int _unsaid;

    /// <summary>Somebody is refused.</summary>
    /// <param name="peer">Address.</param>
    /// <param name="wanted">What for.</param>
    /// <param name="reason">A sentence.</param>
    public void Say(string peer, string wanted, string reason)
    {
        int more;
        lock (_lock)
        {
            var now = time.GetTimestamp();
            if (_last != 0 && time.GetElapsedTime(_last, now) < s_apart)
            {
                _unsaid++;
                return;
            }

            (more, _unsaid, _last) = (_unsaid, 0, now);
        }

        log.LogWarning(
            "A call of {Peer} to {Method} is refused{More}: {Reason}", peer, wanted,
            more > 0 ? $" ({more} more since the last line)" : "", reason);
    }
}
