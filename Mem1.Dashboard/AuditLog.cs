// Keeps: every command that is carried out has a line before it begins and one when it has ended, or it is not carried out; lines are only
// appended; the token is in none of them.
using System.Text.Json;

namespace Mem1.Dashboard;

/// <summary>A line of audit.jsonl.</summary>
internal sealed record AuditRecord
{
    public DateTimeOffset Time { get; init; } = DateTimeOffset.UtcNow;
    /// <summary>The same in both lines of a command.</summary>
    public string Id { get; init; } = "";
    public string Command { get; init; } = "";
    public string Target { get; init; } = "";
    public int? Value { get; init; }
    /// <summary>Address of who asked.</summary>
    public string From { get; init; } = "";
    /// <summary>asked, done, refused, failed or denied.</summary>
    public string Outcome { get; init; } = "";
    public string Text { get; init; } = "";

    /// <summary>What the Events view shows of it.</summary>
    public TelemetryEvent ToEvent() => new(
        Outcome switch
        {
            "asked" or "done" => EventLevel.Info,
            "refused" => EventLevel.Warning,
            _ => EventLevel.Error,
        },
        "command",
        Outcome == "asked" ? $"{Spelled} is asked for from {From}." : Outcome == "denied" ? Text : $"{Spelled} is {Outcome}: {Text}")
    {
        Time = Time,
        Actor = Command is CommandNames.DrainWorker or CommandNames.RestartActor ? Target : "",
        Episode = Command == CommandNames.ReplayEpisode ? Target : "",
    };

    private string Spelled => Command + (Target.Length > 0 ? $" {Target}" : "") + (Value is { } value ? $" {value}" : "");
}

/// <summary>The record of the commands of a run.</summary>
/// <param name="folder">Of the run.</param>
internal sealed class AuditLog(string folder)
{
    public const string FileName = "audit.jsonl";

    private readonly string _path = Path.Combine(folder, FileName);
    private readonly Lock _lock = new();

    /// <summary>Appends a line.</summary>
    /// <exception cref="IOException">It cannot be written.</exception>
    /// <exception cref="UnauthorizedAccessException">It may not be written.</exception>
    public void Write(AuditRecord record)
    {
        var line = Json.Write(record) + "\n";
        lock (_lock) File.AppendAllText(_path, line);
    }

    /// <summary>Reads a line; null for one that a crash cut off.</summary>
    public static AuditRecord? Parse(string line)
    {
        try
        {
            return Json.Read<AuditRecord>(line);
        }
        catch (JsonException)
        {
            return null;
        }
    }
}
