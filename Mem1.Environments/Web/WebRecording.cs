// Invariants: in ReplayOnly nothing goes out; in Record a request has one outcome, answer or failure, from the opening of the recording to
// its closing, whoever asks it when, so that a run reads in ReplayOnly what it read while it was recorded; in Replay every asker gets the
// answer recorded first; keys of services are no part of a recording; a foreign file is never written to.

using System.Text.Json;
using Mem1.Environments.Common;
using Microsoft.Data.Sqlite;
using SQLitePCL;

namespace Mem1.Environments.Web;

/// <summary>What a recording is used for.</summary>
public enum RecordingMode
{
    /// <summary>Nothing: every request goes out.</summary>
    Off,
    /// <summary>
    /// Every request goes out once and its outcome is kept, in place of an older one; asked again before the recording is closed, it has
    /// the same outcome.
    /// </summary>
    Record,
    /// <summary>What is recorded is answered from there; the rest goes out and is recorded, and so does what failed before.</summary>
    Replay,
    /// <summary>What is recorded ends as it did, in an answer or a failure; the rest fails. Nothing ever goes out.</summary>
    ReplayOnly,
}

/// <summary>
/// Searches and pages kept in an SQLite file, so that a run can be repeated without the network. Thread-safe; several processes may use
/// one file at once.
/// </summary>
public sealed class WebRecording : IDisposable
{
    // "M1WR": marks the database as ours.
    private const int ApplicationId = 0x4D315752;

    // To be raised whenever what is stored changes its meaning.
    private const int SchemaVersion = 2;

    // How long a writer waits for another process: a write takes milliseconds.
    private const int BusySeconds = 10;

    // A recording may be somebody else's: what the types say is never null is not.
    private static readonly JsonSerializerOptions s_strict = new() { RespectNullableAnnotations = true, RespectRequiredConstructorParameters = true };

    private readonly SqliteConnection? _connection;
    private readonly Lock _lock = new();
    private readonly RecordingMode _mode;

    // Tells what this opening of the recording has written from what is older.
    private readonly string _session = Guid.NewGuid().ToString("N");

    static WebRecording() => Batteries_V2.Init();

    private WebRecording(SqliteConnection? connection, RecordingMode mode)
    {
        _connection = connection;
        _mode = mode;
    }

    /// <summary>Opens a recording; a new file is made unless nothing may go out.</summary>
    /// <param name="path">The file; ignored, and may be null, when the mode is <see cref="RecordingMode.Off"/>.</param>
    /// <param name="mode">What it is used for.</param>
    /// <exception cref="DataFormatException">It is another kind of file, or should exist and does not.</exception>
    public static WebRecording Open(string? path, RecordingMode mode)
    {
        if (mode == RecordingMode.Off)
            return new WebRecording(null, mode);
        ArgumentException.ThrowIfNullOrEmpty(path);
        if (Directory.Exists(path))
            throw new DataFormatException(path, "the recording is a folder, not a file");
        if (mode == RecordingMode.ReplayOnly && !File.Exists(path))
            throw new DataFormatException(path, "the recording does not exist; make it with the mode record or replay");
        var connection = new SqliteConnection(new SqliteConnectionStringBuilder
        {
            DataSource = path,
            Mode = mode == RecordingMode.ReplayOnly ? SqliteOpenMode.ReadOnly : SqliteOpenMode.ReadWriteCreate,
            Pooling = false,
            DefaultTimeout = BusySeconds,
        }.ToString());
        try
        {
            connection.Open();
            Prepare(connection, path, mode);
            return new WebRecording(connection, mode);
        }
        catch (SqliteException e)
        {
            connection.Dispose();
            throw new DataFormatException(path, "this is not a recording that can be opened; name another file", inner: e);
        }
        catch
        {
            connection.Dispose();
            throw;
        }
    }

    /// <summary>A search provider that goes through this recording.</summary>
    /// <param name="inner">Where searches go that are not replayed.</param>
    /// <param name="source">Tells answers of this provider from those of others in the same file; null for its name.</param>
    public ISearchProvider Around(ISearchProvider inner, string? source = null) =>
        _connection is null ? inner : new RecordedSearch(this, inner, source ?? inner.Name);

    /// <summary>A page reader that goes through this recording.</summary>
    /// <param name="inner">Where pages come from that are not replayed.</param>
    /// <param name="source">Tells these pages from others of the same address in the same file; empty for the web.</param>
    public IPageReader Around(IPageReader inner, string source = "") =>
        _connection is null ? inner : new RecordedPages(this, inner, source);

    /// <summary>Closes the file.</summary>
    public void Dispose()
    {
        lock (_lock)
            _connection?.Dispose();
    }

    private static void Prepare(SqliteConnection connection, string path, RecordingMode mode)
    {
        long application = Pragma(connection, "application_id");
        bool empty = Scalar(connection, "SELECT count(*) FROM sqlite_master") == 0;
        if (mode != RecordingMode.ReplayOnly && application == 0 && empty)
        {
            // IF NOT EXISTS: another process may be making the same file.
            Execute(connection, $"""
                PRAGMA journal_mode = WAL;
                BEGIN IMMEDIATE;
                PRAGMA application_id = {ApplicationId};
                PRAGMA user_version = {SchemaVersion};
                CREATE TABLE IF NOT EXISTS outcomes(
                    key TEXT PRIMARY KEY, session TEXT NOT NULL, answer TEXT NOT NULL, failure TEXT, status INTEGER) WITHOUT ROWID;
                COMMIT;
                """);
        }
        else if (application != ApplicationId || Pragma(connection, "user_version") != SchemaVersion)
        {
            throw new DataFormatException(path, "this is not a recording of this version; name another file");
        }
        // A crash of the machine may lose the last answers, never the file.
        if (mode != RecordingMode.ReplayOnly)
            Execute(connection, "PRAGMA synchronous = NORMAL");
    }

