// Invariants: whatever the bytes, the result is a list of sound hits or a RetrieverException with one sentence; nothing else escapes.

using System.Text.Json;
using Mem1.Environments.Common;

namespace Mem1.Environments.Retrieval;

/// <summary>A search service gave no usable answer.</summary>
public sealed class RetrieverException : Exception
{
    /// <summary>Says what went wrong, in one sentence that names the service.</summary>
    /// <param name="message">The sentence.</param>
    /// <param name="mayPass">Whether asking again may help.</param>
    /// <param name="inner">The error below, if there was one.</param>
    public RetrieverException(string message, bool mayPass = false, Exception? inner = null)
        : base(message, inner) => MayPass = mayPass;

    /// <summary>Whether asking again may help.</summary>
    public bool MayPass { get; }
}

/// <summary>
/// Reads replies to one query: {"result": [[hit, ...]]}. A hit is {"document": D, "score": s} or D alone (return_scores was false), and a
/// document D is {"id", "contents"}, {"title", "text"} instead of contents, or a string, as the servers of MEM1 and Search-R1 send them.
/// </summary>
internal static class RetrieverReply
{
    // Deeper than any reply of these servers; documents may carry fields of their own.
    private static readonly JsonDocumentOptions s_options = new() { MaxDepth = 32 };

    /// <summary>The hits of the reply, at most k.</summary>
    /// <exception cref="RetrieverException">The reply is not of this form.</exception>
    public static IReadOnlyList<SearchHit> Parse(ReadOnlyMemory<byte> reply, int k)
    {
        JsonDocument json;
        try
        {
            json = JsonDocument.Parse(reply, s_options);
        }
        catch (JsonException e)
        {
            throw Bad($"is not valid JSON (line {(e.LineNumber ?? 0) + 1}, byte {(e.BytePositionInLine ?? 0) + 1})", e);
        }
        using (json)
        {
            JsonElement root = json.RootElement;
            if (root.ValueKind != JsonValueKind.Object || !TryField(root, "result", out JsonElement result))
                throw Bad("is not an object with the field \"result\"");
            if (result.ValueKind != JsonValueKind.Array || result.GetArrayLength() != 1 || result[0].ValueKind != JsonValueKind.Array)
                throw Bad("does not hold one list for the one query in \"result\"");
            var hits = new List<SearchHit>();
            foreach (JsonElement hit in result[0].EnumerateArray())
            {
                if (hits.Count == k)
                    break;
                hits.Add(Hit(hit, hits.Count + 1));
            }
            return hits;
        }
    }

    private static SearchHit Hit(JsonElement hit, int rank)
    {
        if (hit.ValueKind != JsonValueKind.Object || !TryField(hit, "document", out JsonElement document))
            return new SearchHit(Document(hit, rank), 0);
        double score = 0;
        if (TryField(hit, "score", out JsonElement value)
            && (value.ValueKind != JsonValueKind.Number || !value.TryGetDouble(out score) || !double.IsFinite(score)))
            throw Bad($"has no number as the score of hit {rank}");
        return new SearchHit(Document(document, rank), score);
    }

    private static Passage Document(JsonElement document, int rank)
    {
        if (document.ValueKind == JsonValueKind.String)
            return new Passage($"{rank}", Text(document, rank));
        if (document.ValueKind != JsonValueKind.Object)
            throw Bad($"has {Json.Describe(document)} where the document of hit {rank} should be");
        string id = $"{rank}";
        if (TryField(document, "id", out JsonElement name))
        {
            id = name.ValueKind switch
            {
                JsonValueKind.String => Text(name, rank),
                JsonValueKind.Number => name.GetRawText(),
                _ => throw Bad($"has {Json.Describe(name)} as the id of hit {rank}"),
            };
        }
        if (TryField(document, "contents", out JsonElement contents) && contents.ValueKind != JsonValueKind.Null)
            return new Passage(id, Text(contents, rank));
        if (!TryField(document, "text", out JsonElement text))
            throw Bad($"has neither \"contents\" nor \"text\" in the document of hit {rank}");
        string title = TryField(document, "title", out JsonElement heading) ? Text(heading, rank).ReplaceLineEndings(" ") : "";
        return new Passage(id, title + "\n" + Text(text, rank));
    }

    private static bool TryField(JsonElement element, string field, out JsonElement value) =>
        Json.TryField(element, field, out value) ?? throw Bad("holds a name of a field that is not text");

    private static string Text(JsonElement value, int rank)
    {
        if (value.ValueKind != JsonValueKind.String)
            throw Bad($"has {Json.Describe(value)} where a text of hit {rank} should be");
        return Json.TryText(value) ?? throw Bad($"holds something in hit {rank} that is not text");
    }

    private static RetrieverException Bad(string problem, Exception? inner = null) =>
        new($"The search service's reply {problem}.", inner: inner);
}
