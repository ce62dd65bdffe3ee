// Invariants: nothing but http and https is asked for; every hop of a redirect is checked as the first address was, by robots.txt and by
// the address really connected to; a page is bounded in bytes, characters, redirects and time.

using System.Collections.Concurrent;
using System.Net;
using System.Text;
using Mem1.Environments.Common;

namespace Mem1.Environments.Web;

/// <summary>How pages are read.</summary>
public sealed record PageReaderOptions
{
    /// <summary>Name that sites see; what stands before the slash is what robots.txt files call the reader.</summary>
    public string UserAgent { get; init; } = "Mem1/0.1";

    /// <summary>Most redirects of one page.</summary>
    public int MaxRedirects { get; init; } = 5;

    /// <summary>Most characters of a page's text.</summary>
    public int MaxCharacters { get; init; } = 100_000;

    /// <summary>Whether pages of this machine and of private networks may be read.</summary>
    public bool AllowPrivateAddresses { get; init; }

    /// <summary>Whether robots.txt decides what may be read.</summary>
    public bool RespectRobots { get; init; } = true;

    /// <summary>Hosts and the endpoint to connect to in their place, private or not.</summary>
    public IReadOnlyDictionary<string, IPEndPoint> HostOverrides { get; init; } = new Dictionary<string, IPEndPoint>();

    /// <summary>Bounds of a request. Pages larger than its bytes are cut and not refused.</summary>
    public WebRequestOptions Requests { get; init; } = new() { Attempts = 2 };

    /// <summary>Every contradiction in these options; empty when they are sound.</summary>
    public IReadOnlyList<string> Validate() =>
    [
        .. new Checks()
            .Require(
                UserAgent.Length > 0 && UserAgent.All(c => c is >= ' ' and <= '~') && (char.IsAsciiLetter(UserAgent[0])),
                $"pages.user_agent is \"{UserAgent}\" but must be ASCII and begin with a letter")
            .AtLeast("pages.max_redirects", MaxRedirects, 0)
            .AtLeast("pages.max_characters", MaxCharacters, 1)
            .Problems,
        .. Requests.Validate(),
    ];
}

/// <summary>Reads pages from the web. Thread-safe.</summary>
public sealed class PageReader : IPageReader, IDisposable
{
    // RFC 9309: at least 500 KiB of a robots.txt are to be read, and it may be kept for a day.
    private const int MaxRobotsBytes = 500 * 1024;
    private static readonly TimeSpan s_robotsLifetime = TimeSpan.FromHours(24);

    // A site that could not say what it allows is asked again sooner.
    private static readonly TimeSpan s_failedRobotsLifetime = TimeSpan.FromMinutes(10);

    // Rules of this many sites are kept; a run visits far fewer.
    private const int MaxSites = 4096;

    private const int MaxAddress = 2048;

    private readonly PageReaderOptions _options;
    private readonly TimeProvider _time;
    private readonly HttpClient _client;
    private readonly string _product;
    private readonly ConcurrentDictionary<string, (RobotsRules Rules, DateTimeOffset Until)> _robots = new(StringComparer.Ordinal);

    /// <summary>Makes the reader.</summary>
    /// <param name="options">How pages are read; null for the defaults.</param>
    /// <param name="time">Clock of time limits and of the robots.txt cache; null for the system's.</param>
    /// <exception cref="ArgumentException">The options contradict themselves.</exception>
    public PageReader(PageReaderOptions? options = null, TimeProvider? time = null)
        : this(options ?? new PageReaderOptions(), time, resolve: null)
    {
    }

    internal PageReader(PageReaderOptions options, TimeProvider? time, Func<string, CancellationToken, Task<IPAddress[]>>? resolve)
    {
        Checks.Demand(options.Validate(), nameof(options));
        _options = options;
        _time = time ?? TimeProvider.System;
        _client = WebClients.ForPages(options.HostOverrides, options.AllowPrivateAddresses, resolve);
        _product = options.UserAgent.Split('/', ' ')[0];
    }

    /// <inheritdoc/>
    public async Task<WebPage> ReadAsync(string url, CancellationToken cancellationToken)
    {
        long start = _time.GetTimestamp();
        Uri address = Address(url, from: null);
        for (int redirects = 0; ; redirects++)
        {
            TimeSpan Left() => _options.Requests.Deadline - _time.GetElapsedTime(start);
            if (_options.RespectRobots && !(await RobotsAsync(address, Left(), cancellationToken)).Allows(address.PathAndQuery))
                throw new WebAccessException(WebFailure.Robots, $"The robots.txt of {address.Host} does not allow the page.");
            (Uri? next, WebPage? page) = await SendAsync(
                address, $"page of {address.Host}", (response, cancel) => AnswerAsync(address, response, cancel), Left(),
                cancellationToken);
            if (page is not null)
                return page;
            if (redirects >= _options.MaxRedirects)
                throw new WebAccessException(
                    WebFailure.Redirects, $"The page of {address.Host} redirects more than {_options.MaxRedirects} times.");
            address = next!;
        }
    }

    /// <summary>Closes the connections.</summary>
    public void Dispose() => _client.Dispose();

