// Invariants: the result is that of scoring every passage, whatever was skipped: scores are whole numbers (no rounding depends on the order
// of addition), a bound is never below a score it bounds, and a window is skipped only if its bound is below the worst result kept.

using System.Runtime.InteropServices;
using Microsoft.Data.Sqlite;

namespace Mem1.Environments.Retrieval;

/// <summary>
/// Finds the best passages by BM25 over the index's own postings: MaxScore (Turtle and Flood, 1995) within windows of passages, windows
/// skipped by their bounds as in block-max indexes (Ding and Suel, 2011). One connection's; not thread-safe.
/// </summary>
internal sealed class Bm25Search : IDisposable
{
    // A query of a language model has a dozen words; the bound keeps a runaway response from scanning the whole index.
    private const int MaxTerms = 64;

    // Scores are counted in units of 2^-20, finer than single precision at their usual size; in larger ones where a query's best possible
    // score would pass this, a quarter of what 32 bits hold.
    private const double ScoreUnit = 1.0 / (1 << 20);
    private const double MaxScore = 1 << 29;

    // Windows looked at first, best bound first: they set the mark that the others must pass.
    private const int Probes = 16;

    // Postings up to this size come with the term's row; longer ones are read piece by piece.
    private const int InlineBytes = 8192;

    // Read ahead when windows are visited in order.
    private const int ReadAhead = 16384;

    private readonly SqliteConnection _connection;
    private readonly long _passages;
    private readonly byte[] _lengths;
    private readonly float[] _norms;
    private readonly SqliteCommand _find;
    private readonly SqliteParameter _term;
    private readonly EnglishAnalyzer _analyzer = new();
    private readonly int[] _bounds;
    private readonly int[] _scores = new int[PostingFormat.WindowSize];
    private readonly (int Bound, Cursor Cursor, int Entry)[] _present = new (int, Cursor, int)[MaxTerms];
    private readonly int[] _rest = new int[MaxTerms + 1];

    /// <param name="connection">Open; not disposed by this.</param>
    /// <param name="lengths">Length codes by passage.</param>
    /// <param name="norms">Of <see cref="PostingFormat.Norms"/>.</param>
    public Bm25Search(SqliteConnection connection, byte[] lengths, float[] norms)
    {
        _connection = connection;
        _passages = lengths.Length;
        _lengths = lengths;
        _norms = norms;
        _bounds = new int[(lengths.Length >> PostingFormat.WindowBits) + 1];
        _find = connection.CreateCommand();
        _find.CommandText = $"""
            SELECT number, passages, windows, CASE WHEN length(postings) <= {InlineBytes} THEN postings END FROM terms WHERE term = $term
            """;
        _term = _find.Parameters.Add("$term", SqliteType.Text);
    }

    /// <summary>The best passages, by number from 0, with their scores; best first, ties in corpus order.</summary>
    public List<(int Passage, double Score)> Search(string query, int k, CancellationToken cancellationToken)
    {
        List<FoundTerm> found = [];
        foreach ((string term, int count) in Terms(query))
        {
            if (Find(term, count) is { } row)
                found.Add(row);
        }
        if (found.Count == 0)
            return [];
        double unit = Math.Max(ScoreUnit, found.Sum(t => t.Weight) / MaxScore);
        Cursor[] cursors = [.. found.Select(t => new Cursor(t, t.Weight / unit, _connection))];
        try
        {
            return [.. Rank(cursors, k, cancellationToken).Select(hit => (hit.Passage, hit.Score * unit))];
        }
        finally
        {
            foreach (Cursor cursor in cursors)
                cursor.Dispose();
        }
    }

    public void Dispose() => _find.Dispose();

    /// <summary>The query's terms with their counts: stop words only if there is nothing else.</summary>
    private IEnumerable<KeyValuePair<string, int>> Terms(string query)
    {
        var telling = new OrderedDictionary<string, int>(StringComparer.Ordinal);
        var stopWords = new OrderedDictionary<string, int>(StringComparer.Ordinal);
        _analyzer.Reset(query);
        while (_analyzer.Next())
        {
            OrderedDictionary<string, int> terms = _analyzer.IsStopWord ? stopWords : telling;
            string term = _analyzer.Term.ToString();
            if (terms.TryGetValue(term, out int count))
                terms[term] = Math.Min(count + 1, MaxTerms);
            else if (terms.Count < MaxTerms)
                terms.Add(term, 1);
        }
        return telling.Count > 0 ? telling : stopWords;
    }

