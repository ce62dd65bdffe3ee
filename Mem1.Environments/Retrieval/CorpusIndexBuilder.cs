// Invariants: a file under the index's name is always a complete index (it is built aside under a lock, synced and renamed); it is used
// only if it was made from this very corpus (size and time unchanged, or else size and SHA-256); a foreign file is never overwritten.

using System.Globalization;
using System.Security.Cryptography;
using Mem1.Environments.Common;
using Microsoft.Data.Sqlite;
using SQLitePCL;

namespace Mem1.Environments.Retrieval;

/// <summary>Makes the file of a <see cref="CorpusIndex"/>.</summary>
internal static class CorpusIndexBuilder
{
    // A compromise between the cost of a callback and a lively progress line: some tens of milliseconds of work.
    private const int ProgressEvery = 1000;

    // What .NET puts into IOException.HResult when another process holds the lock: EAGAIN, or a sharing violation.
    private const int LockedOnLinux = 11;
    private const int LockedOnMacOS = 35;
    private const int LockedOnWindows = unchecked((int)0x80070020);

    private const int SqliteFull = 13;

    static CorpusIndexBuilder() => Batteries_V2.Init();

    private enum State
    {
        Missing,
        Stale,
        Current,
    }

    /// <summary>Builds the index unless it is current; see <see cref="CorpusIndex.Build"/>.</summary>
    public static IndexBuild Run(string corpus, string path, IProgress<IndexProgress>? progress, CancellationToken cancellationToken)
    {
        UserFile.Open(corpus, "corpus file").Dispose();
        if (Examine(corpus, path) == State.Current)
            return IndexBuild.Current;
        using FileStream buildLock = Lock(path, cancellationToken);
        State state = Examine(corpus, path);
        if (state == State.Current)
            return IndexBuild.Current;
        // The lock is ours, so nobody is writing this file any more.
        bool unfinished = File.Exists(Aside(path));
        Build(corpus, path, progress, cancellationToken);
        return unfinished ? IndexBuild.AfterUnfinished : state == State.Stale ? IndexBuild.Replaced : IndexBuild.New;
    }

    /// <summary>Whether the file is an index of this version.</summary>
    /// <exception cref="DataFormatException">It is no index at all.</exception>
    public static bool IsReadable(string path) => TryReadMeta(path) is not null;

    private static string Aside(string path) => path + ".building";

    private static State Examine(string corpus, string path)
    {
        if (!File.Exists(path))
            return Directory.Exists(path) ? throw NotOurs(path, null) : State.Missing;
        if (TryReadMeta(path) is not { } meta)
            return State.Stale;
        var file = new FileInfo(corpus);
        if (meta["size"] != Text(file.Length))
            return State.Stale;
        if (meta["modified"] == Text(file.LastWriteTimeUtc.Ticks))
            return State.Current;
        using FileStream stream = UserFile.Open(corpus, "corpus file");
        return meta["sha256"] == Convert.ToHexString(SHA256.HashData(stream)) ? State.Current : State.Stale;
    }

