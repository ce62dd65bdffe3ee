// Invariants: a file under the index's name is always a complete index (it is built aside under a lock, synced and renamed); it is used
// only if it was made from this very corpus (size and time unchanged, or else size and SHA-256); a foreign file is never overwritten.

using System.Collections.Concurrent;
using System.Globalization;
using System.Security.Cryptography;
using Mem1.Environments.Common;
using Microsoft.Data.Sqlite;
using SQLitePCL;

namespace Mem1.Environments.Retrieval;

/// <summary>How far the building of an index has come.</summary>
/// <param name="Documents">Passages indexed.</param>
/// <param name="BytesRead">Bytes of the corpus read.</param>
/// <param name="TotalBytes">Size of the corpus in bytes.</param>
public sealed record IndexProgress(long Documents, long BytesRead, long TotalBytes);

/// <summary>
/// A corpus in SQLite's FTS5, ranked by its BM25 (k1 = 1.2, b = 0.75, which FTS5 fixes) over Porter stems. A query matches passages that
/// hold any of its words. Thread-safe: each search borrows a read-only connection.
/// </summary>
public sealed class CorpusIndex : ISearchIndex
{
    // "MEM1": marks the database as ours.
    private const int ApplicationId = 0x4D454D31;

    // To be raised whenever the schema or the tokenizer changes, so that old indexes are built anew.
    private const int SchemaVersion = 1;

    // A compromise between the cost of a callback and a lively progress line: some tens of milliseconds of work.
    private const int ProgressEvery = 1000;

    // What .NET puts into IOException.HResult when another process holds the lock: EAGAIN, or a sharing violation.
    private const int LockedOnLinux = 11;
    private const int LockedOnMacOS = 35;
    private const int LockedOnWindows = unchecked((int)0x80070020);

    private const int SqliteInterrupt = 9;
    private const int SqliteFull = 13;

    private readonly string _connectionString;
    private readonly ConcurrentBag<Reader> _idle = [];
    private volatile bool _disposed;

    static CorpusIndex() => Batteries_V2.Init();

    private CorpusIndex(string path)
    {
        _connectionString = ConnectionString(path, SqliteOpenMode.ReadOnly);
        using Reader reader = new(_connectionString);
        Count = long.Parse(ReadMeta(reader.Connection)["documents"], CultureInfo.InvariantCulture);
    }

    /// <inheritdoc/>
    public long Count { get; }

    /// <summary>Where the index of a corpus lies when nobody says otherwise: beside it.</summary>
    public static string DefaultPath(string corpus) => corpus + ".fts5";

    /// <summary>Opens the index of a corpus; builds it first unless it exists and belongs to the corpus as it is now.</summary>
    /// <param name="corpus">JSON Lines file, each line {"id": ..., "contents": "title line\ntext"}.</param>
    /// <param name="path">Where the index is kept; null for <see cref="DefaultPath"/>.</param>
    /// <param name="progress">Told of the building, from the calling thread; not called when nothing is built.</param>
    /// <param name="cancellationToken">Stops the building; nothing is left under the index's name.</param>
    /// <exception cref="DataFormatException">
    /// The corpus is missing or malformed, or <paramref name="path"/> is another kind of file.
    /// </exception>
    /// <exception cref="IOException">The index cannot be written.</exception>
    public static CorpusIndex OpenOrBuild(
        string corpus, string? path = null, IProgress<IndexProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        path ??= DefaultPath(corpus);
        UserFile.Open(corpus, "corpus file").Dispose();
        if (!IsCurrent(corpus, path))
        {
            using FileStream buildLock = Lock(path, cancellationToken);
            if (!IsCurrent(corpus, path))
                Build(corpus, path, progress, cancellationToken);
        }
        return new CorpusIndex(path);
    }

    /// <inheritdoc/>
    public IReadOnlyList<SearchHit> Search(string query, int k, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(query);
        ArgumentOutOfRangeException.ThrowIfLessThan(k, 1);
        ObjectDisposedException.ThrowIf(_disposed, this);
        cancellationToken.ThrowIfCancellationRequested();
        if (FtsQuery.From(query) is not { } match)
            return [];
        if (!_idle.TryTake(out Reader? reader))
            reader = new Reader(_connectionString);
        try
        {
            return reader.Search(match, k, cancellationToken);
        }
        catch (SqliteException e) when (e.SqliteErrorCode == SqliteInterrupt && cancellationToken.IsCancellationRequested)
        {
            throw new OperationCanceledException(e.Message, e, cancellationToken);
        }
        finally
        {
            _idle.Add(reader);
            if (_disposed)
                CloseIdle();
        }
    }

    /// <summary>Closes the connections; searches still running finish first and close theirs.</summary>
    public void Dispose()
    {
        _disposed = true;
        CloseIdle();
    }

