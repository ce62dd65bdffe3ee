namespace Mem1.Environments.Web;

/// <summary>A web that gives nothing and opens no socket: what stands behind a recording that alone may answer. Thread-safe.</summary>
public sealed class OfflineWeb : ISearchProvider, IPageReader
{
    /// <inheritdoc/>
    public string Name => "offline";

    /// <inheritdoc/>
    public Task<IReadOnlyList<WebResult>> SearchAsync(string query, int count, CancellationToken cancellationToken) =>
        Task.FromException<IReadOnlyList<WebResult>>(Refusal());

    /// <inheritdoc/>
    public Task<WebPage> ReadAsync(string url, CancellationToken cancellationToken) => Task.FromException<WebPage>(Refusal());

    private static WebAccessException Refusal() => new(WebFailure.NotRecorded, "Nothing may go out.");
}
