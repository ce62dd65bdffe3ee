// Invariants: memory is MemoryLimit, one byte per passage and the postings of one term, whatever the corpus; what does not fit lies in
// sorted runs in one file aside, which the disposal removes; terms leave in ordinal order, each one once.

using System.Runtime.InteropServices;
using System.Text;

namespace Mem1.Environments.Retrieval;

/// <summary>Inverts a corpus: takes passages in order and gives back terms with their postings.</summary>
internal sealed class PostingBuilder : IDisposable
{
    // Large enough for runs of some hundred thousand passages, small beside the model of a run.
    private const long DefaultMemoryLimit = 96 << 20;

    // What a term costs beside its postings: the string, the dictionary's entry, the list and its first array.
    private const int TermCost = 160;

    private readonly string _aside;
    private readonly long _memoryLimit;
    private readonly EnglishAnalyzer _analyzer = new();
    private readonly Dictionary<string, Pending> _terms = new(StringComparer.Ordinal);
    private readonly Dictionary<string, Pending>.AlternateLookup<ReadOnlySpan<char>> _lookup;
    private readonly List<Pending> _touched = [];
    private readonly List<byte> _lengths = [];
    private readonly List<(long Start, long End)> _runs = [];
    private FileStream? _spilled;
    private long _memory;

    /// <param name="aside">File for what does not fit into memory; made when needed.</param>
    /// <param name="memoryLimit">Bytes to hold before a run is written.</param>
    public PostingBuilder(string aside, long memoryLimit = DefaultMemoryLimit)
    {
        _aside = aside;
        _memoryLimit = memoryLimit;
        _lookup = _terms.GetAlternateLookup<ReadOnlySpan<char>>();
    }

    /// <summary>Terms of all passages, stop words not counted.</summary>
    public long TotalLength { get; private set; }

    /// <summary>Length codes by passage.</summary>
    public ReadOnlySpan<byte> Lengths => CollectionsMarshal.AsSpan(_lengths);

    /// <summary>Takes the next passage.</summary>
    public void Add(string contents)
    {
        int length = 0;
        _analyzer.Reset(contents);
        while (_analyzer.Next())
        {
            // Stop words can be searched for when a query holds nothing else, but do not make a passage longer.
            if (!_analyzer.IsStopWord)
                length++;
            if (!_lookup.TryGetValue(_analyzer.Term, out Pending? term))
            {
                term = new Pending();
                _terms.Add(_analyzer.Term.ToString(), term);
                _memory += TermCost + (2 * _analyzer.Term.Length);
            }
            if (term.Frequency++ == 0)
                _touched.Add(term);
        }
        foreach (Pending term in _touched)
            _memory += term.Take(_lengths.Count);
        _touched.Clear();
        _lengths.Add(PostingFormat.EncodeLength(length));
        TotalLength += length;
        if (_memory > _memoryLimit)
            Spill();
    }

    /// <summary>Gives every term to <paramref name="write"/>, in ordinal order; call it once, after the last passage.</summary>
    /// <param name="write">
    /// Takes the term, how many passages hold it, its directory and its postings; the arrays are reused afterwards.
    /// </param>
    /// <param name="cancellationToken">Asked before every term.</param>
    public void Finish(Action<string, int, ArraySegment<byte>, ArraySegment<byte>> write, CancellationToken cancellationToken)
    {
        float[] norms = PostingFormat.Norms(Math.Max(1, (double)TotalLength / Math.Max(1, _lengths.Count)));
        var encoder = new TermEncoder(norms, _lengths);
        var queue = new PriorityQueue<Run, (string, int)>(Comparer<(string Term, int Order)>.Create(
            (a, b) => string.CompareOrdinal(a.Term, b.Term) is not 0 and var c ? c : a.Order.CompareTo(b.Order)));
        _spilled?.Flush();
        List<Run> runs = [.. _runs.Select((r, i) => (Run)new FileRun(_aside, r.Start, r.End, i)), new MemoryRun(Sorted(), _runs.Count)];
        try
        {
            foreach (Run run in runs)
            {
                if (run.Next())
                    queue.Enqueue(run, (run.Term, run.Order));
            }
            while (queue.TryDequeue(out Run? run, out _))
            {
                cancellationToken.ThrowIfCancellationRequested();
                string term = run.Term;
                encoder.Start();
                encoder.Add(run.Postings);
                if (run.Next())
                    queue.Enqueue(run, (run.Term, run.Order));
                while (queue.TryPeek(out Run? same, out (string Term, int) key) && key.Term == term)
                {
                    queue.Dequeue();
                    encoder.Add(same.Postings);
                    if (same.Next())
                        queue.Enqueue(same, (same.Term, same.Order));
                }
                encoder.Finish();
                write(term, encoder.Count, encoder.Directory, encoder.Postings);
            }
        }
        finally
        {
            foreach (Run run in runs)
                run.Dispose();
        }
    }

    public void Dispose()
    {
        _spilled?.Dispose();
        File.Delete(_aside);
    }

    private List<(string Term, Pending Pending)> Sorted()
    {
        List<(string Term, Pending Pending)> sorted = [.. _terms.Select(t => (t.Key, t.Value))];
        sorted.Sort((a, b) => string.CompareOrdinal(a.Term, b.Term));
        return sorted;
    }