    private async Task<(Uri? Next, WebPage? Page)> AnswerAsync(
        Uri address, HttpResponseMessage response, CancellationToken cancellationToken)
    {
        if (Redirect(address, response) is { } next)
            return (next, null);
        if (!response.IsSuccessStatusCode)
            throw BoundedHttp.OfStatus($"page of {address.Host}", response.StatusCode);
        string type = response.Content.Headers.ContentType?.MediaType?.ToLowerInvariant() ?? "text/html";
        bool html = type is "text/html" or "application/xhtml+xml";
        if (!html && !type.StartsWith("text/", StringComparison.Ordinal))
            throw new WebAccessException(WebFailure.NotText, $"The page of {address.Host} is no text but {SearchReply.OneLine(type, 100)}.");
        (ReadOnlyMemory<byte> bytes, _) = await BoundedHttp.ReadAsync(response.Content, _options.Requests.MaxBytes, cancellationToken);
        string source = TextEncoding.Decode(bytes.Span, response.Content.Headers.ContentType?.CharSet, html);
        if (html)
        {
            (string title, string text) = PageText.Of(source, _options.MaxCharacters, cancellationToken);
            return (null, new WebPage(address.AbsoluteUri, title, text));
        }
        var lines = new StringBuilder();
        foreach (ReadOnlySpan<char> line in source.AsSpan().EnumerateLines())
        {
            if (lines.Length >= _options.MaxCharacters)
                break;
            string plain = SearchReply.OneLine(line.ToString(), _options.MaxCharacters - lines.Length);
            if (plain.Length > 0)
                lines.Append(plain).Append('\n');
        }
        return (null, new WebPage(address.AbsoluteUri, "", lines.ToString().TrimEnd('\n')));
    }

    private async Task<RobotsRules> RobotsAsync(Uri page, TimeSpan deadline, CancellationToken cancellationToken)
    {
        string site = page.GetLeftPart(UriPartial.Authority);
        DateTimeOffset now = _time.GetUtcNow();
        if (_robots.TryGetValue(site, out (RobotsRules Rules, DateTimeOffset Until) known) && known.Until > now)
            return known.Rules;
        TimeSpan lifetime = s_robotsLifetime;
        RobotsRules rules;
        try
        {
            rules = await FetchRobotsAsync(new Uri(page, "/robots.txt"), _time.GetTimestamp(), deadline, cancellationToken);
        }
        catch (WebAccessException e) when (e.Failure is WebFailure.Status or WebFailure.Network or WebFailure.Timeout or WebFailure.Redirects)
        {
            // RFC 9309: a robots.txt that there is not allows everything, one that cannot be had forbids everything.
            bool none = e.Status is >= 400 and < 500 and not 429 || e.Failure == WebFailure.Redirects;
            if (!none && e.Failure is WebFailure.Network or WebFailure.Timeout)
                throw; // the page could not be reached either
            rules = none ? RobotsRules.AllowAll : RobotsRules.DisallowAll;
            lifetime = none ? lifetime : s_failedRobotsLifetime;
        }
        if (_robots.Count >= MaxSites)
            _robots.Clear();
        _robots[site] = (rules, now + lifetime);
        return rules;
    }

    private async Task<RobotsRules> FetchRobotsAsync(Uri address, long start, TimeSpan deadline, CancellationToken cancellationToken)
    {
        string what = $"robots.txt of {address.Host}";
        for (int redirects = 0; ; redirects++)
        {
            (Uri? next, RobotsRules? rules) = await SendAsync<(Uri?, RobotsRules?)>(
                address, what,
                async (response, cancel) =>
                {
                    if (Redirect(address, response) is { } to)
                        return (to, null);
                    if (!response.IsSuccessStatusCode)
                        throw BoundedHttp.OfStatus(what, response.StatusCode);
                    int most = Math.Min(MaxRobotsBytes, _options.Requests.MaxBytes);
                    (ReadOnlyMemory<byte> bytes, _) = await BoundedHttp.ReadAsync(response.Content, most, cancel);
                    return (null, RobotsRules.Parse(Encoding.UTF8.GetString(bytes.Span), _product));
                },
                deadline - _time.GetElapsedTime(start), cancellationToken);
            if (rules is not null)
                return rules;
            if (redirects >= _options.MaxRedirects)
                throw new WebAccessException(WebFailure.Redirects, $"The {what} redirects more than {_options.MaxRedirects} times.");
            address = next!;
        }
    }

    private Task<T> SendAsync<T>(
        Uri address, string what, Func<HttpResponseMessage, CancellationToken, Task<T>> read, TimeSpan deadline,
        CancellationToken cancellationToken) => BoundedHttp.SendAsync(
        _client, what,
        () =>
        {
            var request = new HttpRequestMessage(HttpMethod.Get, address);
            request.Headers.TryAddWithoutValidation("User-Agent", _options.UserAgent);
            request.Headers.TryAddWithoutValidation("Accept", "text/html, application/xhtml+xml, text/*;q=0.8");
            return request;
        },
        read, _options.Requests, deadline, _time, cancellationToken);

    private Uri? Redirect(Uri address, HttpResponseMessage response) =>
        (int)response.StatusCode is 301 or 302 or 303 or 307 or 308 && response.Headers.Location is { } to
            ? Address(to.OriginalString, from: address) : null;

    /// <summary>An address that may be asked for.</summary>
    private Uri Address(string text, Uri? from)
    {
        string trimmed = text.Trim();
        if (trimmed.Length is 0 or > MaxAddress
            || !(from is null ? Uri.TryCreate(trimmed, UriKind.Absolute, out Uri? address) : Uri.TryCreate(from, trimmed, out address))
            || address.Scheme is not ("http" or "https") || address.Host.Length == 0 || address.UserInfo.Length > 0)
        {
            throw new WebAccessException(WebFailure.BadAddress, "Only http and https addresses without credentials can be opened.");
        }
        // Known private without asking anybody; names are judged when they are connected to.
        bool judged = !_options.AllowPrivateAddresses && !_options.HostOverrides.ContainsKey(address.Host);
        return judged && IPAddress.TryParse(address.Host.Trim('[', ']'), out IPAddress? ip) && !WebClients.IsPublic(ip)
            ? throw new WebAccessException(WebFailure.PrivateAddress, "The address is one of a private network.")
            : address;
    }
}
