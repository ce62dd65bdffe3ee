// Invariants: memory is one element, which is bounded, plus one buffer, whatever the file's size; every fault leaves as
// DataFormatException with the line of the file.

using System.Text.Json;

namespace Mem1.Environments.Common;

/// <summary>
/// Reads one large JSON value element by element: a list at the top, or the list that one field of the object at the top holds (other
/// fields of it are skipped). Not thread-safe.
/// </summary>
internal sealed class JsonArrayReader : IDisposable
{
    /// <summary>Longest element in bytes; the longest article of SQuAD has a hundredth of that.</summary>
    public const int MaxElement = 64 << 20;

    private const int BufferSize = 1 << 16;

    private readonly DataStream _stream;
    private readonly string _file;
    private readonly string? _field;
    private readonly string _expected;
    private byte[] _buffer = new byte[BufferSize];
    private int _start, _end;
    private bool _atEnd, _found;
    private JsonReaderState _state;
    private Place _place;
    private long _startLine = 1;

    // Where the reader stands, between two tokens.
    private enum Place
    {
        BeforeTop,
        InObject,
        BeforeList,
        InList,
        AfterTop,
        AtEnd,
    }

    /// <param name="file">Name for messages.</param>
    /// <param name="field">Field of the top object that holds the list, or null when the list is at the top.</param>
    /// <param name="expected">What the file must be, for messages: "SQuAD v1.1 JSON", say.</param>
    /// <param name="stream">The data; disposed with this.</param>
    public JsonArrayReader(string file, string? field, string expected, DataStream stream) =>
        (_file, _field, _expected, _stream) = (file, field, expected, stream);

    /// <summary>Line, from 1, on which the element last read begins.</summary>
    public long Line { get; private set; }

    /// <summary>Index of the element last read.</summary>
    public long Index { get; private set; } = -1;

    /// <summary>The next element, or null at the end of the file. The caller disposes it.</summary>
    public JsonDocument? Read()
    {
        while (_place != Place.AtEnd)
        {
            try
            {
                if (!Step(out JsonDocument? element))
                    Fill();
                else if (element is not null)
                    return element;
            }
            catch (JsonException e)
            {
                throw new DataFormatException(
                    _file, $"not valid JSON at byte {(e.BytePositionInLine ?? 0) + 1} of the line; {_expected} is expected",
                    (e.LineNumber ?? 0) + 1, inner: e);
            }
        }
        return null;
    }

    public void Dispose() => _stream.Dispose();

    /// <summary>Takes one token, or one whole element of the list; false when the buffer ends before it does.</summary>
    private bool Step(out JsonDocument? element)
    {
        element = null;
        var reader = new Utf8JsonReader(_buffer.AsSpan(_start, _end - _start), _atEnd, _state);
        if (!reader.Read())
        {
            if (_atEnd)
                _place = Place.AtEnd;
            return _atEnd;
        }
        long line = _startLine + Newlines((int)reader.TokenStartIndex);
        switch (_place)
        {
            case Place.BeforeTop:
                Require(ref reader, _field is null ? JsonTokenType.StartArray : JsonTokenType.StartObject, line, null);
                _place = _field is null ? Place.InList : Place.InObject;
                break;
            case Place.InObject when reader.TokenType == JsonTokenType.EndObject:
                _place = _found
                    ? Place.AfterTop
                    : throw new DataFormatException(_file, $"it is missing; {_expected} is expected", field: _field);
                break;
            case Place.InObject when IsTheField(ref reader):
                _place = Place.BeforeList;
                break;
            case Place.InObject:
                if (!reader.TrySkip())
                    return false;
                break;
            case Place.BeforeList:
                Require(ref reader, JsonTokenType.StartArray, line, _field);
                (_place, _found) = (Place.InList, true);
                break;
            case Place.InList when reader.TokenType == JsonTokenType.EndArray:
                _place = _field is null ? Place.AfterTop : Place.InObject;
                break;
            case Place.InList:
                if (!JsonDocument.TryParseValue(ref reader, out element))
                    return false;
                (Line, Index) = (line, Index + 1);
                break;
        }
        int consumed = (int)reader.BytesConsumed;
        _startLine += Newlines(consumed);
        _start += consumed;
        _state = reader.CurrentState;
        return true;
    }

    private bool IsTheField(ref Utf8JsonReader reader)
    {
        try
        {
            return reader.ValueTextEquals(_field);
        }
        catch (InvalidOperationException)
        {
            return false; // half of a surrogate pair: some other field, which is skipped
        }
    }

    private void Require(ref Utf8JsonReader reader, JsonTokenType expected, long line, string? field)
    {
        if (reader.TokenType != expected)
        {
            throw new DataFormatException(
                _file, expected == JsonTokenType.StartArray
                    ? $"a list is expected here, as {_expected} has it"
                    : $"an object with the field \"{_field}\" is expected here, as {_expected} has it", line, field);
        }
    }

    private int Newlines(int bytes) => _buffer.AsSpan(_start, bytes).Count((byte)'\n');

    private void Fill()
    {
        _buffer.AsSpan(_start, _end - _start).CopyTo(_buffer);
        (_start, _end) = (0, _end - _start);
        if (_end > MaxElement)
        {
            throw new DataFormatException(
                _file, $"what begins here is longer than {MaxElement >> 20} MiB; {_expected} is expected", _startLine);
        }
        if (_end == _buffer.Length)
            Array.Resize(ref _buffer, 2 * _buffer.Length);
        bool first = _place == Place.BeforeTop && _end == 0;
        int read = _stream.Read(_buffer.AsSpan(_end), _startLine);
        _end += read;
        _atEnd = read == 0;
        if (first && _atEnd)
            throw new DataFormatException(_file, $"the file is empty; {_expected} is expected");
        if (first && _buffer.AsSpan(0, _end).StartsWith((ReadOnlySpan<byte>)[0xEF, 0xBB, 0xBF]))
            _start = 3;
    }
}