    private void Spill()
    {
        _spilled ??= new FileStream(_aside, FileMode.Create, FileAccess.Write, FileShare.Read, 1 << 16);
        long start = _spilled.Position;
        using (var writer = new BinaryWriter(_spilled, Encoding.Unicode, leaveOpen: true))
        {
            foreach ((string term, Pending pending) in Sorted())
            {
                writer.Write(term);
                writer.Write(pending.Bytes.Length);
                writer.Write(pending.Bytes);
            }
        }
        _runs.Add((start, _spilled.Position));
        _terms.Clear();
        _memory = 0;
    }

    /// <summary>Postings of a term since the last run: distances between passages and frequencies, of variable length.</summary>
    private sealed class Pending
    {
        private byte[] _bytes = new byte[8];
        private int _used;
        private int _last;

        public int Frequency { get; set; }

        public ReadOnlySpan<byte> Bytes => _bytes.AsSpan(0, _used);

        /// <summary>Ends a passage that holds the term; returns the bytes of memory this took.</summary>
        public int Take(int passage)
        {
            int before = _bytes.Length;
            if (_bytes.Length - _used < 10)
                Array.Resize(ref _bytes, 2 * _bytes.Length + 8);
            PostingFormat.WriteNumber(_bytes, ref _used, passage - _last);
            PostingFormat.WriteNumber(_bytes, ref _used, Frequency);
            _last = passage;
            Frequency = 0;
            return _bytes.Length - before;
        }
    }

    /// <summary>Sorted terms with their postings in one piece of the corpus.</summary>
    private abstract class Run(int order) : IDisposable
    {
        public int Order => order;

        public string Term { get; protected set; } = "";

        public abstract ReadOnlySpan<byte> Postings { get; }

        public abstract bool Next();

        public virtual void Dispose()
        {
        }
    }

    private sealed class MemoryRun(List<(string Term, Pending Pending)> terms, int order) : Run(order)
    {
        private int _at = -1;

        public override ReadOnlySpan<byte> Postings => terms[_at].Pending.Bytes;

        public override bool Next()
        {
            if (++_at >= terms.Count)
                return false;
            Term = terms[_at].Term;
            return true;
        }
    }

    private sealed class FileRun : Run
    {
        private readonly BinaryReader _reader;
        private readonly long _end;
        private byte[] _bytes = [];
        private int _length;

        public FileRun(string file, long start, long end, int order)
            : base(order)
        {
            var stream = new FileStream(file, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, 1 << 16);
            stream.Position = start;
            _reader = new BinaryReader(stream, Encoding.Unicode);
            _end = end;
        }

        public override ReadOnlySpan<byte> Postings => _bytes.AsSpan(0, _length);

        public override bool Next()
        {
            if (_reader.BaseStream.Position >= _end)
                return false;
            Term = _reader.ReadString();
            _length = _reader.ReadInt32();
            if (_bytes.Length < _length)
                _bytes = new byte[Math.Max(_length, 2 * _bytes.Length)];
            _reader.BaseStream.ReadExactly(_bytes, 0, _length);
            return true;
        }

        public override void Dispose() => _reader.Dispose();
    }

    /// <summary>Brings the postings of a term into the form of the index.</summary>
    private sealed class TermEncoder(float[] norms, List<byte> lengths)
    {
        private byte[] _directory = new byte[64];
        private byte[] _postings = new byte[64];
        private int _directoryUsed;
        private int _lastWindow;
        private int _window;
        private int _inWindow;
        private float _best;

        /// <summary>Passages that hold the term.</summary>
        public int Count { get; private set; }

        public ArraySegment<byte> Directory => new(_directory, 0, _directoryUsed);

        public ArraySegment<byte> Postings => new(_postings, 0, 2 * Count);

        public void Start() => (_directoryUsed, Count, _lastWindow, _window, _inWindow, _best) = (0, 0, 0, 0, 0, 0);

        public void Add(ReadOnlySpan<byte> run)
        {
            int passage = 0;
            for (int at = 0; at < run.Length;)
            {
                passage += PostingFormat.ReadNumber(run, ref at);
                int frequency = Math.Min(PostingFormat.ReadNumber(run, ref at), PostingFormat.MaxFrequency);
                int window = passage >> PostingFormat.WindowBits;
                if (window != _window)
                {
                    EndWindow();
                    _window = window;
                }
                if (_postings.Length < 2 * (Count + 1))
                    Array.Resize(ref _postings, 2 * _postings.Length);
                int posting = (frequency << PostingFormat.WindowBits) | (passage & PostingFormat.OffsetMask);
                _postings[2 * Count] = (byte)posting;
                _postings[(2 * Count) + 1] = (byte)(posting >> 8);
                Count++;
                _inWindow++;
                _best = Math.Max(_best, frequency / (frequency + norms[lengths[passage]]));
            }
        }

        public void Finish() => EndWindow();

        private void EndWindow()
        {
            if (_inWindow == 0)
                return;
            if (_directory.Length - _directoryUsed < 11)
                Array.Resize(ref _directory, 2 * _directory.Length);
            PostingFormat.WriteNumber(_directory, ref _directoryUsed, _window - _lastWindow);
            PostingFormat.WriteNumber(_directory, ref _directoryUsed, _inWindow - 1);
            _directory[_directoryUsed++] = (byte)Math.Min(255, Math.Ceiling(_best / PostingFormat.BoundUnit));
            (_lastWindow, _inWindow, _best) = (_window, 0, 0);
        }
    }
}
