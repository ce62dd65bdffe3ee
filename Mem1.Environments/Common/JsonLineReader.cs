// Invariants: memory is one line plus one buffer, whatever the file's size; every fault of the data leaves as DataFormatException with
// the line's number; the hash covers exactly the bytes of the file.

using System.Security.Cryptography;
using System.Text.Json;

namespace Mem1.Environments.Common;

/// <summary>Reads a JSON Lines file object by object; blank lines are skipped. Not thread-safe.</summary>
internal sealed class JsonLineReader : IDisposable
{
    private const int BufferSize = 1 << 16;

    private readonly FileStream _stream;
    private readonly IncrementalHash? _hash;
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
    {
        _file = file;
        _expected = expected;
        _stream = UserFile.Open(file, kind);
        _hash = hash ? IncrementalHash.CreateHash(HashAlgorithmName.SHA256) : null;
    }

    /// <summary>Number of the line last read, from 1.</summary>
    public long Line { get; private set; }

    public long BytesRead { get; private set; }

    public long Length => _stream.Length;

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
    public string FinishHash() => Convert.ToHexString(_hash!.GetHashAndReset());

    public void Dispose()
    {
        _stream.Dispose();
        _hash?.Dispose();
    }

    private JsonElement Field(JsonElement element, string field) =>
        element.TryGetProperty(field, out JsonElement value) ? value : throw Fault($"it is missing; {_expected}", field);

    private string NotBlank(JsonElement value, string place)
    {
        string? text = Json.TryText(value);
        if (text is null)
            throw Fault("it holds half of a surrogate pair, which is not a character", place);
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
        if (_end == _buffer.Length)
            Array.Resize(ref _buffer, 2 * _buffer.Length);
        int read = _stream.Read(_buffer, _end, _buffer.Length - _end);
        _hash?.AppendData(_buffer, _end, read);
        _end += read;
        BytesRead += read;
        _atEnd = read == 0;
    }
}

/// <summary>Small helpers over JSON values.</summary>
internal static class Json
{
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
