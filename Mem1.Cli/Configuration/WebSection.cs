using System.Net;
using Mem1.Environments.Qa;
using Mem1.Environments.Web;

namespace Mem1.Cli.Configuration;

/// <summary>Where the searches of web QA go.</summary>
public enum WebProvider
{
    /// <summary>A generated web on this machine: no network, no key, its own questions.</summary>
    Local,
    /// <summary>google.serper.dev.</summary>
    Serper,
    /// <summary>Google's Custom Search JSON API.</summary>
    Google,
    /// <summary>Brave Search.</summary>
    Brave,
    /// <summary>A SearxNG instance.</summary>
    Searxng,
}

/// <summary>Web QA: what is searched, how pages are read and what is recorded.</summary>
public sealed record WebSection
{
    // Names under which services take keys in an address.
    private static readonly string[] SecretNames = ["key", "api_key", "apikey", "api-key", "token", "access_token", "auth", "secret", "password"];

    /// <summary>local, serper, google, brave or searxng.</summary>
    public WebProvider Provider { get; init; } = WebProvider.Local;
    /// <summary>Address of the search service in place of its own.</summary>
    public string? Endpoint { get; init; }
    /// <summary>
    /// Environment variable that holds the service's key; SERPER_API_KEY, GOOGLE_API_KEY and BRAVE_API_KEY if nothing is said. The key
    /// itself stands in no file.
    /// </summary>
    public string? KeyVariable { get; init; }
    /// <summary>Identifier of the search engine ("cx"); google only.</summary>
    public string? Engine { get; init; }
    /// <summary>Turns, hints, reward, number of results and limits of requests.</summary>
    public RetrievalQaOptions Qa { get; init; } = new WebQaOptions().Qa;
    /// <summary>Whether the agent may open pages.</summary>
    public bool OpenPages { get; init; }
    /// <summary>Most characters of a page in an observation.</summary>
    public int PageCharacters { get; init; } = new WebQaOptions().PageCharacters;
    /// <summary>Whether pages of this machine and of private networks may be opened.</summary>
    public bool AllowPrivateAddresses { get; init; }
    /// <summary>Whether robots.txt decides which pages may be opened.</summary>
    public bool RespectRobots { get; init; } = true;
    /// <summary>Name that sites see.</summary>
    public string UserAgent { get; init; } = new PageReaderOptions().UserAgent;
    /// <summary>SQLite file that searches and pages are recorded in.</summary>
    public string? Recording { get; init; }
    /// <summary>off, record, replay (go out for what has no recorded answer) or replay_only (never go out).</summary>
    public RecordingMode RecordingMode { get; init; } = RecordingMode.Off;
    /// <summary>Number of pages of the local web.</summary>
    public int LocalPages { get; init; } = new LocalWebOptions().Pages;
    /// <summary>Share of the local web's questions that need a page to be opened.</summary>
    public double LocalOpenShare { get; init; }

    /// <summary>The variable that holds the key, or null when the service needs none.</summary>
    public string? KeyName => !string.IsNullOrEmpty(KeyVariable) ? KeyVariable : Provider switch
    {
        WebProvider.Serper => "SERPER_API_KEY",
        WebProvider.Google => "GOOGLE_API_KEY",
        WebProvider.Brave => "BRAVE_API_KEY",
        _ => null,
    };

    /// <summary>How episodes run.</summary>
    public WebQaOptions ToOptions() => new() { Qa = Qa, OpenPages = OpenPages, PageCharacters = PageCharacters };

    /// <summary>How pages are read.</summary>
    /// <param name="hosts">Hosts that lie elsewhere: those of the local web.</param>
    public PageReaderOptions ToPages(IReadOnlyDictionary<string, IPEndPoint> hosts) => new()
    {
        UserAgent = UserAgent,
        AllowPrivateAddresses = AllowPrivateAddresses,
        RespectRobots = RespectRobots,
        HostOverrides = hosts,
        // What an observation shows of a page is all of it that is needed; a recording keeps more, so that it serves other options too.
        MaxCharacters = Math.Max(
            Math.Clamp(PageCharacters, 1, int.MaxValue - 1) + 1, RecordingMode == RecordingMode.Off ? 0 : new PageReaderOptions().MaxCharacters),
        Requests = WebRequestOptions.From(Qa),
    };

    /// <summary>The local web.</summary>
    /// <param name="seed">Seed of the run.</param>
    public LocalWebOptions ToLocal(ulong seed) => new() { Pages = LocalPages, OpenShare = LocalOpenShare, Seed = seed };

    /// <summary>Tells the searches of this provider from those of others in one recording.</summary>
    /// <param name="seed">Seed of the run.</param>
    public string SearchSource(ulong seed)
    {
        if (Provider == WebProvider.Local) return LocalSource(seed);
        // Without the query of the address, which may hold what is nobody's business.
        var endpoint = string.IsNullOrEmpty(Endpoint) ? "" : new Uri(Endpoint).GetLeftPart(UriPartial.Path);
        return string.Join(' ', new[] { Provider.ToString().ToLowerInvariant(), endpoint, Engine ?? "" }.Where(p => p.Length > 0));
    }

    /// <summary>Tells the pages of the local web from those of the web, which need no name, in one recording.</summary>
    /// <param name="seed">Seed of the run.</param>
    public string PageSource(ulong seed) => Provider == WebProvider.Local ? LocalSource(seed) : "";

    private string LocalSource(ulong seed) => FormattableString.Invariant($"local {LocalPages} {LocalOpenShare} {seed}");

    /// <summary>Every contradiction, a sentence each.</summary>
    public IReadOnlyList<string> Validate()
    {
        const string Prefix = "environment.web.";
        List<string> errors =
        [
            .. ToOptions().Validate().Concat(ToPages(new Dictionary<string, IPEndPoint>()).Validate()).Concat(ToLocal(1).Validate())
                .Distinct().Select(e => $"{Prefix}{e}."),
        ];
        if (Provider == WebProvider.Google && string.IsNullOrEmpty(Engine))
            errors.Add($"{Prefix}provider is google but {Prefix}engine, the identifier of the search engine, is missing.");
        if (!string.IsNullOrEmpty(Endpoint)
            && !(Uri.TryCreate(Endpoint, UriKind.Absolute, out var address) && address.Scheme is "http" or "https"
                && address.UserInfo.Length == 0))
        {
            errors.Add($"{Prefix}endpoint must be an http or https address without credentials.");
        }
        else if (!string.IsNullOrEmpty(Endpoint) && SecretNames.Any(s => QueryNames(Endpoint).Contains(s, StringComparer.OrdinalIgnoreCase)))
        {
            errors.Add($"{Prefix}endpoint holds a key; leave it out, put it in an environment variable and name that in {Prefix}key_variable.");
        }
        if (Provider == WebProvider.Local && !string.IsNullOrEmpty(Endpoint))
            errors.Add($"{Prefix}endpoint is set but {Prefix}provider is local, which has its own.");
        if (RecordingMode != RecordingMode.Off && string.IsNullOrEmpty(Recording))
            errors.Add($"{Prefix}recording_mode is set but {Prefix}recording, the file to record in, is missing.");
        if (LocalOpenShare > 0 && !OpenPages)
            errors.Add($"{Prefix}local_open_share is {LocalOpenShare} but {Prefix}open_pages is false: those questions could not be answered.");
        return errors;
    }

    private static IEnumerable<string> QueryNames(string address) =>
        new Uri(address).Query.TrimStart('?').Split('&').Select(p => Uri.UnescapeDataString(p.Split('=')[0]));
}
