using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Console;

namespace Mem1.Cli.Output;

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
                o.IncludeScopes = true;
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
