// Invariants: every fault names the file, the line on which the element of the file began, and the path within it.

using System.Text.Json;

namespace Mem1.Environments.Common;

/// <summary>A JSON value of a file with the path that leads to it.</summary>
/// <param name="File">Path of the file.</param>
/// <param name="Line">Line on which the enclosing element begins, from 1.</param>
/// <param name="Path">JSON path; empty at the top.</param>
/// <param name="Expected">What the file must be, for messages.</param>
/// <param name="Value">The value.</param>
internal readonly record struct JsonPlace(string File, long Line, string Path, string Expected, JsonElement Value)
{
    /// <summary>The items of a list.</summary>
    public IEnumerable<JsonPlace> Items()
    {
        if (Value.ValueKind != JsonValueKind.Array)
            throw Fault($"a list is expected but {Json.Describe(Value)} is there");
        return Walk(this);

        static IEnumerable<JsonPlace> Walk(JsonPlace list)
        {
            int i = 0;
            foreach (JsonElement item in list.Value.EnumerateArray())
                yield return list with { Path = $"{list.Path}[{i++}]", Value = item };
        }
    }

    /// <summary>The items of the list that a field holds.</summary>
    public IEnumerable<JsonPlace> Items(string field) => Field(field).Items();

    /// <summary>This string, which must not be blank.</summary>
    public string Text()
    {
        if (Value.ValueKind != JsonValueKind.String)
            throw Fault($"a string is expected but {Json.Describe(Value)} is there");
        string text = Json.TryText(Value) ?? throw Fault(Json.NotText);
        return string.IsNullOrWhiteSpace(text) ? throw Fault("the text is blank") : text;
    }

    /// <summary>The string that a field holds; it must not be blank.</summary>
    public string Text(string field) => Field(field).Text();

    /// <summary>Whether a field is there and true.</summary>
    public bool IsTrue(string field) =>
        Value.ValueKind == JsonValueKind.Object && Json.TryField(Value, field, out JsonElement flag) == true
        && flag.ValueKind == JsonValueKind.True;

    /// <summary>A field, which must be there.</summary>
    public JsonPlace Field(string field)
    {
        if (Value.ValueKind != JsonValueKind.Object)
            throw Fault($"an object with the field \"{field}\" is expected but {Json.Describe(Value)} is there");
        JsonPlace place = this with { Path = Path.Length > 0 ? $"{Path}.{field}" : field };
        return Json.TryField(Value, field, out JsonElement value) switch
        {
            true => place with { Value = value },
            false => throw place.Fault($"it is missing; {Expected} is expected"),
            null => throw Fault("a name of a field holds half of a surrogate pair, which is not a character"),
        };
    }

    /// <summary>The error that names this place.</summary>
    public DataFormatException Fault(string problem) => new(File, problem, Line, Path.Length > 0 ? Path : null);
}
