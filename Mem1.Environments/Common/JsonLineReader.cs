// Invariants: memory is one line, which is bounded, plus one buffer, whatever the file's size; every fault of the data leaves as
// DataFormatException with the line's number; the hash covers exactly the bytes of the file.

using System.Text.Json;

namespace Mem1.Environments.Common;

/// <summary>Reads a JSON Lines file, gzip or not, object by object; blank lines are skipped. Not thread-safe.</summary>
internal sealed class JsonLineReader : IDisposable
{
    /// <summary>Longest line in bytes. The longest article of the English Wikipedia has a twentieth of that.</summary>
    public const int MaxLine = 32 << 20;

    private const int BufferSize = 1 << 16;

    private readonly DataStream _stream;
    private readonly string _file;
    private readonly string _expected;
    private byte[] _buffer = new byte[BufferSize];
    private int _start, _end;
    private bool _atEnd;

    /// <param name="file">Path of the file.</param>
    /// <param name="kind">What the file is, for messages: "corpus file", say.</param>
    /// <param name="expected">What every line must hold, for messages.</param>
    /// <param name="hash">Whether to compute the SHA-256 of the bytes on the way.</param>
    public JsonLineReader(string file, string kind, string expected, bool hash = false)
        : this(file, expected, DataStream.Open(file, kind, hash))
    {
    }

    /// <param name="file">Name for messages.</param>
    /// <param name="expected">What every line must hold, for messages.</param>
    /// <param name="stream">The data; disposed with this.</param>
    public JsonLineReader(string file, string expected, DataStream stream) => (_file, _expected, _stream) = (file, expected, stream);

    /// <summary>Number of the line last read, from 1.</summary>
    public long Line { get; private set; }

    /// <summary>Bytes of the file (not of what it unpacks to) read so far.</summary>
    public long BytesRead => _stream.FileBytes;

    public long Length => _stream.FileLength;

    /// <summary>The next object, or null at the end of the file. The caller disposes it.</summary>
    public JsonDocument? Read()
    {
        while (NextLine() is { } line)
        {
            ReadOnlyMemory<byte> text = Line == 1 && line.Span.StartsWith((ReadOnlySpan<byte>)[0xEF, 0xBB, 0xBF]) ? line[3..] : line;
            if (text.Span.Trim(" \t\r"u8).IsEmpty)
                continue;
            JsonDocument document;
            try
            {
                document = JsonDocument.Parse(text);
            }
            catch (JsonException e)
            {
                throw new DataFormatException(
                    _file, $"not valid JSON at byte {(e.BytePositionInLine ?? 0) + 1} of the line; {_expected}", Line, inner: e);
            }
            if (document.RootElement.ValueKind == JsonValueKind.Object)
                return document;
            document.Dispose();
            throw Fault("a JSON object is expected");
        }
        return null;
    }

    /// <summary>A string field that must not be blank.</summary>
    public string Text(JsonElement element, string field)
    {
        JsonElement value = Field(element, field);
        if (value.ValueKind != JsonValueKind.String)
            throw Fault($"a string is expected but {Json.Describe(value)} is there", field);
        return NotBlank(value, field);
    }

    /// <summary>A string field that may be blank or null.</summary>
    public string? TextOrNull(JsonElement element, string field)
    {
        JsonElement value = Field(element, field);
        return value.ValueKind switch
        {
            JsonValueKind.Null => null,
            JsonValueKind.String => Json.TryText(value) ?? throw Fault(Json.NotText, field),
            _ => throw Fault($"a string or null is expected but {Json.Describe(value)} is there", field),
        };
    }

    /// <summary>An identifier: a string or an integer.</summary>
    public string Id(JsonElement element, string field)
    {
        JsonElement value = Field(element, field);
        return value.ValueKind switch
        {
            JsonValueKind.String => NotBlank(value, field),
            JsonValueKind.Number when value.TryGetInt64(out long number) => number.ToString(),
            _ => throw Fault($"a string is expected but {Json.Describe(value)} is there", field),
        };
    }