    private FoundTerm? Find(string term, int count)
    {
        _term.Value = term;
        using SqliteDataReader row = _find.ExecuteReader();
        if (!row.Read())
            return null;
        long holding = row.GetInt64(1);
        return new FoundTerm(
            row.GetInt64(0), (int)holding, count * PostingFormat.Idf(_passages, holding), (byte[])row.GetValue(2),
            row.IsDBNull(3) ? null : (byte[])row.GetValue(3));
    }

    private List<(int Passage, int Score)> Rank(Cursor[] cursors, int k, CancellationToken cancellationToken)
    {
        var best = new TopK((int)Math.Min(k, _passages));
        Array.Clear(_bounds);
        foreach (Cursor cursor in cursors)
        {
            ReadOnlySpan<int> windows = cursor.Windows, bounds = cursor.Bounds;
            for (int i = 0; i < windows.Length; i++)
                _bounds[windows[i]] += bounds[i];
        }
        foreach (int window in MostPromising())
        {
            Score(window, cursors, best, ahead: false);
            _bounds[window] = 0;
        }
        for (int window = 0; window < _bounds.Length; window++)
        {
            if (_bounds[window] == 0 || _bounds[window] < best.Mark)
                continue;
            cancellationToken.ThrowIfCancellationRequested();
            Score(window, cursors, best, ahead: true);
        }
        return best.Sorted();
    }

    private List<int> MostPromising()
    {
        var queue = new PriorityQueue<int, int>();
        for (int window = 0; window < _bounds.Length; window++)
        {
            if (_bounds[window] == 0)
                continue;
            if (queue.Count < Probes)
                queue.Enqueue(window, _bounds[window]);
            else
                queue.EnqueueDequeue(window, _bounds[window]);
        }
        List<int> windows = [];
        while (queue.TryDequeue(out int window, out _))
            windows.Add(window);
        windows.Reverse();
        return windows;
    }

    private void Score(int window, Cursor[] cursors, TopK best, bool ahead)
    {
        int terms = 0;
        foreach (Cursor cursor in cursors)
        {
            int entry = cursor.Find(window);
            if (entry < 0)
                continue;
            int place = terms++;
            for (; place > 0 && _present[place - 1].Bound < cursor.Bounds[entry]; place--)
                _present[place] = _present[place - 1];
            _present[place] = (cursor.Bounds[entry], cursor, entry);
        }
        // _rest[i] bounds what the terms from i on can add.
        _rest[terms] = 0;
        for (int i = terms - 1; i >= 0; i--)
            _rest[i] = _rest[i + 1] + _present[i].Bound;

        int first = window << PostingFormat.WindowBits;
        ReadOnlySpan<byte> lengths = _lengths.AsSpan(first, Math.Min(PostingFormat.WindowSize, _lengths.Length - first));
        Span<int> scores = _scores;
        scores.Clear();
        int next = 0;
        // A passage without any of these cannot reach the mark.
        for (; next < terms && _rest[next] >= best.Mark; next++)
        {
            Cursor cursor = _present[next].Cursor;
            float scale = cursor.Scale;
            foreach (ushort posting in cursor.Postings(_present[next].Entry, ahead))
            {
                int offset = posting & PostingFormat.OffsetMask;
                float frequency = posting >> PostingFormat.WindowBits;
                scores[offset] += (int)(scale * (frequency / (frequency + _norms[lengths[offset]])));
            }
        }
        for (; next < terms; next++)
        {
            int needed = best.Mark - _rest[next];
            if (!scores.ContainsAnyInRange(needed, int.MaxValue))
                return;
            Cursor cursor = _present[next].Cursor;
            float scale = cursor.Scale;
            foreach (ushort posting in cursor.Postings(_present[next].Entry, ahead))
            {
                int offset = posting & PostingFormat.OffsetMask;
                if (scores[offset] < needed)
                    continue;
                float frequency = posting >> PostingFormat.WindowBits;
                scores[offset] += (int)(scale * (frequency / (frequency + _norms[lengths[offset]])));
            }
        }
        for (int offset = 0; offset < lengths.Length; offset++)
        {
            if (scores[offset] > 0 && scores[offset] >= best.Mark)
                best.Offer(first + offset, scores[offset]);
        }
    }

