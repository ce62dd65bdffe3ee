// Invariants: an index is only ever opened complete and as this version writes it; what a search returns does not depend on the number of
// searches beside it.

using System.Collections.Concurrent;
using System.Globalization;
using Microsoft.Data.Sqlite;
using SQLitePCL;

namespace Mem1.Environments.Retrieval;

/// <summary>How far the building of an index has come.</summary>
/// <param name="Documents">Passages read.</param>
/// <param name="BytesRead">Bytes of the corpus file read.</param>
/// <param name="TotalBytes">Size of the corpus file in bytes.</param>
public sealed record IndexProgress(long Documents, long BytesRead, long TotalBytes)
{
    /// <summary>Whether the corpus is read and only the ids are checked and the postings written.</summary>
    public bool Finishing { get; init; }
}

/// <summary>What <see cref="CorpusIndex.Build"/> found and did.</summary>
public enum IndexBuild
{
    /// <summary>The index already belonged to the corpus as it is; nothing was done.</summary>
    Current,
    /// <summary>There was none; it was built.</summary>
    New,
    /// <summary>A build that was killed had left its unfinished file; that was thrown away and the index built from the start.</summary>
    AfterUnfinished,
    /// <summary>
    /// The index was of another corpus, of an earlier state of it, or of another version of this program; it was replaced.
    /// </summary>
    Replaced,
}

/// <summary>
/// A corpus in one SQLite file: the passages, an FTS5 index that filters by expressions of the user, and postings that rank by BM25
/// (k1 = 0.9, b = 0.4) over English terms. FTS5 does not rank, for two measured reasons: its bm25() fixes k1 = 1.2 and b = 0.75, and it
/// scores every match, which for six frequent words takes a quarter of a second at 200,000 passages. Thread-safe: each search borrows a
/// read-only connection.
/// </summary>
public sealed class CorpusIndex : ISearchIndex
{
    /// <summary>"MEM1": marks the database as ours.</summary>
    internal const int ApplicationId = 0x4D454D31;

    /// <summary>
    /// To be raised whenever the schema, the analysis or the form of postings changes, so that old indexes are built anew.
    /// </summary>
    internal const int SchemaVersion = 2;

    // Address space, not memory: pages of the file are mapped as they are touched, and the system takes them back when it needs to.
    private const long MappedBytes = 1L << 40;

    private const int SqliteError = 1;
    private const int SqliteInterrupt = 9;

    private readonly string _path;
    private readonly string _connectionString;
    private readonly byte[] _lengths;
    private readonly float[] _norms;
    private readonly ConcurrentBag<Reader> _idle = [];
    private volatile bool _disposed;

    static CorpusIndex() => Batteries_V2.Init();

    private CorpusIndex(string path)
    {
        _path = path;
        _connectionString = ConnectionString(path, SqliteOpenMode.ReadOnly);
        using var connection = new SqliteConnection(_connectionString);
        connection.Open();
        Dictionary<string, string> meta = ReadMeta(connection);
        Count = long.Parse(meta["documents"], CultureInfo.InvariantCulture);
        using SqliteCommand lengths = connection.CreateCommand();
        lengths.CommandText = "SELECT codes FROM lengths";
        _lengths = (byte[]?)lengths.ExecuteScalar() ?? throw new EndOfStreamException("The lengths of the passages are missing.");
        if (_lengths.Length != Count)
            throw new EndOfStreamException("The lengths are not of as many passages as there are.");
        _norms = PostingFormat.Norms(Math.Max(1, double.Parse(meta["terms"], CultureInfo.InvariantCulture) / Count));
    }

    /// <inheritdoc/>
    public long Count { get; }

    /// <summary>Where the index of a corpus lies when nobody says otherwise: beside it.</summary>
    public static string DefaultPath(string corpus) => corpus + ".fts5";

