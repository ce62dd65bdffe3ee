// Call metadata. Invariants: keys are lower-case [0-9a-z._-]; a key ends in "-bin" exactly when its value is binary; byte values are
// copied in and out, so an entry never changes; Metadata.Empty is read-only.

using System.Collections;
using System.Diagnostics.CodeAnalysis;
using System.Text;

namespace Grpc.Core;

/// <summary>An ordered multi-map of the headers or trailers of a call.</summary>
public sealed class Metadata : IList<Metadata.Entry>
{
    public const string BinaryHeaderSuffix = "-bin";

    public static readonly Metadata Empty = new(readOnly: true);

    private readonly List<Entry> _entries;
    private readonly bool _readOnly;

    public Metadata()
    {
        _entries = [];
    }

    private Metadata(bool readOnly)
    {
        _entries = [];
        _readOnly = readOnly;
    }

    public int Count => _entries.Count;

    public bool IsReadOnly => _readOnly;

    public Entry this[int index]
    {
        get => _entries[index];
        set
        {
            EnsureWritable();
            ArgumentNullException.ThrowIfNull(value);
            _entries[index] = value;
        }
    }

    /// <summary>The last entry with this key (in any case), or null.</summary>
    public Entry? Get(string key)
    {
        for (var i = _entries.Count - 1; i >= 0; i--)
        {
            if (string.Equals(_entries[i].Key, key, StringComparison.OrdinalIgnoreCase))
                return _entries[i];
        }
        return null;
    }

    public string? GetValue(string key) => Get(key)?.Value;

    public byte[]? GetValueBytes(string key) => Get(key)?.ValueBytes;

    public IEnumerable<Entry> GetAll(string key)
    {
        foreach (var entry in _entries)
        {
            if (string.Equals(entry.Key, key, StringComparison.OrdinalIgnoreCase))
                yield return entry;
        }
    }

    public void Add(Entry item)
    {
        ArgumentNullException.ThrowIfNull(item);
        EnsureWritable();
        _entries.Add(item);
    }

    public void Add(string key, string value) => Add(new Entry(key, value));

    public void Add(string key, byte[] valueBytes) => Add(new Entry(key, valueBytes));

    public int IndexOf(Entry item) => _entries.IndexOf(item);

    public void Insert(int index, Entry item)
    {
        ArgumentNullException.ThrowIfNull(item);
        EnsureWritable();
        _entries.Insert(index, item);
    }

    public void RemoveAt(int index)
    {
        EnsureWritable();
        _entries.RemoveAt(index);
    }

    public void Clear()
    {
        EnsureWritable();
        _entries.Clear();
    }

    public bool Contains(Entry item) => _entries.Contains(item);

    public void CopyTo(Entry[] array, int arrayIndex) => _entries.CopyTo(array, arrayIndex);

    public bool Remove(Entry item)
    {
        EnsureWritable();
        return _entries.Remove(item);
    }

    public IEnumerator<Entry> GetEnumerator() => _entries.GetEnumerator();

    IEnumerator IEnumerable.GetEnumerator() => _entries.GetEnumerator();

    private void EnsureWritable()
    {
        if (_readOnly)
            throw new InvalidOperationException("Object is read only");
    }

    /// <summary>One key with a text or binary value.</summary>
    public class Entry
    {
        private readonly string? _text;
        private readonly byte[]? _bytes;

        public Entry(string key, string value)
        {
            Key = NormaliseKey(key);
            if (HasBinarySuffix(Key))
                throw new ArgumentException($"The key \"{Key}\" ends in {BinaryHeaderSuffix}, so its value must be bytes.", nameof(key));
            ArgumentNullException.ThrowIfNull(value);
            _text = value;
        }

        public Entry(string key, byte[] valueBytes)
        {
            Key = NormaliseKey(key);
            if (!HasBinarySuffix(Key))
                throw new ArgumentException($"The key \"{Key}\" of a binary value must end in {BinaryHeaderSuffix}.", nameof(key));
            ArgumentNullException.ThrowIfNull(valueBytes);
            _bytes = (byte[])valueBytes.Clone();
        }

        public string Key { get; }

        public string Value => _text ?? throw new InvalidOperationException($"The value of \"{Key}\" is binary; read ValueBytes.");

        public byte[] ValueBytes => _bytes is null ? Encoding.ASCII.GetBytes(_text!) : (byte[])_bytes.Clone();

        public bool IsBinary => _bytes is not null;

        public override string ToString() =>
            IsBinary ? $"[Entry: key={Key}, valueBytes={Convert.ToHexString(_bytes!)}]" : $"[Entry: key={Key}, value={_text}]";

        /// <summary>The value as it goes into an HTTP header.</summary>
        internal string HeaderValue => _bytes is null ? _text! : Convert.ToBase64String(_bytes);

        internal static bool HasBinarySuffix(string key) => key.EndsWith(BinaryHeaderSuffix, StringComparison.Ordinal);

        internal static bool IsValidKey([NotNullWhen(true)] string? key)
        {
            if (string.IsNullOrEmpty(key))
                return false;
            foreach (var c in key)
            {
                if (!char.IsAsciiLetterOrDigit(c) && c is not ('.' or '_' or '-'))
                    return false;
            }
            return true;
        }

        private static string NormaliseKey(string key)
        {
            ArgumentNullException.ThrowIfNull(key);
            if (!IsValidKey(key))
                throw new ArgumentException($"\"{key}\" is no metadata key: use letters, digits, '_', '-' and '.' only.", nameof(key));
            foreach (var c in key)
            {
                if (char.IsAsciiLetterUpper(c))
                    return key.ToLowerInvariant();
            }
            return key;
        }
    }
}