    private async Task<T> ThroughAsync<T>(string key, Func<Task<T>> goOut)
        where T : class
    {
        if (Find<T>(key) is var (known, failed) && (failed is null || _mode != RecordingMode.Replay))
            return known ?? throw failed!;
        if (_mode == RecordingMode.ReplayOnly)
            throw new WebAccessException(WebFailure.NotRecorded, "The recording holds no answer to this request.");
        T? answer = null;
        WebAccessException? failure = null;
        try
        {
            answer = await goOut();
        }
        catch (WebAccessException e) when (e.Failure != WebFailure.NotRecorded)
        {
            failure = e;
        }
        Keep(key, answer is null ? failure!.Message : JsonSerializer.Serialize(answer), failure);
        // Of those who asked at once, the one whose outcome was kept decides.
        (answer, failure) = Find<T>(key) ?? (answer, failure);
        return answer ?? throw failure!;
    }

    /// <summary>The recorded outcome; while recording, only what this opening of the file has written counts.</summary>
    private (T? Answer, WebAccessException? Failure)? Find<T>(string key)
        where T : class
    {
        lock (_lock)
        {
            try
            {
                using SqliteCommand command = _connection!.CreateCommand();
                command.CommandText = "SELECT answer, failure, status FROM outcomes WHERE key = $key"
                    + (_mode == RecordingMode.Record ? " AND session = $session" : "");
                command.Parameters.AddWithValue("$key", key);
                if (_mode == RecordingMode.Record)
                    command.Parameters.AddWithValue("$session", _session);
                using SqliteDataReader row = command.ExecuteReader();
                if (!row.Read())
                    return null;
                string answer = row.GetString(0);
                if (row.IsDBNull(1))
                {
                    T? known = JsonSerializer.Deserialize<T>(answer, s_strict);
                    return known is null || (known is object?[] list && list.Contains(null)) ? throw Unreadable(null) : (known, null);
                }
                return Enum.TryParse(row.GetString(1), out WebFailure failure)
                    ? (null, new WebAccessException(failure, answer, row.IsDBNull(2) ? null : row.GetInt32(2)))
                    : throw Unreadable(null);
            }
            catch (Exception e) when (e is SqliteException or JsonException or InvalidCastException or OverflowException
                or (InvalidOperationException and not ObjectDisposedException))
            {
                throw Unreadable(e);
            }
        }
    }

    private void Keep(string key, string answer, WebAccessException? failure)
    {
        lock (_lock)
        {
            try
            {
                using SqliteCommand command = _connection!.CreateCommand();
                command.CommandText = $"""
                    INSERT INTO outcomes VALUES ($key, $session, $answer, $failure, $status) ON CONFLICT(key) DO UPDATE
                    SET session = excluded.session, answer = excluded.answer, failure = excluded.failure, status = excluded.status
                    WHERE {(_mode == RecordingMode.Record ? "session <> excluded.session" : "failure IS NOT NULL")}
                    """;
                command.Parameters.AddWithValue("$key", key);
                command.Parameters.AddWithValue("$session", _session);
                command.Parameters.AddWithValue("$answer", answer);
                command.Parameters.AddWithValue("$failure", failure is null ? DBNull.Value : failure.Failure.ToString());
                command.Parameters.AddWithValue("$status", failure?.Status is { } status ? status : DBNull.Value);
                command.ExecuteNonQuery();
            }
            catch (SqliteException e)
            {
                throw new WebAccessException(WebFailure.NotRecorded, "The recording cannot be written.", inner: e);
            }
        }
    }

    private static WebAccessException Unreadable(Exception? e) =>
        new(WebFailure.NotRecorded, "The recording cannot be read.", inner: e);

    private static long Pragma(SqliteConnection connection, string name) => Scalar(connection, $"PRAGMA {name}");

    private static long Scalar(SqliteConnection connection, string sql)
    {
        using SqliteCommand command = connection.CreateCommand();
        command.CommandText = sql;
        return (long)command.ExecuteScalar()!;
    }

    private static void Execute(SqliteConnection connection, string sql)
    {
        using SqliteCommand command = connection.CreateCommand();
        command.CommandText = sql;
        command.ExecuteNonQuery();
    }

    // SQLite's text functions end at a NUL.
    private static string Key(params ReadOnlySpan<string> parts) =>
        string.Join('\u001F', parts!).Replace('\0', '\uFFFD');

    private sealed class RecordedSearch(WebRecording recording, ISearchProvider inner, string source) : ISearchProvider
    {
        public string Name => inner.Name;

        public async Task<IReadOnlyList<WebResult>> SearchAsync(string query, int count, CancellationToken cancellationToken) =>
            await recording.ThroughAsync<WebResult[]>(
                Key("search", source, $"{count}", query), async () => [.. await inner.SearchAsync(query, count, cancellationToken)]);
    }

    private sealed class RecordedPages(WebRecording recording, IPageReader inner, string source) : IPageReader
    {
        public Task<WebPage> ReadAsync(string url, CancellationToken cancellationToken) =>
            recording.ThroughAsync(Key("page", source, url.Trim()), () => inner.ReadAsync(url, cancellationToken));
    }
}