    /// <summary>A list of strings, neither it nor any of them blank.</summary>
    public IReadOnlyList<string> Texts(JsonElement element, string field)
    {
        JsonElement value = Field(element, field);
        if (value.ValueKind != JsonValueKind.Array)
            throw Fault($"a list of strings is expected but {Json.Describe(value)} is there", field);
        var texts = new List<string>();
        foreach (JsonElement item in value.EnumerateArray())
        {
            string place = $"{field}[{texts.Count}]";
            if (item.ValueKind != JsonValueKind.String)
                throw Fault($"a string is expected but {Json.Describe(item)} is there", place);
            texts.Add(NotBlank(item, place));
        }
        return texts.Count > 0 ? texts : throw Fault("the list is empty", field);
    }

    public DataFormatException Fault(string problem, string? field = null) => new(_file, problem, Line, field);

    /// <summary>The hash of everything read, in hexadecimal; call it at the end of the file.</summary>
    public string FinishHash() => _stream.FinishHash();

    /// <summary>A number above 0, or 1 when the field is missing.</summary>
    public double Weight(JsonElement element, string field)
    {
        if (!TryField(element, field, out JsonElement value))
            return 1;
        return value.ValueKind == JsonValueKind.Number && value.TryGetDouble(out double weight) && weight > 0 && double.IsFinite(weight)
            ? weight
            : throw Fault($"a number above 0 is expected but {Json.Describe(value)} is there", field);
    }

    /// <summary>A field that may be missing.</summary>
    public bool TryField(JsonElement element, string field, out JsonElement value) =>
        Json.TryField(element, field, out value)
        ?? throw Fault("a name of a field holds half of a surrogate pair, which is not a character");

    public void Dispose() => _stream.Dispose();

    private JsonElement Field(JsonElement element, string field) =>
        TryField(element, field, out JsonElement value) ? value : throw Fault($"it is missing; {_expected}", field);

    private string NotBlank(JsonElement value, string place)
    {
        string? text = Json.TryText(value);
        if (text is null)
            throw Fault(Json.NotText, place);
        return string.IsNullOrWhiteSpace(text) ? throw Fault("it is blank", place) : text;
    }

    private ReadOnlyMemory<byte>? NextLine()
    {
        int searched = 0;
        while (true)
        {
            int newline = _buffer.AsSpan(_start + searched, _end - _start - searched).IndexOf((byte)'\n');
            if (newline >= 0)
                return Take(searched + newline, 1);
            searched = _end - _start;
            if (!_atEnd)
                Fill();
            else if (searched > 0)
                return Take(searched, 0);
            else
                return null;
        }
    }

    private ReadOnlyMemory<byte> Take(int length, int separator)
    {
        ReadOnlyMemory<byte> line = _buffer.AsMemory(_start, length);
        _start += length + separator;
        Line++;
        return line;
    }

    private void Fill()
    {
        _buffer.AsSpan(_start, _end - _start).CopyTo(_buffer);
        (_start, _end) = (0, _end - _start);
        if (_end > MaxLine)
            throw new DataFormatException(_file, $"the line is longer than {MaxLine >> 20} MiB; one object a line is expected", Line + 1);
        if (_end == _buffer.Length)
            Array.Resize(ref _buffer, 2 * _buffer.Length);
        int read = _stream.Read(_buffer.AsSpan(_end), Line + 1);
        _end += read;
        _atEnd = read == 0;
    }
}

/// <summary>Small helpers over JSON values.</summary>
internal static class Json
{
    /// <summary>What <see cref="TryText"/> found wrong, for messages.</summary>
    public const string NotText = "it holds half of a surrogate pair, which is not a character, or bytes that are not UTF-8";

    /// <summary>Looks a field of an object up; null when the name of some field is not well-formed Unicode.</summary>
    public static bool? TryField(JsonElement element, string field, out JsonElement value)
    {
        try
        {
            return element.TryGetProperty(field, out value);
        }
        catch (InvalidOperationException)
        {
            value = default;
            return null;
        }
    }

    /// <summary>A string value's text, or null when it is not well-formed Unicode.</summary>
    public static string? TryText(JsonElement value)
    {
        try
        {
            return value.GetString();
        }
        catch (InvalidOperationException)
        {
            return null;
        }
    }

    public static string Describe(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.Object => "an object",
        JsonValueKind.Array => "a list",
        JsonValueKind.String => "a string",
        JsonValueKind.Number => "a number",
        JsonValueKind.Null => "null",
        _ => "true or false",
    };
}
