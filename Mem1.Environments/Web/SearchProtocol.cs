// Invariants: keys travel in headers and never in an address; a reply of any shape gives results or a WebAccessException; every text that leaves
// is plain, on one line and bounded; an address that leaves is absolute http or https, or empty.

using System.Net.Http.Headers;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace Mem1.Environments.Web;

/// <summary>What one search service wants to be asked and how it answers.</summary>
internal abstract class SearchProtocol
{
    // Brave refuses queries over 400 characters, the strictest of the four; a model's query of that length is rambling anyway.
    private const int MaxQuery = 400;

    public abstract string Name { get; }

    public abstract Uri DefaultEndpoint { get; }

    /// <summary>The request of a query.</summary>
    public abstract HttpRequestMessage Request(Uri endpoint, string query, int count, ApiKey? key);

    /// <summary>All results of a reply, answers first.</summary>
    public abstract IEnumerable<WebResult> Results(JsonElement reply);

    /// <summary>
    /// A query as it is sent: white space and control characters become single spaces. Nothing else is taken out ("C++" stays); escaping
    /// is left to the encoders of JSON and addresses.
    /// </summary>
    public static string Query(string query)
    {
        string line = SearchReply.OneLine(query, MaxQuery);
        return line.Length > 0 ? line : throw new WebAccessException(WebFailure.Malformed, "The query holds no text.");
    }

    /// <summary>Reads a reply.</summary>
    /// <exception cref="WebAccessException">It is no JSON object.</exception>
    public IReadOnlyList<WebResult> Parse(ReadOnlyMemory<byte> json, int count)
    {
        try
        {
            using var reply = JsonDocument.Parse(json);
            if (reply.RootElement.ValueKind != JsonValueKind.Object)
                throw new WebAccessException(WebFailure.Malformed, $"The reply of {Name} is not a JSON object.");
            return [.. Results(reply.RootElement).Where(r => r.Title.Length + r.Snippet.Length > 0).Take(count)];
        }
        // InvalidOperationException is how a string that is no Unicode leaves JsonElement.
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw new WebAccessException(WebFailure.Malformed, $"The reply of {Name} is not valid JSON.", inner: e);
        }
    }

    protected static HttpRequestMessage Get(Uri endpoint, params ReadOnlySpan<(string Name, string Value)> query)
    {
        var address = new System.Text.StringBuilder(endpoint.GetLeftPart(UriPartial.Path));
        char mark = '?';
        if (endpoint.Query.Length > 1)
        {
            address.Append(endpoint.Query);
            mark = '&';
        }
        foreach ((string name, string value) in query)
        {
            address.Append(mark).Append(name).Append('=').Append(UrlEncoder.Default.Encode(value));
            mark = '&';
        }
        return Json(new HttpRequestMessage(HttpMethod.Get, address.ToString()));
    }

    protected static HttpRequestMessage Json(HttpRequestMessage request)
    {
        request.Headers.Accept.Add(new MediaTypeWithQualityHeaderValue("application/json"));
        return request;
    }

    protected static HttpRequestMessage WithKey(HttpRequestMessage request, string header, ApiKey? key)
    {
        if (key is not null)
            request.Headers.TryAddWithoutValidation(header, key.Value);
        return request;
    }
}

/// <summary>Serper (google.serper.dev); also reads the field names of SerpAPI.</summary>
internal sealed class SerperProtocol : SearchProtocol
{
    public override string Name => "serper";

    public override Uri DefaultEndpoint { get; } = new("https://google.serper.dev/search");

    public override HttpRequestMessage Request(Uri endpoint, string query, int count, ApiKey? key)
    {
        byte[] body = JsonSerializer.SerializeToUtf8Bytes(new Dictionary<string, object> { ["q"] = query, ["num"] = count });
        var content = new ByteArrayContent(body);
        content.Headers.ContentType = new MediaTypeHeaderValue("application/json");
        return WithKey(Json(new HttpRequestMessage(HttpMethod.Post, endpoint) { Content = content }), "X-API-KEY", key);
    }

    public override IEnumerable<WebResult> Results(JsonElement reply)
    {
        foreach (JsonElement box in reply.Objects("answerBox", "answer_box"))
            yield return box.Result(["title"], ["answer", "snippet", "snippetHighlighted"], ["link"]);
        foreach (JsonElement card in reply.Objects("knowledgeGraph", "knowledge_graph"))
            yield return card.Result(["title"], ["description"], ["descriptionLink", "website"]);
        foreach (JsonElement page in reply.Objects("organic", "organic_results"))
            yield return page.Result(["title"], ["snippet"], ["link"]);
        foreach (JsonElement question in reply.Objects("peopleAlsoAsk", "related_questions"))
            yield return question.Result(["question", "title"], ["snippet", "answer"], ["link"]);
    }
}

