namespace Mem1.Environments.Web;

/// <summary>A search service over HTTP: Serper, Google Custom Search, Brave or SearxNG. Thread-safe.</summary>
public sealed class SearchProvider : ISearchProvider
{
    // Replies of ten results are tens of kilobytes; ten times the usual bound of a page would only fill memory.
    private const int MaxReplyBytes = 4 << 20;

    private readonly SearchProtocol _protocol;
    private readonly HttpClient _client;
    private readonly Uri _endpoint;
    private readonly ApiKey? _key;
    private readonly WebRequestOptions _options;
    private readonly TimeProvider _time;

    private SearchProvider(
        SearchProtocol protocol, HttpClient client, Uri? endpoint, ApiKey? key, WebRequestOptions? options, TimeProvider? time)
    {
        _protocol = protocol;
        _client = client;
        _endpoint = endpoint ?? protocol.DefaultEndpoint;
        _key = key;
        _options = options ?? new WebRequestOptions();
        Common.Checks.Demand(_options.Validate(), nameof(options));
        _time = time ?? TimeProvider.System;
    }

    /// <inheritdoc/>
    public string Name => _protocol.Name;

    /// <summary>Where searches are sent.</summary>
    public Uri Endpoint => _endpoint;

    /// <summary>Serper (https://serper.dev).</summary>
    /// <param name="client">Sends; not disposed by this. It should not follow redirects (<see cref="WebClients.ForSearch"/>).</param>
    /// <param name="key">The key; null where the endpoint asks for none.</param>
    /// <param name="endpoint">Null for the service's own.</param>
    /// <param name="options">Bounds of a request; null for the defaults.</param>
    /// <param name="time">Clock of time limits and retries; null for the system's.</param>
    public static SearchProvider Serper(
        HttpClient client, ApiKey? key, Uri? endpoint = null, WebRequestOptions? options = null, TimeProvider? time = null) =>
        new(new SerperProtocol(), client, endpoint, key, options, time);

    /// <summary>Google's Custom Search JSON API.</summary>
    /// <param name="client">Sends; not disposed by this.</param>
    /// <param name="key">The key; null where the endpoint asks for none.</param>
    /// <param name="engine">Identifier of the programmable search engine ("cx").</param>
    /// <param name="endpoint">Null for the service's own.</param>
    /// <param name="options">Bounds of a request; null for the defaults.</param>
    /// <param name="time">Clock of time limits and retries; null for the system's.</param>
    public static SearchProvider Google(
        HttpClient client, ApiKey? key, string engine, Uri? endpoint = null, WebRequestOptions? options = null,
        TimeProvider? time = null) =>
        new(new GoogleProtocol(engine), client, endpoint, key, options, time);

    /// <summary>Brave Search.</summary>
    /// <param name="client">Sends; not disposed by this.</param>
    /// <param name="key">The key; null where the endpoint asks for none.</param>
    /// <param name="endpoint">Null for the service's own.</param>
    /// <param name="options">Bounds of a request; null for the defaults.</param>
    /// <param name="time">Clock of time limits and retries; null for the system's.</param>
    public static SearchProvider Brave(
        HttpClient client, ApiKey? key, Uri? endpoint = null, WebRequestOptions? options = null, TimeProvider? time = null) =>
        new(new BraveProtocol(), client, endpoint, key, options, time);

    /// <summary>A SearxNG instance whose settings allow the format json.</summary>
    /// <param name="client">Sends; not disposed by this.</param>
    /// <param name="endpoint">Address of its search page; null for port 8080 of this machine.</param>
    /// <param name="key">Value of the Authorization header, for an instance behind a gate; usually null.</param>
    /// <param name="options">Bounds of a request; null for the defaults.</param>
    /// <param name="time">Clock of time limits and retries; null for the system's.</param>
    public static SearchProvider Searxng(
        HttpClient client, Uri? endpoint = null, ApiKey? key = null, WebRequestOptions? options = null, TimeProvider? time = null) =>
        new(new SearxngProtocol(), client, endpoint, key, options, time);

    /// <inheritdoc/>
    public Task<IReadOnlyList<WebResult>> SearchAsync(string query, int count, CancellationToken cancellationToken)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(count, 1);
        string sent = SearchProtocol.Query(query);
        string what = $"search service {Name}";
        return BoundedHttp.SendAsync(
            _client, what, () => _protocol.Request(_endpoint, sent, count, _key),
            async (response, cancel) =>
            {
                if (!response.IsSuccessStatusCode)
                    throw BoundedHttp.OfStatus(what, response.StatusCode);
                int most = Math.Min(_options.MaxBytes, MaxReplyBytes);
                (ReadOnlyMemory<byte> bytes, bool cut) = await BoundedHttp.ReadAsync(response.Content, most, cancel);
                return cut
                    ? throw new WebAccessException(WebFailure.TooLarge, $"The {what} sent more than {most} bytes.")
                    : _protocol.Parse(bytes, count);
            },
            _options, _options.Deadline, _time, cancellationToken);
    }
}