    private void CloseIdle()
    {
        while (_idle.TryTake(out Reader? reader))
            reader.Dispose();
    }

    private static string ConnectionString(string path, SqliteOpenMode mode) =>
        new SqliteConnectionStringBuilder { DataSource = path, Mode = mode, Pooling = false }.ToString();

    private static Dictionary<string, string> ReadMeta(SqliteConnection connection)
    {
        using SqliteCommand command = connection.CreateCommand();
        command.CommandText = "SELECT key, value FROM meta";
        using SqliteDataReader rows = command.ExecuteReader();
        var meta = new Dictionary<string, string>(StringComparer.Ordinal);
        while (rows.Read())
            meta[rows.GetString(0)] = rows.GetString(1);
        return meta;
    }

    private static bool IsCurrent(string corpus, string path)
    {
        if (!File.Exists(path))
            return Directory.Exists(path) ? throw NotOurs(path, null) : false;
        Dictionary<string, string> meta;
        try
        {
            using var connection = new SqliteConnection(ConnectionString(path, SqliteOpenMode.ReadOnly));
            connection.Open();
            if (Pragma(connection, "application_id") != ApplicationId)
                throw NotOurs(path, null);
            if (Pragma(connection, "user_version") != SchemaVersion)
                return false;
            meta = ReadMeta(connection);
        }
        catch (SqliteException e)
        {
            throw NotOurs(path, e);
        }
        var file = new FileInfo(corpus);
        if (meta["size"] != Text(file.Length))
            return false;
        if (meta["modified"] == Text(file.LastWriteTimeUtc.Ticks))
            return true;
        using FileStream stream = UserFile.Open(corpus, "corpus file");
        return meta["sha256"] == Convert.ToHexString(SHA256.HashData(stream));
    }

    private static DataFormatException NotOurs(string path, Exception? inner) =>
        new(path, "this is not a search index that can be read; delete it or name another index file", inner: inner);

    private static long Pragma(SqliteConnection connection, string name)
    {
        using SqliteCommand command = connection.CreateCommand();
        command.CommandText = $"PRAGMA {name}";
        return (long)command.ExecuteScalar()!;
    }

