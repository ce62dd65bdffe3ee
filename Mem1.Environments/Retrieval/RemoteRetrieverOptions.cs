using Mem1.Environments.Common;

namespace Mem1.Environments.Retrieval;

/// <summary>A search service that speaks the protocol of MEM1 and Search-R1, and how patient to be with it.</summary>
public sealed record RemoteRetrieverOptions
{
    /// <summary>Where to post queries, such as http://127.0.0.1:8000/retrieve; null to search a local index.</summary>
    public string? Url { get; init; }

    /// <summary>
    /// File with the token that the service wants, sent as <c>Authorization: Bearer TOKEN</c>; null for none. A path of the machine that asks.
    /// </summary>
    public string? TokenFile { get; init; }

    /// <summary>Time one query may take, all its attempts and waits together.</summary>
    public TimeSpan Deadline { get; init; } = TimeSpan.FromSeconds(6);

    /// <summary>
    /// Attempts a query gets when the service cannot be reached, is overloaded (429) or fails (5xx); other answers are final.
    /// </summary>
    public int Attempts { get; init; } = 3;

    /// <summary>Wait before the second attempt; it doubles for each one after.</summary>
    public TimeSpan RetryDelay { get; init; } = TimeSpan.FromMilliseconds(100);

    /// <summary>Requests at the same time; more wait their turn.</summary>
    public int MaxConnections { get; init; } = 32;

    /// <summary>Largest reply that is read, in bytes: a thousand times three passages.</summary>
    public int MaxReplyBytes { get; init; } = 4 << 20;

    /// <summary>
    /// Memory of the cache of answers, in bytes of text; 0 for none. Only good answers are kept; the least recently used go first.
    /// </summary>
    public long CacheBytes { get; init; } = 64 << 20;

    /// <summary>Every contradiction in these options; empty when they are sound.</summary>
    public IReadOnlyList<string> Validate() => new Checks()
        .Require(
            Url is null || (Uri.TryCreate(Url, UriKind.Absolute, out Uri? uri) && uri.Scheme is "http" or "https"),
            $"retriever.url is \"{Url}\" but must be a full address, such as http://127.0.0.1:8000/retrieve")
        .Require(
            Url is null || !Uri.TryCreate(Url, UriKind.Absolute, out Uri? address) || address.UserInfo.Length == 0,
            "retriever.url holds a user name or a password, which would be written to the run's config and to errors; use retriever.token_file")
        .Require(
            TokenFile is null || Url is not null, "retriever.token_file is set but retriever.url is not: an index of one's own takes no token")
        // A timer cannot run longer than 2^32 - 2 milliseconds.
        .Require(
            Deadline > TimeSpan.Zero && Deadline <= TimeSpan.FromDays(1),
            $"retriever.deadline is {Deadline} but must be positive and at most a day")
        .AtLeast("retriever.attempts", Attempts, 1)
        .Require(
            RetryDelay >= TimeSpan.Zero && RetryDelay <= TimeSpan.FromMinutes(1),
            $"retriever.retry_delay is {RetryDelay} but must lie between 0 and a minute")
        .AtLeast("retriever.max_connections", MaxConnections, 1)
        .AtLeast("retriever.max_reply_bytes", MaxReplyBytes, 1024)
        .AtLeast("retriever.cache_bytes", CacheBytes, 0)
        .Problems;
}
