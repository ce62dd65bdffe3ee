using Akka.Actor;
using Akka.Configuration;

namespace Akka.Event;

/// <summary>
/// Logs dead letters at INFO: the first akka.log-dead-letters ones (a number, on, or off), then none until
/// akka.log-dead-letters-suspend-duration has passed.
/// </summary>
internal sealed class DeadLetterLog(Config config, ILoggingAdapter log)
{
    private readonly int _limit = config.GetString("akka.log-dead-letters") switch
    {
        "on" => int.MaxValue,
        "off" => 0,
        _ => config.GetInt("akka.log-dead-letters"),
    };

    private readonly long _pauseMs = (long)config.GetTimeSpan("akka.log-dead-letters-suspend-duration").TotalMilliseconds;
    private readonly Lock _gate = new();
    private int _count;
    private long _resumeAt;

    internal void Note(DeadLetter letter)
    {
        if (_limit == 0 || !log.IsInfoEnabled)
        {
            return;
        }

        int number;
        lock (_gate)
        {
            if (_count == _limit && (_pauseMs < 0 || Environment.TickCount64 < _resumeAt))
            {
                return;
            }

            _count = _count == _limit ? 1 : _count + 1;
            number = _count;
            if (_count == _limit)
            {
                _resumeAt = Environment.TickCount64 + _pauseMs;
            }
        }

        log.Info(
            "Message [{0}] from {1} was not delivered. [{2}] dead letters encountered (setting: akka.log-dead-letters).",
            letter.Message.GetType().Name,
            $"{letter.Sender} to {letter.Recipient}",
            number);
    }
}