    /// <summary>Keeps other processes from building the same index; the operating system frees it when a builder dies.</summary>
    private static FileStream Lock(string path, CancellationToken cancellationToken)
    {
        string file = path + ".lock";
        while (true)
        {
            cancellationToken.ThrowIfCancellationRequested();
            try
            {
                return new FileStream(file, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
            }
            catch (Exception e) when (e is DirectoryNotFoundException or UnauthorizedAccessException)
            {
                throw new IOException($"The search index {path} cannot be written: its folder does not exist or is read-only.", e);
            }
            catch (IOException e) when (e.HResult is LockedOnLinux or LockedOnMacOS or LockedOnWindows)
            {
                // Another builder holds it. It takes seconds at least, so a tenth of one is soon enough.
                cancellationToken.WaitHandle.WaitOne(100);
            }
        }
    }

    private static void Build(string corpus, string path, IProgress<IndexProgress>? progress, CancellationToken cancellationToken)
    {
        string aside = path + ".building";
        File.Delete(aside);
        try
        {
            Fill(corpus, aside, progress, cancellationToken);
            using (var stream = new FileStream(aside, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite))
                stream.Flush(flushToDisk: true);
            File.Move(aside, path, overwrite: true);
        }
        catch (SqliteException e)
        {
            string reason = e.SqliteErrorCode == SqliteFull ? "the disk is full" : e.Message;
            throw new IOException($"The search index {path} cannot be written: {reason}.", e);
        }
        finally
        {
            File.Delete(aside);
        }
    }

    private static void Fill(string corpus, string aside, IProgress<IndexProgress>? progress, CancellationToken cancellationToken)
    {
        DateTime modified = File.GetLastWriteTimeUtc(corpus);
        using var reader = new JsonLineReader(
            corpus, "corpus file", "every line needs the fields \"id\" and \"contents\"", hash: true);
        using var connection = new SqliteConnection(ConnectionString(aside, SqliteOpenMode.ReadWriteCreate));
        connection.Open();
        // No journal and no syncs: the file has no name yet, so nothing of it survives a crash anyway.
        Execute(connection, $"""
            PRAGMA journal_mode = OFF;
            PRAGMA synchronous = OFF;
            PRAGMA locking_mode = EXCLUSIVE;
            PRAGMA cache_size = -65536;
            PRAGMA application_id = {ApplicationId};
            PRAGMA user_version = {SchemaVersion};
            CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
            CREATE TABLE documents(number INTEGER PRIMARY KEY, id TEXT NOT NULL, contents TEXT NOT NULL);
            CREATE VIRTUAL TABLE search USING fts5(
                contents, content = 'documents', content_rowid = 'number', tokenize = 'porter unicode61 remove_diacritics 2');
            """);
        long documents = 0;
        using (SqliteTransaction transaction = connection.BeginTransaction())
        {
            using SqliteCommand document = Prepare(connection, transaction, "INSERT INTO documents VALUES ($number, $id, $contents)");
            using SqliteCommand words = Prepare(connection, transaction, "INSERT INTO search(rowid, contents) VALUES ($number, $contents)");
            SqliteParameter documentNumber = document.Parameters.Add("$number", SqliteType.Integer);
            SqliteParameter documentId = document.Parameters.Add("$id", SqliteType.Text);
            SqliteParameter documentContents = document.Parameters.Add("$contents", SqliteType.Text);
            SqliteParameter wordsNumber = words.Parameters.Add("$number", SqliteType.Integer);
            SqliteParameter wordsContents = words.Parameters.Add("$contents", SqliteType.Text);
            while (reader.Read() is { } line)
            {
                using (line)
                {
                    documentNumber.Value = wordsNumber.Value = ++documents;
                    documentId.Value = Clean(reader.Id(line.RootElement, "id"));
                    documentContents.Value = wordsContents.Value = Clean(reader.Text(line.RootElement, "contents"));
                    document.ExecuteNonQuery();
                    words.ExecuteNonQuery();
                }
                if (documents % ProgressEvery == 0)
                {
                    cancellationToken.ThrowIfCancellationRequested();
                    progress?.Report(new IndexProgress(documents, reader.BytesRead, reader.Length));
                }
            }
            if (documents == 0)
                throw new DataFormatException(corpus, "the corpus file holds no passages");
            cancellationToken.ThrowIfCancellationRequested();
            using SqliteCommand optimize = Prepare(connection, transaction, "INSERT INTO search(search) VALUES ('optimize')");
            optimize.ExecuteNonQuery();
            using SqliteCommand meta = Prepare(
                connection, transaction,
                "INSERT INTO meta VALUES ('documents', $d), ('size', $s), ('modified', $m), ('sha256', $h)");
            meta.Parameters.AddWithValue("$d", Text(documents));
            meta.Parameters.AddWithValue("$s", Text(reader.BytesRead));
            meta.Parameters.AddWithValue("$m", Text(modified.Ticks));
            meta.Parameters.AddWithValue("$h", reader.FinishHash());
            meta.ExecuteNonQuery();
            transaction.Commit();
        }
        progress?.Report(new IndexProgress(documents, reader.BytesRead, reader.Length));

        // SQLite's text functions end at a NUL.
        static string Clean(string text) => text.Contains('\0') ? text.Replace('\0', ' ') : text;
    }

    private static string Text(long number) => number.ToString(CultureInfo.InvariantCulture);

    private static void Execute(SqliteConnection connection, string sql)
    {
        using SqliteCommand command = connection.CreateCommand();
        command.CommandText = sql;
        command.ExecuteNonQuery();
    }

    private static SqliteCommand Prepare(SqliteConnection connection, SqliteTransaction transaction, string sql)
    {
        SqliteCommand command = connection.CreateCommand();
        command.Transaction = transaction;
        command.CommandText = sql;
        return command;
    }

    /// <summary>A read-only connection with its prepared query.</summary>
    private sealed class Reader : IDisposable
    {
        private readonly SqliteCommand _search;
        private readonly SqliteParameter _match;
        private readonly SqliteParameter _limit;

        public Reader(string connectionString)
        {
            Connection = new SqliteConnection(connectionString);
            Connection.Open();
            _search = Connection.CreateCommand();
            // The inner query ranks by number alone, so that only the winners' texts are read.
            _search.CommandText = """
                SELECT d.id, d.contents, best.score
                FROM (SELECT rowid AS number, bm25(search) AS score FROM search WHERE search MATCH $match
                      ORDER BY score, number LIMIT $limit) AS best
                JOIN documents AS d ON d.number = best.number
                ORDER BY best.score, best.number
                """;
            _match = _search.Parameters.Add("$match", SqliteType.Text);
            _limit = _search.Parameters.Add("$limit", SqliteType.Integer);
        }

        public SqliteConnection Connection { get; }

        public IReadOnlyList<SearchHit> Search(string match, int k, CancellationToken cancellationToken)
        {
            _match.Value = match;
            _limit.Value = k;
            using CancellationTokenRegistration interrupt = cancellationToken.Register(() => raw.sqlite3_interrupt(Connection.Handle));
            using SqliteDataReader rows = _search.ExecuteReader();
            var hits = new List<SearchHit>(k);
            while (rows.Read())
                hits.Add(new SearchHit(new Passage(rows.GetString(0), rows.GetString(1)), -rows.GetDouble(2)));
            return hits;
        }

        public void Dispose()
        {
            _search.Dispose();
            Connection.Dispose();
        }
    }
}
