// Log events and the adapters that publish them. An adapter publishes only what akka.loglevel lets through; the text is put together only
// then. Where the lines go is the sink of the event stream: standard output, or Microsoft.Extensions.Logging in a host.
using System.Globalization;
using Akka.Actor;

namespace Akka.Event;

public enum LogLevel
{
    DebugLevel,
    InfoLevel,
    WarningLevel,
    ErrorLevel,
}

public abstract class LogEvent : INoSerializationVerificationNeeded
{
    private protected LogEvent(Exception cause, string logSource, Type logClass, object message)
    {
        Timestamp = DateTime.UtcNow;
        Thread = Thread.CurrentThread;
        Cause = cause;
        LogSource = logSource;
        LogClass = logClass;
        Message = message;
    }

    public Exception Cause { get; }

    public DateTime Timestamp { get; }

    public Thread Thread { get; }

    public string LogSource { get; }

    public Type LogClass { get; }

    public object Message { get; }

    public abstract LogLevel LogLevel();

    public override string ToString()
    {
        var level = LogLevel().ToString().Replace("Level", "", StringComparison.Ordinal).ToUpperInvariant();
        var time = Timestamp.ToString("yyyy-MM-dd HH:mm:ss.fff'Z'", CultureInfo.InvariantCulture);
        var cause = Cause is null ? "" : Environment.NewLine + "Cause: " + Cause;
        return $"[{level}][{time}][Thread {Thread.ManagedThreadId:0000}][{LogSource}] {Message}{cause}";
    }
}

public class Debug : LogEvent
{
    public Debug(string logSource, Type logClass, object message, Exception cause = null)
        : base(cause, logSource, logClass, message)
    {
    }

    public override LogLevel LogLevel() => Event.LogLevel.DebugLevel;
}

public class Info : LogEvent
{
    public Info(string logSource, Type logClass, object message, Exception cause = null)
        : base(cause, logSource, logClass, message)
    {
    }

    public override LogLevel LogLevel() => Event.LogLevel.InfoLevel;
}

public class Warning : LogEvent
{
    public Warning(string logSource, Type logClass, object message, Exception cause = null)
        : base(cause, logSource, logClass, message)
    {
    }

    public override LogLevel LogLevel() => Event.LogLevel.WarningLevel;
}

public class Error : LogEvent
{
    public Error(Exception cause, string logSource, Type logClass, object message)
        : base(cause, logSource, logClass, message)
    {
    }

    public override LogLevel LogLevel() => Event.LogLevel.ErrorLevel;
}

public interface ILoggingAdapter
{
    bool IsDebugEnabled { get; }

    bool IsInfoEnabled { get; }

    bool IsWarningEnabled { get; }

    bool IsErrorEnabled { get; }

    bool IsEnabled(LogLevel logLevel);

    void Log(LogLevel logLevel, Exception cause, string format);
}

public static class Logging
{
    /// <summary>A logger named after the actor's path.</summary>
    public static ILoggingAdapter GetLogger(this IActorContext context)
    {
        var cell = (ActorCell)context;
        return new BusLogging(cell.SystemImpl.EventStream, cell.Self.ToString(), cell.Props.Type, cell.SystemImpl.Log);
    }

    public static ILoggingAdapter GetLogger(ActorSystem system, object logSourceObj) => new BusLogging(
        system.EventStream, logSourceObj as string ?? logSourceObj.ToString(), logSourceObj as Type ?? logSourceObj.GetType(), system.Log);

    /// <summary>The level of a configuration word; null for OFF.</summary>
    internal static LogLevel? LevelFor(string word) => word?.ToUpperInvariant() switch
    {
        "DEBUG" => LogLevel.DebugLevel,
        "INFO" => LogLevel.InfoLevel,
        "WARNING" => LogLevel.WarningLevel,
        "ERROR" => LogLevel.ErrorLevel,
        "OFF" => null,
        _ => throw new ArgumentException(
            $"Unknown LogLevel: \"{word}\". Valid values are: \"DEBUG\", \"INFO\", \"WARNING\", \"ERROR\", \"OFF\""),
    };
}

public static class LoggingExtensions
{
    public static void Debug(this ILoggingAdapter log, string format) => log.Log(LogLevel.DebugLevel, null, format);

    public static void Debug<T1>(this ILoggingAdapter log, string format, T1 arg1) => Format(log, LogLevel.DebugLevel, null, format, arg1);

    public static void Debug<T1, T2>(this ILoggingAdapter log, string format, T1 arg1, T2 arg2) =>
        Format(log, LogLevel.DebugLevel, null, format, arg1, arg2);

    public static void Info(this ILoggingAdapter log, string format) => log.Log(LogLevel.InfoLevel, null, format);

    public static void Info<T1>(this ILoggingAdapter log, string format, T1 arg1) => Format(log, LogLevel.InfoLevel, null, format, arg1);

