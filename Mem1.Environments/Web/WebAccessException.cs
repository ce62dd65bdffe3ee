namespace Mem1.Environments.Web;

/// <summary>Why a search or a page could not be had.</summary>
public enum WebFailure
{
    /// <summary>The text is not the address of a web page.</summary>
    BadAddress,
    /// <summary>The address is one of a private network.</summary>
    PrivateAddress,
    /// <summary>The site's robots.txt does not allow it.</summary>
    Robots,
    /// <summary>The server answered with an error.</summary>
    Status,
    /// <summary>There was no answer in time.</summary>
    Timeout,
    /// <summary>The server could not be reached, or the connection broke.</summary>
    Network,
    /// <summary>The answer is larger than allowed.</summary>
    TooLarge,
    /// <summary>The page is not text.</summary>
    NotText,
    /// <summary>The answer is not what the protocol promises.</summary>
    Malformed,
    /// <summary>Too many redirects.</summary>
    Redirects,
    /// <summary>The recording holds no answer and nothing may go out.</summary>
    NotRecorded,
}

/// <summary>
/// The web did not give what was asked for. The message is one sentence; it holds neither keys nor queries nor the body of an answer.
/// </summary>
public sealed class WebAccessException : Exception
{
    /// <summary>Reports a failure.</summary>
    /// <param name="failure">What kind it is.</param>
    /// <param name="message">One sentence.</param>
    /// <param name="status">Status of the server's answer, if there was one.</param>
    /// <param name="inner">The error below, if there was one.</param>
    public WebAccessException(WebFailure failure, string message, int? status = null, Exception? inner = null)
        : base(message, inner)
    {
        Failure = failure;
        Status = status;
    }

    /// <summary>What kind of failure it is.</summary>
    public WebFailure Failure { get; }

    /// <summary>HTTP status of the server's answer, or null.</summary>
    public int? Status { get; }

    /// <summary>A clause for the agent that says what happened.</summary>
    internal string Clause => Failure switch
    {
        WebFailure.BadAddress => "this is not the address of a web page",
        WebFailure.PrivateAddress => "pages of private networks are not shown",
        WebFailure.Robots => "the site does not allow it",
        WebFailure.Status when Status is 404 or 410 => "there is no such page",
        WebFailure.Status => "the server refused it",
        WebFailure.Timeout => "there was no answer in time",
        WebFailure.Network => "the server cannot be reached",
        WebFailure.TooLarge => "it is too large",
        WebFailure.NotText => "it is not a text",
        WebFailure.Redirects => "it redirects without end",
        WebFailure.NotRecorded => "it is not part of the recording",
        _ => "the answer cannot be read",
    };
}
