using Mem1.Environments.Common;
using Mem1.Environments.Qa;

namespace Mem1.Environments.Web;

/// <summary>The bounds of one request to the web, retries included.</summary>
public sealed record WebRequestOptions
{
    /// <summary>Time one attempt may take, the reading of the answer included.</summary>
    public TimeSpan AttemptTimeout { get; init; } = TimeSpan.FromSeconds(8);

    /// <summary>Attempts before the request counts as failed.</summary>
    public int Attempts { get; init; } = 3;

    /// <summary>Wait before the second attempt; it doubles for each one after. A server's Retry-After overrides it.</summary>
    public TimeSpan RetryDelay { get; init; } = TimeSpan.FromMilliseconds(200);

    /// <summary>Time all attempts, waits and redirects may take together; below the 30 s that a rollout worker allows a step.</summary>
    public TimeSpan Deadline { get; init; } = TimeSpan.FromSeconds(25);

    /// <summary>Most bytes of an answer, after decompression.</summary>
    public int MaxBytes { get; init; } = 2 << 20;

    /// <summary>Every contradiction in these options; empty when they are sound.</summary>
    public IReadOnlyList<string> Validate() => new Checks()
        .Require(AttemptTimeout > TimeSpan.Zero, $"requests.attempt_timeout is {AttemptTimeout} but must be positive")
        .AtLeast("requests.attempts", Attempts, 1)
        .Require(RetryDelay >= TimeSpan.Zero, $"requests.retry_delay is {RetryDelay} but must not be negative")
        .Require(Deadline > TimeSpan.Zero, $"requests.deadline is {Deadline} but must be positive")
        .AtLeast("requests.max_bytes", MaxBytes, 1024)
        .Problems;

    /// <summary>The search options of QA, as bounds of requests.</summary>
    public static WebRequestOptions From(RetrievalQaOptions options) => new()
    {
        AttemptTimeout = options.SearchTimeout,
        Attempts = options.SearchAttempts,
        RetryDelay = options.SearchRetryDelay,
    };
}
