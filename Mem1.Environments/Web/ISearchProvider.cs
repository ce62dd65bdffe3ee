namespace Mem1.Environments.Web;

/// <summary>One result of a web search. Texts are plain: no markup, one line.</summary>
/// <param name="Title">Title of the page; empty if the service gave none.</param>
/// <param name="Snippet">What the service shows of the page, or the answer it gives itself; may be empty.</param>
/// <param name="Url">Absolute http or https address of the page; empty if there is none (as for some answers).</param>
public sealed record WebResult(string Title, string Snippet, string Url);

/// <summary>A web search service. Thread-safe.</summary>
public interface ISearchProvider
{
    /// <summary>Name for logs and recordings.</summary>
    string Name { get; }

    /// <summary>Searches. The service's own answers come first, then pages, best first.</summary>
    /// <param name="query">Text of a model; never blank.</param>
    /// <param name="count">Most results to return; at least 1.</param>
    /// <param name="cancellationToken">Cancelled when the caller gives up.</param>
    /// <exception cref="WebAccessException">There is no result to be had.</exception>
    /// <exception cref="OperationCanceledException">The caller cancelled.</exception>
    Task<IReadOnlyList<WebResult>> SearchAsync(string query, int count, CancellationToken cancellationToken);
}

/// <summary>A page as an agent reads it.</summary>
/// <param name="Url">Where it was found in the end, after redirects.</param>
/// <param name="Title">Its title, one line; may be empty.</param>
/// <param name="Text">Its main text, a paragraph a line, without links and navigation.</param>
public sealed record WebPage(string Url, string Title, string Text);

/// <summary>Reads web pages. Thread-safe.</summary>
public interface IPageReader
{
    /// <summary>Reads a page.</summary>
    /// <param name="url">Text of a model.</param>
    /// <param name="cancellationToken">Cancelled when the caller gives up.</param>
    /// <exception cref="WebAccessException">The page cannot or must not be read.</exception>
    /// <exception cref="OperationCanceledException">The caller cancelled.</exception>
    Task<WebPage> ReadAsync(string url, CancellationToken cancellationToken);
}
