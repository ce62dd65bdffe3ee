// Keeps: nothing is done without the token and without a line in the audit log; few commands at once; a command is carried out to its end
// whether or not somebody still waits for its answer, and its end is recorded.
using System.Text.Json;

namespace Mem1.Dashboard;

/// <summary>Takes commands: who may, what is meant, what became of it.</summary>
/// <param name="target">What they act on; null where there is nothing to command.</param>
/// <param name="token">What they need; null where nobody may.</param>
/// <param name="audit">Where they are recorded.</param>
/// <param name="time">Clock.</param>
/// <param name="stopping">Cancelled when the dashboard stops.</param>
internal sealed class CommandDesk(
    ICommandTarget? target, CommandToken? token, AuditLog? audit, TimeProvider time, CancellationToken stopping)
{
    // Commands are what people do; a script that sends more waits.
    private const int AtOnce = 8;

    // Names of workers, actors and episodes are shorter.
    private const int MaxTarget = 400;

    // An update of a large model takes minutes, and a browser does not wait that long: the answer then says that it is under way.
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(30);

    // Whoever tries tokens must not fill the disk with it.
    private static readonly TimeSpan s_denialsApart = TimeSpan.FromSeconds(1);

    /// <summary>What a caller without a token is told.</summary>
    public const string NeedsToken = "A command needs the token.";

    private static readonly JsonSerializerOptions s_strict = new(Json.Options)
    {
        UnmappedMemberHandling = System.Text.Json.Serialization.JsonUnmappedMemberHandling.Disallow,
    };

    private readonly Lock _lock = new();
    private int _running;
    private long _lastDenial;
    private int _unrecorded;

    /// <summary>Whether there is anything to command.</summary>
    public bool IsOpen => target is not null && token is not null && audit is not null;

    /// <summary>What a caller is told that may not command; null for one that may.</summary>
    public ApiAnswer? Refusal(string? given, string from)
    {
        if (target is null || token is null || audit is null)
            return Answer(403, "refused", "This dashboard only looks: commands go to the one of a run that trains.");
        if (token.Matches(given)) return null;
        if (given is not null) Denied(from);
        return Answer(401, "denied", given is null ? NeedsToken : "That is not the token.");
    }

    public async Task<ApiAnswer> ExecuteAsync(string body, string? given, string from)
    {
        if (Refusal(given, from) is { } refusal) return refusal;
        if (Parse(body, out var command) is { } problem) return Answer(400, "refused", problem);
        if (Interlocked.Increment(ref _running) > AtOnce)
        {
            Interlocked.Decrement(ref _running);
            return Answer(429, "refused", $"{AtOnce} commands are under way already; try again when one of them has ended.");
        }

        var asked = new AuditRecord
        {
            Id = Guid.NewGuid().ToString("N")[..12],
            Command = command.Name,
            Target = command.Target,
            Value = command.Value,
            From = from,
            Outcome = "asked",
        };
        try
        {
            audit!.Write(asked);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            Interlocked.Decrement(ref _running);
            return Answer(503, "refused", $"The audit log cannot be written ({e.Message.TrimEnd('.')}), so nothing is done.");
        }

        var carriedOut = CarryOutAsync(command, asked);
        var first = await Task.WhenAny(carriedOut, Task.Delay(s_patience, time, CancellationToken.None)).ConfigureAwait(false);
        return first == carriedOut ? await carriedOut.ConfigureAwait(false)
            : Answer(202, "asked", "It is under way and waits for the end of an update; the events will say what became of it.");
    }

    private async Task<ApiAnswer> CarryOutAsync(RunCommand command, AuditRecord asked)
    {
        string outcome, text;
        try
        {
            await Task.Yield(); // whatever the target does before it waits is not done on the asker's time
            var result = await target!.ExecuteAsync(command, stopping).ConfigureAwait(false);
            (outcome, text) = (result.Done ? "done" : "refused", result.Text);
        }
        catch (Exception e)
        {
            outcome = "failed";
            text = e is OperationCanceledException ? "The run stopped before it was done." : $"{e.GetType().Name}: {e.Message}";
        }
        finally
        {
            Interlocked.Decrement(ref _running);
        }

        try
        {
            audit!.Write(asked with { Time = DateTimeOffset.UtcNow, Outcome = outcome, Text = text });
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            text += $" The audit log could not be written ({e.Message.TrimEnd('.')}).";
        }

        return Answer(outcome switch { "done" => 200, "refused" => 409, _ => 500 }, outcome, text);
    }

    private void Denied(string from)
    {
        lock (_lock)
        {
            var now = time.GetTimestamp();
            if (_lastDenial != 0 && time.GetElapsedTime(_lastDenial, now) < s_denialsApart)
            {
                _unrecorded++;
                return;
            }

            var more = _unrecorded > 0 ? $"; {_unrecorded} more before it" : "";
            (_lastDenial, _unrecorded) = (now, 0);
            try
            {
                audit!.Write(new AuditRecord
                {
                    From = from,
                    Outcome = "denied",
                    Text = $"A command with a wrong token came from {from}{more}.",
                });
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // Nothing was done, so nothing is lost but this line.
            }
        }
    }

    private static string? Parse(string body, out RunCommand command)
    {
        command = null!;
        Body? parsed;
        try
        {
            parsed = JsonSerializer.Deserialize<Body>(body, s_strict);
        }
        catch (JsonException e)
        {
            var why = e.Message.Split(" Path:")[0].TrimEnd('.');
            return $"The command is not JSON of the form {{\"command\", \"target\", \"value\"}} ({why}).";
        }

        if (parsed?.Command is not { } name || !CommandNames.All.Contains(name))
            return $"command must be one of: {string.Join(", ", CommandNames.All)}.";
        var about = parsed.Target ?? "";
        if (about.Length > MaxTarget || about.Any(char.IsControl))
            return $"target must have at most {MaxTarget} characters, none of them control characters.";
        if (about.Length == 0 && (name is CommandNames.DrainWorker or CommandNames.RestartActor or CommandNames.ReplayEpisode))
            return $"{name} needs a target.";

        if (name == CommandNames.SetConcurrency && parsed.Value is < 1 or > 1_000_000) return "value must lie between 1 and 1000000.";
        command = new RunCommand(name, about, name == CommandNames.SetConcurrency ? parsed.Value : null);
        return null;
    }

    private static ApiAnswer Answer(int status, string outcome, string text) =>
        ApiAnswer.Of(new { Outcome = outcome, Text = text }, status);

    private sealed record Body
    {
        public string? Command { get; init; }
        public string? Target { get; init; }
        public int? Value { get; init; }
    }
}