/// <summary>Google's Custom Search JSON API.</summary>
/// <param name="engine">Identifier of the search engine ("cx"); no secret.</param>
internal sealed class GoogleProtocol(string engine) : SearchProtocol
{
    // The API refuses more.
    private const int MostResults = 10;

    // Pieces of fewer words between dots are dates and torn ends.
    private const int WordsOfPiece = 6;

    public override string Name => "google";

    public override Uri DefaultEndpoint { get; } = new("https://www.googleapis.com/customsearch/v1");

    // Google takes the key as a header as well as in the address, where logs of every proxy on the way would keep it.
    public override HttpRequestMessage Request(Uri endpoint, string query, int count, ApiKey? key) => WithKey(
        Get(endpoint, ("cx", engine), ("num", $"{Math.Min(count, MostResults)}"), ("q", query)), "X-Goog-Api-Key", key);

    public override IEnumerable<WebResult> Results(JsonElement reply)
    {
        foreach (JsonElement promotion in reply.Objects("promotions"))
            yield return promotion.Result(["title"], ["htmlTitle"], ["link"]);
        foreach (JsonElement item in reply.Objects("items"))
        {
            WebResult result = item.Result(["title"], ["snippet"], ["link"]);
            yield return result with { Snippet = Sentences(result.Snippet) };
        }
    }

    /// <summary>A snippet without dates and torn ends between its dots; as it is when nothing else would be left.</summary>
    public static string Sentences(string snippet)
    {
        string[] whole = [.. snippet.Split("...", StringSplitOptions.TrimEntries).Where(p => p.Split(' ').Length >= WordsOfPiece)];
        return whole.Length > 0 ? string.Join(" ... ", whole) : snippet;
    }
}

/// <summary>Brave Search's web search API.</summary>
internal sealed class BraveProtocol : SearchProtocol
{
    // The API refuses more.
    private const int MostResults = 20;

    public override string Name => "brave";

    public override Uri DefaultEndpoint { get; } = new("https://api.search.brave.com/res/v1/web/search");

    public override HttpRequestMessage Request(Uri endpoint, string query, int count, ApiKey? key) => WithKey(
        Get(endpoint, ("count", $"{Math.Min(count, MostResults)}"), ("text_decorations", "false"), ("q", query)),
        "X-Subscription-Token", key);

    public override IEnumerable<WebResult> Results(JsonElement reply)
    {
        foreach (JsonElement box in reply.Objects("infobox").SelectMany(i => i.Objects("results").Append(i)))
            yield return box.Result(["title", "label"], ["long_desc", "description"], ["url"]);
        foreach (JsonElement question in reply.Objects("faq").SelectMany(f => f.Objects("results")))
            yield return question.Result(["question", "title"], ["answer"], ["url"]);
        foreach (JsonElement page in reply.Objects("web").SelectMany(w => w.Objects("results")))
            yield return page.Result(["title"], ["description", "extra_snippets"], ["url"]);
    }
}

/// <summary>The JSON format of a SearxNG instance, which its settings must allow.</summary>
internal sealed class SearxngProtocol : SearchProtocol
{
    public override string Name => "searxng";

    public override Uri DefaultEndpoint { get; } = new("http://localhost:8080/search");

    public override HttpRequestMessage Request(Uri endpoint, string query, int count, ApiKey? key) =>
        WithKey(Get(endpoint, ("format", "json"), ("q", query)), "Authorization", key);

    public override IEnumerable<WebResult> Results(JsonElement reply)
    {
        // Older instances list answers as strings, newer ones as objects.
        foreach (string answer in reply.Strings("answers"))
            yield return new WebResult("", answer, "");
        foreach (JsonElement answer in reply.Objects("answers"))
            yield return answer.Result(["title"], ["answer"], ["url"]);
        foreach (JsonElement box in reply.Objects("infoboxes"))
        {
            WebResult result = box.Result(["infobox", "title"], ["content"], ["url"]);
            string url = result.Url.Length > 0 ? result.Url : SearchReply.Address(box.Text("id"));
            yield return result with { Url = url };
        }
        foreach (JsonElement page in reply.Objects("results"))
            yield return page.Result(["title"], ["content"], ["url"]);
    }
}