    /// <summary>Opens the index of a corpus; builds it first unless it exists and belongs to the corpus as it is now.</summary>
    /// <param name="corpus">JSON Lines file, gzipped or not, each line {"id": ..., "contents": "title line\ntext"}.</param>
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
        Build(corpus, path, progress, cancellationToken);
        return Opened(path);
    }

    /// <summary>
    /// Builds the index of a corpus unless it exists and belongs to the corpus as it is now. The parameters and errors are those of
    /// <see cref="OpenOrBuild"/>.
    /// </summary>
    public static IndexBuild Build(
        string corpus, string path, IProgress<IndexProgress>? progress = null, CancellationToken cancellationToken = default) =>
        CorpusIndexBuilder.Run(corpus, path, progress, cancellationToken);

    /// <summary>Opens an index whose corpus need not be there any more.</summary>
    /// <exception cref="DataFormatException">It does not exist, is no index, or was made by another version.</exception>
    public static CorpusIndex Open(string path)
    {
        if (!File.Exists(path))
            throw new DataFormatException(path, "the index does not exist; mem1 data index makes one from a corpus");
        if (!CorpusIndexBuilder.IsReadable(path))
            throw new DataFormatException(
                path, "the index was made by another version of this program; build it again with mem1 data index");
        return Opened(path);
    }

    /// <inheritdoc/>
    public IReadOnlyList<SearchHit> Search(string query, int k, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(query);
        return Borrow(k, reader => reader.Search(query, k, cancellationToken), cancellationToken);
    }

    /// <summary>Passages that an FTS5 expression selects, in corpus order, with score 0: phrases, prefixes, AND, OR, NOT, NEAR.</summary>
    /// <param name="expression">In FTS5's query language; its terms are stemmed and without accents.</param>
    /// <param name="k">Most passages to return; at least 1.</param>
    /// <param name="cancellationToken">Interrupts a running search.</param>
    /// <exception cref="DataFormatException">The expression is not valid; the message holds what SQLite says.</exception>
    public IReadOnlyList<SearchHit> Filter(string expression, int k, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(expression);
        try
        {
            return Borrow(k, reader => reader.Filter(expression, k, cancellationToken), cancellationToken);
        }
        catch (SqliteException e) when (e.SqliteErrorCode == SqliteError)
        {
            throw new DataFormatException(_path, $"the expression is not valid FTS5 ({e.Message.TrimEnd('.')})", inner: e);
        }
    }

    /// <summary>All passages in corpus order, read as they are asked for.</summary>
    public IEnumerable<Passage> Passages()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        using var connection = new SqliteConnection(_connectionString);
        connection.Open();
        using SqliteCommand command = connection.CreateCommand();
        command.CommandText = "SELECT id, contents FROM documents ORDER BY number";
        using SqliteDataReader rows = command.ExecuteReader();
        while (rows.Read())
            yield return new Passage(rows.GetString(0), rows.GetString(1));
    }

    /// <summary>Closes the connections; searches still running finish first and close theirs.</summary>
    public void Dispose()
    {
        _disposed = true;
        CloseIdle();
    }

    internal static string ConnectionString(string path, SqliteOpenMode mode) =>
        new SqliteConnectionStringBuilder { DataSource = path, Mode = mode, Pooling = false }.ToString();

    internal static Dictionary<string, string> ReadMeta(SqliteConnection connection)
    {
        using SqliteCommand command = connection.CreateCommand();
        command.CommandText = "SELECT key, value FROM meta";
        using SqliteDataReader rows = command.ExecuteReader();
        var meta = new Dictionary<string, string>(StringComparer.Ordinal);
        while (rows.Read())
            meta[rows.GetString(0)] = rows.GetString(1);
        return meta;
    }

    private IReadOnlyList<SearchHit> Borrow(int k, Func<Reader, IReadOnlyList<SearchHit>> search, CancellationToken cancellationToken)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(k, 1);
        ObjectDisposedException.ThrowIf(_disposed, this);
        cancellationToken.ThrowIfCancellationRequested();
        Reader? reader = null;
        try
        {
            if (!_idle.TryTake(out reader))
                reader = new Reader(_connectionString, _lengths, _norms);
            return search(reader);
        }
        catch (SqliteException e) when (e.SqliteErrorCode == SqliteInterrupt && cancellationToken.IsCancellationRequested)
        {
            throw new OperationCanceledException(e.Message, e, cancellationToken);
        }
        // SqliteError is for who wrote the query.
        catch (Exception e) when (e is not SqliteException { SqliteErrorCode: SqliteError } && IsDamage(e))
        {
            throw Damaged(_path, e);
        }
        finally
        {
            if (reader is not null)
                _idle.Add(reader);
            if (_disposed)
                CloseIdle();
        }
    }

    private static CorpusIndex Opened(string path)
    {
        try
        {
            return new CorpusIndex(path);
        }
        catch (Exception e) when (IsDamage(e))
        {
            throw Damaged(path, e);
        }
    }

    /// <summary>Whether an exception is what reading numbers that were never written ends in.</summary>
    private static bool IsDamage(Exception e) => e is SqliteException or IndexOutOfRangeException or ArgumentException or InvalidCastException
        or OverflowException or EndOfStreamException or FormatException or KeyNotFoundException
        or (InvalidOperationException and not ObjectDisposedException);

    private static DataFormatException Damaged(string path, Exception e) =>
        new(path, "the index is damaged; remove it and build it again with mem1 data index", inner: e);

    private void CloseIdle()
    {
        while (_idle.TryTake(out Reader? reader))
            reader.Dispose();
    }

    /// <summary>A read-only connection with its prepared queries.</summary>
    private sealed class Reader : IDisposable
    {
        private readonly SqliteConnection _connection;
        private readonly Bm25Search _ranking;
        private readonly SqliteCommand _passage;
        private readonly SqliteParameter _number;
        private readonly SqliteCommand _filter;
        private readonly SqliteParameter _match;
        private readonly SqliteParameter _limit;

        public Reader(string connectionString, byte[] lengths, float[] norms)
        {
            _connection = new SqliteConnection(connectionString);
            _connection.Open();
            using (SqliteCommand map = _connection.CreateCommand())
            {
                map.CommandText = $"PRAGMA mmap_size = {MappedBytes}";
                map.ExecuteNonQuery();
            }
            _ranking = new Bm25Search(_connection, lengths, norms);
            _passage = _connection.CreateCommand();
            _passage.CommandText = "SELECT id, contents FROM documents WHERE number = $number";
            _number = _passage.Parameters.Add("$number", SqliteType.Integer);
            _filter = _connection.CreateCommand();
            _filter.CommandText = """
                SELECT d.id, d.contents FROM search JOIN documents AS d ON d.number = search.rowid
                WHERE search MATCH $match ORDER BY search.rowid LIMIT $limit
                """;
            _match = _filter.Parameters.Add("$match", SqliteType.Text);
            _limit = _filter.Parameters.Add("$limit", SqliteType.Integer);
        }

        public IReadOnlyList<SearchHit> Search(string query, int k, CancellationToken cancellationToken)
        {
            var hits = new List<SearchHit>();
            foreach ((int passage, double score) in _ranking.Search(query, k, cancellationToken))
            {
                _number.Value = passage + 1;
                using SqliteDataReader row = _passage.ExecuteReader();
                if (!row.Read())
                    throw new EndOfStreamException("A passage that has postings is missing.");
                hits.Add(new SearchHit(new Passage(row.GetString(0), row.GetString(1)), score));
            }
            return hits;
        }

        public IReadOnlyList<SearchHit> Filter(string expression, int k, CancellationToken cancellationToken)
        {
            _match.Value = expression;
            _limit.Value = k;
            using CancellationTokenRegistration interrupt = cancellationToken.Register(() => raw.sqlite3_interrupt(_connection.Handle));
            using SqliteDataReader rows = _filter.ExecuteReader();
            var hits = new List<SearchHit>();
            while (rows.Read())
                hits.Add(new SearchHit(new Passage(rows.GetString(0), rows.GetString(1)), 0));
            return hits;
        }

        public void Dispose()
        {
            _ranking.Dispose();
            _passage.Dispose();
            _filter.Dispose();
            _connection.Dispose();
        }
    }
}
