using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Console;

namespace Mem1.Cli.Output;

/// <summary>How a process logs, as far as its user said.</summary>
/// <param name="Json">A JSON object a line; null if nothing was said.</param>
/// <param name="Least">What is not worth a line; null if nothing was said.</param>
internal readonly record struct LogSettings(bool? Json, LogLevel? Least)
{
    /// <summary>Makes the factory; the arguments are for what the user did not say.</summary>
    public ILoggerFactory Factory(bool json, LogLevel least = LogLevel.Information) => Logs.ToStandardError(Json ?? json, Least ?? least);
}

/// <summary>Logs of long-running nodes: lines for people, or a JSON object a line for machines; always on standard error.</summary>
internal static class Logs
{
    /// <summary>Makes the factory.</summary>
    /// <param name="json">For machines.</param>
    /// <param name="least">What is not worth a line.</param>
    public static ILoggerFactory ToStandardError(bool json, LogLevel least = LogLevel.Information) => LoggerFactory.Create(logging =>
    {
        logging.SetMinimumLevel(least);
        logging.AddFilter("Microsoft", LogLevel.Warning).AddFilter("Grpc", LogLevel.Warning);
        if (json)
        {
            logging.AddJsonConsole(o =>
            {
                o.UseUtcTimestamp = true;
                o.TimestampFormat = "yyyy-MM-ddTHH:mm:ss.fffZ";
                o.IncludeScopes = true; // an exception is a string of the object: its line breaks are escaped
            });
        }
        else
        {
            logging.AddSimpleConsole(o =>
            {
                o.SingleLine = true;
                o.TimestampFormat = "HH:mm:ss ";
                o.ColorBehavior = Environment.GetEnvironmentVariable("NO_COLOR") is { Length: > 0 } || Console.IsErrorRedirected
                    ? LoggerColorBehavior.Disabled
                    : LoggerColorBehavior.Default;
            });
        }

        logging.Services.Configure<ConsoleLoggerOptions>(o => o.LogToStandardErrorThreshold = LogLevel.Trace);
    });
}
