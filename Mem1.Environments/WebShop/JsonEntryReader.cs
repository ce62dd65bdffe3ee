// Invariants: memory is one entry plus one buffer, whatever the file's size; every fault of the data leaves as DataFormatException.

using System.Text.Json;
using Mem1.Environments.Common;

namespace Mem1.Environments.WebShop;

/// <summary>
/// Reads a file whose root is one JSON array or one JSON object, entry by entry: the published catalogue is a single array of 5 GB.
/// Not thread-safe.
/// </summary>
internal sealed class JsonEntryReader : IDisposable
{
    private const int BufferSize = 1 << 16;

    // The largest entry of the published files is about 100 KB; this only stops a broken file from filling the memory.
    private const int LargestEntry = 1 << 26;

    private static readonly JsonReaderOptions s_options = new() { CommentHandling = JsonCommentHandling.Disallow, MaxDepth = 64 };

    private readonly string _file;
    private readonly DataStream _stream;
    private readonly bool _isObject;
    private byte[] _buffer = new byte[BufferSize];
    private int _start, _end;
    private bool _atEnd;
    private JsonReaderState _state = new(s_options);
    private long _offset;

    /// <param name="file">Path of the file.</param>
    /// <param name="kind">What the file is, for messages.</param>
    /// <param name="isObject">Whether the root is an object, else an array.</param>
    public JsonEntryReader(string file, string kind, bool isObject)
        : this(file, DataStream.Open(file, kind), kind, isObject)
    {
    }

    /// <param name="file">Name for messages.</param>
    /// <param name="data">Closed with this, or when this cannot be made.</param>
    /// <param name="kind">What the file is, for messages.</param>
    /// <param name="isObject">Whether the root is an object, else an array.</param>
    public JsonEntryReader(string file, DataStream data, string kind, bool isObject)
    {
        _file = file;
        _isObject = isObject;
        _stream = data;
        try
        {
            Fill();
            if (_buffer.AsSpan(_start, _end - _start).StartsWith((ReadOnlySpan<byte>)[0xEF, 0xBB, 0xBF]))
                _start += 3;
            if (_start == _end)
                throw Fault($"the {kind} is empty");
            JsonTokenType? first = NextToken();
            if (first != (isObject ? JsonTokenType.StartObject : JsonTokenType.StartArray))
                throw Fault($"the {kind} must be one JSON {(isObject ? "object" : "array")}");
        }
        catch
        {
            _stream.Dispose();
            throw;
        }
    }

    /// <summary>Number of the entry last read, from 0.</summary>
    public long Index { get; private set; } = -1;

    /// <summary>Name of the entry last read; null in an array.</summary>
    public string? Name { get; private set; }

    /// <summary>The next entry, or null after the last. The caller disposes it.</summary>
    public JsonDocument? Read()
    {
        if (_isObject)
        {
            Name = null;
            if (NextToken(keepName: true) != JsonTokenType.PropertyName)
                return Finish();
        }
        while (true)
        {
            var reader = new Utf8JsonReader(_buffer.AsSpan(_start, _end - _start), _atEnd, _state);
            try
            {
                JsonReaderState before = _state;
                if (reader.Read())
                {
                    if (reader.TokenType == JsonTokenType.EndArray && !_isObject)
                    {
                        Advance(ref reader);
                        return Finish();
                    }
                    // ParseValue takes the value the reader stands on; it fails softly while the value is not complete.
                    if (JsonDocument.TryParseValue(ref reader, out JsonDocument? document))
                    {
                        Advance(ref reader);
                        Index++;
                        return document;
                    }
                }
                else if (_atEnd)
                {
                    throw Fault("the file ends inside its JSON value; it is cut off");
                }
                _state = before;
            }
            catch (JsonException e)
            {
                throw Malformed(e);
            }
            Fill();
        }
    }

    public DataFormatException Fault(string problem, string? field = null, Exception? inner = null)
    {
        string entry = Name is not null ? $"entry \"{Name}\"" : Index >= 0 ? $"entry {Index}" : "";
        string place = field is null ? entry : entry.Length == 0 ? field : $"{entry}, {field}";
        return new DataFormatException(_file, problem, field: place.Length == 0 ? null : place, inner: inner);
    }

    public void Dispose() => _stream.Dispose();

    private JsonDocument? Finish()
    {
        try
        {
            while (NextToken() is not null)
                ;
        }
        catch (JsonException e)
        {
            throw Malformed(e);
        }
        return null;
    }

    private JsonTokenType? NextToken(bool keepName = false)
    {
        while (true)
        {
            var reader = new Utf8JsonReader(_buffer.AsSpan(_start, _end - _start), _atEnd, _state);
            try
            {
                if (reader.Read())
                {
                    JsonTokenType token = reader.TokenType;
                    if (keepName && token == JsonTokenType.PropertyName)
                        Name = reader.GetString();
                    Advance(ref reader);
                    return token;
                }
                Advance(ref reader);
            }
            catch (JsonException e)
            {
                throw Malformed(e);
            }
            catch (InvalidOperationException e)
            {
                throw Fault("a name is not well-formed Unicode", inner: e);
            }
            if (_atEnd)
                return null;
            Fill();
        }
    }

    private DataFormatException Malformed(JsonException e) => new(
        _file, $"not valid JSON near byte {_offset + (e.BytePositionInLine ?? 0)} (after {Index + 1} entries)", inner: e);

    private void Advance(ref Utf8JsonReader reader)
    {
        _state = reader.CurrentState;
        _start += (int)reader.BytesConsumed;
        _offset += reader.BytesConsumed;
    }

    private void Fill()
    {
        _buffer.AsSpan(_start, _end - _start).CopyTo(_buffer);
        (_start, _end) = (0, _end - _start);
        if (_end == _buffer.Length)
        {
            if (_buffer.Length >= LargestEntry)
                throw Fault($"an entry is longer than {LargestEntry >> 20} MiB");
            Array.Resize(ref _buffer, 2 * _buffer.Length);
        }
        int read = _stream.Read(_buffer.AsSpan(_end), line: null);
        _end += read;
        _atEnd = read == 0;
    }
}
