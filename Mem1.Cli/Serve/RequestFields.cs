// Keeps: a field that is there is read or refused, never skipped; null means what a missing field means.
using System.Text.Json;

namespace Mem1.Cli.Serve;

/// <summary>The fields of a request's JSON object.</summary>
internal sealed class RequestFields
{
    private readonly Dictionary<string, JsonElement> _fields = new(StringComparer.Ordinal);

    /// <param name="body">The request.</param>
    /// <param name="known">Names it may have.</param>
    /// <exception cref="ApiException">It is no object, or has other fields.</exception>
    public RequestFields(JsonElement body, IReadOnlySet<string> known)
    {
        if (body.ValueKind != JsonValueKind.Object) throw ApiException.Bad("The body must be a JSON object.");
        try
        {
            foreach (var property in body.EnumerateObject())
            {
                if (!known.Contains(property.Name))
                {
                    var shown = property.Name.Length > 40 ? property.Name[..40] + "..." : property.Name;
                    var nearest = known.MinBy(k => EditDistance.Of(k, shown))!;
                    throw ApiException.Bad($"There is no field \"{shown}\"; did you mean \"{nearest}\"?", shown);
                }

                if (property.Value.ValueKind != JsonValueKind.Null) _fields[property.Name] = property.Value;
            }
        }
        catch (InvalidOperationException)
        {
            throw ApiException.Bad("The body holds a name of a field that is not Unicode text.");
        }
    }

    public bool Has(string name) => _fields.ContainsKey(name);

    public JsonElement? Get(string name) => _fields.TryGetValue(name, out var value) ? value : null;

    public bool Flag(string name, bool standard = false) => Get(name)?.ValueKind switch
    {
        null => standard,
        JsonValueKind.True => true,
        JsonValueKind.False => false,
        _ => throw ApiException.Bad($"\"{name}\" must be true or false.", name),
    };

    public long? Whole(string name, long least, long most)
    {
        if (Get(name) is not { } value) return null;
        if (value.ValueKind == JsonValueKind.Number && value.TryGetInt64(out var n) && n >= least && n <= most) return n;
        throw ApiException.Bad($"\"{name}\" must be a whole number from {least} to {most}.", name);
    }

    public double Number(string name, double standard, double least, double most)
    {
        if (Get(name) is not { } value) return standard;
        if (value.ValueKind == JsonValueKind.Number && value.TryGetDouble(out var n) && n >= least && n <= most) return n;
        throw ApiException.Bad(FormattableString.Invariant($"\"{name}\" must be a number from {least} to {most}."), name);
    }

    public string? Text(string name) => Get(name) is { } value ? Text(value, name) : null;

    /// <summary>A string value.</summary>
    public static string Text(JsonElement value, string name)
    {
        try
        {
            if (value.ValueKind == JsonValueKind.String) return value.GetString()!;
        }
        catch (InvalidOperationException)
        {
            // Half of a surrogate pair or bytes that are not UTF-8.
        }

        throw ApiException.Bad($"\"{name}\" must be a string of Unicode text.", name);
    }

    /// <summary>Refuses a field of OpenAI's that this server does not have, unless it says what happens anyway.</summary>
    public void Refuse(string name, Func<JsonElement, bool> harmless, string why)
    {
        if (Get(name) is { } value && !harmless(value)) throw ApiException.Bad($"\"{name}\" is not supported: {why}", name);
    }

    public static bool Is(JsonElement value, double number) =>
        value.ValueKind == JsonValueKind.Number && value.TryGetDouble(out var n) && n == number;

    public static bool IsEmpty(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.Array => value.GetArrayLength() == 0,
        JsonValueKind.Object => !value.EnumerateObject().Any(),
        JsonValueKind.False => true,
        _ => false,
    };
}