    public static void Info<T1, T2>(this ILoggingAdapter log, string format, T1 arg1, T2 arg2) =>
        Format(log, LogLevel.InfoLevel, null, format, arg1, arg2);

    public static void Info<T1, T2, T3>(this ILoggingAdapter log, string format, T1 arg1, T2 arg2, T3 arg3) =>
        Format(log, LogLevel.InfoLevel, null, format, arg1, arg2, arg3);

    public static void Warning(this ILoggingAdapter log, string format) => log.Log(LogLevel.WarningLevel, null, format);

    public static void Warning<T1>(this ILoggingAdapter log, string format, T1 arg1) =>
        Format(log, LogLevel.WarningLevel, null, format, arg1);

    public static void Warning<T1, T2>(this ILoggingAdapter log, string format, T1 arg1, T2 arg2) =>
        Format(log, LogLevel.WarningLevel, null, format, arg1, arg2);

    public static void Warning<T1, T2, T3>(this ILoggingAdapter log, string format, T1 arg1, T2 arg2, T3 arg3) =>
        Format(log, LogLevel.WarningLevel, null, format, arg1, arg2, arg3);

    public static void Warning(this ILoggingAdapter log, Exception cause, string format) => log.Log(LogLevel.WarningLevel, cause, format);

    public static void Warning<T1>(this ILoggingAdapter log, Exception cause, string format, T1 arg1) =>
        Format(log, LogLevel.WarningLevel, cause, format, arg1);

    public static void Error(this ILoggingAdapter log, string format) => log.Log(LogLevel.ErrorLevel, null, format);

    public static void Error<T1>(this ILoggingAdapter log, string format, T1 arg1) => Format(log, LogLevel.ErrorLevel, null, format, arg1);

    public static void Error<T1, T2>(this ILoggingAdapter log, string format, T1 arg1, T2 arg2) =>
        Format(log, LogLevel.ErrorLevel, null, format, arg1, arg2);

    public static void Error<T1, T2, T3>(this ILoggingAdapter log, string format, T1 arg1, T2 arg2, T3 arg3) =>
        Format(log, LogLevel.ErrorLevel, null, format, arg1, arg2, arg3);

    public static void Error(this ILoggingAdapter log, Exception cause, string format) => log.Log(LogLevel.ErrorLevel, cause, format);

    public static void Error<T1>(this ILoggingAdapter log, Exception cause, string format, T1 arg1) =>
        Format(log, LogLevel.ErrorLevel, cause, format, arg1);

    public static void Error<T1, T2>(this ILoggingAdapter log, Exception cause, string format, T1 arg1, T2 arg2) =>
        Format(log, LogLevel.ErrorLevel, cause, format, arg1, arg2);

    private static void Format(ILoggingAdapter log, LogLevel level, Exception cause, string format, params object[] args)
    {
        if (log.IsEnabled(level))
        {
            log.Log(level, cause, string.Format(CultureInfo.InvariantCulture, format, args));
        }
    }
}

/// <summary>Publishes log events on the event stream of a system.</summary>
internal sealed class BusLogging : ILoggingAdapter
{
    private readonly EventStream _bus;
    private readonly string _source;
    private readonly Type _class;
    private readonly LogLevel? _level;

    /// <param name="bus">Where the events go.</param>
    /// <param name="source">Who logs.</param>
    /// <param name="logClass">The type that logs.</param>
    /// <param name="level">The lowest level published; null for none.</param>
    internal BusLogging(EventStream bus, string source, Type logClass, LogLevel? level)
    {
        _bus = bus;
        _source = source;
        _class = logClass;
        _level = level;
    }

    internal BusLogging(EventStream bus, string source, Type logClass, ILoggingAdapter levelOf)
        : this(bus, source, logClass, ((BusLogging)levelOf)._level)
    {
    }

    public bool IsDebugEnabled => IsEnabled(LogLevel.DebugLevel);

    public bool IsInfoEnabled => IsEnabled(LogLevel.InfoLevel);

    public bool IsWarningEnabled => IsEnabled(LogLevel.WarningLevel);

    public bool IsErrorEnabled => IsEnabled(LogLevel.ErrorLevel);

    public bool IsEnabled(LogLevel logLevel) => logLevel >= _level;

    public void Log(LogLevel logLevel, Exception cause, string format)
    {
        if (IsEnabled(logLevel))
        {
            _bus.Publish(logLevel switch
            {
                LogLevel.DebugLevel => new Debug(_source, _class, format, cause),
                LogLevel.InfoLevel => new Info(_source, _class, format, cause),
                LogLevel.WarningLevel => new Warning(_source, _class, format, cause),
                _ => (LogEvent)new Error(cause, _source, _class, format),
            });
        }
    }
}
