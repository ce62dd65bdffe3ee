using System.Text.Json;

namespace Mem1.Cli.Retriever;

/// <summary>A request cannot be answered; the message is one sentence for the client.</summary>
internal sealed class RetrieveRequestException(string message) : Exception(message);

/// <summary>The body of POST /retrieve.</summary>
/// <param name="Queries">Any texts. None at all is sound: MEM1's client asks so when no episode of its batch searches.</param>
/// <param name="TopK">Passages for each query.</param>
/// <param name="ReturnScores">Whether hits come with scores; false when the request does not say, as in the original.</param>
internal sealed record RetrieveRequest(IReadOnlyList<string> Queries, int TopK, bool ReturnScores)
{
    /// <summary>Reads and bounds a request.</summary>
    /// <param name="body">What was sent.</param>
    /// <param name="standardTopK">Used when topk is missing, null or 0.</param>
    /// <exception cref="RetrieveRequestException">It breaks the protocol or a limit.</exception>
    public static RetrieveRequest Read(JsonElement body, int standardTopK)
    {
        if (body.ValueKind != JsonValueKind.Object)
            throw new RetrieveRequestException("The body must be a JSON object with the field \"queries\".");
        if (!TryField(body, "queries", out var queries) || queries.ValueKind != JsonValueKind.Array)
            throw new RetrieveRequestException("\"queries\" must be a list of strings.");
        if (queries.GetArrayLength() > RetrieverServer.MaxQueries)
        {
            throw new RetrieveRequestException(
                $"\"queries\" holds {queries.GetArrayLength()} strings, but a request may hold {RetrieverServer.MaxQueries}.");
        }

        var texts = new List<string>(queries.GetArrayLength());
        foreach (var query in queries.EnumerateArray()) texts.Add(Text(query, texts.Count));
        var topK = TopKOf(body, standardTopK);
        if ((long)topK * texts.Count > RetrieverServer.MaxPassages)
        {
            throw new RetrieveRequestException(
                $"{texts.Count} queries with topk {topK} ask for more than {RetrieverServer.MaxPassages} passages; send fewer at once.");
        }

        return new RetrieveRequest(texts, topK, ScoresOf(body));
    }

    private static bool TryField(JsonElement body, string field, out JsonElement value)
    {
        try
        {
            return body.TryGetProperty(field, out value);
        }
        catch (InvalidOperationException)
        {
            throw new RetrieveRequestException("The body holds a name of a field that is not Unicode text.");
        }
    }

    private static string Text(JsonElement query, int number)
    {
        if (query.ValueKind == JsonValueKind.String)
        {
            try
            {
                return query.GetString()!;
            }
            catch (InvalidOperationException)
            {
                // Half of a surrogate pair or bytes that are not UTF-8.
            }
        }

        throw new RetrieveRequestException($"queries[{number}] is not a string of Unicode text.");
    }

    private static int TopKOf(JsonElement body, int standard)
    {
        if (!TryField(body, "topk", out var value) || value.ValueKind == JsonValueKind.Null) return standard;
        if (value.ValueKind != JsonValueKind.Number || !value.TryGetInt32(out var topK) || topK is < 0 or > RetrieverServer.MaxTopK)
        {
            throw new RetrieveRequestException(
                $"\"topk\" must be a whole number from 0 (the server's default) to {RetrieverServer.MaxTopK}.");
        }

        return topK == 0 ? standard : topK;
    }

    private static bool ScoresOf(JsonElement body)
    {
        if (!TryField(body, "return_scores", out var value)) return false;
        return value.ValueKind is JsonValueKind.True or JsonValueKind.False
            ? value.GetBoolean()
            : throw new RetrieveRequestException("\"return_scores\" must be true or false.");
    }
}