    /// <summary>A term's row; the postings are null when they are to be read piece by piece.</summary>
    private sealed record FoundTerm(long Number, int Holding, double Weight, byte[] Directory, byte[]? Postings);

    /// <summary>One term of a query: its windows, their bounds, and where their postings are.</summary>
    private sealed class Cursor : IDisposable
    {
        private readonly SqliteConnection _connection;
        private readonly long _number;
        private readonly int[] _windows;
        private readonly int[] _bounds;
        private readonly int[] _starts;
        private readonly int _count;
        private byte[] _buffer;
        private int _bufferStart;
        private int _bufferLength;
        private SqliteBlob? _blob;
        private int _last;

        public Cursor(FoundTerm term, double scale, SqliteConnection connection)
        {
            (_connection, _number) = (connection, term.Number);
            byte[] directory = term.Directory;
            // An entry has at least 3 bytes and one posting.
            int most = Math.Min(term.Holding, directory.Length / 3);
            (_windows, _bounds, _starts) = (new int[most], new int[most], new int[most + 1]);
            int window = 0;
            for (int at = 0; at < directory.Length; _count++)
            {
                window += PostingFormat.ReadNumber(directory, ref at);
                _windows[_count] = window;
                _starts[_count + 1] = _starts[_count] + PostingFormat.ReadNumber(directory, ref at) + 1;
                // The rounding of single precision in scores is below what is added.
                _bounds[_count] = (int)(scale * (directory[at++] * PostingFormat.BoundUnit) * (1 + 1e-6)) + 2;
            }
            Scale = (float)scale;
            _buffer = term.Postings ?? [];
            _bufferLength = _buffer.Length;
        }

        public ReadOnlySpan<int> Windows => _windows.AsSpan(0, _count);

        public ReadOnlySpan<int> Bounds => _bounds.AsSpan(0, _count);

        /// <summary>Inverse document frequency times the term's count in the query, in units of a score.</summary>
        public float Scale { get; }

        /// <summary>The entry of a window in the directory; negative when the term is not in it.</summary>
        public int Find(int window)
        {
            // Windows mostly come in order, so that the entry is mostly the last one's neighbour.
            int next = _last + 1;
            if (next < _count && _windows[next] == window)
                return _last = next;
            int found = Array.BinarySearch(_windows, 0, _count, window);
            _last = found >= 0 ? found : ~found - 1;
            return found;
        }

        public ReadOnlySpan<ushort> Postings(int entry, bool ahead)
        {
            int start = 2 * _starts[entry], length = (2 * _starts[entry + 1]) - start;
            if (start < _bufferStart || start + length > _bufferStart + _bufferLength)
            {
                _blob ??= new SqliteBlob(_connection, "terms", "postings", _number, readOnly: true);
                int wanted = (int)Math.Min(ahead ? Math.Max(length, ReadAhead) : length, _blob.Length - start);
                if (_buffer.Length < wanted)
                    _buffer = new byte[Math.Max(wanted, 2 * PostingFormat.WindowSize)];
                _blob.Position = start;
                _blob.ReadExactly(_buffer, 0, wanted);
                (_bufferStart, _bufferLength) = (start, wanted);
            }
            return MemoryMarshal.Cast<byte, ushort>(_buffer.AsSpan(start - _bufferStart, length));
        }

        public void Dispose() => _blob?.Dispose();
    }

    /// <summary>The best passages so far.</summary>
    private sealed class TopK(int k)
    {
        // Worst first: the lowest score and, among equals, the passage that comes last.
        private readonly PriorityQueue<int, (int Score, int Reversed)> _queue = new();

        /// <summary>What a passage must reach to count; 0 while there is room.</summary>
        public int Mark { get; private set; }

        public void Offer(int passage, int score)
        {
            if (_queue.Count < k)
                _queue.Enqueue(passage, (score, -passage));
            else
                _queue.EnqueueDequeue(passage, (score, -passage));
            if (_queue.Count == k && _queue.TryPeek(out _, out (int Score, int) worst))
                Mark = worst.Score;
        }

        public List<(int Passage, int Score)> Sorted()
        {
            List<(int Passage, int Score)> hits = [.. _queue.UnorderedItems.Select(i => (i.Element, i.Priority.Score))];
            hits.Sort((a, b) => a.Score != b.Score ? b.Score.CompareTo(a.Score) : a.Passage.CompareTo(b.Passage));
            return hits;
        }
    }
}