    private static Dictionary<string, string>? TryReadMeta(string path)
    {
        try
        {
            using var connection = new SqliteConnection(CorpusIndex.ConnectionString(path, SqliteOpenMode.ReadOnly));
            connection.Open();
            if (Pragma(connection, "application_id") != CorpusIndex.ApplicationId)
                throw NotOurs(path, null);
            return Pragma(connection, "user_version") == CorpusIndex.SchemaVersion ? CorpusIndex.ReadMeta(connection) : null;
        }
        catch (SqliteException e)
        {
            throw NotOurs(path, e);
        }
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
        string aside = Aside(path);
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
        using var postings = new PostingBuilder(aside + ".runs");
        using var connection = new SqliteConnection(CorpusIndex.ConnectionString(aside, SqliteOpenMode.ReadWriteCreate));
        connection.Open();
        // No journal and no syncs: the file has no name yet, so nothing of it survives a crash anyway. Large pages hold a passage or a
        // window's postings whole. FTS5 keeps no copy of the passages and no column sizes: it filters, and ranks nothing.
        Execute(connection, $"""
            PRAGMA page_size = 8192;
            PRAGMA journal_mode = OFF;
            PRAGMA synchronous = OFF;
            PRAGMA locking_mode = EXCLUSIVE;
            PRAGMA cache_size = -65536;
            PRAGMA application_id = {CorpusIndex.ApplicationId};
            PRAGMA user_version = {CorpusIndex.SchemaVersion};
            CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
            CREATE TABLE documents(number INTEGER PRIMARY KEY, id TEXT NOT NULL, contents TEXT NOT NULL);
            CREATE VIRTUAL TABLE search USING fts5(
                contents, content = 'documents', content_rowid = 'number', columnsize = 0,
                tokenize = 'porter unicode61 remove_diacritics 2');
            CREATE TABLE terms(
                number INTEGER PRIMARY KEY, term TEXT NOT NULL, passages INTEGER NOT NULL, windows BLOB NOT NULL, postings BLOB NOT NULL);
            CREATE TABLE lengths(codes BLOB NOT NULL);
            """);
        using SqliteTransaction transaction = connection.BeginTransaction();
        long documents = 0;
        using (SqliteCommand document = Prepare(connection, transaction, "INSERT INTO documents VALUES ($number, $id, $contents)"))
        using (SqliteCommand words = Prepare(connection, transaction, "INSERT INTO search(rowid, contents) VALUES ($number, $contents)"))
        {
            SqliteParameter documentNumber = document.Parameters.Add("$number", SqliteType.Integer);
            SqliteParameter documentId = document.Parameters.Add("$id", SqliteType.Text);
            SqliteParameter documentContents = document.Parameters.Add("$contents", SqliteType.Text);
            SqliteParameter wordsNumber = words.Parameters.Add("$number", SqliteType.Integer);
            SqliteParameter wordsContents = words.Parameters.Add("$contents", SqliteType.Text);
            while (reader.Read() is { } line)
            {
                using (line)
                {
                    string contents = Clean(reader.Text(line.RootElement, "contents"));
                    documentNumber.Value = wordsNumber.Value = ++documents;
                    documentId.Value = Clean(reader.Id(line.RootElement, "id"));
                    documentContents.Value = wordsContents.Value = contents;
                    document.ExecuteNonQuery();
                    words.ExecuteNonQuery();
                    postings.Add(contents);
                }
                if (documents % ProgressEvery == 0)
                {
                    cancellationToken.ThrowIfCancellationRequested();
                    progress?.Report(new IndexProgress(documents, reader.BytesRead, reader.Length));
                }
            }
        }
        if (documents == 0)
            throw new DataFormatException(corpus, "the corpus file holds no passages");
        cancellationToken.ThrowIfCancellationRequested();
        progress?.Report(new IndexProgress(documents, reader.BytesRead, reader.Length) { Finishing = true });
        DemandDistinctIds(corpus, connection, cancellationToken);
        WritePostings(connection, transaction, postings, cancellationToken);
        using SqliteCommand meta = Prepare(
            connection, transaction,
            "INSERT INTO meta VALUES ('documents', $d), ('terms', $t), ('size', $s), ('modified', $m), ('sha256', $h)");
        meta.Parameters.AddWithValue("$d", Text(documents));
        meta.Parameters.AddWithValue("$t", Text(postings.TotalLength));
        meta.Parameters.AddWithValue("$s", Text(reader.BytesRead));
        meta.Parameters.AddWithValue("$m", Text(modified.Ticks));
        meta.Parameters.AddWithValue("$h", reader.FinishHash());
        meta.ExecuteNonQuery();
        transaction.Commit();

        // SQLite's text functions end at a NUL.
        static string Clean(string text) => text.Contains('\0') ? text.Replace('\0', ' ') : text;
    }

    private static void WritePostings(
        SqliteConnection connection, SqliteTransaction transaction, PostingBuilder postings, CancellationToken cancellationToken)
    {
        using SqliteCommand term = Prepare(
            connection, transaction, "INSERT INTO terms(term, passages, windows, postings) VALUES ($term, $passages, $windows, $postings)");
        SqliteParameter text = term.Parameters.Add("$term", SqliteType.Text);
        SqliteParameter passages = term.Parameters.Add("$passages", SqliteType.Integer);
        SqliteParameter windows = term.Parameters.Add("$windows", SqliteType.Blob);
        SqliteParameter words = term.Parameters.Add("$postings", SqliteType.Blob);
        postings.Finish(
            (name, count, directory, list) =>
            {
                (text.Value, passages.Value, windows.Value, words.Value) = (name, count, directory.ToArray(), list.ToArray());
                term.ExecuteNonQuery();
            },
            cancellationToken);
        using SqliteCommand lengths = Prepare(connection, transaction, "INSERT INTO lengths VALUES ($codes)");
        lengths.Parameters.AddWithValue("$codes", postings.Lengths.ToArray());
        lengths.ExecuteNonQuery();
        Execute(connection, "CREATE INDEX terms_term ON terms(term)");
    }

    /// <summary>SQLite sorts outside memory, so it compares the ids; lines are looked up only when two are the same.</summary>
    private static void DemandDistinctIds(string corpus, SqliteConnection connection, CancellationToken cancellationToken)
    {
        // Not a unique index: without a journal, a statement that fails could not be undone.
        Execute(connection, "CREATE INDEX documents_id ON documents(id)");
        using SqliteCommand command = connection.CreateCommand();
        command.CommandText = "SELECT id FROM documents GROUP BY id HAVING COUNT(*) > 1 LIMIT 1";
        if (command.ExecuteScalar() is not string id)
            return;
        using var reader = new JsonLineReader(corpus, "corpus file", "every line needs the fields \"id\" and \"contents\"");
        long first = 0;
        while (reader.Read() is { } line)
        {
            cancellationToken.ThrowIfCancellationRequested();
            using (line)
            {
                if (reader.Id(line.RootElement, "id").Replace('\0', ' ') != id)
                    continue;
                if (first > 0)
                    throw reader.Fault($"the id {id} is already that of line {first}; every passage needs an id of its own", "id");
                first = reader.Line;
            }
        }
        throw new DataFormatException(corpus, "the corpus file changed while it was read");
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
}
