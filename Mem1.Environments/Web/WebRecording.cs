// Invariants: in ReplayOnly nothing goes out; in Replay every asker of the same thing gets the answer recorded first; failures are never
// recorded; keys of services are no part of a recording; a foreign file is never written to.

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
    /// <summary>Every request goes out and its answer is kept, in place of an older one.</summary>
    Record,
    /// <summary>What is recorded is answered from there; the rest goes out and is recorded.</summary>
    Replay,
    /// <summary>What is recorded is answered from there; the rest fails. Nothing ever goes out.</summary>
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
    private const int SchemaVersion = 1;

    // How long a writer waits for another process: a write takes milliseconds.
    private const int BusySeconds = 10;

    private readonly SqliteConnection? _connection;
    private readonly Lock _lock = new();
    private readonly RecordingMode _mode;

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
    public ISearchProvider Around(ISearchProvider inner) => _connection is null ? inner : new RecordedSearch(this, inner);

    /// <summary>A page reader that goes through this recording.</summary>
    /// <param name="inner">Where pages come from that are not replayed.</param>
    public IPageReader Around(IPageReader inner) => _connection is null ? inner : new RecordedPages(this, inner);

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
                CREATE TABLE IF NOT EXISTS answers(key TEXT PRIMARY KEY, answer TEXT NOT NULL) WITHOUT ROWID;
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
        if (_mode != RecordingMode.Record && Find<T>(key) is { } known)
            return known;
        if (_mode == RecordingMode.ReplayOnly)
            throw new WebAccessException(WebFailure.NotRecorded, "The recording holds no answer to this request.");
        T answer = await goOut();
        Keep(key, JsonSerializer.Serialize(answer));
        // Whoever recorded it first decides, so that a replay of this very run reads the same.
        return _mode == RecordingMode.Replay ? Find<T>(key) ?? answer : answer;
    }

    private T? Find<T>(string key)
        where T : class
    {
        lock (_lock)
        {
            using SqliteCommand command = _connection!.CreateCommand();
            command.CommandText = "SELECT answer FROM answers WHERE key = $key";
            command.Parameters.AddWithValue("$key", key);
            try
            {
                return command.ExecuteScalar() is string json ? JsonSerializer.Deserialize<T>(json) : null;
            }
            catch (Exception e) when (e is SqliteException or JsonException)
            {
                throw new WebAccessException(WebFailure.NotRecorded, "The recording cannot be read.", inner: e);
            }
        }
    }

    private void Keep(string key, string answer)
    {
        lock (_lock)
        {
            using SqliteCommand command = _connection!.CreateCommand();
            command.CommandText = _mode == RecordingMode.Record
                ? "INSERT INTO answers VALUES ($key, $answer) ON CONFLICT(key) DO UPDATE SET answer = excluded.answer"
                : "INSERT INTO answers VALUES ($key, $answer) ON CONFLICT(key) DO NOTHING";
            command.Parameters.AddWithValue("$key", key);
            command.Parameters.AddWithValue("$answer", answer);
            try
            {
                command.ExecuteNonQuery();
            }
            catch (SqliteException e)
            {
                throw new WebAccessException(WebFailure.NotRecorded, "The recording cannot be written.", inner: e);
            }
        }
    }

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

    private sealed class RecordedSearch(WebRecording recording, ISearchProvider inner) : ISearchProvider
    {
        public string Name => inner.Name;

        public async Task<IReadOnlyList<WebResult>> SearchAsync(string query, int count, CancellationToken cancellationToken) =>
            await recording.ThroughAsync<WebResult[]>(
                Key("search", inner.Name, $"{count}", query), async () => [.. await inner.SearchAsync(query, count, cancellationToken)]);
    }

    private sealed class RecordedPages(WebRecording recording, IPageReader inner) : IPageReader
    {
        public Task<WebPage> ReadAsync(string url, CancellationToken cancellationToken) =>
            recording.ThroughAsync(Key("page", url.Trim()), () => inner.ReadAsync(url, cancellationToken));
    }
}
